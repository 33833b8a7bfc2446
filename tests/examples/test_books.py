"""The demo counts money: its providers must do what their script says, and nothing else. Nothing here sleeps."""

from __future__ import annotations

import socket

import pytest

from examples.payment_flow.books import CHARGE, Books
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
from tests.examples.runs import payment_with


def books_with(fault: Fault, times: int = 1, *, name: str = ACME, work: float = 0.0, slow: float = 1.0) -> Books:
    return Books(name, [payment_with(fault, times, work=work, slow=slow)])


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


def test_two_requests_under_one_key_debit_once_and_get_the_same_answer() -> None:
    books = books_with(Fault.NONE)
    answers = [books.take("pay_1", "k").status for _ in range(2)]
    assert (answers, debits(books)) == ([201, 201], 1)


def test_two_requests_without_a_key_debit_twice() -> None:
    books = books_with(Fault.NONE)
    books.take("pay_1", None)
    books.take("pay_1", None)
    assert debits(books) == 2


def test_a_key_that_one_provider_knows_says_nothing_to_another() -> None:
    acme, globex = (books_with(Fault.NONE, name=name) for name in PROVIDERS)
    assert [books.take("pay_1", "k").status for books in (acme, globex)] == [201, 201]
    assert (debits(acme), debits(globex)) == (1, 1)


def test_a_fault_at_one_provider_is_none_at_the_other() -> None:
    globex = books_with(Fault.ACCEPT_SILENT, ALWAYS, name=GLOBEX)
    assert globex.take("pay_1", "k").status == 201


def test_accepting_in_silence_debits_and_the_next_request_under_the_key_hears_of_it() -> None:
    books = books_with(Fault.ACCEPT_SILENT)
    assert (books.take("pay_1", "k").status, debits(books), books.find("pay_1")) == (None, 1, "succeeded")
    assert (books.take("pay_1", "k").status, debits(books)) == (201, 1)


def test_a_provider_that_never_answers_still_debits_once_under_one_key() -> None:
    books = books_with(Fault.ACCEPT_SILENT, ALWAYS)
    assert [books.take("pay_1", "k").status for _ in range(3)] == [None] * 3
    assert debits(books) == 1


def test_a_late_booking_is_not_found_before_it_is_made_and_its_key_is_in_use() -> None:
    books = books_with(Fault.ACCEPT_LATE)
    first = books.take("pay_1", "k")
    assert (first.status, first.book_after, books.find("pay_1")) == (None, LAG, None)
    assert books.take("pay_1", "k").status == 409
    books.book("pay_1", "k")
    assert (books.find("pay_1"), books.take("pay_1", "k").status, debits(books)) == ("succeeded", 201, 1)


@pytest.mark.parametrize(("fault", "status"), [(Fault.BUSY, 503), (Fault.RESET, -1), (Fault.HANG, None)], ids=str)
def test_what_was_not_applied_leaves_no_trace_and_works_the_next_time(fault: Fault, status: int | None) -> None:
    books = books_with(fault)
    assert (books.take("pay_1", "k").status, debits(books), books.find("pay_1")) == (status, 0, None)
    assert (books.take("pay_1", "k").status, debits(books)) == (201, 1)


@pytest.mark.parametrize(("fault", "status"), [(Fault.DECLINE, 402), (Fault.REFUSE_SILENT, None)], ids=str)
def test_a_refusal_debits_nobody_and_can_be_asked_about(fault: Fault, status: int | None) -> None:
    books = books_with(fault)
    assert (books.take("pay_1", "k").status, debits(books), books.find("pay_1")) == (status, 0, "declined")
    assert (books.take("pay_1", "k").status, debits(books)) == (402, 0)


@pytest.mark.parametrize("key", ["k", None])
def test_a_slow_provider_books_at_once_and_is_as_slow_with_what_it_knows_already(key: str | None) -> None:
    books = books_with(Fault.NONE, work=0.25, slow=10.0)
    assert [books.take("pay_1", key).wait for _ in range(2)] == [2.5, 2.5]
    assert debits(books) == (1 if key else 2)


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
