"""Who may be at work now, and who is next? A number of places, and a queue in strict order."""

from __future__ import annotations

from collections import OrderedDict
from enum import StrEnum
from math import inf
from typing import Any, final


class Entry(StrEnum):
    """What a caller who asks is told, where it is not told to wait."""

    IN = "in"
    FULL = "full"  # no place, and none in the queue either
    LATE = "late"  # no place came free in time
    CLOSED = "closed"  # this bulkhead is no longer in use: ask its heir


@final
class Ticket:
    """One caller: when it began to wait and until when it will, and once it is let in, what it holds."""

    __slots__ = ("deadline", "number", "started", "until", "waiter")

    def __init__(self, now: float, max_wait: float, deadline: float = inf) -> None:
        self.started: float = now
        self.deadline: float = deadline
        self.until: float = min(now + max_wait, deadline)
        self.number: int = 0  # its place in the order of all who ever stood in the queue; 0 for one who never did
        self.waiter: Any = None  # by which the shell wakes it


@final
class BulkheadCore:
    """Let at most `limit` callers be at work, and at most `queue` wait, first come, first served.

    Whoever waited is *granted* a place and must come for it within the lease: the place of one who cannot (its loop was
    stopped) goes to the next. A grant is made before the waiter's time is over, or not at all.

    Places are members of sets, not counts: to take one back twice, or one that was never given, changes nothing, so an
    interrupted step can simply be done again.

    A core: told the time. Not thread-safe: the shell calls it under its lock.
    """

    __slots__ = ("_last", "closed", "full", "granted", "inside", "lapsed", "late", "lease", "limit", "news", "queue", "waited", "waiting")

    def __init__(self, *, limit: int, queue: int, lease: float) -> None:
        self.limit: int = limit
        self.queue: int = queue
        self.lease: float = lease
        self.closed: bool = False
        self._last = 0
        self.full: int = 0  # how often the queue was full; this and the next three count since the start
        self.lapsed: int = 0
        self.late: int = 0
        self.waited: int = 0
        self.begin_anew()

    def begin_anew(self) -> None:
        """Let nobody be inside or wait: a hold or a ticket of before is worth nothing from here on."""
        self.inside: set[object] = set()  # who is at work
        self.granted: dict[Ticket, float] = {}  # who was let in and has not come yet, and when the grant lapses; the earliest first
        self.waiting: OrderedDict[Ticket, None] = OrderedDict()
        self.news: list[Ticket] = []  # who was granted a place since the shell last took them away, to be woken

    @property
    def free(self) -> int:
        """How many may be let in now; less than none after the limit was lowered."""
        return self.limit - len(self.inside) - len(self.granted)

    @property
    def idle(self) -> bool:
        """Whether nobody is at work, let in or waiting."""
        return not (self.inside or self.granted or self.waiting)

    def take(self, hold: object, now: float) -> bool:
        """Let `hold` in, if there is a place for it at once."""
        self._settle(now)
        if self.free <= 0:  # and wherever somebody waits: whoever waits has the first place that comes free
            return False
        self.inside.add(hold)
        return True

    def ask(self, ticket: Ticket, now: float) -> float | Entry:
        """Return what holds for this caller, at first and at each waking: in, refused, or when to ask again if nobody wakes it."""
        self._settle(now)
        if self.closed:
            return Entry.CLOSED
        new = not ticket.number
        if ticket in self.granted or (ticket not in self.waiting and self.free > 0 and (new or now < ticket.until)):
            self.waited += not new
            self.inside.add(ticket)
            self.granted.pop(ticket, None)
            return Entry.IN
        if now >= ticket.until and not new:
            self.waiting.pop(ticket, None)
            self.late += 1
            return Entry.LATE
        if ticket not in self.waiting:
            if len(self.waiting) >= self.queue:
                self.full += 1
                return Entry.FULL
            self._stand(ticket)
        # A grant made later than now lapses later than a lease from now: so whoever looks by then misses none.
        lapse = next(iter(self.granted.values()), inf)
        return min(ticket.until, lapse, now + self.lease)

    def leave(self, now: float, *holds: object) -> None:
        """Take back whatever these have: a place at work, one they were let in to, or one in the queue."""
        for hold in holds:
            self.inside.discard(hold)
            if isinstance(hold, Ticket):
                self.granted.pop(hold, None)
                self.waiting.pop(hold, None)
        self._settle(now)

    def resize(self, limit: int, now: float) -> None:
        """Let at most `limit` be at work: more are let in at once, in order; too many go on, and nobody follows until enough have left."""
        if not self.closed:
            self.limit = limit
        self._settle(now)

    def close(self) -> bool:
        """Let nobody in any more, if nobody is there; return whether it is so."""
        if self.idle and not self.closed:
            self.closed, self.limit = True, 0
        return self.closed

    def rebase(self, was: float, now: float) -> None:
        """Go on by a clock that says `now` where the old one says `was`."""
        shift = now - was
        for ticket in (*self.waiting, *self.granted):
            ticket.started += shift
            ticket.until += shift
            ticket.deadline += shift
        self.granted = {ticket: lapse + shift for ticket, lapse in self.granted.items()}

    def _settle(self, now: float) -> None:
        """Take back grants that have lapsed, forget waiters whose time is over, and hand out what places there are, in order."""
        while self.granted:
            ticket, lapse = next(iter(self.granted.items()))
            if now < lapse:
                break
            del self.granted[ticket]
            self.lapsed += 1
        while self.waiting:
            ticket = next(iter(self.waiting))
            if now < ticket.until:
                if self.free <= 0:
                    return
                self.granted[ticket] = now + self.lease
                self.news.append(ticket)
            del self.waiting[ticket]  # granted, or too late: then it is told so when it asks

    def _stand(self, ticket: Ticket) -> None:
        """Put a caller into the queue: a new one at the end, one whose grant has lapsed where it stood, before all who came later."""
        self.waiting[ticket] = None
        if not ticket.number:
            self._last += 1
            ticket.number = self._last
            return
        for other in [other for other in self.waiting if other.number > ticket.number]:
            self.waiting.move_to_end(other)
