"""What the code inside a call knows of it: deadlines only shrink, keys stay put, and nothing leaks out of its block."""

from __future__ import annotations

import math
from contextlib import contextmanager
from contextvars import Context, copy_context
from datetime import timedelta
from threading import Thread
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, strategies as st

from finresilience import (
    ConfigurationError,
    attempt_budget,
    current_attempt,
    current_key,
    current_reference,
    deadline,
    idempotency_key,
    mark_sent,
    outbound_headers,
    remaining,
)
from finresilience.context import AttemptBudget, CallContext, current
from finresilience.testing import CounterexampleError, ManualClock, explore, instant, run_virtual, turn
from tests.laws.worlds import both_loops

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

spans = st.lists(st.integers(1, 10**6), min_size=1, max_size=8)


@pytest.fixture
def clock() -> Iterator[ManualClock]:
    with instant() as ruling:
        yield ruling


def nothing_is_known() -> bool:
    return (remaining(), current_key(), current_reference(), current_attempt(), outbound_headers()) == (None, None, None, 0, {})


def test_outside_any_call_nothing_is_known() -> None:
    mark_sent()
    assert nothing_is_known()


@pytest.mark.parametrize("make", [lambda: deadline(1), lambda: idempotency_key("pay_1"), lambda: attempt_budget(1)], ids=range(3))
def test_after_the_block_nothing_is_known_again_even_if_it_raised(make: Any) -> None:
    with make():
        pass
    with pytest.raises(ZeroDivisionError), make():
        raise ZeroDivisionError
    assert nothing_is_known()
    assert current.get() is None


@pytest.mark.parametrize("make", [lambda: deadline(1), lambda: idempotency_key("pay_1"), lambda: attempt_budget(1)], ids=range(3))
def test_a_block_is_no_attempt(make: Any) -> None:
    with make():
        assert current_attempt() == 0
        assert "Previous-Attempts" not in outbound_headers()


@pytest.mark.parametrize("make", [lambda: deadline(1), lambda: idempotency_key("pay_1"), lambda: attempt_budget(1)], ids=range(3))
def test_one_block_cannot_be_open_twice(make: Any) -> None:
    block = make()
    with block:
        with pytest.raises(ConfigurationError, match=f"this {type(block).__name__}.* block is open already: make a new one"):
            block.__enter__()
    block.__exit__(None, None, None)  # one too many does nothing
    assert current.get() is None


def test_a_fact_that_nobody_set_reads_as_its_default_and_no_other_fact_is_there(clock: ManualClock) -> None:
    context, other = CallContext(None, clock), CallContext(None, clock)
    assert (context.deadline, context.key, context.base_key, context.reference, context.budget, context.outer) == (None,) * 6
    assert (context.attempt, context.sent) == (1, False)
    context.sent = True
    assert not other.sent
    with pytest.raises(AttributeError, match="colour"):
        context.colour  # type: ignore[attr-defined]  # pyright: ignore[reportUnusedExpression, reportAttributeAccessIssue] - the act under test


# ---------------------------------------------------------------- deadlines


def law_a_nested_deadline_is_the_least(clock: ManualClock, make: Callable[[float], Any], nested: list[int], pause: int) -> None:
    if not nested:
        return
    outer = remaining()
    with make(nested[0]):
        assert remaining() == (nested[0] if outer is None else min(outer, nested[0]))
        clock.advance(pause)
        if outer is not None:
            left = remaining()
            assert left is not None
            assert left <= max(0, outer - pause)
        law_a_nested_deadline_is_the_least(clock, make, nested[1:], pause)
    left = remaining()
    assert outer is None or (left is not None and left <= outer)


@given(spans, st.integers(0, 1000))
def test_a_nested_deadline_is_the_least_of_all_around_it(nested: list[int], pause: int) -> None:
    with instant() as clock:
        law_a_nested_deadline_is_the_least(clock, deadline, nested, pause)


class LastWord(deadline):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues] - final, but not for a saboteur
    """The saboteur: the innermost deadline is the one that holds."""

    __slots__ = ()

    def _changed(self, context: Any) -> None:
        context.deadline = context.clock.monotonic() + self._seconds


def test_the_law_catches_a_deadline_that_grows(clock: ManualClock) -> None:
    with pytest.raises(AssertionError):
        law_a_nested_deadline_is_the_least(clock, LastWord, [1, 5], 0)


def test_the_time_left_runs_out_and_never_below_nothing(clock: ManualClock) -> None:
    with deadline(timedelta(seconds=2)):
        assert remaining() == 2.0
        clock.advance(1.5)
        assert remaining() == 0.5
        clock.advance(100)
        assert remaining() == 0.0
    assert remaining() is None


def test_a_deadline_begins_when_its_block_is_entered(clock: ManualClock) -> None:
    later = deadline(2)
    clock.advance(10)
    with later:
        assert remaining() == 2.0
    clock.advance(10)
    with later:  # closed, and opened again
        assert remaining() == 2.0


def test_a_deadline_is_told_by_one_clock_from_beginning_to_end(clock: ManualClock) -> None:
    with deadline(5):
        with instant() as other, deadline(3):
            other.advance(100)
            assert remaining() == 3.0
        clock.advance(1)
        assert remaining() == 4.0


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, True, None, "2", timedelta(0)], ids=repr)
def test_a_deadline_that_cannot_be_kept_is_refused_at_once(seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="deadline"):
        deadline(seconds)


# ---------------------------------------------------------------- the headers


def test_the_headers_tell_what_is_known_and_no_more(clock: ManualClock) -> None:
    with deadline(2.5):
        clock.advance(0.0004)
        assert outbound_headers() == {"Request-Timeout-Ms": "2499"}  # less is safe, more is not
        with idempotency_key("pay_1"):
            assert outbound_headers() == {"Idempotency-Key": "pay_1", "Request-Timeout-Ms": "2499"}
        clock.advance(10)
        assert outbound_headers() == {"Request-Timeout-Ms": "0"}
    with idempotency_key("pay_1"):
        assert outbound_headers() == {"Idempotency-Key": "pay_1"}


def test_the_headers_are_the_callers_to_change() -> None:
    with idempotency_key("pay_1"):
        outbound_headers().clear()
        assert outbound_headers() == {"Idempotency-Key": "pay_1"}


# ---------------------------------------------------------------- the budget of a tree


@given(st.integers(0, 50), st.integers(0, 100))
def test_a_budget_gives_as_many_retries_as_it_has(size: int, asked: int) -> None:
    budget = AttemptBudget(size)
    assert sum(budget.spend() for _ in range(asked)) == min(size, asked)


def test_the_innermost_budget_is_the_one_that_is_spent() -> None:
    with attempt_budget(5):
        outer = current.get()
        with attempt_budget(1), deadline(1), idempotency_key("pay_1"):
            inner = current.get()
            assert inner is not None
            assert inner.budget is not None
            assert (inner.budget.spend(), inner.budget.spend()) == (True, False)
        assert outer is not None
        assert outer.budget is not None
        assert outer.budget.left == 5


@pytest.mark.parametrize("retries", [-1, True, 1.0, None, "3", 10**9 + 1], ids=repr)
def test_a_budget_that_is_no_count_is_refused_at_once(retries: Any) -> None:
    with pytest.raises(ConfigurationError, match="retries"):
        attempt_budget(retries)


def test_a_budget_may_be_nothing() -> None:
    with attempt_budget(0):
        context = current.get()
        assert context is not None
        assert context.budget is not None
        assert not context.budget.spend()


# ---------------------------------------------------------------- tasks and threads


@both_loops
def test_a_task_keeps_the_deadline_and_the_key_it_was_started_in(backend: str) -> None:
    told: list[object] = []

    async def tell() -> None:
        await anyio.sleep(1)
        told.append((remaining(), current_key()))

    async def world() -> None:
        async with anyio.create_task_group() as tasks:
            with deadline(5), idempotency_key("pay_1"):
                tasks.start_soon(tell)
            assert nothing_is_known()

    run_virtual(world, backend=backend)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - parametrised by name
    assert told == [(4.0, "pay_1")]


async def law_each_task_knows_its_own_key_only(keyed: Callable[[str], Any], told: Callable[[], str | None]) -> None:
    async def pay(key: str) -> None:
        with keyed(key):
            await turn()
            assert told() == key
            with keyed(key + "/refund"):
                await turn()
                assert told() == key + "/refund"
            assert told() == key
        assert told() is None

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pay, "pay_1")
        tasks.start_soon(pay, "pay_2")


def test_each_task_knows_its_own_key_only() -> None:
    assert explore(lambda: law_each_task_knows_its_own_key_only(idempotency_key, current_key), seeds=50).distinct > 20


def test_the_law_catches_a_key_that_all_tasks_share() -> None:
    keys: list[str] = []

    @contextmanager
    def shared(key: str) -> Generator[None]:
        """The saboteur: one stack for everybody."""
        keys.append(key)
        try:
            yield
        finally:
            keys.pop()

    with pytest.raises(CounterexampleError):
        explore(lambda: law_each_task_knows_its_own_key_only(shared, lambda: keys[-1] if keys else None), seeds=50)


def test_a_thread_knows_what_it_was_given_and_nothing_by_itself(clock: ManualClock) -> None:
    told: list[object] = []

    def tell() -> None:
        told.append((remaining(), current_key()))

    with deadline(5), idempotency_key("pay_1"):
        clock.advance(1)
        for given in (Context(), copy_context()):
            thread = Thread(target=given.run, args=(tell,))
            thread.start()
            thread.join()
    assert told == [(None, None), (4.0, "pay_1")]


@both_loops
def test_a_worker_thread_of_the_loop_knows_what_its_task_knows(backend: str) -> None:
    async def world() -> tuple[float | None, str | None]:
        with deadline(5), idempotency_key("pay_1"):
            return await anyio.to_thread.run_sync(lambda: (remaining(), current_key()))

    told = run_virtual(world, backend=backend)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - parametrised by name
    assert told == (5.0, "pay_1")
