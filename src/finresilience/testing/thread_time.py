"""How do threads wait in virtual time? Their time comes when the loop, idle, jumps to it; meanwhile they hold nothing."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from math import inf, ulp
from threading import RLock, get_ident
from typing import TYPE_CHECKING, Protocol

from finresilience._checks import seconds_of
from finresilience.errors import ConfigurationError
from finresilience.testing.clock import Wall
from finresilience.testing.errands import errand_here
from finresilience.testing.errors import DeadlockError
from finresilience.testing.sleepers import GLANCE, Sleeper, Sleepers

if TYPE_CHECKING:
    from collections.abc import Generator
    from datetime import datetime

    from finresilience.testing.errands import Errand
    from finresilience.testing.sleepers import Signal


class Driver(Protocol):
    """What a virtual clock asks of the event loop it rules. Internal."""

    def now(self) -> float: ...

    def jump_to(self, when: float, /) -> None: ...

    def wake(self) -> None: ...

    def is_here(self) -> bool: ...


class ThreadTime(Wall):
    """The side of a virtual clock that threads see. Internal."""

    def __init__(self, start: float, utc: datetime) -> None:
        super().__init__(start, utc)
        self._driver: Driver | None = None
        self._lock = RLock()  # the collector may end a task, and so a hold, in the middle of anything
        self._home = 0  # the thread of the loop
        self._loans: list[Errand | Sleeper] = []  # workers that wait for this clock or its loop, and hold nothing meanwhile
        self._sleepers = Sleepers()  # threads that wait on this clock

    def sleep_sync(self, seconds: float, /) -> None:
        """Block this thread until `seconds` of virtual time have passed; in the loop's own thread, all its tasks stand still meanwhile."""
        wait = seconds_of("seconds", seconds, zero=True)
        driver = self._running()
        self._note(wait)
        if get_ident() == self._home:
            self._jump_to(driver, settled(driver.now() + wait))
        else:
            self._sleep_in_thread(wait, driver)

    def wait_for(self, signal: Signal, seconds: float, /) -> bool:
        """Return True once `signal` is set, or False once `seconds` of virtual time have passed."""
        return self.wait_until(signal, self.monotonic() + seconds_of("seconds", seconds, zero=True, infinite=True))

    def wait_until(self, signal: Signal, until: float, /) -> bool:
        """Return True once `signal`, a `threading.Event`, is set, or False once the virtual time is `until`.

        A worker thread holds no time while it waits here: its loop goes on, and time jumps. A thread that was handed `signal`,
        among its arguments, and is at work does hold it: so a `Timeout` with threads is not over merely because one was slow.
        """
        driver = self._running()
        if until <= driver.now():
            return signal.wait(0.0)
        if get_ident() == self._home:
            return self._wait_at_home(signal, until, driver)
        return self._wait_in_thread(signal, until, driver)

    def _running(self) -> Driver:
        driver = self._driver
        if driver is None:
            message = "a virtual clock moves only inside run_virtual(...): for sync code use ManualClock or instant()"
            raise ConfigurationError(message)
        return driver

    # ------------------------------------------------------------------ for drivers

    def strand(self) -> int:
        """Tell all threads that wait on this clock that nothing will come any more, and return how many there were. Internal."""
        with self._lock:
            self._loans.clear()
            left = self._sleepers.clear()
            for sleeper in left:
                sleeper.stranded = True
                sleeper.woken.set()
        return len(left)

    @contextmanager
    def lent(self, errand: Errand) -> Generator[None]:
        """Let `errand` hold nothing inside, because its thread waits for this clock's loop. Internal."""
        with self._lock:
            self._loans.append(errand)
        try:
            yield
        finally:
            self._take_back(errand)

    def _take_back(self, loan: Errand | Sleeper) -> None:
        with self._lock, suppress(ValueError):  # it is gone if the run is over
            self._loans.remove(loan)

    def _jump_to(self, driver: Driver, when: float) -> None:
        driver.jump_to(when)
        with self._lock:
            for sleeper in self._sleepers.due(when):
                self._take_back(sleeper)  # before the thread runs: no gap to jump through
                sleeper.woken.set()

    def _sleep_in_thread(self, wait: float, driver: Driver) -> None:
        sleeper = self._lie_down(None, driver.now() + wait, driver)
        sleeper.woken.wait()
        if sleeper.stranded:
            raise _stranded()

    def _wait_in_thread(self, signal: Signal, until: float, driver: Driver) -> bool:
        sleeper = self._lie_down(signal, until, driver)
        while not sleeper.woken.wait(GLANCE) and not signal.is_set():
            pass
        with self._lock:  # hold the time again before the signal is used up: no gap to jump through
            self._sleepers.remove(sleeper)
            self._take_back(sleeper)
        if signal.wait(0.0):
            return True
        if sleeper.stranded:
            raise _stranded()
        return False

    def _wait_at_home(self, signal: Signal, until: float, driver: Driver) -> bool:
        """Wait in the thread of the loop, which stands still meanwhile: only other threads can set the signal."""
        sleeper = Sleeper(None, self._sleepers.asleep, signal)
        while not signal.wait(0.0):
            now = driver.now()
            if now >= until:
                return False
            if not sleeper.idle():
                if signal.wait(GLANCE):  # a thread that was handed the signal is at work
                    return True
                continue
            with self._lock:
                when = min(until, self._sleepers.next())
            if when == inf:
                message = "the thread of the loop waits for a signal that nobody here can set: let a worker wait, by to_thread.run_sync"
                raise DeadlockError(message)
            self._jump_to(driver, settled(max(when, now)))
        return True

    def _lie_down(self, signal: Signal | None, until: float, driver: Driver) -> Sleeper:
        """Let this thread wait on the clock, holding nothing, and tell the loop to look again."""
        errand = errand_here()
        sleeper = Sleeper(errand if errand is not None and errand.clock is self else None, self._sleepers.asleep, signal)
        with self._lock:
            if self._driver is driver:
                self._sleepers.add(sleeper, until)
                if sleeper.errand is not None:
                    self._loans.append(sleeper)
            else:  # the run ended this moment
                sleeper.stranded = True
                sleeper.woken.set()
        driver.wake()
        return sleeper


def _stranded() -> DeadlockError:
    return DeadlockError("run_virtual ended while this thread slept on its clock; join such threads before the end")


def settled(when: float) -> float:
    """Return `when`, or the whole nanosecond just above it if only float noise lies between: 0.7999999999999999 is 0.8.

    Never less than `when`: a timer that looks at the clock once it fires must not find that it fired early.
    """
    near = round(when * 1e9) / 1e9
    return near if when <= near <= when + 4 * ulp(when) else when
