"""How is a history written down, with what moved, so that it can be read and checked again elsewhere?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from finresilience.errors import ConfigurationError
from finresilience.money import Money
from finresilience.testing.history import Booking, End, Entry, History

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")

_FORMAT: Final = 1
_NAME: Final = "finresilience_history"


def written(history: History, ledger: Iterable[Booking] = ()) -> str:
    """Return the history and the ledger as one line of JSON, for `history_from_json` and `ledger_from_json`."""
    told = {_NAME: _FORMAT, "entries": [_entry(entry) for entry in history], "bookings": [_booking(booking) for booking in ledger]}
    return json.dumps(told, sort_keys=True)


def history_from_json(text: str) -> History:
    """Return the history that was written by `written`, or raise `ConfigurationError`."""
    return _read(text, _history)


def ledger_from_json(text: str) -> tuple[Booking, ...]:
    """Return the ledger that was written beside a history, or raise `ConfigurationError`."""
    return _read(text, lambda told: tuple(_booked(row) for row in told["bookings"]))


@final
@dataclass(frozen=True, slots=True)
class Happening:
    """One line of a timeline.

    Args:
        at: seconds.
        said: what happened.
    """

    at: float
    said: str

    def __str__(self) -> str:
        return f"{self.at:12.3f}  {self.said}"


def timeline(history: History, ledger: Iterable[Booking] = ()) -> tuple[Happening, ...]:
    """Return what was asked, told and moved, in order of time; at the same time, the asking first and the telling last.

    The history and the ledger must go by the same clock.
    """
    asked = [Happening(entry.began, f"{_name(entry)} is asked for ({entry.number})") for entry in history]
    moved = [Happening(booking.at, f"{_name(booking)} moves at {booking.provider}") for booking in ledger]
    ended = [
        Happening(entry.ended, f"{_name(entry)} ends {entry.told}, {entry.attempts} attempts noted ({entry.number})")
        for entry in history
        if entry.ended is not None
    ]
    return tuple(sorted([*asked, *moved, *ended], key=lambda line: line.at))  # stable: cause before effect within one instant


def shown(reference: str) -> str:
    """Return a reference as a message may show it: on one line, and not for ever."""
    told = ascii(reference)
    return told if len(told) <= 60 else f"{told[:50]}...({len(reference)} characters)'"


def _name(of: Entry | Booking) -> str:
    amount = "" if of.amount is None else f" {of.amount}"
    return f"{of.operation} {shown(of.reference)}{amount}"


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "operation": entry.operation,
        "reference": entry.reference,
        "amount": None if entry.amount is None else _units(entry.amount),
        "key": entry.key,
        "began": entry.began,
        "ended": entry.ended,
        "end": entry.end,
        "attempts": entry.attempts,
    }


def _booking(booking: Booking) -> dict[str, Any]:
    return {
        "provider": booking.provider,
        "reference": booking.reference,
        "operation": booking.operation,
        "amount": _units(booking.amount),
        "at": booking.at,
        "key": booking.key,
    }


def _units(amount: Money) -> list[Any]:
    """Return whole minor units as text, since other readers of JSON make floats of large numbers."""
    return [str(amount.minor_units), amount.currency, amount.exponent]


def _money(row: Any) -> Money:
    units, currency, exponent = row
    if not isinstance(units, str):
        message = "an amount is written as its minor units in text"
        raise TypeError(message)
    return Money.minor(int(units), currency, exponent=exponent)


def _history(told: dict[str, Any]) -> History:
    now = [0.0]
    history = History(lambda: now[0], at_most=max(1_000_000, len(told["entries"])))
    for row in told["entries"]:
        now[0] = _seconds(row["began"])
        amount = None if row["amount"] is None else _money(row["amount"])
        entry = history.invoke(_text(row["operation"]), _text(row["reference"]), amount, key=_key(row["key"]))
        entry.attempts = _count(row["attempts"])
        if row["end"] is not None:
            now[0] = _seconds(row["ended"])
            history.end(entry, End(row["end"]))
    return history


def _booked(row: dict[str, Any]) -> Booking:
    return Booking(
        _text(row["provider"]),
        _text(row["reference"]),
        _text(row["operation"]),
        _money(row["amount"]),
        at=_seconds(row["at"]),
        key=_key(row["key"]),
    )


def _read(text: str, make: Callable[[dict[str, Any]], T]) -> T:
    try:
        told = json.loads(text)
        if told[_NAME] != _FORMAT:
            message = f"this history has format {told[_NAME]!r}, and this version reads format {_FORMAT}: write it anew"
            raise ConfigurationError(message)
        return make(told)
    except ConfigurationError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:  # what it says is not repeated: it may hold keys
        message = f"this is no history ({type(error).__name__}); write one with History.to_json(ledger)"
        raise ConfigurationError(message) from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        message = "text is wanted"
        raise TypeError(message)
    return value


def _key(value: object) -> str | None:
    return None if value is None else _text(value)


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        message = "finite seconds are wanted"
        raise TypeError(message)
    return float(value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        message = "a count is wanted"
        raise TypeError(message)
    return value
