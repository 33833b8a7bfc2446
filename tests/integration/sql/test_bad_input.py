"""What no database should be asked to hold is refused at the door, by name and typed; what looks odd and is text is kept as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import MetaData, func, select

from finresilience.durable.messages import MAX_PAYLOAD, OutboxMessage
from finresilience.durable.outbox import LeaseTerms
from finresilience.durable.records import MAX_RESPONSE, Claimed, Replay
from finresilience.durable.relay import Relay
from finresilience.errors import ConfigurationError
from finresilience.sql import Tables, TransactionClaim
from tests.integration.conftest import kinds
from tests.integration.sql.kill_world import TABLES, World, sqlite_world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine

    from tests.integration.servers.postgres import Databases

NOT_TEXT: list[Any] = ["", "k" * 256, "k" * 10_000, "a\0b", "\ud800", "a\udcffb", b"bytes", None, 7, ["k"]]
ODD = [
    " ",
    "\n",
    "'; DROP TABLE fin_outbox; --",
    "%s %(key)s $1 :key ?",
    "\\",
    '"',
    "\u202e\u2066",
    "e\u0301",
    "é",
    "😀" * 255,
    "ﷺ" * 255,
    "NULL",
    "İ",
]
NOT_A_LEASE: list[Any] = [0, -1, -0.0, float("nan"), float("inf"), "60", None, True]


@pytest.fixture(scope="module")
def world(makers: Callable[[str], Databases]) -> Iterator[World]:
    with makers(kinds()[0]).one() as database:
        yield World(database.url("psycopg")).made()


@pytest.fixture(params=["sqlite", "psycopg"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    here = sqlite_world(tmp_path) if request.param == "sqlite" else request.getfixturevalue("world")
    engine = here.engine(pool_size=2)
    yield engine
    engine.dispose()


def rows(engine: Any) -> int:
    """How many rows there are in all tables that a bad argument might have reached."""
    tables = (TABLES.idempotency.table, TABLES.inbox.table, TABLES.inbox.failures, TABLES.inbox.marks, TABLES.outbox.table)
    with engine.connect() as connection:
        return sum(connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables)


@pytest.mark.parametrize("bad", NOT_TEXT, ids=lambda bad: f"{len(ascii(bad))} {ascii(bad)[:12]}")
def test_what_is_no_key_is_refused_and_nothing_is_stored(engine: Engine, bad: Any) -> None:
    keys = TABLES.idempotency.store(engine)
    inbox = TABLES.inbox.store(engine)
    before = rows(engine)
    asks: list[Callable[[Any], object]] = [
        lambda c: keys.claim("s", bad, fingerprint="f", lease=1.0),
        lambda c: keys.claim(bad, "k", fingerprint="f", lease=1.0),
        lambda c: keys.claim("s", "k", fingerprint=bad, lease=1.0),
        lambda c: keys.find("s", bad),
        lambda c: claiming(c, bad).__enter__(),
        lambda c: TABLES.inbox.once(c, group="g", message_id=bad).__enter__(),
        lambda c: TABLES.inbox.once(c, group=bad, message_id="m").__enter__(),
        lambda c: inbox.once(c, group="g", message_id="m", entity=bad, position=None if bad is None else 1) if bad is not None else _none(),
        lambda c: inbox.failed(group="g", message_id=bad),
        lambda c: inbox.unpark(group=bad, message_id="m"),
    ]
    with engine.connect() as connection:
        for ask in asks:
            with pytest.raises(ConfigurationError):
                ask(connection)
        connection.commit()

    assert rows(engine) == before


def claiming(within: Any, key: Any) -> TransactionClaim[bytes]:
    return TABLES.idempotency.claim(within, key, scope="s", request="r")


def _none() -> None:
    raise ConfigurationError("no entity is no mistake")


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: ascii(odd)[:12])
def test_odd_text_is_a_key_like_any_other_and_comes_back_as_it_was(engine: Any, odd: str, fresh_name: str) -> None:
    store = TABLES.idempotency.store(engine)

    claim = store.claim(fresh_name, odd, fingerprint=odd, lease=60.0, owner=odd)
    assert isinstance(claim, Claimed)
    store.complete(claim.token, odd.encode(), status=odd)
    replay = store.claim(fresh_name, odd, fingerprint=odd, lease=60.0)

    assert isinstance(replay, Replay)
    assert (replay.record.response, replay.record.status, replay.record.owner) == (odd.encode(), odd, odd)
    with engine.begin() as connection, TABLES.inbox.once(connection, group=fresh_name, message_id=odd) as seen:
        assert seen
    with engine.begin() as connection, TABLES.inbox.once(connection, group=fresh_name, message_id=odd) as seen:
        assert not seen


def test_keys_that_look_alike_and_are_not_the_same_text_are_two_keys(engine: Any, fresh_name: str) -> None:
    alike = ["é", "e\u0301", "É", " é", "é ", "е", "e"]  # the last but one is Cyrillic
    store = TABLES.idempotency.store(engine)

    assert all(isinstance(store.claim(fresh_name, key, fingerprint="f", lease=60.0), Claimed) for key in alike)


def test_names_that_no_index_holds_together_are_refused_before_the_transaction_is_spoilt(engine: Any, fresh_name: str) -> None:
    wide = "".join(chr(0x10000 + n * 251 % 0xFFFFF) for n in range(255))  # four bytes each, and hardly to be compressed
    with engine.connect() as connection:
        with pytest.raises(ConfigurationError, match="bytes"), TABLES.inbox.once(connection, tenant=wide, group=wide, message_id=wide):
            pass
        with TABLES.inbox.once(connection, group=fresh_name, message_id="m") as seen:  # the transaction goes on
            assert seen
        connection.commit()


@pytest.mark.parametrize("bad", NOT_A_LEASE, ids=str)
def test_no_lease_is_no_lease(engine: Any, bad: Any, fresh_name: str) -> None:
    store, before = TABLES.idempotency.store(engine), rows(engine)
    with pytest.raises(ConfigurationError):
        store.claim("s", fresh_name, fingerprint="f", lease=bad)
    with pytest.raises(ConfigurationError):
        LeaseTerms(lease=bad)
    with pytest.raises(ConfigurationError):
        Relay(TABLES.outbox.store(engine), print, lease=bad)

    assert rows(engine) == before


@pytest.mark.parametrize("long", [1e9, 1e15, 1e300], ids=str)
def test_a_lease_of_ages_is_a_lease_or_a_typed_refusal(engine: Any, long: float, fresh_name: str) -> None:
    store = TABLES.idempotency.store(engine)
    try:
        claim = store.claim("s", fresh_name, fingerprint="f", lease=long)
    except ConfigurationError:
        assert store.find("s", fresh_name) is None
    else:
        assert isinstance(claim, Claimed)
        found = store.find("s", fresh_name)
        assert found is not None
        assert found.lease_left > 0
    assert store.purge(older_than=long) == 0


def test_a_batch_that_outlasts_its_lease_is_refused_where_the_relay_is_made(engine: Any) -> None:
    with pytest.raises(ConfigurationError, match="batch"):
        Relay(TABLES.outbox.store(engine), print, batch=100, publish_timeout=1.0, lease=60.0)


@pytest.mark.parametrize("size", [MAX_RESPONSE, MAX_RESPONSE + 1])
def test_an_answer_is_kept_whole_or_refused_whole(engine: Any, size: int, fresh_name: str) -> None:
    store = TABLES.idempotency.store(engine)
    claim = store.claim("s", fresh_name, fingerprint="f", lease=60.0)
    assert isinstance(claim, Claimed)
    if size > MAX_RESPONSE:
        with pytest.raises(ConfigurationError, match="bytes"):
            store.complete(claim.token, b"x" * size)
    else:
        store.complete(claim.token, b"x" * size)
    found = store.find("s", fresh_name)

    assert found is not None
    assert len(found.response) == (size if size <= MAX_RESPONSE else 0)


@pytest.mark.parametrize(
    "told", [{"payload": b"x" * (MAX_PAYLOAD + 1)}, {"key": ""}, {"key": "k" * 10_000}, {"topic": "a\nb"}, {"payload": {1, 2}}]
)
def test_a_message_that_no_broker_takes_is_refused_where_it_is_made(told: Any) -> None:
    made: dict[str, Any] = {"topic": "t", "key": "k", "type": "Paid", "payload": {}, **told}
    with pytest.raises(ConfigurationError):
        OutboxMessage(**made)


@pytest.mark.parametrize("bad", ["x", None, 2**70, True, -1, 1.5], ids=str)
def test_what_fetch_never_returned_cannot_be_settled_or_marked(engine: Any, bad: Any, fresh_name: str) -> None:
    store = TABLES.outbox.store(engine)
    leases = (
        store.claim(fresh_name, at_most=1, terms=LeaseTerms(lease=0.5)).leases
        or store.claim("me", at_most=16, terms=LeaseTerms(lease=0.5)).leases
    )
    with pytest.raises(ConfigurationError):
        store.settle(leases[0], [bad])
    with pytest.raises(ConfigurationError):
        store.mark(leases[0], bad)
    with pytest.raises(ConfigurationError):
        store.revive(bad)
    store.release(leases[0])


@pytest.mark.parametrize(
    "told",
    [{"partitions": 0}, {"partitions": -1}, {"partitions": 1025}, {"partitions": True}, {"names": {"outbok": "x"}}, {"metadata": None}],
)
def test_tables_that_cannot_be_are_refused_where_they_are_drawn(told: Any) -> None:
    drawn: dict[str, Any] = {"metadata": MetaData(), **told}
    with pytest.raises(ConfigurationError):
        Tables(**drawn)
