"""The idempotency store in memory, for asyncio and trio: the sync one, with a moment at which others run before each method."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast, final

from finresilience._checks import refuse
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import timedelta

    from finresilience.clock import Clock
    from finresilience.durable.memory_transaction import MemoryTransaction
    from finresilience.durable.records import Claim, ClaimToken, KeyState, Record

S = TypeVar("S")


async def checkpoint() -> None:
    """Let other tasks run, as a round trip to a database would, and be cancelled here if at all."""
    from anyio.lowlevel import checkpoint as moment

    await moment()


def behind(store: S | None, kind: Callable[..., S], clock: Clock | None) -> S:
    """Return the memory store behind an async one: the given one, or a new one by this clock."""
    if store is None:
        return kind(clock=clock)
    if not isinstance(store, cast("type[S]", kind)):
        refuse("store", store, f"a {kind.__name__}, or None for a new one")
    if clock is not None:
        refuse("clock", clock, "it to the store itself, which has one, or no store: then a new one is made by this clock")
    return store


@final
class AsyncMemoryIdempotencyStore:
    """Keys in memory for async callers. A call that is cancelled has done nothing.

    Args:
        store: whose keys they are: share it with threads, or with another event loop. A new one by default.
        pause: awaited before each method, once; a checkpoint by default.
        clock: tells the time to a new store.

    Raises:
        ConfigurationError: if `store` is none, or comes with a `clock`.
    """

    def __init__(
        self,
        store: MemoryIdempotencyStore | None = None,
        *,
        pause: Callable[[], Awaitable[object]] = checkpoint,
        clock: Clock | None = None,
    ) -> None:
        self.store: MemoryIdempotencyStore = behind(store, MemoryIdempotencyStore, clock)
        self._pause = pause

    @property
    def max_response(self) -> int:
        """How many bytes a response, or the data of a recovery point, may have."""
        return self.store.max_response

    def transaction(self) -> MemoryTransaction:
        """Return a new transaction for `within=`: `async with store.transaction() as mine:`."""
        return self.store.transaction()

    async def claim(
        self,
        scope: str,
        key: str,
        *,
        fingerprint: str,
        lease: float | timedelta,
        owner: str = "",
        within: MemoryTransaction | None = None,
    ) -> Claim:
        """Take the key if nobody has it or its lease ran out, or tell what is known of it."""
        await self._pause()
        return self.store.claim(scope, key, fingerprint=fingerprint, lease=lease, owner=owner, within=within)

    async def renew(self, token: ClaimToken, *, lease: float | timedelta) -> None:
        """Let the lease run `lease` seconds from now."""
        await self._pause()
        self.store.renew(token, lease=lease)

    async def advance(self, token: ClaimToken, recovery_point: str, *, data: bytes = b"", within: MemoryTransaction | None = None) -> None:
        """Note how far the work is, for an heir."""
        await self._pause()
        self.store.advance(token, recovery_point, data=data, within=within)

    async def complete(self, token: ClaimToken, response: bytes, *, status: str = "", within: MemoryTransaction | None = None) -> None:
        """Finish: every later claim gets these bytes."""
        await self._pause()
        self.store.complete(token, response, status=status, within=within)

    async def fail(self, token: ClaimToken, response: bytes = b"", *, status: str = "", within: MemoryTransaction | None = None) -> None:
        """Finish with a failure that stays one."""
        await self._pause()
        self.store.fail(token, response, status=status, within=within)

    async def release(self, token: ClaimToken, *, within: MemoryTransaction | None = None) -> None:
        """Give the key back, because surely nothing happened; to an heir, if that is not sure."""
        await self._pause()
        self.store.release(token, within=within)

    async def mark_indeterminate(self, token: ClaimToken, *, reason: str = "", within: MemoryTransaction | None = None) -> None:
        """Note that it may have happened."""
        await self._pause()
        self.store.mark_indeterminate(token, reason=reason, within=within)

    async def resolve(
        self,
        record: Record,
        to: KeyState,
        response: bytes,
        *,
        evidence: str,
        status: str = "",
        within: MemoryTransaction | None = None,
    ) -> None:
        """Settle an INDETERMINATE record, as it was read, by evidence."""
        await self._pause()
        self.store.resolve(record, to, response, evidence=evidence, status=status, within=within)

    async def find(self, scope: str, key: str, *, within: MemoryTransaction | None = None) -> Record | None:
        """Return what is known of a key, or None if it is absent."""
        await self._pause()
        return self.store.find(scope, key, within=within)

    async def unsettled(self, *, limit: int = 100) -> Sequence[Record]:
        """Return records that somebody must look after, longest idle first."""
        await self._pause()
        return self.store.unsettled(limit=limit)

    async def purge(self, *, older_than: float | timedelta, scope: str | None = None, limit: int = 1000) -> int:
        """Forget records that were finished that long ago or longer."""
        await self._pause()
        return self.store.purge(older_than=older_than, scope=scope, limit=limit)
