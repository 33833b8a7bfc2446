"""Do the books balance? Each sentence that comes out of here is a defect; none is the promise of the whole library."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from examples.payment_flow.service.acme import SUCCEEDED
from examples.payment_flow.service.payments import EVENTS, SENDING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from examples.payment_flow.crash.books import Books


def wrongs(books: Books) -> list[str]:
    """Return what is wrong, in sentences; nothing, if the books balance."""
    return [*_customers(books), *_money(books), *_events(books), *_rest(books)]


def _customers(books: Books) -> Iterator[str]:
    """Whoever was told something, was told the truth, and always the same."""
    for reference, told in books.told.items():
        if told.others:
            yield f"{reference}: the customer was told {told.status}, and then {', '.join(told.others)}"
        if told.status is not None and books.payments.get(reference, ("nothing", 0))[0] != told.status:
            yield f"{reference}: the customer was told {told.status}, and payments has {books.payments.get(reference, ('nothing', 0))[0]}"
        if told.status is None and not told.walked_away:
            yield f"{reference}: the customer was never answered"


def _money(books: Books) -> Iterator[str]:
    """What is paid is the same at acme, in payments and in the ledger: once each, and no more, no less."""
    paid = {reference: minor for reference, (status, minor) in books.payments.items() if status == SUCCEEDED}
    yield from _once(paid, books.acme, "at acme")
    yield from _once(paid, [(reference, minor) for reference, account, minor in books.postings if account == "acme"], "in the ledger")
    for reference, minor in paid.items():
        if reference not in books.orders or books.orders[reference].minor != minor:
            yield f"{reference}: nobody ordered this amount"
    if off := sum(minor for _, _, minor in books.postings):
        yield f"the postings of the ledger add up to {off}, and not to 0"


def _events(books: Books) -> Iterator[str]:
    """Each payment that is closed was told of once."""
    for kind in EVENTS.values():
        closed = {reference: minor for reference, (status, minor) in books.payments.items() if EVENTS.get(status) == kind}
        yield from _once(
            closed, [(reference, minor) for reference, told, minor in books.notices if told == kind], f"as {kind} in notifications"
        )


def _rest(books: Books) -> Iterator[str]:
    """Nothing is left lying about."""
    if books.pending or books.dead:
        yield f"{books.pending} events were never published, and {books.dead} are dead letters"


def _once(wanted: Mapping[str, int], found: list[tuple[str, int]], where: str) -> Iterator[str]:
    times = Counter(reference for reference, _ in found)
    for reference in sorted({*wanted, *times}):
        if times[reference] != (reference in wanted):
            yield f"{reference}: {times[reference]} {where}, and should be {int(reference in wanted)}"
    for reference, minor in found:
        if wanted.get(reference, minor) != minor:
            yield f"{reference}: {minor} {where}, and should be {wanted[reference]}"


def unknown(books: Books) -> list[str]:
    """Return the payments of which nobody knows yet whether they happened, by name."""
    return sorted(reference for reference, (status, _) in books.payments.items() if status == SENDING)
