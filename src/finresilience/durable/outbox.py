"""What must an outbox keep? The protocol between the transaction that writes an event and the relays that publish it.

The laws, each a test of `testing.contracts.OutboxStoreContract`:

- a row is seen if and only if the transaction that added it committed; an event of a key is behind those that committed before it;
- a partition has one owner at a time, and each owner a higher epoch; whoever comes with an old epoch is refused by `FencedError`;
- a row is gone only when it was settled by the epoch that holds its partition, or was buried with its payload and the reason;
- a row that is not due, or a key that is parked, holds back its own key and nobody else's;
- a relay that dies is found out when its lease runs out. What it may have had in its hands is then suspect: such rows come one at a time,
  and are marked before they are delivered, so that the one that kills its relay is known, and buried once it has killed too many.

Time is the store's own: a database's, or the clock that a memory store was given. Relays measure their leases by themselves, from before
they asked, and so never believe in more than the store granted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, final

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.errors import FinresilienceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from finresilience.durable.messages import OutboxMessage, OutboxRow

MOST_AT_ONCE: Final = 10_000  # rows that one operation of a store touches at most

Tx_contra = TypeVar("Tx_contra", contravariant=True)


@final
class FencedError(FinresilienceError):
    """A relay came with an epoch that is over: another relay owns the partition, or may. Nothing was changed.

    Args:
        part: the partition.
        epoch: the one that was brought.
        current: the one that holds, or None where it is the same, but its lease has run out or was given back.
        doing: what was tried, such as "settle".
    """

    def __init__(self, part: int, epoch: int, *, current: int | None, doing: str) -> None:
        super().__init__(part, epoch, current, doing)
        self.part = part
        self.epoch = epoch
        self.current = current
        self.doing = doing

    def __str__(self) -> str:
        """Say what happened, what is true of the events, and what to do."""
        why = "that lease is over" if self.current is None else f"epoch {self.current} holds it now"
        return (
            f"{self.doing} of partition {self.part} was refused: it came with epoch {self.epoch}, and {why}.\n"
            "  Nothing was changed; what was published and not settled will be published again by the heir.\n"
            "  Let this relay end and a new one start. If it happens often, find what stops the process (a long pause, a blocked event "
            "loop), or give a longer lease."
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Survive a queue or a process pool."""
        return (_fenced, (self.part, self.epoch, self.current, self.doing))


def _fenced(part: int, epoch: int, current: int | None, doing: str) -> FencedError:
    return FencedError(part, epoch, current=current, doing=doing)


@final
class DuplicateMessageError(FinresilienceError):
    """A message with this id is in the outbox already: an id is given to one event only. Nothing was added."""

    def __str__(self) -> str:
        """Say what happened and what to do."""
        return (
            "the outbox holds a message with this id already; nothing was added.\n"
            "  Consumers would have dropped the second one as seen.\n"
            "  Give each event an id of its own, or none, and the store makes one."
        )


@final
class Exhausted(StrEnum):
    """What becomes of a key whose event cannot be published."""

    PARK_KEY = "park_key"  # later events of the key wait for a person: for money, where order matters
    SKIP_TO_DLQ = "skip_to_dlq"  # later events of the key go on


@final
class Reason(StrEnum):
    """Why an event was buried."""

    REFUSED = "refused"  # the publisher's answer is no and stays no
    EXHAUSTED = "exhausted"  # every attempt is used up
    CRASHED = "crashed"  # its relay died with it in hand, again and again


@final
@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, fit to be kept and counted: no message, which may hold anything.

    Args:
        kind: the class of the error, "module.Name".
        where: the innermost place of the publisher's own code that it came through, "file:function", or "".
    """

    kind: str
    where: str = ""

    @property
    def fingerprint(self) -> str:
        """What failures of one cause have in common."""
        return f"{self.kind}@{self.where}" if self.where else self.kind


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTerms:
    """On what terms a relay takes partitions.

    Args:
        lease: how long it may be silent before another takes over, in seconds.
        window: how many rows it may have in its hands at once.
        max_takeovers: how many relays may die of one row; with one more it is buried.
        exhausted: what then becomes of its key.

    Raises:
        ConfigurationError: if one of them cannot work.
    """

    lease: float
    window: int = 200
    max_takeovers: int = 3
    exhausted: Exhausted = Exhausted.PARK_KEY

    def __post_init__(self) -> None:
        object.__setattr__(self, "lease", seconds_of("lease", self.lease))
        positive_count("window", self.window, most=MOST_AT_ONCE)
        positive_count("max_takeovers", self.max_takeovers, most=1000)
        if not isinstance(self.exhausted, Exhausted):
            refuse("exhausted", self.exhausted, "Exhausted.PARK_KEY or Exhausted.SKIP_TO_DLQ")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionLease:
    """A relay's right to one partition. It is the epoch that counts: each owner has a higher one than all before it.

    Attributes:
        part: the partition.
        owner: whose it is.
        epoch: the fencing token.
        seconds: how long it lasts, from when it was granted or renewed.
        unclean: whether the owner before died with it.
    """

    part: int
    owner: str
    epoch: int
    seconds: float
    unclean: bool = False


@final
@dataclass(frozen=True, slots=True)
class Leased:
    """What a relay got when it asked for partitions.

    Attributes:
        leases: the partitions that it owns from now on.
        share: how many each relay may own now, so that all have about as many. Whoever has more gives some back.
    """

    leases: tuple[PartitionLease, ...]
    share: int


@final
@dataclass(frozen=True, slots=True)
class Batch:
    """Rows to be published, those of one key in order and without a gap.

    Attributes:
        rows: in the order of their `seq`.
        suspect: whether a relay has died with this row in hand, which is then the only one.
    """

    rows: tuple[OutboxRow, ...]
    suspect: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event that could not be published, kept whole until a person decides.

    Attributes:
        row: as it was, with its payload.
        reason: why it was buried.
        failure: what went wrong last, if anything was seen.
        parks: whether its key waits for it.
        died_at: when it was buried, by the store's clock.
    """

    row: OutboxRow
    reason: Reason
    failure: Failure | None
    parks: bool
    died_at: datetime


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxStatistics:
    """What an operator looks at first.

    Attributes:
        pending: rows that are not published yet, parked ones included.
        oldest_age: how long the oldest of them has waited, in seconds; 0.0 if there is none.
        by_partition: pending rows of each partition that has any.
        by_tenant: pending rows of each tenant that has any.
        attempts: failed attempts of the pending rows, added up.
        suspects: pending rows that a relay may have died of.
        published: rows that were published and are kept.
        dead: buried rows.
        parked_keys: keys that wait for a person.
        owned: partitions with an owner whose lease runs.
        fenced: how often this store object refused an old epoch.
        takeovers: how often this store object gave away a partition whose owner had died.
    """

    pending: int
    oldest_age: float
    by_partition: Mapping[int, int]
    by_tenant: Mapping[str | None, int]
    attempts: int
    suspects: int
    published: int
    dead: int
    parked_keys: int
    owned: int
    fenced: int
    takeovers: int


class OutboxStore(Protocol[Tx_contra]):
    """An outbox for sync callers. `AsyncOutboxStore` differs by the `await` only, and `add` has none in either."""

    @property
    def partitions(self) -> int:
        """How many partitions there are: fixed for the life of the table."""
        ...

    def add(self, transaction: Tx_contra, message: OutboxMessage, /) -> UUID:
        """Write a message in the caller's transaction, and return its id."""
        ...

    def claim(self, owner: str, *, at_most: int, terms: LeaseTerms) -> Leased:
        """Take up to `at_most` partitions that nobody holds, and no more than the owner's fair share."""
        ...

    def renew(self, lease: PartitionLease, /) -> PartitionLease:
        """Let the lease run anew. Raise `FencedError` if another relay took the partition."""
        ...

    def release(self, lease: PartitionLease, /) -> None:
        """Give a partition back with nothing in hand. Raise `FencedError` if another relay took it."""
        ...

    def fetch(self, lease: PartitionLease, /, *, limit: int) -> Batch:
        """Return the first rows that are due. Raise `FencedError` unless the lease still runs."""
        ...

    def mark(self, lease: PartitionLease, seq: int, /) -> None:
        """Note that this suspect is about to be delivered, so that it alone is blamed for a death. Raise `FencedError` as `settle` does."""
        ...

    def settle(self, lease: PartitionLease, published: Sequence[int], /) -> int:
        """Note the rows of these `seq` as published, and return how many were not before. Raise `FencedError` for an old epoch."""
        ...

    def retry(self, lease: PartitionLease, seq: int, /, *, after: float, failure: Failure, counted: bool = True) -> None:
        """Hold back the row and its key for `after` seconds; an attempt, if `counted`, has failed. Raise `FencedError` for an old epoch."""
        ...

    def bury(self, lease: PartitionLease, seq: int, /, *, reason: Reason, failure: Failure, exhausted: Exhausted) -> None:
        """Move a row to the dead letters, whole. Raise `FencedError` for an old epoch."""
        ...

    def dead_letters(self, *, limit: int = 100) -> Sequence[DeadLetter]:
        """Return the dead letters that were buried first."""
        ...

    def revive(self, message_id: UUID, /) -> bool:
        """Put a dead letter back in its old place, as if it had never failed; return whether there was one."""
        ...

    def discard(self, message_id: UUID, /) -> bool:
        """Drop a dead letter for good, so that its key goes on; return whether there was one."""
        ...

    def replay(self, *, since: datetime, until: datetime, limit: int = 1000) -> int:
        """Publish again what was published from `since` to before `until`; return how many, at most `limit`: ask until it is 0."""
        ...

    def purge(self, *, older_than: float | timedelta, limit: int = 1000) -> int:
        """Forget rows published longer ago; return how many, at most `limit`. What is not published is never forgotten."""
        ...

    def statistics(self) -> OutboxStatistics:
        """Return how things stand."""
        ...


class AsyncOutboxStore(Protocol[Tx_contra]):
    """An outbox for async callers: `OutboxStore`, awaited."""

    @property
    def partitions(self) -> int:
        """How many partitions there are: fixed for the life of the table."""
        ...

    def add(self, transaction: Tx_contra, message: OutboxMessage, /) -> UUID:
        """Write a message in the caller's transaction, and return its id. Not awaited: it is written when the transaction is."""
        ...

    async def claim(self, owner: str, *, at_most: int, terms: LeaseTerms) -> Leased:
        """Take up to `at_most` partitions that nobody holds, and no more than the owner's fair share."""
        ...

    async def renew(self, lease: PartitionLease, /) -> PartitionLease:
        """Let the lease run anew. Raise `FencedError` if another relay took the partition."""
        ...

    async def release(self, lease: PartitionLease, /) -> None:
        """Give a partition back with nothing in hand. Raise `FencedError` if another relay took it."""
        ...

    async def fetch(self, lease: PartitionLease, /, *, limit: int) -> Batch:
        """Return the first rows that are due. Raise `FencedError` unless the lease still runs."""
        ...

    async def mark(self, lease: PartitionLease, seq: int, /) -> None:
        """Note that this suspect is about to be delivered, so that it alone is blamed for a death. Raise `FencedError` as `settle` does."""
        ...

    async def settle(self, lease: PartitionLease, published: Sequence[int], /) -> int:
        """Note the rows of these `seq` as published, and return how many were not before. Raise `FencedError` for an old epoch."""
        ...

    async def retry(self, lease: PartitionLease, seq: int, /, *, after: float, failure: Failure, counted: bool = True) -> None:
        """Hold back the row and its key for `after` seconds; an attempt, if `counted`, has failed. Raise `FencedError` for an old epoch."""
        ...

    async def bury(self, lease: PartitionLease, seq: int, /, *, reason: Reason, failure: Failure, exhausted: Exhausted) -> None:
        """Move a row to the dead letters, whole. Raise `FencedError` for an old epoch."""
        ...

    async def dead_letters(self, *, limit: int = 100) -> Sequence[DeadLetter]:
        """Return the dead letters that were buried first."""
        ...

    async def revive(self, message_id: UUID, /) -> bool:
        """Put a dead letter back in its old place, as if it had never failed; return whether there was one."""
        ...

    async def discard(self, message_id: UUID, /) -> bool:
        """Drop a dead letter for good, so that its key goes on; return whether there was one."""
        ...

    async def replay(self, *, since: datetime, until: datetime, limit: int = 1000) -> int:
        """Publish again what was published from `since` to before `until`; return how many, at most `limit`: ask until it is 0."""
        ...

    async def purge(self, *, older_than: float | timedelta, limit: int = 1000) -> int:
        """Forget rows published longer ago; return how many, at most `limit`. What is not published is never forgotten."""
        ...

    async def statistics(self) -> OutboxStatistics:
        """Return how things stand."""
        ...
