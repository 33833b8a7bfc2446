"""No unit test waits for the real clock: read in the source of all tests, and watched while each of them runs."""

from __future__ import annotations

import ast
import asyncio
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trio

from finresilience.clock import SystemClock
from finresilience.testing import run_virtual
from tests.conftest import IN_REAL_TIME, may_take_real_time
from tests.real_time import nobody_waits, seen

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parent.parent
SLEEPERS = {"time": {"sleep"}, "select": {"select"}, "signal": {"pause", "sigtimedwait"}}
MAY = re.compile("|".join(rf"{module}\.{name}|from {module} " for module, names in SLEEPERS.items() for name in names))
both = pytest.mark.parametrize("backend", ["asyncio", "trio"])
MOMENT = 0.002


# ---------------------------------------------------------------- read in the source


def sleeps_in(source: str) -> list[str]:
    """Return what in a source blocks a thread by the real clock, whoever calls it."""
    found: list[str] = []
    if not MAY.search(source):  # to read them all would take seconds
        return found
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in SLEEPERS:
            found += [f"{node.lineno}: {node.module}.{name.name}" for name in node.names if name.name in SLEEPERS[node.module]]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in SLEEPERS.get(node.value.id, ()):
            found.append(f"{node.lineno}: {node.value.id}.{node.attr}")
    return found


def unit_tests() -> Iterator[Path]:
    for path in sorted(TESTS.rglob("*.py")):
        if not may_take_real_time(path):
            yield path


WATCHMEN = {Path(__file__), TESTS / "real_time.py"}


def test_no_unit_test_blocks_its_thread_by_the_real_clock() -> None:
    found = {str(path.relative_to(TESTS)): sleeps_in(path.read_text()) for path in unit_tests() if path not in WATCHMEN}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_there_are_tests_to_look_at() -> None:
    assert len(list(unit_tests())) > 150


@pytest.mark.parametrize(
    "source", ["import time\ntime.sleep(1)", "from time import sleep", "from time import sleep as nap", "f = time.sleep"]
)
def test_a_sleep_in_a_source_is_seen(source: str) -> None:
    assert len(sleeps_in(source)) == 1


@pytest.mark.parametrize("source", ["clock.sleep(1)", "import time", "from time import monotonic", "selectors.select()"])
def test_what_is_no_sleep_is_left_alone(source: str) -> None:
    assert sleeps_in(source) == []


def test_each_exception_from_the_rule_is_there_and_has_its_reason() -> None:
    for name, reason in IN_REAL_TIME.items():
        assert (TESTS / name).exists(), name
        assert len(reason) > 20


# ---------------------------------------------------------------- watched while they run


def in_a_thread(function: Any) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


async def waits_by(sleep: Any) -> None:
    await sleep(MOMENT)


async def waits_for_a_timer() -> None:
    with anyio.move_on_after(MOMENT):
        await anyio.sleep_forever()


async def calls_later() -> None:
    called = asyncio.Event()
    asyncio.get_running_loop().call_later(MOMENT, called.set)
    await called.wait()


def caught(run: Any) -> str:
    with pytest.raises(AssertionError, match="real clock") as error, nobody_waits():
        run()
    seen.clear()  # or this very test would be the one that is told
    return str(error.value)


@both
@pytest.mark.parametrize("sleep", [anyio.sleep, SystemClock().sleep], ids=["anyio", "clock"])
def test_a_task_that_sleeps_is_caught(backend: Any, sleep: Any) -> None:
    assert f"a timer of a real {backend}" in caught(lambda: anyio.run(waits_by, sleep, backend=backend))


def test_a_task_that_sleeps_by_its_own_library_is_caught() -> None:
    assert "asyncio" in caught(lambda: asyncio.run(waits_by(asyncio.sleep)))
    assert "trio" in caught(lambda: trio.run(waits_by, trio.sleep))


@both
def test_a_task_that_waits_for_its_limit_is_caught(backend: Any) -> None:
    assert "a timer" in caught(lambda: anyio.run(waits_for_a_timer, backend=backend))


def test_a_call_that_comes_later_is_caught() -> None:
    assert "a timer" in caught(lambda: asyncio.run(calls_later()))


@both
def test_so_it_is_in_another_thread(backend: Any) -> None:
    assert "a timer" in caught(lambda: in_a_thread(lambda: anyio.run(waits_for_a_timer, backend=backend)))


def test_a_thread_that_sleeps_is_caught_at_once() -> None:
    sleep = time.sleep
    assert "time.sleep in tests/testing/test_no_real_sleeps.py" in caught(lambda: sleep(MOMENT))
    assert "src/finresilience/clock.py (sleep_sync)" in caught(lambda: SystemClock().sleep_sync(MOMENT))


@both
def test_virtual_time_is_not_taken_for_real_time(backend: Any) -> None:
    with nobody_waits():
        run_virtual(waits_for_a_timer, backend=backend)
        run_virtual(anyio.sleep, 3600, backend=backend)


@both
def test_a_loop_that_a_thread_wakes_before_its_timer_has_not_slept(backend: Any) -> None:
    async def scenario() -> None:
        with anyio.fail_after(60):
            await anyio.to_thread.run_sync(sum, range(1_000))

    with nobody_waits():
        anyio.run(scenario, backend=backend)


async def test_a_checkpoint_is_no_sleep() -> None:
    with nobody_waits():
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
            await anyio.sleep(0)
