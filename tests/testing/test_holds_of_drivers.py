"""A database driver with a thread of its own holds virtual time for as long as that thread is at work, and no longer."""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import aiosqlite
import anyio
import pytest
from sqlalchemy import text
from sqlalchemy.dialects.sqlite import aiosqlite as dialect
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import StaticPool

from finresilience.clock import ruling_clock
from finresilience.testing import DeadlockError, drivers, explore, on_asyncio, run_virtual

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

OPERATIONS = 1_000


async def a_thousand_operations_of_aiosqlite() -> float:
    done = 0
    async with aiosqlite.connect(":memory:") as connection:
        await connection.execute("CREATE TABLE payments (number INTEGER)")
        while done < OPERATIONS:
            with anyio.fail_after(1):
                await connection.execute("INSERT INTO payments VALUES (?)", (done,))
            with anyio.fail_after(1):
                await connection.commit()
            with anyio.fail_after(1):
                async with connection.execute("SELECT count(*) FROM payments") as cursor:  # and to close it is one more
                    assert await cursor.fetchone() == (done // 5 + 1,)
            done += 5
    return ruling_clock().monotonic()


async def a_thousand_operations_of_sqlalchemy() -> float:
    engine = create_async_engine("sqlite+aiosqlite:///:memory:")
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE payments (number INTEGER)"))
    for number in range(OPERATIONS // 4):
        with anyio.fail_after(1):
            async with engine.connect() as connection:
                quick = await connection.execution_options(isolation_level="READ UNCOMMITTED")  # goes past the methods of aiosqlite
                await quick.execute(text("INSERT INTO payments VALUES (:number)"), {"number": number})
                counted = await connection.execute(text("SELECT count(*) FROM payments"))
                assert counted.scalar_one() == number + 1
                await connection.commit()
    await engine.dispose()
    return ruling_clock().monotonic()


def test_a_thousand_operations_of_aiosqlite_meet_no_false_timeout() -> None:
    assert run_virtual(a_thousand_operations_of_aiosqlite) == 0.0


def test_a_thousand_operations_of_sqlalchemy_meet_no_false_timeout() -> None:
    assert run_virtual(a_thousand_operations_of_sqlalchemy) == 0.0


def test_nor_do_connections_side_by_side(tmp_path: Path) -> None:
    async def one(number: int) -> None:
        async with aiosqlite.connect(tmp_path / f"{number}.db") as connection:
            await connection.execute("CREATE TABLE payments (number INTEGER)")
            for row in range(20):
                with anyio.fail_after(1):
                    await connection.execute("INSERT INTO payments VALUES (?)", (row,))
                    await connection.commit()

    async def scenario() -> float:
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(one, number)
        return ruling_clock().monotonic()

    assert run_virtual(scenario) == 0.0


def test_no_seed_meets_a_false_timeout() -> None:
    async def scenario() -> None:
        async with aiosqlite.connect(":memory:") as connection, anyio.create_task_group() as group:

            async def ask() -> None:
                with anyio.fail_after(1):
                    await connection.execute("SELECT 1")

            for _ in range(3):
                group.start_soon(ask)
        assert ruling_clock().monotonic() == 0.0

    explore(scenario, seeds=20, backend="asyncio")


def test_between_two_operations_time_jumps_as_ever() -> None:
    async def scenario() -> float:
        async with aiosqlite.connect(":memory:") as connection:
            for _ in range(50):
                await connection.execute("SELECT 1")
                await asyncio.sleep(60)
        return ruling_clock().monotonic()

    assert run_virtual(scenario) == 3000.0


def test_an_operation_that_was_cancelled_holds_nothing() -> None:
    begun, gate = threading.Event(), threading.Event()

    def block() -> int:
        begun.set()
        gate.wait()
        return 1

    async def scenario() -> float:
        async with aiosqlite.connect(":memory:") as connection:
            await connection.create_function("block", 0, block)
            asked = asyncio.ensure_future(connection.execute("SELECT block()"))
            await asyncio.to_thread(begun.wait)
            asked.cancel()
            with suppress(asyncio.CancelledError):
                await asked
            await asyncio.sleep(60)
            gate.set()
        return ruling_clock().monotonic()

    assert run_virtual(scenario) == 60.0


def test_an_operation_that_fails_holds_nothing_afterwards() -> None:
    async def scenario() -> float:
        async with aiosqlite.connect(":memory:") as connection:
            with pytest.raises(sqlite3.OperationalError):
                await connection.execute("SELECT nothing FROM nowhere")
            await asyncio.sleep(60)
        return ruling_clock().monotonic()

    assert run_virtual(scenario) == 60.0


def test_a_connection_whose_thread_is_gone_holds_nothing() -> None:
    async def scenario() -> float:
        connection = await aiosqlite.connect(":memory:")
        await connection.close()
        await asyncio.to_thread(connection._thread.join)
        connection.stop()
        await asyncio.sleep(60)
        return ruling_clock().monotonic()

    assert run_virtual(scenario) == 60.0


def test_an_engine_and_its_connection_may_be_older_than_the_run() -> None:
    engine = create_async_engine("sqlite+aiosqlite:///:memory:", poolclass=StaticPool)

    async def begin() -> None:
        async with engine.begin() as connection:
            await connection.execute(text("CREATE TABLE payments (number INTEGER)"))

    async def ask() -> float:
        for _ in range(50):
            with anyio.fail_after(1):
                async with engine.connect() as connection:
                    await connection.execute(text("SELECT * FROM payments"))
        return ruling_clock().monotonic()

    asyncio.run(begin())
    assert run_virtual(ask) == 0.0
    asyncio.run(engine.dispose())


def test_nothing_of_the_driver_is_replaced() -> None:
    names = ("_execute", "_connect", "stop", "close")
    before = [vars(aiosqlite.Connection)[name] for name in names]

    async def scenario() -> None:
        async with aiosqlite.connect(":memory:"):
            assert [vars(aiosqlite.Connection)[name] for name in names] == before

    run_virtual(scenario)


def test_work_of_a_driver_that_never_ends_is_a_deadlock_once_patience_ends() -> None:
    gate = threading.Event()

    async def scenario() -> None:
        async with aiosqlite.connect(":memory:") as connection:
            await connection.create_function("block", 0, gate.wait)
            try:
                await connection.execute("SELECT block()")
            finally:
                gate.set()

    with pytest.raises(DeadlockError, match="held"):
        run_virtual(scenario, patience=0.05)


@pytest.mark.parametrize("module", [aiosqlite.core, dialect], ids=["aiosqlite", "sqlalchemy"])
def test_whatever_future_these_modules_make_goes_to_a_thread(module: Any) -> None:
    assert module.__name__ in drivers.THREADS
    source = inspect.getsource(module)
    assert source.count("create_future()") == source.count("_tx.put_nowait((") >= 1


# ---------------------------------------------------------------- the saboteur


def toil() -> int:
    """Work for long enough that every other thread gets its turn meanwhile."""
    return max(sum(range(20_000)) for _ in range(25))


def slow_operations_are_in_time(blind: list[bool]) -> None:
    async def scenario() -> float:
        async with aiosqlite.connect(":memory:") as connection:
            await connection.create_function("toil", 0, toil)
            blind.append(True)
            try:
                for _ in range(5):
                    with anyio.fail_after(1):
                        await connection.execute("SELECT toil()")
            finally:
                blind.clear()  # what was opened must be closed, even by a saboteur
        return ruling_clock().monotonic()

    assert run_virtual(scenario) == 0.0


def test_a_slow_operation_is_never_late() -> None:
    slow_operations_are_in_time([])


def test_a_loop_that_knows_no_driver_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    blind: list[bool] = []

    def sees(frame: FrameType) -> bool:
        return not blind and drivers.answered_by_a_thread(frame)

    monkeypatch.setattr(on_asyncio, "answered_by_a_thread", sees)
    with pytest.raises(TimeoutError):
        slow_operations_are_in_time(blind)
