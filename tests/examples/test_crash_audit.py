"""The audit of the second act: silent on books that balance, and on every book that was spoilt it says what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from examples.payment_flow.crash.audit import unknown, wrongs
from examples.payment_flow.crash.customers import Told
from examples.payment_flow.crash.report import SHOWN, meanwhile, rows, verdict
from tests.examples.crash_books import balanced, ended

if TYPE_CHECKING:
    from collections.abc import Callable

    from examples.payment_flow.crash.books import Books


def charged_twice(books: Books) -> None:
    books.acme *= 2


def never_charged(books: Books) -> None:
    books.acme.clear()


def charged_too_much(books: Books) -> None:
    books.acme[0] = ("a", 1001)


def charged_though_declined(books: Books) -> None:
    books.acme.append(("b", 700))


def charged_for_nobody(books: Books) -> None:
    books.acme.append(("c", 500))


def lost_by_payments(books: Books) -> None:
    del books.payments["a"]


def still_open_and_charged(books: Books) -> None:
    books.payments["a"] = ("sending", 1000)
    books.told["a"] = Told(None, walked_away=True)


def another_amount_than_ordered(books: Books) -> None:
    books.payments["a"] = ("succeeded", 999)
    books.acme[0] = ("a", 999)
    books.postings[:] = [("a", "acme", 999), ("a", "merchant", -999)]
    books.notices[0] = ("a", "PaymentSucceeded", 999)


def lost_by_the_ledger(books: Books) -> None:
    books.postings.clear()


def booked_twice(books: Books) -> None:
    books.postings *= 2


def half_an_entry(books: Books) -> None:
    books.postings.pop()


def a_declined_one_is_booked(books: Books) -> None:
    books.postings += [("b", "acme", 700), ("b", "merchant", -700)]


def never_notified(books: Books) -> None:
    books.notices.pop(0)


def a_decline_never_notified(books: Books) -> None:
    books.notices.pop()


def notified_twice(books: Books) -> None:
    books.notices.append(books.notices[0])


def notified_of_the_wrong_end(books: Books) -> None:
    books.notices[0] = ("a", "PaymentDeclined", 1000)


def told_otherwise(books: Books) -> None:
    books.told["a"].status = "declined"


def told_two_things(books: Books) -> None:
    books.told["a"].others.append("declined")


def never_answered(books: Books) -> None:
    books.told["a"].status = None


def an_event_left_behind(books: Books) -> None:
    books.pending = 1


def a_dead_letter(books: Books) -> None:
    books.dead = 1


SPOILT = [
    *(charged_twice, never_charged, charged_too_much, charged_though_declined, charged_for_nobody),
    *(lost_by_payments, still_open_and_charged, another_amount_than_ordered),
    *(lost_by_the_ledger, booked_twice, half_an_entry, a_declined_one_is_booked),
    *(never_notified, a_decline_never_notified, notified_twice, notified_of_the_wrong_end),
    *(told_otherwise, told_two_things, never_answered, an_event_left_behind, a_dead_letter),
]


def test_books_that_balance_are_not_complained_of() -> None:
    assert wrongs(balanced()) == []


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__)
def test_every_spoilt_book_is_found_out(spoil: Callable[[Books], None]) -> None:
    books = balanced()
    spoil(books)
    assert wrongs(books)


def test_who_walked_away_unanswered_is_no_defect_whether_it_was_paid_or_never_begun() -> None:
    books = balanced()
    books.told["a"] = Told(None, walked_away=True)
    books.told["b"] = Told(None, walked_away=True)
    del books.payments["b"], books.notices[1]
    assert wrongs(books) == []


def test_a_payment_that_was_withdrawn_is_as_if_it_had_never_been() -> None:
    books = balanced()
    books.payments["c"] = ("withdrawn", 500)
    assert (wrongs(books), unknown(books)) == ([], [])


def test_what_nobody_knows_is_named_and_is_no_defect_while_no_money_moved() -> None:
    books = balanced()
    books.payments["c"] = ("sending", 500)
    assert (wrongs(books), unknown(books)) == ([], ["c"])
    assert ("still unknown", "c") in meanwhile(ended(books))


def test_the_table_holds_every_voice_against_the_payments_service() -> None:
    books = balanced()
    assert {row[1:] for row in rows(books)} == {("1", "10.00 USD", "0", "0")}
    books.postings *= 2
    books.notices.clear()
    assert [row[3:] for row in rows(books)] == [("0", "0"), ("0", "0"), ("0", "0"), ("1", "0"), ("0", "1")]


def test_the_verdict_counts_the_kills_and_names_no_more_than_ten_wrongs() -> None:
    books = balanced()
    assert verdict(ended(books))[0].startswith("2 kills, and the books balance")
    books.acme += [(f"ghost_{number:02}", 1) for number in range(SHOWN + 5)]
    sentence, *wrong = verdict(ended(books))
    assert "NOT" in sentence
    assert (len(wrong), wrong[-1]) == (SHOWN + 1, "... and 5 more")


def test_who_was_answered_and_walked_away_from_a_repeat_is_counted_as_answered() -> None:
    books = balanced()
    books.told["a"].walked_away = True
    assert dict(meanwhile(ended(books)))["customers"] == "2: 1 paid, 1 declined, 0 walked away unanswered"


def test_what_was_done_meanwhile_is_told_in_numbers() -> None:
    told = dict(meanwhile(ended(balanced())))
    assert told["killed (SIGKILL)"].startswith("payments once, a relay once;")
    assert told["customers"] == "2: 1 paid, 1 declined, 0 walked away unanswered"
    assert told["requests"] == "4: so 2 repeats; 1 of them got the stored answer"
