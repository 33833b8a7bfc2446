"""What happened to one unknown payment? Told in six lines, from the books."""

from __future__ import annotations

from typing import TYPE_CHECKING

from examples.payment_flow.books import INQUIRY
from examples.payment_flow.contest import TIMEOUT, Said
from examples.payment_flow.script import CURRENCY, PROVIDERS, Fault
from examples.payment_flow.traffic import asked, debits, strayed, visits
from finresilience import Money

if TYPE_CHECKING:
    from collections.abc import Sequence

    from examples.payment_flow.contest import Run
    from examples.payment_flow.script import Payment

BOOKED = {
    Fault.ACCEPT_SILENT: "{} books it and does not answer",
    Fault.ACCEPT_LATE: "{} says nothing, and books it when nobody listens any more",
}


def tell(runs: Sequence[Run], payments: Sequence[Payment]) -> list[str]:
    """Tell it."""
    payment = chosen(runs, payments)
    if payment is None:
        return ["No debited payment stayed unknown long enough to be asked about in this run; try another --seed."]
    naive, careful, ours = runs
    (home,) = homes(ours, payment)
    elsewhere = next(name for name in PROVIDERS if name != home)
    amount, fate = Money.minor(payment.minor, CURRENCY), payment.at(home)
    what = BOOKED.get(fate.fault, "{}, slow as it is, books it and answers too late").format(home)
    answers = ", then ".join(f'"{visit["end"]}"' for visit in visits(ours, home, payment.reference, INQUIRY))
    return [
        f"{payment.reference}: customer {payment.customer} pays {amount}; {what}.",
        f"{naive.name}: {_deeds(naive, payment)}; {_told(naive, payment)}.",
        f"{careful.name}: {_deeds(careful, payment, elsewhere=', where the key is new')}; {_told(careful, payment)}.",
        f"{ours.name}: {_deeds(ours, payment)}. No answer: the outcome is Unknown, so {elsewhere} does not get it.",
        f"It asks {home} instead, GET /payments/{payment.reference}, and hears {answers}.",
        f"{_told(ours, payment)}, and the books of {home} hold {amount} once.",
    ]


def chosen(runs: Sequence[Run], payments: Sequence[Payment]) -> Payment | None:
    """Choose a payment that was debited, that we did not know of and asked about, and that the others got as wrong as can be."""
    *others, ours = runs
    doubtful = asked(ours)
    known = [payment for payment in payments if payment.reference in doubtful and unknown_at_home(ours, payment)]
    astray = [strayed(run) for run in others]

    def telling(payment: Payment) -> tuple[int, bool, int]:
        slow = any(fate.slow > 1.0 for fate in payment.fates)
        return sum(payment.reference in strays for strays in astray), slow, sum(wrong(run, payment) for run in others)

    return max(known, key=telling, default=None)


def homes(run: Run, payment: Payment) -> list[str]:
    """Return the providers that saw this payment."""
    return [name for name in PROVIDERS if visits(run, name, payment.reference)]


def unknown_at_home(ours: Run, payment: Payment) -> bool:
    """Say whether one provider alone saw it, debited it, never told us, and told us when it was asked."""
    where = homes(ours, payment)
    if len(where) != 1 or ours.told[payment.reference].said is not Said.PAID:
        return False
    heard = visits(ours, where[0], payment.reference, INQUIRY)
    return bool(heard) and heard[-1]["end"] == "succeeded" and debits(ours, where[0], payment.reference) == 1 and _fits(payment, where[0])


def wrong(run: Run, payment: Payment) -> int:
    """Say how wrong it went: one for each debit too many, one for a debit that was denied."""
    booked = sum(debits(run, name, payment.reference) for name in PROVIDERS)
    return max(0, booked - 1) + (booked > 0 and run.told[payment.reference].said is not Said.PAID)


def _fits(payment: Payment, home: str) -> bool:
    """Say whether the first line would be true of it."""
    fate = payment.at(home)
    return fate.fault in BOOKED or (fate.fault is Fault.NONE and fate.work * fate.slow > TIMEOUT)


def _deeds(run: Run, payment: Payment, *, elsewhere: str = "") -> str:
    """Say what each provider saw and did; `elsewhere` is true of every provider but the first."""
    where = homes(run, payment)
    deeds = [
        f"{len(visits(run, name, payment.reference))} sent to {name}{elsewhere if name != where[0] else ''}, "
        f"{debits(run, name, payment.reference)} debited"
        for name in where
    ]
    return "; ".join(deeds) or "sent to nobody"


def _told(run: Run, payment: Payment) -> str:
    return f'{payment.customer} is told "{run.told[payment.reference].said}"'
