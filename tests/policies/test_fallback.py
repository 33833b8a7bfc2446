"""A fallback answers where the provider did not: in which ends, with what, and what is left when it cannot."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from typing import Any

import anyio
import pytest

from finresilience import (
    CircuitBreaker,
    CircuitOpenError,
    ConfigurationError,
    Declined,
    DecorationError,
    Effect,
    Failed,
    Ok,
    Refused,
    Timeout,
    current_key,
    current_reference,
    deadline,
    remaining,
)
from finresilience.events import FallbackUsed
from finresilience.outcome import Stale
from finresilience.policies.fallback import Fallback, LastGood
from finresilience.testing import instant
from tests.laws.worlds import RULES, Down, Lost, No, Provider, on, still
from tests.policies.falling import each_form, ended, notes_of, piped, plainly


def shut(**more: Any) -> CircuitBreaker:
    breaker = CircuitBreaker("acme", listeners=[], **more)
    breaker.force_open()
    return breaker


# ---------------------------------------------------------------- which ends


@each_form
def test_what_the_provider_answered_is_left_alone(form: str) -> None:
    outcome = ended(form, piped(Fallback(value="made up")), Provider("paid"))
    assert isinstance(outcome, Ok)
    assert (outcome.value, outcome.fallback) == ("paid", None)


@each_form
@pytest.mark.parametrize("error", [Down, Lost])
def test_a_failed_read_is_answered_by_the_fallback(form: str, error: type[Exception]) -> None:
    outcome = ended(form, piped(Fallback(value="made up")), Provider(error()))
    assert isinstance(outcome, Ok)
    assert outcome.value == "made up"
    assert outcome.fallback == Stale(0.0, f"Failed {error.__name__}")


@each_form
def test_a_refused_read_is_answered_by_the_fallback_and_nothing_is_sent(form: str) -> None:
    provider = Provider()
    outcome = ended(form, piped(Fallback(value="made up"), shut()), provider)
    assert isinstance(outcome, Ok)
    assert outcome.fallback == Stale(0.0, "Refused CircuitOpenError")
    assert provider.attempts == 0


@each_form
def test_a_no_is_an_answer_and_is_not_talked_away(form: str) -> None:
    assert isinstance(ended(form, piped(Fallback(value="made up")), Provider(No())), Declined)


@each_form
def test_a_no_is_replaced_where_that_was_asked_for(form: str) -> None:
    outcome = ended(form, piped(Fallback(value="made up", on_declined=True)), Provider(No()))
    assert isinstance(outcome, Ok)
    assert outcome.fallback == Stale(0.0, "Declined No")


# ---------------------------------------------------------------- with what


@each_form
def test_the_plain_call_returns_the_bare_answer(form: str) -> None:
    assert plainly(form, piped(Fallback(value="made up")), Provider(Down())) == "made up"


@each_form
def test_none_is_a_value_like_any_other(form: str) -> None:
    assert plainly(form, piped(Fallback(value=None)), Provider(Down())) is None


@each_form
def test_a_function_is_told_the_outcome_and_the_arguments(form: str) -> None:
    told: list[Any] = []

    def instead(*seen: Any) -> str:
        told.extend(seen)
        return "made up"

    assert plainly(form, piped(Fallback(function=instead)), Provider(error := Down()), "EUR") == "made up"
    outcome, currency = told
    assert isinstance(outcome, Failed)
    assert outcome.error is error
    assert currency == "EUR"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_async_function_is_awaited(backend: str) -> None:
    async def instead(_: Any) -> str:
        await anyio.sleep(1)
        return "made up"

    assert plainly(backend, piped(Fallback(function=instead)), Provider(Down())) == "made up"


@each_form
def test_a_function_that_returns_the_outcome_lets_it_stand(form: str) -> None:
    outcome = ended(form, piped(Fallback(function=lambda outcome: outcome)), Provider(Down()))
    assert isinstance(outcome, Failed)


@each_form
def test_a_mark_is_put_on_the_answer_of_the_plain_call(form: str) -> None:
    fallback = Fallback(value="made up", mark=lambda value, stale: (value, stale.age, stale.reason))
    assert plainly(form, piped(fallback), Provider(Down())) == ("made up", 0.0, "Failed Down")


@each_form
def test_a_list_is_copied_for_each_call_so_that_nobody_changes_it_for_others(form: str) -> None:
    pipeline = piped(Fallback(value=[1, [2]]))
    first = plainly(form, pipeline, Provider(Down()))
    first[1].append("mine")
    assert plainly(form, pipeline, Provider(Down())) == [1, [2]]


@each_form
def test_it_is_told_to_the_listeners_with_what_it_stood_in_for(form: str) -> None:
    heard: list[Any] = []
    ended(form, piped(Fallback(value=1), heard=heard, reference=lambda *_: "ref_1"), Provider(Down()))
    assert heard == [FallbackUsed(name="acme", kind="value", age=0.0, instead_of="Failed Down", reference="ref_1")]


# ---------------------------------------------------------------- the function's world


@each_form
def test_a_function_knows_the_key_and_the_reference_of_the_call(form: str) -> None:
    fallback = Fallback(function=lambda *_: (current_key(), current_reference()))
    pipeline = piped(fallback, key=lambda *_: "pay_1", reference=lambda *_: "ref_1")
    assert plainly(form, pipeline, Provider(Down())) == ("pay_1:acme", "ref_1")


def test_a_function_has_its_own_time_where_the_deadline_of_the_call_is_past() -> None:
    clock = still()

    def slow() -> None:
        clock.advance(9.0)
        raise Down

    pipeline = piped(Fallback(function=lambda _: remaining()), Timeout(2.0), clock=clock, deadline=8.0)
    assert pipeline.call(slow) == 2.0


def test_a_function_has_no_more_time_than_whoever_called() -> None:
    pipeline = piped(Fallback(function=lambda _: remaining()), Timeout(2.0), deadline=8.0, clock=None)
    with instant(), deadline(1.0):
        assert pipeline.call(Provider(Down()).charge) == 1.0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_function_that_does_not_end_is_given_up(backend: str) -> None:
    fallback = Fallback(function=lambda _: anyio.sleep(100.0))
    outcome = ended(backend, piped(fallback, Timeout(2.0), clock=None), Provider(Down()))
    assert isinstance(outcome, Failed)
    assert notes_of(outcome.error) == ["finresilience: fallback (function=): function= raised ExpiredError, so the outcome stands"]


# ---------------------------------------------------------------- when it cannot


def broken(*_: Any) -> Any:
    raise ValueError("4111111111111111")


@each_form
@pytest.mark.parametrize("what", ["function", "mark"])
def test_a_fallback_that_fails_lets_the_outcome_stand_with_a_note_that_shows_no_message(form: str, what: str) -> None:
    fallback = Fallback(function=broken) if what == "function" else Fallback(value=1, mark=broken)
    outcome = ended(form, piped(fallback), Provider(error := Down()))
    assert isinstance(outcome, Failed)
    assert outcome.error is error
    assert [note.partition("): ")[2] for note in notes_of(error)] == [f"{what}= raised ValueError, so the outcome stands"]


@each_form
def test_one_error_raised_for_ever_carries_one_note(form: str) -> None:
    error, pipeline = Down(), piped(Fallback(function=broken))
    for _ in range(3):
        ended(form, pipeline, Provider(error))
    assert len(notes_of(error)) == 1


@each_form
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_exception_passes(form: str, error: type[BaseException]) -> None:
    def interrupted(_: Any) -> Any:
        raise error

    async def world() -> None:
        with pytest.raises(error):
            await piped(Fallback(function=interrupted)).aoutcome(Provider(Down()).acharge)

    if form == "sync":
        with pytest.raises(error):
            piped(Fallback(function=interrupted)).outcome(Provider(Down()).charge)
    else:
        on(form, world)


@each_form
def test_it_counts_what_it_did_and_the_call_counts_as_ok(form: str) -> None:
    fallback = Fallback(function=lambda outcome, ok: 1 if ok else broken())
    pipeline = piped(fallback)
    ended(form, pipeline, Provider(Down()), True)
    ended(form, pipeline, Provider(Down()), False)
    assert fallback.statistics() == {"used": 1, "failures": 1, "kept": 0}
    assert (pipeline.ends.ok, pipeline.ends.failed) == (1, 1)


# ---------------------------------------------------------------- the set-up


def test_it_stands_alone() -> None:
    @Fallback(value="made up", effect=Effect.READ, classify=RULES, clock=still(), listeners=[])
    def rate(currency: str) -> str:
        raise Down

    assert rate("EUR") == "made up"


@pytest.mark.parametrize("kind", ["value", "function", "last_good"])
@pytest.mark.parametrize("effect", [effect for effect in Effect if effect is not Effect.READ])
def test_an_answer_about_money_is_refused_at_construction_and_the_way_out_is_named(kind: str, effect: Effect) -> None:
    made: dict[str, Any] = {"value": 1, "function": broken, "last_good": LastGood(max_age=1, key=lambda: 1)}
    with pytest.raises(ConfigurationError, match=r"(?s)READ only.*translate=.*pending=.*inquiry"):
        piped(Fallback(**{kind: made[kind]}), effect=effect)
    with pytest.raises(ConfigurationError, match="READ only"):
        Fallback(**{kind: made[kind]}, effect=effect)


def test_alone_and_told_of_no_effect_it_takes_the_call_for_unsafe() -> None:
    with pytest.raises(ConfigurationError, match="this call is UNSAFE"):
        Fallback(value=1)(broken)


def test_it_takes_exactly_one_kind() -> None:
    with pytest.raises(ConfigurationError, match="none of them"):
        Fallback()
    with pytest.raises(ConfigurationError, match="value= and function= at once"):
        Fallback(value=None, function=broken)


async def is_async(*_: Any) -> Any: ...


def yields(*_: Any) -> Any:
    yield 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"function": 1},
        {"function": yields},
        {"last_good": broken},
        {"translate": is_async},
        {"translate": 1},
        {"pending": "later"},
        {"value": 1, "mark": is_async},
        {"value": 1, "mark": 2},
        {"translate": broken, "mark": broken},
        {"value": 1, "on_declined": 1},
        {"pending": broken, "on_declined": True},
        {"value": 1, "effect": "read"},
    ],
    ids=lambda wrong: " and ".join(f"{name} {getattr(given, '__name__', given)}" for name, given in wrong.items()),
)
def test_what_cannot_work_is_refused_where_it_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Fallback(**wrong)


def test_an_async_function_cannot_serve_a_plain_one_and_nothing_is_sent() -> None:
    provider = Provider()
    with pytest.raises(DecorationError, match="nobody could await it"):
        Fallback(function=is_async, effect=Effect.READ)(provider.charge)
    with pytest.raises(DecorationError, match="nobody could await it"):
        piped(Fallback(function=is_async)).call(provider.charge)
    assert provider.attempts == 0


def test_a_plain_function_that_returns_what_must_be_awaited_gives_no_answer() -> None:
    def hides_it(outcome: Any) -> Any:
        return is_async(outcome)

    outcome = ended("sync", piped(Fallback(function=hides_it)), Provider(Down()))
    assert isinstance(outcome, Failed)


def test_a_refusal_that_stands_is_raised_as_itself() -> None:
    with pytest.raises(CircuitOpenError):
        plainly("sync", piped(Fallback(function=broken), shut()), Provider())
    assert isinstance(ended("sync", piped(Fallback(function=broken), shut()), Provider()), Refused)
