"""Cancelled at any await whatever, while a place comes free at any moment whatever: no place is lost, and none is given twice."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from finresilience import BulkheadFullError, Constant, Effect, Pipeline, Retry, Timeout
from finresilience.cores.bulkhead import BulkheadCore
from finresilience.policies.bulkhead import Bulkhead
from tests.laws.sabotage import RED
from tests.laws.worlds import RULES, Down, both_loops, on

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 12  # more than any of these calls has, alone


async def by_guard(policy: Bulkhead, work: Callable[[], Any]) -> None:
    async with policy.guard():
        await work()


async def by_partition(policy: Bulkhead, work: Callable[[], Any]) -> None:
    """The bulkhead is the total of a family: a place in a partition comes first."""
    family = Bulkhead(1, queue=1, max_wait=60.0, listeners=[]).per(str, at_most=1, total=policy)
    try:
        async with family.of("tenant").guard():
            await work()
    finally:
        room = family.room("tenant")
        assert room is not None
        assert room.core.idle


def piped(policy: Bulkhead) -> Pipeline:
    policies = (Retry(attempts=2, backoff=Constant(0.1), listeners=[]), policy, Timeout(20.0, listeners=[]))
    return Pipeline("acme", *policies, classify=RULES, effect=Effect.IDEMPOTENT_BY_NATURE, listeners=[])


SHAPES: dict[str, Callable[[Bulkhead, Any], Any]] = {
    "guard": by_guard,
    "acall": lambda policy, work: policy.acall(work),
    "decorated": lambda policy, work: policy(work)(),
    "pipeline": lambda policy, work: piped(policy)(work)(),
    "pipeline outcome": lambda policy, work: piped(policy).aoutcome(work),
    "partition": by_partition,
}


async def cut_at(cut: int, free: int, shape: str) -> bool:
    """Cancel the call after `cut` turns, free the place it waits for after `free`; return whether the call had ended by itself."""
    policy, ended, fails = Bulkhead(1, queue=2, max_wait=60.0, lease=30.0, listeners=[]), False, [Down()]
    hold = policy.take()

    async def work() -> str:
        assert len(policy.core.inside) == 1
        await anyio.lowlevel.checkpoint()
        if fails:
            raise fails.pop()
        return "ok"

    async def call() -> None:
        nonlocal ended
        with suppress(Down):
            await SHAPES[shape](policy, work)
        ended = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        for step in range(max(cut, free) + 1):
            if step == cut:
                tasks.cancel_scope.cancel()
            if step == free:
                policy.leave(hold)
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
    told = policy.statistics()
    assert policy.core.idle, told
    assert policy.take() is not None
    assert policy.take() is None
    return ended


@both_loops
@pytest.mark.parametrize("shape", SHAPES)
def test_no_place_is_lost_whenever_the_call_is_cancelled_and_whenever_the_place_comes_free(backend: str, shape: str) -> None:
    ended = [on(backend, cut_at, cut, free, shape) for cut in range(STEPS) for free in range(STEPS)]
    assert not all(ended)
    assert len(ended) == STEPS**2


def a_place_is_never_given_back_by_one_who_waited(patch: pytest.MonkeyPatch) -> None:
    leave = BulkheadCore.leave

    def leaks(self: BulkheadCore, now: float, *holds: object) -> None:
        leave(self, now, *(hold for hold in holds if hold not in self.granted))

    patch.setattr(BulkheadCore, "leave", leaks)


@both_loops
@pytest.mark.parametrize("shape", SHAPES)
def test_the_sweep_finds_a_bulkhead_that_loses_a_grant(backend: str, shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    a_place_is_never_given_back_by_one_who_waited(monkeypatch)
    with pytest.raises(RED):
        test_no_place_is_lost_whenever_the_call_is_cancelled_and_whenever_the_place_comes_free(backend, shape)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_the_wait_of_a_thread_claims_nothing(error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Bulkhead(1, queue=2, max_wait=60.0, listeners=[])
    hold = policy.take()

    def interrupted(*_: Any) -> None:
        policy.leave(hold)  # at the very moment at which the place comes free
        assert policy.statistics()["let_in"] == 1
        raise error

    monkeypatch.setattr("finresilience.policies.waiting.ThreadWaiter.sleep", interrupted)
    with pytest.raises(error), policy.guard():
        pytest.fail("it was let in")
    assert policy.core.idle


def test_a_refused_caller_has_claimed_nothing() -> None:
    policy = Bulkhead(1, listeners=[])
    with policy.guard():
        for _ in range(3):
            with pytest.raises(BulkheadFullError), policy.guard():
                pytest.fail("it was let in")
    assert policy.core.idle
