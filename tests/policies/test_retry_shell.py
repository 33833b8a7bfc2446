"""How long a retry waits, when it stops waiting, what it takes for an answer, and what it says when it gives up."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from datetime import timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from finresilience import (
    NON_RETRYABLE,
    RETRYABLE,
    UNKNOWN,
    Constant,
    Custom,
    Declined,
    Effect,
    ErrorClassifier,
    Failed,
    FullJitter,
    Ok,
    OutcomeUnknown,
    Pipeline,
    RatioBudget,
    RetriesExhausted,
    Retry,
    RetryScheduled,
    TokenBudget,
    Unknown,
    Verdict,
    attempt_budget,
    deadline,
)
from finresilience.cores.retry import RetrySettings, Stop
from finresilience.testing import instant
from tests.laws.worlds import Down, Lost, No, Provider, both_loops, on, still

if TYPE_CHECKING:
    from finresilience import Event


class Busy(Exception):
    """Not applied; asks us to wait."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


RULES = ErrorClassifier(
    {Down: RETRYABLE, No: NON_RETRYABLE, Busy: lambda error: Verdict(RETRYABLE, retry_after=getattr(error, "seconds", None))}
)


def retry(*, heard: list[Event] | None = None, **more: Any) -> Retry:
    settings: dict[str, Any] = {
        "attempts": 3,
        "backoff": Constant(1),
        "classify": RULES,
        "effect": Effect.IDEMPOTENT_BY_NATURE,
        "clock": still(),
        "listeners": [] if heard is None else [heard.append],
    }
    return Retry(**settings | more)


def waits_of(*script: Any, **more: Any) -> list[float]:
    clock = still()
    retry(clock=clock, **more).outcome(Provider(*script).charge)
    return clock.waits


# --- Retry-After ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hint", "waited"), [(7.0, [7.0]), (0.0, []), (59.9, [59.9]), (61.0, [60.0]), (1e9, [60.0])])
def test_the_providers_wait_is_kept_up_to_the_most_we_allow(hint: float, waited: list[float]) -> None:
    assert waits_of(Busy(hint), "paid") == waited


def test_the_most_we_wait_for_a_provider_is_ours_to_choose() -> None:
    assert waits_of(Busy(7.0), "paid", max_retry_after=3) == [3.0]
    assert waits_of(Busy(7.0), "paid", max_retry_after=timedelta(0)) == []


def test_a_provider_that_asks_for_nothing_gets_the_backoff() -> None:
    assert waits_of(Down(), Busy(7.0), Down(), "paid", attempts=4) == [1.0, 7.0, 1.0]


class Response:
    def __init__(self, status: int, **headers: str) -> None:
        self.status_code = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def test_seconds_and_dates_in_a_real_header_are_waited_for() -> None:
    clock = still()
    later = format_datetime(clock.utc() + timedelta(seconds=9), usegmt=True)
    script = [Response(429, Retry_After="7"), Response(503, Retry_After=later), Response(200)]
    with instant(clock):
        outcome = retry(clock=None, classify=None).outcome(lambda: script.pop(0))
    assert isinstance(outcome, Ok)
    assert clock.waits == [7.0, 2.0]


def test_a_wait_beyond_the_deadline_ends_the_call_now_and_says_why() -> None:
    heard: list[Event] = []
    clock = still()
    provider = Provider(Busy(30.0))
    with instant(clock), deadline(10.0):
        outcome = retry(clock=clock, heard=heard).outcome(provider.charge)
    assert isinstance(outcome, Failed)
    assert (clock.waits, provider.attempts) == ([], 1)
    assert [event.reason for event in heard if isinstance(event, RetriesExhausted)] == [Stop.DEADLINE]


# --- time ----------------------------------------------------------------------------------------------------------

EIGHTHS = st.integers(0, 40).map(lambda number: number / 8)  # which add up without rounding
LENGTHS = st.lists(EIGHTHS, min_size=1, max_size=8)
BOUNDS = st.integers(1, 160).map(lambda number: number / 8)


def begun(lengths: list[float], wait: float, **bounds: Any) -> list[float]:
    """Return when each attempt began, of a call whose attempts take so long and all fail."""
    clock, times, script = still(), list[float](), list(lengths)

    def charge() -> None:
        times.append(clock.monotonic())
        clock.advance(script.pop(0) if script else 1.0)
        raise Down

    retry_ = Retry(attempts=10, backoff=Constant(wait), max_elapsed=bounds.get("max_elapsed"), listeners=[])
    pipeline = Pipeline("acme", retry_, classify=RULES, deadline=bounds.get("deadline"), clock=clock, listeners=[])
    pipeline.outcome(charge)
    return times


@given(LENGTHS, EIGHTHS, BOUNDS)
def test_no_attempt_begins_once_max_elapsed_is_over(lengths: list[float], wait: float, most: float) -> None:
    assert max(begun(lengths, wait, max_elapsed=most)) < most


@given(LENGTHS, EIGHTHS, BOUNDS)
def test_no_attempt_begins_once_the_deadline_is_over(lengths: list[float], wait: float, most: float) -> None:
    assert max(begun(lengths, wait, deadline=most)) < most


@given(LENGTHS, EIGHTHS, BOUNDS)
def test_every_attempt_that_time_allows_is_made(lengths: list[float], wait: float, most: float) -> None:
    free, bound = begun(lengths, wait), begun(lengths, wait, deadline=most)
    assert bound == free[: len(bound)]
    assert len(bound) == len(free) or free[len(bound)] >= most


def test_a_retry_that_looks_at_the_time_after_its_wait_would_be_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    decide = RetrySettings.decide

    def late(self: RetrySettings, verdict: Verdict, **facts: Any) -> Any:
        return decide(self, verdict, **facts | {"left": facts["left"] + 1.0})

    monkeypatch.setattr(RetrySettings, "decide", late)
    with pytest.raises(AssertionError):
        test_a_wait_that_ends_at_the_deadline_is_not_begun()


def test_a_wait_that_ends_at_the_deadline_is_not_begun() -> None:
    clock = still()
    with instant(clock), deadline(3.0):
        retry(clock=clock, attempts=9).outcome(Provider(*[Down()] * 9).charge)
    assert clock.waits == [1.0, 1.0]


def test_no_wait_follows_the_last_attempt() -> None:
    assert waits_of(*[Down()] * 9) == [1.0, 1.0]


def test_a_wait_of_zero_is_no_sleep() -> None:
    assert waits_of(*[Down()] * 9, backoff=Constant(0)) == []


def test_chance_is_told_so_that_waits_can_be_replayed() -> None:
    chances = iter([0.5, 0.25, 1.0])
    assert waits_of(*[Down()] * 9, backoff=FullJitter(1.0, cap=100.0), chance=lambda: next(chances)) == [0.5, 0.5]


def test_a_schedule_of_ones_own_is_taken() -> None:
    assert waits_of(*[Down()] * 9, backoff=Custom(lambda n: n * 3 + 2.0)) == [2.0, 5.0]


# --- answers -------------------------------------------------------------------------------------------------------


def test_an_answer_that_is_never_right_is_returned_as_it_came_and_told_as_exhausted() -> None:
    heard: list[Event] = []
    policy, provider = retry(retry_result=lambda answer: answer == "busy", heard=heard), Provider(*["busy"] * 3)
    assert policy.call(provider.charge) == "busy"
    assert provider.attempts == 3
    assert [(event.error_type, event.attempts) for event in heard if isinstance(event, RetriesExhausted)] == [("str", 3)]
    assert isinstance(policy.outcome(Provider(*["busy"] * 3).charge), Failed)


@both_loops
def test_an_async_answer_is_asked_for_again_too(backend: str) -> None:
    provider = Provider("busy", "paid")
    assert on(backend, retry(retry_result=lambda answer: answer == "busy", clock=None).acall, provider.acharge) == "paid"
    assert provider.attempts == 2


def test_an_answer_that_says_no_is_declined_and_not_asked_again() -> None:
    provider = Provider(Response(402))
    outcome = retry(classify=None).outcome(provider.charge)
    assert isinstance(outcome, Declined)
    assert (provider.attempts, outcome.unwrap().status_code) == (1, 402)


def test_a_predicate_that_raises_costs_nobody_the_answer_in_hand() -> None:
    def broken(answer: object) -> bool:
        raise ZeroDivisionError

    assert retry(retry_result=broken).call(Provider("paid").charge) == "paid"


# --- budgets -------------------------------------------------------------------------------------------------------


def test_a_ratio_budget_lets_retries_be_a_share_of_the_calls() -> None:
    clock = still()
    policy = retry(budget=RatioBudget(0.2, at_least=0), attempts=2, clock=clock, backoff=Constant(0))
    providers = [Provider(Down(), Down()) for _ in range(100)]
    for provider in providers:
        policy.outcome(provider.charge)
    assert sum(provider.attempts for provider in providers) == 100 + 20


def test_a_token_budget_is_refilled_by_successes() -> None:
    policy = retry(budget=TokenBudget(4, ratio=1.0), attempts=2, backoff=Constant(0))
    for _ in range(20):  # one failure, one retry, one success: the token comes back each time
        assert isinstance(policy.outcome(Provider(Down(), "paid").charge), Ok)
    tries = [Provider(Down(), Down()) for _ in range(3)]
    for provider in tries:
        policy.outcome(provider.charge)
    assert [provider.attempts for provider in tries] == [2, 1, 1]


@both_loops
def test_a_budget_counts_async_calls_too(backend: str) -> None:
    policy = retry(budget=TokenBudget(2), attempts=9, clock=None)
    charge = Provider(*[Down()] * 9)
    assert isinstance(on(backend, policy.aoutcome, charge.acharge), Failed)
    with pytest.raises(Down):
        on(backend, policy(Provider(*[Down()] * 9).acharge))
    assert charge.attempts == 1


def test_a_spent_budget_is_told_as_the_reason() -> None:
    heard: list[Event] = []
    retry(budget=TokenBudget(2), heard=heard).outcome(Provider(Down()).charge)
    assert [event.reason for event in heard if isinstance(event, RetriesExhausted)] == [Stop.BUDGET]


def test_in_a_forked_child_a_budgets_lock_is_free() -> None:
    from finresilience.policies import retry as room

    policy = retry(budget=TokenBudget(6))
    room._budgets.acquire()  # by a thread that the child does not have
    policy.forked()
    assert isinstance(policy.outcome(Provider(Down(), "paid").charge), Ok)


class Translated(Exception):
    """What a client makes of an error: it no longer shows that somebody tried already."""


def nested(layers: int, provider: Provider) -> Any:
    rules = ErrorClassifier({Translated: RETRYABLE})
    guarded: Any = provider.charge
    for number in range(layers):

        def translating(inner: Any = guarded) -> Any:
            try:
                return inner()
            except Exception:
                raise Translated from None

        guarded = retry(name=f"layer {number}", classify=rules)(translating)
    return guarded


@pytest.mark.parametrize(("left", "calls"), [(None, 27), (0, 1), (2, 3), (5, 6)])
def test_an_attempt_budget_holds_against_layers_that_do_not_know_of_each_other(left: int | None, calls: int) -> None:
    provider = Provider(*[Down()] * 99)
    with pytest.raises(Translated):
        if left is None:
            nested(3, provider)()
        else:
            with attempt_budget(left):
                nested(3, provider)()
    assert provider.attempts == calls


# --- what it says --------------------------------------------------------------------------------------------------


def note_of(policy: Any, *script: Any) -> list[str]:
    outcome = policy.outcome(Provider(*script).charge)
    return getattr(outcome.error, "__notes__", [])


def test_an_error_after_several_attempts_says_how_many_how_long_and_why_no_more() -> None:
    assert note_of(retry(name="acme"), *[Down()] * 9) == [
        "finresilience: acme: 3 attempts, waits [1, 1] s; stopped because every attempt is used up"
    ]
    assert note_of(retry(name="acme"), Down(), No()) == [
        "finresilience: acme: 2 attempts, waits [1] s; stopped because the answer is no and stays no"
    ]
    assert note_of(retry(name="acme", max_elapsed=0.5), Down()) == [
        "finresilience: acme: 1 attempt, waits [] s; stopped because the next attempt would begin after max_elapsed"
    ]


def test_an_error_of_a_call_that_was_rightly_made_once_carries_no_note() -> None:
    assert note_of(retry(), No()) == []


def test_each_layer_leaves_a_note_of_its_own() -> None:
    error = Down()
    policy = retry(name="inner", attempts=2)
    with pytest.raises(Down):
        retry(name="outer", attempts=3)(policy(Provider(*[error] * 9).charge))()
    assert [note.split(":")[1] for note in error.__notes__] == [" inner", " outer"]


def test_a_note_of_somebody_elses_is_kept() -> None:
    error = Down()
    error.add_note("theirs")
    assert note_of(retry(), error, error, error)[0] == "theirs"


def test_what_is_scheduled_and_what_is_given_up_is_told() -> None:
    heard: list[Event] = []
    retry(name="acme", heard=heard).outcome(Provider(*[Lost()] * 3).charge)
    facts: dict[str, Any] = {"name": "acme", "error_type": "Lost", "reference": None}
    assert heard == [
        RetryScheduled(attempt=1, classification=UNKNOWN, delay=1.0, **facts),
        RetryScheduled(attempt=2, classification=UNKNOWN, delay=1.0, **facts),
        RetriesExhausted(attempts=3, reason=Stop.ATTEMPTS.value, **facts),
        OutcomeUnknown(attempts=3, **facts),
    ]


@pytest.mark.parametrize("error", [No, ZeroDivisionError, TypeError])
def test_what_may_not_be_tried_again_is_not_told_as_exhausted(error: type[Exception]) -> None:
    heard: list[Event] = []
    outcome = retry(heard=heard, effect=Effect.UNSAFE).outcome(Provider(error()).charge)
    assert isinstance(outcome, Unknown | Declined)
    assert [event for event in heard if isinstance(event, RetriesExhausted)] == []


def test_a_fault_of_our_own_is_not_tried_again() -> None:
    provider = Provider(TypeError())
    assert isinstance(retry().outcome(provider.charge), Unknown)
    assert provider.attempts == 1
