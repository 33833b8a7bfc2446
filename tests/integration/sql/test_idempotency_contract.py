"""The laws of idempotency keys, on each database and driver."""

from __future__ import annotations

from typing import Any

from finresilience.testing import contracts
from tests.integration.sql.databases import Async, OnAiosqlite, OnAsyncpg, OnAsyncPsycopg, OnPostgres, OnSqlite, Sync


class Laws(contracts.IdempotencyStoreContract):
    def store_of(self, tables: Any, engine: Any) -> Any:
        return tables.idempotency.store(engine)


class TestSqlite(Sync, OnSqlite, Laws):
    pass


class TestPostgres(Sync, OnPostgres, Laws):
    pass


class TestAiosqlite(Async, OnAiosqlite, Laws):
    pass


class TestAsyncpg(Async, OnAsyncpg, Laws):
    pass


class TestAsyncPsycopg(Async, OnAsyncPsycopg, Laws):
    pass
