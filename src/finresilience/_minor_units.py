"""How many minor units is that? Decimal notation in, integers out, and the Decimal context is neither read nor touched."""

from __future__ import annotations

import re
from decimal import (
    ROUND_05UP,
    ROUND_CEILING,
    ROUND_DOWN,
    ROUND_FLOOR,
    ROUND_HALF_DOWN,
    ROUND_HALF_EVEN,
    ROUND_HALF_UP,
    ROUND_UP,
    Decimal,
)
from itertools import islice
from typing import TYPE_CHECKING, Final

from finresilience.errors import ConfigurationError, InvalidMoneyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_DIGITS: Final = 38  # what one amount may hold: the widest DECIMAL that the common databases share
MAX_NOTATION: Final = 64  # digits, and decimal places either way, read from one number: more is an attack or a mistake
MAX_SHARES: Final = 100_000  # parts of one allocation
NOTHING: Final = "No amount was made, and nothing was rounded."

_PLAIN: Final = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?")  # ASCII digits only: no underscore, space, plus sign or exponent

_WAY_OUT: Final = 'Write Money("50.00", "USD"), plainly and without separators, or Money.minor(5000, "USD") for minor units.'
_WHY_NOT: Final[dict[type, str]] = {
    float: "it is binary, so 0.1 + 0.2 is not 0.3, and what was meant cannot be told from what it holds",
    int: "50 does not say whether it counts dollars or cents",
    bool: "it is a truth, not a number",
}

# Does a quotient that left a rest move away from zero? Told the quotient, the rest against a half, and the sign.
_AWAY: Final[dict[str, Callable[[int, int, bool], bool]]] = {
    ROUND_DOWN: lambda _quotient, _half, _negative: False,
    ROUND_UP: lambda _quotient, _half, _negative: True,
    ROUND_FLOOR: lambda _quotient, _half, negative: negative,
    ROUND_CEILING: lambda _quotient, _half, negative: not negative,
    ROUND_HALF_UP: lambda _quotient, half, _negative: half >= 0,
    ROUND_HALF_DOWN: lambda _quotient, half, _negative: half > 0,
    ROUND_HALF_EVEN: lambda quotient, half, _negative: half > 0 or (half == 0 and quotient % 2 == 1),
    ROUND_05UP: lambda quotient, _half, _negative: quotient % 5 == 0,
}


def read(number: object) -> tuple[int, int]:
    """Return (coefficient, exponent) with number = coefficient * 10**exponent; refuse all but a bounded str or Decimal."""
    if isinstance(number, str):
        return _read_text(str.__str__(number))
    if isinstance(number, Decimal):
        return _read_decimal(number)
    reason = _WHY_NOT.get(type(number), "amounts, factors and rates are read from str and Decimal only")
    raise TypeError(f"Money is not made of {a(number)}: {reason}.\n  {NOTHING}\n  {_WAY_OUT}")


def _read_text(text: str) -> tuple[int, int]:
    if len(text) > MAX_NOTATION + 2:  # a sign and a point
        raise InvalidMoneyError(_refused(f"the number has {len(text)} characters; at most {MAX_NOTATION} digits are read"))
    found = _PLAIN.fullmatch(text)
    if found is None:
        raise InvalidMoneyError(_refused("this is not a number in plain notation, ASCII digits with at most one point inside"))
    sign, whole, fraction = found.groups("")
    return int(sign + whole + fraction), -len(fraction)


def _read_decimal(number: Decimal) -> tuple[int, int]:
    sign, digits, exponent = Decimal.as_tuple(number)
    if not isinstance(exponent, int):
        raise InvalidMoneyError(_refused("NaN and Infinity are not numbers of anything"))
    if digits == (0,):  # nought is nought, at whatever exponent
        return 0, 0
    if len(digits) > MAX_NOTATION or abs(exponent) > MAX_NOTATION:
        raise InvalidMoneyError(_refused(f"the Decimal has more than {MAX_NOTATION} digits or decimal places"))
    coefficient = int("".join(map(str, digits)))
    return (-coefficient if sign else coefficient), exponent


def _refused(reason: str) -> str:
    return f"A number was refused: {reason}.\n  {NOTHING}\n  {_WAY_OUT}"


def a(value: object) -> str:
    """Name the kind of a value with its article; the value itself stays unsaid, and so do secrets."""
    kind = type(value).__name__
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"


def whole(number: object, name: str) -> int:
    """Return the number if it is an int and nothing else, not even a bool."""
    if type(number) is not int:
        raise TypeError(f"{name} must be an int, not {a(number)}.\n  {NOTHING}\n  Write an amount in major units as Money('50.00', 'USD').")
    return number


def part_count(parts: object) -> int:
    """Return the number of parts if it is an int within its bounds."""
    if type(parts) is not int:
        raise TypeError(f"parts must be an int, not {a(parts)}. Nothing was shared.")
    if not 1 <= parts <= MAX_SHARES:
        raise ConfigurationError(f"parts must be from 1 to {MAX_SHARES}. Nothing was shared.")
    return parts


def scale(weights: Iterable[object]) -> list[int]:
    """Return whole numbers in the proportions of the weights, which are ints and Decimals, not negative, and not all nought."""
    numbers = [_weight(weight) for weight in islice(weights, MAX_SHARES + 1)]
    if len(numbers) > MAX_SHARES or not any(coefficient for coefficient, _ in numbers):
        raise ConfigurationError(f"weights must be from 1 to {MAX_SHARES} numbers, not all of them nought. Nothing was shared.")
    finest = min(exponent for _, exponent in numbers)
    return [coefficient * 10 ** (exponent - finest) for coefficient, exponent in numbers]


def _weight(weight: object) -> tuple[int, int]:
    if type(weight) is int:
        coefficient, exponent = weight, 0
    elif isinstance(weight, Decimal):
        coefficient, exponent = _read_decimal(weight)
    else:
        raise TypeError(f"A weight must be an int or a Decimal, not {a(weight)}. Nothing was shared.")
    if not 0 <= coefficient < 10**MAX_NOTATION:
        raise ConfigurationError(f"A weight must not be negative, nor have more than {MAX_NOTATION} digits. Nothing was shared.")
    return coefficient, exponent


def exact(coefficient: int, exponent: int, places: int) -> int | None:
    """Return coefficient * 10**exponent counted in units of 10**-places, or None where that is not a whole number."""
    shift = exponent + places
    if shift == 0:  # "50.00" of a currency with two decimals: nearly always
        return coefficient
    units, rest = divmod(coefficient * _power(shift), _power(-shift))
    return None if rest else units


def _power(shift: int) -> int:
    return int(10 ** max(shift, 0))  # bounded: every caller holds exponents and places to their limits


def rounded(coefficient: int, exponent: int, places: int, rounding: object) -> int:
    """Return the same, brought to a whole number by the named rounding, one of the eight of `decimal`."""
    away = _AWAY.get(str.__str__(rounding)) if isinstance(rounding, str) else None
    if away is None:
        raise ConfigurationError(f"rounding must be one of {', '.join(_AWAY)}, as the decimal module names them.\n  {NOTHING}")
    shift = exponent + places
    unit = _power(-shift)
    quotient, rest = divmod(abs(coefficient) * _power(shift), unit)
    if rest and away(quotient, 2 * rest - unit, coefficient < 0):
        quotient += 1
    return -quotient if coefficient < 0 else quotient


def apportion(total: int, weights: list[int]) -> list[int]:
    """Share a total in proportion to the weights by largest remainder; at equal remainders the earlier share is served first.

    The shares add up to the total, each is within one unit of its exact part, and a weight of nought gets nought.
    """
    whole = sum(weights)
    parts = [divmod(abs(total) * weight, whole) for weight in weights]
    shares = [quotient for quotient, _ in parts]
    left = abs(total) - sum(shares)
    for index in sorted(range(len(parts)), key=lambda index: -parts[index][1])[:left]:  # stable: earlier first
        shares[index] += 1
    return [-share for share in shares] if total < 0 else shares


def notation(units: int, places: int) -> str:
    """Return units * 10**-places in plain notation, every decimal place shown."""
    digits = str(abs(units)).rjust(places + 1, "0")
    sign = "-" if units < 0 else ""
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else f"{sign}{digits}"
