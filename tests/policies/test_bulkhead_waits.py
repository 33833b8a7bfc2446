"""Who waits at a bulkhead in an event loop: in which order, for how long, and what becomes of those who cannot come."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio

from finresilience import BulkheadFullError, CircuitBreaker, Constant, DeadlineExceededError, Event, Pipeline, Retry, Timeout, deadline
from finresilience.cores.bulkhead import BulkheadCore, Ticket
from finresilience.events import PlaceLapsed
from finresilience.policies.bulkhead import Bulkhead
from finresilience.policies.waiting import AsyncioWaiter, TrioWaiter
from finresilience.testing import VirtualClock
from tests.laws.sabotage import each_kill, kills
from tests.laws.worlds import RULES, Provider, both_loops, on, still


def bulkhead(limit: int = 1, *, queue: int = 5, max_wait: float = 3.0, **more: Any) -> Bulkhead:
    settings: dict[str, Any] = {"listeners": [], **more}
    return Bulkhead(limit, queue=queue, max_wait=max_wait, name="acme", **settings)


def elapsed() -> float:
    return VirtualClock.current().monotonic()


async def stays(policy: Bulkhead, seconds: float) -> None:
    async with policy.guard():
        await anyio.sleep(seconds)


def is_empty(policy: Bulkhead) -> bool:
    told = policy.statistics()
    return policy.core.idle and (told["at_work"], told["let_in"], told["waiting"]) == (0, 0, 0)


# --- order and time ----------------------------------------------------------------------------------------------------


@both_loops
def test_waiters_come_in_in_the_order_in_which_they_came_as_places_come_free(backend: str) -> None:
    async def main() -> list[tuple[int, float]]:
        policy, came = bulkhead(2, max_wait=60.0), list[tuple[int, float]]()

        async def call(number: int) -> None:
            await anyio.sleep(number / 100)
            async with policy.guard():
                came.append((number, elapsed()))
                await anyio.sleep(1)

        async with anyio.create_task_group() as tasks:
            for number in range(6):
                tasks.start_soon(call, number)
        assert is_empty(policy)
        return came

    assert on(backend, main) == [(0, 0.0), (1, 0.01), (2, 1.0), (3, 1.01), (4, 2.0), (5, 2.01)]


@both_loops
def test_a_wait_is_as_long_as_max_wait_and_then_refused_with_nothing_claimed(backend: str) -> None:
    async def main() -> tuple[float, float]:
        policy = bulkhead(max_wait=0.5)
        async with policy.guard():
            with pytest.raises(BulkheadFullError, match=r"no place came free within 0\.5 s") as refusal:
                await policy.aenter()
        assert is_empty(policy)
        return elapsed(), refusal.value.waited

    assert on(backend, main) == (0.5, 0.5)


@both_loops
@pytest.mark.parametrize(("seconds", "kind"), [(0.3, DeadlineExceededError), (0.5, DeadlineExceededError), (0.7, BulkheadFullError)])
def test_a_wait_is_never_longer_than_the_deadline(backend: str, seconds: float, kind: type[Exception]) -> None:
    async def main() -> float:
        policy = bulkhead(max_wait=0.5)
        async with policy.guard():
            with deadline(seconds), pytest.raises(kind):
                async with policy.guard():
                    pytest.fail("it was let in")
        assert is_empty(policy)
        return elapsed()

    assert on(backend, main) == min(seconds, 0.5)


@both_loops
def test_a_higher_limit_lets_waiters_in_at_once(backend: str) -> None:
    async def main() -> float:
        policy = bulkhead()
        async with policy.guard(), anyio.create_task_group() as tasks:
            tasks.start_soon(stays, policy, 0.0)
            tasks.start_soon(stays, policy, 0.0)
            await anyio.sleep(1.5)
            policy.resize(3)
        return elapsed()

    assert on(backend, main) == 1.5


# --- cancelled ---------------------------------------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("cancelled_first", [True, False])
def test_one_cancelled_at_the_very_moment_he_is_let_in_passes_the_place_on(backend: str, cancelled_first: bool) -> None:
    async def main() -> float:
        policy, scope = bulkhead(), anyio.CancelScope()
        hold = policy.take()

        async def cancelled() -> None:
            with scope:
                await stays(policy, 60)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancelled)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(stays, policy, 0.0)
            await anyio.wait_all_tasks_blocked()
            if cancelled_first:
                scope.cancel()
            policy.leave(hold)  # he is let in here
            assert policy.statistics()["let_in"] == 1
            scope.cancel()
        assert is_empty(policy)
        return elapsed()

    assert on(backend, main) == 0.0


def test_a_task_of_asyncio_cancelled_once_it_was_let_in_passes_the_place_on() -> None:
    async def main() -> float:
        policy = bulkhead()
        hold = policy.take()
        task = asyncio.create_task(stays(policy, 60))
        await anyio.wait_all_tasks_blocked()
        policy.leave(hold)
        task.cancel()  # its wait is over, but it did not run since
        with pytest.raises(asyncio.CancelledError):
            await task
        assert is_empty(policy)
        return elapsed()

    assert on("asyncio", main) == 0.0


@both_loops
def test_one_cancelled_in_the_queue_is_in_nobodys_way(backend: str) -> None:
    async def main() -> float:
        policy = bulkhead(queue=1)
        hold = policy.take()
        with anyio.move_on_after(1):
            await policy.aenter()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stays, policy, 0.0)
            await anyio.wait_all_tasks_blocked()
            policy.leave(hold)
        assert is_empty(policy)
        return elapsed()

    assert on(backend, main) == 1.0


# --- loops that are no more --------------------------------------------------------------------------------------------


def leave_one_waiting(policy: Bulkhead) -> tuple[asyncio.AbstractEventLoop, asyncio.Task[object]]:
    """Let a task stand in the queue on a loop that is stopped in the midst of its wait."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(policy.aenter())
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    assert policy.statistics()["waiting"] == 1
    return loop, task


def unmourned(task: Any) -> None:
    """Let nobody complain that the task was never ended: that is the test."""
    task._log_destroy_pending = False


def bury(loop: asyncio.AbstractEventLoop, task: asyncio.Task[object]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()


def test_a_place_granted_to_one_on_a_closed_loop_goes_on_at_once() -> None:
    policy = bulkhead(clock=still())
    hold = policy.take()
    loop, task = leave_one_waiting(policy)
    unmourned(task)
    loop.close()
    policy.leave(hold)
    assert is_empty(policy)


def test_a_place_granted_to_many_on_closed_loops_goes_on_at_once() -> None:
    policy = bulkhead(queue=2_000, clock=still())
    hold = policy.take()
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(policy.aenter()) for _ in range(2_000)]
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    loop.close()
    policy.leave(hold)
    assert is_empty(policy)
    for task in tasks:
        unmourned(task)


@both_loops
def test_a_place_granted_to_one_on_a_stopped_loop_goes_on_after_its_lease_and_nobody_else_is_needed(backend: str) -> None:
    heard: list[Event] = []
    policy = bulkhead(max_wait=60.0, lease=2.0, listeners=[heard.append])
    hold = policy.take()
    loop, task = leave_one_waiting(policy)

    async def main() -> list[float]:
        came: list[float] = []

        async def waits() -> None:
            async with policy.guard():
                came.append(elapsed())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waits)
            tasks.start_soon(waits)
            await anyio.sleep(0.5)
            policy.leave(hold)
        return came

    try:  # a clock of another zero begins in the run: the dead one's wait moves with it
        assert on(backend, main) == [2.5, 2.5]
        assert heard == [PlaceLapsed(name="acme", lease=2.0)]
        assert is_empty(policy)
    finally:
        bury(loop, task)
    assert is_empty(policy)


@both_loops
def test_one_whose_loop_was_busy_longer_than_his_lease_stands_at_the_head_again(backend: str) -> None:
    """The loop does not run while the grant lapses; a thread is the heir. When the loop goes on, its waiter is the next."""

    async def main() -> tuple[list[str], float]:
        policy, order = bulkhead(max_wait=60.0, lease=2.0), list[str]()
        hold = policy.take()

        async def waits(name: str) -> None:
            async with policy.guard():
                order.append(name)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waits, "first")
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(waits, "second")
            await anyio.wait_all_tasks_blocked()
            policy.leave(hold)
            VirtualClock.current().sleep_sync(2)  # the loop is busy
            heir = policy._ticket(60.0 + elapsed())
            assert policy._ask(heir) is not None  # the lapse is seen: the second one is let in, and this one is the third
            VirtualClock.current().sleep_sync(2)
            assert policy._ask(heir) is None  # the second one has not come either
            order.append("heir")
            policy.leave(heir)
        return order, elapsed()

    assert on(backend, main) == (["heir", "first", "second"], 4.0)


@both_loops
def test_one_who_wakes_after_his_lease_and_his_deadline_is_refused_and_holds_nothing(backend: str) -> None:
    async def main() -> None:
        policy = bulkhead(max_wait=5.0, lease=9.0)
        hold = policy.take()

        async def waits() -> None:
            with deadline(1.0), pytest.raises(DeadlineExceededError):
                await stays(policy, 0.0)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waits)
            await anyio.wait_all_tasks_blocked()
            policy.leave(hold)  # let in, in time
            VirtualClock.current().sleep_sync(2)  # but there is no time left to do anything
        assert is_empty(policy)

    on(backend, main)


# --- threads and loops at once -----------------------------------------------------------------------------------------


@both_loops
def test_a_thread_and_a_task_share_one_limit_and_one_queue(backend: str) -> None:
    async def main() -> list[str]:
        policy, order = bulkhead(), list[str]()

        def in_thread() -> None:
            with policy.guard():
                order.append("thread")

        async def in_task() -> None:
            async with policy.guard():
                order.append("task")

        async with anyio.create_task_group() as tasks:
            async with policy.guard():
                tasks.start_soon(anyio.to_thread.run_sync, in_thread)
                while policy.statistics()["waiting"] != 1:
                    await anyio.lowlevel.checkpoint()
                tasks.start_soon(in_task)
                while policy.statistics()["waiting"] != 2:
                    await anyio.lowlevel.checkpoint()
        assert is_empty(policy)
        return order

    assert on(backend, main) == ["thread", "task"]


# --- in a pipeline -----------------------------------------------------------------------------------------------------


@both_loops
def test_in_a_pipeline_the_wait_is_not_taken_for_the_providers_silence(backend: str) -> None:
    async def main() -> tuple[str, float, object]:
        policy = bulkhead(max_wait=5.0)
        breaker = CircuitBreaker("acme", consecutive_failures=1, listeners=[])
        piped = Pipeline("acme", breaker, Retry(attempts=2, backoff=Constant(0)), policy, Timeout(1.0), classify=RULES, listeners=[])
        answer = ""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stays, policy, 2.0)
            await anyio.wait_all_tasks_blocked()
            answer = await piped.acall(Provider(0.5).acharge)
        assert is_empty(policy)
        return answer, elapsed(), breaker.state

    assert on(backend, main) == ("late", 2.5, "closed")


@both_loops
def test_in_a_pipeline_a_full_bulkhead_is_nobodys_failure_and_is_not_retried(backend: str) -> None:
    async def main() -> tuple[float, object]:
        policy, provider = bulkhead(max_wait=0.5), Provider()
        breaker = CircuitBreaker("acme", consecutive_failures=1, listeners=[])
        piped = Pipeline("acme", breaker, Retry(attempts=5), policy, classify=RULES, listeners=[])
        async with policy.guard():
            with pytest.raises(BulkheadFullError):
                await piped.acall(provider.acharge)
        assert provider.attempts == 0
        return elapsed(), breaker.state

    assert on(backend, main) == (0.5, "closed")


# --- saboteurs ---------------------------------------------------------------------------------------------------------


def a_cancelled_grant_is_lost(patch: pytest.MonkeyPatch) -> None:
    leave = BulkheadCore.leave

    def leaks(self: BulkheadCore, now: float, *holds: object) -> None:
        leave(self, now, *(hold for hold in holds if hold not in self.granted))

    patch.setattr(BulkheadCore, "leave", leaks)


def nobody_is_woken(patch: pytest.MonkeyPatch) -> None:
    def wake(self: AsyncioWaiter | TrioWaiter) -> bool:
        return True

    patch.setattr(AsyncioWaiter, "wake", wake)
    patch.setattr(TrioWaiter, "wake", wake)


def grants_have_no_lease(patch: pytest.MonkeyPatch) -> None:
    settle = BulkheadCore._settle

    def leaseless(self: BulkheadCore, now: float) -> None:
        settle(self, now)
        self.granted.update(dict.fromkeys(self.granted, 1e9))

    patch.setattr(BulkheadCore, "_settle", leaseless)


def waiters_look_only_at_their_own_end(patch: pytest.MonkeyPatch) -> None:
    ask = BulkheadCore.ask

    def asleep(self: BulkheadCore, ticket: Ticket, now: float) -> Any:
        answer = ask(self, ticket, now)
        return ticket.until if isinstance(answer, float) else answer

    patch.setattr(BulkheadCore, "ask", asleep)


def deadlines_are_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    def ticket(self: Bulkhead, deadline: float) -> Ticket:
        return Ticket(self._now(), self.max_wait)

    patch.setattr(Bulkhead, "_ticket", ticket)


def nobody_is_ever_known_to_be_gone(patch: pytest.MonkeyPatch) -> None:
    real = AsyncioWaiter.wake

    def wake(self: AsyncioWaiter) -> bool:
        return real(self) or True

    patch.setattr(AsyncioWaiter, "wake", wake)


ROWS: list[tuple[Any, ...]] = [
    (nobody_is_woken, test_waiters_come_in_in_the_order_in_which_they_came_as_places_come_free),
    (nobody_is_woken, test_a_higher_limit_lets_waiters_in_at_once),
    (grants_have_no_lease, test_a_place_granted_to_one_on_a_stopped_loop_goes_on_after_its_lease_and_nobody_else_is_needed),
    (waiters_look_only_at_their_own_end, test_a_place_granted_to_one_on_a_stopped_loop_goes_on_after_its_lease_and_nobody_else_is_needed),
]


@both_loops
@each_kill(*ROWS)
def test_its_saboteur_is_found_out(backend: str, row: tuple[Any, ...]) -> None:
    kills(*row, backend)


@both_loops
def test_a_bulkhead_that_looks_at_no_deadline_is_found_out(backend: str) -> None:
    kills(deadlines_are_not_looked_at, test_a_wait_is_never_longer_than_the_deadline, backend, 0.3, DeadlineExceededError)


@both_loops
def test_a_bulkhead_that_loses_the_grant_of_a_cancelled_waiter_is_found_out(backend: str) -> None:
    kills(a_cancelled_grant_is_lost, test_one_cancelled_at_the_very_moment_he_is_let_in_passes_the_place_on, backend, True)
    kills(a_cancelled_grant_is_lost, test_a_task_of_asyncio_cancelled_once_it_was_let_in_passes_the_place_on)


def test_a_bulkhead_that_grants_places_to_the_dead_is_found_out() -> None:
    kills(nobody_is_ever_known_to_be_gone, test_a_place_granted_to_one_on_a_closed_loop_goes_on_at_once)


def test_a_trio_run_that_is_over_is_known_to_be_over() -> None:
    policy = bulkhead(clock=still())
    hold, kept = policy.take(), list[Any]()

    async def main() -> None:
        with trio.CancelScope() as scope:
            ticket = policy._ticket(60.0)
            assert policy._ask(ticket) is not None
            ticket.waiter = TrioWaiter()
            kept.append(ticket)
            scope.cancel()

    trio.run(main)
    policy.leave(hold)
    assert is_empty(policy)
