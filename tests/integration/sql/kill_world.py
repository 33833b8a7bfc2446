"""What tests of kills and races share: the tables, and a ledger in which nothing keeps an effect from being written twice."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from urllib.parse import urlsplit, urlunsplit

from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, event, func, select
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from finresilience.clock import SystemClock
from finresilience.durable.codecs import json_codec
from finresilience.durable.idempotent import idempotent
from finresilience.sql import Tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from threading import Barrier

F = TypeVar("F")

METADATA: Final = MetaData()
TABLES: Final = Tables(METADATA)
EFFECTS: Final = Table("effects", METADATA, Column("n", Integer, primary_key=True), Column("key", String(255)), Column("by", String(255)))
PATIENCE: Final = 30.0  # seconds that a thread waits for the others; they take milliseconds
CALLERS: Final = 50
LEVELS: Final = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


@dataclass(frozen=True)
class World:
    """One database with the tables in it, reached by any driver."""

    url: str

    def made(self) -> World:
        engine = self.engine()
        METADATA.create_all(engine)
        engine.dispose()
        return self

    def by(self, driver: str) -> str:
        scheme = urlsplit(self.url).scheme.partition("+")[0]
        return urlunsplit(urlsplit(self.url)._replace(scheme=f"{scheme}+{driver}")) if self.is_postgres else self.url

    @property
    def is_postgres(self) -> bool:
        return self.url.startswith("postgresql")

    def engine(self, driver: str = "psycopg", **more: Any) -> Any:
        """Return an engine for as many callers as there are."""
        if not self.is_postgres:
            return _prompt(create_engine(self.url, connect_args={"timeout": PATIENCE}, **_wide(more)))
        return create_engine(self.by(driver), **_wide(more))

    def aengine(self, driver: str = "asyncpg", **more: Any) -> Any:
        if not self.is_postgres:
            url = self.url.replace("sqlite:", "sqlite+aiosqlite:")
            return create_async_engine(url, connect_args={"timeout": PATIENCE}, **_wide(more))
        return create_async_engine(self.by(driver), **_wide(more))

    def effects(self, key: str) -> int:
        """How often the effect of this key is in the ledger."""
        engine = self.engine()
        with engine.connect() as connection:
            found = connection.execute(select(func.count()).where(EFFECTS.c.key == key)).scalar_one()
        engine.dispose()
        return int(found)


def sqlite_world(folder: Path) -> World:
    return World(f"sqlite:///{folder / 'world.db'}").made()


def _wide(more: dict[str, Any]) -> dict[str, Any]:
    told = {"pool_size": CALLERS, "max_overflow": 0, "pool_timeout": PATIENCE}
    return more if more.get("poolclass") is NullPool else told | more


def _prompt(engine: Any) -> Any:
    """Let no test wait for a disk: processes are killed here, machines are not."""

    def connected(raw: Any, _: object) -> None:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("PRAGMA synchronous = OFF")
        raw.commit()

    event.listen(engine, "connect", connected)
    return engine


def at_once(barrier: Barrier | None) -> None:
    """Wait for the others, the first time."""
    if barrier is not None:
        barrier.wait(PATIENCE)


def once_each(barrier: Barrier) -> Iterator[Barrier | None]:
    """Yield the barrier once, and then nothing: a transaction that is run again waits for nobody."""
    yield barrier
    while True:
        yield None


def believe(skew: float) -> None:
    """Let this process believe that it is so many seconds later than it is."""
    real, more = time.time, timedelta(seconds=skew)
    time.time = lambda: real() + skew

    def utc(_: SystemClock) -> datetime:
        return datetime.now(UTC) + more

    told: Any = SystemClock
    told.utc = utc


def believe_again(patch: Any, skew: float) -> None:
    """Let this process believe so until the end of a test."""
    more = timedelta(seconds=skew)

    def utc(_: SystemClock) -> datetime:
        return datetime.now(UTC) + more

    patch.setattr(SystemClock, "utc", utc)


def once(store: Any, key: str, **more: Any) -> Callable[[F], F]:
    """Return `idempotent` of an operation that has this one key, whatever it is called with."""

    def told(*_: object) -> str:
        return key

    options: dict[str, Any] = {"codec": json_codec(), "key": told, "scope": told, "fingerprint": told, "lease": 60.0, "name": "pay"}
    operation: Any = idempotent(store, **options | more)
    return cast("Callable[[F], F]", operation)
