"""A database for each law: SQLite on a file, or a schema of its own in a PostgreSQL; and a clock of its own that a test can set forward."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Final, final

import pytest
from sqlalchemy import MetaData, create_engine, event, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from finresilience.sql import Tables
from finresilience.sql.dialects import PostgreSQL, SQLite

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from pathlib import Path

SKEWED: Final = {
    "postgresql": PostgreSQL(now="(clock_timestamp() + (SELECT make_interval(secs => skew) FROM skewed))"),
    "sqlite": replace(SQLite(), now=f"({SQLite().now} + (SELECT CAST(skew * 1000000 AS INTEGER) FROM skewed))"),
}
_numbers: Final = count()


class OnADatabase:
    """What each contract is told of stores on a database."""

    in_process = False
    backends = ("asyncio",)  # SQLAlchemy's async engines know no other
    tolerance = 0.5  # seconds that really pass while a law runs
    examples = 3
    options: ClassVar[dict[str, Any]] = {}

    def made(self) -> Any:
        """Return new, empty tables and an engine over them."""
        metadata = MetaData()
        tables = Tables(metadata, dialects=SKEWED, **self.options)
        engine = self.engine()
        with engine.begin() as own:
            own.execute(text("CREATE TABLE skewed (skew double precision NOT NULL)"))
            own.execute(text("INSERT INTO skewed VALUES (0)"))
            metadata.create_all(own)
        return tables, engine

    def engine(self) -> Any:
        raise NotImplementedError

    def done(self, store: Any) -> None:
        """Give back what `made` made."""
        store.beside.dispose()

    def advance(self, store: Any, seconds: float) -> None:
        with store.beside.begin() as own:
            own.execute(text("UPDATE skewed SET skew = skew + :more"), {"more": seconds})


class OnSqlite(OnADatabase):
    """A file, for sync callers."""

    folder: ClassVar[Path]

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        type(self).folder = tmp_path

    def engine(self) -> Any:
        self.path = self.folder / f"{next(_numbers)}.db"
        return sqlite_engine(self.path)


def sqlite_engine(path: Path) -> Any:
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool, connect_args={"timeout": 0.2})
    event.listen(engine, "connect", _quick)
    return engine


def _quick(raw: Any, _: object) -> None:
    raw.execute("PRAGMA journal_mode = WAL")
    raw.execute("PRAGMA synchronous = OFF")  # no power is cut here


@final
class Schemas:
    """Schemas of one database, each with its engine. One that a law has done with is emptied for another: to make one takes long."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.free: list[tuple[Any, Any, str]] = []

    def connected(self, schema: str) -> dict[str, Any]:
        return {"options": f"-c search_path={schema} -c lock_timeout=200"}

    def engine(self, schema: str) -> Any:
        with create_engine(self.url, poolclass=NullPool).begin() as own:
            own.execute(text(f"CREATE SCHEMA {schema}"))
        return create_engine(self.url, connect_args=self.connected(schema))

    def emptied(self) -> tuple[Any, Any, str]:
        tables, engine, schema = self.free.pop()
        with engine.begin() as own:
            own.execute(text("; ".join(f"DELETE FROM {table}" for table in tables.outbox.table.metadata.tables)))
            own.execute(text("UPDATE skewed SET skew = 0"))
        return tables, engine, schema

    def dispose(self) -> None:
        for _, engine, _ in self.free:
            engine.dispose()


class OnPostgres(OnADatabase):
    """A schema of its own, for sync callers."""

    schemas: ClassVar[Schemas]

    @pytest.fixture(autouse=True)
    def _schemas(self, schemas: Schemas) -> None:
        type(self).schemas = schemas

    def made(self) -> Any:
        if not self.schemas.free:
            return super().made()
        tables, engine, self.schema = self.schemas.emptied()
        return tables, engine

    def engine(self) -> Any:
        self.schema = f"law_{next(_numbers)}"
        return self.schemas.engine(self.schema)

    def done(self, store: Any) -> None:
        self.schemas.free.append(store.made)


class Sync:
    """Stores for sync callers: a subclass says of what, by `store_of(tables, engine)`."""

    def make_store(self: Any) -> Any:
        tables, engine = self.made()
        store = self.store_of(tables, engine)
        store.beside, store.engine, store.made = engine, engine, (tables, engine, getattr(self, "schema", ""))
        return store

    def transaction(self, store: Any) -> AbstractContextManager[Any]:
        opened: AbstractContextManager[Any] = store.engine.begin()
        return opened

    def close_store(self: Any, store: Any) -> None:
        self.done(store)


class Async(Sync):
    """Stores for async callers, over the same database."""

    async def make_store(self: Any) -> Any:
        tables, engine = self.made()
        asynced = self.asynced()
        store = self.store_of(tables, asynced)
        store.beside, store.engine, store.made = engine, asynced, (tables, engine, getattr(self, "schema", ""))
        return store

    def transaction(self, store: Any) -> AbstractAsyncContextManager[Any]:  # type: ignore[override] - as async as the store
        opened: AbstractAsyncContextManager[Any] = store.engine.begin()
        return opened

    async def close_store(self: Any, store: Any) -> None:
        await store.engine.dispose()
        self.done(store)


class OnAiosqlite(OnSqlite):
    """A file, for async callers."""

    def asynced(self) -> Any:
        engine = create_async_engine(f"sqlite+aiosqlite:///{self.path}", connect_args={"timeout": 0.2})
        event.listen(engine.sync_engine, "connect", _aquick)
        return engine


def _aquick(raw: Any, _: object) -> None:
    cursor = raw.cursor()
    cursor.execute("PRAGMA synchronous = OFF")
    cursor.close()


class OnAsyncpg(OnPostgres):
    """A schema, for async callers over asyncpg."""

    def asynced(self) -> Any:
        settings = {"search_path": self.schema, "lock_timeout": "200"}
        url = self.schemas.url.replace("+psycopg", "+asyncpg")
        return create_async_engine(url, connect_args={"server_settings": settings})


class OnAsyncPsycopg(OnPostgres):
    """A schema, for async callers over psycopg."""

    def asynced(self) -> Any:
        return create_async_engine(self.schemas.url, connect_args=self.schemas.connected(self.schema))
