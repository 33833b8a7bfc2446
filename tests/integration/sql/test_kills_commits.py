"""What may come between an event that is added and the commit: flushes, savepoints, sessions that are closed, and commits that fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from finresilience.durable.messages import OutboxMessage
from finresilience.durable.outbox import DuplicateMessageError
from finresilience.errors import ConfigurationError
from finresilience.sql import Tables, TransactionClaim
from tests.integration.conftest import kinds
from tests.integration.sql.kill_world import World, sqlite_world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.servers.postgres import Databases


class Base(DeclarativeBase):
    pass


class Payment(Base):
    __tablename__ = "payments"
    id: Mapped[int] = mapped_column(primary_key=True)
    reference: Mapped[str] = mapped_column(unique=True)


TABLES = Tables(Base.metadata)
OUTBOX = TABLES.outbox.table


@pytest.fixture(scope="module")
def world(makers: Callable[[str], Databases]) -> Iterator[World]:
    with makers(kinds()[0]).one() as database:
        yield World(database.url("psycopg"))


@pytest.fixture(params=["sqlite", "psycopg"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "sqlite":
        engine = sqlite_world(tmp_path).engine(pool_size=2)
    else:
        engine = request.getfixturevalue("world").engine(pool_size=2)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def paid(key: str = "k", **more: Any) -> OutboxMessage:
    return OutboxMessage(topic="payments", key=key, type="Paid", payload={}, **more)


def written(engine: Any) -> list[str]:
    """The keys of the events that are there, in order."""
    with engine.connect() as connection:
        return list(connection.execute(select(OUTBOX.c.aggregateid).order_by(OUTBOX.c.seq)).scalars())


def payments(engine: Any) -> int:
    with engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(Payment)).scalar_one())


# ---------------------------------------------------------------- listeners


@pytest.mark.parametrize("moment", ["before_flush", "after_flush", "before_commit"])
def test_what_a_listener_adds_while_a_session_commits_commits_with_it(engine: Any, moment: str) -> None:
    with Session(engine) as session:
        TABLES.outbox.add(session, paid("early"))
        event.listen(session, moment, lambda *_: TABLES.outbox.add(session, paid("late")), once=True)
        session.add(Payment(reference="1"))
        session.commit()
        assert (payments(engine), written(engine)) == (1, ["early", "late"])
        session.add(Payment(reference="2"))
        session.commit()

    assert written(engine) == ["early", "late"]


def test_what_a_mapper_adds_while_its_object_is_inserted_commits_with_it(engine: Any) -> None:
    def inserted(_: Any, connection: Any, payment: Payment) -> None:
        TABLES.outbox.add(connection, paid(payment.reference))

    event.listen(Payment, "after_insert", inserted)
    try:
        with Session(engine) as session:
            session.add(Payment(reference="1"))
            session.commit()
    finally:
        event.remove(Payment, "after_insert", inserted)

    assert (payments(engine), written(engine)) == (1, ["1"])


# ---------------------------------------------------------------- sessions that go on


@pytest.mark.parametrize("end", ["close", "rollback", "reset", "expunge_all and close"])
def test_no_later_commit_of_a_session_publishes_what_an_earlier_transaction_did_not_commit(engine: Any, end: str) -> None:
    session = Session(engine)
    TABLES.outbox.add(session, paid("ghost"))
    session.execute(select(1))
    for step in end.split(" and "):
        getattr(session, step)()
    session.add(Payment(reference="1"))
    session.commit()
    session.close()

    assert (payments(engine), written(engine)) == (1, [])


def test_a_block_that_raises_adds_nothing(engine: Any) -> None:
    session = Session(engine)
    with pytest.raises(ZeroDivisionError), session.begin():
        TABLES.outbox.add(session, paid())
        _ = 1 / 0
    with session.begin():
        session.add(Payment(reference="1"))
    session.close()

    assert (payments(engine), written(engine)) == (1, [])


def test_a_scoped_session_that_is_removed_leaves_nothing_for_the_next(engine: Any) -> None:
    sessions = scoped_session(sessionmaker(engine))
    TABLES.outbox.add(sessions, paid("ghost"))
    sessions.remove()
    TABLES.outbox.add(sessions, paid("real"))
    sessions.commit()
    sessions.remove()

    assert written(engine) == ["real"]


# ---------------------------------------------------------------- savepoints


@pytest.mark.parametrize("kind", ["session", "connection", "connection of a session"])
def test_what_a_savepoint_takes_back_is_not_published_and_the_rest_is(engine: Any, kind: str) -> None:
    with engine.connect() as connection, Session(engine if kind != "connection" else connection) as session:
        whole = session if kind != "connection" else connection

        def add(key: str) -> None:
            TABLES.outbox.add(session.connection() if kind == "connection of a session" else whole, paid(key))

        add("first")
        outer = whole.begin_nested()
        add("taken back")
        inner = whole.begin_nested()
        add("taken back, though its own savepoint was kept")
        inner.commit()
        outer.rollback()
        with whole.begin_nested():
            add("second")
        add("third")
        whole.commit()

    assert written(engine) == ["first", "second", "third"]


def test_a_transaction_round_a_session_decides_over_its_events(engine: Any) -> None:
    for key, end in (("kept", "commit"), ("not kept", "rollback")):
        with engine.connect() as connection:
            outer = connection.begin()
            with Session(connection, join_transaction_mode="create_savepoint") as session:
                TABLES.outbox.add(session, paid(key))
                session.commit()
            getattr(outer, end)()

    assert written(engine) == ["kept"]


# ---------------------------------------------------------------- commits that fail


def test_a_commit_that_is_refused_for_an_event_is_refused_again_and_never_committed_without_it(engine: Any) -> None:
    known = uuid4()
    with Session(engine) as session:
        TABLES.outbox.add(session, paid("first", id=known))
        session.commit()
    with Session(engine) as session:
        session.add(Payment(reference="1"))
        TABLES.outbox.add(session, paid("innocent"))
        TABLES.outbox.add(session, paid("second", id=known))
        with pytest.raises(DuplicateMessageError):
            session.commit()
        with pytest.raises(Exception, match=r"."):
            session.commit()

    assert (payments(engine), written(engine)) == (0, ["first"])


def test_a_session_whose_commit_failed_publishes_what_its_next_transaction_adds_and_nothing_else(engine: Any) -> None:
    with Session(engine) as session:
        session.add(Payment(reference="1"))
        session.commit()
        session.add(Payment(reference="1"))
        TABLES.outbox.add(session, paid("of a payment that was refused"))
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
        session.add(Payment(reference="2"))
        TABLES.outbox.add(session, paid("of the next"))
        session.commit()

    assert (payments(engine), written(engine)) == (2, ["of the next"])


# ---------------------------------------------------------------- not a transaction at all


@pytest.mark.parametrize("how", ["of the engine", "of its options"])
def test_where_each_statement_is_committed_by_itself_nothing_is_added_or_claimed(engine: Any, how: str) -> None:
    if how == "of its options":
        eager = engine.execution_options(isolation_level="AUTOCOMMIT")
    else:
        from sqlalchemy import create_engine

        eager = create_engine(engine.url, isolation_level="AUTOCOMMIT")
    with Session(eager) as session:
        with pytest.raises(ConfigurationError, match=r"AUTOCOMMIT|by itself"):
            TABLES.outbox.add(session, paid())
        claim: TransactionClaim[bytes] = TABLES.idempotency.claim(session, "k", scope="s", request="r")
        with pytest.raises(ConfigurationError, match=r"AUTOCOMMIT|by itself"), claim:
            pass
        once = TABLES.inbox.once(session, group="g", message_id="m")
        with pytest.raises(ConfigurationError, match=r"AUTOCOMMIT|by itself"), once:
            pass
    eager.dispose()

    assert written(engine) == []
    assert TABLES.idempotency.store(engine).find("s", "k") is None


def test_a_session_that_binds_table_by_table_is_asked_for_the_bind_of_ours(engine: Any) -> None:
    binds: Any = dict.fromkeys(TABLES.all, engine)
    with Session(binds=binds) as session:
        claim: TransactionClaim[bytes] = TABLES.idempotency.claim(session, "k", scope="s", request="r")
        with claim:
            claim.complete(b"done")
        with TABLES.inbox.once(session, group="g", message_id="m") as seen:
            assert seen
        TABLES.outbox.add(session, paid("bound"))
        session.commit()

    assert written(engine) == ["bound"]
    assert TABLES.idempotency.store(engine).find("s", "k") is not None


def test_a_session_for_each_tenants_schema_is_refused_and_not_ignored(engine: Any) -> None:
    translated = engine.execution_options(schema_translate_map={None: "tenant"})
    with Session(translated) as session, pytest.raises(ConfigurationError, match="schema"):
        TABLES.outbox.add(session, paid())
        session.commit()

    assert written(engine) == []
