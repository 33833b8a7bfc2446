"""A retry as a loop: each pass is one attempt, a success is the last, and what cannot work is refused."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience import (
    RETRYABLE,
    UNKNOWN,
    CallAbandoned,
    CircuitBreaker,
    CircuitOpenError,
    ConfigurationError,
    Constant,
    DeadlineExceededError,
    Effect,
    ErrorClassifier,
    Retry,
    attempt_budget,
    current_attempt,
    current_key,
    deadline,
    idempotency_key,
)
from finresilience.policies.attempts import Attempts
from finresilience.testing import instant
from tests.laws.worlds import RULES, Down, Lost, No, Provider, both_loops, on, still

if TYPE_CHECKING:
    from finresilience import Event


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


def looped(policy: Retry, provider: Provider) -> Any:
    answer = None
    for attempt in policy:
        with attempt:
            answer = provider.charge()
    return answer


def test_each_loop_is_a_call_of_its_own_even_inside_another() -> None:
    policy, outer, inner = retry(), Provider(Down(), "a"), Provider(Down(), "b", Down(), "c")
    answers: list[Any] = []
    for attempt in policy:
        with attempt:
            answers.append(looped(policy, inner))
            answers.append(outer.charge())
    assert answers == ["b", "c", "a"]
    assert policy.statistics()["ok"] == 3


@both_loops
def test_a_loop_may_be_begun_before_it_is_run(backend: str) -> None:
    provider, passes = Provider(Down(), "paid"), list[int]()
    begun = iter(iter(retry()))
    for attempt in begun:
        with attempt:
            passes.append(attempt.number)
            provider.charge()

    async def world() -> None:
        async for attempt in aiter(aiter(retry())):
            with attempt:
                passes.append(attempt.number)

    on(backend, world)
    assert passes == [1, 2, 1]


def test_the_number_is_the_attempt_before_and_inside_its_block() -> None:
    numbers: list[tuple[int, int, int]] = []
    provider = Provider(Down(), Down(), "paid")
    for attempt in retry():
        before = attempt.number
        with attempt:
            numbers.append((before, attempt.number, current_attempt()))
            provider.charge()
    assert numbers == [(1, 1, 1), (2, 2, 2), (3, 3, 3)]


def test_a_decline_ends_the_loop_at_once() -> None:
    error = No()
    provider = Provider(error)
    with pytest.raises(No) as caught:
        looped(retry(), provider)
    assert (caught.value, provider.attempts) == (error, 1)


def test_an_unsafe_loop_tries_no_unknown_again() -> None:
    provider = Provider(Lost())
    with pytest.raises(Exception, match="may have happened"):
        looped(retry(effect=Effect.UNSAFE), provider)
    assert provider.attempts == 1


def test_every_attempt_sees_the_same_key() -> None:
    keys: list[str | None] = []
    with idempotency_key("pay_1"):
        for attempt in retry(effect=Effect.IDEMPOTENT):
            with attempt:
                keys.append(current_key())
                if len(keys) < 3:
                    raise Lost
    assert keys == ["pay_1:retry"] * 3


def test_a_deadline_that_has_passed_means_no_attempt() -> None:
    policy, provider = retry(clock=(clock := still())), Provider("ok")
    with instant(clock), deadline(1.0):
        clock.advance(2.0)
        with pytest.raises(DeadlineExceededError):
            looped(policy, provider)
    assert provider.attempts == 0
    assert policy.statistics()["refused"] == 1


def test_a_deadline_that_passes_between_two_attempts_raises_the_last_error() -> None:
    error = Down()
    clock = still()
    provider = Provider(error, "ok")
    with instant(clock), deadline(5.0):
        with pytest.raises(Down) as caught:
            for attempt in retry(clock=clock):
                if attempt.number == 2:
                    clock.advance(10.0)  # something slow between the wait and the attempt
                with attempt:
                    provider.charge()
    assert caught.value is error
    assert provider.attempts == 1


def test_a_refusal_from_further_in_is_not_tried_again() -> None:
    shut = CircuitBreaker("inner", clock=still(), listeners=[])
    shut.force_open()
    passes = 0
    with pytest.raises(CircuitOpenError):
        for attempt in retry():
            with attempt:
                passes += 1
                shut.call(lambda: "ok")
    assert passes == 1


def test_an_attempt_budget_bounds_a_loop() -> None:
    provider = Provider(*[Down()] * 9)
    with attempt_budget(1), pytest.raises(Down):
        looped(retry(attempts=9), provider)
    assert provider.attempts == 2


@both_loops
def test_the_async_loop_waits_between_its_attempts(backend: str) -> None:
    provider, policy = Provider(Down(), Down(), "paid"), retry(clock=None)

    async def world() -> Any:
        async for attempt in policy:
            with attempt:
                return await provider.acharge(), attempt.number, policy._now()
        return None

    assert on(backend, world) == ("paid", 3, 2.0)


@both_loops
def test_the_async_loop_gives_up_as_the_plain_one_does(backend: str) -> None:
    provider = Provider(*[Down()] * 3)

    async def world() -> None:
        async for attempt in retry():
            with attempt:
                await provider.acharge()

    with pytest.raises(Down):
        on(backend, world)
    assert provider.attempts == 3


@both_loops
def test_an_async_loop_ends_after_its_block_has_worked(backend: str) -> None:
    passes: list[int] = []

    async def world() -> None:
        async for attempt in retry():
            with attempt:
                passes.append(attempt.number)

    on(backend, world)
    assert passes == [1]


# --- a success is the last -----------------------------------------------------------------------------------------


def charges_of(policy: Retry) -> int:
    provider = Provider()
    looped(policy, provider)
    return provider.attempts


def test_a_block_that_worked_is_never_run_again_whatever_the_rules_say_of_none() -> None:
    for verdict in (RETRYABLE, UNKNOWN):
        rules = ErrorClassifier({type(None): verdict}, when=[(lambda answer: answer is None, verdict)])
        assert charges_of(retry(classify=rules)) == 1


def test_a_loop_with_a_result_predicate_is_refused_since_it_sees_no_result() -> None:
    with pytest.raises(ConfigurationError, match="retry_result cannot be asked"):
        charges_of(retry(retry_result=lambda answer: answer is None))


def test_a_loop_that_takes_none_for_its_answer_would_be_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finresilience.policies.attempts._Done", lambda: None)
    with pytest.raises(AssertionError):
        test_a_block_that_worked_is_never_run_again_whatever_the_rules_say_of_none()


# --- what is refused -----------------------------------------------------------------------------------------------


def test_a_second_block_in_one_pass_is_refused() -> None:
    provider = Provider(Down(), "paid")
    with pytest.raises(ConfigurationError, match="one attempt"):
        for attempt in retry():
            with attempt:
                provider.charge()
            with attempt:  # after the failure: it would skip the wait
                provider.charge()
    assert provider.attempts == 1


def test_a_block_inside_itself_is_refused() -> None:
    passes = 0
    with pytest.raises(ConfigurationError, match="one attempt"):
        for attempt in retry(effect=Effect.READ, attempts=1):
            with attempt:
                passes += 1
                with attempt:
                    passes += 1
    assert passes == 1


@both_loops
def test_an_async_pass_without_its_with_is_refused(backend: str) -> None:
    async def world() -> None:
        async for _ in retry():
            pass

    with pytest.raises(ConfigurationError, match="with attempt"):
        on(backend, world)


# --- a loop that is interrupted ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("error", "events"), [(Lost, [CallAbandoned]), (Down, [])])
def test_a_loop_interrupted_while_it_waits_says_so_if_it_may_have_been_sent(
    error: type[Exception], events: list[type], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Event] = []
    clock = still()

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(clock, "sleep_sync", interrupted)
    policy = retry(heard=heard, clock=clock)
    with pytest.raises(KeyboardInterrupt):
        looped(policy, Provider(error()))
    assert [type(event) for event in heard if isinstance(event, CallAbandoned)] == events
    assert policy.statistics()["abandoned"] == 1
    assert current_attempt() == 0


@pytest.mark.parametrize(("error", "events"), [(Lost, 1), (Down, 0)])
@both_loops
def test_an_async_loop_cancelled_while_it_waits_says_so_if_it_may_have_been_sent(backend: str, error: type[Exception], events: int) -> None:
    heard: list[Event] = []
    policy, provider = retry(heard=heard, clock=None, backoff=Constant(60)), Provider(error())

    async def world() -> bool:
        with anyio.move_on_after(1) as scope:
            async for attempt in policy:
                with attempt:
                    await provider.acharge()
        return scope.cancelled_caught

    assert on(backend, world)
    assert len([event for event in heard if isinstance(event, CallAbandoned)]) == events
    assert policy.statistics()["abandoned"] == 1


def test_a_loop_that_forgets_the_wait_it_was_interrupted_in_would_be_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(self: Attempts) -> Attempts:
        wait = self._next_wait()
        if wait is None:
            raise StopIteration
        self._plan.owner._clock.sleep_sync(wait)
        return self._passed()

    monkeypatch.setattr(Attempts, "__next__", forgetful)
    with pytest.raises(AssertionError):
        test_a_loop_interrupted_while_it_waits_says_so_if_it_may_have_been_sent(Lost, [CallAbandoned], monkeypatch)
