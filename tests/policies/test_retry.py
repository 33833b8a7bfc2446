"""Retry standing alone: its loop form, its budgets, and what it will not multiply."""

from __future__ import annotations

from typing import Any

import pytest

from finresilience import ConfigurationError, Constant, Effect, Ok, Retry, TokenBudget, UnknownOutcomeError, attempt_budget
from tests.laws.worlds import RULES, Down, Lost, Provider, both_loops, on, still


def retry(**more: Any) -> Retry:
    effect = Effect.IDEMPOTENT_BY_NATURE
    settings = {"attempts": 3, "backoff": Constant(1), "classify": RULES, "effect": effect, "clock": still(), "listeners": []} | more
    return Retry(**settings)


def test_a_loop_makes_attempts_until_one_works() -> None:
    provider, clock, numbers, answer = Provider(Down(), Down(), "paid"), still(), [], None
    for attempt in retry(clock=clock):
        with attempt:
            numbers.append(attempt.number)
            answer = provider.charge()
    assert (answer, numbers, clock.waits) == ("paid", [1, 2, 3], [1, 1])


@both_loops
def test_an_async_loop_makes_attempts_until_one_works(backend: str) -> None:
    provider = Provider(Down(), "paid")

    async def world() -> Any:
        async for attempt in retry():
            with attempt:
                return await provider.acharge()
        return None

    assert on(backend, world) == "paid"


def test_a_loop_that_gives_up_raises_the_last_error_or_unknown() -> None:
    for error, raised in ((Down(), Down), (Lost(), UnknownOutcomeError)):
        provider = Provider(error, error, error)
        with pytest.raises(raised):
            for attempt in retry():
                with attempt:
                    provider.charge()
        assert provider.attempts == 3


def test_an_interrupted_loop_is_not_tried_again() -> None:
    passes = 0
    with pytest.raises(KeyboardInterrupt):
        for attempt in retry():
            with attempt:
                passes += 1
                raise KeyboardInterrupt
    assert passes == 1


def test_a_pass_without_its_with_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="with attempt"):
        for _ in retry():
            pass


def test_a_shared_budget_bounds_the_retries_of_all() -> None:
    budget, providers = TokenBudget(6, ratio=0.1), [Provider(*[Down()] * 9) for _ in range(3)]
    for provider in providers:
        retry(budget=budget).outcome(provider.charge)
    assert sum(provider.attempts for provider in providers) == 3 + 2  # a bucket of 6 stops at half full


def test_an_attempt_budget_bounds_everything_inside_it() -> None:
    first, second = Provider(*[Down()] * 9), Provider(*[Down()] * 9)
    with attempt_budget(1):
        retry().outcome(first.charge)
        retry().outcome(second.charge)
    assert first.attempts + second.attempts == 2 + 1


def test_three_nested_retries_of_three_make_three_calls() -> None:
    provider = Provider(*[Down()] * 99)
    with pytest.raises(Down):
        retry(name="a")(retry(name="b")(retry(name="c")(provider.charge)))()
    assert provider.attempts == 3


def test_an_answer_that_means_ask_again_is_asked_again() -> None:
    provider = Provider("busy", "busy", "paid")
    outcome = retry(retry_result=lambda answer: answer == "busy").outcome(provider.charge)
    assert isinstance(outcome, Ok)
    assert (outcome.unwrap(), provider.attempts) == ("paid", 3)


@pytest.mark.parametrize("bad", [0, -1, True, 1.5, float("nan"), None, "3", 1001], ids=repr)
def test_an_unusable_number_of_attempts_is_refused_by_name(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match="attempts"):
        retry(attempts=bad)


@pytest.mark.parametrize("name", ["backoff", "budget", "retry_result", "effect", "max_elapsed"])
def test_an_argument_of_the_wrong_type_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        retry(**{name: object()})
