"""Law 7: a fallback never invents a success of money, is marked as a fallback, and is never kept for a good answer."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import gc
import os
from itertools import product
from math import inf
from random import Random
from typing import TYPE_CHECKING, Any
from weakref import ref

import pytest

from finresilience import CircuitBreaker, ConfigurationError, Constant, Declined, Effect, Failed, Ok, Refused, Retry, Unknown
from finresilience.cores.last_good import Answers
from finresilience.outcome import Stale
from finresilience.policies import fallback as room
from finresilience.policies.fallback import Fallback, LastGood
from tests.laws.sabotage import each_kill, kills
from tests.laws.worlds import Down, Lost, No, Provider, on, still
from tests.policies.falling import ended, piped

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS: dict[str, Any] = {
    "value": "made up",
    "function": lambda *_: "made up",
    "last_good": LastGood(max_age=10.0, key=lambda *_: "a"),
    "translate": lambda error: RuntimeError("in other words"),
    "pending": lambda *_: "accepted, pending",
}
SCRIPTS = [script for length in (1, 2) for script in product((None, Down, Lost, No), repeat=length)]
MONEY: list[Effect] = [effect for effect in Effect if effect is not Effect.READ]
SHUT = CircuitBreaker("shut", listeners=[])
SHUT.force_open()


def worlds(effects: list[Effect]) -> Iterator[tuple[Fallback, Any, Provider]]:
    """Yield every fallback that an effect may have, in a pipeline, before every short script; and one that is never sent."""
    for effect, (kind, what), on_declined in product(effects, KINDS.items(), (False, True)):
        for lines in (*SCRIPTS, None):
            try:
                fallback = Fallback(**{kind: what}, on_declined=on_declined)
                policies = (SHUT,) if lines is None else (Retry(attempts=2, backoff=Constant(0)),)
                name = "acme, even of a no" if on_declined else "acme"
                pipeline = piped(fallback, *policies, effect=effect, key=lambda *_: "pay_1", name=name)
            except ConfigurationError:
                continue
            yield fallback, pipeline, Provider(*(line and line() for line in lines or ()))


def asked_for(pipeline: Any) -> bool:
    """Return whether its owner wants a no to be replaced."""
    return bool(pipeline.name.endswith("even of a no"))


def told(effect: Effect, provider: Provider) -> Any:
    """Return how the same call ends where nothing stands in for it."""
    policies = (SHUT,) if not provider.script else (Retry(attempts=2, backoff=Constant(0)),)
    return ended("sync", piped(Fallback(translate=lambda _: None), *policies, effect=effect, key=lambda *_: "pay_1"), provider)


# ---------------------------------------------------------------- the laws


def law_money_is_only_ever_called_moved_by_the_provider() -> None:
    for fallback, pipeline, provider in worlds(MONEY):
        bare = told(pipeline._plan.effect, Provider(*provider.script))
        outcome = ended("sync", pipeline, provider)
        stood_in = isinstance(outcome, Ok) and not isinstance(bare, Ok)
        assert not stood_in or (fallback.kind == "pending" and isinstance(bare, Refused | Failed)), (fallback.kind, bare)


def law_what_may_have_moved_stays_unknown() -> None:
    for fallback, pipeline, provider in worlds(MONEY):
        bare = told(pipeline._plan.effect, Provider(*provider.script))
        assert isinstance(ended("sync", pipeline, provider), Unknown) == isinstance(bare, Unknown), fallback.kind


def law_an_answer_is_marked_exactly_where_the_provider_did_not_give_it() -> None:
    for fallback, pipeline, provider in worlds(list(Effect)):
        bare = told(pipeline._plan.effect, Provider(*provider.script))
        outcome = ended("sync", pipeline, provider)
        if isinstance(outcome, Ok):
            assert (outcome.fallback is None) == isinstance(bare, Ok), fallback.kind


def law_a_no_is_never_replaced_unless_that_was_asked_for() -> None:
    for fallback, pipeline, provider in worlds(list(Effect)):
        bare = told(pipeline._plan.effect, Provider(*provider.script))
        if isinstance(bare, Declined) and not asked_for(pipeline):
            assert isinstance(ended("sync", pipeline, provider), Declined), fallback.kind


def law_only_the_providers_own_young_answer_to_the_same_question_is_given_again() -> None:
    chance = Random(7)
    for _ in range(3000 if os.environ.get("FINRESILIENCE_DEEP") else 30):
        _walk(chance)


def _walk(chance: Random) -> None:
    """Ask three questions in turns of a provider that is up, down or says no, and hold each answer against what was said last."""
    clock, truth = still(), dict[str, tuple[float, str]]()
    fallback = Fallback(last_good=LastGood(max_age=10.0, key=lambda question: question, at_most=2))
    pipeline = piped(fallback, clock=clock)
    for number in range(60):
        question, line = chance.choice("abc"), chance.choice(["ok", "down", "down", "no"])
        clock.advance(chance.random() * 6)
        now, answer = clock.monotonic(), f"{question}{number}"
        says: Any = {"ok": answer, "down": Down(), "no": No()}[line]
        outcome = pipeline.outcome(Provider(says).charge, question)
        if line == "ok":
            truth[question] = (now, answer)
        elif line == "no":
            truth.pop(question, None)
        elif isinstance(outcome, Ok):
            began, last = truth.get(question, (-inf, "nothing"))
            assert outcome.value == last
            assert outcome.fallback is not None
            assert outcome.fallback.age == now - began <= 10.0
        assert fallback.statistics()["kept"] <= 2


LAWS = [
    law_money_is_only_ever_called_moved_by_the_provider,
    law_what_may_have_moved_stays_unknown,
    law_an_answer_is_marked_exactly_where_the_provider_did_not_give_it,
    law_a_no_is_never_replaced_unless_that_was_asked_for,
    law_only_the_providers_own_young_answer_to_the_same_question_is_given_again,
]


@pytest.mark.parametrize("law", LAWS)
def test_the_law_holds(law: Any) -> None:
    law()


# ---------------------------------------------------------------- nothing of a call is kept


class Card:
    """A secret that must not outlive its call."""


@pytest.fixture
def without_the_collector() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def raising(error: type[Exception]) -> Any:
    def stand_in(*_: Any) -> Any:
        raise error

    return stand_in


STANDING: dict[str, Any] = {
    "value": {"value": 1},
    "function": {"function": lambda *_: 1},
    "function that fails": {"function": raising(ValueError)},
    "last_good": {"last_good": LastGood(max_age=10.0, key=lambda *_: "a")},
    "translate": {"translate": lambda error: ValueError()},
    "translate that fails": {"translate": raising(ValueError)},
    "pending": {"pending": lambda *_: 1},
    "pending that fails": {"pending": raising(Down)},
    "pending in doubt": {"pending": raising(Lost)},
    "mark that fails": {"value": 1, "mark": raising(ValueError)},
}


@pytest.mark.usefixtures("without_the_collector")
@pytest.mark.parametrize("form", ["sync", "asyncio", "trio"])
@pytest.mark.parametrize("kind", STANDING)
@pytest.mark.parametrize("error", [None, Down, Lost, No])
def test_nothing_of_a_call_is_kept_alive(form: str, kind: str, error: type[Exception] | None) -> None:
    effect = Effect.READ if {"value", "function", "last_good"} & set(STANDING[kind]) else Effect.UNSAFE
    pipeline = piped(Fallback(**STANDING[kind]), effect=effect)

    def charge(_: Card) -> str:
        if error is not None:
            raise error
        return "paid"

    async def acharge(card: Card) -> str:
        return charge(card)

    def call() -> ref[Card]:
        card = Card()
        pipeline.outcome(charge, card)
        return ref(card)

    async def acall() -> ref[Card]:
        card = Card()
        await pipeline.aoutcome(acharge, card)
        return ref(card)

    async def world() -> bool:
        watched = await acall()
        return watched() is None  # looked at in here: the end of a loop has circles of its own

    assert call()() is None if form == "sync" else on(form, world)


# ---------------------------------------------------------------- the saboteurs


def it_stands_in_for_an_unknown(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(room, "ends_of", lambda kind, *, on_declined: (Refused, Failed, Unknown))


def it_stands_in_for_a_no(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(room, "ends_of", lambda kind, *, on_declined: (Refused, Failed, Declined))


def it_asks_nobody_about_the_effect(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Fallback, "check", lambda self, effect: None)


def it_does_not_mark(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(room, "stand_in", lambda answer, age, outcome: (Ok(answer), Stale(age, "")))


def it_translates_an_unknown_into_a_failure(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Fallback, "_translated", lambda self, plan, outcome: Failed(RuntimeError()))


def it_knows_no_age(patch: pytest.MonkeyPatch) -> None:
    init = Answers.__init__
    patch.setattr(Answers, "__init__", lambda self, *, max_age, at_most: init(self, max_age=inf, at_most=at_most))


def it_has_one_answer_for_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LastGood, "question", lambda self, args, kwargs: "whatever")


def it_has_no_bound(patch: pytest.MonkeyPatch) -> None:
    init = Answers.__init__
    patch.setattr(Answers, "__init__", lambda self, *, max_age, at_most: init(self, max_age=max_age, at_most=10**6))


def it_hears_no_no(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Answers, "forget", lambda self, key, *, began: None)


@each_kill(
    (it_stands_in_for_an_unknown, law_what_may_have_moved_stays_unknown),
    (it_stands_in_for_an_unknown, law_money_is_only_ever_called_moved_by_the_provider),
    (it_stands_in_for_a_no, law_money_is_only_ever_called_moved_by_the_provider),
    (it_stands_in_for_a_no, law_a_no_is_never_replaced_unless_that_was_asked_for),
    (it_asks_nobody_about_the_effect, law_money_is_only_ever_called_moved_by_the_provider),
    (it_does_not_mark, law_an_answer_is_marked_exactly_where_the_provider_did_not_give_it),
    (it_translates_an_unknown_into_a_failure, law_what_may_have_moved_stays_unknown),
    (it_knows_no_age, law_only_the_providers_own_young_answer_to_the_same_question_is_given_again),
    (it_has_one_answer_for_all, law_only_the_providers_own_young_answer_to_the_same_question_is_given_again),
    (it_has_no_bound, law_only_the_providers_own_young_answer_to_the_same_question_is_given_again),
    (it_hears_no_no, law_only_the_providers_own_young_answer_to_the_same_question_is_given_again),
)
def test_a_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
