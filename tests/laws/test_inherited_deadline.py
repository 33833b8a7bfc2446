"""An inherited deadline holds for every form of every policy: what cannot be in time is not begun, and what runs is given up then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience import CircuitBreaker, DeadlineExceededError, Effect, Pipeline, Retry, Timeout, UnknownOutcomeError, deadline
from finresilience.testing import instant
from tests.laws.worlds import RULES, Provider, both_loops, on

if TYPE_CHECKING:
    from collections.abc import Callable

POLICIES: dict[str, Callable[[], Any]] = {
    "breaker": lambda: CircuitBreaker("acme", classify=RULES, listeners=[]),
    "slow breaker": lambda: CircuitBreaker("acme", slow_rate=0.5, slow_after=1.0, classify=RULES, listeners=[]),
    "retry": lambda: Retry(attempts=2, classify=RULES, listeners=[]),
    "timeout": lambda: Timeout(60.0, classify=RULES, listeners=[]),
    "breaker and retry": lambda: Pipeline("acme", CircuitBreaker("acme"), Retry(attempts=2), effect=Effect.UNSAFE, listeners=[]),
}
FORMS: dict[str, Callable[[Any, Any], Callable[[], Any]]] = {
    "decorated": lambda policy, work: policy(work),
    "acall": lambda policy, work: lambda: policy.acall(work),
}


@both_loops
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("which", POLICIES)
def test_no_call_is_begun_after_the_deadline(which: str, form: str, backend: str) -> None:
    provider = Provider()

    async def world() -> None:
        call = FORMS[form](POLICIES[which](), provider.acharge)
        with deadline(1.0):
            await anyio.sleep(2.0)
            with pytest.raises(DeadlineExceededError):
                await call()

    on(backend, world)
    assert provider.attempts == 0


@pytest.mark.parametrize("form", ["decorated", "call"])
@pytest.mark.parametrize("which", POLICIES)
def test_no_sync_call_is_begun_after_the_deadline(which: str, form: str) -> None:
    provider, policy = Provider(), POLICIES[which]()
    call = policy(provider.charge) if form == "decorated" else lambda: policy.call(provider.charge)
    with instant() as clock, deadline(1.0):
        assert call() == "ok"
        clock.advance(2.0)
        with pytest.raises(DeadlineExceededError):
            call()
    assert provider.attempts == 1


@both_loops
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("which", POLICIES)
def test_no_call_outlives_the_deadline(which: str, form: str, backend: str) -> None:
    async def world() -> float:
        call, started = FORMS[form](POLICIES[which](), Provider(600.0).acharge), anyio.current_time()
        with deadline(1.0), pytest.raises((UnknownOutcomeError, TimeoutError)):
            await call()
        return anyio.current_time() - started

    assert on(backend, world) <= 1.02  # a tick late at most
