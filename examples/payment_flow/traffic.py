"""Who saw which payment, and was one sent elsewhere while nobody knew? Read off the providers' journals, where no contestant writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from examples.payment_flow.books import CHARGE, HUNG_UP, INQUIRY
from examples.payment_flow.script import ACME, PATIENCE, slow_stretch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from examples.payment_flow.books import Visit
    from examples.payment_flow.contest import Run
    from examples.payment_flow.script import Payment

SIGNS = 50  # of a strip
AMBIGUOUS = frozenset({"silence", "reset", HUNG_UP})  # whoever sent this does not know what became of it
FINAL = frozenset({"succeeded", "declined"})  # whoever hears this does


def visits(run: Run, provider: str, reference: str, errand: str = CHARGE) -> list[Visit]:
    """Return what one provider's journal says of one payment, in the order in which it came."""
    found = [visit for visit in run.pages[provider]["visits"] if visit["reference"] == reference and visit["errand"] == errand]
    return sorted(found, key=lambda visit: visit["came"])


def debits(run: Run, provider: str, reference: str) -> int:
    """Count how often one provider's ledger debits this payment."""
    return sum(entry["reference"] == reference for entry in run.pages[provider]["entries"])


def seen(run: Run, provider: str) -> set[str]:
    """Return the payments that were sent to this provider."""
    return {visit["reference"] for visit in run.pages[provider]["visits"] if visit["errand"] == CHARGE}


def asked(run: Run) -> set[str]:
    """Return the payments that some provider was asked about."""
    return {visit["reference"] for page in run.pages.values() for visit in page["visits"] if visit["errand"] == INQUIRY}


def first_at(run: Run) -> dict[str, str]:
    """Return the provider that each payment came to first."""
    charges = [
        (visit["came"], visit["reference"], name)
        for name, page in run.pages.items()
        for visit in page["visits"]
        if visit["errand"] == CHARGE
    ]
    return {reference: name for _, reference, name in sorted(charges, reverse=True)}


def share(run: Run, payments: Sequence[Payment]) -> float | None:
    """Return the share of these payments that came to acme first; None if no provider saw any of them."""
    return _share(first_at(run), payments)


def strip(run: Run, payments: Sequence[Payment]) -> str:
    """Draw where the traffic went, a sign for so many payments: `#` all of them to acme first, `+` half or more, `-` fewer, `.` none.

    Acme was slow between the bars; a blank is where no provider saw any.
    """
    first, slow = first_at(run), slow_stretch(len(payments))
    width = max(1, -(-len(payments) // SIGNS))
    parts = (payments[: slow.start], payments[slow.start : slow.stop], payments[slow.stop :])
    shares = ([_share(first, part[at : at + width]) for at in range(0, len(part), width)] for part in parts)
    return "|".join("".join(_sign(known) for known in part) for part in shares)


def _share(first: dict[str, str], payments: Sequence[Payment]) -> float | None:
    homes = [first[payment.reference] for payment in payments if payment.reference in first]
    return homes.count(ACME) / len(homes) if homes else None


def _sign(known: float | None) -> str:
    if known is None:
        return " "
    return "#" if known == 1.0 else "+" if known >= 0.5 else "-" if known > 0.0 else "."


def strayed(run: Run) -> set[str]:
    """Return the payments that were given to a provider while it was unknown whether another one had carried them out."""
    journals = {name: _by_reference(page["visits"]) for name, page in run.pages.items()}
    return {
        reference
        for elsewhere, arrivals in journals.items()
        for home, journal in journals.items()
        if home != elsewhere
        for reference in arrivals.keys() & journal.keys()
        if any(visit["errand"] == CHARGE and unknown(journal[reference], visit["came"]) for visit in arrivals[reference])
    }


def _by_reference(visits: list[Visit]) -> dict[str, list[Visit]]:
    found: dict[str, list[Visit]] = {}
    for visit in visits:
        found.setdefault(visit["reference"], []).append(visit)
    return found


def unknown(journal: list[Visit], now: float) -> bool:
    """Return whether somebody who had done to one payment what this journal says, by `now`, could not know how it ended.

    A final answer settles it, whether to the charge or to an inquiry. "Not found" settles it only if the provider has promised by then
    to carry out nothing that old.
    """
    doubts = [visit["came"] for visit in journal if visit["errand"] == CHARGE and visit["end"] in AMBIGUOUS and visit["came"] < now]
    if not doubts:
        return False
    told = [visit for visit in journal if visit["left"] <= now]
    settled = any(visit["end"] in FINAL for visit in told)
    gone = any(visit["errand"] == INQUIRY and visit["end"] == "not found" and visit["came"] >= max(doubts) + PATIENCE for visit in told)
    return not settled and not gone
