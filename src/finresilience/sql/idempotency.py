"""Idempotency keys in a table: the unique constraint decides who won, and the database's clock when a lease is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, final

from finresilience._checks import positive_count, seconds_of
from finresilience.durable.records import (
    MAX_BATCH,
    MAX_REASON,
    MAX_RESPONSE,
    Claim,
    ClaimToken,
    KeyState,
    Record,
    bytes_of,
    final_of,
    lease_of,
    text_of,
    token_of,
)
from finresilience.sql.sources import AsyncSource, Source
from finresilience.sql.within import acarry_out_within, carry_out_within

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from sqlalchemy import Table
    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
    from sqlalchemy.orm import Session

    from finresilience.sql.idempotency_deeds import IdempotencyDeeds
    from finresilience.sql.statements import Deed

T = TypeVar("T")


class _AtTheDoor:
    """What both stores check before they ask. Internal."""

    def __init__(self, table: Table, deeds: IdempotencyDeeds, *, max_response: int = MAX_RESPONSE) -> None:
        self._table = table
        self._deeds = deeds
        self._max_response = positive_count("max_response", max_response)

    @property
    def max_response(self) -> int:
        """How many bytes a response, or the data of a recovery point, may have."""
        return self._max_response

    def _claiming(self, scope: str, key: str, fingerprint: str, lease: float | timedelta, owner: str) -> Callable[[], Deed[Claim]]:
        text_of("scope", scope)
        text_of("key", key)
        text_of("fingerprint", fingerprint)
        text_of("owner", owner, empty=True)
        seconds = lease_of(lease)
        return lambda: self._deeds.claim(scope, key, fingerprint, seconds, owner)

    def _renewing(self, token: ClaimToken, lease: float | timedelta) -> Callable[[], Deed[None]]:
        seconds = lease_of(lease)
        token_of(token)
        return lambda: self._deeds.renew(token, seconds)

    def _advancing(self, token: ClaimToken, recovery_point: str, data: bytes) -> Callable[[], Deed[None]]:
        token_of(token)
        point, told = text_of("recovery_point", recovery_point), bytes_of("data", data, most=self._max_response)
        return lambda: self._deeds.advance(token, point, told)

    def _finishing(self, what: str, token: ClaimToken, to: KeyState, response: bytes, status: str) -> Callable[[], Deed[None]]:
        token_of(token)
        answer = (to, bytes_of("response", response, most=self._max_response), text_of("status", status, empty=True))
        return lambda: self._deeds.finish(what, token, answer)

    def _releasing(self, token: ClaimToken) -> Callable[[], Deed[None]]:
        token_of(token)
        return lambda: self._deeds.release(token)

    def _doubting(self, token: ClaimToken, reason: str) -> Callable[[], Deed[None]]:
        token_of(token)
        text_of("reason", reason, most=MAX_REASON, empty=True)
        return lambda: self._deeds.mark_indeterminate(token, reason)

    def _resolving(self, record: Record, to: KeyState, response: bytes, evidence: str, status: str) -> Callable[[], Deed[None]]:
        told = bytes_of("response", response, most=self._max_response)
        answer = (final_of(to), told, text_of("status", status, empty=True))
        text_of("evidence", evidence, most=MAX_REASON)
        return lambda: self._deeds.resolve(record, answer, evidence)

    def _finding(self, scope: str, key: str) -> Callable[[], Deed[Record | None]]:
        text_of("scope", scope)
        text_of("key", key)
        return lambda: self._deeds.find(scope, key)

    def _unsettled(self, limit: int) -> Callable[[], Deed[Sequence[Record]]]:
        positive_count("limit", limit, most=MAX_BATCH)
        return lambda: self._deeds.unsettled(limit)

    def _purging(self, older_than: float | timedelta, scope: str | None, limit: int) -> Callable[[], Deed[int]]:
        age = seconds_of("older_than", older_than, zero=True)
        positive_count("limit", limit, most=MAX_BATCH)
        if scope is not None:
            text_of("scope", scope)
        return lambda: self._deeds.purge(age, scope, limit)


@final
class SqlIdempotencyStore(_AtTheDoor):
    """An `IdempotencyStore` over an Engine. `within=` is a Session or a Connection, or a connection of sqlite3 or psycopg.

    Made by `tables.idempotency.store(engine)`. Each deed is one statement by itself, or in the caller's transaction.
    """

    def __init__(self, engine: Engine, table: Table, deeds: IdempotencyDeeds, **more: Any) -> None:
        super().__init__(table, deeds, **more)
        self._source = Source(engine)

    def _do(self, begin: Callable[[], Deed[T]], within: Any = None) -> T:
        return self._source.alone(begin) if within is None else carry_out_within(within, begin(), self._table)

    def claim(
        self,
        scope: str,
        key: str,
        *,
        fingerprint: str,
        lease: float | timedelta,
        owner: str = "",
        within: Session | Connection | None = None,
    ) -> Claim:
        """Take the key if nobody has it or its lease ran out, or tell what is known of it."""
        return self._do(self._claiming(scope, key, fingerprint, lease, owner), within)

    def renew(self, token: ClaimToken, *, lease: float | timedelta) -> None:
        """Let the lease run `lease` seconds from now."""
        self._do(self._renewing(token, lease))

    def advance(self, token: ClaimToken, recovery_point: str, *, data: bytes = b"", within: Session | Connection | None = None) -> None:
        """Note how far the work is, for an heir."""
        self._do(self._advancing(token, recovery_point, data), within)

    def complete(self, token: ClaimToken, response: bytes, *, status: str = "", within: Session | Connection | None = None) -> None:
        """Finish: every later claim gets these bytes."""
        self._do(self._finishing("complete", token, KeyState.COMPLETED, response, status), within)

    def fail(self, token: ClaimToken, response: bytes = b"", *, status: str = "", within: Session | Connection | None = None) -> None:
        """Finish with a failure that stays one."""
        self._do(self._finishing("fail", token, KeyState.FAILED_FINAL, response, status), within)

    def release(self, token: ClaimToken, *, within: Session | Connection | None = None) -> None:
        """Give the key back, because surely nothing happened; to an heir, if that is not sure."""
        self._do(self._releasing(token), within)

    def mark_indeterminate(self, token: ClaimToken, *, reason: str = "", within: Session | Connection | None = None) -> None:
        """Note that it may have happened."""
        self._do(self._doubting(token, reason), within)

    def resolve(
        self,
        record: Record,
        to: KeyState,
        response: bytes,
        *,
        evidence: str,
        status: str = "",
        within: Session | Connection | None = None,
    ) -> None:
        """Settle an INDETERMINATE record, as it was read, by evidence."""
        self._do(self._resolving(record, to, response, evidence, status), within)

    def find(self, scope: str, key: str, *, within: Session | Connection | None = None) -> Record | None:
        """Return what is known of a key, or None if it is absent."""
        return self._do(self._finding(scope, key), within)

    def unsettled(self, *, limit: int = 100) -> Sequence[Record]:
        """Return records that somebody must look after, longest idle first."""
        return self._do(self._unsettled(limit))

    def purge(self, *, older_than: float | timedelta, scope: str | None = None, limit: int = 1000) -> int:
        """Forget records that were finished that long ago or longer."""
        return self._do(self._purging(older_than, scope, limit))


@final
class AsyncSqlIdempotencyStore(_AtTheDoor):
    """An `AsyncIdempotencyStore` over an AsyncEngine. `within=` is an AsyncSession or an AsyncConnection, or one of asyncpg or psycopg."""

    def __init__(self, engine: AsyncEngine, table: Table, deeds: IdempotencyDeeds, **more: Any) -> None:
        super().__init__(table, deeds, **more)
        self._source = AsyncSource(engine)

    async def _do(self, begin: Callable[[], Deed[T]], within: Any = None) -> T:
        return await (self._source.alone(begin) if within is None else acarry_out_within(within, begin(), self._table))

    async def claim(
        self,
        scope: str,
        key: str,
        *,
        fingerprint: str,
        lease: float | timedelta,
        owner: str = "",
        within: AsyncSession | AsyncConnection | None = None,
    ) -> Claim:
        """Take the key if nobody has it or its lease ran out, or tell what is known of it."""
        return await self._do(self._claiming(scope, key, fingerprint, lease, owner), within)

    async def renew(self, token: ClaimToken, *, lease: float | timedelta) -> None:
        """Let the lease run `lease` seconds from now."""
        await self._do(self._renewing(token, lease))

    async def advance(
        self, token: ClaimToken, recovery_point: str, *, data: bytes = b"", within: AsyncSession | AsyncConnection | None = None
    ) -> None:
        """Note how far the work is, for an heir."""
        await self._do(self._advancing(token, recovery_point, data), within)

    async def complete(
        self, token: ClaimToken, response: bytes, *, status: str = "", within: AsyncSession | AsyncConnection | None = None
    ) -> None:
        """Finish: every later claim gets these bytes."""
        await self._do(self._finishing("complete", token, KeyState.COMPLETED, response, status), within)

    async def fail(
        self, token: ClaimToken, response: bytes = b"", *, status: str = "", within: AsyncSession | AsyncConnection | None = None
    ) -> None:
        """Finish with a failure that stays one."""
        await self._do(self._finishing("fail", token, KeyState.FAILED_FINAL, response, status), within)

    async def release(self, token: ClaimToken, *, within: AsyncSession | AsyncConnection | None = None) -> None:
        """Give the key back, because surely nothing happened; to an heir, if that is not sure."""
        await self._do(self._releasing(token), within)

    async def mark_indeterminate(
        self, token: ClaimToken, *, reason: str = "", within: AsyncSession | AsyncConnection | None = None
    ) -> None:
        """Note that it may have happened."""
        await self._do(self._doubting(token, reason), within)

    async def resolve(
        self,
        record: Record,
        to: KeyState,
        response: bytes,
        *,
        evidence: str,
        status: str = "",
        within: AsyncSession | AsyncConnection | None = None,
    ) -> None:
        """Settle an INDETERMINATE record, as it was read, by evidence."""
        await self._do(self._resolving(record, to, response, evidence, status), within)

    async def find(self, scope: str, key: str, *, within: AsyncSession | AsyncConnection | None = None) -> Record | None:
        """Return what is known of a key, or None if it is absent."""
        return await self._do(self._finding(scope, key), within)

    async def unsettled(self, *, limit: int = 100) -> Sequence[Record]:
        """Return records that somebody must look after, longest idle first."""
        return await self._do(self._unsettled(limit))

    async def purge(self, *, older_than: float | timedelta, scope: str | None = None, limit: int = 1000) -> int:
        """Forget records that were finished that long ago or longer."""
        return await self._do(self._purging(older_than, scope, limit))
