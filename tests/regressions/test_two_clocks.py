"""Limits that met another clock, another context or another loop than the one they began in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience import Timeout, UnknownOutcomeError, deadline, idempotency_key
from finresilience.context import current
from finresilience.policies import timeout as timeouts, wheel as wheels
from finresilience.policies.wheel import Wheel
from finresilience.testing import ManualClock, run_virtual
from tests.laws.sabotage import each_kill, kills

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from contextvars import Token

Patch = pytest.MonkeyPatch


class Shifted(ManualClock):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues] - a clock with another zero
    def monotonic(self) -> float:
        return anyio.current_time() + 1e6


def test_two_clocks_on_one_loop_each_keep_their_deadlines() -> None:
    """The timers of one clock were set by the zero of the other, so that a timeout was never enforced."""
    slow: list[float] = []

    async def hangs(policy: Timeout) -> None:
        started = anyio.current_time()
        with pytest.raises(UnknownOutcomeError):
            await policy.acall(anyio.sleep, 600)
        slow.append(anyio.current_time() - started)

    async def world() -> None:
        async with anyio.create_task_group() as group:
            for policy in (Timeout(2.0, listeners=[]), Timeout(3.0, clock=Shifted(), listeners=[]), Timeout(2.5, listeners=[])):
                group.start_soon(hangs, policy)

    run_virtual(world, backend="asyncio")
    assert slow == pytest.approx([2.0, 2.5, 3.0], abs=0.02)


def test_a_guarded_function_that_was_first_called_on_one_clock_keeps_time_on_the_next() -> None:
    slow: list[float] = []
    timeout = Timeout(2.0, listeners=[])
    first, other = timeout(anyio.sleep), Timeout(1.0, clock=Shifted(), listeners=[])(anyio.sleep)

    async def world() -> None:
        for guarded in (first, other, first):
            started = anyio.current_time()
            with pytest.raises(UnknownOutcomeError):
                await guarded(600)
            slow.append(anyio.current_time() - started)

    run_virtual(world, backend="asyncio")
    assert slow == pytest.approx([2.0, 1.0, 2.0], abs=0.02)


def a_loop_has_one_wheel_and_one_zero(patch: Patch) -> None:
    fresh, zeros = Wheel._open, dict[Wheel, float]()

    def wheel_of(loop: Any, clock: Any) -> Wheel:
        if not hasattr(loop, "_finresilience_wheel"):
            loop._finresilience_wheel = Wheel(loop, clock)
        wheel: Wheel = loop._finresilience_wheel
        return wheel

    def once(self: Wheel, tick: int, now: float) -> Any:
        time = self._live().time()
        return fresh(self, tick, time - zeros.setdefault(self, time - now))

    patch.setattr(wheels, "wheel_of", wheel_of)
    patch.setattr(Wheel, "_open", once)


def test_a_block_left_from_another_context_neither_raises_nor_rings_later() -> None:
    async def world() -> str:
        timeout = Timeout(1.0, listeners=[])

        async def steps() -> AsyncGenerator[int]:
            with idempotency_key("pay_1"), deadline(5.0):
                async with timeout.guard():
                    yield 1

        held = steps()
        await asyncio.create_task(anext(held))
        await asyncio.create_task(held.aclose())  # as the loop does with generators that nobody finishes
        await anyio.sleep(5)
        assert current.get() is None
        return "not cancelled"

    assert run_virtual(world, backend="asyncio") == "not cancelled"


def a_block_must_be_left_where_it_was_entered(patch: Patch) -> None:
    def leave(token: Token[Any]) -> None:
        try:
            current.reset(token)
        except ValueError as error:
            raise AssertionError from error

    patch.setattr(timeouts, "leave", leave)


@each_kill(
    (a_loop_has_one_wheel_and_one_zero, test_two_clocks_on_one_loop_each_keep_their_deadlines),
    (a_loop_has_one_wheel_and_one_zero, test_a_guarded_function_that_was_first_called_on_one_clock_keeps_time_on_the_next),
    (a_block_must_be_left_where_it_was_entered, test_a_block_left_from_another_context_neither_raises_nor_rings_later),
)
def test_its_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
