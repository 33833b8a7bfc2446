"""A provider may take its time: no connection of the pool is held while it does, and one connection is enough for everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool

from finresilience.durable.messages import OutboxMessage
from finresilience.durable.relay import Relay
from tests.integration.sql.kill_world import TABLES, World, once, sqlite_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.servers.postgres import Database

ONE: Any = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 1.0}


@pytest.fixture(params=["sqlite", "psycopg"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "sqlite":
        engine = sqlite_world(tmp_path).engine(poolclass=QueuePool, **ONE)
    else:
        postgres: Database = request.getfixturevalue("postgres")
        engine = World(postgres.url("psycopg")).made().engine(**ONE)
    yield engine
    engine.dispose()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["aiosqlite", "asyncpg", "psycopg"])
async def aengine(request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str) -> Any:
    if request.param == "aiosqlite":
        engine = sqlite_world(tmp_path).aengine(poolclass=AsyncAdaptedQueuePool, **ONE)
    else:
        postgres: Database = request.getfixturevalue("postgres")
        engine = World(postgres.url("psycopg")).made().aengine(request.param, **ONE)
    yield engine
    await engine.dispose()


def test_no_connection_is_held_while_a_provider_is_called(engine: Any) -> None:
    held: list[int] = []

    @once(TABLES.idempotency.store(engine), "k", deadline=30.0)
    def pay() -> str:
        held.append(engine.pool.checkedout())
        return "paid"

    assert pay() == "paid"
    assert (held, engine.pool.checkedout()) == ([0], 0)


async def test_no_connection_is_held_while_a_provider_is_awaited(aengine: Any) -> None:
    held: list[int] = []

    @once(TABLES.idempotency.store(aengine), "k")
    async def pay() -> str:
        held.append(aengine.pool.checkedout())
        return "paid"

    assert await pay() == "paid"
    assert (held, aengine.pool.checkedout()) == ([0], 0)


def test_a_body_may_use_the_only_connection_there_is(engine: Any) -> None:
    @once(TABLES.idempotency.store(engine), "k", deadline=30.0)
    def pay() -> int:
        with engine.begin() as connection:
            told: int = connection.execute(text("SELECT 7")).scalar_one()
        return told

    assert (pay(), pay()) == (7, 7)


async def test_an_async_body_may_use_the_only_connection_there_is(aengine: Any) -> None:
    @once(TABLES.idempotency.store(aengine), "k")
    async def pay() -> int:
        async with aengine.begin() as connection:
            told: int = (await connection.execute(text("SELECT 7"))).scalar_one()
        return told

    assert (await pay(), await pay()) == (7, 7)


def test_no_connection_is_held_while_an_event_is_published(engine: Any) -> None:
    with engine.begin() as connection:
        TABLES.outbox.add(connection, OutboxMessage(topic="t", key="k", type="Paid", payload={}))
    held: list[int] = []

    Relay(TABLES.outbox.store(engine), lambda row: held.append(engine.pool.checkedout())).run_sync(until_idle=True)

    assert (held, engine.pool.checkedout()) == ([0], 0)


async def test_no_connection_is_held_while_the_publishing_of_an_event_is_awaited(aengine: Any) -> None:
    async with aengine.begin() as connection:
        TABLES.outbox.add(connection, OutboxMessage(topic="t", key="k", type="Paid", payload={}))
    held: list[int] = []

    async def publish(row: Any) -> None:
        held.append(aengine.pool.checkedout())

    await Relay(TABLES.outbox.store(aengine), publish).run(until_idle=True)

    assert (held, aengine.pool.checkedout()) == ([0], 0)
