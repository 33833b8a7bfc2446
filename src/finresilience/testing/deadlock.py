"""Who waits for what? Told where a run can never go on."""

from __future__ import annotations

import re
from gc import get_referents
from pathlib import Path
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Final

from finresilience.testing.errors import DeadlockError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

_MACHINERY: Final = ("asyncio", "anyio", "trio", "types")
_AWAITING: Final = (AsyncGeneratorType, CoroutineType, GeneratorType)
_NUMBERED: Final = re.compile(r"(?<=^Task)-\d+$")  # asyncio counts through the process those tasks that nobody named
_SHOWN: Final = 5


def deadlock(coroutines: Iterable[tuple[str, Any]], *, why: str, patience: float, threads: int = 0) -> DeadlockError:
    """Return the error that names the tasks and the lines on which they wait, and tells how many threads wait on the clock."""
    found = [(name, _where(coroutine)) for name, coroutine in coroutines]
    waiting = sorted(f"{name} at {where}" for name, where in found)
    more = f" and {len(waiting) - _SHOWN} more" if len(waiting) > _SHOWN else ""
    more += f", and {threads} threads for a signal on this clock" if threads else ""
    fact = f"{why} for {patience:g} real seconds" if why else "nothing is ready, no timer is set and no work is out in a thread"
    return DeadlockError(
        f"virtual time stands still: {fact}.\n"
        f"  Waiting: {'; '.join(waiting[:_SHOWN])}{more}.\n"
        "  If a thread or a server of your own is to wake them, say so: `with VirtualClock.current().hold():` around that work.",
        waited=bool(why),
        places=frozenset(f"{_NUMBERED.sub('', name)} at {where}" for name, where in found),
    )


def frames(coroutine: Any) -> Iterator[FrameType]:
    """Return the frames of `coroutine` and of all that it awaits, outermost first."""
    while coroutine is not None:
        frame: FrameType | None = _one_of(coroutine, "cr_frame", "ag_frame", "gi_frame")
        if frame is not None:
            yield frame
        inner = _one_of(coroutine, "cr_await", "ag_await", "gi_yieldfrom")
        if frame is None and inner is None:  # the steps of an async generator, and wrappers, show what they drive to the collector only
            inner = next((thing for thing in get_referents(coroutine) if isinstance(thing, _AWAITING)), None)
        coroutine = inner


def _one_of(thing: Any, *names: str) -> Any:
    return next((value for name in names if (value := getattr(thing, name, None)) is not None), None)


def _where(coroutine: Any) -> str:
    told = "?"
    for frame in frames(coroutine):
        if told == "?" or not _is_machinery(frame):
            told = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} ({frame.f_code.co_name})"
    return told


def _is_machinery(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in _MACHINERY
