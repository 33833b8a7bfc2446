"""The demo counts money: its books and its arithmetic must be beyond doubt. Nothing here sleeps or opens a socket."""

from __future__ import annotations

from dataclasses import replace

import pytest

from examples.payment_flow.books import Books
from examples.payment_flow.contest import Circuits, Run, Said, Told
from examples.payment_flow.script import ALWAYS, Fault, Payment, script
from examples.payment_flow.show import plain
from examples.payment_flow.story import tell
from examples.payment_flow.table import judge, quantile, rows, verdict
from finresilience import Money

PAYMENT = Payment("pay_1", "C1", 1000, "acme", Fault.NONE, 1, 0.0)


def books_with(fault: Fault, times: int = 1) -> Books:
    return Books([replace(PAYMENT, fault=fault, times=times)])


def debits(books: Books) -> int:
    return len(books.page()["entries"])


def test_the_seed_alone_tells_the_payments_and_their_faults():
    assert script(7, 500) == script(7, 500)
    assert script(7, 500) != script(8, 500)


def test_five_hundred_payments_meet_every_fault():
    assert {payment.fault for payment in script(7, 500)} == set(Fault)


def test_two_requests_under_one_key_debit_once_and_get_the_same_answer():
    books = books_with(Fault.NONE)
    answers = [books.take("pay_1", "k").status for _ in range(2)]
    assert (answers, debits(books)) == ([201, 201], 1)


def test_two_requests_without_a_key_debit_twice():
    books = books_with(Fault.NONE)
    books.take("pay_1", None)
    books.take("pay_1", None)
    assert debits(books) == 2


def test_accepting_in_silence_debits_and_the_next_request_under_the_key_hears_of_it():
    books = books_with(Fault.ACCEPT_SILENT)
    assert (books.take("pay_1", "k").status, debits(books), books.find("pay_1")) == (None, 1, "succeeded")
    assert (books.take("pay_1", "k").status, debits(books)) == (201, 1)


def test_a_provider_that_never_answers_still_debits_once_under_one_key():
    books = books_with(Fault.ACCEPT_SILENT, ALWAYS)
    assert [books.take("pay_1", "k").status for _ in range(3)] == [None] * 3
    assert debits(books) == 1


def test_a_late_booking_is_not_found_before_it_is_made_and_its_key_is_in_use():
    books = books_with(Fault.ACCEPT_LATE)
    first = books.take("pay_1", "k")
    assert (first.status, first.book_after is not None, books.find("pay_1")) == (None, True, None)
    assert books.take("pay_1", "k").status == 409
    books.book("pay_1", "k")
    assert (books.find("pay_1"), books.take("pay_1", "k").status, debits(books)) == ("succeeded", 201, 1)


@pytest.mark.parametrize(("fault", "status"), [(Fault.BUSY, 503), (Fault.RESET, -1), (Fault.HANG, None)], ids=str)
def test_what_was_not_applied_leaves_no_trace_and_works_the_next_time(fault, status):
    books = books_with(fault)
    assert (books.take("pay_1", "k").status, debits(books), books.find("pay_1")) == (status, 0, None)
    assert (books.take("pay_1", "k").status, debits(books)) == (201, 1)


@pytest.mark.parametrize(("fault", "status"), [(Fault.DECLINE, 402), (Fault.REFUSE_SILENT, None)], ids=str)
def test_a_refusal_debits_nobody_and_can_be_asked_about(fault, status):
    books = books_with(fault)
    assert (books.take("pay_1", "k").status, debits(books), books.find("pay_1")) == (status, 0, "declined")
    assert (books.take("pay_1", "k").status, debits(books)) == (402, 0)


def run_with(debited: int, said: Said, *, resolved: bool = False, name: str = "x") -> Run:
    entry = {"reference": "pay_1", "customer": "C1", "minor": 1000}
    return Run(name, {"pay_1": Told(said, resolved, 0.01)}, Circuits(), [{"entries": [entry] * debited, "attempts": {"pay_1": 3}}])


@pytest.mark.parametrize(
    ("debited", "said", "twice", "denied", "lost"),
    [
        (1, Said.PAID, 0, 0, 0),
        (0, Said.DECLINED, 0, 0, 0),
        (0, Said.FAILED, 0, 0, 0),
        (3, Said.PAID, 2000, 0, 0),
        (1, Said.FAILED, 0, 1000, 0),
        (1, Said.DECLINED, 0, 1000, 0),
        (3, Said.FAILED, 2000, 1000, 0),
        (0, Said.PAID, 0, 0, 1000),
        (1, Said.UNKNOWN, 0, 0, 0),
    ],
)
def test_the_table_counts_every_debit_too_many_denied_or_missing(debited, said, twice, denied, lost):
    result = judge(run_with(debited, said), [PAYMENT])
    assert [result.twice.amount, result.denied.amount, result.lost.amount] == [Money.minor(n, "USD") for n in (twice, denied, lost)]
    assert result.wrong == Money.minor(twice + denied + lost, "USD")


def test_a_payment_that_stays_unknown_is_shown_and_is_not_an_answer():
    result = judge(run_with(1, Said.UNKNOWN), [PAYMENT])
    assert (result.open_questions.customers, result.answered) == (1, 0.0)


def test_the_verdict_does_not_hide_our_own_errors():
    bad, good = judge(run_with(2, Said.PAID), [PAYMENT]), judge(run_with(1, Said.PAID, name="ours"), [PAYMENT])
    assert verdict([bad, good]).endswith("nothing by ours.")
    assert "10.00 USD by x: that is a defect" in verdict([good, bad])


def test_each_row_of_the_table_has_an_answer_from_each_contestant_and_lines_up():
    results = [judge(run_with(count, Said.PAID), [PAYMENT]) for count in (1, 2, 3)]
    assert {len(row) for row in rows(results)} == {4}
    assert len({len(line) for line in plain(("", "a", "b", "c"), rows(results))}) == 1


@pytest.mark.parametrize(("share", "value"), [(0.5, 2.0), (0.95, 4.0), (0.25, 1.0), (1.0, 4.0)])
def test_a_quantile_is_a_value_that_was_measured(share, value):
    assert quantile([1.0, 2.0, 3.0, 4.0], share) == value


def test_the_story_of_an_unknown_payment_has_six_lines():
    payment = replace(PAYMENT, fault=Fault.ACCEPT_SILENT, times=ALWAYS)
    runs = [run_with(3, Said.FAILED), run_with(1, Said.FAILED), run_with(1, Said.PAID, resolved=True)]
    assert len(tell(runs, [payment])) == 6
