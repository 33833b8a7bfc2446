"""What really happened? A provider's own books, whatever anybody was told; tests hold everything else against them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, overload

from finresilience.money import Money

if TYPE_CHECKING:
    from collections.abc import Iterable

    from finresilience.testing.history import Booking

INWARD: Final = frozenset({"charge", "capture"})
"""The operations that take money from a customer; a refund gives it back."""


class Ledger(Sequence["Booking"]):
    """The bookings of one provider up to now, oldest first: whoever asks again gets the newer ones too.

    Args:
        bookings: oldest first.
    """

    __slots__ = ("_bookings",)

    def __init__(self, bookings: Iterable[Booking] = ()) -> None:
        self._bookings: tuple[Booking, ...] = tuple(bookings)

    def of(self, reference: str) -> Ledger:
        """Return the bookings of one payment."""
        return Ledger(booking for booking in self._bookings if booking.reference == reference)

    def references(self) -> tuple[str, ...]:
        """Return the payments that have bookings, in the order of the first of each."""
        return tuple(dict.fromkeys(booking.reference for booking in self._bookings))

    def balance(self, currency: str) -> Money:
        """Return what was taken from customers in this currency, less what was given back: exact, in minor units."""
        ours = [booking for booking in self._bookings if booking.amount.currency == currency]
        exponent = ours[0].amount.exponent if ours else None
        taken = Money.sum((booking.amount for booking in ours if booking.operation in INWARD), currency, exponent=exponent)
        return taken - Money.sum((booking.amount for booking in ours if booking.operation == "refund"), currency, exponent=exponent)

    def charged_twice(self) -> tuple[str, ...]:
        """Return the payments for which money was taken more than once; the charge and the captures of one reference count together."""
        times = Counter(booking.reference for booking in self._bookings if booking.operation in INWARD)
        return tuple(reference for reference, count in times.items() if count > 1)

    @overload
    def __getitem__(self, index: int) -> Booking: ...
    @overload
    def __getitem__(self, index: slice) -> Ledger: ...
    def __getitem__(self, index: int | slice) -> Booking | Ledger:
        return Ledger(self._bookings[index]) if isinstance(index, slice) else self._bookings[index]

    def __len__(self) -> int:
        return len(self._bookings)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ledger) and self._bookings == other._bookings

    def __hash__(self) -> int:
        return hash(self._bookings)

    def __repr__(self) -> str:
        return f"<Ledger of {len(self._bookings)} bookings, {len(self.charged_twice())} payments charged twice>"
