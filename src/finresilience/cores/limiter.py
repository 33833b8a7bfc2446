"""When may the next call pass? By a token bucket, or by a sliding window.

Whoever passes, passes by the rule and the time of that very moment, so no window ever holds too many, however late anybody wakes.

Times are compared to the nanosecond, as a clock tells them. That error does not grow: the token bucket multiplies from an
anchor and never adds up, and the window compares two readings.
"""

from __future__ import annotations

from array import array
from math import ceil, inf
from typing import TYPE_CHECKING, Final, Protocol, final

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.cores.line import TICK, LiveRule

if TYPE_CHECKING:
    from datetime import timedelta

_FASTEST: Final = 1e-6  # seconds between two calls, on average


class RateRule(Protocol):
    """A choice of rule; it opens a live one for each limiter."""

    @property
    def per(self) -> float:
        """For how many seconds it remembers a call, at least, once nobody waits."""
        ...

    @property
    def pace(self) -> float:
        """Calls a second, in the long run."""
        ...

    def start(self, now: float) -> LiveRule:
        """Return a live rule that has seen nothing before now."""
        ...


class _Rule:
    """Equal to what says the same."""

    __slots__ = ("limit", "per")

    limit: int
    per: float

    def _told(self, limit: int, per: float) -> None:
        self.limit = limit
        self.per = per

    def __eq__(self, other: object) -> bool:
        return repr(self) == repr(other) if type(self) is type(other) else NotImplemented

    def __hash__(self) -> int:
        return hash(repr(self))

    @property
    def pace(self) -> float:
        """Calls a second, in the long run."""
        return self.limit / self.per


@final
class TokenBucket(_Rule):
    """Let `limit` calls pass in `per` seconds, evenly, and up to `burst` at once after a pause.

    No stretch of w seconds ever holds more than `burst + w * limit / per` calls. So a bucket with a burst lets up to `limit + burst` into
    `per` seconds: where a provider counts strictly, make room for the burst in `limit`, or take a `SlidingWindow`.
    This is GCRA, the generic cell rate algorithm (ITU-T I.371, virtual scheduling).

    Args:
        limit: how many calls in `per` seconds, at most a million a second.
        per: seconds.
        burst: how many may pass at the same moment.

    Raises:
        ConfigurationError: if an argument cannot work; the message names it and the way out.
    """

    __slots__ = ("burst",)

    def __init__(self, limit: int, *, per: float | timedelta, burst: int = 1) -> None:
        self._told(*_checked(limit, per))
        self.burst: int = positive_count("burst", burst)

    def start(self, now: float) -> LiveTokenBucket:
        """Return a live bucket with the whole burst in it."""
        return LiveTokenBucket(self, now)

    def __repr__(self) -> str:
        """Show how it was made."""
        return f"TokenBucket({self.limit}, per={self.per!r}, burst={self.burst})"


@final
class SlidingWindow(_Rule):
    """Let at most `limit` calls pass in any `per` seconds whatever: a call makes room when its age reaches `per`.

    Exact: it remembers when each of the last `limit` calls passed, in 8 bytes each.

    Args:
        limit: how many calls in `per` seconds, at most a million.
        per: seconds.

    Raises:
        ConfigurationError: if an argument cannot work; the message names it and the way out.
    """

    __slots__ = ()

    def __init__(self, limit: int, *, per: float | timedelta) -> None:
        self._told(*_checked(positive_count("limit", limit, most=1_000_000), per))

    def start(self, now: float) -> LiveSlidingWindow:  # noqa: ARG002 - an empty log is the same at any time
        """Return a live window in which nothing has passed."""
        return LiveSlidingWindow(self)

    def __repr__(self) -> str:
        """Show how it was made."""
        return f"SlidingWindow({self.limit}, per={self.per!r})"


def _checked(limit: int, per: float | timedelta) -> tuple[int, float]:
    count, seconds = positive_count("limit", limit), seconds_of("per", per)
    if seconds < _FASTEST:
        refuse("per", per, "at least a microsecond")
    if seconds / count < _FASTEST * (1 - TICK):
        refuse("limit", limit, f"at most a million calls a second: {int(seconds / _FASTEST)} in {seconds:g} s")
    return count, seconds


@final
class LiveTokenBucket(LiveRule):
    """Counts the calls since an anchor, the last moment at which the bucket was full.

    The counts are floats, which are exact for whole numbers and quick to multiply.
    """

    __slots__ = ("_anchor", "_before", "_interval", "_slack", "_taken")

    def __init__(self, rule: TokenBucket, now: float) -> None:
        super().__init__()
        self._anchor = now
        self._before = self._taken = 0.0  # places used up to the anchor, and since then
        self._set(rule)

    def _set(self, rule: TokenBucket) -> None:
        self._interval = rule.per / rule.limit
        self._slack = (rule.burst - 1) * self._interval

    def take(self, now: float) -> bool | None:
        """Let a call pass at once and return True, or return None, having changed nothing, if it would have to wait."""
        if self._line:
            return self._take_in_line(now)
        debt = self._taken * self._interval - (now - self._anchor)
        if debt <= 0.0:
            self._before += self._taken
            self._anchor = now
            self._taken = 1.0
        elif debt > self._slack + TICK:
            return None
        else:
            self._taken += 1.0
        return True

    def change(self, rule: TokenBucket, now: float) -> None:
        """Go by another bucket, which begins without a burst: it is earned anew, at the new rate, from when the old one was last in use."""
        used, debt = self._before + self._taken, self._debt(now)
        owed = 0.0 if used == 0.0 else max(ceil(debt / self._interval), rule.burst)
        self._anchor = now + min(debt, 0.0)
        self._before, self._taken = used - owed, owed
        self._set(rule)

    def _busy(self, now: float) -> float:
        return self._debt(now)

    def _rebase(self, seconds: float) -> None:
        self._anchor += seconds

    @property
    def _first(self) -> int:
        return int(self._before + self._taken)

    def _debt(self, now: float) -> float:
        """Return in how many seconds the bucket will be full again, or since when it is."""
        return self._taken * self._interval - (now - self._anchor)

    def _opens(self, ahead: int, now: float, stale: int) -> float:
        first = self._debt(now) + stale * self._interval
        # The first who waits is late, and all behind it are as late; or nobody waits, and it is the caller's own place.
        if first < 0.0:
            return (ahead - stale) * self._interval - self._slack
        return (self._taken + ahead) * self._interval - (now - self._anchor) - self._slack

    def _spare(self, ahead: int, now: float, stale: int) -> float:  # noqa: ARG002 - a bucket's places do not depend on each other
        return self._debt(now) + ahead * self._interval

    def _pass(self, now: float) -> None:
        if self._debt(now) < 0.0:
            self._before += self._taken
            self._taken = 0.0
            self._anchor = now
        self._taken += 1.0

    def _lapse(self) -> None:
        self._taken += 1.0


@final
class LiveSlidingWindow(LiveRule):
    """Remembers when the last calls passed, in a ring at least as long as its limit. Nothing that was known is forgotten by a change."""

    __slots__ = ("_limit", "_log", "_per", "_shortest", "_used")

    def __init__(self, rule: SlidingWindow) -> None:
        super().__init__()
        self._used = 0
        self._limit, self._per = rule.limit, rule.per
        self._shortest = rule.per  # of all rules so far
        self._log = array("d", (-inf,)) * rule.limit

    def take(self, now: float) -> bool | None:
        """Let a call pass at once and return True, or return None, having changed nothing, if it would have to wait."""
        if self._line:
            return self._take_in_line(now)
        log, used = self._log, self._used
        if now - log[(used - self._limit) % len(log)] + TICK < self._per:
            return None
        log[used % len(log)] = now
        self._used = used + 1
        return True

    def change(self, rule: SlidingWindow, now: float) -> None:  # noqa: ARG002 - what has passed does not change with the time
        """Go by another window, as if it had seen all that passed; where that is too old to be known, as late as it can have been."""
        size, newest = len(self._log), self._used - 1
        # No rule so far let more than `size` pass in the shortest of their times.
        if rule.limit > size:
            ages = ((newest - at) % rule.limit for at in range(rule.limit))  # counted in calls, at each place of the new log
            self._log = array("d", (self._log[(newest - age) % size] - self._shortest * (age // size) for age in ages))
        self._limit, self._per = rule.limit, rule.per
        self._shortest = min(self._shortest, rule.per)

    def _busy(self, now: float) -> float:
        return self._per - (now - self._log[(self._used - 1) % len(self._log)])

    def _rebase(self, seconds: float) -> None:
        self._log = array("d", (at + seconds for at in self._log))

    @property
    def _first(self) -> int:
        return self._used

    def _opens(self, ahead: int, now: float, stale: int) -> float:
        rounds, at = divmod(ahead, self._limit)
        wait = self._per - (now - self._log[(self._used + at - self._limit) % len(self._log)])
        if rounds == 0:
            return wait
        # It opens so long after a place of this round is used: on time, or now at the earliest; or after its time, if nobody will.
        return (wait if at < stale else max(wait, 0.0)) + rounds * self._per

    def _spare(self, ahead: int, now: float, stale: int) -> float:
        return inf if ahead + self._limit >= self._line else self._opens(ahead, now, stale)

    def _pass(self, now: float) -> None:
        self._log[self._used % len(self._log)] = now
        self._used += 1

    def _lapse(self) -> None:
        log, size, place = self._log, len(self._log), self._used
        oldest = place - self._limit
        when = log[oldest % size] + self._per
        for at in range(place - 1, oldest, -1):  # late ones may have passed after it: the log stays in order
            if log[at % size] <= when:
                break
            log[place % size], place = log[at % size], at
        log[place % size] = when
        self._used += 1
