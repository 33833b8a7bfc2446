"""Work that left the loop for a thread holds virtual time, exactly."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest
import trio
from anyio import from_thread, to_thread

from finresilience.clock import ruling_clock
from finresilience.testing import DeadlockError, VirtualClock, on_asyncio, run_virtual, turn

both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def hop() -> int:
    """Work for about a millisecond, without sleeping."""
    return sum(range(20_000))


async def hops(many: int, *, at_once: int = 1) -> float:
    async def one() -> None:
        for _ in range(many):
            with anyio.fail_after(1):
                await to_thread.run_sync(hop)

    async with anyio.create_task_group() as group:
        for _ in range(at_once):
            group.start_soon(one)
    return ruling_clock().monotonic()


@both
def test_a_hundred_thread_hops_give_no_false_timeout(backend: Any) -> None:
    assert run_virtual(hops, 100, backend=backend) == 0.0


@both
def test_ten_thousand_thread_hops_give_no_false_timeout(backend: Any) -> None:
    async def scenario() -> float:
        for number in range(10_000):
            with anyio.fail_after(1):
                await to_thread.run_sync(sum, range(number % 100 * 20))  # from nothing to a tenth of a millisecond
        return ruling_clock().monotonic()

    assert run_virtual(scenario, backend=backend) == 0.0


@both
def test_nor_do_hops_side_by_side(backend: Any) -> None:
    async def scenario() -> float:
        return await hops(25, at_once=8)

    assert run_virtual(scenario, backend=backend) == 0.0


def test_the_executors_of_asyncio_hold_too() -> None:
    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        for _ in range(100):
            async with asyncio.timeout(1):
                await asyncio.to_thread(hop)
            async with asyncio.timeout(1):
                await loop.run_in_executor(None, hop)
        return loop.time()

    assert run_virtual(scenario) == 0.0


def test_a_pool_of_ones_own_holds_too() -> None:
    async def scenario() -> float:
        with ThreadPoolExecutor(2) as pool:
            for _ in range(100):
                async with asyncio.timeout(1):
                    await asyncio.wrap_future(pool.submit(hop))
        return asyncio.get_running_loop().time()

    assert run_virtual(scenario) == 0.0


def test_a_wrapped_future_that_the_loop_itself_must_answer_is_no_deadlock() -> None:
    """Nobody can tell from outside who will answer it, so its hold ends when nothing was heard for as long as `patience`."""

    async def scenario() -> float:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.sleep(5), asyncio.get_running_loop()))
        return asyncio.get_running_loop().time()

    assert run_virtual(scenario, patience=0.01) == 5.0


def test_the_threads_of_trio_hold_too() -> None:
    async def scenario() -> float:
        for _ in range(100):
            with trio.fail_after(1):
                await trio.to_thread.run_sync(hop)
        return trio.current_time()

    assert run_virtual(scenario, backend="trio") == 0.0


@both
def test_once_the_thread_is_back_time_jumps_again(backend: Any) -> None:
    async def scenario() -> float:
        for _ in range(50):
            await to_thread.run_sync(hop)
            await anyio.sleep(60)
        return ruling_clock().monotonic()

    assert run_virtual(scenario, backend=backend) == 3000.0


def queueing_holds_nothing(backend: Any, patience: float = 30.0) -> None:
    async def scenario() -> float:
        limiter = anyio.CapacityLimiter(1)
        async with anyio.create_task_group() as group:

            async def hog() -> None:
                async with limiter:
                    await anyio.sleep(60)

            group.start_soon(hog)
            await anyio.sleep(1)
            await to_thread.run_sync(hop, limiter=limiter)
        return ruling_clock().monotonic()

    assert run_virtual(scenario, backend=backend, patience=patience) == 60.0


@both
def test_waiting_for_a_free_thread_holds_nothing(backend: Any) -> None:
    queueing_holds_nothing(backend)


@both
def test_while_the_loop_works_for_a_thread_time_may_jump(backend: Any) -> None:
    async def nap() -> float:
        await anyio.sleep(5)
        return ruling_clock().monotonic()

    def work() -> list[float]:
        return [from_thread.run(nap) for _ in range(20)]

    async def scenario() -> list[float]:
        with anyio.fail_after(1000):
            return await to_thread.run_sync(work)

    assert run_virtual(scenario, backend=backend) == [5.0 * n for n in range(1, 21)]


@both
def test_no_jump_fits_between_the_loops_answer_and_the_threads_next_step(backend: Any) -> None:
    async def nothing() -> None: ...

    def work() -> None:
        for _ in range(100):
            from_thread.run(nothing)
            hop()

    async def scenario() -> float:
        with anyio.fail_after(1):
            await to_thread.run_sync(work)
        return ruling_clock().monotonic()

    assert run_virtual(scenario, backend=backend) == 0.0


@both
def test_a_worker_may_sleep_on_the_clock(backend: Any) -> None:
    def work(seconds: float) -> float:
        ruling_clock().sleep_sync(seconds)
        hop()
        return ruling_clock().monotonic()

    async def scenario() -> list[float]:
        told: list[float] = []

        async def one(seconds: float) -> None:
            told.append(await to_thread.run_sync(work, seconds))

        async with anyio.create_task_group() as group:
            for seconds in (30, 10, 20):
                group.start_soon(one, seconds)
        return told

    assert run_virtual(scenario, backend=backend) == [10.0, 20.0, 30.0]


@both
def test_an_abandoned_thread_holds_nothing(backend: Any) -> None:
    gate = threading.Event()

    async def scenario() -> float:
        with anyio.move_on_after(5), VirtualClock.current().hold():
            pass
        with anyio.CancelScope() as scope:

            async def give_up() -> None:
                await to_thread.run_sync(hop)
                scope.cancel()

            async with anyio.create_task_group() as group:
                group.start_soon(give_up)
                await to_thread.run_sync(gate.wait, abandon_on_cancel=True)
        await anyio.sleep(60)
        gate.set()
        return ruling_clock().monotonic()

    assert run_virtual(scenario, backend=backend) == 60.0


@both
def test_a_thread_of_ones_own_holds_if_asked_to(backend: Any) -> None:
    async def scenario() -> float:
        clock, done = VirtualClock.current(), anyio.Event()
        hold = clock.hold()
        hold.take()

        def work() -> None:
            hop()
            tell(done.set)
            hold.release()

        tell = asyncio.get_running_loop().call_soon_threadsafe if backend == "asyncio" else trio.lowlevel.current_trio_token().run_sync_soon
        threading.Thread(target=work).start()
        with anyio.fail_after(1):
            await done.wait()
        await anyio.sleep(60)
        return clock.monotonic()

    assert run_virtual(scenario, backend=backend) == 60.0


@both
def test_a_thread_of_ones_own_may_sleep_on_the_clock(backend: Any) -> None:
    woken: list[float] = []

    async def scenario() -> None:
        clock = VirtualClock.current()

        def work() -> None:
            clock.sleep_sync(10)
            woken.append(clock.monotonic())
            hold.release()

        with clock.hold():
            hold = clock.hold()
            hold.take()
            thread = threading.Thread(target=work)
            thread.start()
            while not clock._sleepers:
                await anyio.lowlevel.checkpoint()
        hold.release()
        await anyio.sleep(60)
        thread.join()

    run_virtual(scenario, backend=backend)
    assert woken[0] >= 10


@both
def test_held_work_that_never_ends_is_a_deadlock_once_patience_ends(backend: Any) -> None:
    gate = threading.Event()

    async def scenario() -> None:
        try:
            with anyio.fail_after(60):
                await to_thread.run_sync(gate.wait)
        finally:
            gate.set()

    with pytest.raises(DeadlockError, match="held"):
        run_virtual(scenario, backend=backend, patience=0.05)


@both
def test_runs_in_several_threads_do_not_meet(backend: Any) -> None:
    told: list[float] = []

    def one(number: int) -> None:
        async def scenario() -> None:
            for _ in range(10):
                await to_thread.run_sync(hop)
                await anyio.sleep(number)
            told.append(VirtualClock.current().monotonic())

        run_virtual(scenario, backend=backend)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == [10.0, 20.0, 30.0, 40.0]


async def test_outside_a_virtual_run_threads_work_as_ever() -> None:
    run_virtual_in_a_thread = await to_thread.run_sync(lambda: run_virtual(hops, 2))
    assert run_virtual_in_a_thread == 0.0
    assert await to_thread.run_sync(hop) == hop()


@pytest.mark.parametrize("step", range(1, 12))
def test_a_thread_may_answer_while_the_loop_mixes_its_tasks(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    look, looks = on_asyncio._task_of, list[int]()

    async def scenario() -> None:
        loop, answer = asyncio.get_running_loop(), asyncio.Event()

        def looked(handle: Any) -> Any:
            looks.append(1)
            if len(looks) == step:
                thread = threading.Thread(target=loop.call_soon_threadsafe, args=(answer.set,))
                thread.start()
                thread.join()
            return look(handle)

        monkeypatch.setattr(on_asyncio, "_task_of", looked)
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(turn())
        await answer.wait()

    run_virtual(scenario, seed=1)


def test_a_loop_that_knows_no_pools_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_asyncio, "_WRAPS", None)
    with pytest.raises(TimeoutError):
        test_a_pool_of_ones_own_holds_too()
