"""What does a command answer with? One document, the same for a person, and an exit code."""

from __future__ import annotations

import sys
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from finresilience.errors import FinresilienceError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

OK: Final = 0  # done, and nothing waits for a person
WAITING: Final = 1  # something waits for a person, was not found, or was refused
USAGE: Final = 2  # the command cannot work as it was given; nothing was done
UNREACHABLE: Final = 3  # the database does not answer, or its tables are not as they are needed
INTERRUPTED: Final = 130

BATCH: Final = 1000  # rows that one transaction changes
LISTED: Final = 10_000  # rows that one listing returns at most
_MOST_BATCHES: Final = 10_000


class Answer(NamedTuple):
    """What is printed: `document` with `--json`, else `text`; and the exit code."""

    document: dict[str, Any]
    text: str
    code: int = OK


class UnreachableError(FinresilienceError):
    """There is no such database, as far as we can see."""


def note(line: str) -> None:
    """Tell a person something beside the answer."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


async def told(answer: Any) -> Any:
    """Return what a store answers, sync or async."""
    return await answer if isawaitable(answer) else answer


async def in_batches(ask: Callable[[int], Any | Awaitable[Any]], done: dict[str, Any], *, at_most: int | None) -> None:
    """Ask until it is 0, and keep in `done["done"]` how many it were.

    There is a bound: a relay that runs meanwhile may make new ones as fast as we ask.
    """
    done["done"] = 0
    for _ in range(_MOST_BATCHES):
        left = BATCH if at_most is None else min(BATCH, at_most - done["done"])
        changed = await told(ask(left)) if left > 0 else 0
        if not changed:
            return
        done["done"] += changed
