"""The inbox in memory: the reference that others are held against, for tests and for services of one process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.clock import obey, ruling_clock
from finresilience.durable.errors import StoreFullError
from finresilience.durable.memory_table import StoreLock, Table, checked_transaction
from finresilience.durable.memory_transaction import MemoryTransaction
from finresilience.durable.records import MAX_BATCH, MAX_REASON, text_of
from finresilience.durable.seen import UNFINISHED, Counted, Duplicate, Fresh, Parked, ParkedMessage, Seen, Stale, Underway

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from finresilience.clock import Clock

Place: TypeAlias = tuple[str, str, str]  # tenant, group, and a message or an entity

A_MOMENT: Final = 0.1  # seconds after which another's transaction will probably have ended
FARTHEST: Final = 2**63 - 1  # what a bigint holds


@dataclass(frozen=True, slots=True)
class Failures:
    """How often a message failed, since when, and why last."""

    number: int
    first: float
    last: float
    reason: str
    delivery_id: str
    parked: bool = False


class MemoryInboxStore:
    """Markers, failures and high-water marks in dicts under a lock. Serves threads; `AsyncMemoryInboxStore` serves asyncio and trio.

    Args:
        clock: what ages are measured by; the ruling clock by default.
        park_after: after how many failures a message is parked.
        at_most: how many markers, and how many high-water marks, it holds; one more is a `StoreFullError`. Purge it.

    Raises:
        ConfigurationError: if an argument cannot work.
    """

    def __init__(self, *, clock: Clock | None = None, park_after: int = 5, at_most: int = 1_000_000) -> None:
        self._park_after = positive_count("park_after", park_after, most=1000)
        self._at_most = positive_count("at_most", at_most)
        self._lock = StoreLock()
        self._markers: Table[Place, float] = Table(self._lock)
        self._marks: Table[Place, int] = Table(self._lock)
        self._failures: Table[Place, Failures] = Table(self._lock)
        self._own_clock = clock
        self._clock = ruling_clock() if clock is None else clock
        obey(self)

    def told_by(self, clock: Clock, /) -> None:
        """Follow the ruling clock. Internal: clocks call it."""
        if self._own_clock is None:
            self._clock = clock

    @property
    def park_after(self) -> int:
        """After how many failures a message is parked."""
        return self._park_after

    def transaction(self) -> MemoryTransaction:
        """Return a new transaction for `once`: `with store.transaction() as mine:`, or `async with`."""
        return MemoryTransaction()

    def once(
        self,
        within: MemoryTransaction,
        *,
        group: str,
        message_id: str,
        tenant: str = "",
        delivery_id: str = "",
        entity: str | None = None,
        position: int | None = None,
    ) -> Seen:
        """Insert the marker in the caller's transaction, and tell whether the message is to be handled in it."""
        at, mark = _place(tenant, group, message_id), _mark(tenant, group, entity, position)
        text_of("delivery_id", delivery_id, empty=True)
        mine = checked_transaction(within)
        if mine is None:
            refuse("within", within, "the transaction of the effect: a marker of its own would be true without it")
        with self._lock:
            told = self._known(at, mark, position, mine)
            if told is not None:
                return told
            self._insert(at, mark, position, mine)
            failures = self._failures.get(at)
            return Fresh(0 if failures is None else failures.number)

    def _known(self, at: Place, mark: Place | None, position: int | None, mine: MemoryTransaction) -> Seen | None:
        if self._markers.is_held(at, mine) or (mark is not None and self._marks.is_held(mark, mine)):
            return Underway(A_MOMENT)
        marked = self._markers.get(at, mine)
        if marked is not None:
            return Duplicate(self._clock.monotonic() - marked)
        failures = self._failures.get(at)
        if failures is not None and failures.parked:
            return Parked(failures.number)
        highest = None if mark is None else self._marks.get(mark, mine)
        return None if highest is None or position is None or highest < position else Stale(highest)

    def _insert(self, at: Place, mark: Place | None, position: int | None, mine: MemoryTransaction) -> None:
        new_mark = mark is not None and self._marks.get(mark, mine) is None
        if len(self._markers) >= self._at_most or (new_mark and len(self._marks) >= self._at_most):
            raise StoreFullError("markers or high-water marks", self._at_most)
        self._markers.put(at, self._clock.monotonic(), mine)
        if mark is not None:
            self._marks.put(mark, position, mine)

    def failed(self, *, group: str, message_id: str, tenant: str = "", reason: str = "", delivery_id: str = "") -> Counted:
        """Count one failure, in a transaction of the store's own."""
        at = _place(tenant, group, message_id)
        text_of("reason", reason, most=MAX_REASON, empty=True)
        text_of("delivery_id", delivery_id, empty=True)
        with self._lock:
            known = self._countable(at)
            if isinstance(known, Counted):
                return known
            number = known.number + 1
            row = replace(known, number=number, reason=reason, delivery_id=delivery_id, parked=number >= self._park_after)
            return self._counted(at, row)

    def begun(self, *, group: str, message_id: str, tenant: str = "", delivery_id: str = "") -> Counted:
        """Count a run before it is made, as one that failed; it parks only what had failed `park_after` times before."""
        at = _place(tenant, group, message_id)
        text_of("delivery_id", delivery_id, empty=True)
        with self._lock:
            known = self._countable(at)
            if isinstance(known, Counted):
                return known
            if known.number >= self._park_after:
                return self._counted(at, replace(known, reason=UNFINISHED, delivery_id=delivery_id, parked=True))
            return self._counted(at, replace(known, number=known.number + 1))

    def _countable(self, at: Place) -> Failures | Counted:
        """Return the failures of a message as of now, no failures if it is new; or the answer, where it was handled or is parked."""
        if self._markers.get(at) is not None:
            return Counted(0, parked=False)
        now, known = self._clock.monotonic(), self._failures.get(at)
        if known is not None:
            return Counted(known.number, parked=True) if known.parked else replace(known, last=now)
        if len(self._failures) >= self._at_most:
            raise StoreFullError("failures", self._at_most)
        return Failures(0, now, now, "", "")

    def forgiven(self, *, group: str, message_id: str, tenant: str = "") -> Counted:
        """Take one failure back that was nobody's."""
        at = _place(tenant, group, message_id)
        with self._lock:
            known = self._failures.get(at)
            if known is None or self._markers.get(at) is not None:
                return Counted(0, parked=False)
            return self._counted(at, replace(known, number=known.number - 1, parked=False))

    def _counted(self, at: Place, row: Failures) -> Counted:
        self._failures.put(at, row if row.number else None)
        return Counted(row.number, parked=row.parked)

    def parked(self, *, limit: int = 100) -> Sequence[ParkedMessage]:
        """Return parked messages, the longest parked first."""
        positive_count("limit", limit, most=MAX_BATCH)
        with self._lock:
            now = self._clock.monotonic()
            found = [_told(at, row, now) for at, row in self._failures.all() if self._is_parked(at, row)]
        return sorted(found, key=lambda message: -message.idle)[:limit]

    def _is_parked(self, at: Place, row: Failures) -> bool:
        return row.parked and self._markers.get(at) is None

    def unpark(self, *, group: str, message_id: str, tenant: str = "") -> bool:
        """Let a parked message be handled when it is delivered again; return whether it was parked."""
        at = _place(tenant, group, message_id)
        with self._lock:
            known = self._failures.get(at)
            if known is None or not self._is_parked(at, known):
                return False
            self._failures.put(at, None)
            return True

    def high_water(self, *, group: str, entity: str, tenant: str = "") -> int | None:
        """Return the highest position that was handled of an entity, or None."""
        at = _place(tenant, group, entity, "entity")
        with self._lock:
            return self._marks.get(at)

    def purge(self, *, older_than: float | timedelta, limit: int = 1000) -> int:
        """Forget old markers, and old failures of what is not parked."""
        age = seconds_of("older_than", older_than, zero=True)
        positive_count("limit", limit, most=MAX_BATCH)
        with self._lock:
            before = self._clock.monotonic() - age
            old = [at for at, row in self._failures.all() if row.last <= before and not self._is_parked(at, row)]
            for at in old[:limit]:
                self._failures.put(at, None)
            markers = [at for at, marked in self._markers.all() if marked <= before][: limit - len(old[:limit])]
            for at in markers:
                self._markers.put(at, None)
        return len(old[:limit]) + len(markers)


def _place(tenant: str, group: str, what: str, name: str = "message_id") -> Place:
    return text_of("tenant", tenant, empty=True), text_of("group", group), text_of(name, what)


def _mark(tenant: str, group: str, entity: str | None, position: int | None) -> Place | None:
    if (entity is None) is not (position is None):
        refuse(
            "entity" if position is None else "position", entity if position is None else position, "both entity= and position=, or neither"
        )
    if entity is None:
        return None
    positive_count("position", position, least=0, most=FARTHEST)
    return _place(tenant, group, entity, "entity")


def _told(at: Place, row: Failures, now: float) -> ParkedMessage:
    return ParkedMessage(
        tenant=at[0],
        group=at[1],
        message_id=at[2],
        delivery_id=row.delivery_id,
        failures=row.number,
        reason=row.reason,
        age=now - row.first,
        idle=now - row.last,
    )
