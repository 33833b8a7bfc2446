"""The memory outbox for async callers: the same store, with a place to be interrupted before and after every step."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from finresilience.durable.amemory_idempotency import behind, checkpoint
from finresilience.durable.memory_outbox import MemoryOutbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from finresilience.clock import Clock
    from finresilience.durable.memory_transaction import MemoryTransaction
    from finresilience.durable.messages import OutboxMessage
    from finresilience.durable.outbox import (
        Batch,
        DeadLetter,
        Exhausted,
        Failure,
        Leased,
        LeaseTerms,
        OutboxStatistics,
        PartitionLease,
        Reason,
    )


@final
class AsyncMemoryOutbox:
    """An `AsyncOutboxStore` in memory.

    Args:
        store: the memory outbox behind it, which sync callers may share; a new one by default.
        pause: awaited before and after each step, as a driver awaits the network; a checkpoint by default.
        clock: tells the time to a new store.

    Raises:
        ConfigurationError: if `store` is none, or comes with a `clock`.
    """

    def __init__(
        self, store: MemoryOutbox | None = None, *, pause: Callable[[], Awaitable[object]] = checkpoint, clock: Clock | None = None
    ) -> None:
        self.store: MemoryOutbox = behind(store, MemoryOutbox, clock)
        self._pause = pause

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        return self.store.partitions

    def transaction(self) -> MemoryTransaction:
        """Return a new transaction, which other memory stores may take part in."""
        return self.store.transaction()

    def add(self, transaction: MemoryTransaction, message: OutboxMessage, /) -> UUID:
        """Write a message in the caller's transaction, and return its id. Not awaited."""
        return self.store.add(transaction, message)

    async def claim(self, owner: str, *, at_most: int, terms: LeaseTerms) -> Leased:
        """Take up to `at_most` partitions that nobody holds, and no more than the owner's fair share."""
        await self._pause()
        claimed = self.store.claim(owner, at_most=at_most, terms=terms)
        await self._pause()
        return claimed

    async def renew(self, lease: PartitionLease, /) -> PartitionLease:
        """Let the lease run anew. Raise `FencedError` if another relay took the partition."""
        await self._pause()
        renewed = self.store.renew(lease)
        await self._pause()
        return renewed

    async def release(self, lease: PartitionLease, /) -> None:
        """Give a partition back with nothing in hand. Raise `FencedError` if another relay took it."""
        await self._pause()
        self.store.release(lease)
        await self._pause()

    async def fetch(self, lease: PartitionLease, /, *, limit: int) -> Batch:
        """Return the first rows that are due. Raise `FencedError` unless the lease still runs."""
        await self._pause()
        batch = self.store.fetch(lease, limit=limit)
        await self._pause()
        return batch

    async def mark(self, lease: PartitionLease, seq: int, /) -> None:
        """Note that this suspect is about to be delivered, so that it alone is blamed for a death. Raise `FencedError` as `settle` does."""
        await self._pause()
        self.store.mark(lease, seq)
        await self._pause()

    async def settle(self, lease: PartitionLease, published: Sequence[int], /) -> int:
        """Note the rows of these `seq` as published, and return how many were not before. Raise `FencedError` for an old epoch."""
        await self._pause()
        settled = self.store.settle(lease, published)
        await self._pause()
        return settled

    async def retry(self, lease: PartitionLease, seq: int, /, *, after: float, failure: Failure, counted: bool = True) -> None:
        """Hold back the row and its key for `after` seconds; an attempt, if `counted`, has failed. Raise `FencedError` for an old epoch."""
        await self._pause()
        self.store.retry(lease, seq, after=after, failure=failure, counted=counted)
        await self._pause()

    async def bury(self, lease: PartitionLease, seq: int, /, *, reason: Reason, failure: Failure, exhausted: Exhausted) -> None:
        """Move a row to the dead letters, whole. Raise `FencedError` for an old epoch."""
        await self._pause()
        self.store.bury(lease, seq, reason=reason, failure=failure, exhausted=exhausted)
        await self._pause()

    async def dead_letters(self, *, limit: int = 100) -> Sequence[DeadLetter]:
        """Return the dead letters that were buried first."""
        await self._pause()
        return self.store.dead_letters(limit=limit)

    async def revive(self, message_id: UUID, /) -> bool:
        """Put a dead letter back in its old place, as if it had never failed; return whether there was one."""
        await self._pause()
        return self.store.revive(message_id)

    async def discard(self, message_id: UUID, /) -> bool:
        """Drop a dead letter for good, so that its key goes on; return whether there was one."""
        await self._pause()
        return self.store.discard(message_id)

    async def replay(self, *, since: datetime, until: datetime, limit: int = 1000) -> int:
        """Publish again what was published from `since` to before `until`; return how many, at most `limit`: ask until it is 0."""
        await self._pause()
        return self.store.replay(since=since, until=until, limit=limit)

    async def purge(self, *, older_than: float | timedelta, limit: int = 1000) -> int:
        """Forget rows published longer ago; return how many, at most `limit`. What is not published is never forgotten."""
        await self._pause()
        return self.store.purge(older_than=older_than, limit=limit)

    async def statistics(self) -> OutboxStatistics:
        """Return how things stand."""
        await self._pause()
        return self.store.statistics()
