"""What time is it in a test of sync code? Whatever the test says: nothing waits, time moves at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import isfinite
from threading import Event, Lock
from typing import TYPE_CHECKING, Final, final

from finresilience._checks import refuse, seconds_of
from finresilience.clock import install
from finresilience.errors import ConfigurationError
from finresilience.testing.stories import turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

NEW_YEAR: Final = datetime(2026, 1, 1, tzinfo=UTC)  # a fixed default, so that a failing test prints the same dates tomorrow
_NS: Final = 1_000_000_000
_KEPT: Final = 100_000
_GLANCE: Final = 0.001  # real seconds between two looks at the time told


class Wall:
    """The wall clock and the record of waits, which all test clocks share. Internal."""

    def __init__(self, start: float, utc: datetime) -> None:
        if utc.tzinfo is None:
            refuse("utc", utc, "an aware datetime, such as datetime(2026, 1, 1, tzinfo=UTC)")
        self._start = start
        self._wall = utc.astimezone(UTC)
        self.waits: list[float] = []

    def monotonic(self) -> float:
        """Return the seconds told, which never go back."""
        raise NotImplementedError

    def utc(self) -> datetime:
        """Return the aware UTC time."""
        return self._wall + timedelta(seconds=self.monotonic() - self._start)

    def step_utc(self, seconds: float | timedelta) -> None:
        """Move the wall clock alone, forwards or backwards, as NTP or a person may. No decision should notice."""
        step = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        if isinstance(step, bool) or not isfinite(step):
            refuse("seconds", seconds, "a finite number of seconds or a timedelta; it may be negative")
        self._wall += timedelta(seconds=step)

    def _note(self, wait: float) -> None:
        if len(self.waits) >= _KEPT:  # a virtual year must not fill the memory: the newest half stays
            del self.waits[: _KEPT // 2]
        self.waits.append(wait)


@final
class ManualClock(Wall):
    """A clock that stands still until it is told to move; whoever sleeps moves it, at once.

    It counts whole nanoseconds, so that 0.1 + 0.2 is 0.3 here. Threads may share it. For code that runs several tasks at
    once, use `run_virtual`: here each sleep moves the time for everybody, so that two sleeps of 5 s take 10 s.

    Args:
        start: the first reading of `monotonic`, in seconds.
        utc: the first reading of `utc`, an aware datetime.

    Attributes:
        waits: how long each sleep asked for, in seconds, in order; the newest 100,000 at most.
    """

    def __init__(self, start: float | timedelta = 0.0, *, utc: datetime = NEW_YEAR) -> None:
        first = seconds_of("start", start, zero=True)
        super().__init__(first, utc)
        self._ns = nanoseconds(first)
        self._lock = Lock()

    def monotonic(self) -> float:
        """Return the seconds told, which never go back."""
        return self._ns / _NS

    def advance(self, seconds: float | timedelta) -> None:
        """Move both readings on by `seconds`.

        Raises:
            ConfigurationError: if `seconds` is negative: `monotonic` never goes back. `step_utc` moves the wall clock alone.
        """
        self._move(seconds_of("seconds", seconds, zero=True))

    async def sleep(self, seconds: float, /) -> None:
        """Move on by `seconds` at once, and give the other tasks one turn."""
        self.sleep_sync(seconds)
        await turn()

    def sleep_sync(self, seconds: float, /) -> None:
        """Move on by `seconds` at once."""
        wait = seconds_of("seconds", seconds, zero=True)
        self._move(wait, slept=True)

    def wait_for(self, signal: Event, seconds: float, /) -> bool:
        """Return True once `signal` is set, or False once the time told has moved on by `seconds`; somebody else must do either.

        A `Timeout` with threads waits by this: the code in its thread, or the test, moves the clock past the limit.
        """
        return self.wait_until(signal, self.monotonic() + seconds)

    def wait_until(self, signal: Event, until: float, /) -> bool:
        """Return True once `signal` is set, or False once the time told is `until`; somebody else must do either."""
        while not signal.wait(_GLANCE):
            if self.monotonic() >= until:
                return signal.is_set()
        return True

    def _move(self, seconds: float, *, slept: bool = False) -> None:
        step = nanoseconds(seconds)
        if seconds > 0.0:
            step = max(step, 1)  # or `while (left := due - now()) > 0: sleep(left)` would never end on a residue of 1e-17
        with self._lock:
            self._ns += step
            if slept:
                self._note(seconds)

    def __repr__(self) -> str:
        return f"<ManualClock at {self.monotonic():.9g} s>"


@final
class instant:  # noqa: N801 - reads as a statement: with instant() as clock:
    """Inside, every sleep of whoever obeys the ruling clock returns at once, while the time it is told moves on.

    Retries and backoffs in a user's tests then cost nothing:

        with instant() as clock:
            charge(request)
        assert clock.waits == [0.1, 0.2]

    For sync and async code; in async code each sleep still gives other tasks a turn.

    Args:
        clock: the clock that shall rule; a new `ManualClock` by default.
    """

    def __init__(self, clock: ManualClock | None = None) -> None:
        self._clock = ManualClock() if clock is None else clock
        self._uninstall: Callable[[], None] | None = None

    def __enter__(self) -> ManualClock:
        if self._uninstall is not None:
            message = "this instant() block is open already: make a new one for each `with`"
            raise ConfigurationError(message)
        self._uninstall = install(self._clock)
        return self._clock

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        uninstall, self._uninstall = self._uninstall, None
        if uninstall is not None:
            uninstall()


def nanoseconds(seconds: float) -> int:
    """Return the nearest whole number of nanoseconds, exact for every float below 104 days and near enough beyond."""
    whole = int(seconds)
    return whole * _NS + round((seconds - whole) * _NS)
