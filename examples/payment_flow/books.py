"""What does a provider do with a request, and what stands in its ledger and its journal? A `FakeProvider` that plays the script.

The library's provider carries the faults, the keys, the late bookings and the true ledger. The demo adds what is its own: the time that an
answer takes, and a journal that tells from when on a caller could know.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

from examples.payment_flow.script import ALWAYS, CURRENCY, LAG, PATIENCE, Fault
from finresilience import Money
from finresilience.testing.faults import Fault as Strike, FaultKind, FaultPlan
from finresilience.testing.provider import FakeProvider, Order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from examples.payment_flow.script import Fate, Payment
    from finresilience import Clock
    from finresilience.testing.provider import Reply

SLOW_ANSWER = 3.0
RETRY_AFTER = 2.0
CHARGE, INQUIRY = "charge", "inquiry"
HUNG_UP = "hung up"  # the caller had gone when the answer was ready
KINDS = {
    Fault.BUSY: FaultKind.BUSY,
    Fault.RESET: FaultKind.RESET,
    Fault.SLOW: FaultKind.SLOW,
    Fault.HANG: FaultKind.HANG,
    Fault.ACCEPT_SILENT: FaultKind.TIMEOUT_AFTER,
    Fault.ACCEPT_LATE: FaultKind.EFFECT_LATER,
    Fault.REFUSE_SILENT: FaultKind.DECLINE_SILENT,
}


class Entry(TypedDict):
    """One line of the ledger: this customer was debited."""

    reference: str
    customer: str
    minor: int


class Visit(TypedDict):
    """One line of the journal: a request came, and this is how it ended for whoever sent it."""

    reference: str
    errand: str
    came: float
    left: float
    end: str


class Page(TypedDict):
    """The provider's books, as `GET /books` shows them."""

    entries: list[Entry]
    visits: list[Visit]


class Books:
    """A provider's ledger and journal."""

    def __init__(self, name: str, payments: Sequence[Payment], clock: Clock | None = None) -> None:
        self._name = name
        self._script = {payment.reference: payment for payment in payments}
        self._provider = FakeProvider(name, plan(name, payments), clock=clock, shows_pending=False)
        self._visits: list[Visit] = []

    def too_old(self, reference: str, age: float) -> bool:
        """Say whether a request this many seconds old is not carried out any more; a late booking must keep the promise too."""
        return age > (PATIENCE - LAG if self._script[reference].at(self._name).fault is Fault.ACCEPT_LATE else PATIENCE)

    def take(self, reference: str, key: str | None) -> Reply:
        """Take one request, as the script says; a key that was seen before moves nothing again."""
        payment = self._script[reference]
        fate = payment.at(self._name)
        reply = self._provider.take(Order(CHARGE, reference, Money.minor(payment.minor, CURRENCY), key))
        return reply if reply.receipt is None else replace(reply, wait=max(reply.wait, fate.work * fate.slow))

    def find(self, reference: str) -> str | None:
        """Answer an inquiry: succeeded, declined, or never seen. A late booking is not seen before it is made."""
        found = self._provider.look(reference).receipt
        return None if found is None or found.status == 404 else found.result

    def note(self, reference: str, errand: str, *, came: float, left: float, end: str) -> None:
        """Write into the journal how a request ended."""
        self._visits.append(Visit(reference=reference, errand=errand, came=came, left=left, end=end))

    def page(self) -> Page:
        """Return everything, to be counted."""
        entries = [
            Entry(reference=line.reference, customer=self._script[line.reference].customer, minor=line.amount.minor_units)
            for line in self._provider.ledger
        ]
        return Page(entries=entries, visits=list(self._visits))


def end_of(reply: Reply) -> str:
    """Return how the journal calls it: the answer's word, "silence" or "reset"."""
    return reply.how.value if reply.receipt is None else reply.receipt.result


def plan(name: str, payments: Iterable[Payment]) -> FaultPlan:
    """Return what one provider does to these payments, as the library says it: each fault names its payment."""
    return FaultPlan([strike for payment in payments for strike in _strikes(payment.reference, payment.at(name))])


def _strikes(reference: str, fate: Fate) -> Iterator[Strike]:
    if fate.fault in KINDS:
        nth = () if fate.times == ALWAYS else tuple(range(1, fate.times + 1))
        seconds = LAG if fate.fault is Fault.ACCEPT_LATE else SLOW_ANSWER
        yield Strike(kind=KINDS[fate.fault], operation=CHARGE, subject=reference, nth=nth, seconds=seconds, retry_after=RETRY_AFTER)
    if fate.fault in {Fault.DECLINE, Fault.REFUSE_SILENT}:  # whoever comes again hears the no
        yield Strike(kind=FaultKind.DECLINE, operation=CHARGE, subject=reference)
