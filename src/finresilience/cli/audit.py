"""Who did what, and why? One JSON line before it is done and one after, to the logger `finresilience.audit` and, if told, to a file."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import contextmanager
from hashlib import sha256
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final

from finresilience.clock import ruling_clock
from finresilience.errors import ConfigurationError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Generator

LOGGER: Final = "finresilience.audit"


@contextmanager
def recorded(args: Namespace, target: dict[str, Any]) -> Generator[dict[str, Any]]:
    """Record a deed: that it begins, before the block, and how it ended, after it. What the block puts in the dict is its result.

    Where the first line cannot be written, nothing is done.
    """
    result: dict[str, Any] = {}
    told = {
        "id": token_hex(8),
        "command": args.command,
        "by": args.by,
        "reason": args.reason,
        "user": _user(),
        "target": target,
    }
    with _loud(), _pen(args.journal) as write:
        write(told | {"event": "begun"})
        try:
            yield result
        except BaseException as error:
            write(told | {"event": "failed", "error": type(error).__name__, "result": result})
            raise
        write(told | {"event": "done", "result": result})


def signed(args: Namespace) -> None:
    """Refuse a deed that does not say who wants it and why."""
    if args.apply and args.signed and not (args.by and args.reason):
        raise ConfigurationError("--apply needs --by WHO and --reason WHY, which are recorded; nothing was done")


def digest(text: str) -> str:
    """Return what tells in a record which key it was, to those alone who know the key."""
    return sha256(text.encode()).hexdigest()[:32]


@contextmanager
def _pen(journal: str | None) -> Generator[Callable[[dict[str, Any]], None]]:
    file: int | None = None
    try:
        if journal is not None:
            file = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigurationError(f"the journal cannot be opened ({error.strerror}); nothing was done") from None

    def write(record: dict[str, Any]) -> None:
        line = json.dumps({"at": ruling_clock().utc().isoformat(), **record})
        if file is not None:
            _append(file, f"{line}\n".encode(), record["event"])
        logging.getLogger(LOGGER).info("%s", line)

    try:
        yield write
    finally:
        if file is not None:
            os.close(file)


def _append(file: int, line: bytes, event: str) -> None:
    try:
        if os.write(file, line) != len(line):
            raise OSError(0, "it is full")
        os.fsync(file)
    except OSError as error:
        so = "nothing was done" if event == "begun" else f"what was begun is {event}: look before you repeat it"
        raise ConfigurationError(f"the journal cannot be written ({error.strerror}); {so}") from None


@contextmanager
def _loud() -> Generator[None]:
    """Let the record be seen where nobody has set up logging: on stderr."""
    logger = logging.getLogger(LOGGER)
    before, handler = logger.level, None
    if not logger.isEnabledFor(logging.INFO):
        logger.setLevel(logging.INFO)
    if not logger.hasHandlers():
        handler = logging.StreamHandler(sys.stderr)
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(before)
        if handler is not None:
            logger.removeHandler(handler)


def _user() -> str:
    """Return whose process it is, whatever `--by` says."""
    from getpass import getuser

    try:
        return getuser()
    except (KeyError, OSError, ImportError):  # an account without a name
        return str(os.getuid()) if hasattr(os, "getuid") else ""
