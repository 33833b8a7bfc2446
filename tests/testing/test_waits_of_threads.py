"""A thread that waits on a virtual clock lets time pass, is woken at once, and gives up at its very time."""

from __future__ import annotations

import threading
from math import inf
from typing import Any

import anyio
import pytest
from anyio import from_thread, to_thread

from finresilience import Bulkhead, Timeout, Unknown
from finresilience.clock import ruling_clock
from finresilience.errors import BulkheadFullError, ConfigurationError, UnknownOutcomeError
from finresilience.testing import DeadlockError, VirtualClock, run_virtual, sleepers

both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def hop() -> int:
    """Work for about a millisecond, without sleeping."""
    return sum(range(20_000))


# ---------------------------------------------------------------- at a bulkhead


def at_a_full_bulkhead(backend: Any, *, busy: float, patience: float) -> tuple[float, str]:
    """One task holds the only place for `busy` seconds; a worker waits for it at most `patience`. When did it end, and how?"""
    gate = Bulkhead(1, queue=5, max_wait=patience, listeners=[])

    def pay() -> str:
        try:
            return gate.call(lambda: "paid")
        except BulkheadFullError:
            return "refused"

    async def hog() -> None:
        async with gate.guard():
            await anyio.sleep(busy)

    async def scenario() -> tuple[float, str]:
        ended: list[tuple[float, str]] = []
        async with anyio.create_task_group() as group:
            group.start_soon(hog)
            await anyio.sleep(1)
            told = await to_thread.run_sync(pay)
            ended.append((ruling_clock().monotonic(), told))
        return ended[0]

    return run_virtual(scenario, backend=backend)


@both
def test_a_worker_at_a_full_bulkhead_is_let_in_when_the_place_comes_free(backend: Any) -> None:
    assert at_a_full_bulkhead(backend, busy=60.0, patience=100.0) == (60.0, "paid")


@both
def test_a_worker_at_a_full_bulkhead_gives_up_at_its_time(backend: Any) -> None:
    assert at_a_full_bulkhead(backend, busy=60.0, patience=10.0) == (11.0, "refused")


@both
def test_workers_pass_a_bulkhead_one_by_one_in_virtual_time(backend: Any) -> None:
    gate = Bulkhead(1, queue=20, max_wait=1000.0, listeners=[])

    def pay() -> float:
        def charge() -> float:
            hop()
            ruling_clock().sleep_sync(5)
            return ruling_clock().monotonic()

        return gate.call(charge)

    async def scenario() -> list[float]:
        ends: list[float] = []

        async def one() -> None:
            ends.append(await to_thread.run_sync(pay))

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(one)
        return ends

    assert run_virtual(scenario, backend=backend) == [5.0 * number for number in range(1, 9)]


@both
def test_a_place_that_nobody_gives_back_is_a_deadlock_that_lets_its_worker_go(backend: Any) -> None:
    gone = threading.Event()

    def wait() -> None:
        try:
            VirtualClock.current().wait_for(threading.Event(), inf)
        finally:
            gone.set()

    async def scenario() -> None:
        await to_thread.run_sync(wait)

    with pytest.raises(DeadlockError, match="1 threads for a signal on this clock"):
        run_virtual(scenario, backend=backend)
    assert gone.wait(60)  # it goes as soon as it has heard


# ---------------------------------------------------------------- for a signal


def never_jumps_past_a_signal_that_is_set(backend: Any) -> None:
    def wait(signal: threading.Event) -> bool:
        came = VirtualClock.current().wait_for(signal, 10.0)
        hop()  # at work again: time must not pass
        return came

    async def scenario() -> None:
        for _ in range(60):
            signal, began = threading.Event(), ruling_clock().monotonic()
            async with anyio.create_task_group() as group:

                async def one(signal: threading.Event = signal) -> None:
                    assert await to_thread.run_sync(wait, signal)

                group.start_soon(one)
                await anyio.sleep(5)
                signal.set()
                with anyio.move_on_after(1):  # which must not be reached: the worker comes back at once
                    await to_thread.run_sync(hop)
            assert ruling_clock().monotonic() == began + 5

    run_virtual(scenario, backend=backend)


@both
def test_time_never_jumps_past_a_signal_that_is_set(backend: Any) -> None:
    never_jumps_past_a_signal_that_is_set(backend)


@both
def test_a_signal_set_by_another_worker_wakes_at_once(backend: Any) -> None:
    async def scenario() -> tuple[bool, float]:
        signal, came = threading.Event(), list[bool]()

        def tell() -> None:
            ruling_clock().sleep_sync(7)
            hop()
            signal.set()

        async def wait() -> None:
            came.append(await to_thread.run_sync(VirtualClock.current().wait_until, signal, 100.0))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await to_thread.run_sync(tell)
        return came[0], ruling_clock().monotonic()

    assert run_virtual(scenario, backend=backend) == (True, 7.0)


@both
def test_a_worker_that_asks_the_loop_for_its_signal_gets_it(backend: Any) -> None:
    async def set_later(signal: threading.Event) -> None:
        await anyio.sleep(3)
        signal.set()

    def work() -> bool:
        signal = threading.Event()
        from_thread.run(set_later, signal)
        return VirtualClock.current().wait_for(signal, 0.0)

    async def scenario() -> tuple[bool, float]:
        return await to_thread.run_sync(work), ruling_clock().monotonic()

    assert run_virtual(scenario, backend=backend) == (True, 3.0)


@both
def test_a_wait_whose_time_is_past_looks_once(backend: Any) -> None:
    def look() -> list[bool]:
        clock, signal = VirtualClock.current(), threading.Event()
        before = clock.wait_until(signal, -1.0)
        signal.set()
        return [before, clock.wait_until(signal, -1.0)]

    async def scenario() -> tuple[list[bool], float]:
        return await to_thread.run_sync(look), ruling_clock().monotonic()

    assert run_virtual(scenario, backend=backend) == ([False, True], 0.0)


@both
def test_in_the_loops_own_thread_a_wait_moves_the_time_for_everybody(backend: Any) -> None:
    async def scenario() -> tuple[bool, float]:
        return VirtualClock.current().wait_for(threading.Event(), 25.0), ruling_clock().monotonic()

    assert run_virtual(scenario, backend=backend) == (False, 25.0)


@both
def test_in_the_loops_own_thread_a_wait_for_ever_is_a_deadlock(backend: Any) -> None:
    async def scenario() -> None:
        VirtualClock.current().wait_for(threading.Event(), inf)

    with pytest.raises(DeadlockError, match=r"to_thread\.run_sync"):
        run_virtual(scenario, backend=backend)


def test_outside_a_run_it_says_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match="ManualClock"):
        VirtualClock().wait_for(threading.Event(), 1.0)


@both
@pytest.mark.parametrize("wrong", [-1.0, float("nan"), True])
def test_a_time_that_cannot_be_waited_is_refused(backend: Any, wrong: float) -> None:
    async def scenario() -> None:
        VirtualClock.current().wait_for(threading.Event(), wrong)

    with pytest.raises(ConfigurationError, match="seconds"):
        run_virtual(scenario, backend=backend)


# ---------------------------------------------------------------- for a call in a thread, by a Timeout


def toil() -> int:
    """Work for long enough that every other thread gets its turn meanwhile."""
    return max(hop() for _ in range(25))


def guarded(seconds: float) -> Timeout:
    return Timeout(seconds, thread_limit=50, listeners=[])


def slow_threads_are_in_time(backend: Any, *, in_worker: bool) -> None:
    limit = guarded(1.0)

    async def scenario() -> float:
        for _ in range(8):
            answer = await to_thread.run_sync(limit.call, toil) if in_worker else limit.call(toil)
            assert answer == hop()
        return ruling_clock().monotonic()

    assert run_virtual(scenario, backend=backend) == 0.0


@both
@pytest.mark.parametrize("in_worker", [True, False])
def test_a_thread_at_work_is_never_late_in_virtual_time(backend: Any, in_worker: bool) -> None:
    slow_threads_are_in_time(backend, in_worker=in_worker)


@both
@pytest.mark.parametrize(("sleeps", "ended"), [(1.5, 1.5), (2.5, 2.0)])
def test_a_thread_that_sleeps_on_the_clock_is_late_at_its_very_time(backend: Any, sleeps: float, ended: float) -> None:
    limit = guarded(2.0)

    def call() -> tuple[bool, float]:
        late = isinstance(limit.outcome(ruling_clock().sleep_sync, sleeps), Unknown)
        return late, ruling_clock().monotonic()

    async def scenario() -> tuple[bool, float]:
        told = await to_thread.run_sync(call)
        await anyio.sleep(10)
        return told

    assert run_virtual(scenario, backend=backend) == (sleeps > 2.0, ended)


@both
def test_a_thread_within_a_thread_is_seen_at_work(backend: Any) -> None:
    outer, inner = guarded(5.0), guarded(2.0)

    async def scenario() -> float:
        for _ in range(8):
            assert await to_thread.run_sync(lambda: outer.call(lambda: inner.call(toil))) == hop()
        return ruling_clock().monotonic()

    assert run_virtual(scenario, backend=backend) == 0.0


@both
def test_a_thread_left_behind_holds_nothing(backend: Any) -> None:
    gate, limit = threading.Event(), guarded(2.0)

    def stuck(gate: threading.Event) -> None:
        ruling_clock().sleep_sync(3)
        gate.wait()  # for real

    async def scenario() -> float:
        late = await to_thread.run_sync(lambda: limit.outcome(stuck, gate))
        assert isinstance(late, Unknown)
        await anyio.sleep(60)
        assert await to_thread.run_sync(guarded(1.0).call, hop) == hop()
        gate.set()
        return ruling_clock().monotonic()

    assert run_virtual(scenario, backend=backend) == 62.0


def test_a_thread_knows_what_it_was_handed_where_we_look() -> None:
    signal, begun, go = threading.Event(), threading.Event(), threading.Event()

    def work(*_: object, **__: object) -> None:
        begun.set()
        go.wait()

    handed: list[tuple[tuple[Any, ...], dict[str, Any]]] = [((signal,), {}), (([signal],), {}), ((), {"done": signal})]
    for args, kwargs in handed:
        thread = threading.Thread(target=work, args=args, kwargs=kwargs)
        thread.start()
        begun.wait()
        assert list(sleepers.bearers(signal)) == [thread]
        go.set()
        thread.join()
        assert list(sleepers.bearers(signal)) == []
        go.clear()


# ---------------------------------------------------------------- the saboteurs


def always(_sleeper: object) -> bool:
    return True


def nobody(_signal: object) -> tuple[()]:
    return ()


@both
def test_a_clock_that_believes_every_sleeper_is_caught(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sleepers.Sleeper, "idle", always)
    with pytest.raises((AssertionError, ExceptionGroup)):
        for _ in range(50):  # free-running threads: on a busy machine one run may be in time by luck
            never_jumps_past_a_signal_that_is_set(backend)


@both
def test_a_clock_that_does_not_see_threads_at_work_is_caught(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sleepers, "bearers", nobody)
    for in_worker in (True, False):
        with pytest.raises((AssertionError, UnknownOutcomeError)):
            for _ in range(50):  # free-running threads: on a busy machine one run may be in time by luck
                slow_threads_are_in_time(backend, in_worker=in_worker)
