"""What do the providers' books say about each contestant? Counted in money; nothing here asks a contestant what it did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from examples.payment_flow.contest import Said
from examples.payment_flow.script import CURRENCY
from finresilience import Money

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from examples.payment_flow.contest import Run
    from examples.payment_flow.script import Payment


@dataclass(frozen=True, slots=True)
class Harm:
    """So many payments of so many customers, and the money in it."""

    references: tuple[str, ...]
    customers: int
    amount: Money

    def __str__(self) -> str:
        """Show it in a cell."""
        if not self.references:
            return "0"
        return f"{self.customers} customer{'s' * (self.customers != 1)}, {self.amount}"


@dataclass(frozen=True, slots=True)
class Result:
    """One column of the table."""

    name: str
    twice: Harm
    denied: Harm
    lost: Harm
    open_questions: Harm
    resolved: int
    opened: int
    by_declines: int
    answered: float
    p50: float
    p95: float

    @property
    def wrong(self) -> Money:
        """All the money about which a customer has reason to complain."""
        return self.twice.amount + self.denied.amount + self.lost.amount


def judge(run: Run, payments: Sequence[Payment]) -> Result:
    """Hold what the customers were told against the ledgers."""
    debits = Counter(entry["reference"] for page in run.pages for entry in page["entries"])
    said = {reference: told.said for reference, told in run.told.items()}
    seconds = sorted(told.seconds for told in run.told.values())
    answers = sum(word in {Said.PAID, Said.DECLINED} for word in said.values())
    return Result(
        name=run.name,
        twice=_harm((payment, debits[payment.reference] - 1) for payment in payments if debits[payment.reference] > 1),
        denied=_harm((p, 1) for p in payments if debits[p.reference] and said.get(p.reference) in {Said.FAILED, Said.DECLINED}),
        lost=_harm((p, 1) for p in payments if not debits[p.reference] and said.get(p.reference) is Said.PAID),
        open_questions=_harm((p, 1) for p in payments if said.get(p.reference) is Said.UNKNOWN),
        resolved=sum(told.resolved for told in run.told.values()),
        opened=run.circuits.opened,
        by_declines=run.circuits.by_declines,
        answered=answers / len(payments),
        p50=quantile(seconds, 0.50),
        p95=quantile(seconds, 0.95),
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share does not exceed."""
    if not ordered:
        return 0.0
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """Return the table: a question, and an answer from each contestant."""
    return [
        ("charged twice", *(str(result.twice) for result in results)),
        ("told failed, but debited", *(str(result.denied) for result in results)),
        ("lost: told paid, not debited", *(str(result.lost) for result in results)),
        ("unknown, resolved by inquiry", *(str(result.resolved) for result in results)),
        ("still unknown, and said so", *(str(result.open_questions) for result in results)),
        ("circuits opened", *(str(result.opened) for result in results)),
        ("  of them by declines", *(str(result.by_declines) for result in results)),
        ("availability: told yes or no", *(f"{result.answered:.1%}" for result in results)),
        ("p50 / p95", *(f"{result.p50 * 1000:.0f} / {result.p95 * 1000:.0f} ms" for result in results)),
        ("money told wrong", *(str(result.wrong) if not result.wrong.is_zero else "0" for result in results)),
    ]


def verdict(results: Sequence[Result]) -> str:
    """Say it in one sentence, whatever it is."""
    *others, ours = results
    theirs = ", ".join(f"{other.wrong} by {other.name}" for other in others)
    if ours.wrong.is_zero:
        return f"Same payments, same faults: money wrong by the books is {theirs}, and nothing by {ours.name}."
    return f"Money wrong by the books is {theirs}, and {ours.wrong} by {ours.name}: that is a defect or a limit of ours; report the seed."


def _harm(cases: Iterable[tuple[Payment, int]]) -> Harm:
    found = list(cases)
    return Harm(
        references=tuple(payment.reference for payment, _ in found),
        customers=len({payment.customer for payment, _ in found}),
        amount=Money.sum((Money.minor(payment.minor * times, CURRENCY) for payment, times in found), CURRENCY),
    )
