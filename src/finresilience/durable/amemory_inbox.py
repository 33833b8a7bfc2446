"""The inbox in memory, for asyncio and trio: the sync one, with a moment at which others run before each method."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from finresilience.durable.amemory_idempotency import behind, checkpoint
from finresilience.durable.memory_inbox import MemoryInboxStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import timedelta

    from finresilience.clock import Clock
    from finresilience.durable.memory_transaction import MemoryTransaction
    from finresilience.durable.seen import Counted, ParkedMessage, Seen


@final
class AsyncMemoryInboxStore:
    """An inbox in memory for async consumers. A call that is cancelled has done nothing.

    Args:
        store: whose markers they are: share it with threads, or with another event loop. A new one by default.
        pause: awaited before each method, once; a checkpoint by default.
        clock: tells the time to a new store.

    Raises:
        ConfigurationError: if `store` is none, or comes with a `clock`.
    """

    def __init__(
        self, store: MemoryInboxStore | None = None, *, pause: Callable[[], Awaitable[object]] = checkpoint, clock: Clock | None = None
    ) -> None:
        self.store: MemoryInboxStore = behind(store, MemoryInboxStore, clock)
        self._pause = pause

    @property
    def park_after(self) -> int:
        """After how many failures a message is parked."""
        return self.store.park_after

    def transaction(self) -> MemoryTransaction:
        """Return a new transaction for `once`: `async with store.transaction() as mine:`."""
        return self.store.transaction()

    async def once(
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
        await self._pause()
        return self.store.once(
            within, group=group, message_id=message_id, tenant=tenant, delivery_id=delivery_id, entity=entity, position=position
        )

    async def failed(self, *, group: str, message_id: str, tenant: str = "", reason: str = "", delivery_id: str = "") -> Counted:
        """Count one failure, in a transaction of the store's own."""
        await self._pause()
        return self.store.failed(group=group, message_id=message_id, tenant=tenant, reason=reason, delivery_id=delivery_id)

    async def begun(self, *, group: str, message_id: str, tenant: str = "", delivery_id: str = "") -> Counted:
        """Count a run before it is made, as one that failed; it parks only what had failed `park_after` times before."""
        await self._pause()
        return self.store.begun(group=group, message_id=message_id, tenant=tenant, delivery_id=delivery_id)

    async def forgiven(self, *, group: str, message_id: str, tenant: str = "") -> Counted:
        """Take one failure back that was nobody's."""
        await self._pause()
        return self.store.forgiven(group=group, message_id=message_id, tenant=tenant)

    async def parked(self, *, limit: int = 100) -> Sequence[ParkedMessage]:
        """Return parked messages, the longest parked first."""
        await self._pause()
        return self.store.parked(limit=limit)

    async def unpark(self, *, group: str, message_id: str, tenant: str = "") -> bool:
        """Let a parked message be handled when it is delivered again; return whether it was parked."""
        await self._pause()
        return self.store.unpark(group=group, message_id=message_id, tenant=tenant)

    async def high_water(self, *, group: str, entity: str, tenant: str = "") -> int | None:
        """Return the highest position that was handled of an entity, or None."""
        await self._pause()
        return self.store.high_water(group=group, entity=entity, tenant=tenant)

    async def purge(self, *, older_than: float | timedelta, limit: int = 1000) -> int:
        """Forget old markers, and old failures of what is not parked."""
        await self._pause()
        return self.store.purge(older_than=older_than, limit=limit)
