"""The bulkhead: one limit on calls at work, for threads, asyncio loops and trio runs at the same time.

While nobody waits, a place is taken and given back without the lock, by one step each of the set of those inside (a set's steps
are atomic: under the interpreter's lock, or under the set's own where there is none). Why that is right:

- Whoever takes a place puts itself into the set *first* and looks at its size *then*. Of any who are inside at once, the last to
  get into the set sees all others; so it is never let in as one too many. Whoever sees too many goes out again, and asks under the lock.
- A decision under the lock first says that it is not `calm`, then does a step of the set itself, and then counts. A taker or leaver
  does its step of the set first, and then looks whether it is calm. Steps of one set have an order. If ours came before the decision's,
  the decision counts it. If it came after, we see that it is not calm: then a taker goes out again and both go through the lock,
  where whoever waits is let in. Or we see that it is calm again, and all that was decided. So no place is given twice, and none
  stands empty while somebody waits.
- A newcomer who comes after somebody began to wait sees that it is not calm: nobody is overtaken.
"""

from __future__ import annotations

from math import inf
from threading import RLock
from typing import TYPE_CHECKING, TypeVar, final

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.cores.bulkhead import BulkheadCore, Entry, Ticket
from finresilience.errors import BulkheadFullError, DeadlineExceededError
from finresilience.events import BulkheadResized, PlaceLapsed, log_event
from finresilience.policies.bulkhead_guard import BulkheadGuard
from finresilience.policies.guarding import Guarding
from finresilience.policies.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from datetime import timedelta

    from finresilience.clock import Clock
    from finresilience.events import Listener
    from finresilience.policies.partitions import Partitions

T = TypeVar("T")


class ClosedError(Exception):
    """This partition is no longer in use, so another stands for its key. Internal: never seen outside this room."""


@final
class Bulkhead(Guarding):
    """Let at most `limit` calls be at work at once, so that one slow provider cannot take every thread and connection.

    Whoever finds it full waits in a queue in strict order, never longer than `max_wait` or the call's deadline, or is refused
    at once. One limit holds for all threads, asyncio loops and trio runs of this process.

    A place is handed to the next in the queue at the moment it comes free. Whoever is cancelled at that very moment passes it
    on, and so does, after `lease`, one who cannot come for it because its loop was stopped. In a forked child nobody is inside.

    Args:
        limit: how many calls may be at work at once, in this process.
        queue: how many may wait; with none, whoever finds it full is refused at once.
        max_wait: seconds to wait at most; needed with a queue.
        name: shown in errors and events.
        lease: seconds in which a caller that was let in must take its place. Longer than its loop is ever busy in one piece.
        clock: tells the time.
        listeners: hear every event.

    Raises:
        ConfigurationError: if an argument cannot work; the message names it and the way out.
    """

    __slots__ = ("_calm", "_deciding", "_door", "_later", "core", "lease", "max_wait", "queue")
    role = "Bulkhead"

    def __init__(
        self,
        limit: int,
        *,
        queue: int = 0,
        max_wait: float | timedelta | None = None,
        name: str = "bulkhead",
        lease: float | timedelta = 1.0,
        clock: Clock | None = None,
        listeners: Iterable[Listener] = (log_event,),
    ) -> None:
        super().__init__(name, clock=clock, listeners=listeners)
        limit = positive_count("limit", limit)
        self.queue: int = positive_count("queue", queue, least=0)
        if (max_wait is None) == (self.queue > 0):
            refuse("max_wait", max_wait, "seconds to wait where there is a queue (queue=50, max_wait=0.5), and none where nobody may wait")
        self.max_wait: float = 0.0 if max_wait is None else seconds_of("max_wait", max_wait)
        self.lease: float = seconds_of("lease", lease)
        self._begin(limit)

    def _begin(self, limit: int) -> None:
        self._own_plan = None
        self.core: BulkheadCore = BulkheadCore(limit=limit, queue=self.queue, lease=self.lease)
        # Not `_lock`: the collector may close a coroutine, and so give a place back, in the midst of a decision of the same thread.
        self._door = RLock()
        self._deciding = False
        self._later: list[Callable[[BulkheadCore, float], object]] = []
        self._calm = True  # nobody waits or is on its way in, and no decision is under way

    def sibling(self, name: str, clock: Clock | None) -> Bulkhead:
        """Return an empty bulkhead of the same settings. Internal: for families."""
        other = Bulkhead.__new__(Bulkhead)
        Guarding.__init__(other, name, clock=clock, listeners=self._publish.listeners)
        other.queue, other.max_wait, other.lease = self.queue, self.max_wait, self.lease
        other._begin(self.core.limit)
        return other

    def _planned(self) -> Plan:
        return Plan(self, bulkhead=self, speaks=False)

    def forked(self) -> None:
        """Begin anew in a forked child, where none of those inside exists."""
        core: BulkheadCore | None = getattr(self, "core", None)
        if core is not None:  # another thread of the parent may just have been making us
            self._door = RLock()
            self._deciding, self._later, self._calm = False, [], True
            core.begin_anew()

    def _hear(self, clock: Clock) -> None:
        core: BulkheadCore | None = getattr(self, "core", None)
        if core is None or clock is self._clock:
            super()._hear(clock)
            return
        with self._door:
            was = self._now()
            super()._hear(clock)
            core.rebase(was, self._now())

    # --- the gate: used by calls and guards ------------------------------------------------------------------------

    def take(self) -> object:
        """Let the caller in at once and return what it holds, or return None, having claimed nothing, if it would have to wait."""
        core, hold = self.core, object()
        inside = core.inside
        if self._calm and len(inside) >= core.limit:
            return None
        try:
            inside.add(hold)
            if self._calm and len(inside) <= core.limit:
                return hold
            inside.discard(hold)
            return hold if self._decided(_taking(hold), otherwise=False) else None
        except BaseException:  # interrupted, perhaps with the place in hand
            self.leave(hold)
            raise

    def enter(self, deadline: float = inf) -> object:
        """Wait for a place, never longer than `max_wait` and never past `deadline` (monotonic), and return what the caller holds.

        Raises:
            BulkheadFullError: if no place came free in time, or the queue was full; nothing was claimed.
            DeadlineExceededError: likewise, where the deadline was shorter than `max_wait`.
        """
        ticket = self._ticket(deadline)
        try:
            if self._ask(ticket) is not None:
                from finresilience.policies.waiting import ThreadWaiter

                ticket.waiter = waiter = ThreadWaiter()
                while (again := self._ask(ticket)) is not None:  # also before the first wait: nobody could wake us until now
                    waiter.sleep(self._clock, again)
        except BaseException:
            self.leave(ticket)
            raise
        ticket.waiter = None
        return ticket

    async def aenter(self, deadline: float = inf) -> object:
        """Wait for a place as `enter` does, without blocking the thread. Cancelled, the caller has claimed nothing."""
        ticket = self._ticket(deadline)
        try:
            if self._ask(ticket) is not None:
                from finresilience.policies.waiting import waiter_here

                ticket.waiter = waiter = waiter_here()
                while (again := self._ask(ticket)) is not None:
                    await waiter.sleep(self._clock, again)
        except BaseException:
            self.leave(ticket)
            raise
        ticket.waiter = None
        return ticket

    def leave(self, hold: object) -> None:
        """Take back a place, and let the next in. What was taken back before, or is from before a fork, changes nothing."""
        try:
            self.core.inside.discard(hold)
            if not self._calm:
                self._left(hold)
        except BaseException:  # interrupted, perhaps before anything was done, or before anybody was let in
            self._left(hold)
            raise

    def _ticket(self, deadline: float) -> Ticket:
        now = self._now()
        if now >= deadline:
            raise DeadlineExceededError(self.name, now - deadline)
        return Ticket(now, self.max_wait, deadline)

    def _ask(self, ticket: Ticket) -> float | None:
        """Return None once the caller is in, or when to ask again if nobody wakes it; raise where it is refused."""
        otherwise: float | Entry = Entry.FULL
        answer = self._decided(lambda core, now: core.ask(ticket, now), otherwise=otherwise)
        if isinstance(answer, float):
            return answer
        now = self._now()
        if now >= ticket.deadline:  # let in or not: it has no time left to do anything there
            raise DeadlineExceededError(self.name, now - ticket.deadline)
        if answer is Entry.IN:
            return None
        if answer is Entry.CLOSED:
            raise ClosedError
        stood = now - ticket.started if ticket.number else 0.0
        raise BulkheadFullError(self.name, self.core.limit, stood)

    def _left(self, *holds: object) -> None:
        self._decided(_leaving(holds), otherwise=None, can_wait=True)

    # --- decisions -------------------------------------------------------------------------------------------------

    def _decided(self, deed: Callable[[BulkheadCore, float], T], *, otherwise: T, can_wait: bool = False) -> T:
        """Let the core decide, and wake whom it let in. In the midst of another decision of this thread, answer `otherwise`."""
        answer, let_in, lapsed = self._decide(deed, otherwise, can_wait=can_wait)
        while let_in:
            lost = tuple(ticket for ticket in let_in if not _woken(ticket))
            if not lost:
                break
            _, let_in, more = self._decide(_leaving(lost), None, can_wait=True)
            lapsed += more
        for _ in range(lapsed):
            self._publish(PlaceLapsed(name=self.name, lease=self.lease))
        return answer

    def _decide(self, deed: Callable[[BulkheadCore, float], T], otherwise: T, *, can_wait: bool) -> tuple[T, list[Ticket], int]:
        core = self.core
        with self._door:
            if self._deciding:  # the collector or a signal called us
                if can_wait:
                    self._later.append(deed)
                return otherwise, [], 0
            before = core.lapsed
            try:
                self._deciding, self._calm = True, False
                core.inside.discard(None)  # changes nothing, but stands in the order of the set's steps, see above
                now = self._now()
                answer = deed(core, now)
                while self._later:
                    self._later.pop()(core, now)
            finally:
                self._deciding = False
                self._calm = not (core.waiting or core.granted or self._later)
            let_in, core.news = core.news, []
            return answer, let_in, core.lapsed - before

    # --- a person decides ------------------------------------------------------------------------------------------

    @property
    def limit(self) -> int:
        """How many calls may be at work at once."""
        return self.core.limit

    def resize(self, limit: int) -> None:
        """Let at most `limit` calls be at work from now on.

        Raised, those who wait come in at once, in order. Lowered, nobody is interrupted, and nobody follows until enough have left.
        """
        limit = positive_count("limit", limit)
        before = self._decided(lambda core, now: _resized(core, limit, now), otherwise=limit, can_wait=True)
        if before != limit == self.core.limit:  # a closed one stays as it is
            self._publish(BulkheadResized(name=self.name, before=before, after=limit))

    def close(self) -> bool:
        """Let nobody in any more, if nobody is there; return whether it is so. Internal: for families."""
        return self._decided(lambda core, _: core.close(), otherwise=False)

    def guard(self) -> BulkheadGuard:
        """Return a permit for one block: `with bulkhead.guard():` or `async with bulkhead.guard():`.

        Entering waits and refuses as a call does, within the deadline of the call around it.
        """
        return BulkheadGuard(self, self)

    def per(self, key: Callable[..., Hashable], *, at_most: int, total: Bulkhead | int | None = None) -> Partitions:
        """Return a policy that keeps one such bulkhead for each `key(*args, **kwargs)` of its calls.

        Args:
            key: from the call's arguments to whoever shall have a limit of its own, such as the tenant.
            at_most: how many are kept; the least recently used one in which nobody is makes room. If all are in use, the call is refused.
            total: a bulkhead for all of them together, or the limit of one with the same queue.
        """
        from finresilience.policies.partitions import Partitions

        return Partitions(self, key, at_most=at_most, total=total)

    def statistics(self) -> dict[str, object]:
        """Return who is there now, and what has been since the start."""
        with self._door:
            core = self.core
            return {
                "name": self.name,
                "limit": core.limit,
                "at_work": len(core.inside),
                "let_in": len(core.granted),
                "waiting": len(core.waiting),
                "waited": core.waited,
                "refused_full": core.full,
                "refused_late": core.late,
                "lapsed": core.lapsed,
                "listener_failures": self._publish.failures,
            }


def _taking(hold: object) -> Callable[[BulkheadCore, float], bool]:
    return lambda core, now: core.take(hold, now)


def _woken(ticket: Ticket) -> bool:
    """Wake whoever was let in; False where it never can come. One that came by itself meanwhile needs nobody."""
    waiter = ticket.waiter  # once: it lets go of it at any moment
    return waiter is None or waiter.wake()


def _leaving(holds: tuple[object, ...]) -> Callable[[BulkheadCore, float], None]:
    return lambda core, now: core.leave(now, *holds)


def _resized(core: BulkheadCore, limit: int, now: float) -> int:
    before = core.limit
    core.resize(limit, now)
    return before
