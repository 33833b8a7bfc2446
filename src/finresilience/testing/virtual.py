"""What time is it in a test of async code? The event loop's own, which jumps to the next timer when nothing else is left to do."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from functools import partial
from inspect import isawaitable
from math import inf
from threading import get_ident, local
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar, TypeVarTuple, cast, final

from finresilience._checks import refuse, seconds_of
from finresilience.clock import install
from finresilience.errors import ConfigurationError
from finresilience.testing.clock import NEW_YEAR
from finresilience.testing.errands import Hold, errand_here
from finresilience.testing.stories import name_of
from finresilience.testing.thread_time import Driver, ThreadTime, settled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime, timedelta

    from finresilience.testing.chance import Chance

Backend: TypeAlias = Literal["asyncio", "trio"]
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@final
class VirtualClock(ThreadTime):
    """One source of time for an event loop and for all that obey the clock: it jumps when the loop is idle.

    `run_virtual` makes one and lets it rule; make your own to choose the start, and hand it to `run_virtual(..., clock=...)`.
    Work that left the loop for a thread holds the time: no timeout is reached merely because a thread was slow.

    Args:
        start: the first reading of `monotonic`, in seconds.
        utc: the first reading of `utc`, an aware datetime.

    Attributes:
        waits: how long each sleep on this clock asked for, in seconds, in order; the newest 100,000 at most.
    """

    def __init__(self, start: float | timedelta = 0.0, *, utc: datetime = NEW_YEAR) -> None:
        first = seconds_of("start", start, zero=True)
        super().__init__(first, utc)
        self._at = first  # the reading while no loop is running
        self._claimed = False
        self._held = 0
        self._runs = 0

    @classmethod
    def current(cls) -> VirtualClock:
        """Return the clock of the `run_virtual` around us, or raise a `ConfigurationError` outside any."""
        errand = errand_here()
        clock = running.clock or (errand and errand.clock)
        if clock is None:
            message = "there is no virtual clock here: call this inside run_virtual(...)"
            raise ConfigurationError(message)
        return clock

    def monotonic(self) -> float:
        """Return the seconds told, which never go back."""
        driver = self._driver
        return self._at if driver is None else driver.now()

    async def sleep(self, seconds: float, /) -> None:
        """Return once `seconds` of virtual time have passed."""
        wait = seconds_of("seconds", seconds, zero=True, infinite=True)
        if self._driver is None or not self._driver.is_here():
            message = "this virtual clock does not drive the event loop that is running here: use run_virtual(..., clock=clock)"
            raise ConfigurationError(message)
        self._note(wait)
        from anyio import sleep

        await sleep(wait)

    def hold(self) -> Hold:
        """Return a context manager inside which time does not jump: something outside the loop is at work for it.

        To_thread workers of anyio and trio, asyncio's executors and `asyncio.wrap_future` are held without being asked. Subprocesses,
        `threading.Timer` and threads of your own are not: hold the time while they work for you. From any thread:

            with clock.hold():
                answer = ask_a_real_server()
        """
        return Hold(self)

    # ------------------------------------------------------------------ for drivers

    def claim(self) -> None:
        """Take this clock for one run. Internal."""
        with self._lock:
            if self._claimed:
                message = "this VirtualClock drives another run already: make one for each run_virtual(...)"
                raise ConfigurationError(message)
            self._claimed = True

    def attach(self, driver: Driver) -> None:
        """Obey `driver` from now on. Internal."""
        with self._lock:
            self._driver, self._home = driver, get_ident()

    def detach(self) -> None:
        """Stand still from now on, and let no thread sleep for ever. Internal."""
        with self._lock:
            if self._driver is not None:
                self._at = self._driver.now()
            self._driver, self._held, self._claimed = None, 0, False
            self._runs += 1
        self.strand()

    def take_hold(self) -> int:
        """Count work that left the loop, and return the number of this run. Internal."""
        with self._lock:
            self._held += 1
            return self._runs

    def give_hold(self, run: int) -> None:
        """Count work that came back, unless its run is over; a loop that stands idle looks again. Internal."""
        with self._lock:
            if run != self._runs:
                return
            self._held -= 1
            driver = self._driver
        if driver is not None and get_ident() != self._home:
            driver.wake()

    @property
    def held(self) -> int:
        """How much work is out; less than nothing where trio counts its threads itself. Internal."""
        with self._lock:
            return self._held - sum(loan.lends() for loan in self._loans)

    def jump(self, driver: Driver, timer: float) -> bool:
        """Jump to the loop's next `timer` (inf: none) or to a thread's, whichever comes first; say whether there was any. Internal."""
        with self._lock:
            when = min(timer, self._sleepers.next())
        if when == inf:
            return False
        self._jump_to(driver, settled(max(when, driver.now())))
        return True

    def __repr__(self) -> str:
        return f"<VirtualClock at {self.monotonic():.9g} s, {'running' if self._driver else 'at rest'}, held {self._held} times>"


class _Running(local):  # set in the thread of a loop, while it runs
    clock: VirtualClock | None = None
    chance: Chance | None = None


running: Final[_Running] = _Running()


def run_virtual(
    function: Callable[[*Ts], Awaitable[T]],
    /,
    *args: *Ts,
    backend: Backend = "asyncio",
    seed: int | None = None,
    clock: VirtualClock | None = None,
    patience: float = 30.0,
) -> T:
    """Run an async function in virtual time, on a new event loop, and return its result.

    Every sleep and timeout of the loop is virtual, and the clock rules meanwhile, so that policies made at import time obey
    it too. When nothing is ready, time jumps to the next timer; when there is none, `DeadlockError` says who waits for what.

        assert run_virtual(a_year_of_payments, backend="trio") == 365_000

    Args:
        function: what to run.
        *args: its arguments.
        backend: `"asyncio"` or `"trio"`.
        seed: reorders and postpones tasks and feeds the jitter of policies, the same way for the same seed; None keeps the plain order.
        clock: the clock to use; a new one, from 0.0, by default.
        patience: how many real seconds to wait for sockets and held threads before that, too, is a deadlock. On asyncio, the
            servers of asyncpg and psycopg hold the time as threads do, until they were silent that long.

    Raises:
        DeadlockError: nothing can ever happen again.
        ConfigurationError: an event loop is running here already, or `backend` is not one of the two.
    """
    from finresilience.testing.chance import Chance
    from finresilience.testing.luck import seeded_policies

    if clock is None:
        clock = VirtualClock()
    patience = seconds_of("patience", patience)
    with nullcontext() if seed is None else seeded_policies(clock, seed):
        return drive(partial(function, *args), backend=backend, chance=Chance(seed), clock=clock, patience=patience)


def drive(function: Callable[[], Awaitable[T]], *, backend: str, chance: Chance, clock: VirtualClock, patience: float) -> T:
    """Run `function` under `clock`, its tasks ordered by `chance`. Internal."""
    _refuse_a_running_loop()
    name = name_of(function)

    async def main() -> T:
        awaitable = function()
        if not isawaitable(cast("object", awaitable)):
            message = f"{name} is not an async function: it returned a {type(awaitable).__name__}, which cannot be awaited"
            raise ConfigurationError(message)
        return await awaitable

    main.__name__ = main.__qualname__ = name  # for whoever reads the name of the task
    if backend == "asyncio":
        from finresilience.testing.on_asyncio import run
    elif backend == "trio":
        from finresilience.testing.on_trio import run
    else:
        refuse("backend", backend, '"asyncio" or "trio"')
    clock.claim()
    uninstall = install(clock)
    running.clock, running.chance = clock, chance
    try:
        return run(main, clock=clock, chance=chance, patience=patience)
    finally:
        running.clock = running.chance = None
        uninstall()
        clock.detach()


def _refuse_a_running_loop() -> None:
    asyncio, trio = sys.modules.get("asyncio"), sys.modules.get("trio")
    if (asyncio and asyncio._get_running_loop()) or (trio and trio.lowlevel.in_trio_run()):
        message = "an event loop is running here already: make this test a plain `def`, and let run_virtual(...) start the loop"
        raise ConfigurationError(message)
