"""What do the providers' books say about each contestant? Counted in money; nothing here asks a contestant what it did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from examples.payment_flow.contest import Said
from examples.payment_flow.script import CURRENCY, PROVIDERS, slow_stretch
from examples.payment_flow.traffic import asked, seen, share, strayed
from finresilience import Money

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

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
class Pace:
    """How long customers waited, in seconds of real life."""

    p50: float
    p95: float

    def __str__(self) -> str:
        """Show it in a cell."""
        return f"{self.p50:.1f} / {self.p95:.1f}"


@dataclass(frozen=True, slots=True)
class Result:
    """One column of the table."""

    name: str
    twice: Harm
    denied: Harm
    lost: Harm
    strayed: Harm
    asked: int
    open_questions: Harm
    sent: tuple[int, ...]
    shares: tuple[float | None, ...]
    opened: int
    answered: float
    pace: Pace
    pace_while_slow: Pace

    @property
    def wrong(self) -> Money:
        """All the money about which a customer has reason to complain."""
        return self.twice.amount + self.denied.amount + self.lost.amount


def judge(run: Run, payments: Sequence[Payment]) -> Result:
    """Hold what the customers were told against the books."""
    debits = Counter(entry["reference"] for page in run.pages.values() for entry in page["entries"])
    said = {reference: told.said for reference, told in run.told.items()}
    answers = sum(word in {Said.PAID, Said.DECLINED} for word in said.values())
    astray, slow = strayed(run), slow_stretch(len(payments))
    return Result(
        name=run.name,
        twice=_harm((payment, debits[payment.reference] - 1) for payment in payments if debits[payment.reference] > 1),
        denied=_harm((p, 1) for p in payments if debits[p.reference] and said.get(p.reference) in {Said.FAILED, Said.DECLINED}),
        lost=_harm((p, 1) for p in payments if not debits[p.reference] and said.get(p.reference) is Said.PAID),
        strayed=_harm((p, 1) for p in payments if p.reference in astray),
        asked=len(asked(run)),
        open_questions=_harm((p, 1) for p in payments if said.get(p.reference) is Said.UNKNOWN),
        sent=tuple(len(seen(run, name)) for name in PROVIDERS),
        shares=tuple(share(run, part) for part in (payments[: slow.start], payments[slow.start : slow.stop], payments[slow.stop :])),
        opened=run.circuits.opened,
        answered=answers / len(payments),
        pace=_pace(run, payments),
        pace_while_slow=_pace(run, payments[slow.start : slow.stop]),
    )


def quantile(ordered: Sequence[float], portion: float) -> float:
    """Return the smallest value that at least this portion does not exceed."""
    if not ordered:
        return 0.0
    return ordered[max(0, -int(-portion * len(ordered) // 1) - 1)]


def rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """Return the table: a question, and an answer from each contestant."""
    questions: list[tuple[str, Callable[[Result], object]]] = [
        ("charged twice", lambda result: result.twice),
        ("told failed, but debited", lambda result: result.denied),
        ("lost: told paid, not debited", lambda result: result.lost),
        ("unknown, then sent elsewhere", lambda result: result.strayed),
        ("unknown, and asked about", lambda result: result.asked),
        ("still unknown, and said so", lambda result: result.open_questions),
        (f"sent to {' / '.join(PROVIDERS)}", lambda result: " / ".join(map(str, result.sent))),
        ("  % acme before/slow/after", lambda result: " / ".join(map(_percent, result.shares))),
        ("circuits opened", lambda result: result.opened),
        ("availability: told yes or no", lambda result: f"{result.answered:.1%}"),
        ("seconds, p50 / p95", lambda result: result.pace),
        ("  while acme was slow", lambda result: result.pace_while_slow),
        ("money told wrong", lambda result: "0" if result.wrong.is_zero else result.wrong),
    ]
    return [(question, *(str(answer(result)) for result in results)) for question, answer in questions]


def verdict(results: Sequence[Result]) -> str:
    """Say it in one sentence, whatever it is."""
    *others, ours = results
    theirs = ", ".join(f"{other.wrong} by {other.name}" for other in others)
    if not ours.wrong.is_zero:
        return (
            f"Money wrong by the books is {theirs}, and {ours.wrong} by {ours.name}: that is a defect or a limit of ours; report the seed."
        )
    if ours.strayed.references:
        return (
            f"Money wrong by the books is {theirs}, and nothing by {ours.name}, but it sent {len(ours.strayed.references)} unknown "
            "payment(s) elsewhere: that is a defect of ours; report the seed."
        )
    return f"Same payments, same faults: money wrong by the books is {theirs}, and nothing by {ours.name}."


def _percent(portion: float | None) -> str:
    return "-" if portion is None else f"{portion * 100:.0f}"


def _pace(run: Run, payments: Sequence[Payment]) -> Pace:
    seconds = sorted(run.told[payment.reference].seconds for payment in payments if payment.reference in run.told)
    return Pace(quantile(seconds, 0.50), quantile(seconds, 0.95))


def _harm(cases: Iterable[tuple[Payment, int]]) -> Harm:
    found = list(cases)
    return Harm(
        references=tuple(payment.reference for payment, _ in found),
        customers=len({payment.customer for payment, _ in found}),
        amount=Money.sum((Money.minor(payment.minor * times, CURRENCY) for payment, times in found), CURRENCY),
    )
