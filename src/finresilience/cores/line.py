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
_NONE: Final = -1


@final
class Seat:
    """Which place somebody has, and when it is expected there. The line may move it to another place, or take it away."""

    __slots__ = ("comes", "index")

    comes: float  # not there before it has had a place

    def __init__(self) -> None:
        self.index: int = _NONE


@final
class Place:
    """A place in the line, in the hands of whoever waits. It is given back when it is left, or when nobody holds it any more."""

    __slots__ = ("_gone", "seat", "wait")

    def __init__(self, gone: deque[Seat], seat: Seat, wait: float) -> None:
        self.seat: Seat = seat
        self._gone = gone
        self.wait: float = wait  # seconds, from when it was made

    def leave(self) -> None:
        """Give it back. Takes no lock, so it may be called from anywhere, even by the collector in the midst of a decision."""
        if self.seat.index != _NONE:
            self._gone.append(self.seat)

    def __del__(self) -> None:
        """Give it back: an interruption may come before its holder could, and even before it was made whole."""
        if hasattr(self, "_gone"):
            self.leave()


class LiveRule:
    """A rule at work, and its line. A core: told the time. Not thread-safe: the shell calls it under its lock.

    Places are numbered for ever; those from `_first` on are in the line, which is `_line` long. Each is held or free: given up
    before the end of the line. Whoever passes takes the first, since that is the first to lose its worth, and leaves its own to whoever
    had it. Whoever is not there `lease` seconds after its time has lost its place: its thread or loop may never come.
    """

    __slots__ = ("_alarm", "_free", "_gone", "_held", "_line", "_torn", "_unused", "lapsed", "lease")

    def __init__(self) -> None:
        self._line = self._unused = 0  # `_unused` places went by and let nobody pass
        self._free: list[int] = []
        self._held: dict[int, Seat] = {}
        self._gone: deque[Seat] = deque()
        # Whether the line, who holds it and what is free are being changed; or were, when an interruption came.
        self._torn = False
        self._alarm = inf  # before then nobody can have lost its place
        self.lease: float = 1.0
        self.lapsed: int = 0

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

    def _rebase(self, seconds: float) -> None:
        """Move what it remembers by `seconds`."""
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

    def _spare(self, ahead: int, now: float, stale: int) -> float:
        """Return for how many seconds more a free place may be used without making anybody behind it wait longer."""
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
        return self._first - self._unused

    def waiting(self, now: float) -> int:
        """Return how many wait. Never more than the places that open within the longest wait."""
        self._tidy(now)
        return len(self._held)

    def busy(self, now: float) -> float:
        """Return for how many seconds more it will remember anybody, as far as is known; zero or less if it is as good as new."""
        self._tidy(now)
        return inf if self._line else self._busy(now)

    def distance(self, now: float) -> float:
        """Return in how many seconds the next to come may pass; zero or less if at once."""
        self._tidy(now)
        return self._nearest(now, self._stale(now))[1]

    def join(self, now: float, patience: float, left: float = inf) -> Place | float:
        """Return a place in the line; or, having changed nothing, how many seconds away the nearest one is, if that is too far.

        Args:
            now: the monotonic time.
            patience: seconds that the caller will wait.
            left: seconds in which it must have passed, and have time left.
        """
        self._tidy(now)
        index, wait = self._nearest(now, self._stale(now))
        if wait > TICK and (wait > patience + TICK or wait >= left):
            return wait
        seat = Seat()
        place = Place(self._gone, seat, wait if wait > TICK else 0.0)
        self._sit(seat, index, now + place.wait)
        return place

    def step(self, place: Place, now: float) -> float:
        """Let the holder of `place` pass and return 0.0, or return how many seconds it must still wait."""
        self._tidy(now)
        seat, stale = place.seat, self._stale(now)
        if self._held.get(seat.index) is not seat:  # it came too late, or in another process: it begins anew, and has no claim on anything
            index, _ = self._nearest(now, stale)
            self._sit(seat, index, now)
        wait = self._opens(seat.index - self._first, now, stale)
        if wait <= TICK:
            self._pass_from(seat, now, stale)
            return 0.0
        seat.comes = now + wait
        return wait

    def begin_anew(self) -> None:
        """Forget the line, for a forked child in which nobody waits. What has passed is remembered."""
        self._held, self._torn = {}, True

    def rebase(self, seconds: float) -> None:
        """Move everything by `seconds`, for a clock with another zero."""
        self._rebase(seconds)
        self._alarm += seconds
        for seat in self._held.values():
            seat.comes += seconds

    def _take_in_line(self, now: float) -> bool | None:
        self._tidy(now)
        stale = self._stale(now)
        index, wait = self._nearest(now, stale)
        if wait > TICK:
            return None
        seat = Seat()
        self._sit(seat, index, now)
        self._pass_from(seat, now, stale)
        return True

    def _usable(self, ahead: int, now: float, stale: int) -> bool:
        """Return whether a free place is still of use to somebody."""
        return self._spare(ahead, now, stale) >= -TICK

    def _stale(self, now: float) -> int:
        """Return how many places, from the first on, were given up and can be of use to nobody."""
        free, first = self._free, self._first
        # The earlier a place, the less it is worth: so halve, since thousands may have gone away at once.
        return bisect_left(range(len(free)), True, key=lambda at: free[at] != first + at or self._usable(at, now, at))

    def _nearest(self, now: float, stale: int) -> tuple[int, float]:
        """Return the place that the next to come would get, given up or behind all others, and the seconds until it opens."""
        first = self._first
        for at in range(stale, len(self._free)):
            ahead = self._free[at] - first
            if self._usable(ahead, now, stale):
                return first + ahead, self._opens(ahead, now, stale)
        return first + self._line, self._opens(self._line, now, stale)

    def _sit(self, seat: Seat, index: int, comes: float) -> None:
        """Give somebody a place, who is expected there at `comes`."""
        self._torn = True
        seat.index, seat.comes = index, comes
        self._alarm = min(self._alarm, comes + self.lease)
        self._held[index] = seat
        if index == self._first + self._line:
            self._line += 1
        else:
            self._free.remove(index)
        self._torn = False

    def _pass_from(self, seat: Seat, now: float, stale: int) -> None:
        """Let `seat` pass in the first place that is not stale, and give whoever had that one the seat's place instead."""
        self._torn = True
        for _ in range(stale):
            self._lapse()
        del self._free[:stale]
        self._line -= stale
        self._unused += stale
        first, index = self._first, seat.index
        self._pass(now)
        self._line -= 1
        del self._held[index]
        seat.index = _NONE
        late = self._held.pop(first, None)
        if late is not None:
            late.index = index
            self._held[index] = late
        elif index != first:
            self._free.pop(0)
            self._release(index)
        self._torn = False

    def _tidy(self, now: float) -> None:
        """Take back what was left, and the places of those who do not come."""
        if self._torn:
            self._mend()
        while self._gone:
            self._lose(self._gone.popleft())
        if now > self._alarm:
            for seat in list(self._held.values()):
                if now > seat.comes + self.lease:
                    self._lose(seat)
                    self.lapsed += 1
            self._alarm = min((seat.comes for seat in self._held.values()), default=inf) + self.lease

    def _mend(self) -> None:
        """Make a line of the places that are held, where an interruption in the midst of a decision has left a shadow of one."""
        first = self._first
        self._held = {seat.index: seat for seat in self._held.values() if seat.index >= first}
        self._line = max(self._held, default=first - 1) + 1 - first
        self._free = [index for index in range(first, first + self._line) if index not in self._held]
        self._torn = False

    def _lose(self, seat: Seat) -> None:
        if self._held.get(seat.index) is seat:
            self._torn = True
            index, seat.index = seat.index, _NONE
            del self._held[index]
            self._release(index)
            self._torn = False

    def _release(self, index: int) -> None:
        """Free a place; free ones at the end of the line are taken back, and it is as if nobody had ever had them."""
        insort(self._free, index)
        while self._free and self._free[-1] == self._first + self._line - 1:
            self._free.pop()
            self._line -= 1
