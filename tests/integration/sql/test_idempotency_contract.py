"""The laws of idempotency keys, on each database and driver."""

from __future__ import annotations

from typing import Any

from finresilience.testing import contracts
from tests.integration.sql.databases import OnAiosqlite, OnAsyncpg, OnAsyncPsycopg, OnPostgres, OnSqlite, Sync


class Synced(Sync):
    def make_store(self: Any) -> Any:
        tables, engine = self.made()
        return self.kept(tables.idempotency.store(engine), engine)


class Asynced:
    async def make_store(self: Any) -> Any:
        tables, engine = self.made()
        store = tables.idempotency.store(self.asynced())
        store.beside, store.engine = engine, store._source._engine
        return store


class TestSqlite(Synced, OnSqlite, contracts.IdempotencyStoreContract):
    pass


class TestPostgres(Synced, OnPostgres, contracts.IdempotencyStoreContract):
    pass


class TestAiosqlite(Asynced, OnAiosqlite, contracts.IdempotencyStoreContract):
    pass


class TestAsyncpg(Asynced, OnAsyncpg, contracts.IdempotencyStoreContract):
    pass


class TestAsyncPsycopg(Asynced, OnAsyncPsycopg, contracts.IdempotencyStoreContract):
    pass
