"""Which currencies are there, and in how many decimals is each counted: by ISO 4217, by you, and by a provider?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeGuard, final

from finresilience._iso4217 import EDITION, EXPONENTS, WITHOUT_MINOR_UNIT
from finresilience._minor_units import NOTHING, a, exact
from finresilience.errors import ConfigurationError, InvalidMoneyError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_EXPONENT: Final = 24  # decimals of a declared currency: enough for every chain in use
MAX_CODE: Final = 12  # characters of a declared currency

Unit = tuple[str, int]  # what is counted: a code, and how many decimals one of it has

ISO: Final[dict[str, Unit]] = {code: (code, exponent) for code, exponent in EXPONENTS.items()}


def unit_of(currency: str, exponent: int | None) -> Unit:
    """Return the unit of a currency: by ISO 4217, or by `exponent` where ISO 4217 gives none."""
    unit = ISO.get(currency) if type(currency) is str else None
    return unit if unit is not None and exponent is None else _declared(code_of(currency), exponent)


def _declared(code: str, exponent: int | None) -> Unit:
    unit = ISO.get(code)
    if exponent is None:
        if unit is None:
            known = "gives it no minor unit" if code in WITHOUT_MINOR_UNIT else f"does not list it in its edition of {EDITION}"
            raise InvalidMoneyError(
                f"{code} has no exponent: ISO 4217 {known}.\n  {NOTHING}\n"
                f'  If the code is right, say how many decimals you count it in, as in Money("1.5", "{code}", exponent=4).'
            )
        return unit
    if not _is_exponent(exponent):
        raise ConfigurationError(f"exponent must be an int from 0 to {MAX_EXPONENT}, and this is not one.\n  {NOTHING}")
    if unit is not None and unit[1] != exponent:
        raise InvalidMoneyError(
            f"{code} has {decimals(unit[1])} by ISO 4217, not {exponent}.\n  {NOTHING}\n"
            "  Leave `exponent` out. Where a provider counts otherwise, give its table to Money.from_provider_units."
        )
    return unit or (code, exponent)


def code_of(currency: object) -> str:
    """Return a well-formed currency code as a plain str, or refuse it without repeating it."""
    if not isinstance(currency, str):
        raise TypeError(f'A currency is a str such as "USD", not {a(currency)}.\n  {NOTHING}')
    if not _is_code(currency):
        raise InvalidMoneyError(
            f"This is not a currency code: one is 3 to {MAX_CODE} capital ASCII letters or digits, a letter first.\n  {NOTHING}\n"
            '  The amount comes first and the code second, in capitals: Money("50.00", "USD").'
        )
    return str.__str__(currency)


def _is_code(code: object) -> TypeGuard[str]:
    if not isinstance(code, str) or not 3 <= len(text := str.__str__(code)) <= MAX_CODE:
        return False
    return text.isascii() and text.isalnum() and text.isupper() and text[0].isalpha()


def _is_exponent(exponent: object) -> TypeGuard[int]:
    return type(exponent) is int and 0 <= exponent <= MAX_EXPONENT


def decimals(count: int) -> str:
    """Say a number of decimals."""
    return "1 decimal" if count == 1 else f"{count} decimals"


def carried(units: int, theirs: int, home: Unit) -> int:
    """Return so many units of 10**-theirs counted in those of `home`, or refuse a fraction of one."""
    minor = exact(units, -theirs, home[1])
    if minor is None:
        raise InvalidMoneyError(
            f"The amount of {home[0]} is counted in {decimals(theirs)} and does not fit exactly into {home[1]}.\n  {NOTHING}\n"
            "  Compare both exponents with the provider's own documents; it may want multiples of ten or a hundred."
        )
    return minor


@final
class Exponents:
    """How many decimals each currency has in the eyes of one provider: ISO 4217, and what differs from it.

    Money is always held at the exponent of ISO 4217. A table is used at the border only, by `Money.from_provider_units`
    and `Money.to_provider_units`, which convert exactly or refuse. It may name currencies that ISO 4217 does not have.

    >>> acme = Exponents({"ISK": 2, "UGX": 2, "BTC": 8})
    >>> acme.of("ISK"), acme.of("JPY"), acme.of("BTC")
    (2, 0, 8)

    Args:
        differing: a currency code to its number of decimals, for every currency that the provider counts otherwise.
    """

    __slots__ = ("_differing",)

    def __init__(self, differing: Mapping[str, int]) -> None:
        """Copy the table, or refuse all of it for one bad row."""
        try:
            rows = dict(differing)
        except (TypeError, ValueError):
            raise ConfigurationError('Exponents take a mapping, as in Exponents({"ISK": 2}). No table was made.') from None
        for row, (code, exponent) in enumerate(rows.items(), start=1):
            if not _is_code(code) or not _is_exponent(exponent):
                raise ConfigurationError(
                    f"Row {row} of the exponents is wrong; no table was made.\n"
                    f"  A code is 3 to {MAX_CODE} capital ASCII letters or digits; its exponent is an int from 0 to {MAX_EXPONENT}."
                )
        self._differing = {str.__str__(code): exponent for code, exponent in rows.items()}

    def of(self, currency: str) -> int:
        """Return how many decimals this provider gives the currency, or raise `InvalidMoneyError` if nobody says."""
        code = code_of(currency)
        found = self._differing.get(code)
        return unit_of(code, None)[1] if found is None else found

    def __repr__(self) -> str:
        """Show what differs."""
        return f"Exponents({self._differing!r})"


def provider_exponent(exponents: object, currency: str) -> int:
    """Return what the table says of the currency, if it is a table."""
    if not isinstance(exponents, Exponents):
        raise TypeError(f'exponents must be a table such as Exponents({{"ISK": 2}}), not {a(exponents)}.\n  {NOTHING}')
    return exponents.of(currency)
