"""The demo counts money: its providers must do what their script says, and nothing else. Nothing here sleeps."""

from __future__ import annotations

import socket

import pytest

from examples.payment_flow.books import CHARGE, KINDS, SLOW_ANSWER, Books, end_of, plan
from examples.payment_flow.contest import TIMEOUT
from examples.payment_flow.provider import hung_up
from examples.payment_flow.script import (
    ACME,
    ALWAYS,
    DECLINES,
    GLOBEX,
    LAG,
    PATIENCE,
    PROVIDERS,
    Fault,
    script,
    slow_stretch,
)
from finresilience.testing import ManualClock
from finresilience.testing.faults import FaultKind
from tests.examples.runs import payment_with


def books_with(
    fault: Fault, times: int = 1, *, name: str = ACME, work: float = 0.0, slow: float = 1.0, clock: ManualClock | None = None
) -> Books:
    return Books(name, [payment_with(fault, times, work=work, slow=slow)], clock or ManualClock())


def end(books: Books, key: str | None = "k") -> str:
    return end_of(books.take("pay_1", key))


def debits(books: Books) -> int:
    return len(books.page()["entries"])


def test_the_seed_alone_tells_the_payments_and_their_fates() -> None:
    assert script(7, 500) == script(7, 500)
    assert script(7, 500) != script(8, 500)


def test_five_hundred_payments_meet_every_fault() -> None:
    assert {payment.at(ACME).fault for payment in script(7, 500)} == set(Fault)


def test_a_card_that_acme_declines_is_no_good_at_globex_and_no_other_is_declined_there() -> None:
    payments = script(7, 500)
    assert all((p.at(ACME).fault in DECLINES) == (p.at(GLOBEX).fault is Fault.DECLINE) for p in payments)


def test_most_payments_meet_no_fault_at_globex_but_their_card() -> None:
    payments = script(7, 500)
    assert sum(p.at(GLOBEX).fault in {Fault.NONE, Fault.DECLINE} for p in payments) >= 450


@pytest.mark.parametrize("count", [1, 2, 10, 120, 500, 9999])
def test_only_acme_is_slow_and_only_in_the_middle(count: int) -> None:
    slow = {number for number, payment in enumerate(script(3, count)) if payment.at(ACME).slow > 1.0}
    assert slow == set(slow_stretch(count))
    assert all(payment.at(GLOBEX).slow == 1.0 for payment in script(3, count))
    assert count < 10 or (min(slow) > 0 and max(slow) < count - 1)


def test_a_late_booking_comes_before_the_provider_gives_up() -> None:
    assert LAG < PATIENCE


@pytest.mark.parametrize("fault", Fault, ids=str)
def test_nothing_is_carried_out_later_than_the_providers_promise(fault: Fault) -> None:
    books, lag = books_with(fault), LAG if fault is Fault.ACCEPT_LATE else 0.0
    assert not books.too_old("pay_1", PATIENCE - lag)
    assert books.too_old("pay_1", PATIENCE - lag + 0.1)


def test_two_requests_under_one_key_debit_once_and_get_the_same_answer() -> None:
    books = books_with(Fault.NONE)
    assert ([end(books) for _ in range(2)], debits(books)) == (["succeeded"] * 2, 1)


def test_two_requests_without_a_key_debit_twice() -> None:
    books = books_with(Fault.NONE)
    assert ([end(books, None) for _ in range(2)], debits(books)) == (["succeeded"] * 2, 2)


def test_a_key_that_one_provider_knows_says_nothing_to_another() -> None:
    acme, globex = (books_with(Fault.NONE, name=name) for name in PROVIDERS)
    assert [end(books) for books in (acme, globex)] == ["succeeded"] * 2
    assert (debits(acme), debits(globex)) == (1, 1)


def test_a_fault_at_one_provider_is_none_at_the_other() -> None:
    globex = books_with(Fault.ACCEPT_SILENT, ALWAYS, name=GLOBEX)
    assert end(globex) == "succeeded"


def test_a_fault_of_one_payment_is_none_of_another() -> None:
    payments = [payment_with(Fault.HANG), payment_with(Fault.NONE, reference="pay_2")]
    assert end_of(Books(ACME, payments, ManualClock()).take("pay_2", "k")) == "succeeded"


def test_accepting_in_silence_debits_and_the_next_request_under_the_key_hears_of_it() -> None:
    books = books_with(Fault.ACCEPT_SILENT)
    assert (end(books), debits(books), books.find("pay_1")) == ("silence", 1, "succeeded")
    assert (end(books), debits(books)) == ("succeeded", 1)


def test_a_provider_that_never_answers_still_debits_once_under_one_key() -> None:
    books = books_with(Fault.ACCEPT_SILENT, ALWAYS)
    assert [end(books) for _ in range(3)] == ["silence"] * 3
    assert debits(books) == 1


def test_a_late_booking_is_not_found_before_it_is_made_and_its_key_is_in_use() -> None:
    clock = ManualClock()
    books = books_with(Fault.ACCEPT_LATE, clock=clock)
    assert (end(books), books.find("pay_1"), debits(books)) == ("silence", None, 0)
    assert end(books) == "key_in_use"
    clock.advance(LAG)
    assert (books.find("pay_1"), end(books), debits(books)) == ("succeeded", "succeeded", 1)


@pytest.mark.parametrize(("fault", "how"), [(Fault.BUSY, "unavailable"), (Fault.RESET, "reset"), (Fault.HANG, "silence")], ids=str)
def test_what_was_not_applied_leaves_no_trace_and_works_the_next_time(fault: Fault, how: str) -> None:
    books = books_with(fault)
    assert (end(books), debits(books), books.find("pay_1")) == (how, 0, None)
    assert (end(books), debits(books)) == ("succeeded", 1)


@pytest.mark.parametrize("times", [1, 2])
def test_a_fault_strikes_as_often_as_the_script_says(times: int) -> None:
    books = books_with(Fault.RESET, times)
    assert [end(books) for _ in range(3)] == ["reset"] * times + ["succeeded"] * (3 - times)


def test_whoever_is_busy_says_for_how_long() -> None:
    receipt = books_with(Fault.BUSY).take("pay_1", "k").receipt
    assert receipt is not None
    assert (receipt.status, receipt.retry_after) == (503, 2.0)


@pytest.mark.parametrize("key", ["k", None])
@pytest.mark.parametrize(("fault", "how"), [(Fault.DECLINE, "declined"), (Fault.REFUSE_SILENT, "silence")], ids=str)
def test_a_refusal_debits_nobody_and_can_be_asked_about(fault: Fault, how: str, key: str | None) -> None:
    books = books_with(fault)
    assert (end(books, key), debits(books), books.find("pay_1")) == (how, 0, "declined")
    assert (end(books, key), debits(books)) == ("declined", 0)


@pytest.mark.parametrize("key", ["k", None])
def test_a_slow_provider_books_at_once_and_is_as_slow_with_what_it_knows_already(key: str | None) -> None:
    books = books_with(Fault.NONE, work=0.25, slow=10.0)
    assert [books.take("pay_1", key).wait for _ in range(2)] == [2.5, 2.5]
    assert debits(books) == (1 if key else 2)


def test_a_slow_answer_comes_late_but_in_time() -> None:
    assert books_with(Fault.SLOW, work=0.25).take("pay_1", "k").wait == SLOW_ANSWER < TIMEOUT
    assert books_with(Fault.SLOW, work=0.5, slow=10.0).take("pay_1", "k").wait == 5.0


def test_the_same_script_is_the_same_plan() -> None:
    assert plan(ACME, script(7, 500)) == plan(ACME, script(7, 500))
    assert {strike.kind for strike in plan(ACME, script(7, 500)).faults} == {*KINDS.values(), FaultKind.DECLINE}


def test_the_journal_holds_what_was_noted() -> None:
    books = books_with(Fault.NONE)
    books.note("pay_1", CHARGE, came=1.0, left=2.0, end="succeeded")
    assert books.page()["visits"] == [{"reference": "pay_1", "errand": "charge", "came": 1.0, "left": 2.0, "end": "succeeded"}]


def test_a_caller_that_waits_has_not_hung_up_and_one_that_closed_has() -> None:
    provider, caller = socket.socketpair()
    with provider:
        assert not hung_up(provider)
        caller.send(b"next request")
        assert not hung_up(provider)
        assert provider.recv(99) == b"next request"
        caller.close()
        assert hung_up(provider)
