"""Connections that are not as a store would like them: in a transaction already, left by a task that was cancelled, cut by the server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from sqlalchemy import create_engine, event, select, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, SingletonThreadPool, StaticPool

from finresilience.durable.outbox import LeaseTerms
from finresilience.durable.records import Claimed, InProgress
from finresilience.errors import ConfigurationError
from tests.integration.conftest import kinds
from tests.integration.sql.kill_world import EFFECTS, METADATA, TABLES, World, sqlite_world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.servers.postgres import Databases

AT = pytest.mark.parametrize("moment", ["connect", "checkout"])
ASYNC = pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
TERMS = LeaseTerms(lease=60.0)


@pytest.fixture(scope="module")
def world(makers: Callable[[str], Databases]) -> Iterator[World]:
    with makers(kinds()[0]).one() as database:
        yield World(database.url("psycopg")).made()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def beside(world: World) -> Iterator[Any]:
    """An engine that nothing is done to: what it sees is committed."""
    engine = world.engine(pool_size=2)
    yield engine
    engine.dispose()


def set_up(engine: Any, moment: str) -> Any:
    """Let a listener run SQL on each connection, as many services do to set a search path or a tenant: it leaves a transaction open."""

    def listener(raw: Any, *_: object) -> None:
        cursor = raw.cursor()
        cursor.execute("SET application_name = 'listened'")
        cursor.close()

    event.listen(engine, moment, listener)
    return engine


# ---------------------------------------------------------------- in a transaction already


@AT
def test_a_listener_that_leaves_a_transaction_open_takes_no_work_of_a_store_back(
    world: World, beside: Any, moment: str, fresh_name: str
) -> None:
    engine = set_up(world.engine(poolclass=NullPool), moment)

    claim = TABLES.idempotency.store(engine).claim("s", fresh_name, fingerprint="f", lease=60.0)
    failures = [TABLES.inbox.store(engine).failed(group="g", message_id=fresh_name).failures for _ in range(2)]

    assert isinstance(claim, Claimed)
    assert TABLES.idempotency.store(beside).find("s", fresh_name) is not None
    assert failures == [1, 2]


@AT
@ASYNC
async def test_a_listener_that_leaves_a_transaction_open_gives_no_key_away_twice(
    world: World, beside: Any, moment: str, driver: str, fresh_name: str
) -> None:
    engine = world.aengine(driver, poolclass=NullPool)
    set_up(engine.sync_engine, moment)
    store = TABLES.idempotency.store(engine)

    first = await store.claim("s", fresh_name, fingerprint="f", lease=60.0)
    second = await store.claim("s", fresh_name, fingerprint="f", lease=60.0)

    assert (type(first), type(second)) == (Claimed, InProgress)
    assert TABLES.idempotency.store(beside).find("s", fresh_name) is not None


@pytest.mark.parametrize("pool", [StaticPool, SingletonThreadPool])
def test_a_store_does_not_commit_what_its_caller_has_open_on_a_database_in_memory(pool: Any) -> None:
    more: Any = {"connect_args": {"check_same_thread": False}} if pool is StaticPool else {}
    engine = create_engine("sqlite://", poolclass=pool, **more)
    METADATA.create_all(engine)
    with Session(engine) as session:
        session.execute(EFFECTS.insert().values(key="k", by="me"))
        with pytest.raises(ConfigurationError, match="transaction"):
            TABLES.idempotency.store(engine).find("s", "k")
        session.rollback()
        assert session.execute(select(EFFECTS)).all() == []
    engine.dispose()


# ---------------------------------------------------------------- cancelled


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg", "aiosqlite"])
@pytest.mark.parametrize("how", ["task", "scope"])
async def test_no_task_that_is_cancelled_leaves_a_connection_on_which_work_is_lost(
    world: World, tmp_path: Path, driver: str, how: str, fresh_name: str
) -> None:
    here = sqlite_world(tmp_path) if driver == "aiosqlite" else world
    engine = here.aengine(driver, poolclass=AsyncAdaptedQueuePool, pool_size=1, max_overflow=0, pool_timeout=10.0)
    beside = here.engine(pool_size=1)
    store, known = TABLES.idempotency.store(engine), TABLES.idempotency.store(beside)
    lost: list[int] = []
    for n in range(60):
        await (cancelled_task if how == "task" else cancelled_scope)(work_of(engine, n, fresh_name), after=n % 12)
        claim = await store.claim("s", f"{fresh_name}/{n}", fingerprint="f", lease=60.0)
        if isinstance(claim, Claimed) and known.find("s", f"{fresh_name}/{n}") is None:
            lost.append(n)
    await engine.dispose()
    beside.dispose()

    assert lost == []


@ASYNC
async def test_a_task_that_is_cancelled_leaves_everybody_elses_transactions_whole(
    world: World, beside: Any, driver: str, fresh_name: str
) -> None:
    engine = world.aengine(driver, pool_size=1, max_overflow=0, pool_timeout=10.0)
    for n in range(48):
        await cancelled_task(work_of(engine, n, fresh_name), after=n % 12)
        async with engine.connect() as connection:  # rolled back: an autocommit that was left on would keep it
            await connection.execute(EFFECTS.insert().values(key=fresh_name, by="nobody"))
        async with engine.begin() as connection:
            await connection.execute(EFFECTS.insert().values(key=f"{fresh_name}/{n}", by="me"))
    await engine.dispose()

    with beside.connect() as connection:
        kept = set(connection.execute(select(EFFECTS.c.key).where(EFFECTS.c.key.startswith(fresh_name))).scalars())
    assert kept == {f"{fresh_name}/{n}" for n in range(48)}


def work_of(engine: Any, n: int, name: str) -> Any:
    """Return one of the deeds of a store: alone, in one transaction, in one with locks."""
    if n % 3 == 0:
        return TABLES.inbox.store(engine).failed(group="g", message_id=f"{name}/{n}")
    if n % 3 == 1:
        return TABLES.idempotency.store(engine).claim("other", f"{name}/{n}", fingerprint="f", lease=60.0)
    return TABLES.outbox.store(engine).claim(f"{name}/{n}", at_most=2, terms=TERMS)


async def cancelled_task(work: Any, *, after: int) -> None:
    task = asyncio.ensure_future(work)
    for _ in range(after):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def cancelled_scope(work: Any, *, after: int) -> None:
    async def run() -> None:
        await work

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        for _ in range(after):
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()


# ---------------------------------------------------------------- cut


def test_what_was_added_on_a_connection_that_is_cut_is_not_committed_later(world: World, beside: Any, fresh_name: str) -> None:
    from sqlalchemy.exc import DBAPIError, PendingRollbackError

    from finresilience.durable.messages import OutboxMessage

    engine = world.engine(pool_size=1)
    with Session(engine) as session:
        TABLES.outbox.add(session, OutboxMessage(topic="t", key=fresh_name, type="Paid", payload={}))
        pid = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with beside.begin() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        with pytest.raises((DBAPIError, PendingRollbackError)):
            session.commit()
        session.rollback()
        session.execute(text("SELECT 1"))
        session.commit()
    engine.dispose()

    with beside.connect() as connection:
        of_it = select(TABLES.outbox.table).where(TABLES.outbox.table.c.aggregateid == fresh_name)
        assert connection.execute(of_it).all() == []


def test_a_pool_of_connections_that_were_cut_serves_again_after_one_error_each(world: World, beside: Any, fresh_name: str) -> None:
    engine = world.engine(pool_size=1, max_overflow=0)
    store = TABLES.idempotency.store(engine)
    with engine.connect() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with beside.begin() as other:
        other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})

    with pytest.raises(Exception, match="terminating connection"):
        store.claim("s", fresh_name, fingerprint="f", lease=60.0)

    assert isinstance(store.claim("s", fresh_name, fingerprint="f", lease=60.0), Claimed)
    engine.dispose()
