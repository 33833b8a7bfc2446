"""The last good answer: to the same question only, never older than it may be, never shown younger than it is."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from threading import Lock
from typing import Any

import anyio
import pytest

from finresilience import ConfigurationError, Declined, Effect, Failed, Ok
from finresilience.outcome import Stale
from finresilience.policies.fallback import Fallback, LastGood
from tests.laws.worlds import Down, No, Provider, on, still
from tests.policies.falling import each_form, ended, notes_of, piped


def first(question: Any = None, *_: Any) -> Any:
    return question


def kept(**more: Any) -> Fallback:
    settings: dict[str, Any] = {"max_age": 10.0, "key": first} | more
    return Fallback(last_good=LastGood(**settings))


class Reader:
    """A READ of a balance whose provider is asked in turns: an exception is raised, anything else is the answer."""

    def __init__(self, form: str, **more: Any) -> None:
        self.form, self.clock = form, still()
        self.fallback = kept(**more)
        self.pipeline = piped(self.fallback, clock=self.clock)

    def asks(self, question: Any, says: Any) -> Any:
        return ended(self.form, self.pipeline, Provider(says), question)

    def falls_back(self, question: Any) -> Any:
        """Return what is answered while the provider is down: the value, or None where there is none to give."""
        outcome = self.asks(question, Down())
        return outcome.value if isinstance(outcome, Ok) else None


@each_form
def test_the_last_good_answer_is_given_with_its_age(form: str) -> None:
    reader = Reader(form)
    reader.asks("a", "old")
    reader.asks("a", "new")
    reader.clock.advance(4)
    outcome = reader.asks("a", Down())
    assert isinstance(outcome, Ok)
    assert outcome.fallback is not None
    assert (outcome.value, outcome.fallback.age, outcome.fallback.reason) == ("new", 4.0, "Failed Down")


@each_form
def test_an_answer_is_given_up_to_its_greatest_age_and_never_beyond(form: str) -> None:
    reader = Reader(form)
    reader.asks("a", "old")
    reader.clock.advance(10)
    assert reader.falls_back("a") == "old"
    reader.clock.advance(0.001)
    assert reader.falls_back("a") is None
    assert reader.fallback.statistics()["kept"] == 0


@each_form
def test_with_none_to_give_the_outcome_stands_and_its_note_says_why(form: str) -> None:
    outcome = Reader(form).asks("a", error := Down())
    assert isinstance(outcome, Failed)
    assert notes_of(error) == ["finresilience: fallback (last_good=): no last good answer, there is none that is young enough"]


@each_form
@pytest.mark.parametrize(("one", "other"), [("a", "b"), (1, True), (1, 1.0), ((1, "a"), (True, "a")), ("1", 1)], ids=str)
def test_no_answer_is_given_to_another_question(form: str, one: Any, other: Any) -> None:
    reader = Reader(form)
    reader.asks(one, "mine")
    assert reader.falls_back(other) is None
    assert reader.falls_back(one) == "mine"


@each_form
def test_no_answer_crosses_from_one_pipeline_to_another(form: str) -> None:
    fallback = kept()
    one, other = (piped(fallback) for _ in range(2))
    ended(form, one, Provider("mine"), "a")
    assert isinstance(ended(form, other, Provider(Down()), "a"), Failed)


@each_form
def test_a_fallback_answer_is_never_kept_as_a_good_one(form: str) -> None:
    reader = Reader(form)
    reader.asks("a", "old")
    reader.clock.advance(6)
    assert reader.falls_back("a") == "old"
    reader.clock.advance(6)
    assert reader.falls_back("a") is None


def test_an_answer_that_a_stage_further_in_made_up_is_never_kept() -> None:
    fallback, made_up = kept(), Ok("made up")
    made_up.fallback = Stale(0.0, "Failed Down")
    outcome = fallback.around(piped(fallback)._plan, lambda: made_up, ("a",), {})
    assert outcome is made_up
    assert fallback.statistics()["kept"] == 0


@each_form
def test_a_no_forgets_the_answer_that_it_overtook(form: str) -> None:
    reader = Reader(form)
    reader.asks("a", "100.00")
    assert isinstance(reader.asks("a", No()), Declined)
    assert reader.falls_back("a") is None


@each_form
def test_at_most_so_many_are_kept_and_the_least_recently_used_gives_way(form: str) -> None:
    reader = Reader(form, at_most=2)
    reader.asks("a", 1)
    reader.asks("b", 2)
    assert reader.falls_back("a") == 1
    reader.asks("c", 3)
    assert [reader.falls_back(question) for question in "abc"] == [1, None, 3]


@each_form
def test_nobody_changes_the_answer_that_others_will_be_given(form: str) -> None:
    reader = Reader(form)
    reader.asks("a", says := {"balance": 100})
    says["balance"] = 0
    reader.falls_back("a")["balance"] = -1
    assert reader.falls_back("a") == {"balance": 100}


@each_form
@pytest.mark.parametrize("says", [iter([1, 2]), [Lock()]], ids=["read only once", "cannot be copied"])
def test_what_cannot_be_given_twice_is_not_kept_and_still_is_the_answer(form: str, says: Any) -> None:
    reader = Reader(form)
    outcome = reader.asks("a", says)
    assert isinstance(outcome, Ok)
    assert outcome.value is says
    assert reader.fallback.statistics()["kept"] == 0


class Vain:
    """A question that can be hashed but never compared."""

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise ValueError


def no_key(*_: Any) -> Any:
    raise LookupError


@each_form
@pytest.mark.parametrize("key", [no_key, lambda *_: None, lambda *_: [], lambda *_: Vain()], ids=["raises", "none", "no hash", "vain"])
def test_a_question_without_a_usable_key_is_answered_all_the_same_and_has_no_fallback(form: str, key: Any) -> None:
    reader = Reader(form, key=key)
    assert isinstance(reader.asks("a", "good"), Ok)
    assert isinstance(reader.asks("a", "good"), Ok)
    assert isinstance(reader.asks("a", Down()), Failed)


@each_form
def test_a_long_text_is_kept_as_a_digest_and_still_tells_questions_apart(form: str) -> None:
    reader = Reader(form)
    reader.asks("a" * 10_000, "mine")
    assert (reader.falls_back("a" * 10_000), reader.falls_back("a" * 10_001)) == ("mine", None)
    assert reader.fallback._answers is not None
    assert "a" * 300 not in repr(reader.fallback._answers._kept)


@each_form
def test_what_is_cleared_is_gone(form: str) -> None:
    reader = Reader(form)
    reader.asks("a", "old")
    reader.fallback.clear()
    assert reader.falls_back("a") is None


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_late_answer_does_not_replace_the_answer_to_a_later_call(backend: str) -> None:
    pipeline = piped(kept(), clock=None)

    async def read(_: str, seconds: float, says: str) -> str:
        await anyio.sleep(seconds)
        return says

    async def call(seconds: float, says: str) -> None:
        await pipeline.acall(read, "a", seconds, says)

    async def world() -> Any:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, 5.0, "before the payment")
            await anyio.sleep(1.0)
            tasks.start_soon(call, 1.0, "after the payment")
        return await pipeline.aoutcome(Provider(Down()).acharge, "a")

    outcome = on(backend, world)
    assert (outcome.value, outcome.fallback.age) == ("after the payment", 4.0)


def test_the_age_counts_from_the_beginning_of_the_call_that_was_answered() -> None:
    clock = still()
    pipeline = piped(kept(), clock=clock)

    def slow(_: str) -> str:
        clock.advance(3)
        return "read at the beginning"

    pipeline.call(slow, "a")
    outcome: Any = pipeline.outcome(Provider(Down()).charge, "a")
    assert outcome.fallback.age == 3.0


@pytest.mark.parametrize(
    "wrong", [{"max_age": 0}, {"max_age": float("inf")}, {"at_most": 0}, {"at_most": True}, {"key": "account"}], ids=str
)
def test_what_cannot_work_is_refused_where_it_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        kept(**wrong)


def test_clearing_where_nothing_is_kept_changes_nothing() -> None:
    fallback = Fallback(value=1, effect=Effect.READ)
    fallback.clear()
    assert fallback.statistics()["kept"] == 0
