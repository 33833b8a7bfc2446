"""Books of a crash run, written by hand: two payments, one paid and one declined, told of and applied once."""

from __future__ import annotations

from examples.payment_flow.crash.act import Ended
from examples.payment_flow.crash.books import Books
from examples.payment_flow.crash.customers import Told
from examples.payment_flow.crash.kills import Kill, When
from examples.payment_flow.service.acme import Order


def balanced() -> Books:
    return Books(
        orders={"a": Order("a", "C1", 1000), "b": Order("b", "C2", 700)},
        told={"a": Told("succeeded", sent=3, replayed=1), "b": Told("declined", sent=1)},
        acme=[("a", 1000)],
        payments={"a": ("succeeded", 1000), "b": ("declined", 700)},
        postings=[("a", "acme", 1000), ("a", "merchant", -1000)],
        notices=[("a", "PaymentSucceeded", 1000), ("b", "PaymentDeclined", 700)],
        heirs=1,
        dropped={"ledger": 2, "notifications": 3},
    )


def ended(books: Books) -> Ended:
    return Ended(books, (Kill("payments", When.TAKEN, 1), Kill("relay 1", When.POSTED, 1)), 5.0)
