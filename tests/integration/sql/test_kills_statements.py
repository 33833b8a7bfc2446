"""A caller is killed before and after each statement and each commit; 31 others come then: one effect, one answer, one event."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import func, select

from tests.integration.servers.runs import until
from tests.integration.sql.kill_nursery import Nursery
from tests.integration.sql.kill_victim import SHAPES
from tests.integration.sql.kill_world import EFFECTS, TABLES, World, sqlite_world

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.servers.postgres import Database

KEYS: Final = 10_000 if "FINRESILIENCE_DEEP" in os.environ else 20
OTHERS: Final = 31
DYING: Final = 1.0  # seconds of a victim's lease
LEAST: Final = {
    "leased": 6,
    "together": 10,
    "consumed": 8,
}  # boundaries: before and after the claim, the provider and the answer; and so on


@pytest.fixture(params=["sqlite", "postgres"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    if request.param == "sqlite":
        return sqlite_world(tmp_path)
    postgres: Database = request.getfixturevalue("postgres")
    return World(postgres.url("psycopg")).made()


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_thirty_two_callers_one_of_whom_is_killed_at_a_boundary_make_one_effect(world: World, shape: str, tmp_path: Path) -> None:
    with Nursery() as nursery:
        boundaries = counted(nursery, world, shape, tmp_path)
        keys = [f"{shape}-{n}" for n in range(max(KEYS, boundaries))]
        for key, deadly in zip(keys, islice(cycle(range(1, boundaries + 1)), len(keys)), strict=True):
            dies(nursery, world, shape, key, deadly, tmp_path)
    assert boundaries >= LEAST[shape]
    time.sleep(DYING)  # until the last of them is given up

    answers = paid_by_others(world, shape, keys)

    assert answers == {key: {f"paid {key}"} for key in keys}
    assert tally(world, EFFECTS.c.key) == dict.fromkeys((*keys, "counted"), 1)
    if shape != "leased":
        assert tally(world, TABLES.outbox.table.c.aggregateid) == dict.fromkeys((*keys, "counted"), 1)


def counted(nursery: Nursery, world: World, shape: str, folder: Path) -> int:
    """Return how many boundaries one payment passes that nobody kills."""
    journals = folder / "journals"
    journals.mkdir()
    child = nursery.start("victim", url=world.url, shape=shape, key="counted", deadly=None, lease=60.0, journal=str(journals))
    until(lambda: not lives(child))
    return int((journals / f"{child}").read_text(encoding="utf-8").split()[2])


def dies(nursery: Nursery, world: World, shape: str, key: str, deadly: int, folder: Path) -> None:
    """Let a caller die at this boundary."""
    journals = folder / "journals"
    child = nursery.start("victim", url=world.url, shape=shape, key=key, deadly=deadly, lease=DYING, journal=str(journals))
    until(lambda: not lives(child))
    assert not (journals / f"{child}").exists(), "it lived"


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def paid_by_others(world: World, shape: str, keys: list[str]) -> dict[str, set[str]]:
    """Return what each of the others was answered, of every key."""
    engine, provider = world.engine(), world.engine()
    pay: Any = SHAPES[shape](engine, provider, 60.0)

    def all_of_them(_: int) -> list[str]:
        return [pay(key) for key in keys]

    with ThreadPoolExecutor(OTHERS) as pool:
        told = list(pool.map(all_of_them, range(OTHERS)))
    engine.dispose()
    provider.dispose()
    return {key: {answers[n] for answers in told} for n, key in enumerate(keys)}


def tally(world: World, column: Any) -> dict[str, int]:
    engine = world.engine()
    with engine.connect() as connection:
        found = connection.execute(select(column, func.count()).group_by(column)).all()
    engine.dispose()
    return {key: int(number) for key, number in found}
