"""Known-bad outboxes, each with the law of `OutboxStoreContract` that must kill it."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from finresilience.durable.memory_outbox import MemoryOutbox
from finresilience.durable.memory_rows import NOBODY
from finresilience.durable.messages import OutboxMessage
from finresilience.durable.outbox import Batch, Exhausted, FencedError, Reason
from finresilience.testing.saboteurs import saboteur

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta
    from uuid import UUID

    from finresilience.durable.memory_rows import Partition, Row
    from finresilience.durable.memory_transaction import MemoryTransaction
    from finresilience.durable.outbox import Failure, LeaseTerms, PartitionLease

CONTRACT: Final = "OutboxStoreContract"


@saboteur(CONTRACT, kills="test_what_is_rolled_back_is_never_published")
class RollbackPublishes(MemoryOutbox):
    """Writes past the transaction: a rollback does not take it back."""

    def rollback(self, rows: Sequence[Row]) -> None:
        """Let everybody see these rows all the same."""
        self.commit(rows)


@saboteur(CONTRACT, kills="test_a_row_is_seen_once_its_transaction_has_committed")
class SeenBeforeCommit(MemoryOutbox):
    """Hands out rows of a transaction that is still open."""

    def add(self, transaction: MemoryTransaction, message: OutboxMessage, /) -> UUID:
        """Write a message as if it were committed."""
        with self.transaction() as own:
            return super().add(own, message)


@saboteur(CONTRACT, kills="test_a_row_that_commits_late_is_not_skipped")
class SkipsLateCommits(MemoryOutbox):
    """Reads by a cursor, `seq > last`: a row that was added before and commits after it has passed is never seen."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self._cursor = [0] * self.partitions

    def settle(self, lease: PartitionLease, published: Sequence[int], /) -> int:
        """Move the cursor."""
        done = super().settle(lease, published)
        self._cursor[lease.part] = max([self._cursor[lease.part], *published])
        return done

    def _due(self, part: Partition, now: float) -> Iterator[Row]:
        return (row for row in super()._due(part, now) if row.seq > self._cursor[part.number])


@saboteur(CONTRACT, kills="test_of_two_open_transactions_the_first_to_commit_is_first")
class NoKeyLock(MemoryOutbox):
    """Takes a row's place when it is added, and locks nothing: two open transactions turn the order of a key round."""

    def _place(self, row: Row) -> None:
        super()._place(row)
        self._last.clear()


@saboteur(CONTRACT, kills="test_a_partition_has_one_owner")
class TwoOwners(MemoryOutbox):
    """Looks whether a partition has an owner, but not whether it is still alive: everybody gets it."""

    def _is_free(self, part: Partition, now: float) -> bool:
        return True


@saboteur(CONTRACT, kills="test_what_a_dead_relay_held_goes_to_another")
class NoLease(MemoryOutbox):
    """Marks a partition as owned, for ever: what its relay held when it died is stranded."""

    def _is_free(self, part: Partition, now: float) -> bool:
        return part.owner == NOBODY


@saboteur(CONTRACT, kills="test_a_stale_epoch_is_refused_loudly")
class SettlesById(MemoryOutbox):
    """Settles, retries and buries by id, whoever asks: a zombie takes the rows of its heir."""

    def _owned(self, lease: PartitionLease, doing: str, *, alive_at: float | None = None) -> Partition:
        return self._parts[lease.part]


@saboteur(CONTRACT, kills="test_a_stale_epoch_is_refused_loudly")
class FencesInSilence(MemoryOutbox):
    """Changes nothing for an old epoch, and says nothing: the zombie goes on for hours."""

    def settle(self, lease: PartitionLease, published: Sequence[int], /) -> int:
        """Note nothing, and call it done."""
        try:
            return super().settle(lease, published)
        except FencedError:
            return 0


@saboteur(CONTRACT, kills="test_a_stale_epoch_is_refused_though_the_owner_is_the_same")
class FencesByOwner(MemoryOutbox):
    """Looks at the owner's name, not at the epoch: a pod that restarts under its old name is its own zombie."""

    def _owned(self, lease: PartitionLease, doing: str, *, alive_at: float | None = None) -> Partition:
        part = self._parts[lease.part]
        if part.owner != lease.owner:
            raise FencedError(lease.part, lease.epoch, current=part.epoch, doing=doing)
        return part


@saboteur(CONTRACT, kills="test_a_lease_that_is_renewed_goes_on")
class ForgetsToRenew(MemoryOutbox):
    """Answers a heartbeat, and does not write it down."""

    def renew(self, lease: PartitionLease, /) -> PartitionLease:
        """Say that all is well."""
        return lease


@saboteur(CONTRACT, kills="test_a_row_that_waits_holds_back_its_own_key_alone")
class RetryReordersTheKey(MemoryOutbox):
    """Skips a row that waits, and goes on with the later rows of its key: a retry turns the order round."""

    def _due(self, part: Partition, now: float) -> Iterator[Row]:
        parked = {dead.row.line for dead, _ in self._dead.values() if dead.parks}
        return (row for row in part if row.due <= now and row.line not in parked)


@saboteur(CONTRACT, kills="test_a_row_that_waits_holds_back_its_own_key_alone")
class OnePoisonBlocksTheTopic(MemoryOutbox):
    """Stops at the first row that waits: one poison holds back every key."""

    def _due(self, part: Partition, now: float) -> Iterator[Row]:
        for row in part:
            if row.due > now:
                return
            yield row


@saboteur(CONTRACT, kills="test_a_row_that_kills_its_relays_is_buried")
class PoisonForEver(MemoryOutbox):
    """Blames no row for its relay's death: a payload that kills its relay is handed out for ever."""

    def _blame(self, part: Partition, terms: LeaseTerms, now: float) -> None:
        """Blame nobody."""


@saboteur(CONTRACT, kills="test_a_row_that_kills_its_relays_is_buried")
class CountsAfterDelivery(MemoryOutbox):
    """Counts a delivery once it has an answer: one that kills its relay never has any."""

    def mark(self, lease: PartitionLease, seq: int, /) -> None:
        """Note nothing before the delivery."""


@saboteur(CONTRACT, kills="test_deaths_of_many_bury_no_bystander")
class BlamesTheWholeBatch(MemoryOutbox):
    """Counts every death against all that stood near: after a few restarts a whole batch is buried."""

    def _blame(self, part: Partition, terms: LeaseTerms, now: float) -> None:
        for row in list(part):
            row.takeovers += 1
            if row.takeovers > terms.max_takeovers:
                self._entomb(part, row, Reason.CRASHED, None, parks=terms.exhausted is Exhausted.PARK_KEY)


@saboteur(CONTRACT, kills="test_cleanup_spares_the_unpublished")
class CleansUpByAge(MemoryOutbox):
    """Deletes by age, whatever the status: a backlog that is a day old is gone."""

    def purge(self, *, older_than: float | timedelta, limit: int = 1000) -> int:
        """Forget what is old, published or not."""
        gone = super().purge(older_than=older_than, limit=limit)
        before = self._time().monotonic() - float(older_than if isinstance(older_than, int | float) else older_than.total_seconds())
        for part in self._parts:
            for row in list(islice((row for row in part if row.born < before), limit)):
                part.take(row.seq)
                gone += 1
        return gone


@saboteur(CONTRACT, kills="test_a_dead_letter_keeps_payload_and_reason")
class DeadLetterLosesThePayload(MemoryOutbox):
    """Keeps of a dead letter that there was one: what it said is gone."""

    def _entomb(self, part: Partition, row: Row, reason: Reason, failure: Failure | None, *, parks: bool) -> None:
        said = row.message
        row.message = OutboxMessage(topic=said.topic, key=said.key, type=said.type, payload=b"", id=said.id, tenant=said.tenant)
        super()._entomb(part, row, reason, failure, parks=parks)


@saboteur(CONTRACT, kills="test_a_parked_key_waits_and_no_other")
class DeadLettersReleaseTheKey(MemoryOutbox):
    """Parks no key: what came after the buried row is published into the gap."""

    def _entomb(self, part: Partition, row: Row, reason: Reason, failure: Failure | None, *, parks: bool) -> None:
        super()._entomb(part, row, reason, failure, parks=False)


@saboteur(CONTRACT, kills="test_what_is_not_settled_comes_again")
class DrainsByDropping(MemoryOutbox):
    """Takes rows out when it hands them out: what a relay had in hand when it was stopped is gone."""

    def fetch(self, lease: PartitionLease, /, *, limit: int) -> Batch:
        """Hand out rows, and forget them."""
        batch = super().fetch(lease, limit=limit)
        super().settle(lease, [row.seq for row in batch.rows])
        return batch


@saboteur(CONTRACT, kills="test_every_row_has_an_id_of_its_own")
class TakesOneIdTwice(MemoryOutbox):
    """Has no unique index on the id: consumers drop the second event as seen."""

    def add(self, transaction: MemoryTransaction, message: OutboxMessage, /) -> UUID:
        """Forget which ids there are."""
        self._ids.clear()
        return super().add(transaction, message)


@saboteur(CONTRACT, kills="test_a_replay_publishes_again_what_was_published_then")
class ReplaysForEver(MemoryOutbox):
    """Takes what was told again for published when it first was: a replay that is asked until it is done never is."""

    def settle(self, lease: PartitionLease, published: Sequence[int], /) -> int:
        """Note a row as published when it was added."""
        done = super().settle(lease, published)
        for seq in published:
            row = self._published.get(seq)
            if row is not None:
                row.published_at = row.created_at
        return done
