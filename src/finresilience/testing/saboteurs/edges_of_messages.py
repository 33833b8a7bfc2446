"""Inboxes and outboxes that are broken where nobody looks: in ages, in whose row it is, and in what is not committed."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from finresilience._checks import seconds_of
from finresilience.durable.memory_inbox import MemoryInboxStore, Place
from finresilience.durable.memory_outbox import MemoryOutbox
from finresilience.durable.seen import Seen, Stale, Underway
from finresilience.testing.saboteurs import saboteur

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from finresilience.durable.memory_rows import Partition, Row
    from finresilience.durable.memory_transaction import MemoryTransaction
    from finresilience.durable.outbox import PartitionLease

INBOX = "InboxContract"
OUTBOX = "OutboxStoreContract"


@saboteur(INBOX, kills="test_a_transaction_sees_the_marks_that_it_raised")
class ForgetsItsOwnMarks(MemoryInboxStore):
    """Compares with what was committed only: in a batch, an earlier event is handled after a later one."""

    def _known(self, at: Place, mark: Place | None, position: int | None, mine: MemoryTransaction) -> Seen | None:
        told = super()._known(at, mark, position, mine)
        raised = None if mark is None else self._marks.get(mark)
        return None if isinstance(told, Stale) and (raised is None or position is None or raised < position) else told


@saboteur(INBOX, kills="test_a_mark_that_may_be_rolled_back_makes_nothing_stale")
class StaleBeforeTheCommit(MemoryInboxStore):
    """Calls an event stale because of one that is being handled: if that is rolled back, nobody handles either."""

    def _known(self, at: Place, mark: Place | None, position: int | None, mine: MemoryTransaction) -> Seen | None:
        told = super()._known(at, mark, position, mine)
        another = isinstance(told, Underway) and mark is not None and not self._markers.is_held(at, mine)
        return Stale(position or 0) if another else told


@saboteur(INBOX, kills="test_failures_that_go_on_are_not_forgotten")
class PurgesByTheFirstFailure(MemoryInboxStore):
    """Forgets failures by the age of the first: poison that comes once an hour is never parked."""

    def purge(self, *, older_than: float | timedelta, limit: int = 1000) -> int:
        before = self._clock.monotonic() - seconds_of("older_than", older_than, zero=True)
        old = [at for at, row in self._failures.all() if row.first <= before and row.number < self.park_after]
        for at in old[:limit]:
            self._failures.put(at, None)
        return len(old[:limit]) + super().purge(older_than=older_than, limit=limit)


@saboteur(INBOX, kills="test_who_lets_a_message_go_lets_no_other_go")
class LetsGoByMessage(MemoryInboxStore):
    """Lets go by the message's id alone: with it go those of other tenants and groups, which still are poison."""

    def unpark(self, *, group: str, message_id: str, tenant: str = "") -> bool:
        was_parked = super().unpark(group=group, message_id=message_id, tenant=tenant)
        for at, _ in self._failures.all():
            if at[2] == message_id:
                self._failures.put(at, None)
        return was_parked


@saboteur(OUTBOX, kills="test_cleanup_counts_from_the_publishing")
class CleansUpByBirth(MemoryOutbox):
    """Deletes what is published by when it was added: after an outage of a day, nothing can be replayed."""

    def purge(self, *, older_than: float | timedelta, limit: int = 1000) -> int:
        for row in self._published.values():
            row.published = row.born
        return super().purge(older_than=older_than, limit=limit)


@saboteur(OUTBOX, kills="test_a_lease_settles_rows_of_its_own_partition_only")
class SettlesWhereverItIs(MemoryOutbox):
    """Settles by `seq` under any lease that lives: a relay takes rows that it does not own."""

    def settle(self, lease: PartitionLease, published: Sequence[int], /) -> int:
        done = super().settle(lease, published)
        return done + sum(part.take(seq) is not None for part in self._parts for seq in published)


@saboteur(OUTBOX, kills="test_an_id_is_taken_for_as_long_as_it_is_kept")
class IdsOfThePendingOnly(MemoryOutbox):
    """Has a unique index on the pending rows only: an event whose writer asks again is told twice under one id."""

    def settle(self, lease: PartitionLease, published: Sequence[int], /) -> int:
        done = super().settle(lease, published)
        self._ids.clear()
        return done


@saboteur(OUTBOX, kills="test_a_long_queue_behind_one_that_waits_holds_back_no_other")
class LooksAtTheFirstFew(MemoryOutbox):
    """Takes the first fifty rows, and then drops those that wait: a long queue of one key starves all others."""

    def _due(self, part: Partition, now: float) -> Iterator[Row]:
        first = {row.seq for row in islice(iter(part), 50)}
        return (row for row in super()._due(part, now) if row.seq in first)
