"""Which threads wait for virtual time, and which of them would go on by themselves? Asked before each jump.

A thread that waits on the clock for a signal lends its hold, unless the signal is set, or a thread that was handed the signal
is still at work: that one will set it, and time must not pass merely because it is slow.
"""

from __future__ import annotations

import threading
from gc import get_referents
from heapq import heappop, heappush
from math import inf
from threading import Event, get_ident
from typing import TYPE_CHECKING, Any, Final, Protocol, final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from finresilience.testing.errands import Errand

GLANCE: Final = 0.001  # real seconds between two looks at a signal that somebody else may set


class Signal(Protocol):
    """What a thread may wait for: a `threading.Event`, or whatever waits and tells as one does. Internal."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float, /) -> bool: ...


@final
class Sleeper:
    """A thread that sleeps on a virtual clock, perhaps until a signal. Internal."""

    __slots__ = ("_asleep", "errand", "over", "signal", "stranded", "thread", "woken")

    def __init__(self, errand: Errand | None, asleep: dict[int, Sleeper], signal: Signal | None = None) -> None:
        self.errand: Errand | None = errand
        self.signal: Signal | None = signal
        self.thread: int = get_ident()
        self.over: bool = False
        self.stranded: bool = False
        self.woken: Event = Event()
        self._asleep = asleep

    def idle(self) -> bool:
        """Return whether nothing but time, or somebody else, can wake it."""
        signal = self.signal
        return signal is None or not (signal.is_set() or any(self._at_work(thread) for thread in bearers(signal)))

    def lends(self) -> bool:
        """Return whether its hold is there to be lent."""
        return self.errand is not None and self.errand.waited_for() and self.idle()

    def _at_work(self, thread: threading.Thread) -> bool:
        sleeper = self._asleep.get(thread.ident or 0)
        return sleeper is None or not sleeper.idle()


def bearers(signal: Signal) -> Iterator[threading.Thread]:
    """Return the living threads that were handed `signal`, by itself or in an object, so that they may set it."""
    for thread in threading.enumerate():
        whole: Any = thread
        handed = [*getattr(whole, "_args", ()), *getattr(whole, "_kwargs", {}).values()]  # both are gone once its function has ended
        if any(thing is signal or any(part is signal for part in get_referents(thing)) for thing in handed):
            yield thread


@final
class Sleepers:
    """The threads that wait on one clock, by the time at which they will wake. The clock's lock guards it. Internal."""

    __slots__ = ("_count", "_heap", "asleep")

    def __init__(self) -> None:
        self.asleep: dict[int, Sleeper] = {}
        self._heap: list[tuple[float, int, Sleeper]] = []
        self._count = 0

    def __bool__(self) -> bool:
        return bool(self.asleep)

    def add(self, sleeper: Sleeper, until: float) -> None:
        self.asleep[sleeper.thread] = sleeper
        if until < inf:
            self._count += 1
            heappush(self._heap, (until, self._count, sleeper))

    def remove(self, sleeper: Sleeper) -> None:
        sleeper.over = True
        if self.asleep.get(sleeper.thread) is sleeper:
            del self.asleep[sleeper.thread]

    def next(self) -> float:
        """Return when the first of them wakes, infinite if none does."""
        while self._heap and self._heap[0][2].over:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else inf

    def due(self, when: float) -> Iterator[Sleeper]:
        """Take out, one by one, those whose time has come."""
        while self.next() <= when:
            sleeper = heappop(self._heap)[2]
            self.remove(sleeper)
            yield sleeper

    def clear(self) -> list[Sleeper]:
        """Take all of them out."""
        left = list(self.asleep.values())
        for sleeper in left:
            self.remove(sleeper)
        self._heap.clear()
        return left
