"""The story is read off the books: each of its six lines must be true of them."""

from __future__ import annotations

import pytest

from examples.payment_flow.books import HUNG_UP, Entry, Page, Visit
from examples.payment_flow.contest import Run, Said
from examples.payment_flow.script import ALWAYS, Fault, Payment
from examples.payment_flow.story import tell
from tests.examples.runs import charge, inquiry, page, payment_with, run_of

SILENT = payment_with(Fault.ACCEPT_SILENT, ALWAYS)
THRICE = [charge(at, "silence") for at in (1.0, 7.0, 13.0)]
TWICE_OVER = page(1, charge(19.0, "succeeded"))


def runs(*, ours: Page, ours_elsewhere: Page | None = None, said: Said = Said.PAID) -> list[Run]:
    return [
        run_of(page(3, *THRICE), TWICE_OVER, name="naive"),
        run_of(page(1, *THRICE), TWICE_OVER, name="careful"),
        run_of(ours, ours_elsewhere, said, name="ours"),
    ]


ASKED = page(1, *THRICE, inquiry(20.0, "not found"), inquiry(28.0, "succeeded"))


def test_the_story_has_six_lines_and_each_is_true_of_the_books() -> None:
    assert tell(runs(ours=ASKED), [SILENT]) == [
        "pay_1: customer C1 pays 10.00 USD; acme books it and does not answer.",
        'naive: 3 sent to acme, 3 debited; 1 sent to globex, 1 debited; C1 is told "paid".',
        'careful: 3 sent to acme, 1 debited; 1 sent to globex, where the key is new, 1 debited; C1 is told "paid".',
        "ours: 3 sent to acme, 1 debited. No answer: the outcome is Unknown, so globex does not get it.",
        'It asks acme instead, GET /payments/pay_1, and hears "not found", then "succeeded".',
        'C1 is told "paid", and the books of acme hold 10.00 USD once.',
    ]


@pytest.mark.parametrize(
    ("payment", "words"),
    [
        (payment_with(Fault.ACCEPT_LATE, ALWAYS), "says nothing, and books it when nobody listens any more"),
        (payment_with(Fault.NONE, work=0.25, slow=30.0), "slow as it is, books it and answers too late"),
    ],
    ids=["late", "slow"],
)
def test_the_first_line_says_what_the_provider_does(payment: Payment, words: str) -> None:
    assert words in tell(runs(ours=ASKED), [payment])[0]


@pytest.mark.parametrize(
    "others",
    [
        {"ours": page(1, *THRICE)},
        {"ours": page(0, *THRICE, inquiry(33.0, "not found")), "ours_elsewhere": TWICE_OVER},
        {"ours": ASKED, "said": Said.UNKNOWN},
        {"ours": page(2, *THRICE, inquiry(20.0, "succeeded"))},
        {"ours": page(0, *THRICE, inquiry(20.0, "declined")), "said": Said.DECLINED},
    ],
    ids=["not asked", "went on", "still unknown", "debited twice", "declined"],
)
def test_no_payment_is_chosen_of_which_the_story_would_not_be_true(others: dict[str, object]) -> None:
    assert len(tell(runs(**others), [SILENT])) == 1  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]  # parameters by name


def test_a_payment_that_was_merely_declined_is_not_told_as_booked() -> None:
    assert len(tell(runs(ours=ASKED), [payment_with(Fault.REFUSE_SILENT, ALWAYS)])) == 1


def again(visit: Visit) -> Visit:
    """The same for a second payment, but that acme answers it, too late."""
    copy = visit.copy()
    copy["reference"], copy["end"] = "pay_2", HUNG_UP if visit["end"] == "silence" else visit["end"]
    return copy


def test_one_that_strayed_while_acme_was_slow_is_told_first() -> None:
    slow = payment_with(Fault.NONE, work=0.25, slow=30.0, reference="pay_2")
    both = runs(ours=ASKED)
    for run in both:
        said = run.told["pay_1"]
        run.told["pay_2"] = said
        for book in run.pages.values():
            book["visits"] += [again(visit) for visit in book["visits"]]
            book["entries"] += [Entry(reference="pay_2", customer="C1", minor=1000) for _ in book["entries"]]
    assert tell(both, [SILENT, slow])[0].startswith("pay_2")
