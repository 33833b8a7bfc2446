"""An event commits with its effect, whatever transaction it was added in, and goes with what a savepoint or a rollback takes back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from sqlalchemy import event, insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, registry, scoped_session, sessionmaker

from finresilience.durable.errors import StoreFullError
from finresilience.durable.messages import OutboxMessage
from finresilience.durable.outbox import DuplicateMessageError
from finresilience.errors import ConfigurationError
from finresilience.sql import outbox_pending
from tests.integration.sql.kill_world import EFFECTS, TABLES, World, sqlite_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ID = UUID("01890000-0000-7000-8000-000000000001")


@pytest.fixture(params=["sqlite", "psycopg"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "sqlite":
        engine = sqlite_world(tmp_path).engine()
    else:
        engine = World(request.getfixturevalue("postgres").url("psycopg")).made().engine()
    yield engine
    engine.dispose()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["aiosqlite", "asyncpg", "psycopg"])
async def aengine(request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str) -> Any:
    if request.param == "aiosqlite":
        engine = sqlite_world(tmp_path).aengine()
    else:
        engine = World(request.getfixturevalue("postgres").url("psycopg")).made().aengine(request.param)
    yield engine
    await engine.dispose()


class Effect:
    """An effect as an object of SQLAlchemy's unit of work."""

    def __init__(self, key: str, by: str) -> None:
        self.key, self.by = key, by


registry().map_imperatively(Effect, EFFECTS)


def told(n: int, key: str = "acc_1", **more: Any) -> OutboxMessage:
    return OutboxMessage(topic="payments", key=key, type="Paid", payload={"n": n}, **more)


WRITTEN = select(TABLES.outbox.table.c.payload).order_by(TABLES.outbox.table.c.seq)


def written(engine: Any) -> list[int]:
    with engine.connect() as own:
        return [int(payload[5:-1]) for payload in own.execute(WRITTEN).scalars()]


async def awritten(engine: Any) -> list[int]:
    async with engine.connect() as own:
        return [int(payload[5:-1]) for payload in (await own.execute(WRITTEN)).scalars()]


def effects(engine: Any) -> int:
    with engine.connect() as own:
        return len(own.execute(select(EFFECTS)).all())


# --- transactions of every kind -------------------------------------------------------------------------------------------


def test_a_session_writes_what_was_added_when_it_commits_and_in_that_order(engine: Any) -> None:
    with Session(engine) as session, session.begin():
        for n in (3, 1, 2):
            TABLES.outbox.add(session, told(n))
        assert written(engine) == []
    assert written(engine) == [3, 1, 2]


def test_a_session_that_did_nothing_else_writes_its_events_too(engine: Any) -> None:
    with Session(engine) as session:
        TABLES.outbox.add(session, told(1))
        session.commit()
        session.commit()
    assert written(engine) == [1]


def test_a_connection_writes_what_was_added_when_it_commits(engine: Any) -> None:
    with engine.connect() as connection:
        TABLES.outbox.add(connection, told(1))
        connection.rollback()
        TABLES.outbox.add(connection, told(2))
        connection.commit()
    assert written(engine) == [2]


def test_a_scoped_session_is_the_session_of_its_thread(engine: Any) -> None:
    sessions = scoped_session(sessionmaker(engine))
    TABLES.outbox.add(sessions, told(1))
    sessions.commit()
    sessions.remove()
    assert written(engine) == [1]


async def test_an_async_session_writes_what_was_added_without_an_await(aengine: Any) -> None:
    async with AsyncSession(aengine) as session, session.begin():
        TABLES.outbox.add(session, told(1))
        TABLES.outbox.add(session, told(2))
    assert await awritten(aengine) == [1, 2]


async def test_an_async_connection_writes_what_was_added_without_an_await(aengine: Any) -> None:
    async with aengine.begin() as connection:
        TABLES.outbox.add(connection, told(1))
    async with aengine.connect() as connection:
        TABLES.outbox.add(connection, told(2))
    assert await awritten(aengine) == [1]


def test_a_session_in_somebody_elses_transaction_leaves_the_writing_to_its_owner(engine: Any) -> None:
    with engine.connect() as connection, connection.begin() as owners:
        with Session(connection, join_transaction_mode="rollback_only") as session:
            TABLES.outbox.add(session, told(1))
            session.commit()
        assert written(engine) == []
        owners.commit()
    assert written(engine) == [1]


def test_what_the_owner_of_a_joined_transaction_rolls_back_is_never_written(engine: Any) -> None:
    with engine.connect() as connection:
        with connection.begin() as owners:
            with Session(connection, join_transaction_mode="rollback_only") as session:
                TABLES.outbox.add(session, told(1))
                session.commit()
            owners.rollback()
        connection.execute(insert(EFFECTS).values(key="another", by="x"))
        connection.commit()
    assert written(engine) == []


# --- savepoints -------------------------------------------------------------------------------------------------------------


def test_a_savepoint_takes_back_what_was_added_in_it_and_no_more(engine: Any) -> None:
    with Session(engine) as session, session.begin():
        TABLES.outbox.add(session, told(1))
        with session.begin_nested() as outer:
            TABLES.outbox.add(session, told(2))
            with session.begin_nested():
                TABLES.outbox.add(session, told(3))
            outer.rollback()
        with session.begin_nested():
            TABLES.outbox.add(session, told(4))
        with session.begin_nested() as last:
            TABLES.outbox.add(session, told(5))
            last.rollback()
        TABLES.outbox.add(session, told(6))
    assert written(engine) == [1, 4, 6]


def test_a_connections_savepoint_takes_back_what_was_added_in_it_and_no_more(engine: Any) -> None:
    with engine.begin() as connection:
        TABLES.outbox.add(connection, told(1))
        outer = connection.begin_nested()
        TABLES.outbox.add(connection, told(2))
        with connection.begin_nested():
            TABLES.outbox.add(connection, told(3))
        outer.rollback()
        with connection.begin_nested():
            TABLES.outbox.add(connection, told(4))
        TABLES.outbox.add(connection, told(5))
    assert written(engine) == [1, 4, 5]


# --- when it goes wrong ---------------------------------------------------------------------------------------------------------


def test_what_a_flush_listener_adds_while_the_commit_is_under_way_is_written(engine: Any) -> None:
    with Session(engine) as session:
        event.listen(session, "before_commit", lambda session: TABLES.outbox.add(session, told(1)))
        event.listen(session, "after_flush", lambda session, _: TABLES.outbox.add(session, told(2)))
        TABLES.outbox.add(session, told(0))
        session.add(Effect(key="k", by="x"))
        event.listen(session, "before_commit", lambda session: TABLES.outbox.add(session, told(3)))
        session.commit()
    assert written(engine) == [0, 1, 3, 2]


def test_what_a_flush_listener_adds_as_the_first_of_all_is_written(engine: Any) -> None:
    with Session(engine) as session:
        event.listen(session, "after_flush", lambda session, _: TABLES.outbox.add(session, told(2)))
        session.add(Effect(key="k", by="x"))
        session.commit()
    assert (effects(engine), written(engine)) == (1, [2])


def test_a_session_that_is_closed_and_used_again_publishes_no_ghost(engine: Any) -> None:
    session = Session(engine)
    TABLES.outbox.add(session, told(1))
    session.close()
    TABLES.outbox.add(session, told(2))
    session.commit()
    session.close()
    assert written(engine) == [2]


@pytest.mark.parametrize("kind", ["session", "connection"])
def test_an_effect_is_never_committed_without_its_event_however_often_the_commit_is_tried(engine: Any, kind: str) -> None:
    with engine.begin() as own:
        TABLES.outbox.add(own, told(1, id=ID))
    with Session(engine) if kind == "session" else engine.connect() as mine:
        mine.execute(insert(EFFECTS).values(key="k", by="x"))
        TABLES.outbox.add(mine, told(2))
        TABLES.outbox.add(mine, told(3, id=ID))
        with pytest.raises(DuplicateMessageError):
            mine.commit()
        try:
            mine.commit()
        except Exception:
            mine.rollback()
    assert (effects(engine), written(engine)) == (0, [1])


def test_the_id_of_a_dead_letter_is_taken(engine: Any) -> None:
    with engine.begin() as own:
        own.execute(
            insert(TABLES.outbox.dead).values(
                seq=1,
                id=ID,
                aggregatetype="t",
                aggregateid="k",
                type="x",
                payload=b"",
                content_type="a/b",
                part=0,
                created_at=NOON,
                died_at=NOON,
                reason="refused",
            )
        )
    with pytest.raises(DuplicateMessageError), engine.begin() as own:
        TABLES.outbox.add(own, told(3, id=ID))


def test_a_transaction_adds_a_bounded_number(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_pending, "AT_MOST", 2)
    with pytest.raises(StoreFullError), engine.begin() as own:
        for n in range(3):
            TABLES.outbox.add(own, told(n))
    assert written(engine) == []


def test_what_is_no_transaction_is_refused(engine: Any) -> None:
    closed = engine.connect()
    closed.close()
    by_itself = engine.execution_options(isolation_level="AUTOCOMMIT")
    elsewhere = engine.execution_options(schema_translate_map={None: "tenant_7"})
    for wrong in (None, engine, closed, by_itself.connect(), Session(by_itself), elsewhere.connect(), Session(elsewhere)):
        with pytest.raises(ConfigurationError):
            TABLES.outbox.add(wrong, told(1))
    with pytest.raises(ConfigurationError), engine.begin() as own:
        TABLES.outbox.add(own, {"topic": "payments"})  # type: ignore[arg-type] - what is under test
    assert written(engine) == []


def test_of_many_keys_added_crosswise_no_two_transactions_wait_for_each_other(engine: Any) -> None:
    from threading import Barrier, Thread

    keys, start, failures = [f"acc_{n}" for n in range(20)], Barrier(6), list[BaseException]()

    def producer(turned: bool) -> None:
        try:
            start.wait()
            for n in range(5):
                with engine.begin() as own:
                    for key in reversed(keys) if turned else keys:
                        TABLES.outbox.add(own, told(n, key))
        except BaseException as error:
            failures.append(error)

    threads = [Thread(target=producer, args=(n % 2 == 0,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(written(engine)) == 6 * 5 * 20
