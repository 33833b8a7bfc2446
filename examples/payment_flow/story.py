"""What happened to one unknown payment? Told in six lines, from the books."""

from __future__ import annotations

from typing import TYPE_CHECKING

from examples.payment_flow.contest import Said
from examples.payment_flow.script import CURRENCY, Fault
from finresilience import Money

if TYPE_CHECKING:
    from collections.abc import Sequence

    from examples.payment_flow.contest import Run
    from examples.payment_flow.script import Payment


def debits(run: Run, payment: Payment) -> int:
    """Count how often the books debit this payment."""
    return sum(entry["reference"] == payment.reference for page in run.pages for entry in page["entries"])


def attempts(run: Run, payment: Payment) -> int:
    """Count how often the provider saw it."""
    return sum(int(page["attempts"].get(payment.reference, 0)) for page in run.pages)


def chosen(runs: Sequence[Run], payments: Sequence[Payment]) -> Payment | None:
    """Choose a payment that was debited, that we did not know of, and that the others got as wrong as can be."""
    *others, ours = runs
    silent = [p for p in payments if p.fault in {Fault.ACCEPT_SILENT, Fault.ACCEPT_LATE} and ours.told[p.reference].resolved]
    return max(silent, key=lambda p: sum(wrong(run, p) for run in others), default=None)


def wrong(run: Run, payment: Payment) -> int:
    """Say how wrong it went: one for each debit too many, one for a debit that was denied."""
    booked = debits(run, payment)
    return max(0, booked - 1) + (booked > 0 and run.told[payment.reference].said is not Said.PAID)


def tell(runs: Sequence[Run], payments: Sequence[Payment]) -> list[str]:
    """Tell it."""
    payment = chosen(runs, payments)
    if payment is None:
        return ["No debited payment stayed unknown long enough to be asked about in this run; try another --seed."]
    naive, careful, ours = runs
    amount = Money.minor(payment.minor, CURRENCY)
    late = payment.fault is Fault.ACCEPT_LATE
    return [
        (
            f"{payment.reference}: customer {payment.customer} pays {amount} through {payment.provider}, "
            f"which {'books it after we stopped listening' if late else 'books it'} and never answers."
        ),
        (
            f"{naive.name}: {_times(attempts(naive, payment))} sent, {_times(debits(naive, payment))} debited, "
            f'and {payment.customer} is told "{naive.told[payment.reference].said}".'
        ),
        (
            f"{careful.name}: {_times(attempts(careful, payment))} sent, the key keeps it at {_times(debits(careful, payment))} debited, "
            f'but {payment.customer} is told "{careful.told[payment.reference].said}".'
        ),
        f"{ours.name}: {_times(attempts(ours, payment))} sent under one key; no answer, so the outcome is Unknown, not failed.",
        f'It asks GET /payments/{payment.reference} and hears "succeeded".',
        (
            f'{payment.customer} is told "{ours.told[payment.reference].said}", and {payment.provider}\'s books hold '
            f"{_times(debits(ours, payment))} {amount}."
        ),
    ]


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
