"""The table is arithmetic over the providers' books: each cell against books written by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from examples.payment_flow.contest import Run, Said, Told
from examples.payment_flow.show import plain
from examples.payment_flow.table import Result, judge, quantile, rows, verdict
from finresilience import Money
from tests.examples.runs import PAYMENT, charge, inquiry, page, run_of

if TYPE_CHECKING:
    from examples.payment_flow.script import Payment

OURS = judge(run_of(page(1), name="ours"), [PAYMENT])


def usd(minor: int) -> Money:
    return Money.minor(minor, "USD")


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
def test_the_table_counts_every_debit_too_many_denied_or_missing(debited: int, said: Said, twice: int, denied: int, lost: int) -> None:
    result = judge(run_of(page(debited), said=said), [PAYMENT])
    assert [result.twice.amount, result.denied.amount, result.lost.amount] == [usd(n) for n in (twice, denied, lost)]
    assert result.wrong == usd(twice + denied + lost)


def test_once_at_each_provider_is_twice() -> None:
    assert judge(run_of(page(1), page(1)), [PAYMENT]).twice.amount == usd(1000)


def test_a_debit_at_the_second_provider_is_as_good_as_one_at_the_first() -> None:
    assert judge(run_of(page(), page(1)), [PAYMENT]).wrong.is_zero


def test_a_payment_that_stays_unknown_is_shown_and_is_not_an_answer() -> None:
    result = judge(run_of(page(1), said=Said.UNKNOWN), [PAYMENT])
    assert (result.open_questions.customers, result.answered) == (1, 0.0)


def test_a_stray_is_counted_once_with_its_money_even_if_luck_let_it_pass() -> None:
    result = judge(run_of(page(0, charge(1.0, "silence")), page(1, charge(6.0, "busy"), charge(8.0, "succeeded"))), [PAYMENT])
    assert (result.strayed.references, result.strayed.amount) == (("pay_1",), usd(1000))
    assert result.wrong.is_zero


def test_what_was_sent_and_asked_is_counted_by_payments_and_not_by_requests() -> None:
    result = judge(run_of(page(1, charge(1.0, "silence"), charge(7.0, "silence"), inquiry(9.0, "succeeded"))), [PAYMENT])
    assert (result.sent, result.asked) == ((1, 0), 1)


def five(homes: str) -> tuple[Run, list[Payment]]:
    """Five payments, of which the third is sent while acme is slow, each to (a)cme or (g)lobex, and waiting a second more than the last."""
    payments = [replace(PAYMENT, reference=f"pay_{number}") for number in range(5)]
    acme, globex = ([charge(n, "succeeded", reference=f"pay_{n}") for n, at in enumerate(homes) if at == home] for home in "ag")
    run = run_of(page(0, *acme), page(0, *globex))
    run.told = {payment.reference: Told(Said.DECLINED, number + 1.0) for number, payment in enumerate(payments)}
    return run, payments


def test_shares_are_of_before_while_and_after_acme_was_slow() -> None:
    assert judge(*five("aagag")).shares == (1.0, 0.0, 0.5)


def test_the_pace_while_acme_was_slow_is_of_those_payments_only() -> None:
    result = judge(*five("aaaaa"))
    assert (str(result.pace), str(result.pace_while_slow)) == ("3.0 / 5.0", "3.0 / 3.0")


def test_the_verdict_does_not_hide_our_own_errors() -> None:
    bad = judge(run_of(page(2)), [PAYMENT])
    assert verdict([bad, OURS]).endswith("nothing by ours.")
    assert "10.00 USD by x: that is a defect" in verdict([OURS, bad])


def test_the_verdict_does_not_hide_a_stray_of_ours_that_did_no_harm() -> None:
    stray = judge(run_of(page(0, charge(1.0, "silence")), page(1, charge(6.0, "succeeded"))), [PAYMENT])
    assert "sent 1 unknown payment(s) elsewhere: that is a defect of ours" in verdict([OURS, stray])
    assert "defect" not in verdict([stray, OURS])


def table_of(*results: Result) -> list[str]:
    return plain(("", *(result.name for result in results)), rows(results))


def test_each_row_of_the_table_has_an_answer_from_each_contestant_and_lines_up() -> None:
    results = [judge(run_of(page(count)), [PAYMENT]) for count in (1, 2, 3)]
    assert {len(row) for row in rows(results)} == {4}
    assert len({len(line) for line in table_of(*results)}) == 1


def test_the_table_fits_in_a_hundred_columns() -> None:
    harm = replace(judge(run_of(page(2)), [PAYMENT]).twice, customers=99, amount=usd(999_999))
    worst = replace(OURS, twice=harm, denied=harm, lost=harm, strayed=harm, sent=(500, 500), shares=(1.0, 1.0, 1.0))
    names = ("naive retry", "tenacity + pybreaker + key", "finresilience")
    table = table_of(*(replace(result, name=name) for result, name in zip((worst, worst, OURS), names, strict=True)))
    assert max(len(line) for line in table) <= 100


@pytest.mark.parametrize(("portion", "value"), [(0.5, 2.0), (0.95, 4.0), (0.25, 1.0), (1.0, 4.0)])
def test_a_quantile_is_a_value_that_was_measured(portion: float, value: float) -> None:
    assert quantile([1.0, 2.0, 3.0, 4.0], portion) == value
