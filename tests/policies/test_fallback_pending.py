"""Pending: the intent is recorded where the call surely did not happen, and nowhere else."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from typing import Any

import anyio
import pytest

from finresilience import (
    UNKNOWN,
    AttemptOverError,
    CallAbandoned,
    CircuitBreaker,
    ConfigurationError,
    Declined,
    Effect,
    ErrorClassifier,
    Event,
    Failed,
    Found,
    NotFound,
    Ok,
    OutcomeUnknown,
    Refused,
    Unknown,
    UnknownOutcomeError,
    current_key,
    mark_sent,
)
from finresilience.context import CallContext, current
from finresilience.events import FallbackUsed
from finresilience.outcome import Stale
from finresilience.policies.fallback import Fallback
from tests.laws.worlds import RULES, Down, Lost, No, Provider, on, still
from tests.policies.falling import each_form, ended, notes_of, piped, plainly

ACCEPTED = "accepted, pending"


class Book:
    """Where intents are recorded, or are not: by its script, as a provider plays its own."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.intents: list[Any] = []

    def record(self, outcome: Any, payment: str = "pay_1") -> Any:
        if self.script:
            raise self.script.pop(0)
        self.intents.append((payment, current_key()))
        return ACCEPTED


def paying(book: Book, *policies: Any, heard: list[Event] | None = None, **more: Any) -> Any:
    settings: dict[str, Any] = {"effect": Effect.IDEMPOTENT, "key": lambda payment: payment} | more
    return piped(Fallback(pending=book.record), *policies, heard=heard, **settings)


@each_form
def test_an_intent_is_recorded_where_the_call_surely_did_not_happen(form: str) -> None:
    book, heard = Book(), list[Event]()
    outcome = ended(form, paying(book, heard=heard, reference=lambda payment: payment), Provider(Down()), "pay_1")
    assert isinstance(outcome, Ok)
    assert (outcome.value, outcome.fallback) == (ACCEPTED, Stale(0.0, "Failed Down"))
    assert book.intents == [("pay_1", "pay_1:acme")]
    assert heard == [FallbackUsed(name="acme", kind="pending", age=0.0, instead_of="Failed Down", reference="pay_1")]


@each_form
def test_an_intent_is_recorded_where_we_refused_to_send(form: str) -> None:
    breaker = CircuitBreaker("acme", listeners=[])
    breaker.force_open()
    book, provider = Book(), Provider()
    assert plainly(form, paying(book, breaker), provider, "pay_1") == ACCEPTED
    assert (len(book.intents), provider.attempts) == (1, 0)


@each_form
@pytest.mark.parametrize(("error", "end"), [(Lost, Unknown), (No, Declined)])
@pytest.mark.parametrize("effect", [effect for effect in Effect if effect is not Effect.READ])
def test_no_intent_is_recorded_where_it_may_have_happened_or_the_answer_is_no(
    form: str, error: type[Exception], end: type[object], effect: Effect
) -> None:
    book = Book()
    outcome = ended(form, paying(book, effect=effect), Provider(error()), "pay_1")
    assert isinstance(outcome, end)
    assert book.intents == []


@pytest.mark.parametrize(("answer", "intents"), [(Found("paid"), 0), (NotFound(), 1)])
def test_an_inquiry_is_heard_before_an_intent_is_recorded(answer: Any, intents: int) -> None:
    book = Book()
    pipeline = paying(book)
    pipeline.inquiry(schedule=(1,))(lambda *_: answer)
    assert isinstance(pipeline.outcome(Provider(Lost()).charge, "pay_1"), Ok)
    assert len(book.intents) == intents


@each_form
def test_a_recording_that_surely_failed_lets_the_outcome_stand(form: str) -> None:
    outcome = ended(form, paying(Book(Down())), Provider(error := Down()), "pay_1")
    assert isinstance(outcome, Failed)
    assert notes_of(error) == ["finresilience: fallback (pending=): pending= raised Down, so the outcome stands"]


@each_form
@pytest.mark.parametrize("doubt", [Lost(), ValueError(), UnknownOutcomeError("db", attempts=1, happened="", held_back="")], ids=repr)
def test_a_recording_of_which_nobody_knows_makes_the_call_unknown(form: str, doubt: Exception) -> None:
    heard: list[Event] = []
    outcome = ended(form, paying(Book(doubt), heard=heard), Provider(Down()), "pay_1")
    assert isinstance(outcome, Unknown)
    assert outcome.error.__cause__ is doubt
    assert "while its intent was being recorded" in str(outcome.error)
    assert heard == [OutcomeUnknown(name="acme", attempts=1, error_type=type(doubt).__name__, reference=None)]


@each_form
def test_an_intent_whose_mark_fails_is_recorded_all_the_same_so_the_call_is_unknown(form: str) -> None:
    def broken(*_: Any) -> Any:
        raise Down

    book = Book()
    pipeline = piped(Fallback(pending=book.record, mark=broken), effect=Effect.UNSAFE)
    assert isinstance(ended(form, pipeline, Provider(Down()), "pay_1"), Unknown)
    assert len(book.intents) == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_recording_that_was_cancelled_from_outside_is_told_as_abandoned(backend: str) -> None:
    heard: list[Event] = []

    async def record(*_: Any) -> str:
        await anyio.sleep(100)
        return ACCEPTED

    pipeline = piped(Fallback(pending=record), effect=Effect.UNSAFE, heard=heard, clock=None, reference=lambda *_: "pay_1")

    async def world() -> None:
        with anyio.move_on_after(1):
            await pipeline.aoutcome(Provider(Down()).acharge)

    on(backend, world)
    assert heard == [CallAbandoned(name="acme", attempt=1, ran=None, reference="pay_1")]
    assert pipeline.ends.abandoned == 1


@pytest.mark.parametrize("effect", [Effect.READ, Effect.UNSAFE])
def test_a_function_that_was_interrupted_is_told_as_abandoned_only_where_it_recorded_an_intent(effect: Effect) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    heard: list[Event] = []
    fallback = Fallback(function=interrupted) if effect is Effect.READ else Fallback(pending=interrupted)
    with pytest.raises(KeyboardInterrupt):
        piped(fallback, effect=effect, heard=heard).call(Provider(Down()).charge)
    assert heard == ([] if effect is Effect.READ else [CallAbandoned(name="acme", attempt=1, ran=None, reference=None)])


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_cleans_up_after_a_cancellation_does_not_hide_that_the_recording_is_in_doubt(backend: str) -> None:
    async def record(*_: Any) -> str:
        try:
            await anyio.sleep(100)
        finally:
            raise Down  # the connection is closed behind it

    async def world() -> Any:
        with anyio.CancelScope() as scope:
            scope.cancel()
            return await piped(Fallback(pending=record), effect=Effect.UNSAFE, clock=None).aoutcome(down)
        return None

    async def down(*_: Any) -> Any:
        raise Down

    outcome = on(backend, world)
    assert isinstance(outcome, Unknown)


def test_an_attempt_that_was_given_up_records_nothing_beside_the_one_that_took_its_place() -> None:
    book = Book()

    def late() -> Any:
        outside = current.get()
        assert outside is not None
        outside.over = True  # as a caller does who gave us up
        return paying(book).outcome(Provider(Down()).charge, "pay_1")

    assert isinstance(piped(Fallback(value=1), clock=still()).call(late), Failed)
    assert book.intents == []


def test_a_call_that_was_told_it_is_over_records_nothing() -> None:
    book = Book()
    outcome = paying(book).outcome(Provider(AttemptOverError()).charge, "pay_1")
    assert isinstance(outcome, Refused)
    assert book.intents == []


def test_what_a_call_outside_may_have_sent_by_recording_is_known_outside() -> None:
    outside = CallContext(None, still())
    token = current.set(outside)
    try:
        piped(Fallback(pending=lambda *_: mark_sent()), effect=Effect.UNSAFE).outcome(Provider(Down()).charge)
    finally:
        current.reset(token)
    assert outside.sent


def test_a_read_has_no_intent_to_record() -> None:
    with pytest.raises(ConfigurationError, match="a READ has none"):
        piped(Fallback(pending=Book().record), effect=Effect.READ)


def test_the_rules_of_the_call_say_whether_a_recording_is_in_doubt() -> None:
    rules = ErrorClassifier({Down: UNKNOWN}) | RULES
    outcome = paying(Book(), classify=rules).outcome(Provider(Down()).charge, "pay_1")
    assert isinstance(outcome, Unknown)
