"""One key, one request, one effect, one answer: how each end of the body ends the key, sync and in virtual time on asyncio and trio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from finresilience import (
    CircuitOpenError,
    ConfigurationError,
    Effect,
    Fallback,
    MissingKeyError,
    Money,
    Pipeline,
    UnknownOutcomeError,
    current_key,
    mark_sent,
)
from finresilience.durable.codec_declines import decline_codec
from finresilience.durable.codecs import json_codec
from finresilience.durable.idempotent_errors import (
    KeyIndeterminateError,
    KeyInProgressError,
    KeyMismatchError,
    ReplayedDeclineError,
    UnreadableReplayError,
)
from finresilience.durable.records import KeyState
from tests.durable.idempotents import FLAVOURS, LEASE, CardDeclinedError, DownError, LostError, Payment, Request, Till, paid

if TYPE_CHECKING:
    from collections.abc import Callable

BASES = [KeyboardInterrupt, SystemExit]


class TimeLimit(BaseException):
    """As a task queue raises it into a body that is too slow."""


@pytest.fixture(params=FLAVOURS)
def till(request: pytest.FixtureRequest) -> Till:
    return Till(request.param)


def raising(error: BaseException, *, sent: bool = False) -> Callable[[Request], Any]:
    def body(req: Request) -> Any:
        if sent:
            mark_sent()
        raise error

    return body


def _from_the_cache(answer: Payment) -> bool:
    return answer.reference.startswith("ref_")


def _without_its_note(answer: Payment) -> Payment:
    return Payment(answer.reference, answer.amount, None)


def _giving(what: object) -> Callable[[Request], object]:
    return lambda req: what


# ---------------------------------------------------------------- answers


def test_the_second_call_gets_the_first_answer_as_the_same_typed_value(till: Till) -> None:
    pay = till.operation(paid)
    assert pay(Request()) == pay(Request()) == Payment("ref_pay_1", Money("50.00", "USD"))
    assert len(till.runs) == 1
    assert till.states() == [KeyState.COMPLETED]


def test_another_request_under_the_same_key_is_never_a_replay(till: Till) -> None:
    pay = till.operation(paid)
    pay(Request())
    with pytest.raises(KeyMismatchError) as caught:
        pay(Request(amount=Money("5000.00", "USD")))
    assert caught.value.state is KeyState.COMPLETED
    assert len(till.runs) == 1
    assert "pay_1" not in str(caught.value)


def test_two_accounts_share_no_answer(till: Till) -> None:
    pay = till.operation(paid)
    pay(Request())
    pay(Request(account="acc_2"))
    assert len(till.runs) == 2


def test_two_operations_of_one_store_share_no_answer(till: Till) -> None:
    till.operation(paid)(Request())
    till.operation(paid, name="refund")(Request())
    assert len(till.runs) == 2


def test_keys_and_scopes_that_join_alike_are_still_two(till: Till) -> None:
    pay = till.operation(paid)
    pay(Request(payment_id="a:b", account="c"))
    pay(Request(payment_id="a", account="b:c"))
    assert len(till.runs) == 2


def test_what_the_body_calls_gets_a_key_that_is_derived_from_ours(till: Till) -> None:
    seen: list[str | None] = []
    acme = Pipeline("acme.charge", effect=Effect.IDEMPOTENT, clock=till.clock)

    def body(req: Request) -> Payment:
        seen.append(current_key())
        acme.call(lambda: seen.append(current_key()))
        return paid(req)

    till.operation(body)(Request())
    assert seen == ["pay_1:acc_1:pay", "pay_1:acc_1:pay:acme.charge"]


# ---------------------------------------------------------------- a no


def test_a_decline_is_stored_and_replayed_as_one(till: Till) -> None:
    pay = till.operation(raising(CardDeclinedError("insufficient_funds")))
    with pytest.raises(CardDeclinedError):
        pay(Request())
    with pytest.raises(ReplayedDeclineError) as caught:
        pay(Request())
    assert (caught.value.kind.rpartition(".")[2], caught.value.decline_code) == ("CardDeclinedError", "insufficient_funds")
    assert len(till.runs) == 1
    assert till.states() == [KeyState.FAILED_FINAL]


def test_a_decline_of_a_class_that_we_were_told_of_is_raised_again_as_itself(till: Till) -> None:
    pay = till.operation(raising(CardDeclinedError("51")), declines=decline_codec(CardDeclinedError))
    for _ in range(3):
        with pytest.raises(CardDeclinedError) as caught:
            pay(Request())
        assert caught.value.code == "51"
    assert len(till.runs) == 1


def test_an_answer_that_is_a_no_is_replayed_as_that_answer(till: Till) -> None:
    from finresilience import NON_RETRYABLE, ErrorClassifier

    no = ErrorClassifier(when=[(lambda subject: isinstance(subject, Payment) and subject.note == "declined", NON_RETRYABLE)])
    pay = till.operation(lambda req: Payment("", req.amount, "declined"), classify=no)
    assert pay(Request()) == pay(Request()) == Payment("", Money("50.00", "USD"), "declined")
    assert (len(till.runs), till.states()) == (1, [KeyState.FAILED_FINAL])


# ---------------------------------------------------------------- what did not happen, and what nobody knows


@pytest.mark.parametrize("error", [DownError(), CircuitOpenError("acme", "open", 5.0, 1, None)])
def test_what_surely_did_not_happen_gives_the_key_back_and_raises_the_callers_own_error(till: Till, error: Exception) -> None:
    pay = till.operation(raising(error))
    for _ in range(2):
        with pytest.raises(type(error)):
            pay(Request())
    assert (len(till.runs), till.states()) == (2, [])


def test_a_no_of_our_own_is_no_answer_of_the_providers(till: Till) -> None:
    with pytest.raises(MissingKeyError):
        till.operation(raising(MissingKeyError("acme has no key")))(Request())
    assert till.states() == []


def test_what_may_have_happened_is_never_run_again(till: Till) -> None:
    pay = till.operation(raising(LostError()))
    with pytest.raises(UnknownOutcomeError):
        pay(Request())
    till.advance(30 * 86400)
    for _ in range(2):
        with pytest.raises(UnknownOutcomeError) as caught:
            pay(Request())
        assert isinstance(caught.value.__cause__, KeyIndeterminateError)
        assert caught.value.__cause__.record.reason == "outcome unknown: LostError"
    assert len(till.runs) == 1


def test_a_refusal_after_something_was_sent_tells_nothing_of_it(till: Till) -> None:
    pay = till.operation(raising(CircuitOpenError("globex", "open", 5.0, 1, None), sent=True), marks_sent=True)
    with pytest.raises(UnknownOutcomeError):
        pay(Request())
    assert till.states() == [KeyState.INDETERMINATE]


@pytest.mark.parametrize("kind", [*BASES, TimeLimit])
def test_an_exit_in_the_body_leaves_a_doubt_and_passes_through(till: Till, kind: type[BaseException]) -> None:
    stop = kind()

    def pay() -> None:
        with pytest.raises(kind) as caught:
            if till.flavour == "sync":
                till.operation(raising(stop))(Request())
            else:
                till.run(until_it_stops)
        assert caught.value is stop

    made = till.made(name="exits")

    async def until_it_stops() -> None:
        async def body(req: Request) -> Payment:
            raise stop

        try:
            await made(body)(Request())
        except kind as error:  # a loop would end in it, which is no part of the law
            assert error is stop
            seen.append(error)

    seen: list[BaseException] = []
    if till.flavour == "sync":
        pay()
    else:
        till.run(until_it_stops)
        assert seen == [stop]
    assert till.states() == [KeyState.INDETERMINATE]


@pytest.mark.parametrize(("sent", "left"), [(False, []), (True, [KeyState.INDETERMINATE])])
def test_who_marks_what_he_sends_gives_the_key_back_if_he_is_stopped_before(till: Till, sent: bool, left: list[KeyState]) -> None:
    async def stopped() -> None:
        async def body(req: Request) -> Payment:
            raising(TimeLimit(), sent=sent)(req)
            return paid(req)

        with pytest.raises(TimeLimit):
            await till.made(marks_sent=True)(body)(Request())

    if till.flavour == "sync":
        with pytest.raises(TimeLimit):
            till.operation(raising(TimeLimit(), sent=sent), marks_sent=True)(Request())
    else:
        till.run(stopped)
    assert till.states() == left


# ---------------------------------------------------------------- a result in hand


def test_an_answer_that_cannot_be_encoded_is_returned_and_its_key_is_never_run_again(till: Till) -> None:
    odd = object()
    pay = till.operation(lambda req: odd, codec=json_codec())
    assert pay(Request()) is odd
    assert till.events().count("AnswerNotKept") == 1
    with pytest.raises(UnknownOutcomeError) as caught:
        pay(Request())
    cause = caught.value.__cause__
    assert isinstance(cause, KeyIndeterminateError)
    assert "it happened, but its answer could not be kept" in cause.record.reason
    assert len(till.runs) == 1


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_an_answer_that_is_too_long_for_the_store_is_returned_and_its_key_is_never_run_again(flavour: str) -> None:
    till = Till(flavour, max_response=10)
    pay = till.operation(paid)
    assert pay(Request()) == paid(Request())
    assert till.states() == [KeyState.INDETERMINATE]


def test_a_no_that_cannot_be_kept_is_raised_all_the_same(till: Till) -> None:
    def locked(data: bytes, about: bytes) -> bytes:
        raise OSError

    pay = till.operation(raising(CardDeclinedError("51")), seal=(locked, locked))
    with pytest.raises(CardDeclinedError):
        pay(Request())
    assert till.states() == [KeyState.INDETERMINATE]


def test_an_answer_that_stands_in_is_returned_and_not_kept(till: Till) -> None:
    pay = till.operation(paid, provisional=_from_the_cache)
    assert pay(Request()) == paid(Request())
    assert till.states() == [KeyState.INDETERMINATE]


def test_a_plain_answer_that_a_fallback_gave_for_money_is_not_kept(till: Till) -> None:
    def down(_: Any) -> str:
        raise ConnectionRefusedError

    acme = Pipeline("acme", Fallback(pending=lambda *_: "accepted"), effect=Effect.IDEMPOTENT, clock=till.clock)

    def body(req: Request) -> Any:
        return acme.call(down, req)

    assert till.operation(body)(Request()) == "accepted"
    assert till.states() == [KeyState.INDETERMINATE]


def test_a_cached_rate_inside_does_not_make_a_payment_provisional(till: Till) -> None:
    def down() -> str:
        raise ConnectionRefusedError

    rates = Pipeline("rates", Fallback(value="1.08"), effect=Effect.READ, clock=till.clock)

    def body(req: Request) -> Any:
        rates.call(down)
        return paid(req)

    till.operation(body)(Request())
    assert till.states() == [KeyState.COMPLETED]


def test_an_outcome_that_a_fallback_gave_is_not_kept(till: Till) -> None:
    rates = Pipeline("rates", Fallback(value=1), effect=Effect.READ, clock=till.clock)

    def body(req: Request) -> Any:
        return rates.outcome(raising(DownError()), req)

    assert till.operation(body)(Request()).fallback is not None
    assert till.states() == [KeyState.INDETERMINATE]


@pytest.mark.parametrize("body", [LostError, DownError])
def test_an_outcome_that_is_handed_on_ends_the_key_by_what_it_says(till: Till, body: type[Exception]) -> None:
    from tests.durable.idempotents import RULES

    acme = Pipeline("acme", classify=RULES, clock=till.clock)
    till.operation(lambda req: acme.outcome(raising(body()), req))(Request())
    assert till.states() == ([KeyState.INDETERMINATE] if body is LostError else [])


# ---------------------------------------------------------------- replays that cannot be read


def test_a_stored_answer_of_another_schema_says_that_the_effect_happened(till: Till) -> None:
    till.operation(lambda req: {"old": 1}, codec=json_codec())(Request())
    with pytest.raises(UnreadableReplayError, match="completed") as caught:
        till.operation(paid)(Request())
    assert caught.value.record.response == b'{"old":1}'
    assert "HAPPENED" in (UnreadableReplayError.__doc__ or "")
    assert len(till.runs) == 1


def test_what_is_sealed_is_not_read_in_the_table_and_replays(till: Till) -> None:
    def crossed(data: bytes, about: bytes) -> bytes:
        return bytes(byte ^ about[at % len(about)] for at, byte in enumerate(data))

    pay = till.operation(paid, seal=(crossed, crossed))
    assert pay(Request()) == pay(Request())
    assert b"ref_pay_1" not in till.records()[0].response
    assert len(till.runs) == 1


def test_what_is_redacted_is_not_stored_and_the_first_caller_has_it(till: Till) -> None:
    pay = till.operation(lambda req: Payment("ref", req.amount, "4242"), redact=_without_its_note)
    assert (pay(Request()).note, pay(Request()).note) == ("4242", None)


# ---------------------------------------------------------------- before the body


@pytest.mark.parametrize(("key", "error"), [(None, MissingKeyError), ("", ConfigurationError), (7, ConfigurationError)])
def test_a_call_without_a_key_is_not_made(till: Till, key: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        till.operation(paid, key=_giving(key))(Request())
    assert till.runs == []


def test_a_call_of_nobody_is_not_made(till: Till) -> None:
    with pytest.raises(ConfigurationError):
        till.operation(paid, scope=_giving(None))(Request())
    assert till.runs == []


def test_who_comes_second_is_told_for_how_long_the_first_may_take(till: Till) -> None:
    pay = till.operation(paid)
    till.claimed_by_another()
    with pytest.raises(KeyInProgressError) as caught:
        pay(Request())
    assert caught.value.retry_after == LEASE
    assert till.runs == []


def test_who_waits_gets_the_answer_of_an_heir_once_the_lease_has_run_out(till: Till) -> None:
    pay = till.operation(paid, wait=LEASE * 2, rerun_within=LEASE * 10)
    till.claimed_by_another()
    assert pay(Request()) == paid(Request())
    assert till.clock.monotonic() == pytest.approx(LEASE, abs=1.01)


# ---------------------------------------------------------------- retention


def test_an_operation_forgets_its_own_answers_and_nobody_elses(till: Till) -> None:
    from finresilience.durable.idempotent import operation_of

    made = till.made(keep=100.0)
    fn = made(paid) if till.flavour == "sync" else made(_awaited(paid))
    assert operation_of(fn) is made
    till.run(fn, Request()) if till.flavour != "sync" else fn(Request())
    till.operation(paid, name="refund")(Request())
    till.advance(101)
    gone = made.purge() if till.flavour == "sync" else till.run(made.purge)
    assert gone == 1
    assert [record.scope for record in till.records()] == ["refund"]


def _awaited(body: Callable[[Request], Any]) -> Any:
    async def fn(req: Request) -> Any:
        return body(req)

    return fn


def test_a_doubt_that_is_resolved_replays_what_it_was_resolved_to(till: Till) -> None:
    made = till.made()
    if till.flavour == "sync":
        pay = made(raising(LostError()))
    else:
        apay = made(_awaited(raising(LostError())))

        def pay(req: Request) -> Any:
            return till.run(apay, req)

    with pytest.raises(UnknownOutcomeError):
        pay(Request())
    [record] = till.records()
    told = {"evidence": "acme's report of Friday, line 12"}
    if till.flavour == "sync":
        made.resolve(record, paid(Request()), **told)
    else:
        till.run(lambda: made.resolve(record, paid(Request()), **told))
    assert pay(Request()) == paid(Request())


def test_a_doubt_that_is_resolved_as_a_no_replays_as_one(till: Till) -> None:
    made = till.made()
    fn = made(raising(LostError())) if till.flavour == "sync" else made(_awaited(raising(LostError())))

    def pay() -> Any:
        return fn(Request()) if till.flavour == "sync" else till.run(fn, Request())

    with pytest.raises(UnknownOutcomeError):
        pay()
    [record] = till.records()
    if till.flavour == "sync":
        made.resolve_declined(record, evidence="acme has never seen it")
    else:
        till.run(lambda: made.resolve_declined(record, evidence="acme has never seen it"))
    with pytest.raises(ReplayedDeclineError):
        pay()
