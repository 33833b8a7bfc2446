"""A database that is dumped and restored elsewhere: all that was committed is still delivered, in order, and every answer is there."""

from __future__ import annotations

import sqlite3
import subprocess
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from finresilience.durable.messages import OutboxMessage
from finresilience.durable.outbox import LeaseTerms
from finresilience.durable.records import Claimed, Replay
from finresilience.durable.relay import Relay
from tests.integration.servers.postgres import start_postgres, wheel
from tests.integration.sql.kill_world import TABLES, World, sqlite_world

if TYPE_CHECKING:
    from pathlib import Path

    from finresilience.durable.messages import OutboxRow
    from tests.integration.servers.postgres import Database

EVENTS = 60
KEYS = 6
LEASE = 0.2  # seconds


def test_what_pg_dump_carries_to_another_cluster_is_still_delivered(postgres: Database, tmp_path: Path) -> None:
    world = World(postgres.url("psycopg")).made()
    engine = world.engine(pool_size=2)
    for _ in range(500):  # so that the transactions here have higher numbers than those of the new cluster
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_current_xact_id()"))
    lived(engine)
    engine.dispose()
    dump = tmp_path / "dump.sql"
    ran("pg_dump", "--no-owner", f"--file={dump}", postgres.dsn)

    with start_postgres(fsync=False) as elsewhere, elsewhere.databases() as databases, databases.one() as other:
        ran("psql", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", f"--file={dump}", other.dsn)
        engine = World(other.url("psycopg")).engine(pool_size=2)
        TABLES.check(engine)
        goes_on(engine)
        engine.dispose()


def test_what_a_backup_of_a_file_carries_to_another_file_is_still_delivered(tmp_path: Path) -> None:
    engine = sqlite_world(tmp_path).engine(pool_size=2)
    lived(engine)
    engine.dispose()
    with sqlite3.connect(tmp_path / "world.db") as source, sqlite3.connect(tmp_path / "other.db") as target:
        source.backup(target)
    source.close()
    target.close()

    engine = World(f"sqlite:///{tmp_path / 'other.db'}").engine(pool_size=2)
    TABLES.check(engine)
    goes_on(engine)
    engine.dispose()


def ran(program: str, *words: str) -> None:
    subprocess.run([wheel() / program, *words], check=True, capture_output=True, timeout=60)


def lived(engine: Any) -> None:
    """Publish a part, hold partitions, answer a key, mark a message: the service is dumped in the middle of its work."""
    commit(engine, range(EVENTS // 2))
    published: list[int] = []
    Relay(TABLES.outbox.store(engine), lambda row: published.append(row.seq)).run_sync(until_idle=True)
    assert len(published) == EVENTS // 2
    commit(engine, range(EVENTS // 2, EVENTS))
    TABLES.outbox.store(engine).claim("who is dumped", at_most=16, terms=LeaseTerms(lease=LEASE))
    keys = TABLES.idempotency.store(engine)
    done = keys.claim("s", "answered", fingerprint="f", lease=60.0)
    assert isinstance(done, Claimed)
    keys.complete(done.token, b"the answer")
    with engine.begin() as connection, TABLES.inbox.once(connection, group="g", message_id="handled") as seen:
        assert seen


def commit(engine: Any, numbers: range) -> None:
    for n in numbers:
        with engine.begin() as connection:
            TABLES.outbox.add(connection, OutboxMessage(topic="t", key=f"k{n % KEYS}", type="Paid", payload={"n": n}))


def goes_on(engine: Any) -> None:
    commit(engine, range(EVENTS, EVENTS + KEYS))
    arrived: list[tuple[str, int]] = []

    def publish(row: OutboxRow) -> None:
        arrived.append((row.message.key, row.message.json()["n"]))

    time.sleep(LEASE * 1.5)  # what was held when it was dumped is held by nobody
    Relay(TABLES.outbox.store(engine), publish).run_sync(until_idle=True)

    for k in range(KEYS):
        assert [n for key, n in arrived if key == f"k{k}"] == [n for n in range(EVENTS // 2, EVENTS + KEYS) if n % KEYS == k]
    keys = TABLES.idempotency.store(engine)
    known, new = (keys.claim("s", key, fingerprint="f", lease=60.0) for key in ("answered", "new"))
    assert isinstance(known, Replay)
    assert isinstance(new, Claimed)
    assert (known.record.response, new.token.fence > known.record.fence) == (b"the answer", True)
    with engine.begin() as connection, TABLES.inbox.once(connection, group="g", message_id="handled") as seen:
        assert not seen
