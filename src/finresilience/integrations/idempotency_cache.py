"""How are repeats answered without asking the database? A read-through cache of finished keys, in Valkey or Redis.

It is never the guard. Only what is finished is cached, as the store told it outside of any transaction, and that never changes: an answer
from here is one that the store gave before. Whatever is wrong with the cache, the store is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar, final

from finresilience.integrations.idempotency_cached import AsyncCacheClient, CacheClient, Cached, CacheStatistics

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from finresilience.clock import Clock
    from finresilience.durable.idempotency import AsyncIdempotencyStore, IdempotencyStore
    from finresilience.durable.records import Claim, ClaimToken, KeyState, Record

__all__ = ["AsyncCacheClient", "AsyncCachedStore", "CacheClient", "CacheStatistics", "CachedStore"]

Tx = TypeVar("Tx")


@final
class CachedStore(Cached, Generic[Tx]):
    """A store that answers repeats of finished requests from a cache.

    Args:
        store: where keys are kept, and what decides.
        client: of Valkey or Redis: give it a short `socket_timeout`, since nothing here can stop it.
        ttl: for how many seconds an answer is cached. A key that is purged may still be replayed for so long: purge what is older than
            your retention and this together.
        rest: for how many seconds the cache is left alone after it failed.
        max_value: how many bytes a response may have, to be cached.
        prefix: what the names in the cache begin with.
        clock: what the rest is measured by; the ruling clock by default.

    Raises:
        ConfigurationError: if an argument cannot work.
    """

    def __init__(
        self,
        store: IdempotencyStore[Tx],
        client: CacheClient,
        *,
        ttl: float | timedelta,
        rest: float | timedelta = 1.0,
        max_value: int = 1 << 16,
        prefix: str = "finresilience:idempotency",
        clock: Clock | None = None,
    ) -> None:
        super().__init__(store, client, ttl=ttl, rest=rest, max_value=max_value, prefix=prefix, clock=clock)
        self._store: IdempotencyStore[Tx] = store
        self._client: CacheClient = client

    def claim(
        self, scope: str, key: str, *, fingerprint: str, lease: float | timedelta, owner: str = "", within: Tx | None = None
    ) -> Claim:
        """Return the answer of a finished key from the cache, and all else from the store, which alone gives claims."""
        name = self._name(scope, key)
        known = None if name is None else self._known(name, scope, key, fingerprint)
        if known is not None:
            return known
        claim = self._store.claim(scope, key, fingerprint=fingerprint, lease=lease, owner=owner, within=within)
        if name is not None and within is None:  # what is told in a transaction may be rolled back
            self._keep(name, claim)
        return claim

    def _known(self, name: str, scope: str, key: str, fingerprint: str) -> Claim | None:
        try:
            found = self._client.get(name)
        except Exception:
            self._failed()
            return None
        return self._answer(name, found, scope, key, fingerprint)

    def _keep(self, name: str, claim: Claim) -> None:
        value = self._kept(name, claim)
        if value is None:
            return
        try:
            self._client.set(name, value, px=self._px)
        except Exception:
            self._failed()
        else:
            self._counts["stored"] += 1

    def renew(self, token: ClaimToken, *, lease: float | timedelta) -> None:
        """Let the lease run `lease` seconds from now."""
        self._store.renew(token, lease=lease)

    def advance(self, token: ClaimToken, recovery_point: str, *, data: bytes = b"", within: Tx | None = None) -> None:
        """Note how far the work is, for an heir."""
        self._store.advance(token, recovery_point, data=data, within=within)

    def complete(self, token: ClaimToken, response: bytes, *, status: str = "", within: Tx | None = None) -> None:
        """Finish: every later claim gets these bytes."""
        self._store.complete(token, response, status=status, within=within)

    def fail(self, token: ClaimToken, response: bytes = b"", *, status: str = "", within: Tx | None = None) -> None:
        """Finish with a failure that stays one."""
        self._store.fail(token, response, status=status, within=within)

    def release(self, token: ClaimToken, *, within: Tx | None = None) -> None:
        """Give the key back, because surely nothing happened."""
        self._store.release(token, within=within)

    def mark_indeterminate(self, token: ClaimToken, *, reason: str = "", within: Tx | None = None) -> None:
        """Note that it may have happened."""
        self._store.mark_indeterminate(token, reason=reason, within=within)

    def resolve(self, record: Record, to: KeyState, response: bytes, *, evidence: str, status: str = "", within: Tx | None = None) -> None:
        """Settle an INDETERMINATE record, as it was read, by evidence. It was never cached, so nothing is to be forgotten."""
        self._store.resolve(record, to, response, evidence=evidence, status=status, within=within)

    def find(self, scope: str, key: str, *, within: Tx | None = None) -> Record | None:
        """Return what is known of a key, from the store."""
        return self._store.find(scope, key, within=within)

    def unsettled(self, *, limit: int = 100) -> Sequence[Record]:
        """Return records that somebody must look after, longest idle first."""
        return self._store.unsettled(limit=limit)

    def purge(self, *, older_than: float | timedelta, scope: str | None = None, limit: int = 1000) -> int:
        """Forget records that were finished that long ago or longer. What is cached of them is forgotten `ttl` later at the latest."""
        return self._store.purge(older_than=older_than, scope=scope, limit=limit)


@final
class AsyncCachedStore(Cached, Generic[Tx]):
    """A store that answers repeats of finished requests from a cache: `CachedStore`, awaited.

    Args:
        store: where keys are kept, and what decides.
        client: of Valkey or Redis: one that is awaited.
        ttl: for how many seconds an answer is cached. A key that is purged may still be replayed for so long: purge what is older than
            your retention and this together.
        timeout: how long one question to the cache may take.
        rest: for how many seconds the cache is left alone after it failed.
        max_value: how many bytes a response may have, to be cached.
        prefix: what the names in the cache begin with.
        clock: what the rest is measured by; the ruling clock by default.

    Raises:
        ConfigurationError: if an argument cannot work.
    """

    def __init__(
        self,
        store: AsyncIdempotencyStore[Tx],
        client: AsyncCacheClient,
        *,
        ttl: float | timedelta,
        timeout: float | timedelta = 0.05,
        rest: float | timedelta = 1.0,
        max_value: int = 1 << 16,
        prefix: str = "finresilience:idempotency",
        clock: Clock | None = None,
    ) -> None:
        super().__init__(store, client, ttl=ttl, timeout=timeout, rest=rest, max_value=max_value, prefix=prefix, clock=clock)
        self._store: AsyncIdempotencyStore[Tx] = store
        self._client: AsyncCacheClient = client

    async def claim(
        self, scope: str, key: str, *, fingerprint: str, lease: float | timedelta, owner: str = "", within: Tx | None = None
    ) -> Claim:
        """Return the answer of a finished key from the cache, and all else from the store, which alone gives claims."""
        name = self._name(scope, key)
        known = None if name is None else await self._known(name, scope, key, fingerprint)
        if known is not None:
            return known
        claim = await self._store.claim(scope, key, fingerprint=fingerprint, lease=lease, owner=owner, within=within)
        if name is not None and within is None:  # what is told in a transaction may be rolled back
            await self._keep(name, claim)
        return claim

    async def _known(self, name: str, scope: str, key: str, fingerprint: str) -> Claim | None:
        from anyio import move_on_after

        with move_on_after(self._timeout):
            try:
                found = await self._client.get(name)
            except Exception:
                self._failed()
                return None
            return self._answer(name, found, scope, key, fingerprint)
        self._failed()
        return None

    async def _keep(self, name: str, claim: Claim) -> None:
        from anyio import move_on_after

        value = self._kept(name, claim)
        if value is None:
            return
        with move_on_after(self._timeout) as bound:
            try:
                await self._client.set(name, value, px=self._px)
            except Exception:
                self._failed()
            else:
                self._counts["stored"] += 1
        if bound.cancelled_caught:
            self._failed()

    async def renew(self, token: ClaimToken, *, lease: float | timedelta) -> None:
        """Let the lease run `lease` seconds from now."""
        await self._store.renew(token, lease=lease)

    async def advance(self, token: ClaimToken, recovery_point: str, *, data: bytes = b"", within: Tx | None = None) -> None:
        """Note how far the work is, for an heir."""
        await self._store.advance(token, recovery_point, data=data, within=within)

    async def complete(self, token: ClaimToken, response: bytes, *, status: str = "", within: Tx | None = None) -> None:
        """Finish: every later claim gets these bytes."""
        await self._store.complete(token, response, status=status, within=within)

    async def fail(self, token: ClaimToken, response: bytes = b"", *, status: str = "", within: Tx | None = None) -> None:
        """Finish with a failure that stays one."""
        await self._store.fail(token, response, status=status, within=within)

    async def release(self, token: ClaimToken, *, within: Tx | None = None) -> None:
        """Give the key back, because surely nothing happened."""
        await self._store.release(token, within=within)

    async def mark_indeterminate(self, token: ClaimToken, *, reason: str = "", within: Tx | None = None) -> None:
        """Note that it may have happened."""
        await self._store.mark_indeterminate(token, reason=reason, within=within)

    async def resolve(
        self, record: Record, to: KeyState, response: bytes, *, evidence: str, status: str = "", within: Tx | None = None
    ) -> None:
        """Settle an INDETERMINATE record, as it was read, by evidence. It was never cached, so nothing is to be forgotten."""
        await self._store.resolve(record, to, response, evidence=evidence, status=status, within=within)

    async def find(self, scope: str, key: str, *, within: Tx | None = None) -> Record | None:
        """Return what is known of a key, from the store."""
        return await self._store.find(scope, key, within=within)

    async def unsettled(self, *, limit: int = 100) -> Sequence[Record]:
        """Return records that somebody must look after, longest idle first."""
        return await self._store.unsettled(limit=limit)

    async def purge(self, *, older_than: float | timedelta, scope: str | None = None, limit: int = 1000) -> int:
        """Forget records that were finished that long ago or longer. What is cached of them is forgotten `ttl` later at the latest."""
        return await self._store.purge(older_than=older_than, scope=scope, limit=limit)
