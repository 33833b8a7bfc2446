"""The contest in virtual time: the contestants as they are, the providers' books as they are, and no machine that could be too slow."""

from __future__ import annotations

import os
from functools import cache, partial
from typing import TYPE_CHECKING

import httpx
import pytest

from examples.payment_flow import ours
from examples.payment_flow.careful import Careful
from examples.payment_flow.contest import ATTEMPTS, Said
from examples.payment_flow.naive import Naive
from examples.payment_flow.ours import ASK_AFTER, Ours
from examples.payment_flow.script import ACME, ALWAYS, GLOBEX, LAG, PATIENCE, Fault, script
from examples.payment_flow.story import tell
from examples.payment_flow.table import Result, judge
from examples.payment_flow.traffic import debits, strayed, visits
from finresilience import RETRYABLE, ErrorClassifier, Pipeline, payments_classifier
from tests.examples.runs import payment_with
from tests.examples.virtual_providers import compete

if TYPE_CHECKING:
    from collections.abc import Callable

    from examples.payment_flow.contest import Contestant, Run, Wire

SEEDS = range(1, 101 if os.environ.get("FINRESILIENCE_DEEP") else 9)
COUNT = 500
ALL = pytest.mark.parametrize("make", [Naive, Careful, Ours], ids=["naive", "careful", "ours"])


@cache
def run(make: Callable[[Wire], Contestant], seed: int) -> Run:
    return compete(make, script(seed, COUNT), seed)


def result(make: Callable[[Wire], Contestant], seed: int) -> Result:
    return judge(run(make, seed), script(seed, COUNT))


def one(make: Callable[[Wire], Contestant], fault: Fault, times: int = ALWAYS, *, work: float = 0.25, slow: float = 1.0) -> Run:
    """One payment, with a fault at acme and none at globex."""
    return compete(make, [payment_with(fault, times, work=work, slow=slow)])


def moved(told: Result) -> bool:
    before, slow, after = (known or 0.0 for known in told.shares)
    return before == 1.0 and slow < 0.4 < after


def journey(told: Run) -> tuple[tuple[int, int], tuple[int, int], Said]:
    """How often each provider got the payment, how often each debited it, and what the customer was told."""
    sent = (len(visits(told, ACME, "pay_1")), len(visits(told, GLOBEX, "pay_1")))
    return sent, (debits(told, ACME, "pay_1"), debits(told, GLOBEX, "pay_1")), told.told["pay_1"].said


# --- a whole run -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_ours_moves_no_money_wrong_and_sends_no_unknown_elsewhere(seed: int) -> None:
    told = result(Ours, seed)
    assert (told.wrong.is_zero, told.strayed.references) == (True, ())


@pytest.mark.parametrize("seed", SEEDS)
def test_ours_tells_every_customer_something(seed: int) -> None:
    assert set(run(Ours, seed).told) == {payment.reference for payment in script(seed, COUNT)}
    assert result(Ours, seed).answered >= 0.99


@pytest.mark.parametrize("seed", SEEDS)
def test_the_traffic_leaves_acme_while_it_is_slow_and_comes_back(seed: int) -> None:
    assert moved(result(Ours, seed))


def test_the_last_payments_go_to_acme_as_the_first_did() -> None:
    last = {payment.reference for payment in script(3, COUNT)[-20:]}
    assert last <= {visit["reference"] for visit in run(Ours, 3).pages[ACME]["visits"]}


def test_a_run_is_told_by_its_seed() -> None:
    assert compete(Ours, script(3, 60), 3) == compete(Ours, script(3, 60), 3)


def test_the_story_of_a_run_has_six_lines() -> None:
    naive, ours_ = run(Naive, 3), run(Ours, 3)
    assert len(tell([naive, naive, ours_], script(3, COUNT))) == 6


# --- the saboteurs -----------------------------------------------------------------------------------------------------


def test_blind_retry_moves_money_wrong_and_sends_unknown_payments_elsewhere() -> None:
    told = result(Naive, 3)
    assert not told.wrong.is_zero
    assert told.strayed.references


def test_whoever_calls_a_timeout_not_applied_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    believing = ErrorClassifier({httpx.TransportError: RETRYABLE}) | payments_classifier()
    monkeypatch.setattr(ours, "Pipeline", partial(Pipeline, classify=believing))
    told = judge(compete(Ours, script(3, COUNT), 3), script(3, COUNT))
    assert (told.wrong.is_zero, told.strayed.references) != (True, ())


def test_whoever_believes_an_early_not_found_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "ASK_AFTER", (0.5,))
    assert strayed(one(Ours, Fault.HANG)) == {"pay_1"}


def test_traffic_that_stays_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "SLOW_AFTER", 1000.0)
    assert not moved(judge(compete(Ours, script(3, COUNT), 3), script(3, COUNT)))


# --- one payment -------------------------------------------------------------------------------------------------------


@ALL
def test_nothing_goes_wrong_where_nothing_is_wrong(make: Callable[[Wire], Contestant]) -> None:
    assert journey(one(make, Fault.NONE)) == ((1, 0), (1, 0), Said.PAID)


@pytest.mark.parametrize("make", [Careful, Ours], ids=["careful", "ours"])
def test_a_decline_is_an_answer_and_goes_nowhere_else(make: Callable[[Wire], Contestant]) -> None:
    assert journey(one(make, Fault.DECLINE)) == ((1, 0), (0, 0), Said.DECLINED)


@ALL
def test_a_provider_that_is_surely_too_busy_loses_the_payment_to_the_other(make: Callable[[Wire], Contestant]) -> None:
    told = one(make, Fault.BUSY)
    assert journey(told) == ((ATTEMPTS, 1), (0, 1), Said.PAID)
    assert strayed(told) == set()


def test_naive_takes_the_money_at_each_attempt_and_at_the_other_provider_too() -> None:
    assert journey(one(Naive, Fault.ACCEPT_SILENT)) == ((ATTEMPTS, 1), (ATTEMPTS, 1), Said.PAID)


def test_careful_takes_the_money_once_at_each_provider() -> None:
    told = one(Careful, Fault.ACCEPT_SILENT)
    assert journey(told) == ((ATTEMPTS, 1), (1, 1), Said.PAID)
    assert strayed(told) == {"pay_1"}


@pytest.mark.parametrize("fault", [Fault.ACCEPT_SILENT, Fault.ACCEPT_LATE], ids=str)
def test_ours_takes_the_money_once_and_asks(fault: Fault) -> None:
    (there, elsewhere), debited, said = journey(one(Ours, fault))
    assert (there >= 1, elsewhere, debited, said) == (True, 0, (1, 0), Said.PAID)


def test_ours_stays_with_a_provider_that_books_and_answers_too_late() -> None:
    assert journey(one(Ours, Fault.NONE, slow=30.0)) == ((ATTEMPTS, 0), (1, 0), Said.PAID)


def test_ours_hears_of_a_silent_decline() -> None:
    assert journey(one(Ours, Fault.REFUSE_SILENT)) == ((ATTEMPTS, 0), (0, 0), Said.DECLINED)


def test_ours_sends_what_the_first_provider_has_surely_never_seen_to_the_other() -> None:
    told = one(Ours, Fault.HANG)
    assert journey(told) == ((ATTEMPTS, 1), (0, 1), Said.PAID)
    assert strayed(told) == set()


def test_the_last_ask_comes_after_the_provider_has_given_up() -> None:
    assert LAG < PATIENCE < sum(ASK_AFTER)
