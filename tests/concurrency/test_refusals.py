"""What a refusal says of its circuit is true of one moment, even while somebody else is changing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from finresilience import CircuitOpenError, Refused
from finresilience.testing import explore_threads
from tests.concurrency.circuits import SEEDS, breaker, half_open
from tests.laws.worlds import still

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience import CircuitBreaker
    from finresilience.testing.stories import ThreadStory

SHUT = {"open", "half_open", "forced_open", "isolated"}


def sound(error: CircuitOpenError) -> None:
    assert error.state in SHUT
    assert error.retry_after is None or 0.0 <= error.retry_after <= 10.0
    assert str(error)


def by_raising(policy: CircuitBreaker) -> None:
    try:
        policy(lambda: "ok")()
    except CircuitOpenError as error:
        sound(error)


def by_outcome(policy: CircuitBreaker) -> None:
    ended = policy.outcome(lambda: "ok")
    if isinstance(ended, Refused):
        assert isinstance(ended.error, CircuitOpenError)
        sound(ended.error)


def by_guard(policy: CircuitBreaker) -> None:
    try:
        with policy.guard():
            pass
    except CircuitOpenError as error:
        sound(error)


FORMS: dict[str, Callable[[CircuitBreaker], None]] = {"raising": by_raising, "outcome": by_outcome, "guard": by_guard}
each_form = pytest.mark.parametrize("form", FORMS)


@each_form
def test_a_refusal_by_an_open_circuit_is_sound_while_a_person_closes_it(form: str) -> None:
    def story() -> ThreadStory:
        policy = breaker(still())
        policy.trip(seconds=10)
        return [lambda: FORMS[form](policy), policy.reset], lambda: None

    explore_threads(story, seeds=SEEDS)


@each_form
def test_a_refusal_by_a_half_open_circuit_is_sound_while_its_probes_come_and_go(form: str) -> None:
    def story() -> ThreadStory:
        policy, clock = half_open(2)
        permit = policy.admit(clock.monotonic())
        assert permit is not None

        def probe() -> None:
            policy.settle(permit, clock.monotonic(), failed=False)

        return [lambda: FORMS[form](policy), lambda: FORMS[form](policy), probe], lambda: None

    explore_threads(story, seeds=SEEDS)
