"""Policies are made, and the clock that rules them is changed, by several threads at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finresilience import CircuitBreaker
from finresilience.clock import install
from finresilience.testing import ManualClock, explore_threads
from tests.concurrency.circuits import SEEDS

if TYPE_CHECKING:
    from finresilience.testing.stories import ThreadStory


def policies_made_while_a_clock_comes_and_goes() -> ThreadStory:
    made: list[CircuitBreaker] = []
    before = CircuitBreaker("before", listeners=[])

    def maker() -> None:
        made.extend(CircuitBreaker("acme", listeners=[]) for _ in range(3))

    def ruler() -> None:
        install(ManualClock(5.0))()

    def all_obey_the_system_clock() -> None:
        assert {policy._clock for policy in made} == {before._clock}  # or one of them was left with a clock that has gone

    return [maker, ruler], all_obey_the_system_clock


def test_a_policy_made_while_the_clock_changes_is_told_of_it() -> None:
    explore_threads(policies_made_while_a_clock_comes_and_goes, seeds=SEEDS)
