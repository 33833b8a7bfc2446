"""Books written by hand: what one payment's journey looks like in two journals."""

from __future__ import annotations

from examples.payment_flow.books import CHARGE, INQUIRY, Entry, Page, Visit
from examples.payment_flow.contest import Circuits, Run, Said, Told
from examples.payment_flow.script import PROVIDERS, Fate, Fault, Payment

PAYMENT = Payment("pay_1", "C1", 1000, (Fate(), Fate()))


def payment_with(fault: Fault, times: int = 1, *, work: float = 0.0, slow: float = 1.0, reference: str = "pay_1") -> Payment:
    """A payment that meets a fault at acme, and none at globex."""
    return Payment(reference, "C1", 1000, (Fate(fault, times, work, slow), Fate()))


def charge(came: float, end: str, *, left: float | None = None, reference: str = "pay_1") -> Visit:
    return Visit(reference=reference, errand=CHARGE, came=came, left=came if left is None else left, end=end)


def inquiry(came: float, end: str) -> Visit:
    return Visit(reference="pay_1", errand=INQUIRY, came=came, left=came, end=end)


def page(debits: int = 0, *visits: Visit) -> Page:
    return Page(entries=[Entry(reference="pay_1", customer="C1", minor=1000)] * debits, visits=list(visits))


def run_of(acme: Page, globex: Page | None = None, said: Said = Said.PAID, *, name: str = "x", seconds: float = 0.01) -> Run:
    pages: dict[str, Page] = dict(zip(PROVIDERS, (acme, globex or page()), strict=True))
    return Run(name, {"pay_1": Told(said, seconds)}, Circuits(), pages)
