"""A circuit whose probe never left, or called itself: it closed on nothing, or never again."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from finresilience import CircuitBreaker, Pipeline
from finresilience.classify import evidence
from finresilience.policies.call import Call
from finresilience.testing import ManualClock
from tests.laws.sabotage import each_kill, kills
from tests.regressions.sending import always

Patch = pytest.MonkeyPatch


def ready_to_probe(clock: ManualClock) -> CircuitBreaker:
    breaker = CircuitBreaker("acme", consecutive_failures=1, half_open_calls=1, open_for=1.0, clock=clock, listeners=[])
    breaker.trip()
    clock.advance(5.0)
    return breaker


def test_a_probe_that_never_left_does_not_close_the_circuit() -> None:
    clock = ManualClock()
    breaker = ready_to_probe(clock)

    def mistyped() -> None:
        raise httpx.UnsupportedProtocol("htp://acme.test")

    Pipeline("acme", breaker, listeners=[]).outcome(mistyped)
    assert breaker.state == "half_open"


def whoever_says_no_was_reached(patch: Patch) -> None:
    patch.setattr(evidence, "reached_nobody", always(False))


def test_a_circuit_used_inside_itself_can_close_again() -> None:
    """A guarded method that calls its parent's, guarded by the same breaker, was refused by its own probe, round after round."""
    breaker = ready_to_probe(ManualClock())

    @breaker
    def inner() -> str:
        return "paid"

    @breaker
    def outer() -> str:
        return inner()

    assert outer() == "paid"
    assert breaker.state == "closed"


def a_probe_is_a_stranger_to_itself(patch: Patch) -> None:
    patch.setattr(Call, "_inside_own_probe", always(False))


@each_kill(
    (whoever_says_no_was_reached, test_a_probe_that_never_left_does_not_close_the_circuit),
    (a_probe_is_a_stranger_to_itself, test_a_circuit_used_inside_itself_can_close_again),
)
def test_its_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
