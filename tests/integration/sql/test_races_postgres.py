"""Fifty callers with one key, all inside their transactions before the first commits, at every level of isolation: one effect."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import sessionmaker

from finresilience.durable.codecs import json_codec
from finresilience.durable.seen import Duplicate, Fresh
from finresilience.sql import KeyAnsweredError, arun_in_transaction, run_in_transaction
from tests.integration.conftest import kinds
from tests.integration.sql.kill_world import CALLERS, EFFECTS, LEVELS, PATIENCE, TABLES, World, at_once, once, once_each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.servers.postgres import Databases

pytestmark = pytest.mark.parametrize("level", LEVELS)
LOOK = text("SELECT count(*) FROM effects")  # takes the snapshot of the stricter levels


@pytest.fixture(scope="module")
def world(makers: Callable[[str], Databases]) -> Iterator[World]:
    with makers(kinds()[0]).one() as database:
        yield World(database.url("psycopg")).made()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # SQLAlchemy's async engines know no other


def fifty_threads(work: Callable[[int], Any]) -> list[Any]:
    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(work, range(CALLERS)))


class Meeting:
    """Where fifty tasks wait until all are there."""

    def __init__(self) -> None:
        self._missing = CALLERS
        self._all = asyncio.Event()

    async def met(self) -> None:
        self._missing -= 1
        if self._missing == 0:
            self._all.set()
        await asyncio.wait_for(self._all.wait(), PATIENCE)


# ---------------------------------------------------------------- a claim in the caller's transaction


def test_fifty_threads_that_claim_in_their_transactions_make_one_effect(world: World, level: str, fresh_name: str) -> None:
    engine = world.engine(isolation_level=level)
    sessions, together = sessionmaker(engine), Barrier(CALLERS)

    def pay(n: int) -> Any:
        turns = once_each(together)

        def work(session: Any) -> str:
            session.execute(LOOK)
            at_once(next(turns))
            with TABLES.idempotency.claim(session, fresh_name, scope="race", request="r", codec=json_codec()) as claim:
                session.execute(EFFECTS.insert().values(key=fresh_name, by=str(n)))
                claim.complete(f"paid by {n}")
            return f"paid by {n}"

        try:
            return run_in_transaction(sessions.begin, work)
        except KeyAnsweredError as error:
            return error.answer

    answers = fifty_threads(pay)
    engine.dispose()

    assert world.effects(fresh_name) == 1
    assert len(set(answers)) == 1


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_fifty_tasks_that_claim_in_their_transactions_make_one_effect(world: World, level: str, driver: str, fresh_name: str) -> None:
    engine = world.aengine(driver, isolation_level=level)
    sessions, meeting = async_sessionmaker(engine), Meeting()

    async def pay(n: int) -> Any:
        met = False

        async def work(session: Any) -> str:
            nonlocal met
            await session.execute(LOOK)
            if not met:
                met = True
                await meeting.met()
            async with TABLES.idempotency.claim(session, fresh_name, scope="race", request="r", codec=json_codec()) as claim:
                await session.execute(EFFECTS.insert().values(key=fresh_name, by=str(n)))
                claim.complete(f"paid by {n}")
            return f"paid by {n}"

        try:
            return await arun_in_transaction(sessions.begin, work)
        except KeyAnsweredError as error:
            return error.answer

    answers = await asyncio.gather(*map(pay, range(CALLERS)))
    await engine.dispose()

    assert world.effects(fresh_name) == 1
    assert len(set(answers)) == 1


# ---------------------------------------------------------------- the saboteur


def test_the_same_fifty_that_look_first_and_act_then_pay_fifty_times_unless_the_database_finds_them_out(
    world: World, level: str, fresh_name: str
) -> None:
    paid = look_then_act(world, level, fresh_name)

    assert (paid == CALLERS) is (level != "SERIALIZABLE")


def look_then_act(world: World, level: str, key: str) -> int:
    engine, together = world.engine(isolation_level=level), Barrier(CALLERS)

    def pay(n: int) -> None:
        with suppress(OperationalError), engine.begin() as connection:  # a serialization failure
            found = connection.execute(select(EFFECTS.c.n).where(EFFECTS.c.key == key)).first()
            together.wait(PATIENCE)
            if found is None:
                connection.execute(EFFECTS.insert().values(key=key, by=str(n)))

    fifty_threads(pay)
    engine.dispose()
    return world.effects(key)


# ---------------------------------------------------------------- the inbox


def test_fifty_threads_that_mark_one_message_handle_it_once(world: World, level: str, fresh_name: str) -> None:
    engine = world.engine(isolation_level=level)
    sessions, together = sessionmaker(engine), Barrier(CALLERS)

    def handle(n: int) -> Any:
        turns = once_each(together)

        def work(session: Any) -> Any:
            session.execute(LOOK)
            at_once(next(turns))
            with TABLES.inbox.once(session, group="ledger", message_id=fresh_name) as seen:
                if seen:
                    session.execute(EFFECTS.insert().values(key=fresh_name, by=str(n)))
            return seen

        return run_in_transaction(sessions.begin, work)

    seen = fifty_threads(handle)
    engine.dispose()

    assert world.effects(fresh_name) == 1
    assert sorted(type(one).__name__ for one in seen) == ["Duplicate"] * (CALLERS - 1) + ["Fresh"]


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_fifty_tasks_that_mark_one_message_handle_it_once(world: World, level: str, driver: str, fresh_name: str) -> None:
    engine = world.aengine(driver, isolation_level=level)
    sessions, meeting = async_sessionmaker(engine), Meeting()

    async def handle(n: int) -> Any:
        met = False

        async def work(session: Any) -> Any:
            nonlocal met
            await session.execute(LOOK)
            if not met:
                met = True
                await meeting.met()
            async with TABLES.inbox.once(session, group="ledger", message_id=fresh_name) as seen:
                if seen:
                    await session.execute(EFFECTS.insert().values(key=fresh_name, by=str(n)))
            return seen

        return await arun_in_transaction(sessions.begin, work)

    seen = await asyncio.gather(*map(handle, range(CALLERS)))
    await engine.dispose()

    assert world.effects(fresh_name) == 1
    assert sum(isinstance(one, Fresh) for one in seen) == 1
    assert sum(isinstance(one, Duplicate) for one in seen) == CALLERS - 1


def test_fifty_threads_that_consume_one_message_handle_it_once(world: World, level: str, fresh_name: str) -> None:
    engine = world.engine(isolation_level=level)
    sessions, together = sessionmaker(engine), Barrier(CALLERS)

    def handle(n: int) -> Any:
        together.wait(PATIENCE)
        return TABLES.inbox.consume(
            sessions,
            lambda session: session.execute(EFFECTS.insert().values(key=fresh_name, by=str(n))),
            group="ledger",
            message_id=fresh_name,
        )

    seen = fifty_threads(handle)
    engine.dispose()

    assert world.effects(fresh_name) == 1
    assert sorted(type(one).__name__ for one in seen) == ["Duplicate"] * (CALLERS - 1) + ["Fresh"]


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_fifty_tasks_that_consume_one_message_handle_it_once(world: World, level: str, driver: str, fresh_name: str) -> None:
    engine = world.aengine(driver, isolation_level=level)
    sessions = async_sessionmaker(engine)

    def handle(n: int) -> Any:
        async def book(session: Any) -> None:
            await session.execute(EFFECTS.insert().values(key=fresh_name, by=str(n)))

        return TABLES.inbox.consume(sessions, book, group="ledger", message_id=fresh_name)

    seen = await asyncio.gather(*map(handle, range(CALLERS)))
    await engine.dispose()

    assert world.effects(fresh_name) == 1
    assert sum(isinstance(one, Fresh) for one in seen) == 1


# ---------------------------------------------------------------- the leased shape


def test_fifty_threads_that_call_one_operation_reach_the_provider_once(world: World, level: str, fresh_name: str) -> None:
    engine, together = world.engine(isolation_level=level), Barrier(CALLERS)

    @once(TABLES.idempotency.store(engine), fresh_name, deadline=PATIENCE, wait=PATIENCE)
    def pay(n: int) -> str:
        with engine.begin() as provider:  # its ledger happens to be in the same database
            provider.execute(EFFECTS.insert().values(key=fresh_name, by=str(n)))
        return f"paid by {n}"

    def call(n: int) -> str:
        together.wait(PATIENCE)
        return pay(n)

    answers = fifty_threads(call)
    engine.dispose()

    assert world.effects(fresh_name) == 1
    assert len(set(answers)) == 1


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_fifty_tasks_that_call_one_operation_reach_the_provider_once(world: World, level: str, driver: str, fresh_name: str) -> None:
    engine = world.aengine(driver, isolation_level=level)

    @once(TABLES.idempotency.store(engine), fresh_name, wait=PATIENCE)
    async def pay(n: int) -> str:
        async with engine.begin() as provider:
            await provider.execute(EFFECTS.insert().values(key=fresh_name, by=str(n)))
        return f"paid by {n}"

    answers = await asyncio.gather(*map(pay, range(CALLERS)))
    await engine.dispose()

    assert world.effects(fresh_name) == 1
    assert len(set(answers)) == 1
