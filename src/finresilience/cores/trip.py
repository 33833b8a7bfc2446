"""When does a circuit open? Small rules, each answering for a tally with a reason or None."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, final

from finresilience._checks import positive_count, seconds_of, share_of

if TYPE_CHECKING:
    from datetime import timedelta

    from finresilience.cores.window import Tally


class TripRule(Protocol):
    """A reason to open.

    A rule may have two attributes more, which the breaker looks for: `after`, the seconds after which a call is slow, and `rate`,
    the share of bad probes at which a half-open round fails.

    The law for rules: once `minimum_calls` stand in the window, one more success that was not slow never makes a rule trip. The
    breaker relies on it to record such successes without asking.
    """

    @property
    def minimum_calls(self) -> int:
        """How many calls must stand in the window before the rule may trip."""
        ...

    def trips(self, tally: Tally, /) -> str | None:
        """Return why the circuit should open, or None."""
        ...


@final
class FailureRate:
    """Open when at least this share of the window's calls failed.

    Args:
        rate: the share, above 0 to 1; reaching it is enough.
        minimum_calls: how many calls must stand in the window first.
    """

    __slots__ = ("minimum_calls", "rate")

    def __init__(self, rate: float, *, minimum_calls: int = 20) -> None:
        self.rate: float = share_of("failure_rate", rate)
        self.minimum_calls: int = positive_count("minimum_calls", minimum_calls)

    def trips(self, tally: Tally, /) -> str | None:
        """Return why, or None."""
        if tally.failures and tally.calls >= self.minimum_calls and tally.failures / tally.calls >= self.rate:
            return f"{tally.failures} of {tally.calls} calls failed"
        return None


@final
class SlowRate:
    """Open when at least this share of the window's calls took longer than `after`.

    Args:
        rate: the share, above 0 to 1; reaching it is enough.
        after: a call that takes longer than these seconds is slow, whether it fails or not.
        minimum_calls: how many calls must stand in the window first.
    """

    __slots__ = ("after", "minimum_calls", "rate")

    def __init__(self, rate: float, *, after: float | timedelta, minimum_calls: int = 20) -> None:
        self.rate: float = share_of("slow_rate", rate)
        self.after: float = seconds_of("slow_after", after)
        self.minimum_calls: int = positive_count("minimum_calls", minimum_calls)

    def trips(self, tally: Tally, /) -> str | None:
        """Return why, or None."""
        if tally.slow and tally.calls >= self.minimum_calls and tally.slow / tally.calls >= self.rate:
            return f"{tally.slow} of {tally.calls} calls took longer than {self.after:g} s"
        return None


@final
class FailureCount:
    """Open when this many of the window's calls failed, whatever the rest did.

    Args:
        failures: how many.
    """

    __slots__ = ("failures", "minimum_calls")

    def __init__(self, failures: int) -> None:
        self.failures: int = positive_count("failure_count", failures)
        self.minimum_calls: int = 1

    def trips(self, tally: Tally, /) -> str | None:
        """Return why, or None."""
        return f"{tally.failures} calls failed" if tally.failures >= self.failures else None


@final
class ConsecutiveFailures:
    """Open when this many calls in a row failed.

    Args:
        failures: how many.
    """

    __slots__ = ("failures", "minimum_calls")

    def __init__(self, failures: int) -> None:
        self.failures: int = positive_count("consecutive_failures", failures)
        self.minimum_calls: int = 1

    def trips(self, tally: Tally, /) -> str | None:
        """Return why, or None."""
        return f"{tally.streak} calls in a row failed" if tally.streak >= self.failures else None
