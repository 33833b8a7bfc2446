"""Did it happen? What an inquiry may conclude, and what it knows and tells."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any
from weakref import ref

import anyio
import pytest

from finresilience import (
    Declined,
    Effect,
    ExpiredError,
    Failed,
    Found,
    InquiryAnswered,
    NotFound,
    Ok,
    OutcomeUnknown,
    Pipeline,
    Timeout,
    Unknown,
    UnknownOutcomeError,
    current_key,
    current_reference,
    idempotency_key,
    remaining,
)
from finresilience.policies.inquiry import Inquiry
from tests.laws.worlds import RULES, Lost, No, Provider, both_loops, guarded, on, still

if TYPE_CHECKING:
    from finresilience import Event

from tests.policies.asking import ABSENT, BOTH, VAGUE, Receipt, acme, asked, ending

# --- what it concludes: the same by thread and by task -------------------------------------------------------------


@BOTH
def test_found_ends_it_with_what_the_provider_says(form: str) -> None:
    outcome, asks, pipeline = ending(form, Found("receipt"))
    assert isinstance(outcome, Ok)
    assert (outcome.unwrap(), asks) == ("receipt", 1)
    assert pipeline.statistics()["resolved"] == 1


@BOTH
def test_not_found_is_believed_at_the_last_ask_only(form: str) -> None:
    outcome, asks, _ = ending(form, ABSENT, ABSENT, ABSENT)
    assert (type(outcome), type(outcome.error), asks) == (Failed, Lost, 3)
    outcome, asks, _ = ending(form, ABSENT, ABSENT, Found("receipt"))  # the inquiry lagged behind the books
    assert (type(outcome), asks) == (Ok, 3)


@BOTH
def test_not_found_and_then_no_answer_stays_unknown(form: str) -> None:
    outcome, asks, pipeline = ending(form, ABSENT, ABSENT, VAGUE)
    assert (type(outcome), asks) == (Unknown, 3)
    assert pipeline.statistics()["resolved"] == 0


@BOTH
def test_an_ask_that_fails_tells_nothing_and_the_next_one_is_made(form: str) -> None:
    outcome, asks, _ = ending(form, OSError(), No(), Found("receipt"))
    assert (type(outcome), asks) == (Ok, 3)
    outcome, asks, _ = ending(form, ABSENT, ABSENT, OSError())
    assert (type(outcome), asks) == (Unknown, 3)


@BOTH
def test_an_answer_that_is_no_answer_tells_nothing(form: str) -> None:
    outcome, asks, _ = ending(form, None, "receipt", {"status": "ok"})
    assert (type(outcome), asks) == (Unknown, 3)


@BOTH
@pytest.mark.parametrize("status", ["declined", "fined"])
def test_a_declined_answer_is_found_as_declined(form: str, status: str) -> None:
    receipt = Receipt(status)
    outcome, asks, _ = ending(form, Found(receipt))
    assert (type(outcome), asks) == (Declined, 1)
    assert outcome.value is receipt


@BOTH
@pytest.mark.parametrize("status", ["busy", "pending"])
def test_what_is_found_but_tells_nothing_is_asked_about_again_and_counts_as_nothing(form: str, status: str) -> None:
    outcome, asks, pipeline = ending(form, *[Found(Receipt(status))] * 3)
    assert (type(outcome), asks) == (Unknown, 3)
    assert pipeline.statistics()["resolved"] == 0


@BOTH
def test_a_call_that_ended_unknown_by_its_answer_and_was_never_seen_ends_with_that_answer(form: str) -> None:
    answer = Receipt("pending")
    pipeline = acme(clock=still() if form == "sync" else None)
    pipeline.inquiry(schedule=(1,))(lambda: ABSENT)

    async def charge() -> Receipt:
        return answer

    outcome = pipeline.outcome(lambda: answer) if form == "sync" else on(form, pipeline.aoutcome, charge)
    assert isinstance(outcome, Failed)
    assert outcome.unwrap() is answer


# --- what it knows and what it tells -------------------------------------------------------------------------------


@BOTH
def test_it_gets_the_calls_arguments_and_knows_its_key_reference_and_time(form: str) -> None:
    seen: list[Any] = []
    pipeline = acme(
        Timeout(2.0),
        clock=still() if form == "sync" else None,
        effect=Effect.IDEMPOTENT,
        key=lambda payment, *, to: payment,
        reference=lambda payment, *, to: f"ref of {payment}",
    )

    @pipeline.inquiry(schedule=(1,))
    def find(payment: str, *, to: str) -> NotFound:
        seen.extend([payment, to, current_key(), current_reference(), remaining()])
        return ABSENT

    def charge(payment: str, *, to: str) -> None:
        raise Lost

    async def acharge(payment: str, *, to: str) -> None:
        raise Lost

    async def world() -> Any:
        return await pipeline.aoutcome(acharge, "pay_1", to="bob")

    outcome = pipeline.outcome(charge, "pay_1", to="bob") if form == "sync" else on(form, world)
    assert isinstance(outcome, Failed)
    assert seen == ["pay_1", "bob", "pay_1:acme", "ref of pay_1", 2.0]
    assert current_key() is None


def test_it_leaves_the_callers_context_as_it_was() -> None:
    with idempotency_key("pay_1"):
        asked(acme(), OSError(), Found("receipt"))
        assert current_key() == "pay_1"


@BOTH
def test_every_answer_is_told_and_so_is_an_outcome_that_stays_unknown(form: str) -> None:
    heard: list[Event] = []
    ending(form, ABSENT, OSError(), VAGUE, heard=heard)
    assert heard == [
        InquiryAnswered(name="acme", ask=1, answer="not_found", reference=None),
        InquiryAnswered(name="acme", ask=2, answer="failed", reference=None),
        InquiryAnswered(name="acme", ask=3, answer="still_unknown", reference=None),
        OutcomeUnknown(name="acme", attempts=1, error_type="Lost", reference=None),
    ]


@BOTH
def test_an_outcome_that_was_resolved_is_not_told_as_unknown(form: str) -> None:
    heard: list[Event] = []
    ending(form, Found("receipt"), heard=heard)
    assert heard == [InquiryAnswered(name="acme", ask=1, answer="found", reference=None)]


def test_an_answer_that_tells_nothing_is_named_where_it_stays_unknown() -> None:
    heard: list[Event] = []
    pipeline = acme(heard=heard)
    pipeline.inquiry(schedule=(1,))(lambda: VAGUE)
    pipeline.outcome(lambda: Receipt("pending"))
    assert [event.error_type for event in heard if isinstance(event, OutcomeUnknown)] == ["Receipt"]


def test_an_unknown_raises_from_the_callers_own_error_after_all_asks() -> None:
    pipeline = acme()
    pipeline.inquiry(schedule=(1,))(lambda: VAGUE)
    lost = Lost()

    @pipeline
    def charge() -> None:
        raise lost

    with pytest.raises(UnknownOutcomeError) as caught:
        charge()
    assert caught.value.__cause__ is lost


# --- saboteurs -----------------------------------------------------------------------------------------------------


def test_an_inquiry_that_believes_the_first_not_found_would_be_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    believed = Inquiry._known

    def gullible(self: Inquiry, plan: Any, call: Any, outcome: Any, answer: object, number: int) -> Any:
        return believed(self, plan, call, outcome, answer, len(self.schedule))

    monkeypatch.setattr(Inquiry, "_known", gullible)
    with pytest.raises((AssertionError, TypeError)):
        test_not_found_is_believed_at_the_last_ask_only("sync")


def test_an_inquiry_that_takes_any_verdict_for_a_decline_would_be_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finresilience.policies.inquiry._found", lambda plan, value: Declined(None, value=value))
    with pytest.raises(AssertionError):
        test_what_is_found_but_tells_nothing_is_asked_about_again_and_counts_as_nothing("sync", "pending")


@both_loops
def test_an_expired_attempt_that_was_applied_after_all_is_found(backend: str) -> None:
    pipeline = guarded(Effect.UNSAFE)
    booked: list[str] = []

    @pipeline.inquiry(schedule=(1, 5))
    async def find(payment: str) -> Any:
        return Found("receipt") if payment in booked else ABSENT

    async def charge(payment: str) -> None:
        booked.append(payment)
        await anyio.sleep(3600)

    async def world() -> Any:
        return await pipeline(charge)("pay_1")

    assert on(backend, world) == "receipt"


@both_loops
def test_an_expired_attempt_that_was_never_seen_fails_with_its_expiry(backend: str) -> None:
    pipeline = guarded(Effect.UNSAFE)
    pipeline.inquiry(schedule=(1, 5))(lambda: ABSENT)

    async def charge() -> None:
        await anyio.sleep(3600)

    outcome = on(backend, pipeline.aoutcome, charge)
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, ExpiredError)


def raised(error: OSError) -> None:
    raise type(error)


@pytest.mark.parametrize("answer", [Found("receipt"), ABSENT, VAGUE, OSError()], ids=["found", "absent", "vague", "failed"])
def test_an_inquiry_keeps_nothing_of_the_call_alive(answer: Any) -> None:
    seen: list[ref[Any]] = []

    def charge(card: Receipt) -> None:
        seen.append(ref(card))
        raise Lost

    def used() -> None:
        pipeline = acme()
        pipeline.inquiry(schedule=(0,))(lambda card: raised(answer) if isinstance(answer, OSError) else answer)
        pipeline.outcome(charge, Receipt("paid"))

    gc.disable()
    try:
        used()
        assert [watched() for watched in seen] == [None]
    finally:
        gc.enable()


def test_not_found_ends_a_call_whose_unknown_came_from_a_guard_further_in_by_the_error_behind_it() -> None:
    error = Lost()
    inner, outer = (Pipeline(name, classify=RULES, clock=still(), listeners=[]) for name in ("inner", "outer"))
    outer.inquiry(schedule=(1,))(lambda *_: NotFound())
    with pytest.raises(Lost) as caught:
        outer.call(inner(Provider(error).charge), "pay_1")
    assert caught.value is error
