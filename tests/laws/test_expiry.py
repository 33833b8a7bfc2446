"""The laws of outcomes 3 and 4: a result in hand is never thrown away, and expiry is not cancellation."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from finresilience import CallAbandoned, CircuitBreaker, Effect, ExpiredError, Timeout, Unknown, UnknownOutcomeError, deadline
from tests.laws.worlds import Provider, both_loops, guarded, on, still


@both_loops
def test_a_value_that_meets_its_expiry_wins(backend: str) -> None:
    pipeline = guarded(timeout=1.0)

    async def stubborn() -> str:
        try:
            await anyio.sleep(5)
        except anyio.get_cancelled_exc_class():  # the receipt came in just as the time ran out
            return "receipt"
        return "never"

    async def world() -> Any:
        answer = await pipeline.acall(stubborn)
        with anyio.CancelScope():  # nothing of the expiry is left behind to hit the next await
            await anyio.sleep(1)
        return answer

    assert on(backend, world) == "receipt"


@both_loops
def test_a_value_that_meets_its_expiry_counts_as_slow(backend: str) -> None:
    breaker = CircuitBreaker("acme", listeners=[])

    async def stubborn() -> str:
        try:
            await anyio.sleep(5)
        except anyio.get_cancelled_exc_class():
            return "receipt"
        return "never"

    assert on(backend, guarded(timeout=1.0, breaker=breaker).acall, stubborn) == "receipt"
    assert (breaker.statistics()["succeeded"], breaker.statistics()["slow"]) == (1, 1)


def test_a_value_that_comes_too_late_in_sync_code_wins_and_counts_as_slow() -> None:
    clock = still()
    breaker = CircuitBreaker("acme", clock=clock, listeners=[])

    def slow() -> str:
        clock.advance(5)
        return "receipt"

    assert guarded(timeout=1.0, clock=clock, breaker=breaker).call(slow) == "receipt"
    assert (breaker.statistics()["succeeded"], breaker.statistics()["slow"]) == (1, 1)


@both_loops
def test_expiry_is_unknown_and_counts_against_the_provider(backend: str) -> None:
    breaker = CircuitBreaker("acme", consecutive_failures=1, listeners=[])
    pipeline = guarded(Effect.UNSAFE, breaker=breaker)
    outcome = on(backend, pipeline.aoutcome, Provider(60.0).acharge)
    assert isinstance(outcome, Unknown)
    assert isinstance(outcome.error.__cause__, ExpiredError)
    assert breaker.state == "open"


@both_loops
def test_an_attempt_cut_short_by_an_outer_deadline_is_unknown_but_does_not_count(backend: str) -> None:
    breaker = CircuitBreaker("acme", consecutive_failures=1, listeners=[])
    pipeline = guarded(Effect.UNSAFE, breaker=breaker)

    async def world() -> Any:
        with deadline(0.5):
            return await pipeline.aoutcome(Provider(60.0).acharge)

    assert isinstance(on(backend, world), Unknown)
    assert breaker.state == "closed"


@both_loops
def test_the_callees_own_timeout_error_is_not_ours(backend: str) -> None:
    error = TimeoutError("the provider's own")
    outcome = on(backend, guarded(Effect.UNSAFE).aoutcome, Provider(error).acharge)
    assert outcome.error.__cause__ is error


@both_loops
def test_cancellation_from_outside_is_neutral_and_passes_through(backend: str) -> None:
    heard: list[Any] = []
    breaker = CircuitBreaker("acme", consecutive_failures=1, listeners=[])
    pipeline = guarded(Effect.UNSAFE, heard=heard, breaker=breaker)

    async def world() -> bool:
        with anyio.move_on_after(0.3) as scope:
            await pipeline.acall(Provider(1.5).acharge)
        return scope.cancelled_caught

    assert on(backend, world)
    assert breaker.state == "closed"
    assert [type(event) for event in heard] == [CallAbandoned]


@both_loops
def test_a_read_that_is_cancelled_is_nothing_to_ask_about(backend: str) -> None:
    heard: list[Any] = []

    async def world() -> None:
        with anyio.move_on_after(0.3):
            await guarded(Effect.READ, heard=heard).acall(Provider(1.5).acharge)

    on(backend, world)
    assert heard == []


@both_loops
def test_nested_timeouts_each_tell_their_own_expiry(backend: str) -> None:
    inner, outer = Timeout(1.0, name="inner"), Timeout(3.0, name="outer")

    async def slow() -> None:
        await anyio.sleep(60)

    async def world() -> tuple[str, str]:
        names = []
        for first, second in ((inner, outer), (outer, inner)):
            try:
                await second.acall(first(slow))
            except UnknownOutcomeError as error:
                root: BaseException = error
                while root.__cause__ is not None:
                    root = root.__cause__
                assert isinstance(root, ExpiredError)
                names.append(root.name)
        return names[0], names[1]

    assert on(backend, world)[0] == "inner"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_interrupts_are_never_retried_swallowed_or_counted(kind: type[BaseException]) -> None:
    breaker = CircuitBreaker("acme", consecutive_failures=1, clock=(clock := still()), listeners=[])
    provider = Provider(kind())
    with pytest.raises(kind):
        guarded(clock=clock, breaker=breaker).call(provider.charge)
    assert provider.attempts == 1
    assert breaker.statistics()["failed"] == 0
