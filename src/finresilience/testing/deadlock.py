"""Who waits for what? Told where a run can never go on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from finresilience.testing.errors import DeadlockError

if TYPE_CHECKING:
    from collections.abc import Iterable

_MACHINERY: Final = ("asyncio", "anyio", "trio", "types")
_SHOWN: Final = 5


def deadlock(coroutines: Iterable[tuple[str, Any]], *, why: str, patience: float) -> DeadlockError:
    """Return the error that names the tasks and the lines on which they wait."""
    waiting = sorted(f"{name} at {_where(coroutine)}" for name, coroutine in coroutines)
    more = f" and {len(waiting) - _SHOWN} more" if len(waiting) > _SHOWN else ""
    fact = f"{why} for {patience:g} real seconds" if why else "nothing is ready, no timer is set and no work is out in a thread"
    return DeadlockError(
        f"virtual time stands still: {fact}.\n"
        f"  Waiting: {'; '.join(waiting[:_SHOWN])}{more}.\n"
        "  If a thread or a server of your own is to wake them, say so: `with VirtualClock.current().hold():` around that work."
    )


def _where(coroutine: Any) -> str:
    told = "?"
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None and (told == "?" or not _is_machinery(frame)):
            told = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} ({frame.f_code.co_name})"
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return told


def _is_machinery(frame: Any) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in _MACHINERY
