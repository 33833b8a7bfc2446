"""The kit's front door, and the private names of event loops that it stands on."""

from __future__ import annotations

import asyncio
import inspect
import queue
import random
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trio
from anyio._backends._asyncio import AsyncIOBackend
from trio.testing import MockClock

from finresilience import testing
from finresilience.testing import CounterexampleError
from finresilience.testing.clock import Wall

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("name", testing.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(testing, name) is not None
    assert name in dir(testing)


def test_the_list_of_names_is_sorted_and_whole() -> None:
    assert testing.__all__ == sorted([*testing._HOMES, *testing._ROOMS])


def test_no_name_is_that_of_a_module_which_would_take_its_place_once_imported() -> None:
    files = {path.stem for path in Path(testing.__file__).parent.iterdir()}
    assert not files & {*testing._HOMES}
    assert files >= testing._ROOMS


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"finresilience\.testing.*no_such_name"):
        testing.no_such_name  # pyright: ignore[reportAttributeAccessIssue, reportUnusedExpression] - under test


def test_to_import_the_kit_imports_nothing_heavy() -> None:
    program = "import sys, finresilience.testing; print({'anyio', 'asyncio', 'hypothesis', 'trio'} & set(sys.modules), end='')"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout == "set()"


def test_the_kit_works_without_trio() -> None:
    program = """
import sys
sys.modules["trio"] = None
import anyio
from anyio import to_thread
from finresilience.testing import ManualClock, VirtualClock, exhaust, explore, run_virtual
async def scenario():
    with anyio.fail_after(1):
        await to_thread.run_sync(sum, range(1000))
    await to_thread.run_sync(VirtualClock.current().sleep_sync, 60)
    return VirtualClock.current().monotonic()
print(run_virtual(scenario), explore(scenario, seeds=2, backend="asyncio").schedules, end="")
"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout == "60.0 2"


def test_a_counterexample_is_an_assertion_that_carries_its_replay() -> None:
    error = CounterexampleError(ValueError("broken"), "explore(x, seeds=[7])", schedule="0 1", seed=7)
    assert isinstance(error, AssertionError)
    assert str(error) == "ValueError: broken\nreplay: explore(x, seeds=[7])"
    assert (error.replay, error.schedule, error.seed) == ("explore(x, seeds=[7])", "0 1", 7)


def test_a_failure_without_words_is_told_by_its_type() -> None:
    assert str(CounterexampleError(ValueError(), "again", schedule="")) == "ValueError\nreplay: again"


def test_a_clock_must_tell_the_time() -> None:
    with pytest.raises(NotImplementedError):
        Wall(0.0, testing.ManualClock().utc()).monotonic()


# ---------------------------------------------------------------- private names: if one is gone, this tells which


def test_the_loop_of_asyncio_keeps_its_timers_and_its_queue_where_we_look() -> None:
    loop: Any = asyncio.SelectorEventLoop()
    try:
        timer = loop.call_later(60, print)
        assert loop._scheduled[0] is timer
        assert timer._when == pytest.approx(loop.time() + 60, abs=30)
        handle = loop.call_soon(print)
        assert loop._ready[0] is handle
        assert handle._callback is print
        assert 0 < loop._clock_resolution < 1
    finally:
        loop.close()


def test_anyio_hands_work_to_threads_where_we_look() -> None:
    work: Callable[..., Any] = AsyncIOBackend.run_sync_in_worker_thread
    assert list(inspect.signature(work).parameters) == ["func", "args", "abandon_on_cancel", "limiter"]
    assert list(inspect.signature(AsyncIOBackend.run_async_from_thread).parameters) == ["func", "args", "token"]


def test_the_clock_of_trio_jumps_where_we_look() -> None:
    clock: Any = MockClock()
    clock._virtual_base = 7.0
    assert clock.current_time() == 7.0
    assert callable(clock._autojump)


def test_trio_orders_its_tasks_where_we_look() -> None:
    module: Any = import_module("trio._core._run")
    assert type(module._r) is random.Random
    assert module._ALLOW_DETERMINISTIC_SCHEDULING in {True, False}  # Hypothesis, too, sets it

    async def look() -> None:
        runner = module.GLOBAL_RUN_CONTEXT.runner
        assert len(runner.runq) == 0
        task: Any = trio.lowlevel.current_task()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 3600) as scope:
            assert runner.deadlines.next_deadline() == scope.deadline
            assert task._cancel_status._scope is scope
            assert task._cancel_status._parent is not None

    trio.run(look)


def test_trio_knows_its_workers_where_we_look() -> None:
    module: Any = import_module("trio._threads")
    assert "task_register" in trio.to_thread.run_sync.__code__.co_cellvars

    def look() -> tuple[object, object]:
        return module.PARENT_TASK_DATA.token, module.PARENT_TASK_DATA.task_register[0]

    async def send() -> None:
        assert await trio.to_thread.run_sync(look) == (trio.lowlevel.current_trio_token(), trio.lowlevel.current_task())

    trio.run(send)


def test_threading_and_queue_make_their_locks_where_we_look() -> None:
    names = vars(threading)
    assert {"Lock", "RLock", "_allocate_lock", "_time"} <= set(names)
    assert {"_start_new_thread", "_start_joinable_thread"} & set(names)
    assert "time" in vars(queue)


async def test_a_checkpoint_is_one_turn_of_the_loop() -> None:
    seen: list[str] = []

    async def other() -> None:
        seen.append("other")

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        await testing.turn()
        await testing.turn()
        seen.append("main")
    assert seen == ["other", "main"]
