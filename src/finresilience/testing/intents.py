"""What was to happen once, what were callers told of it, and what moved? A history and the ledgers, put together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, final

from finresilience.testing.history import Booking, End, Entry, History

if TYPE_CHECKING:
    from finresilience.money import Money

Naming: TypeAlias = Callable[[Entry | Booking], Hashable]


def by_reference(of: Entry | Booking) -> Hashable:
    """Name the intent by its operation and reference: a payment is charged once, whatever it was asked with."""
    return (of.operation, of.reference)


def by_key(of: Entry | Booking) -> Hashable:
    """Name the intent by operation, reference and key: for several refunds or captures of one payment, each with its own key."""
    return (of.operation, of.reference, of.key)


@final
@dataclass(frozen=True, slots=True)
class Intent:
    """All that is known of one thing that was to happen once: what was asked, what callers were told, what moved.

    Args:
        operation: "charge", "refund", ...
        reference: of the payment.
        entries: how often it was asked for, in order; none, if money moved that nobody had asked for.
        bookings: what moved, by all ledgers.
    """

    operation: str
    reference: str
    entries: tuple[Entry, ...]
    bookings: tuple[Booking, ...]

    @property
    def told(self) -> End | None:
        """OK if any caller was told so; else UNKNOWN if any was left in doubt; else FAIL. None if nobody asked.

        That a second try failed says nothing of the first: `History.resolve` says what was found out.
        """
        ends = {entry.told for entry in self.entries}
        return next((end for end in (End.OK, End.UNKNOWN, End.FAIL) if end in ends), None)

    @property
    def promised(self) -> tuple[Money, ...]:
        """The amounts of which somebody was told that they moved, each once. More than one is a contradiction."""
        return self._amounts(End.OK)

    @property
    def doubtful(self) -> tuple[Money, ...]:
        """The amounts of which somebody does not know whether they moved, each once."""
        return self._amounts(End.UNKNOWN)

    def _amounts(self, told: End) -> tuple[Money, ...]:
        return tuple(dict.fromkeys(entry.amount for entry in self.entries if entry.amount is not None and entry.told is told))


def intents(history: History, ledger: Iterable[Booking], *, intent: Naming = by_reference) -> tuple[Intent, ...]:
    """Return what was asked and what moved, put together: first what was asked for, in order, then what was not."""
    asked: dict[Hashable, list[Entry]] = {}
    moved: dict[Hashable, list[Booking]] = {}
    for entry in history:
        asked.setdefault(intent(entry), []).append(entry)
    for booking in ledger:
        moved.setdefault(intent(booking), []).append(booking)
    told = [Intent(of[0].operation, of[0].reference, tuple(of), tuple(moved.get(name, ()))) for name, of in asked.items()]
    unasked = [Intent(of[0].operation, of[0].reference, (), tuple(of)) for name, of in moved.items() if name not in asked]
    return (*told, *unasked)
