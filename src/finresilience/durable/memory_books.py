"""What a memory outbox remembers, and what a person may ask of it: dead letters, replays, cleaning up, numbers. Internal."""

from __future__ import annotations

from itertools import count, islice
from typing import TYPE_CHECKING, Final

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.clock import ruling_clock
from finresilience.durable.memory_rows import NOBODY, Partition, Row
from finresilience.durable.memory_table import StoreLock
from finresilience.durable.outbox import MOST_AT_ONCE, DeadLetter, OutboxStatistics, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from finresilience.clock import Clock

_MOST_PARTITIONS: Final = 1024


def _luck() -> int:
    from secrets import randbits  # not from a seed: two processes must never make one id

    return randbits(74)


class OutboxBooks:
    """The part of a `MemoryOutbox` that no relay touches. Internal."""

    def __init__(
        self, *, partitions: int = 16, at_most: int = 1_000_000, clock: Clock | None = None, chance: Callable[[], int] = _luck
    ) -> None:
        self._parts: list[Partition] = [Partition(n) for n in range(positive_count("partitions", partitions, most=_MOST_PARTITIONS))]
        self._at_most = positive_count("at_most", at_most)
        self._clock = clock
        self._chance = chance
        self._lock = StoreLock()
        self._seqs = count(1)
        self._ids: set[UUID] = set()
        self._last: dict[tuple[str | None, str], int] = {}  # the highest seq that was committed, of each key
        self._open: dict[tuple[str | None, str], int] = {}  # how many rows are added and not yet committed, of each key
        self._published: dict[int, Row] = {}  # in the order in which they were published
        self._dead: dict[UUID, tuple[DeadLetter, Row]] = {}
        self._owners: dict[str, float] = {}  # until when each relay is thought to live
        self._fenced = 0
        self._takeovers = 0

    def dead_letters(self, *, limit: int = 100) -> Sequence[DeadLetter]:
        """Return the dead letters that were buried first."""
        positive_count("limit", limit, most=MOST_AT_ONCE)
        with self._lock:
            return [letter for letter, _ in islice(self._dead.values(), limit)]

    def revive(self, message_id: UUID, /) -> bool:
        """Put a dead letter back in its old place, as if it had never failed; return whether there was one."""
        now = self._time().monotonic()
        with self._lock:
            letter, row = self._dead.pop(message_id, (None, None))
            if letter is None or row is None:
                return False
            row.begin_anew(now)
            row.suspect = letter.reason is Reason.CRASHED
            self._parts[row.part].put(row)
            return True

    def discard(self, message_id: UUID, /) -> bool:
        """Drop a dead letter for good, so that its key goes on; return whether there was one."""
        with self._lock:
            gone = self._dead.pop(message_id, None)
            if gone is not None:
                self._ids.discard(message_id)
            return gone is not None

    def replay(self, *, since: datetime, until: datetime, limit: int = 1000) -> int:
        """Publish again what was published from `since` to before `until`; return how many, at most `limit`: ask until it is 0."""
        for name, moment in (("since", since), ("until", until)):
            if getattr(moment, "tzinfo", None) is None:
                refuse(name, moment, "an aware datetime, such as datetime(2026, 1, 1, tzinfo=UTC)")
        positive_count("limit", limit, most=MOST_AT_ONCE)
        now = self._time().monotonic()
        with self._lock:
            wanted = (row for row in self._published.values() if row.published_at is not None and since <= row.published_at < until)
            again = sorted(wanted, key=lambda row: row.seq)[:limit]
            for row in again:
                del self._published[row.seq]
                row.begin_anew(now)
                self._parts[row.part].put(row)
            return len(again)

    def purge(self, *, older_than: float | timedelta, limit: int = 1000) -> int:
        """Forget rows published longer ago; return how many, at most `limit`. What is not published is never forgotten."""
        age = seconds_of("older_than", older_than, zero=True)
        positive_count("limit", limit, most=MOST_AT_ONCE)
        before = self._time().monotonic() - age
        with self._lock:
            old = (row for row in self._published.values() if row.published is not None and row.published < before)
            gone = list(islice(old, limit))
            for row in gone:
                del self._published[row.seq]
                self._ids.discard(row.told().id)
            return len(gone)

    def statistics(self) -> OutboxStatistics:
        """Return how things stand."""
        now = self._time().monotonic()
        with self._lock:
            rows = [row for part in self._parts for row in part]
            tenants = [row.message.tenant for row in rows]
            return OutboxStatistics(
                pending=len(rows),
                oldest_age=max((now - row.born for row in rows), default=0.0),
                by_partition={part.number: len(part) for part in self._parts if len(part)},
                by_tenant={tenant: tenants.count(tenant) for tenant in set(tenants)},
                attempts=sum(row.attempts for row in rows),
                suspects=sum(row.suspect for row in rows),
                published=len(self._published),
                dead=len(self._dead),
                parked_keys=len({letter.row.line for letter, _ in self._dead.values() if letter.parks}),
                owned=sum(part.owner != NOBODY and now < part.until for part in self._parts),
                fenced=self._fenced,
                takeovers=self._takeovers,
            )

    def _time(self) -> Clock:
        return self._clock or ruling_clock()
