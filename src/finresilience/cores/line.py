"""Who passes next? A line of places in time, which keeps its promises when somebody gives a place up.

Each place has its time, by the rule and by who is before it. Whoever comes in time is never sent back because of a place that
was given up, before its own or behind it. The rule itself is asked again when somebody passes: a promise is never a reason to exceed it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from math import inf
from typing import Any, Final, final

TICK: Final = 1e-9  # what a clock can tell: a wait this short is no wait
_GONE: Final = -1


@final
class Place:
    """A place in the line. It is given back when it is left, or when nobody holds it any more."""

    __slots__ = ("_gone", "index", "wait")

    def __init__(self, gone: deque[int], index: int, wait: float) -> None:
        self._gone = gone
        self.index: int = index
        self.wait: float = wait  # seconds, from when it was made

    def leave(self) -> None:
        """Give it back. Takes no lock, so it may be called from anywhere, even by the collector in the midst of a decision."""
        index, self.index = self.index, _GONE
        if index != _GONE:
            self._gone.append(index)

    __del__ = leave  # an interruption may come before its holder could do anything


class LiveRule:
    """A rule at work, and its line. A core: told the time. Not thread-safe: the shell calls it under its lock.

    Places are numbered for ever; those from `_first` on are in the line, which is `_line` long. Whoever passes takes the first
    place, since that is the first to lose its worth, and leaves its own to whoever had it. `_free` holds the places that were given
    up before the end of the line, `_adrift` those whose holder still believes it has an earlier one.
    """

    __slots__ = ("_adrift", "_free", "_gone", "_line", "lapsed")

    def __init__(self) -> None:
        self._line = 0
        self._free: list[int] = []
        self._adrift: list[int] = []
        self._gone: deque[int] = deque()
        self.lapsed: int = 0  # places that went by unused

    # --- what each rule answers for itself -------------------------------------------------------------------------

    def take(self, now: float) -> bool | None:
        """Let a call pass at once and return True, or return None, having changed nothing, if it would have to wait."""
        raise NotImplementedError

    def change(self, rule: Any, now: float) -> None:
        """Go by another rule of the same kind from now on; what has passed counts."""
        raise NotImplementedError

    def _busy(self, now: float) -> float:
        """Return for how many seconds more it will remember any call that passed."""
        raise NotImplementedError

    def rebase(self, seconds: float) -> None:
        """Move everything by `seconds`, for a clock with another zero."""
        raise NotImplementedError

    @property
    def _first(self) -> int:
        """The number of the first place in line: as many were used or went by before."""
        raise NotImplementedError

    def _opens(self, ahead: int, now: float, stale: int) -> float:
        """Return in how many seconds the place with `ahead` places before it may be used, if nobody before it is late, or later than now.

        Args:
            ahead: how many places are before it.
            now: the monotonic time.
            stale: how many of those, from the first on, are free and will stay unused.
        """
        raise NotImplementedError

    def _usable(self, ahead: int, now: float, stale: int) -> bool:
        """Return whether a free place may still be used without making anybody behind it wait longer."""
        raise NotImplementedError

    def _pass(self, now: float) -> None:
        """Note that a call passes now, in the first place."""
        raise NotImplementedError

    def _lapse(self) -> None:
        """Let the first place go by as if a call had passed at its time."""
        raise NotImplementedError

    # --- the line --------------------------------------------------------------------------------------------------

    @property
    def passed(self) -> int:
        """Return how many calls have passed."""
        return self._first - self.lapsed

    @property
    def waiting(self) -> int:
        """Return how many wait. Never more than the places that open within the longest wait."""
        self._tidy()
        return self._line - len(self._free)

    def busy(self, now: float) -> float:
        """Return for how many seconds more it will remember anybody, as far as is known; zero or less if it is as good as new."""
        self._tidy()
        return inf if self._line else self._busy(now)

    def join(self, now: float, patience: float, left: float = inf) -> Place | float:
        """Return a place in the line; or, having changed nothing, how many seconds away the nearest one is, if that is too far.

        Args:
            now: the monotonic time.
            patience: seconds that the caller will wait.
            left: seconds in which it must have passed, and have time left.
        """
        self._tidy()
        index, wait = self._nearest(now)
        if wait > TICK and (wait > patience + TICK or wait >= left):
            return wait
        place = Place(self._gone, index, wait if wait > TICK else 0.0)
        self._occupy(index)
        return place

    def step(self, place: Place, now: float) -> float:
        """Let the holder of `place` pass and return 0.0, or return how many seconds it must still wait."""
        self._tidy()
        if place.index < self._first:  # somebody passed in its stead, and left it another
            place.index = self._adrift.pop(0) if self._adrift else self._occupy(self._first + self._line)
        stale = self._stale(now)
        wait = self._opens(place.index - self._first, now, stale)
        if wait > TICK:
            return wait
        self._pass_from(place.index, now, stale)
        place.index = _GONE
        return 0.0

    def begin_anew(self) -> None:
        """Forget the line, for a forked child in which nobody waits. What has passed is remembered."""
        self._line = 0
        self._free, self._adrift, self._gone = [], [], deque()

    def _take_in_line(self, now: float) -> bool | None:
        self._tidy()
        index, wait = self._nearest(now)
        if wait > TICK:
            return None
        self._pass_from(self._occupy(index), now, self._stale(now))
        return True

    def _stale(self, now: float) -> int:
        """Return how many places, from the first on, were given up and can be of use to nobody."""
        count = 0
        while count < len(self._free) and self._free[count] == self._first + count and not self._usable(count, now, count):
            count += 1
        return count

    def _nearest(self, now: float) -> tuple[int, float]:
        """Return the place that the next to come would get, given up or behind all others, and the seconds until it opens."""
        stale = self._stale(now)
        for index in self._free[stale:]:
            if self._usable(index - self._first, now, stale):
                return index, self._opens(index - self._first, now, stale)
        return self._first + self._line, self._opens(self._line, now, stale)

    def _occupy(self, index: int) -> int:
        if index == self._first + self._line:
            self._line += 1
        else:
            self._free.remove(index)
        return index

    def _pass_from(self, index: int, now: float, stale: int) -> None:
        """Let the holder of `index` pass in the first place that is not stale, and give whoever had that one `index` instead."""
        for _ in range(stale):
            self._lapse()
        del self._free[:stale]
        self._line -= stale
        self.lapsed += stale
        first = self._first
        self._pass(now)
        self._line -= 1
        if index == first:
            return
        if self._free and self._free[0] == first:
            self._free.pop(0)
            self._release(index)
            return
        if self._adrift and self._adrift[0] == first:
            self._adrift.pop(0)
        insort(self._adrift, index)

    def _tidy(self) -> None:
        """Take back what was left."""
        while self._gone:
            index = self._gone.popleft()
            if index >= self._first:
                self._release(index)
            elif self._adrift:
                self._release(self._adrift.pop(0))

    def _release(self, index: int) -> None:
        """Free a place; free ones at the end of the line are taken back, and it is as if nobody had ever had them."""
        at = bisect_left(self._free, index)
        if index < self._first + self._line and self._free[at : at + 1] != [index]:
            self._free.insert(at, index)
        while self._free and self._free[-1] == self._first + self._line - 1:
            self._free.pop()
            self._line -= 1
