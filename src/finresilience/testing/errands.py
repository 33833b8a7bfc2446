"""Who holds virtual time? Work that left the loop, and a worker thread for as long as its loop waits for it."""

from __future__ import annotations

import sys
from threading import local
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from finresilience.testing.virtual import VirtualClock


@final
class Errand:
    """What a worker thread does for the loop that sent it: it holds `clock` as long as it is waited for. Internal."""

    __slots__ = ("clock", "waited_for")

    def __init__(self, clock: VirtualClock, waited_for: Callable[[], bool]) -> None:
        self.clock: VirtualClock = clock
        self.waited_for: Callable[[], bool] = waited_for

    def lends(self) -> bool:
        """Return whether its hold is there to be lent, while its thread waits for the loop."""
        return self.waited_for()


class _Thread(local):
    errand: Errand | None = None  # of a worker of asyncio


this_thread: Final[_Thread] = _Thread()
clock_of_token: Final[dict[object, VirtualClock]] = {}  # for workers of trio, which know the token of their run


def errand_here() -> Errand | None:
    """Return what this thread does for the loop of a virtual clock that waits for it, if it does. Internal."""
    if this_thread.errand is not None:
        return this_thread.errand
    parent: Any = getattr(sys.modules.get("trio._threads"), "PARENT_TASK_DATA", None)  # private, pinned by a test
    clock = clock_of_token.get(getattr(parent, "token", None))
    if clock is None:
        return None
    register = parent.task_register
    return Errand(clock, lambda: register[0] is not None)  # trio empties it when it abandons the thread


@final
class Hold:
    """Keeps a virtual clock from jumping, once, from the first `take` (or `with`) to the first `release`."""

    __slots__ = ("_clock", "_run")

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._run: int | None = None  # the one it was taken in

    def take(self) -> None:
        if self._run is None:
            self._run = self._clock.take_hold()

    def release(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            self._clock.give_hold(run)

    def is_taken(self) -> bool:
        return self._run is not None

    def __enter__(self) -> None:
        self.take()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        self.release()
