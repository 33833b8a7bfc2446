"""Fifty callers with one key on one file, in threads and in processes, which know nothing of each other but the file: one effect."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.ext.asyncio import async_sessionmaker

from finresilience.durable.codecs import json_codec
from finresilience.sql import KeyAnsweredError
from tests.integration.servers.runs import ROOT
from tests.integration.sql.kill_racer import SHAPES, THREADS
from tests.integration.sql.kill_world import CALLERS, EFFECTS, PATIENCE, TABLES, World, once, sqlite_world

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = pytest.mark.parametrize("shape", sorted(SHAPES))
PROCESSES = CALLERS // THREADS


@pytest.fixture
def world(tmp_path: Path) -> World:
    return sqlite_world(tmp_path)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def are_one(answers: list[Any]) -> bool:
    """Whether all were given the one answer; of an inbox, whether one was told to handle it, and all others that it was handled."""
    return len(set(answers)) == 1 or sorted(answers) == ["Duplicate"] * (CALLERS - 1) + ["Fresh"]


@SHAPE
def test_fifty_threads_on_one_file_make_one_effect(world: World, shape: str, fresh_name: str) -> None:
    engine, together = world.engine(), Barrier(CALLERS)
    work = SHAPES[shape](engine, fresh_name)

    def run(n: int) -> Any:
        together.wait(PATIENCE)
        return work(f"{n}")

    with ThreadPoolExecutor(CALLERS) as pool:
        answers = list(pool.map(run, range(CALLERS)))
    engine.dispose()

    assert world.effects(fresh_name) == 1
    assert are_one(answers)


@SHAPE
def test_five_processes_of_ten_threads_on_one_file_make_one_effect(world: World, shape: str, fresh_name: str) -> None:
    command = [sys.executable, "-m", "tests.integration.sql.kill_racer", world.url, fresh_name, shape]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    with ExitStack() as stack:
        racers = [
            stack.enter_context(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}
                )
            )
            for _ in range(PROCESSES)
        ]
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        answers = [answer for racer in racers for answer in json.loads(racer.communicate(timeout=PATIENCE * 2)[0])]

    assert world.effects(fresh_name) == 1
    assert are_one(answers)


async def test_fifty_tasks_that_claim_in_their_transactions_on_one_file_make_one_effect(world: World, fresh_name: str) -> None:
    engine = world.aengine()
    sessions = async_sessionmaker(engine)

    async def pay(n: int) -> Any:
        try:
            async with sessions.begin() as session:
                async with TABLES.idempotency.claim(session, fresh_name, scope="race", request="r", codec=json_codec()) as claim:
                    await session.execute(EFFECTS.insert().values(key=fresh_name, by=str(n)))
                    claim.complete(f"paid by {n}")
                return f"paid by {n}"
        except KeyAnsweredError as error:
            return error.answer

    answers = await asyncio.gather(*map(pay, range(CALLERS)))
    await engine.dispose()

    assert world.effects(fresh_name) == 1
    assert are_one(answers)


async def test_fifty_tasks_that_call_one_operation_on_one_file_reach_the_provider_once(world: World, fresh_name: str) -> None:
    engine = world.aengine()

    @once(TABLES.idempotency.store(engine), fresh_name, wait=PATIENCE)
    async def pay(n: int) -> str:
        async with engine.begin() as provider:
            await provider.execute(EFFECTS.insert().values(key=fresh_name, by=str(n)))
        return f"paid by {n}"

    answers = await asyncio.gather(*map(pay, range(CALLERS)))
    await engine.dispose()

    assert world.effects(fresh_name) == 1
    assert are_one(answers)
