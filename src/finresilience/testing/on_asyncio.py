"""How does asyncio live in virtual time? By a loop whose `time()` is ours, and a selector that jumps instead of waiting."""

from __future__ import annotations

import asyncio
import selectors
import sys
from contextlib import suppress
from functools import partial
from math import inf, ulp
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple, cast, final

import anyio

from finresilience.testing.deadlock import deadlock
from finresilience.testing.drivers import answered_by_a_server, answered_by_a_thread
from finresilience.testing.errands import Errand
from finresilience.testing.workers import held_workers, on_errand

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Awaitable, Callable, Hashable, Mapping

    from finresilience.testing.chance import Chance
    from finresilience.testing.errands import Hold
    from finresilience.testing.virtual import VirtualClock

_WRAPS: Final = asyncio.wrap_future.__code__

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def run(main: Callable[[], Awaitable[T]], *, clock: VirtualClock, chance: Chance, patience: float) -> T:
    """Run `main` on a new virtual loop."""
    with held_workers("asyncio"):
        return anyio.run(
            main,
            backend="asyncio",
            backend_options={"loop_factory": partial(VirtualLoop, clock, chance, patience)},
        )


@final
class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that tells the time of a `VirtualClock`.

    It reads three private names of `asyncio.base_events`, pinned by a test: `_scheduled` (the heap of timers),
    `_ready` (what runs next) and `_clock_resolution` (how early a timer may fire).
    """

    _ready: deque[Any]
    _scheduled: list[Any]
    _clock_resolution: float

    def __init__(self, clock: VirtualClock, chance: Chance, patience: float) -> None:
        self.clock = clock
        self._now = clock.monotonic()
        self._chance = chance
        self._patience = patience
        self._later: list[Any] = []
        self._asked: dict[Hashable, Hold] = {}  # what waits for a server, or for a pool of somebody's own
        self._sends = False  # whether run_in_executor is at work, which holds by itself
        self._poller = _Poller(self)
        super().__init__(cast("selectors.BaseSelector", self._poller))
        self._clock_resolution = ulp(self._now)
        clock.attach(self)

    def time(self) -> float:
        """Return the virtual time."""
        return self._now

    def now(self) -> float:
        return self._now

    def jump_to(self, when: float) -> None:
        self._now = when
        # a timer fires once `when < time + resolution`: never early, and yet always, however coarse floats are by then
        self._clock_resolution = ulp(when)

    def wake(self) -> None:
        with suppress(RuntimeError):  # closed this moment
            self.call_soon_threadsafe(_nothing)

    def is_here(self) -> bool:
        return asyncio._get_running_loop() is self

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Run `func` in a thread, and hold the time until its result has come back."""
        hold = self.clock.hold()
        hold.take()
        self._sends = True
        try:
            future = super().run_in_executor(executor, on_errand, Errand(self.clock, hold.is_taken), func, *args)
        except BaseException:
            hold.release()
            raise
        finally:
            self._sends = False
        future.add_done_callback(lambda _: hold.release())
        return future

    def create_future(self) -> asyncio.Future[Any]:
        """Return a new future; it holds the time if a driver's own thread or server will answer, or if it wraps one of a pool."""
        future = super().create_future()
        frame = sys._getframe(1)
        if answered_by_a_thread(frame):
            hold = self.clock.hold()
            hold.take()
            future.add_done_callback(lambda _: hold.release())
        elif answered_by_a_server(frame) or (frame.f_code is _WRAPS and not self._sends):
            self._asked[future] = hold = self.clock.hold()
            hold.take()
            future.add_done_callback(self._answered)
        return future

    def add_reader(self, fd: Any, callback: Callable[[*Ts], Any], *args: *Ts) -> None:
        """Watch a descriptor; it holds the time if the driver of a database waits by it for its server's answer."""
        super().add_reader(fd, callback, *args)
        if answered_by_a_server(sys._getframe(1)) and fd not in self._asked:
            self._asked[fd] = hold = self.clock.hold()
            hold.take()

    def remove_reader(self, fd: Any) -> bool:
        """Watch a descriptor no more."""
        self._answered(fd)
        return bool(super().remove_reader(fd))

    def _answered(self, what: Hashable) -> None:
        hold = self._asked.pop(what, None)
        if hold is not None:
            hold.release()

    async def shutdown_default_executor(self, *args: Any) -> None:
        """Join the executor's threads, in real time."""
        with self.clock.hold():
            await super().shutdown_default_executor(*args)

    # ------------------------------------------------------------------ called by the poller, once a round

    def next_events(self, poll: Callable[[float | None], list[Any]], timeout: float | None, waiting: int) -> list[Any]:
        events = poll(0)
        if not self._chance.plain:
            self._mix()
        if events or timeout == 0 or self._ready or self._later:
            return events
        if self.clock.held > 0:
            return poll(self._patience) or self._without_servers()
        timer = self._scheduled[0]._when if self._scheduled else inf
        if self.clock.jump(self, timer):
            return []
        if waiting > 1:  # a socket beside the loop's own pipe
            return poll(self._patience) or self._give_up("no socket brought any news")
        return self._give_up("")

    def _mix(self) -> None:
        # a thread may append meanwhile: what it appends stays, and comes last
        ready = [self._ready.popleft() for _ in range(len(self._ready))]
        tasks = [(owner, handle) for handle in (*self._later, *ready) if (owner := _task_of(handle)) is not None]
        others = [handle for handle in ready if _task_of(handle) is None]
        now, self._later = self._chance.order(tasks)
        self._ready.extendleft(reversed((*others, *now)))  # callbacks keep the order that asyncio promises; tasks were promised none

    def _without_servers(self) -> list[Any]:
        """Let servers hold the time no more that were silent all our patience: they may wait for a lock that only later work gives back."""
        if not self._asked:
            return self._give_up(f"{self.clock.held} held pieces of work brought no news")
        for what in list(self._asked):
            self._answered(what)
        return []

    def _give_up(self, why: str) -> list[Any]:
        threads = self.clock.strand()
        coroutines = ((task.get_name(), task.get_coro()) for task in asyncio.all_tasks(self))
        raise deadlock(coroutines, why=why, patience=self._patience, threads=threads)


@final
class _Poller:
    """The default selector, but its waits are the loop's to decide."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()
        self.register = self._real.register
        self.unregister = self._real.unregister
        self.modify = self._real.modify
        self.get_key = self._real.get_key
        self.get_map = self._real.get_map
        self.close = self._real.close

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        registered: Mapping[Any, Any] = self._real.get_map()
        return self._loop.next_events(self._real.select, timeout, len(registered))


def _task_of(handle: Any) -> Hashable | None:
    owner: object = getattr(handle._callback, "__self__", None)  # None once cancelled
    return owner if isinstance(owner, asyncio.Task) else None


def _nothing() -> None:
    """Wake the loop by doing so."""
