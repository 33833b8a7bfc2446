"""Who saw what, and was an unknown payment sent elsewhere? A wrong zero here would be the worst lie of the demo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from examples.payment_flow import traffic
from examples.payment_flow.books import HUNG_UP
from examples.payment_flow.script import ACME, GLOBEX, PATIENCE, script
from examples.payment_flow.traffic import asked, first_at, seen, share, strayed, strip, unknown
from tests.examples.runs import charge, inquiry, page, run_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from examples.payment_flow.books import Visit
    from examples.payment_flow.contest import Run

AMBIGUOUS = ["silence", "reset", HUNG_UP]
LATE = 1000.0


@pytest.mark.parametrize("end", AMBIGUOUS)
def test_a_payment_that_goes_elsewhere_after_an_ambiguous_end_has_strayed(end: str) -> None:
    assert strayed(run_of(page(0, charge(1.0, end)), page(0, charge(6.0, "succeeded")))) == {"pay_1"}


@pytest.mark.parametrize("end", AMBIGUOUS)
def test_it_makes_no_difference_which_of_the_two_was_first(end: str) -> None:
    assert strayed(run_of(page(0, charge(6.0, "succeeded")), page(0, charge(1.0, end)))) == {"pay_1"}


@pytest.mark.parametrize("end", ["busy", "declined", "succeeded", "too old"])
def test_what_was_answered_may_go_elsewhere(end: str) -> None:
    assert strayed(run_of(page(0, charge(1.0, end)), page(0, charge(6.0, "silence")))) == set()


def test_an_ambiguous_end_at_the_last_provider_is_no_stray() -> None:
    assert strayed(run_of(page(0, charge(1.0, "busy"), charge(9.0, "busy")), page(0, charge(10.0, "silence")))) == set()


def test_a_caller_that_goes_elsewhere_while_the_first_provider_still_works_has_strayed() -> None:
    assert strayed(run_of(page(1, charge(1.0, HUNG_UP, left=9.0)), page(1, charge(6.0, "succeeded")))) == {"pay_1"}


def test_a_refusal_after_an_ambiguous_end_settles_nothing() -> None:
    journal = page(1, charge(1.0, "silence"), charge(7.0, "key in use"), charge(8.0, "busy"))
    assert strayed(run_of(journal, page(1, charge(9.0, "succeeded")))) == {"pay_1"}


@pytest.mark.parametrize("end", ["succeeded", "declined"])
def test_a_final_answer_settles_it_whether_to_the_charge_or_to_an_inquiry(end: str) -> None:
    elsewhere = page(0, charge(9.0, "succeeded"))
    assert strayed(run_of(page(0, charge(1.0, "silence"), charge(7.0, end)), elsewhere)) == set()
    assert strayed(run_of(page(0, charge(1.0, "silence"), inquiry(7.0, end)), elsewhere)) == set()


def test_an_answer_that_came_after_the_payment_went_elsewhere_settles_nothing() -> None:
    journal = page(0, charge(1.0, "silence"), charge(7.0, "succeeded", left=9.0))
    assert strayed(run_of(journal, page(0, charge(8.0, "succeeded")))) == {"pay_1"}


@pytest.mark.parametrize(("asked_at", "known"), [(2.0, False), (7.0 + PATIENCE - 0.1, False), (7.0 + PATIENCE, True)])
def test_not_found_is_believed_once_the_provider_has_given_up_the_last_attempt(asked_at: float, known: bool) -> None:
    journal = page(0, charge(1.0, "silence"), charge(7.0, "silence"), inquiry(asked_at, "not found"))
    assert strayed(run_of(journal, page(0, charge(LATE, "succeeded")))) == (set() if known else {"pay_1"})


def test_another_payment_settles_nothing() -> None:
    journal = page(0, charge(1.0, "silence"), charge(7.0, "succeeded", reference="pay_2"))
    assert strayed(run_of(journal, page(0, charge(9.0, "succeeded")))) == {"pay_1"}


def never(journal: list[Visit], now: float) -> bool:
    return False


def by_the_last_word(journal: list[Visit], now: float) -> bool:
    """Forgets that a clear "busy" says nothing of the silence before it."""
    mine = [visit for visit in journal if visit["came"] < now]
    return bool(mine) and mine[-1]["end"] in AMBIGUOUS


def believing(journal: list[Visit], now: float) -> bool:
    """Believes any "not found"."""
    return unknown(journal, now) and not any(visit["end"] == "not found" for visit in journal)


@pytest.mark.parametrize("saboteur", [never, by_the_last_word, believing])
def test_a_count_that_overlooks_strays_is_found_out(saboteur: Callable[..., bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "unknown", saboteur)
    with pytest.raises(AssertionError):
        test_a_payment_that_goes_elsewhere_after_an_ambiguous_end_has_strayed("silence")
        test_a_refusal_after_an_ambiguous_end_settles_nothing()
        test_not_found_is_believed_once_the_provider_has_given_up_the_last_attempt(2.0, known=False)


def test_a_payment_is_seen_where_it_was_charged_and_asked_about_where_somebody_asked() -> None:
    run = run_of(page(0, charge(1.0, "silence"), inquiry(2.0, "succeeded")))
    assert (seen(run, ACME), seen(run, GLOBEX), asked(run)) == ({"pay_1"}, set(), {"pay_1"})


def test_an_inquiry_is_no_charge() -> None:
    run = run_of(page(), page(0, inquiry(2.0, "not found")))
    assert (seen(run, GLOBEX), first_at(run)) == (set(), {})


def test_the_first_provider_is_the_one_that_it_came_to_first() -> None:
    run = run_of(page(0, charge(5.0, "busy"), charge(9.0, "busy")), page(0, charge(4.0, "busy"), charge(10.0, "succeeded")))
    assert first_at(run) == {"pay_1": GLOBEX}


def routed(count: int, to_acme: Callable[[int], bool], lost: range = range(0)) -> Run:
    numbers = [number for number in range(count) if number not in lost]
    acme, globex = ([charge(n, "succeeded", reference=f"pay_{n:04}") for n in numbers if to_acme(n) is home] for home in (True, False))
    return run_of(page(0, *acme), page(0, *globex))


def test_a_share_is_of_the_payments_that_anybody_saw() -> None:
    payments = script(3, 10)
    run = routed(10, lambda number: number < 3, lost=range(8, 10))
    assert (share(run, payments), share(run, payments[:3]), share(run, payments[8:])) == (3 / 8, 1.0, None)


def test_a_strip_shows_where_the_traffic_went_and_when_acme_was_slow() -> None:
    run = routed(100, lambda number: not 42 <= number < 57, lost=range(90, 100))
    assert strip(run, script(3, 100)) == f"{'#' * 20}|#{'.' * 7}+#|{'#' * 15}     "
    assert strip(routed(100, lambda number: number % 4 == 0), script(3, 100)).startswith("+.+.+.")
    assert strip(routed(200, lambda number: number % 4 == 0), script(3, 200)).startswith("----")


@pytest.mark.parametrize("count", [1, 7, 120, 500, 1234])
def test_a_strip_fits_on_a_line_and_has_two_bars(count: int) -> None:
    drawn = strip(routed(count, lambda number: True), script(3, count))
    assert len(drawn) <= 55
    assert drawn.count("|") == 2
