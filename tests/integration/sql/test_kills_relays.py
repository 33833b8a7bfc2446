"""Relays in processes of their own, killed, stopped and cut off: nothing lost, no key turned round, each duplicate with its reason."""

from __future__ import annotations

import faulthandler
import os
from random import Random
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.integration.sql.kill_journal import COMMITTED, PUBLISHED, ROLLED_BACK, TROUBLE, Books
from tests.integration.sql.kill_nursery import Nursery
from tests.integration.sql.kill_referee import AN_HOUR, WINDOW, Disaster
from tests.integration.sql.kill_world import TABLES, World, sqlite_world

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.servers.postgres import Database

DEEP: Final = "FINRESILIENCE_DEEP" in os.environ
EVENTS: Final = 1_000_000 if DEEP else 50_000
ON_A_FILE: Final = 200_000 if DEEP else 20_000
EIGHT: Final = ("asyncpg",) * 5 + ("psycopg",) + ("psycopg-sync",) * 2
FOUR: Final = ("aiosqlite",) + ("pysqlite-sync",) * 3


@pytest.fixture(autouse=True)
def _takes_its_time() -> None:
    if DEEP:
        faulthandler.cancel_dump_traceback_later()


def test_eight_relays_that_are_struck_all_the_time_lose_nothing_and_turn_no_key_round(postgres: Database, tmp_path: Path) -> None:
    world = World(postgres.url("psycopg")).made()

    disaster = struck(world, tmp_path, EIGHT, EVENTS, threads=4, pause=3.0 if DEEP else 0.8)

    is_accounted_for(Books.read(tmp_path), disaster, EVENTS)
    assert dead(world) == 0


def test_four_relays_on_one_file_that_are_struck_all_the_time_lose_nothing_and_turn_no_key_round(tmp_path: Path) -> None:
    journals = tmp_path / "journals"
    journals.mkdir()
    world = sqlite_world(tmp_path)

    disaster = struck(world, journals, FOUR, ON_A_FILE, threads=2, kinds=("kill", "stop"), pause=0.4)

    is_accounted_for(Books.read(journals), disaster, ON_A_FILE)
    assert dead(world) == 0


def struck(world: World, folder: Path, drivers: tuple[str, ...], events: int, *, threads: int, **how: Any) -> Disaster:
    """Publish so many events by these relays, whom somebody strikes; two producers disagree on the time of day by two hours."""
    with Nursery() as nursery:
        disaster = Disaster(world, nursery, folder, Random(7), drivers, **how)
        disaster.begin()
        told: dict[str, Any] = {"url": world.url, "journal": str(folder), "threads": threads, "events": events // 2}
        disaster.run([nursery.start("produce", seed=n, skew=skew, **told) for n, skew in enumerate((-AN_HOUR, AN_HOUR))])
        disaster.over()
    return disaster


def is_accounted_for(books: Books, disaster: Disaster, events: int) -> None:
    assert len(books.committed) == events
    assert books.lost() == set()
    assert books.ghosts() == set()
    assert books.inversions() == []
    assert books.unexplained() == []
    assert set(disaster.struck) == set(disaster.kinds)
    assert len(books.doubled()) <= WINDOW * sum(map(len, books.trouble.values()))


def dead(world: World) -> int:
    engine = world.engine()
    found: int = TABLES.outbox.store(engine).statistics().dead
    engine.dispose()
    return found


# ---------------------------------------------------------------- the referee is awake


def books(*lines: str) -> Books:
    """Return the books of journals with these lines: who, kind, at, and more."""
    told = Books()
    for line in lines:
        who, *words = line.split()
        told.note(int(who), words)
    told.published.sort(key=lambda one: one.at)
    return told


def test_the_referee_sees_an_event_that_is_lost() -> None:
    assert books(f"1 {COMMITTED} 5 a k 4", f"1 {COMMITTED} 6 b k 5", f"2 {PUBLISHED} 9 b k").lost() == {"a"}


def test_the_referee_sees_an_event_of_a_transaction_that_was_rolled_back() -> None:
    assert books(f"1 {ROLLED_BACK} 5 a", f"2 {PUBLISHED} 9 a k").ghosts() == {"a"}


def test_the_referee_sees_a_key_turned_round() -> None:
    committed = (f"1 {COMMITTED} 5 a k 4", f"1 {COMMITTED} 8 b k 6")

    assert books(*committed, f"2 {PUBLISHED} 9 b k", f"2 {PUBLISHED} 10 a k").inversions() == ["a"]
    assert books(*committed, f"2 {PUBLISHED} 9 a k", f"2 {PUBLISHED} 10 b k", f"3 {PUBLISHED} 11 a k").inversions() == []


def test_the_referee_lets_two_transactions_that_overlapped_come_in_either_order() -> None:
    committed = (f"1 {COMMITTED} 7 a k 4", f"1 {COMMITTED} 8 b k 6")

    assert books(*committed, f"2 {PUBLISHED} 9 b k", f"2 {PUBLISHED} 10 a k").inversions() == []


def test_the_referee_wants_a_reason_for_each_duplicate() -> None:
    twice = (f"2 {PUBLISHED} 9 a k", f"3 {PUBLISHED} 12 a k")

    assert len(books(*twice).unexplained()) == 1
    assert len(books(*twice, f"2 {TROUBLE} 8 kill").unexplained()) == 1  # before it published
    assert len(books(*twice, f"4 {TROUBLE} 10 kill").unexplained()) == 1  # somebody else's
    assert books(*twice, f"2 {TROUBLE} 10 kill").unexplained() == []
