"""A producer in a process of its own: threads that commit events of the same keys, some late, and some not at all."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.orm import Session

from finresilience.durable.messages import OutboxMessage
from tests.integration.sql.kill_journal import COMMITTED, DONE, ROLLED_BACK, Journal
from tests.integration.sql.kill_world import TABLES, World, believe

if TYPE_CHECKING:
    from uuid import UUID

AT_ONCE: Final = 50  # events of one transaction at most
KEYS: Final = 500


def produce(told: dict[str, Any]) -> None:
    """Commit so many events, and say so."""
    believe(told["skew"])
    journal = Journal(Path(told["journal"]), os.getpid())
    threads = told["threads"]
    engine = _lagging(World(told["url"]).engine(pool_size=threads), Random(told["seed"]))
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(_commit, engine, journal, told["events"] // threads, f"{told['seed']}/{n}") for n in range(threads)]:
            done.result()
    journal.write(DONE)


def _commit(engine: Any, journal: Journal, events: int, seed: str) -> None:
    chance = Random(seed)
    while events > 0:
        some = min(events, chance.randint(1, AT_ONCE))
        if chance.random() < 0.05:
            _rolled_back(engine, journal, chance, some)
        else:
            _committed(engine, journal, chance, some)
            events -= some


def _committed(engine: Any, journal: Journal, chance: Random, some: int) -> None:
    with engine.connect() as connection:
        added = _added(connection, chance, some)
        begun = time.monotonic_ns()
        connection.commit()
    for made, key in added:
        journal.write(COMMITTED, made, key, begun)


def _lagging(engine: Any, chance: Random) -> Any:
    """Let some commits come late: their events have their places, and nobody sees them yet."""
    commit = engine.dialect.do_commit

    def late(raw: Any) -> None:
        if chance.random() < 0.1:
            time.sleep(chance.random() * 0.01)
        commit(raw)

    engine.dialect.do_commit = late
    return engine


def _rolled_back(engine: Any, journal: Journal, chance: Random, some: int) -> None:
    with Session(engine) as session:
        for made, _ in _added(session, chance, some):
            journal.write(ROLLED_BACK, made)
        session.rollback()


def _added(session: Any, chance: Random, some: int) -> list[tuple[UUID, str]]:
    added: list[tuple[UUID, str]] = []
    for _ in range(some):
        key = f"k{chance.randrange(KEYS)}"
        added.append((TABLES.outbox.add(session, OutboxMessage(topic="t", key=key, type="Happened", payload=b"x")), key))
    return added
