"""What does a provider do with a request, and what stands in its ledger? Pure: no socket, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from examples.payment_flow.script import LAG, Fault

if TYPE_CHECKING:
    from collections.abc import Iterable

    from examples.payment_flow.script import Payment

SILENT = frozenset({Fault.ACCEPT_SILENT, Fault.ACCEPT_LATE, Fault.REFUSE_SILENT})
SLOW_ANSWER = 0.15


class Entry(TypedDict):
    """One line of the ledger: this customer was debited."""

    reference: str
    customer: str
    minor: int


class Page(TypedDict):
    """The provider's books, as `GET /books` shows them."""

    entries: list[Entry]
    attempts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the caller gets. `status` None is silence, -1 a reset; `book_after` means that the debit comes so much later."""

    status: int | None
    body: str = ""
    wait: float = 0.0
    book_after: float | None = None


RESET = Reply(-1)
SILENCE = Reply(None)
BUSY = Reply(503, "busy")
IN_USE = Reply(409, "key_in_use")


class Books:
    """A provider's ledger, and the answers that it remembers by idempotency key."""

    def __init__(self, payments: Iterable[Payment]) -> None:
        self._script = {payment.reference: payment for payment in payments}
        self._answers: dict[str, Reply] = {}
        self._refused: set[str] = set()
        self._entries: list[Entry] = []
        self._attempts: dict[str, int] = {}

    def take(self, reference: str, key: str | None) -> Reply:
        """Take one request, as the script says; a key that was seen before moves nothing again."""
        payment = self._script[reference]
        attempt = self._attempts[reference] = self._attempts.get(reference, 0) + 1
        known = self._answers.get(key) if key else None
        if known is not None:
            return SILENCE if payment.fault in SILENT and attempt <= payment.times and known is not IN_USE else known
        return self._fresh(payment, key, disturbed=attempt <= payment.times)

    def book(self, reference: str, key: str | None) -> None:
        """Debit the customer."""
        payment = self._script[reference]
        self._entries.append(Entry(reference=reference, customer=payment.customer, minor=payment.minor))
        self._remember(key, Reply(201, "succeeded"))

    def find(self, reference: str) -> str | None:
        """Answer an inquiry: succeeded, declined, or never seen. A late booking is not seen before it is made."""
        if any(entry["reference"] == reference for entry in self._entries):
            return "succeeded"
        return "declined" if reference in self._refused else None

    def page(self) -> Page:
        """Return everything, to be counted."""
        return Page(entries=list(self._entries), attempts=dict(self._attempts))

    def _fresh(self, payment: Payment, key: str | None, *, disturbed: bool) -> Reply:
        fault = payment.fault
        if fault in {Fault.DECLINE, Fault.REFUSE_SILENT}:
            self._refused.add(payment.reference)
            self._remember(key, Reply(402, "declined"))
            return SILENCE if fault is Fault.REFUSE_SILENT and disturbed else Reply(402, "declined", wait=payment.work)
        if disturbed and fault in {Fault.BUSY, Fault.RESET, Fault.HANG}:
            return {Fault.BUSY: BUSY, Fault.RESET: RESET}.get(fault, SILENCE)
        if disturbed and fault is Fault.ACCEPT_LATE:
            self._remember(key, IN_USE)
            return Reply(None, book_after=LAG)
        self.book(payment.reference, key)
        if disturbed and fault is Fault.ACCEPT_SILENT:
            return SILENCE
        return Reply(201, "succeeded", wait=SLOW_ANSWER if fault is Fault.SLOW else payment.work)

    def _remember(self, key: str | None, reply: Reply) -> None:
        if key:
            self._answers[key] = reply
