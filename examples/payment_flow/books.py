"""What does a provider do with a request, and what stands in its ledger and its journal? Pure: no socket, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from examples.payment_flow.script import LAG, Fault

if TYPE_CHECKING:
    from collections.abc import Iterable

    from examples.payment_flow.script import Fate, Payment

SILENT = frozenset({Fault.ACCEPT_SILENT, Fault.ACCEPT_LATE, Fault.REFUSE_SILENT})
SLOW_ANSWER = 3.0
CHARGE, INQUIRY = "charge", "inquiry"
HUNG_UP = "hung up"  # the caller had gone when the answer was ready


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


@dataclass(frozen=True, slots=True)
class Reply:
    """What the caller gets. `status` None is silence, -1 a reset; `book_after` means that the debit comes so much later."""

    status: int | None
    body: str = ""
    wait: float = 0.0
    book_after: float | None = None

    @property
    def end(self) -> str:
        """How the journal calls it."""
        return "silence" if self.status is None else "reset" if self.status < 0 else self.body


RESET = Reply(-1)
SILENCE = Reply(None)


class Books:
    """A provider's ledger and journal, and the answers that it remembers by idempotency key."""

    def __init__(self, name: str, payments: Iterable[Payment]) -> None:
        self._name = name
        self._script = {payment.reference: payment for payment in payments}
        self._answers: dict[str, tuple[int, str]] = {}
        self._refused: set[str] = set()
        self._entries: list[Entry] = []
        self._visits: list[Visit] = []
        self._attempts: dict[str, int] = {}

    def take(self, reference: str, key: str | None) -> Reply:
        """Take one request, as the script says; a key that was seen before moves nothing again."""
        fate = self._script[reference].at(self._name)
        attempt = self._attempts[reference] = self._attempts.get(reference, 0) + 1
        disturbed = attempt <= fate.times
        known = self._answers.get(key) if key else None
        if known is None:
            return self._fresh(reference, fate, key, disturbed=disturbed)
        if disturbed and fate.fault in SILENT and known[0] != 409:
            return SILENCE
        return Reply(*known, wait=fate.work * fate.slow)

    def book(self, reference: str, key: str | None) -> None:
        """Debit the customer."""
        payment = self._script[reference]
        self._entries.append(Entry(reference=reference, customer=payment.customer, minor=payment.minor))
        self._remember(key, 201, "succeeded")

    def find(self, reference: str) -> str | None:
        """Answer an inquiry: succeeded, declined, or never seen. A late booking is not seen before it is made."""
        if any(entry["reference"] == reference for entry in self._entries):
            return "succeeded"
        return "declined" if reference in self._refused else None

    def note(self, reference: str, errand: str, *, came: float, left: float, end: str) -> None:
        """Write into the journal how a request ended."""
        self._visits.append(Visit(reference=reference, errand=errand, came=came, left=left, end=end))

    def page(self) -> Page:
        """Return everything, to be counted."""
        return Page(entries=list(self._entries), visits=list(self._visits))

    def _fresh(self, reference: str, fate: Fate, key: str | None, *, disturbed: bool) -> Reply:
        fault, wait = fate.fault, fate.work * fate.slow
        if fault in {Fault.DECLINE, Fault.REFUSE_SILENT}:
            self._refused.add(reference)
            self._remember(key, 402, "declined")
            return SILENCE if fault is Fault.REFUSE_SILENT and disturbed else Reply(402, "declined", wait)
        if disturbed and fault in {Fault.BUSY, Fault.RESET, Fault.HANG}:
            return {Fault.BUSY: Reply(503, "busy", wait), Fault.RESET: RESET}.get(fault, SILENCE)
        if disturbed and fault is Fault.ACCEPT_LATE:
            self._remember(key, 409, "key in use")
            return Reply(None, book_after=LAG)
        self.book(reference, key)
        if disturbed and fault is Fault.ACCEPT_SILENT:
            return SILENCE
        return Reply(201, "succeeded", wait=max(wait, SLOW_ANSWER) if disturbed and fault is Fault.SLOW else wait)

    def _remember(self, key: str | None, status: int, body: str) -> None:
        if key:
            self._answers[key] = (status, body)
