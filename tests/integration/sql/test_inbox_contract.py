"""The laws of inboxes, on each database and driver."""

from __future__ import annotations

from typing import Any

from finresilience.testing import contracts
from tests.integration.sql.databases import OnAiosqlite, OnAsyncpg, OnAsyncPsycopg, OnPostgres, OnSqlite, Sync


class Synced(Sync):
    def make_store(self: Any) -> Any:
        tables, engine = self.made()
        return self.kept(tables.inbox.store(engine, park_after=3), engine)


class Asynced:
    async def make_store(self: Any) -> Any:
        tables, engine = self.made()
        store = tables.inbox.store(self.asynced(), park_after=3)
        store.beside, store.engine = engine, store._source._engine
        return store


class TestSqlite(Synced, OnSqlite, contracts.InboxContract):
    pass


class TestPostgres(Synced, OnPostgres, contracts.InboxContract):
    pass


class TestAiosqlite(Asynced, OnAiosqlite, contracts.InboxContract):
    pass


class TestAsyncpg(Asynced, OnAsyncpg, contracts.InboxContract):
    pass


class TestAsyncPsycopg(Asynced, OnAsyncPsycopg, contracts.InboxContract):
    pass
