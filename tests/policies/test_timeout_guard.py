"""A limit for one block of code: cooperative for `with`, cancelling for `async with`."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from finresilience import ConfigurationError, DeadlineExceededError, ExpiredError, Timeout, current_attempt, deadline, remaining
from finresilience.testing import instant
from tests.laws.worlds import both_loops, on, still

both_exact = pytest.mark.parametrize("exact", [False, True])


def timeout(seconds: float = 2.0, **more: Any) -> Timeout:
    settings: dict[str, Any] = {"listeners": [], "clock": still()} | more
    return Timeout(seconds, **settings)


def test_a_plain_block_is_told_its_time_and_nothing_outside_is_changed() -> None:
    clock = still()
    with timeout(clock=clock).guard():
        clock.advance(0.5)
        assert remaining() == 1.5
    assert remaining() is None


def test_a_plain_block_that_is_late_is_not_stopped() -> None:
    clock = still()
    with timeout(clock=clock).guard():
        clock.advance(5.0)
        assert remaining() == 0.0


def test_a_plain_blocks_error_is_the_callers_own() -> None:
    error = TimeoutError()
    with pytest.raises(TimeoutError) as caught:
        with timeout().guard():
            raise error
    assert caught.value is error
    assert remaining() is None


def test_the_smallest_of_nested_blocks_is_in_force() -> None:
    clock = still()
    for first, second in ((1.0, 3.0), (3.0, 1.0)):
        with timeout(first, clock=clock).guard(), timeout(second, clock=clock).guard():
            assert remaining() == 1.0


def test_a_block_is_not_begun_once_the_deadline_is_over() -> None:
    began = False
    with instant() as clock, deadline(1.0):
        clock.advance(1.5)
        with pytest.raises(DeadlineExceededError, match=r"deadline passed 0\.500 s ago"):
            with timeout(clock=clock).guard():
                began = True
        assert remaining() == 0.0  # the outer deadline is still the one in force
    assert not began


def test_one_guard_is_one_block_at_a_time() -> None:
    guard = timeout().guard()
    with guard:
        with pytest.raises(ConfigurationError, match=r"call guard\(\) again"):
            with guard:
                pass
        assert remaining() == 2.0
    assert remaining() is None


def test_leaving_a_block_that_was_never_entered_changes_nothing() -> None:
    with deadline(1.0):
        timeout().guard().__exit__(None, None, None)
        assert remaining() is not None


@both_loops
@both_exact
def test_an_async_block_is_cancelled_at_its_limit(backend: str, exact: bool) -> None:
    policy = timeout(clock=None, exact=exact, name="acme")

    async def world() -> tuple[ExpiredError, float]:
        with pytest.raises(ExpiredError) as caught:
            async with policy.guard():
                await anyio.sleep(60)
        assert (remaining(), current_attempt()) == (None, 0)
        return caught.value, policy._now()

    error, now = on(backend, world)
    assert (error.name, error.limit, error.left_running) == ("acme", 2.0, False)
    assert 2.0 <= now <= 2.0 + 0.011


@both_loops
@both_exact
def test_an_async_block_in_time_is_left_in_peace(backend: str, exact: bool) -> None:
    async def world() -> float | None:
        left = None
        async with timeout(clock=None, exact=exact).guard():
            await anyio.sleep(1)
            left = remaining()
        await anyio.sleep(60)
        return left

    assert on(backend, world) == 1.0


@both_loops
@both_exact
def test_an_async_blocks_own_timeout_error_is_the_callers(backend: str, exact: bool) -> None:
    error = TimeoutError()

    async def world() -> None:
        async with timeout(clock=None, exact=exact).guard():
            raise error

    with pytest.raises(TimeoutError) as caught:
        on(backend, world)
    assert caught.value is error


@both_loops
@both_exact
def test_a_cancellation_of_the_block_from_outside_passes_through(backend: str, exact: bool) -> None:
    async def world() -> bool:
        with anyio.move_on_after(1) as scope:
            async with timeout(clock=None, exact=exact).guard():
                await anyio.sleep(60)
        return scope.cancelled_caught

    assert on(backend, world)


@both_loops
@both_exact
def test_a_block_that_finishes_in_spite_of_its_expiry_keeps_its_result(backend: str, exact: bool) -> None:
    async def world() -> str:
        answer = "none"
        async with timeout(clock=None, exact=exact).guard():
            try:
                await anyio.sleep(60)
            except anyio.get_cancelled_exc_class():
                answer = "receipt"
        await anyio.sleep(60)
        return answer

    assert on(backend, world) == "receipt"


@both_loops
@pytest.mark.parametrize(("inner", "outer", "who"), [(1.0, 3.0, "inner"), (3.0, 1.0, "outer")])
def test_each_of_nested_blocks_tells_its_own_expiry(backend: str, inner: float, outer: float, who: str) -> None:
    async def world() -> None:
        async with timeout(outer, clock=None, name="outer").guard():
            async with timeout(inner, clock=None, name="inner").guard():
                await anyio.sleep(60)

    with pytest.raises(ExpiredError) as caught:
        on(backend, world)
    assert caught.value.limit == 1.0
    assert caught.value.name in {who, "inner"}  # the inner one shares the outer one's deadline, and may be the first to notice


@both_loops
def test_an_async_block_is_not_begun_once_the_deadline_is_over(backend: str) -> None:
    began: list[int] = []

    async def world() -> None:
        with deadline(1.0):
            await anyio.sleep(1.5)
            async with timeout(clock=None).guard():
                began.append(1)

    with pytest.raises(DeadlineExceededError):
        on(backend, world)
    assert began == []
