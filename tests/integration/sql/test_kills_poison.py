"""A payload that kills whoever publishes it: known after a few deaths, kept whole, and a nuisance to nobody else for long."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from finresilience.durable.messages import OutboxMessage
from finresilience.durable.outbox import Reason
from tests.integration.servers.runs import SOON
from tests.integration.sql.kill_journal import PUBLISHED
from tests.integration.sql.kill_nursery import Nursery
from tests.integration.sql.kill_relay import LEASE, POISON
from tests.integration.sql.kill_world import TABLES, World, sqlite_world

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.servers.postgres import Database

MOST: Final = 3  # takeovers that one row may cause; with one more it is buried
KEYS: Final = 40
SLOWEST: Final = 2 * (LEASE + LEASE / 3)  # seconds: two deaths at most, each found out by whoever next asks for partitions


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg-sync", "pysqlite-sync"])
def test_a_payload_that_kills_its_worker_is_buried_after_three_takeovers_and_keeps_no_other_key_waiting_for_a_third_death(
    request: pytest.FixtureRequest, tmp_path: Path, driver: str
) -> None:
    if driver.startswith("pysqlite"):
        world = sqlite_world(tmp_path)
    else:
        postgres: Database = request.getfixturevalue("postgres")
        world = World(postgres.url("psycopg")).made()
    journals = tmp_path / "journals"
    journals.mkdir()
    engine = world.engine(pool_size=2)
    store = TABLES.outbox.store(engine)
    numbers = {"max_takeovers": MOST, "partitions_at_most": TABLES.outbox.partitions}
    told: dict[str, Any] = {"url": world.url, "journal": str(journals), "driver": driver, "skew": 0.0, "numbers": numbers}
    deaths, added_at = 0, dict[str, int]()
    add(engine, "poisoned", POISON)
    with Nursery() as nursery:
        relays = [nursery.start("relay", **told) for _ in range(2)]
        deadline = time.monotonic() + SOON
        while not (store.dead_letters() and len(arrivals(journals)) == len(added_at)):
            assert time.monotonic() < deadline, "it was not buried"
            if not store.dead_letters():
                key = f"k{len(added_at) % KEYS}"
                added_at[add(engine, key, "Paid")] = time.monotonic_ns()
            for relay in [pid for pid in relays if not lives(pid)]:
                relays.remove(relay)
                relays.append(nursery.start("relay", **told))
                deaths += 1
            time.sleep(0.02)
    (letter,) = store.dead_letters()
    engine.dispose()

    assert (letter.row.message.key, letter.reason, letter.row.message.json()) == ("poisoned", Reason.CRASHED, {"n": 1})
    assert deaths == MOST + 1
    slowest = max(at - added_at[made] for made, at in arrivals(journals).items())
    assert slowest / 1e9 < SLOWEST


def add(engine: Any, key: str, kind: str) -> str:
    with engine.begin() as connection:
        return str(TABLES.outbox.add(connection, OutboxMessage(topic="t", key=key, type=kind, payload={"n": 1})))


def arrivals(journals: Path) -> dict[str, int]:
    """When each event arrived first, whoever published it."""
    lines = [line.split() for file in journals.iterdir() for line in file.read_text(encoding="utf-8").splitlines()]
    told: dict[str, int] = {}
    for kind, at, *more in lines:
        if kind == PUBLISHED:
            told[more[0]] = min(int(at), told.get(more[0], int(at)))
    return told


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
