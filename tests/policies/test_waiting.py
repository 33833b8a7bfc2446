"""A waiter is woken from anywhere, misses nothing, and says when nobody can ever be woken."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
import trio

from finresilience import ConfigurationError
from finresilience.clock import SystemClock
from finresilience.policies.waiting import AsyncioWaiter, ThreadWaiter, TrioWaiter, waiter_here
from finresilience.testing import VirtualClock, explore_threads
from tests.laws.sabotage import kills
from tests.laws.worlds import both_loops, on, still

if TYPE_CHECKING:
    from finresilience.testing.stories import ThreadStory

PATIENCE = 60.0  # real seconds that nothing here takes


# --- threads -----------------------------------------------------------------------------------------------------------


def a_thread_looks_and_then_waits() -> ThreadStory:
    """What everybody does who waits: look, and if there is nothing, sleep. Somebody else puts something there and wakes it."""
    waiter, there = ThreadWaiter(), list[str]()

    def sleeper() -> None:
        while not there:
            assert waiter.wait(PATIENCE), "nobody woke it"

    def waker() -> None:
        there.append("it")
        waiter.wake()
        waiter.wake()

    return [sleeper, waker], lambda: None


def test_a_thread_that_is_woken_between_its_look_and_its_sleep_does_not_sleep() -> None:
    assert explore_threads(a_thread_looks_and_then_waits, seeds=200).distinct > 50


def a_wake_is_heard_only_by_one_who_sleeps_already(patch: pytest.MonkeyPatch) -> None:
    def wait(self: ThreadWaiter, timeout: float) -> bool:
        self._gate.acquire(blocking=False)  # whatever was before is forgotten
        return self._gate.acquire(timeout=timeout)

    patch.setattr(ThreadWaiter, "wait", wait)


def test_its_saboteur_is_found_out() -> None:
    kills(a_wake_is_heard_only_by_one_who_sleeps_already, test_a_thread_that_is_woken_between_its_look_and_its_sleep_does_not_sleep)


class Waits:
    """A clock that waits by a signal, in a time of its own."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.now = 10.0

    def monotonic(self) -> float:
        return self.now

    def wait_for(self, signal: ThreadWaiter, seconds: float) -> bool:
        self.asked.append(seconds)
        self.now += min(seconds, 2.0)
        return signal.wait(0.0)


def test_a_clock_that_knows_how_to_wait_is_asked_until_the_time_has_come() -> None:
    clock: Any = Waits()
    ThreadWaiter().sleep(clock, 15.0)
    assert (clock.asked, clock.now) == ([5.0, 3.0, 1.0], 15.0)


def test_a_clock_that_knows_how_to_wait_is_not_asked_again_by_one_who_was_woken() -> None:
    clock: Any = Waits()
    waiter = ThreadWaiter()
    waiter.wake()
    waiter.sleep(clock, 15.0)
    assert clock.asked == [5.0]
    assert not waiter.is_set()


def a_thread_on_a_clock_that_stands_still() -> ThreadStory:
    waiter, clock, woken = ThreadWaiter(), still(), list[str]()

    def sleeper() -> None:
        waiter.sleep(clock, PATIENCE)
        woken.append("by somebody")

    return [sleeper, waiter.wake, waiter.wake], lambda: woken == ["by somebody"]


def test_a_thread_on_a_clock_that_stands_still_is_woken_by_others() -> None:
    explore_threads(a_thread_on_a_clock_that_stands_still, seeds=50)


def test_a_thread_sleeps_until_the_told_time_has_passed() -> None:
    clock, waiter = still(), ThreadWaiter()
    thread = Thread(target=waiter.sleep, args=(clock, 5.0))
    thread.start()
    clock.advance(5)
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_being_woken_twice_is_being_woken_once() -> None:
    waiter = ThreadWaiter()
    assert waiter.wake()
    assert waiter.wake()
    assert waiter.is_set()
    assert waiter.wait(0.0)
    assert not waiter.is_set()
    assert not waiter.wait(0.0)


# --- tasks -------------------------------------------------------------------------------------------------------------


@both_loops
def test_a_task_woken_by_a_neighbour_goes_on_at_once(backend: str) -> None:
    async def main() -> float:
        clock = VirtualClock.current()
        waiter = waiter_here()

        async def neighbour() -> None:
            await anyio.sleep(1)
            assert waiter.wake()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(neighbour)
            await waiter.sleep(clock, PATIENCE)
        return clock.monotonic()

    assert on(backend, main) == 1.0


@both_loops
def test_a_task_woken_by_a_thread_goes_on_at_once(backend: str) -> None:
    async def main() -> float:
        clock = VirtualClock.current()
        waiter = waiter_here()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, waiter.wake)
            await waiter.sleep(clock, PATIENCE)
        return clock.monotonic()

    assert on(backend, main) == 0.0


@both_loops
def test_a_task_woken_before_it_sleeps_does_not_sleep_and_one_woken_long_ago_does(backend: str) -> None:
    async def main() -> tuple[float, float]:
        clock = VirtualClock.current()
        waiter = waiter_here()
        waiter.wake()
        await waiter.sleep(clock, 5.0)
        first = clock.monotonic()
        await waiter.sleep(clock, 5.0)
        return first, clock.monotonic()

    assert on(backend, main) == (0.0, 5.0)


@both_loops
def test_a_task_sleeps_for_the_virtual_time_it_was_told(backend: str) -> None:
    async def main() -> float:
        clock = VirtualClock.current()
        await waiter_here().sleep(clock, 0.1)
        return clock.monotonic()

    assert on(backend, main) == 0.1


async def test_a_task_on_a_clock_moved_by_hand_looks_often_whether_it_has_moved() -> None:
    clock = still()
    with anyio.fail_after(PATIENCE):
        await waiter_here().sleep(clock, 1e6)


@both_loops
def test_a_cancelled_sleep_raises_what_cancelled_it_and_leaves_no_timer(backend: str) -> None:
    async def main() -> float:
        clock = VirtualClock.current()
        with anyio.move_on_after(1.0):
            await waiter_here().sleep(clock, PATIENCE)
        return clock.monotonic()

    assert on(backend, main) == 1.0


@both_loops
def test_a_wait_until_now_still_ends(backend: str) -> None:
    async def main() -> float:
        clock = VirtualClock.current()
        await anyio.sleep(1e6)
        await waiter_here().sleep(clock, clock.monotonic())
        return clock.monotonic()

    assert on(backend, main) > 1e6


def test_nobody_on_a_closed_loop_can_be_woken() -> None:
    async def main() -> AsyncioWaiter | TrioWaiter:
        return waiter_here()

    for waiter in (asyncio.run(main()), trio.run(main)):
        assert waiter.wake() is False


def test_one_who_waits_on_a_stopped_loop_may_still_come() -> None:
    loop = asyncio.new_event_loop()

    async def main() -> AsyncioWaiter | TrioWaiter:
        return waiter_here()

    waiter = loop.run_until_complete(main())
    assert waiter.wake() is True  # nobody knows that it will never run again
    loop.close()
    assert waiter.wake() is False


def test_trio_inside_of_asyncio_is_trio() -> None:
    """A guest run: an asyncio loop is running, but the task is trio's."""
    kinds: list[type] = []

    async def guest() -> None:
        waiter = waiter_here()
        kinds.append(type(waiter))
        with suppress(trio.TooSlowError):
            await waiter.sleep(SystemClock(), 0.0)

    async def host() -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        trio.lowlevel.start_guest_run(
            guest, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=lambda _: loop.call_soon_threadsafe(over.set)
        )
        await over.wait()

    asyncio.run(host())
    assert kinds == [TrioWaiter]


def test_without_a_loop_nothing_can_be_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finresilience.policies.waiting.sys.modules", {})
    with pytest.raises(ConfigurationError, match="no task"):
        waiter_here()
