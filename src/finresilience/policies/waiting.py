"""How is one caller woken, wherever it waits? A thread by a lock, a task through its own loop, from any thread.

A waiter belongs to whoever made it. `wake` may be called by anybody, at any time, any number of times, and is remembered:
so whoever looks, finds nothing and then waits misses nothing that came between. It never blocks, and needs no lock that the
caller may hold: the collector may close a forgotten coroutine, and so give a place back, in the middle of anything.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from threading import TIMEOUT_MAX, Lock
from typing import TYPE_CHECKING, Any, Final, cast, final

from finresilience.errors import ConfigurationError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from threading import Event as Signal

    from trio import Event
    from trio.lowlevel import TrioToken

    from finresilience.clock import Clock

LEAST: Final = 1e-6  # seconds; less may be lost in a large reading of a clock, and the wait would never end
MOST: Final = 86_400.0  # a day: whoever waits longer looks again then
GLANCE: Final = 0.001  # where a test moves the time, a task looks this often whether it has


@final
class ThreadWaiter:
    """One thread that waits. The lock is free once somebody woke it; a `threading.Event` would take one of its own to be set."""

    __slots__ = ("_gate",)

    def __init__(self) -> None:
        self._gate = Lock()
        self._gate.acquire()

    def wake(self) -> bool:
        """Let the thread look again. Return whether it ever can."""
        with suppress(RuntimeError):  # free already: somebody woke it before us
            self._gate.release()
        return True

    def sleep(self, clock: Clock, until: float) -> None:
        """Return once woken, or when the time is `until`."""
        wait_for = getattr(clock, "wait_for", None)
        if wait_for is None:
            self.wait(max(until - clock.monotonic(), LEAST))
            return
        # A clock moved by hand may be moved between any two of our steps, and then stand still for ever: so one glance at a time.
        by_hand = hasattr(clock, "advance")
        while not wait_for(cast("Signal", self), 0.0 if by_hand else max(until - clock.monotonic(), LEAST)):
            if clock.monotonic() >= until:
                break
        self._gate.acquire(blocking=False)  # it may have been woken at the last moment, and not have seen it

    def wait(self, timeout: float) -> bool:
        """Return True once woken, or False after `timeout` real seconds. As a `threading.Event` does, for clocks that wait by one."""
        return self._gate.acquire(timeout=min(timeout, TIMEOUT_MAX))

    def is_set(self) -> bool:
        """Return whether somebody woke it."""
        return not self._gate.locked()


@final
class AsyncioWaiter:
    """One task of an asyncio loop that waits. Its own fields are touched in the loop's thread only."""

    __slots__ = ("_future", "_loop", "_woken")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._future: Future[None] | None = None
        self._woken = False

    def wake(self) -> bool:
        """Let the task look again. Return whether it ever can: False once its loop is closed."""
        asyncio = sys.modules["asyncio"]
        if asyncio._get_running_loop() is self._loop:
            self._ring()
            return True
        try:
            self._loop.call_soon_threadsafe(self._ring)
        except RuntimeError:
            return False
        return True

    def _ring(self) -> None:
        self._woken = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def sleep(self, clock: Clock, until: float) -> None:
        """Return once woken, or when the time is `until`, or raise what cancelled the wait."""
        if not self._woken:
            self._future = self._loop.create_future()
            timer = self._loop.call_later(_within(clock, until), self._ring)
            try:
                await self._future
            finally:
                timer.cancel()
                self._future = None
        self._woken = False


@final
class TrioWaiter:
    """One task of a trio run that waits. Its own fields are touched in the run's thread only."""

    __slots__ = ("_event", "_token", "_trio", "_woken")

    def __init__(self) -> None:
        import trio

        self._trio: Any = trio
        self._token: TrioToken = trio.lowlevel.current_trio_token()
        self._event: Event | None = None
        self._woken = False

    def wake(self) -> bool:
        """Let the task look again. Return whether it ever can: False once its run is over."""
        lowlevel = self._trio.lowlevel
        if lowlevel.in_trio_run() and lowlevel.current_trio_token() is self._token:
            self._ring()
            return True
        try:
            self._token.run_sync_soon(self._ring)
        except self._trio.RunFinishedError:
            return False
        return True

    def _ring(self) -> None:
        self._woken = True
        if self._event is not None:
            self._event.set()

    async def sleep(self, clock: Clock, until: float) -> None:
        """Return once woken, or when the time is `until`, or raise what cancelled the wait."""
        if not self._woken:
            event: Event = self._trio.Event()
            self._event = event
            with self._trio.move_on_after(_within(clock, until)):
                await event.wait()
            self._event = None
        self._woken = False


def _within(clock: Clock, until: float) -> float:
    """Return how long a loop's own timer shall wait, where `clock` may be one that a test moves by hand."""
    return min(max(until - clock.monotonic(), LEAST), GLANCE if hasattr(clock, "advance") else MOST)


def waiter_here() -> AsyncioWaiter | TrioWaiter:
    """Return a waiter for the task that runs here."""
    asyncio = sys.modules.get("asyncio")
    loop = None if asyncio is None else asyncio._get_running_loop()
    if loop is not None and asyncio is not None and asyncio.current_task(loop) is not None:
        return AsyncioWaiter(loop)
    if "trio" not in sys.modules:
        message = "nothing can be waited for here: no task of asyncio or trio is running"
        raise ConfigurationError(message)
    return TrioWaiter()
