"""`finresilience ...`: which command is it, and how does it end?

Exit codes: 0 done, and nothing waits for a person; 1 something does, was not found or was refused; 2 it cannot work as it was given;
3 the database does not answer or its tables are not as they are needed; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from finresilience.cli import explain, idempotency, inbox, outbox, relay
from finresilience.cli.answers import INTERRUPTED, note
from finresilience.cli.arguments import Parser

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from finresilience.cli.answers import Answer

COMMANDS: Final[tuple[Any, ...]] = (outbox, idempotency, inbox, relay, explain)
_ABOUT: Final = "Look at what a service keeps, and decide what waits for a person. Nothing is written without --apply."
_CODES: Final = (
    "exit codes: 0 nothing waits for a person; 1 something does, or was not found; 2 usage; 3 database or tables; 130 interrupted"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the arguments say, print the answer, and return the exit code."""
    try:
        args = parser().parse_args(argv)
    except SystemExit as end:  # --help, or a line that says what is wrong
        return end.code if isinstance(end.code, int) else 1
    try:
        answer = _answer(args)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        return _failed(args, error)
    _printed(answer, as_json=args.json)
    return answer.code


def parser() -> Parser:
    """Return the parser of the whole command line."""
    whole = Parser(prog="finresilience", description=_ABOUT, epilog=_CODES)
    parsers = whole.add_subparsers(dest="room", required=True, metavar="COMMAND")
    for one in COMMANDS:
        one.add(parsers)
    return whole


def _answer(args: Namespace) -> Answer:
    import asyncio

    return asyncio.run(_carried_out(args))


async def _carried_out(args: Namespace) -> Answer:
    from finresilience.cli.audit import signed
    from finresilience.cli.loading import opened

    if hasattr(args, "apply"):
        signed(args)
    async with opened(args) as app:
        answer: Answer = await args.run(args, app)
        return answer


def _failed(args: Namespace, error: Exception) -> int:
    from finresilience.cli.failures import line_of, secrets_of
    from finresilience.cli.loading import URL

    urls = (getattr(args, "database_url", None), os.environ.get(URL))
    line, code = line_of(error, [secret for url in urls for secret in secrets_of(url)])
    note(f"finresilience {args.command}: {line}")
    return code


def _printed(answer: Answer, *, as_json: bool) -> None:
    import json

    told = json.dumps(answer.document, indent=2, allow_nan=False) if as_json else answer.text
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        sys.stdout.write(told.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads, such as `head`, has seen enough; Python flushes once more when it ends
        with suppress(OSError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
