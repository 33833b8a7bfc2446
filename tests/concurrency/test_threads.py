"""One circuit and one budget under threads, each of which may be stopped between any two lines."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import pytest

from finresilience import CircuitChanged, CircuitOpenError, Constant, Event, LateResult, Retry, TokenBudget
from finresilience.policies import base, retry as retries
from finresilience.testing import CounterexampleError, explore_threads
from tests.concurrency.circuits import SEEDS, breaker, half_open
from tests.laws.worlds import RULES, Down, still

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.testing.stories import ThreadStory


def a_lease_runs_out_while_its_probe_reports() -> ThreadStory:
    """One place: its holder reports, time passes and another asks, all at once. The vote counts once, or the lease is lost."""
    heard: list[Event] = []
    policy, clock = half_open(1, heard)
    permit = policy.admit(clock.monotonic())
    assert permit is not None

    def holder() -> None:
        policy.settle(permit, clock.monotonic(), failed=False)

    def asker() -> None:
        clock.advance(6)
        policy.admit(clock.monotonic())

    def counted_once() -> None:
        counted, late = policy.statistics()["succeeded"], policy.statistics()["late"]
        assert (counted, late, policy.state) in {(1, 0, "closed"), (0, 1, "half_open"), (0, 1, "open")}
        assert late == sum(isinstance(event, LateResult) for event in heard)

    return [holder, asker], counted_once


def a_person_at_the_switches() -> ThreadStory:
    """Calls come and go while somebody trips, isolates and resets: the story that is told is one story."""
    heard: list[Event] = []
    clock = still()
    policy = breaker(clock, heard)

    def person() -> None:
        policy.trip(seconds=2)
        with policy.isolate():
            policy.reset()
        policy.force_open()
        policy.reset()

    def caller() -> None:
        for _ in range(2):
            with suppress(CircuitOpenError), policy.guard():
                clock.advance(1)

    def one_story() -> None:
        changes = [event for event in heard if isinstance(event, CircuitChanged)]
        changes.sort(key=lambda change: change.generation)  # they are told outside the lock, so perhaps not in order
        assert all(one.after == two.before for one, two in pairwise(changes))
        assert (changes[0].before, changes[-1].after, policy.state) == ("closed", "closed", "closed")
        assert len({change.generation for change in changes}) == len(changes)

    return [person, caller, caller], one_story


def callers_that_share_a_budget() -> ThreadStory:
    """Six tokens, of which half must stay: three threads with two retries each get two between them."""
    budget, attempts = TokenBudget(6), []

    def work() -> None:
        attempts.append(1)
        raise Down

    def caller() -> None:
        policy = Retry(attempts=3, backoff=Constant(0), budget=budget, classify=RULES, clock=still(), listeners=[])
        policy.outcome(work)

    def nobody_overspent() -> None:
        assert len(attempts) == 3 + 2

    return [caller] * 3, nobody_overspent


STORIES: dict[str, Callable[[], ThreadStory]] = {
    "a lease runs out while its probe reports": a_lease_runs_out_while_its_probe_reports,
    "a person at the switches": a_person_at_the_switches,
    "callers that share a budget": callers_that_share_a_budget,
}


@pytest.mark.parametrize("story", STORIES)
def test_permits_changes_and_budgets_stay_true_in(story: str) -> None:
    assert explore_threads(STORIES[story], seeds=SEEDS).distinct > SEEDS * 0.9  # or the seeds all told the same story


class NoLock:
    def acquire(self, *_: object, **__: object) -> Literal[True]:
        return True

    def release(self) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> Literal[False]:
        return False


@pytest.mark.parametrize("story", STORIES)
def test_without_its_lock_some_schedule_goes_wrong_in(story: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "Lock", NoLock)
    monkeypatch.setattr(retries, "_budgets", NoLock())
    with pytest.raises(CounterexampleError):
        explore_threads(STORIES[story], seeds=20 * SEEDS)  # it ends at the first that fails
