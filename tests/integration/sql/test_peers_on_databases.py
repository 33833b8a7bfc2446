"""What other outboxes and key stores were measured or read to do wrong, each tried on ours over a real database."""

from __future__ import annotations

import time
from threading import Event, Thread, current_thread
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from finresilience import Constant
from finresilience.durable.messages import OutboxMessage, partition_of
from finresilience.durable.outbox import DuplicateMessageError, Failure, FencedError, LeaseTerms
from finresilience.durable.records import Claimed, Mismatch
from finresilience.durable.relay import Relay
from finresilience.errors import ConfigurationError
from tests.integration.servers.runs import until
from tests.integration.sql.kill_world import PATIENCE, TABLES, World, believe_again, sqlite_world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine

    from finresilience.durable.messages import OutboxRow
    from finresilience.sql import TransactionClaim
    from tests.integration.servers.postgres import Database

SHORT = 0.3  # seconds of a lease that a test waits out
FAILURE = Failure("acme.Down")
WAITING = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")


@pytest.fixture(params=["sqlite", "psycopg"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "sqlite":
        engine = sqlite_world(tmp_path).engine(pool_size=5)
    else:
        postgres: Database = request.getfixturevalue("postgres")
        engine = World(postgres.url("psycopg")).made().engine(pool_size=5)
    yield engine
    engine.dispose()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def add(engine: Any, *numbers: int, key: str = "k", **more: Any) -> None:
    for n in numbers:
        with engine.begin() as connection:
            TABLES.outbox.add(connection, OutboxMessage(topic="t", key=key, type="Paid", payload={"n": n}, **more))


class Broker:
    """What arrived, in order."""

    def __init__(self, refuses: Callable[[int], bool] = lambda n: False) -> None:
        self.got: list[int] = []
        self._refuses = refuses

    def __call__(self, row: OutboxRow) -> None:
        n = row.message.json()["n"]
        if self._refuses(n):
            raise ConnectionError
        self.got.append(n)


def drained(engine: Any, broker: Any, **more: Any) -> None:
    """Run relays, each until it has nothing to do, until nothing is pending."""
    store = TABLES.outbox.store(engine)
    while store.statistics().pending:
        Relay(store, broker, backoff=Constant(0.01), poll=(0.01, 0.05), **more).run_sync(until_idle=True)


# ---------------------------------------------------------------- lost, stuck, doubled


def test_a_row_whose_worker_was_killed_after_claiming_it_is_published_by_another(engine: Any) -> None:
    """Rows were claimed and committed with no lease, and a killed worker left them claimed for ever."""
    add(engine, 1, 2)
    store, broker = TABLES.outbox.store(engine), Broker()
    leases = store.claim("killed", at_most=16, terms=LeaseTerms(lease=SHORT)).leases
    assert sum(len(store.fetch(lease, limit=10).rows) for lease in leases) == 2
    time.sleep(SHORT * 1.5)

    drained(engine, broker)

    assert broker.got == [1, 2]


def test_a_stale_worker_cannot_take_back_what_its_heir_published(engine: Engine) -> None:
    """A worker that came back late put a published row on the list again, because nothing told it from its heir."""
    add(engine, 1)
    store, broker = TABLES.outbox.store(engine), Broker()
    lease = next(
        one for one in store.claim("stale", at_most=16, terms=LeaseTerms(lease=SHORT)).leases if one.part == partition_of(None, "k", 16)
    )
    (row,) = store.fetch(lease, limit=1).rows
    time.sleep(SHORT * 1.5)
    drained(engine, broker)

    for late in (
        lambda: store.retry(lease, row.seq, after=0.0, failure=FAILURE),
        lambda: store.settle(lease, [row.seq]),
        lambda: store.renew(lease),
        lambda: store.mark(lease, row.seq),
        lambda: store.release(lease),
    ):
        with pytest.raises(FencedError):
            late()
    assert (broker.got, store.statistics().pending) == ([1], 0)


def test_a_row_that_has_waited_for_a_year_is_published_and_no_cleaning_takes_it(engine: Any) -> None:
    """Rows that were not sent within a day were never selected again, and cleaning up deleted them by their age."""
    add(engine, 1)
    a_year_ago = "created_at - interval '1 year'" if engine.dialect.name == "postgresql" else "created_at - 31536000000000"
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE fin_outbox SET created_at = {a_year_ago}"))
    store, broker = TABLES.outbox.store(engine), Broker()

    assert store.purge(older_than=0) == 0
    drained(engine, broker)
    assert broker.got == [1]


def test_an_id_that_comes_twice_is_refused_aloud(engine: Any) -> None:
    """Ids that collided were taken for duplicates, and the second event was dropped without a word."""
    one = uuid4()
    add(engine, 1, id=one)
    with Session(engine) as session:
        TABLES.outbox.add(session, OutboxMessage(topic="t", key="other", type="Paid", payload={"n": 2}, id=one))
        with pytest.raises(DuplicateMessageError):
            session.commit()


def test_a_batch_that_would_outlast_its_lease_is_an_error_and_no_warning(engine: Any) -> None:
    """Forty messages of 60 ms under a lease of a second were handled 72 times."""
    with pytest.raises(ConfigurationError, match="lease"):
        Relay(TABLES.outbox.store(engine), print, batch=40, publish_timeout=0.06, lease=1.0)


async def test_a_relay_that_is_cancelled_in_the_middle_doubles_nothing_that_was_confirmed(postgres: Database) -> None:
    """A cancellation at the 99th of 100 rolled the whole batch back, and 99 went out twice."""
    world = World(postgres.url("psycopg")).made()
    beside, engine = world.engine(pool_size=2), world.aengine(pool_size=2)
    add(beside, *range(100))
    got: list[int] = []

    async def publish(row: OutboxRow) -> None:
        got.append(row.message.json()["n"])
        if len(got) == 99:
            scope.cancel()

    with anyio.CancelScope() as scope:
        await Relay(TABLES.outbox.store(engine), publish).run()
    scope = anyio.CancelScope()
    await Relay(TABLES.outbox.store(engine), publish).run(until_idle=True)
    await engine.dispose()
    beside.dispose()

    assert sorted(set(got)) == list(range(100))
    assert len(got) <= 101  # the one that was cancelled on its way may come again


# ---------------------------------------------------------------- turned round


def test_producers_whose_clocks_disagree_turn_no_key_round(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows went out by the producers' own `created_at`: two seconds of skew turned a key round."""
    for n, skew in enumerate((3600.0, -3600.0, 7200.0, 0.0)):
        believe_again(monkeypatch, skew)
        add(engine, n)
    broker = Broker()

    drained(engine, broker)

    assert broker.got == [0, 1, 2, 3]


@pytest.mark.parametrize("failing", range(4))
def test_one_blip_of_the_broker_turns_no_key_round(engine: Any, failing: int) -> None:
    """One transient failure let the later events of its key overtake it."""
    add(engine, 0, 1, 2, 3)
    failed: list[int] = []

    def once(n: int) -> bool:
        if n == failing and not failed:
            failed.append(n)
            return True
        return False

    broker = Broker(once)
    drained(engine, broker)

    assert (broker.got, failed) == ([0, 1, 2, 3], [failing])


def test_a_transaction_that_commits_late_neither_loses_its_event_nor_turns_its_key_round(engine: Any) -> None:
    """A reader's cursor had passed the lower number before it was committed; another published the two the wrong way round."""
    broker = Broker()
    with engine.connect() as early:
        transaction = early.begin()
        TABLES.outbox.add(early, OutboxMessage(topic="t", key="k", type="Paid", payload={"n": 1}))
        add(engine, 0)
        drained(engine, broker)
        transaction.commit()
    add(engine, 2)
    drained(engine, broker)

    assert broker.got == [0, 1, 2]


def test_two_transactions_on_one_key_cannot_both_be_between_their_place_and_their_commit(postgres: Database) -> None:
    """The lower number was committed after the higher one, and so published after it."""
    engine = World(postgres.url("psycopg")).made().engine(pool_size=5)
    commits, has_its_place, go_on = engine.dialect.do_commit, Event(), Event()

    def commits_late(raw: Any) -> None:
        if current_thread() is slow:
            has_its_place.set()
            go_on.wait(PATIENCE)
        commits(raw)

    slow, quick = Thread(target=add, args=(engine, 0)), Thread(target=add, args=(engine, 1))
    engine.dialect.do_commit = commits_late
    slow.start()
    assert has_its_place.wait(PATIENCE)
    quick.start()
    with engine.connect() as beside:
        until(lambda: bool(beside.execute(WAITING).scalar_one()))
    go_on.set()
    for thread in (slow, quick):
        thread.join(PATIENCE)
    broker = Broker()
    drained(engine, broker)
    engine.dispose()

    assert broker.got == [0, 1]


# ---------------------------------------------------------------- in each other's way


def test_a_row_that_fails_for_ever_holds_up_its_own_key_and_is_not_tried_for_ever(engine: Any) -> None:
    """One failing publish restarted the whole scan every second, and nothing behind it ever went out."""
    add(engine, 13)
    add(engine, 1, 2, 3, key="other")
    broker = Broker(lambda n: n == 13)
    store = TABLES.outbox.store(engine)
    while store.statistics().pending:
        Relay(store, broker, max_attempts=3, backoff=Constant(0.01), poll=(0.01, 0.05)).run_sync(until_idle=True)

    assert broker.got == [1, 2, 3]
    assert [letter.row.attempts for letter in store.dead_letters()] == [3]


def test_a_row_that_waits_for_later_holds_up_nobody_else(engine: Any) -> None:
    """A job that was due tomorrow blocked the ready ones of its lock."""
    add(engine, 1)
    store, broker = TABLES.outbox.store(engine), Broker()
    for lease in store.claim("me", at_most=16, terms=LeaseTerms(lease=60.0)).leases:
        for row in store.fetch(lease, limit=1).rows:
            store.retry(lease, row.seq, after=3600.0, failure=FAILURE, counted=False)
        store.release(lease)
    same = next(f"key{n}" for n in range(10_000) if partition_of(None, f"key{n}", 16) == partition_of(None, "k", 16))
    add(engine, 2, key=same)

    Relay(store, broker).run_sync(until_idle=True)

    assert broker.got == [2]


# ---------------------------------------------------------------- keys


def test_another_tenant_with_the_same_key_is_a_stranger(engine: Any) -> None:
    """Tenant B, with another amount, was given tenant A's answer, with status 200."""
    store = TABLES.idempotency.store(engine)
    first = store.claim("tenant a", "k", fingerprint="5 USD", lease=60.0)
    assert isinstance(first, Claimed)
    store.complete(first.token, b"the answer to a")

    assert isinstance(store.claim("tenant b", "k", fingerprint="9 USD", lease=60.0), Claimed)


def test_a_claim_that_ran_out_is_not_taken_over_by_another_request(engine: Any) -> None:
    """Whoever came after an expired lease got the key, whatever the request was."""
    store = TABLES.idempotency.store(engine)
    store.claim("s", "k", fingerprint="5 USD", lease=0.05)
    time.sleep(0.1)

    assert isinstance(store.claim("s", "k", fingerprint="9 USD", lease=60.0), Mismatch)
    heir = store.claim("s", "k", fingerprint="5 USD", lease=60.0)
    assert isinstance(heir, Claimed)
    assert heir.takeovers == 1


def test_a_claim_whose_holder_raised_is_free_again_and_one_whose_holder_died_has_an_heir(engine: Any) -> None:
    """A handler that raised once left its key in conflict for ever."""
    with Session(engine) as session:
        claim: Any = TABLES.idempotency.claim(session, "raised", scope="s", request="r")
        with pytest.raises(ZeroDivisionError), session.begin(), claim:
            _ = 1 / 0
    with Session(engine) as session, session.begin():
        again: TransactionClaim[bytes] = TABLES.idempotency.claim(session, "raised", scope="s", request="r")
        with again:
            again.complete(b"done")
