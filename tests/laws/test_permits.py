"""Law 6: a permit belongs to one attempt and one generation, is settled before any wait, and is leased."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from finresilience import RETRYABLE, CircuitBreaker, Constant, Declined, Effect, ErrorClassifier, Failed, Pipeline, Retry, Verdict
from tests.laws.worlds import Down, No, Provider, guarded, still

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.testing import ManualClock


def half_open(calls: int = 1, **more: Any) -> tuple[CircuitBreaker, Any]:
    clock = still()
    breaker = CircuitBreaker("acme", consecutive_failures=1, half_open_calls=calls, open_for=10.0, clock=clock, listeners=[], **more)
    with pytest.raises(Down):
        breaker.call(Provider(Down()).charge)
    clock.advance(12.0)
    return breaker, clock


def test_a_failed_probe_in_half_open_ends_the_loop() -> None:
    breaker, clock = half_open()
    provider = Provider(Down(), "ok")
    outcome = guarded(clock=clock, breaker=breaker).outcome(provider.charge)
    assert isinstance(outcome, Failed)
    assert provider.attempts == 1
    assert breaker.state == "open"


class Watching:
    """A clock that looks at something whenever somebody sleeps."""

    def __init__(self, clock: ManualClock, look: Callable[[], object]) -> None:
        self.monotonic, self.utc, self.sleep = clock.monotonic, clock.utc, clock.sleep
        self._sleep_sync, self._look = clock.sleep_sync, look
        self.seen: list[object] = []

    def sleep_sync(self, seconds: float) -> None:
        self.seen.append(self._look())
        self._sleep_sync(seconds)


def test_a_permit_is_settled_before_the_backoff_sleep() -> None:
    clock = still()
    breaker = CircuitBreaker("acme", clock=clock, listeners=[])
    watching = Watching(clock, lambda: breaker.statistics()["failed"])
    retry = Retry(attempts=2, backoff=Constant(1.0), listeners=[])
    pipeline = Pipeline("acme", breaker, retry, effect=Effect.READ, clock=watching, listeners=[])
    assert pipeline.call(Provider(Down(), "ok").charge) == "ok"
    assert watching.seen == [1]


def test_a_probe_is_not_held_through_the_backoff_sleep() -> None:
    breaker, clock = half_open()
    busy = ErrorClassifier({Down: Verdict(RETRYABLE, counts_against_provider=False)})

    def another_may_pass() -> bool:
        permit = breaker.admit(clock.monotonic())
        if permit is not None:
            breaker.release(permit)
        return permit is not None

    watching = Watching(clock, another_may_pass)
    retry = Retry(attempts=2, backoff=Constant(1.0), listeners=[])
    pipeline = Pipeline("acme", breaker, retry, classify=busy, effect=Effect.READ, clock=watching, listeners=[])
    assert pipeline.call(Provider(Down(), "ok").charge) == "ok"
    assert watching.seen == [True]


def test_a_hung_probe_neither_wedges_nor_closes_the_circuit() -> None:
    breaker, clock = half_open(probe_lease=5.0)
    hung = breaker.admit(clock.monotonic())
    assert hung is not None
    assert breaker.admit(clock.monotonic()) is None
    clock.advance(6.0)
    assert breaker.admit(clock.monotonic()) is None  # its lease ran out, nobody answers: open again
    clock.advance(60.0)
    assert breaker.admit(clock.monotonic()) is not None
    breaker.settle(hung, clock.monotonic(), failed=False)  # late
    assert breaker.state == "half_open"


def test_a_late_success_of_an_older_generation_does_not_close_the_circuit() -> None:
    clock = still()
    breaker = CircuitBreaker("acme", consecutive_failures=1, open_for=10.0, clock=clock, listeners=[])
    old = breaker.admit(clock.monotonic())
    assert old is not None
    with pytest.raises(Down):
        breaker.call(Provider(Down()).charge)
    breaker.settle(old, clock.monotonic(), failed=False)
    assert breaker.state == "open"
    assert breaker.statistics()["late"] == 1


def test_declines_open_no_circuit() -> None:
    breaker = CircuitBreaker("acme", consecutive_failures=1, clock=(clock := still()), listeners=[])
    pipeline = guarded(clock=clock, breaker=breaker)
    for _ in range(50):
        assert isinstance(pipeline.outcome(Provider(No()).charge), Declined)
    assert breaker.state == "closed"
