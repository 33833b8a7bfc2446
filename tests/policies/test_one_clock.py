"""One clock rules a whole call, whoever of its guards was given it."""

from __future__ import annotations

import pytest

from finresilience import CircuitBreaker, CircuitOpenError, Pipeline, Retry, Unknown
from finresilience.testing import ManualClock, instant
from tests.laws.worlds import Down, Provider, still


def guarded(breaker_has: ManualClock | None, pipeline_has: ManualClock | None) -> tuple[CircuitBreaker, Pipeline]:
    breaker = CircuitBreaker("acme", consecutive_failures=1, open_for=10.0, clock=breaker_has, listeners=[])
    return breaker, Pipeline("acme", breaker, Retry(attempts=1), clock=pipeline_has, listeners=[])


@pytest.mark.parametrize("who", ["breaker", "pipeline", "both"])
def test_whoever_was_given_a_clock_gives_it_to_the_others(who: str) -> None:
    clock = still()
    breaker, pipeline = guarded(clock if who != "pipeline" else None, clock if who != "breaker" else None)
    healthy = pipeline(lambda: "receipt")
    assert isinstance(pipeline.outcome(Provider(Down()).charge), Unknown)
    clock.advance(9.0)
    with pytest.raises(CircuitOpenError) as refused:
        healthy()
    assert refused.value.retry_after == pytest.approx(1.0, abs=1.1)  # up to a tenth of jitter
    assert breaker.statistics()["retry_after"] == refused.value.retry_after
    clock.advance(2.1)
    assert healthy() == "receipt"


def test_a_circuit_that_was_open_before_it_joined_a_pipeline_with_a_clock_stays_open() -> None:
    breaker = CircuitBreaker("acme", listeners=[])
    breaker.trip(seconds=10)
    pipeline = Pipeline("acme", breaker, clock=(clock := still()), listeners=[])
    with pytest.raises(CircuitOpenError):
        pipeline.call(lambda: "receipt")
    clock.advance(10.0)
    assert pipeline.call(lambda: "receipt") == "receipt"


def test_a_policy_made_before_a_test_began_lives_on_the_tests_clock_and_back_again() -> None:
    breaker = CircuitBreaker("acme", consecutive_failures=1, open_for=10.0, listeners=[])
    charge = breaker(Provider(Down()).charge)
    with instant() as clock:
        with pytest.raises(Down):
            charge()
        clock.advance(30.0)
        breaker.call(lambda: "receipt")
        breaker.trip(seconds=500)
    assert breaker.state == "open"
    with pytest.raises(CircuitOpenError) as refused:
        charge()
    assert refused.value.retry_after is not None
    assert 400 < refused.value.retry_after <= 500


@pytest.mark.parametrize("made", ["before", "after"])
def test_a_familys_circuits_follow_the_pipelines_clock_whenever_they_were_made(made: str) -> None:
    family = CircuitBreaker("acme", consecutive_failures=1, open_for=10.0, listeners=[]).per(lambda provider: provider, at_most=2)
    if made == "before":
        family.of("acme")
    clock = still()
    pipeline = Pipeline("acme", family, clock=clock, listeners=[])
    assert isinstance(pipeline.outcome(Provider(Down()).charge, "acme"), Unknown)
    with pytest.raises(CircuitOpenError):
        pipeline.call(Provider().charge, "acme")
    clock.advance(11.1)
    assert pipeline.call(Provider().charge, "acme") == "ok"
