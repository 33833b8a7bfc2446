"""What a pipeline can do at worst, as text and as data, and each thing worth a warning."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from finresilience import (
    Bulkhead,
    CircuitBreaker,
    ConfigurationError,
    Constant,
    Custom,
    Effect,
    Fallback,
    Pipeline,
    RateLimiter,
    Retry,
    StillUnknown,
    Timeout,
    TokenBucket,
)
from finresilience.policies.hedge import Hedge
from tests.laws.worlds import RULES, Down, still

if TYPE_CHECKING:
    from finresilience.policies.explain import Explanation

COOPERATIVE = "a plain function is not stopped by Timeout: hand remaining() to its client, or set thread_limit"
NO_INQUIRY = "no inquiry: unknown outcomes are left to reconciliation"


def breaker(**more: Any) -> CircuitBreaker:
    return CircuitBreaker("acme", listeners=[], **more)


def retry(attempts: int = 4, **more: Any) -> Retry:
    settings: dict[str, Any] = {"backoff": Constant(1, cap=5), "max_retry_after": 10, "listeners": []} | more
    return Retry(attempts=attempts, **settings)


def told(*policies: Any, inner_attempts: int = 1, workers: int = 1, **more: Any) -> Explanation:
    settings: dict[str, Any] = {"effect": Effect.READ, "listeners": []} | more
    return Pipeline("acme.charge", *policies, inner_attempts=inner_attempts, **settings).explain(workers=workers)


def still_unknown(*_: object) -> StillUnknown:
    return StillUnknown()


def test_everything_that_may_happen_is_said_in_a_few_lines() -> None:
    pipeline = Pipeline("acme.charge", breaker(), retry(), Timeout(2.0), deadline=8.0, inner_attempts=3, listeners=[])
    pipeline.inquiry(schedule=(1, 5, 30))(still_unknown)
    assert str(pipeline.explain(workers=8)) == (
        "acme.charge (unsafe)\n"
        "  at worst: 12 attempts and 8.0 s for one call\n"
        "  at worst, with one call in each of 8 workers: 96 attempts\n"
        "  unknown outcomes: asked up to 3 times over 36 s\n"
        "  warning: the client inside makes 3 attempts by itself: switch its retries off\n"
        f"  warning: {COOPERATIVE}\n"
        "  warning: UNSAFE: only what is known not to have happened is tried again"
    )


def test_where_nothing_is_amiss_it_says_so() -> None:
    assert str(told(Timeout(2.0, thread_limit=4))) == (
        "acme.charge (read)\n"
        "  at worst: 1 attempt and 2.0 s for one call\n"
        "  at worst, with one call in each of 1 worker: 1 attempt\n"
        "  no warnings"
    )


def test_one_ask_is_one_time() -> None:
    pipeline = Pipeline("acme", Timeout(2.0), listeners=[])
    pipeline.inquiry(schedule=(0.5,))(still_unknown)
    assert "asked up to 1 time over 0.5 s" in str(pipeline.explain())


def test_every_arm_and_every_layer_multiplies_the_attempts() -> None:
    assert told(Hedge(0.1, extra=2), retry(), Timeout(2.0), inner_attempts=2).attempts == 3 * 4 * 2
    own = told(Timeout(9.0), retry(), breaker(), allow_order=True)
    assert own.attempts == 4
    assert own.seconds == 9.0


def test_the_same_comes_as_data() -> None:
    pipeline = Pipeline("acme", retry(), Timeout(2.0), deadline=8.0, effect=Effect.IDEMPOTENT_BY_NATURE, listeners=[])
    pipeline.inquiry(schedule=(1, 5))(still_unknown)
    assert pipeline.explain(workers=3).as_dict() == {
        "name": "acme",
        "effect": "idempotent_by_nature",
        "attempts": 4,
        "attempts_all_workers": 12,
        "workers": 3,
        "seconds": 8.0,
        "inquiry": [1.0, 5.0],
        "warnings": [COOPERATIVE],
    }


# --- how long it may take ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policies", "deadline", "seconds"),
    [
        ((), None, inf),
        ((), 3.0, 3.0),
        ((Timeout(2.0),), None, 2.0),
        ((Timeout(2.0),), 1.0, 1.0),
        ((retry(), Timeout(2.0)), None, 4 * 2.0 + 3 * 10.0),  # the provider may ask for longer waits than ours
        ((retry(max_retry_after=0), Timeout(2.0)), None, 4 * 2.0 + 3 * 5.0),
        ((retry(max_elapsed=7), Timeout(2.0)), None, 7.0 + 2.0),  # the last attempt may begin just before
        ((retry(), Timeout(2.0)), 8.0, 8.0),
        ((retry(1), Timeout(2.0)), None, 2.0),
        ((retry(),), None, inf),
        ((Bulkhead(1, queue=1, max_wait=0.5), Timeout(2.0)), None, 2.5),
        ((RateLimiter(TokenBucket(1, per=1), max_wait=0.25), Bulkhead(1, queue=1, max_wait=0.5), Timeout(2.0)), None, 2.75),
        ((retry(max_retry_after=0), Bulkhead(1, queue=1, max_wait=0.5), Timeout(2.0)), None, 4 * 2.5 + 3 * 5.0),
        ((RateLimiter(TokenBucket(1, per=1), max_wait=3.0), retry(1), Timeout(2.0)), None, 3.0 + 2.0),
        ((Bulkhead(1, queue=1, max_wait=0.5).per(str, at_most=2, total=2), Timeout(2.0)), None, 3.0),
        ((Hedge(0.1, extra=2), retry(1), Timeout(2.0)), None, 3 * 2.0),  # an arm that fails late lets the next one begin
        ((Fallback(value=1), Timeout(2.0)), None, 2.0),
        ((Fallback(function=str), Timeout(2.0)), None, 4.0),  # its function has as much time as an attempt
        ((Fallback(function=str), retry(), Timeout(2.0)), 3.0, 3.0 + 2.0),
    ],
)
def test_the_worst_latency_is_the_least_of_what_bounds_it(policies: tuple[Any, ...], deadline: float | None, seconds: float) -> None:
    explanation = told(*policies, deadline=deadline)
    assert explanation.seconds == seconds
    assert ("without limit" in str(explanation)) == (seconds == inf)


@given(st.integers(1, 6), st.floats(0, 9), st.floats(0.1, 9), st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_no_call_whose_attempts_keep_their_limit_takes_longer(attempts: int, wait: float, seconds: float, shares: list[float]) -> None:
    clock = still()
    policy = Retry(attempts=attempts, backoff=Custom(lambda n: wait, cap=wait), max_retry_after=5.0, clock=clock, listeners=[])
    pipeline = Pipeline("acme", policy, Timeout(seconds), classify=RULES, effect=Effect.READ, clock=clock, listeners=[])

    def charge() -> None:
        clock.advance(shares.pop() * seconds)
        raise Down

    pipeline.outcome(charge)
    assert clock.monotonic() <= pipeline.explain().seconds + 1e-6


# --- warnings ------------------------------------------------------------------------------------------------------

QUIET = (Timeout(2.0, thread_limit=1),)


@pytest.mark.parametrize(
    ("policies", "more", "warning"),
    [
        (QUIET, {"inner_attempts": 3}, "the client inside makes 3 attempts by itself: switch its retries off"),
        (QUIET, {"deadline": 2.0}, "the deadline leaves no time for a second attempt: it is not longer than the timeout"),
        (
            (Bulkhead(1, queue=1, max_wait=3.0), *QUIET),
            {"deadline": 3.0},
            "the whole deadline may pass in a queue: it is not longer than max_wait",
        ),
        (
            (Timeout(9.0, thread_limit=1), retry()),
            {"allow_order": True},
            "an order of your own: policies on one side of the break do not know of those on the other",
        ),
        ((), {}, "nothing bounds an attempt: add a Timeout or a deadline"),
        ((Timeout(2.0),), {}, COOPERATIVE),
        ((breaker(probe_lease=2.0), *QUIET), {}, "probe_lease is not longer than the timeout: a slow probe never counts"),
        (
            (breaker(probe_lease=2.0).per(str, at_most=2), *QUIET),
            {},
            "probe_lease is not longer than the timeout: a slow probe never counts",
        ),
    ],
)
def test_each_of_these_is_worth_a_warning(policies: tuple[Any, ...], more: dict[str, Any], warning: str) -> None:
    assert told(*policies, **more).warnings == [warning]


def test_what_is_not_repeatable_or_not_asked_about_is_worth_a_warning() -> None:
    unsafe = "UNSAFE: only what is known not to have happened is tried again"
    assert told(*QUIET, effect=Effect.UNSAFE).warnings == [NO_INQUIRY]
    assert told(retry(), *QUIET, effect=Effect.UNSAFE).warnings == [unsafe, NO_INQUIRY]
    assert told(retry(), *QUIET, effect=Effect.IDEMPOTENT_BY_NATURE).warnings == [NO_INQUIRY]


@pytest.mark.parametrize(
    ("policies", "more"),
    [
        (QUIET, {"deadline": 2.1}),
        ((), {"deadline": 2.0}),
        ((breaker(probe_lease=2.1), *QUIET), {}),
        ((breaker(),), {"deadline": 2.0}),
        ((breaker().per(str, at_most=2), *QUIET), {}),
        ((retry(), *QUIET), {"effect": Effect.READ}),
    ],
)
def test_these_are_not(policies: tuple[Any, ...], more: dict[str, Any]) -> None:
    assert told(*policies, **more).warnings == []


@pytest.mark.parametrize("workers", [0, -1, True, 1.5, None, "2"], ids=repr)
def test_an_unusable_number_of_workers_is_refused_by_name(workers: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^workers="):
        told(workers=workers)
