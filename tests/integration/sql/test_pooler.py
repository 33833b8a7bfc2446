"""The laws of all three stores behind a pooler that gives each transaction another connection, as PgBouncer's transaction mode does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import psycopg
import pytest
from sqlalchemy import MetaData, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from finresilience.sql import Tables
from finresilience.testing import contracts
from tests.integration.conftest import kinds
from tests.integration.servers.postgres import Database
from tests.integration.sql.databases import SKEWED, Async, OnADatabase, Sync
from tests.integration.sql.kill_pooler import Pooler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.servers.postgres import Databases


@pytest.fixture(scope="module")
def pooled(makers: Callable[[str], Databases]) -> Iterator[tuple[Database, Pooler]]:
    with makers(kinds()[0]).one() as database:
        engine = create_engine(database.url("psycopg"))
        with engine.begin() as own:
            own.execute(text("CREATE TABLE skewed (skew double precision NOT NULL)"))
            own.execute(text("INSERT INTO skewed VALUES (0)"))
            own.execute(text(f"ALTER DATABASE {database.name} SET lock_timeout = 200"))  # no client may set it for a session here
        engine.dispose()
        with Pooler(database.dsn) as pooler:
            yield database, pooler


class OnPooler(OnADatabase):
    """Tables in a database behind the pooler, emptied for each law."""

    pooled: ClassVar[tuple[Database, Pooler]]
    drawn: ClassVar[Any] = None

    @pytest.fixture(autouse=True)
    def _pooled(self, pooled: tuple[Database, Pooler]) -> None:
        OnPooler.pooled = pooled

    def made(self) -> Any:
        direct, _ = self.pooled
        engine = create_engine(direct.url("psycopg"))
        if OnPooler.drawn is None:
            dialects: Any = SKEWED
            OnPooler.drawn = Tables(MetaData(), dialects=dialects)
        metadata = OnPooler.drawn.outbox.table.metadata
        metadata.create_all(engine)
        with engine.begin() as own:
            own.execute(text("; ".join(f"DELETE FROM {table}" for table in metadata.tables)))
            own.execute(text("UPDATE skewed SET skew = 0"))
        return OnPooler.drawn, engine

    def url(self, driver: str) -> str:
        return Database(self.pooled[1].dsn).url(driver)


class ByPsycopg(Sync, OnPooler):
    """Prepared statements are switched off, as psycopg's own page on PgBouncer says."""

    def make_store(self: Any) -> Any:
        tables, engine = self.made()
        behind = create_engine(self.url("psycopg"), connect_args={"prepare_threshold": None})
        store = self.store_of(tables, behind)
        store.beside, store.engine, store.made = engine, behind, None
        return store

    def done(self, store: Any) -> None:
        store.engine.dispose()
        store.beside.dispose()


class ByAsyncpg(Async, OnPooler):
    """Caches of statements are switched off, as asyncpg's own page on PgBouncer says."""

    def asynced(self) -> Any:
        none = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
        return create_async_engine(self.url("asyncpg"), connect_args=none)


class Keys(contracts.IdempotencyStoreContract):
    def store_of(self, tables: Any, engine: Any) -> Any:
        return tables.idempotency.store(engine)


class Inboxes(contracts.InboxContract):
    def store_of(self, tables: Any, engine: Any) -> Any:
        return tables.inbox.store(engine, park_after=3)


class Outboxes(contracts.OutboxStoreContract):
    def store_of(self, tables: Any, engine: Any) -> Any:
        return tables.outbox.store(engine)


class TestKeysByPsycopg(ByPsycopg, Keys):
    pass


class TestInboxesByPsycopg(ByPsycopg, Inboxes):
    pass


class TestOutboxesByPsycopg(ByPsycopg, Outboxes):
    pass


class TestKeysByAsyncpg(ByAsyncpg, Keys):
    pass


class TestInboxesByAsyncpg(ByAsyncpg, Inboxes):
    pass


class TestOutboxesByAsyncpg(ByAsyncpg, Outboxes):
    pass


def test_the_pooler_forgets_what_a_session_was_told(pooled: tuple[Database, Pooler]) -> None:
    with psycopg.connect(pooled[1].dsn, autocommit=True, prepare_threshold=None) as connection:
        connection.execute("SET application_name = 'mine'")
        told = {connection.execute("SHOW application_name").fetchone() for _ in range(12)}

    assert ("mine",) in told
    assert len(told) > 1
