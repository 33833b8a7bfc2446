"""How did the last calls go? Two windows, by time and by count, that cost a success one addition.

Both keep running totals that only grow and remember what the totals were where the window begins; what stands in the
window is a subtraction. So a success needs no lock: it adds one to `ok`. Everything else goes through `record`, under
the shell's lock.
"""

from __future__ import annotations

from array import array
from collections import deque
from math import frexp, inf, nextafter
from typing import TYPE_CHECKING, Final, Protocol, final

from finresilience._checks import positive_count, refuse, seconds_of

if TYPE_CHECKING:
    from datetime import timedelta


_32_BITS: Final = 0xFFFF_FFFF
_SHORT: Final = 2.0**46  # a share of so many bits leaves 7 of a float's 53 for a multiple: enough for twice the buckets


@final
class Tally:
    """What stands in a window now. A slow failure counts in both; `streak` is the failures since the last success."""

    __slots__ = ("calls", "failures", "slow", "streak")

    def __init__(self, *, calls: int, failures: int, slow: int, streak: int) -> None:
        self.calls: int = calls
        self.failures: int = failures
        self.slow: int = slow
        self.streak: int = streak


class LiveWindow(Protocol):
    """A window of one generation of one circuit.

    The fast lane: while `now < edge`, a success that was not slow may be recorded by `ok += 1` alone, without a lock. On
    an interpreter with the GIL no other thread can come between, since the statement makes no call; without the GIL a
    success may be lost now and then, which makes the circuit a little more careful, never less. A window whose
    circuit has moved on has `edge = -inf` for ever.
    """

    edge: float
    ok: int
    failed: int
    slow: int

    def record(self, now: float, *, failed: bool, slow: bool) -> Tally:
        """Record one result and return what stands in the window."""
        ...

    def tally(self, now: float) -> Tally:
        """Return what stands in the window."""
        ...

    def lane(self) -> float:
        """Return until when a success may take the fast lane, if nothing else forbids it."""
        ...

    def fill(self, *, calls: int, failures: int, slow: int) -> None:
        """Take over what stood in another window, as if it had just come, at a price that does not grow with it."""
        ...


class Window(Protocol):
    """A choice of window; it opens a live one for each generation of a circuit."""

    def start(self, now: float) -> LiveWindow:
        """Return an empty live window that begins now."""
        ...


@final
class TimeWindow:
    """Judge the calls of the last `seconds`. A call has left the window, at the latest, when its age reaches them.

    Args:
        seconds: the length of the window.
        buckets: into how many steps it is divided; a call may leave up to one step early.

    Raises:
        ConfigurationError: if `seconds` is not finite or below a microsecond, or `buckets` not from 1 to 60.
    """

    __slots__ = ("_width", "buckets", "seconds")

    def __init__(self, seconds: float | timedelta, *, buckets: int = 10) -> None:
        self.seconds: float = seconds_of("seconds", seconds)
        if self.seconds < 1e-6:
            refuse("seconds", seconds, "at least a microsecond")
        self.buckets: int = positive_count("buckets", buckets, most=60)
        self._width = _width(self.seconds, self.buckets)

    def start(self, now: float) -> LiveWindow:
        """Return an empty live window that begins now."""
        return LiveTimeWindow(now, width=self._width, size=self.buckets)

    def __repr__(self) -> str:
        """Show how it was made."""
        return f"TimeWindow({self.seconds:g}, buckets={self.buckets})"


def _width(seconds: float, buckets: int) -> float:
    """Return how long a bucket lasts: its share of the window, or a hair less.

    Less by so much that two times which lie less than all the buckets apart never differ, in floats, by the window's length: a call
    whose age reaches that length would still be in the oldest bucket. A share whose multiples are floats themselves is safe as it is.
    """
    width = seconds / buckets
    if (frexp(width)[0] * _SHORT).is_integer() and width * buckets == seconds:
        return width
    while width * buckets >= seconds:
        width = nextafter(width, 0.0)
    return width


@final
class CountWindow:
    """Judge the last `calls` calls, however long they took to come.

    Args:
        calls: how many. Memory grows with the failures among them, never beyond their number.

    Raises:
        ConfigurationError: if `calls` is not from 1 to 1,000,000.
    """

    __slots__ = ("calls",)

    def __init__(self, calls: int) -> None:
        self.calls: int = positive_count("calls", calls, most=1_000_000)

    def start(self, now: float) -> LiveWindow:  # noqa: ARG002 - a window by count does not ask the time
        """Return an empty live window."""
        return LiveCountWindow(self.calls)

    def __repr__(self) -> str:
        """Show how it was made."""
        return f"CountWindow({self.calls})"


@final
class LiveTimeWindow:
    """A ring of marks: the three running totals as they were when each bucket began.

    A mark keeps 32 bits of each, in half the memory: what stands in the window is a difference, and right while a window
    holds fewer than four billion calls.
    """

    __slots__ = ("_index", "_marks", "_streak", "_width", "edge", "failed", "ok", "slow")

    ok: int
    failed: int
    slow: int

    def __init__(self, now: float, *, width: float, size: int) -> None:
        self.ok = self.failed = self.slow = self._streak = 0
        self._width = width
        self._index = int(now // width)
        self._marks = array("I", (0,)) * (3 * size)
        self.edge: float = self.lane()

    def record(self, now: float, *, failed: bool, slow: bool) -> Tally:
        """Record one result and return what stands in the window."""
        self._turn(now)
        if failed:
            self.failed += 1
            self._streak += 1
        else:
            self.ok += 1
            self._streak = 0
        if slow:
            self.slow += 1
        return self._count()

    def tally(self, now: float) -> Tally:
        """Return what stands in the window."""
        self._turn(now)
        return self._count()

    def lane(self) -> float:
        """Return when the running bucket ends."""
        return (self._index + 1) * self._width

    def fill(self, *, calls: int, failures: int, slow: int) -> None:
        """Take over what stood in another window. In which order it came is not known, so no streak is."""
        self.ok, self.failed, self.slow = self.ok + calls - failures, self.failed + failures, self.slow + slow

    def _turn(self, now: float) -> None:
        """Mark the beginning of every bucket that began since the last look; at most one turn of the ring."""
        index, size = int(now // self._width), len(self._marks) // 3
        for ago in range(min(index - self._index, size)):
            at = (index - ago) % size * 3
            self._marks[at : at + 3] = array("I", (self.ok & _32_BITS, self.failed & _32_BITS, self.slow & _32_BITS))
        self._index = max(self._index, index)

    def _count(self) -> Tally:
        oldest = (self._index + 1) * 3 % len(self._marks)  # the slot that is overwritten next holds the oldest mark
        failures = (self.failed - self._marks[oldest + 1]) & _32_BITS
        successes = (self.ok - self._marks[oldest]) & _32_BITS
        slow = (self.slow - self._marks[oldest + 2]) & _32_BITS
        return Tally(calls=successes + failures, failures=failures, slow=slow, streak=self._streak)


@final
class LiveCountWindow:
    """Numbers every call; remembers the numbers of those that failed or were slow, and forgets them as they fall out."""

    __slots__ = ("_failures", "_size", "_slows", "_streak", "edge", "failed", "ok", "slow")

    ok: int
    failed: int
    slow: int

    def __init__(self, size: int) -> None:
        self.ok = self.failed = self.slow = self._streak = 0
        self.edge: float = inf
        self._size = size
        self._failures: deque[int] = deque()
        self._slows: deque[int] = deque()

    def record(self, now: float, *, failed: bool, slow: bool) -> Tally:  # noqa: ARG002 - a window by count does not ask the time
        """Record one result and return what stands in the window."""
        if failed:
            self.failed += 1
            self._streak += 1
            self._failures.append(self.ok + self.failed)
        else:
            self.ok += 1
            self._streak = 0
        if slow:
            self.slow += 1
            self._slows.append(self.ok + self.failed)
        return self._count()

    def tally(self, now: float) -> Tally:  # noqa: ARG002 - a window by count does not ask the time
        """Return what stands in the window."""
        return self._count()

    def lane(self) -> float:
        """Return for ever: a success never ages a window by count."""
        return inf

    def fill(self, *, calls: int, failures: int, slow: int) -> None:
        """Take over what stood in another window, bad calls last: they stay the longest. No streak is known."""
        self.ok, self.failed, self.slow = self.ok + calls - failures, self.failed + failures, self.slow + slow
        last = self.ok + self.failed
        self._failures.extend(range(last - min(failures, self._size) + 1, last + 1))
        self._slows.extend(range(last - min(slow, self._size) + 1, last + 1))

    def _count(self) -> Tally:
        calls = self.ok + self.failed
        for numbers in (self._failures, self._slows):
            while numbers and numbers[0] <= calls - self._size:
                numbers.popleft()
        return Tally(calls=min(calls, self._size), failures=len(self._failures), slow=len(self._slows), streak=self._streak)


_NOTHING: Final = Tally(calls=0, failures=0, slow=0, streak=0)


@final
class BlindWindow:
    """A window that sees nothing, for a circuit that is disabled."""

    __slots__ = ("edge", "failed", "ok", "slow")

    ok: int
    failed: int
    slow: int

    def __init__(self) -> None:
        self.edge: float = inf
        self.ok = self.failed = self.slow = 0

    def record(self, now: float, *, failed: bool, slow: bool) -> Tally:  # noqa: ARG002 - it sees nothing at any time
        """Count it for the statistics, and see nothing."""
        if failed:
            self.failed += 1
        else:
            self.ok += 1
        self.slow += slow
        return _NOTHING

    def tally(self, now: float) -> Tally:  # noqa: ARG002 - it sees nothing at any time
        """Return nothing."""
        return _NOTHING

    def lane(self) -> float:
        """Return for ever."""
        return inf

    def fill(self, *, calls: int, failures: int, slow: int) -> None:
        """Take over nothing: it sees nothing."""
