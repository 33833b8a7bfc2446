"""The first attempt is made by a fast lane; what it took is not forgotten, and whose limit it met is known."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from finresilience import CircuitBreaker, Constant, Effect, Failed, Pipeline, Retry, Timeout, deadline
from tests.laws.worlds import RULES, Down, both_loops, on, still

FORMS = ["decorated", "called"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("with_breaker", [False, True])
def test_the_time_of_the_first_attempt_counts_towards_the_elapsed_time(form: str, with_breaker: bool) -> None:
    """A decorated retry began to count when its first attempt had failed, so it went on longer than `max_elapsed`."""
    clock, began = still(), list[float]()

    def work() -> None:
        began.append(clock.monotonic())
        clock.advance(3.0)
        raise Down

    retry = Retry(attempts=9, backoff=Constant(0), max_elapsed=5.0)
    policies = (CircuitBreaker("acme", listeners=[]), retry) if with_breaker else (retry,)
    pipeline = Pipeline("acme", *policies, classify=RULES, effect=Effect.READ, clock=clock, listeners=[])
    with pytest.raises(Down):
        pipeline(work)() if form == "decorated" else pipeline.call(work)
    assert began == [0.0, 3.0]


@both_loops
@pytest.mark.parametrize("form", FORMS)
def test_the_time_of_the_first_async_attempt_counts_too(backend: str, form: str) -> None:
    began: list[float] = []

    async def work() -> None:
        began.append(anyio.current_time())
        await anyio.sleep(3.0)
        raise Down

    async def world() -> Any:
        pipeline = Pipeline(
            "acme", Retry(attempts=9, backoff=Constant(0), max_elapsed=5.0), classify=RULES, effect=Effect.READ, listeners=[]
        )
        return await (pipeline.aoutcome(pipeline(work)) if form == "decorated" else pipeline.aoutcome(work))

    assert isinstance(on(backend, world), Failed)
    assert began[1] - began[0] == 3.0
    assert len(began) == 2


@both_loops
@pytest.mark.parametrize("stacked", ["guard", "decorator"])
def test_an_expiry_by_a_limit_of_its_own_counts_at_a_lone_breaker_outside(backend: str, stacked: str) -> None:
    """A breaker round a Timeout of somebody else took every expiry for a deadline's doing, and stayed closed for ever."""
    breaker, timeout = CircuitBreaker("acme", consecutive_failures=1, listeners=[]), Timeout(2.0, effect=Effect.READ, listeners=[])

    async def hangs() -> None:
        await anyio.sleep(600)

    async def in_a_block() -> None:
        async with timeout.guard():
            await hangs()

    call: Any = breaker(in_a_block if stacked == "guard" else timeout(hangs))
    with pytest.raises(TimeoutError):
        on(backend, call)
    assert breaker.state == "open"


@both_loops
def test_an_expiry_that_a_deadline_brought_forward_does_not_count_there(backend: str) -> None:
    breaker, timeout = CircuitBreaker("acme", consecutive_failures=1, listeners=[]), Timeout(2.0, effect=Effect.READ, listeners=[])

    async def in_a_block() -> None:
        async with timeout.guard():
            await anyio.sleep(600)

    async def world() -> None:
        with deadline(0.5):
            async with breaker.guard():
                await in_a_block()

    with pytest.raises(TimeoutError):
        on(backend, world)
    assert breaker.state == "closed"
