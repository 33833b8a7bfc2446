"""What do the commands take? Options that several share, and values that are refused before anything is opened."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError
from typing import TYPE_CHECKING, Any, Final, NoReturn

from finresilience.cli.answers import LISTED, USAGE

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from uuid import UUID

_SPAN: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|min|m|h|d|w)?")
_SECONDS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_LONGEST: Final = 100 * 365 * 86_400.0
_CREDENTIALS: Final = re.compile(r"(://)\S*@")
_SECRET: Final = re.compile(r"((?:password|passwd|pwd|secret|token)\s*[=:]\s*)[^\s&'\"]+", re.IGNORECASE)


def hidden(text: str) -> str:
    """Return the text without what stands where URLs and DSNs have their passwords."""
    return _SECRET.sub(r"\1***", _CREDENTIALS.sub(r"\1***@", text))


class Parser(ArgumentParser):
    """A parser that refuses in one line, shows no secret, and guesses no option from its beginning."""

    def __init__(self, **more: Any) -> None:
        super().__init__(allow_abbrev=False, **more)

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(USAGE, f"{self.prog}: {hidden(message)} (see {self.prog} --help)\n")


def group(parsers: Any, name: str, about: str) -> Any:
    """Return the place where the commands of a group are added."""
    parser = parsers.add_parser(name, help=about, description=about)
    return parser.add_subparsers(dest=f"{name}_command", required=True, metavar="COMMAND")


def command(parsers: Any, name: str, run: Callable[..., Any], about: str, *, needs: str, **more: Any) -> ArgumentParser:
    """Return the parser of a command, with the options that all have.

    Args:
        parsers: where it is added.
        name: its last word.
        run: the coroutine function that does it.
        about: one sentence.
        needs: the part of the `App` that it works on.
        **more: for argparse.
    """
    parser: ArgumentParser = parsers.add_parser(name, help=about, description=about, **more)
    parser.set_defaults(run=run, needs=needs, command=parser.prog.partition(" ")[2])
    where = parser.add_argument_group("where")
    where.add_argument("--app", metavar="MODULE:OBJECT", help="an App, a (Tables, engine) pair, a Relay, or what makes one")
    if needs in {"outbox", "idempotency", "inbox"}:
        where.add_argument("--database-url", metavar="URL", help="or in FINRESILIENCE_DATABASE_URL, where no process list shows it")
        where.add_argument("--schema", help="where the tables are, if not in the default schema")
        where.add_argument("--prefix", help="of the tables' names; fin_ by default")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def deed(parser: ArgumentParser, *, signed: bool = True) -> None:
    """Let a command write, with `--apply` alone; `signed` ones must say who and why."""
    about = parser.add_argument_group("to write")
    about.add_argument("--apply", action="store_true", help="do it; without this, only say what would be done")
    about.add_argument("--by", metavar="WHO", type=_signature, help="who decided; recorded" + (", needed" if signed else ""))
    about.add_argument("--reason", metavar="WHY", type=_signature, help="why; recorded" + (", needed" if signed else ""))
    about.add_argument("--journal", metavar="FILE", help="append the record to this file too")
    parser.set_defaults(signed=signed)


def limited(parser: ArgumentParser, default: int = 1000) -> None:
    """Let a listing be cut."""
    parser.add_argument("--limit", type=count, default=default, metavar="N", help=f"list at most N; {default} by default")


def _signature(text: str) -> str:
    if not text.strip() or len(text) > 500 or not text.isprintable():
        raise ArgumentTypeError("give 1 to 500 printable characters")
    return text


def count(text: str) -> int:
    """Return a number of rows."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= LISTED or len(text) > 9:
        raise ArgumentTypeError(f"give a whole number from 1 to {LISTED:,}")
    return int(text)


def seconds(text: str) -> float:
    """Return a span in seconds: "90", "90s", "5min", "2h", "7d"."""
    return _span(text, bare=True)


def span(text: str) -> float:
    """Return a span whose unit is said: "7" may have meant days, and as seconds it would forget nearly everything."""
    return _span(text, bare=False)


def _span(text: str, *, bare: bool) -> float:
    found = _SPAN.fullmatch(text)
    told = float(found[1]) * _SECONDS[found[2] or ""] if found and (found[2] or bare) else None
    if told is None or told > _LONGEST:
        raise ArgumentTypeError(f"give a span with its unit, such as 90s, 30min, 12h or 7d{', or a number of seconds' if bare else ''}")
    return told


def moment(text: str) -> datetime:
    """Return an instant: ISO 8601 with its zone."""
    from datetime import UTC, datetime

    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        told = None
    if told is None or told.tzinfo is None:
        raise ArgumentTypeError("give a moment with its zone, such as 2026-01-31T09:00:00Z")
    return told.astimezone(UTC)


def message_id(text: str) -> UUID:
    """Return the id of an event."""
    from uuid import UUID

    try:
        return UUID(text)
    except ValueError:
        raise ArgumentTypeError("give the event's id, a UUID, as `outbox dlq list --flat` shows it") from None


def address(text: str) -> tuple[str, int]:
    """Return where to listen: HOST:PORT; a host in brackets may be IPv6."""
    host, _, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not host or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65_535:
        raise ArgumentTypeError("give HOST:PORT, such as 127.0.0.1:8080")
    return host, int(port)
