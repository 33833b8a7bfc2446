"""The laws of outcomes 1, 2 and 5: the join, what is raised, refusals. What they must kill is in test_saboteurs.py."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from finresilience import (
    CircuitBreaker,
    CircuitOpenError,
    Declined,
    Effect,
    Failed,
    MissingKeyError,
    Ok,
    Refused,
    RefusedError,
    Unknown,
    UnknownOutcomeError,
    current_key,
    idempotency_key,
)
from tests.laws.worlds import Down, Lost, No, Provider, guarded, still

if TYPE_CHECKING:
    from collections.abc import Callable


KINDS = {"ok": "ok", "down": Down, "lost": Lost, "no": No}


def expected(script: tuple[str, ...], effect: Effect, *, keyed: bool) -> type:
    """Law 1 in other words: walk the attempts that such a call makes, and join them."""
    seen: list[str] = []
    for kind in script:
        seen.append(kind)
        if kind in {"ok", "no"} or (kind == "lost" and not effect.repeatable):
            break
    if "ok" in seen:
        return Ok
    if seen[-1] == "no" and (keyed or "lost" not in seen or effect is Effect.READ):
        return Declined
    return Unknown if "lost" in seen and effect is not Effect.READ else Failed


def made(kind: str) -> Any:
    what = KINDS[kind]
    return what() if isinstance(what, type) else what


def always(key: str) -> Callable[..., str]:
    return lambda *_: key


def breaks_join() -> list[str]:
    wrong = []
    for effect, script in product(Effect, product(KINDS, repeat=3)):
        keyed = effect is Effect.IDEMPOTENT
        pipeline = guarded(effect, clock=still(), key=always("pay_1") if keyed else None)
        outcome = pipeline.outcome(Provider(*map(made, script)).charge)
        if type(outcome) is not expected(script, effect, keyed=keyed):
            wrong.append(f"{effect.value} {script}: {outcome!r}")
    return wrong


def test_the_outcome_of_a_call_is_the_join_over_its_attempts() -> None:
    assert breaks_join() == []


def test_it_is_refused_only_if_no_attempt_was_sent() -> None:
    breaker = CircuitBreaker("acme", consecutive_failures=1, clock=(clock := still()), listeners=[])
    pipeline = guarded(clock=clock, breaker=breaker)
    provider = Provider(Lost())
    assert isinstance(pipeline.outcome(provider.charge), Unknown)  # the circuit opened under it: still unknown
    assert isinstance(pipeline.outcome(provider.charge), Refused)
    assert provider.attempts == 1


def test_a_call_that_ends_unknown_raises_unknown_from_the_last_error() -> None:
    lost = Lost()
    with pytest.raises(UnknownOutcomeError) as caught:
        guarded(Effect.UNSAFE, clock=still()).call(Provider(lost).charge)
    assert caught.value.__cause__ is lost
    assert caught.value.attempts == 1


def test_a_read_never_ends_unknown() -> None:
    with pytest.raises(Lost) as caught:
        guarded(Effect.READ, clock=still()).call(Provider(Lost(), Lost(), Lost()).charge)
    assert "3 attempts" in caught.value.__notes__[0]


def test_every_other_end_raises_the_callers_own_error_unwrapped() -> None:
    for error in (No(), Down()):
        with pytest.raises(type(error)) as caught:
            guarded(clock=still(), attempts=1).call(Provider(error).charge)
        assert caught.value is error


def test_one_error_object_raised_for_ever_carries_one_note_and_is_retried_each_time() -> None:
    error, pipeline = Down(), guarded(clock=still(), attempts=2)
    for _ in range(5):
        provider = Provider(error, error)
        with pytest.raises(Down):
            pipeline.call(provider.charge)
        assert provider.attempts == 2
    assert len(error.__notes__) == 1


def test_our_own_refusals_are_never_retried_and_never_recorded() -> None:
    breaker = CircuitBreaker("acme", consecutive_failures=1, clock=(clock := still()), listeners=[])
    shut = CircuitBreaker("inner", clock=clock, listeners=[])
    shut.force_open()
    provider = Provider("ok")
    outcome = guarded(clock=clock, breaker=breaker).outcome(shut(provider.charge))
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, CircuitOpenError)
    assert (provider.attempts, breaker.statistics()["failed"]) == (0, 0)


def test_a_deadline_that_has_passed_means_no_call() -> None:
    clock, provider = still(), Provider("ok")
    pipeline = guarded(clock=clock, deadline=1.0)

    def late() -> Any:
        clock.advance(5.0)
        return pipeline.call(provider.charge)

    with pytest.raises(RefusedError, match="deadline passed"):
        guarded(clock=clock, deadline=2.0).call(late)
    assert provider.attempts == 0


def test_the_key_is_minted_once_per_call_and_is_the_same_on_every_attempt() -> None:
    asked, seen = [], []

    def key(payment: str) -> str:
        asked.append(payment)
        return payment

    def charge(_: str) -> str:
        seen.append(current_key())
        if len(seen) < 3:
            raise Lost
        return "ok"

    pipeline = guarded(Effect.IDEMPOTENT, key=key, clock=still())
    assert pipeline(charge)("pay_1") == "ok"
    assert seen == ["pay_1:acme"] * 3
    assert asked == ["pay_1"]


def test_an_idempotent_call_without_a_key_is_not_sent() -> None:
    pipeline, provider = guarded(Effect.IDEMPOTENT, clock=still()), Provider()
    with pytest.raises(MissingKeyError, match="Nothing was sent"):
        pipeline.call(provider.charge)
    with idempotency_key("pay_1"):
        assert pipeline.call(provider.charge) == "ok"
    assert provider.attempts == 1
