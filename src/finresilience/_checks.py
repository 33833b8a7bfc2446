"""Is this argument usable? Refuse it here, by name, before any money moves."""

from __future__ import annotations

import sys
from math import inf, isfinite, isnan
from typing import TYPE_CHECKING, NoReturn

from finresilience.errors import ConfigurationError

if TYPE_CHECKING:
    from datetime import timedelta

    from typing_extensions import TypeIs


def refuse(name: str, value: object, wanted: str) -> NoReturn:
    """Raise the `ConfigurationError` that names the argument, what came and what would do."""
    small = isinstance(value, float) or _is_span(value) or (isinstance(value, int) and abs(value) < 10**15)
    shown = repr(value) if small else f"a {type(value).__name__}"  # text may hold a secret, and a huge int cannot be printed
    message = f"{name}={shown} cannot work: give {wanted}"
    raise ConfigurationError(message)


def _is_span(value: object) -> TypeIs[timedelta]:
    """Return whether it is a timedelta. Whoever has one has loaded `datetime`; nobody else should pay for it at import."""
    datetime = sys.modules.get("datetime")
    return datetime is not None and isinstance(value, datetime.timedelta)


def seconds_of(name: str, value: object, *, zero: bool = False, infinite: bool = False) -> float:
    """Return `value` in seconds; it must be a positive, finite number or timedelta.

    Args:
        name: the argument, for the message.
        value: seconds or a timedelta.
        zero: allow zero.
        infinite: allow infinity.

    Raises:
        ConfigurationError: for anything else: NaN, negative, bool, text.
    """
    number_wanted = "a number, which may be infinite," if infinite else "a finite number"
    wanted = f"{'zero or more' if zero else 'more than zero'} seconds ({number_wanted} or a timedelta)"
    if _is_span(value):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse(name, value, wanted)
    try:
        number = float(value)
    except OverflowError:
        number = inf
    if isnan(number) or (not infinite and not isfinite(number)) or number < 0 or (number == 0 and not zero):
        refuse(name, value, wanted)
    return number


def positive_count(name: str, value: object, *, least: int = 1, most: int = 10**9) -> int:
    """Return `value` if it is a whole number from `least` to `most`; a bool is not a number here."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        refuse(name, value, f"a whole number from {least} to {most}")
    return value


def share_of(name: str, value: object, *, zero: bool = False) -> float:
    """Return `value` if it is a share, more than 0 (or 0, with `zero`) and at most 1."""
    wanted = f"a share {'from 0' if zero else 'above 0'} to 1, such as 0.5"
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse(name, value, wanted)
    if not 0 <= value <= 1 or (value == 0 and not zero):
        refuse(name, value, wanted)
    return float(value)


def factor_of(name: str, value: object) -> float:
    """Return `value` if it is a finite number of at least 1."""
    wanted = "a finite number of at least 1"
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse(name, value, wanted)
    try:
        number = float(value)
    except OverflowError:
        refuse(name, value, wanted)
    if not number >= 1.0 or not isfinite(number):
        refuse(name, value, wanted)
    return number


def name_of(name: str, value: object) -> str:
    """Return `value` if it is a usable name: printable, non-empty, at most 200 characters."""
    if not isinstance(value, str) or not value.strip() or len(value) > 200 or not value.isprintable():
        refuse(name, value, "a printable name of 1 to 200 characters, such as 'acme.charge'")
    return value
