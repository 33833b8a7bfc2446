"""Threads at the edges of a virtual run: abandoned ones, late ones, other people's."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import anyio
import pytest
import trio
from anyio import from_thread, to_thread
from anyio.lowlevel import checkpoint, current_token

from finresilience.clock import ruling_clock
from finresilience.errors import ConfigurationError
from finresilience.testing import DeadlockError, VirtualClock, run_virtual
from finresilience.testing.errands import Errand, Hold

both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def hop() -> int:
    """Work for about a millisecond, without sleeping."""
    return sum(range(20_000))


async def hops(many: int) -> None:
    for _ in range(many):
        with anyio.fail_after(1):
            await to_thread.run_sync(hop)


@both
def test_a_worker_knows_the_clock_that_it_holds(backend: Any) -> None:
    async def scenario() -> bool:
        return await to_thread.run_sync(VirtualClock.current) is VirtualClock.current()

    assert run_virtual(scenario, backend=backend)


@both
def test_a_thread_of_ones_own_knows_no_clock(backend: Any) -> None:
    seen: list[str] = []

    def ask() -> None:
        try:
            VirtualClock.current()
        except ConfigurationError as error:
            seen.append(str(error))

    async def scenario() -> None:
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()

    run_virtual(scenario, backend=backend)
    assert "no virtual clock here" in seen[0]


def stands_idle(thread: int) -> bool:
    """Say whether the event loop in that thread waits in its selector, other than for a mere look."""
    frame = sys._current_frames()[thread]
    return frame.f_code.co_name in {"select", "get_events", "poll"} and bool(frame.f_locals.get("timeout"))


def time_jumps_once_a_hold_is_released(backend: Any, patience: float = 30.0) -> None:
    def work(hold: Hold, loop: int) -> None:
        while not stands_idle(loop):
            hop()
        hold.release()  # and tells the loop nothing else

    async def scenario() -> float:
        hold = VirtualClock.current().hold()
        hold.take()
        thread = threading.Thread(target=work, args=(hold, threading.get_ident()))
        thread.start()
        await anyio.sleep(60)
        thread.join()
        return ruling_clock().monotonic()

    assert run_virtual(scenario, backend=backend, patience=patience) == 60.0


def an_abandoned_sleeper_counts_for_nothing(backend: Any) -> None:
    async def scenario() -> list[float]:
        clock, told = VirtualClock.current(), list[float]()
        with anyio.move_on_after(10):
            await to_thread.run_sync(clock.sleep_sync, 100, abandon_on_cancel=True)
        await hops(30)
        told.append(clock.monotonic())
        await anyio.sleep(500)
        await hops(30)
        return [*told, clock.monotonic()]

    assert run_virtual(scenario, backend=backend) == [10.0, 510.0]


def a_hold_that_comes_back_after_its_run_counts_for_nothing(backend: Any) -> None:
    clock = VirtualClock()
    late = clock.hold()

    async def first() -> None:
        late.take()

    async def second() -> float:
        late.release()
        await hops(30)
        return clock.monotonic()

    run_virtual(first, backend=backend, clock=clock)
    assert run_virtual(second, backend=backend, clock=clock) == 0.0


@both
def test_a_loop_that_stands_idle_hears_of_a_released_hold(backend: Any) -> None:
    time_jumps_once_a_hold_is_released(backend)


@both
def test_an_abandoned_thread_that_sleeps_on_the_clock_neither_holds_nor_lends(backend: Any) -> None:
    an_abandoned_sleeper_counts_for_nothing(backend)


@both
def test_a_hold_released_after_its_run_frees_nothing_of_the_next(backend: Any) -> None:
    a_hold_that_comes_back_after_its_run_counts_for_nothing(backend)


@both
def test_a_hold_taken_twice_is_one_hold(backend: Any) -> None:
    async def scenario() -> float:
        hold = VirtualClock.current().hold()
        hold.take()
        hold.take()
        hold.release()
        hold.release()
        await anyio.sleep(60)
        await hops(10)
        return ruling_clock().monotonic()

    assert run_virtual(scenario, backend=backend) == 60.0


@both
def test_a_thread_that_sleeps_past_the_end_is_told(backend: Any) -> None:
    told: list[str] = []

    def sleep_long(clock: VirtualClock) -> None:
        try:
            clock.sleep_sync(3600)
        except DeadlockError as error:
            told.append(str(error))

    async def scenario() -> threading.Thread:
        clock = VirtualClock.current()
        thread = threading.Thread(target=sleep_long, args=(clock,))
        thread.start()
        while not clock._sleepers:
            await checkpoint()
        return thread

    run_virtual(scenario, backend=backend).join()
    assert "join such threads before the end" in told[0]


@both
def test_a_thread_that_goes_to_sleep_as_the_run_ends_is_told(backend: Any) -> None:
    clock = VirtualClock()

    async def scenario() -> Any:
        return clock._driver

    driver = run_virtual(scenario, backend=backend, clock=clock)
    with pytest.raises(DeadlockError, match="join such threads"):
        clock._sleep_in_thread(1.0, driver)  # it had looked while the run still was


@both
def test_an_answer_of_the_loop_that_outlives_the_run_is_harmless(backend: Any) -> None:
    clock = VirtualClock()
    errand = Errand(clock, lambda: True)
    lending = clock.lent(errand)

    async def begin() -> None:
        lending.__enter__()

    run_virtual(begin, backend=backend, clock=clock)
    lending.__exit__(None, None, None)
    assert run_virtual(hops, 10, backend=backend, clock=clock) is None
    assert clock.monotonic() == 0.0


@both
def test_a_real_loop_in_a_thread_goes_on_as_ever(backend: Any) -> None:
    async def two_tasks() -> int:
        async with anyio.create_task_group() as group:
            group.start_soon(checkpoint)
            await to_thread.run_sync(from_thread.run, checkpoint)
        return await to_thread.run_sync(hop)

    def real() -> int:
        return anyio.run(two_tasks, backend=backend)

    async def scenario() -> tuple[int, float]:
        with anyio.fail_after(1):
            return await to_thread.run_sync(real), ruling_clock().monotonic()

    assert run_virtual(scenario, backend=backend) == (hop(), 0.0)


@both
def test_a_worker_that_asks_the_loop_of_somebody_else_still_holds(backend: Any) -> None:
    async def scenario() -> float:
        tokens: list[Any] = []
        ready = threading.Event()

        async def real() -> None:
            done = anyio.Event()
            tokens.extend((current_token(), done))
            ready.set()
            await done.wait()

        async def answer() -> None:
            for _ in range(50):
                await checkpoint()

        def ask() -> None:
            ready.wait()
            token, done = tokens
            from_thread.run(answer, token=token)
            from_thread.run_sync(done.set, token=token)

        thread = threading.Thread(target=anyio.run, args=(real,), kwargs={"backend": backend})
        thread.start()
        with anyio.fail_after(1):
            await to_thread.run_sync(ask)
            await to_thread.run_sync(thread.join)
        return ruling_clock().monotonic()

    assert run_virtual(scenario, backend=backend) == 0.0


def test_an_executor_that_takes_no_work_holds_nothing() -> None:
    async def scenario() -> float:
        executor = ThreadPoolExecutor(1)
        executor.shutdown()
        with pytest.raises(RuntimeError, match="shutdown"):
            await asyncio.get_running_loop().run_in_executor(executor, hop)
        await asyncio.sleep(60)
        return ruling_clock().monotonic()

    assert run_virtual(scenario) == 60.0


def test_work_in_an_executor_of_asyncio_may_sleep_on_the_clock() -> None:
    async def scenario() -> float:
        async with asyncio.timeout(100):
            await asyncio.to_thread(VirtualClock.current().sleep_sync, 60)
        return ruling_clock().monotonic()

    assert run_virtual(scenario) == 60.0


def test_an_error_in_trio_itself_is_not_taken_for_a_deadlock(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        with trio.move_on_after(1):
            await trio.lowlevel.wait_task_rescheduled(lambda _: None)  # type: ignore[arg-type,return-value]  # pyright: ignore[reportArgumentType] - the error

    monkeypatch.setattr(sys, "unraisablehook", list[object]().append)  # trio leaves ruins
    with pytest.raises(trio.TrioInternalError):
        run_virtual(scenario, backend="trio")
    gc.collect()


@both
def test_a_clock_tells_its_state(backend: Any) -> None:
    clock = VirtualClock(5)

    async def scenario() -> str:
        with clock.hold():
            return repr(clock)

    assert run_virtual(scenario, backend=backend, clock=clock) == "<VirtualClock at 5 s, running, held 1 times>"
    assert repr(clock) == "<VirtualClock at 5 s, at rest, held 0 times>"


# ---------------------------------------------------------------- the saboteurs


def faithful(clock: Any) -> int:
    """It believes a thread that sleeps, even if nobody waits for that thread any more."""
    return int(clock._held) - len(clock._loans)


def deaf(clock: Any, run: int) -> None:
    """It counts what comes back, and does not tell the loop."""
    clock._held -= 1


def forgetful(clock: Any, run: int) -> None:
    """It counts whatever comes back, whichever run that left."""
    clock._held -= 1
    if clock._driver is not None:
        clock._driver.wake()


@pytest.mark.parametrize(
    ("law", "name", "saboteur", "backend"),
    [
        (
            partial(time_jumps_once_a_hold_is_released, patience=0.2),
            "give_hold",
            deaf,
            "asyncio",
        ),  # trio looks again by itself, once its patience ends
        (a_hold_that_comes_back_after_its_run_counts_for_nothing, "give_hold", forgetful, "asyncio"),
        (a_hold_that_comes_back_after_its_run_counts_for_nothing, "give_hold", forgetful, "trio"),
        (an_abandoned_sleeper_counts_for_nothing, "held", property(faithful), "asyncio"),
        (an_abandoned_sleeper_counts_for_nothing, "held", property(faithful), "trio"),
    ],
    ids=["deaf-asyncio", "forgetful-asyncio", "forgetful-trio", "faithful-asyncio", "faithful-trio"],
)
def test_the_law_is_awake(backend: Any, law: Any, name: str, saboteur: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VirtualClock, name, saboteur)
    with pytest.raises((AssertionError, TimeoutError, DeadlockError)):
        law(backend)
