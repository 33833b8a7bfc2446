"""Which amounts and currencies find mistakes? Those with no decimals, three and four, the smallest unit, and the largest amount."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from finresilience._checks import refuse
from finresilience._iso4217 import EXPONENTS
from finresilience._minor_units import MAX_DIGITS
from finresilience.errors import ConfigurationError
from finresilience.money import Money

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hypothesis.strategies import SearchStrategy

_LIMIT: Final = 10**MAX_DIGITS - 1
_FIRST: Final = ("USD", "JPY", "KWD", "CLF")  # what a counterexample shows, if any currency of that many decimals will do
_COMMON: Final = (2, 0, 3, 4)  # decimals: the plain first, since failures shrink towards it
_TELLING: Final = 100_000  # small amounts, in minor units: where a factor of ten or a hundred shows


def currencies(*, exponents: Iterable[int] | None = None) -> SearchStrategy[str]:
    """Active ISO 4217 codes. Each number of decimals is as likely as any other, so that JPY, KWD and CLF come up as often as USD.

    Args:
        exponents: only currencies with so many decimals, such as (0, 3).

    Raises:
        ConfigurationError: if no currency has so many.
    """
    wanted = _COMMON if exponents is None else tuple(exponents)
    groups = [sorted((code for code, has in EXPONENTS.items() if has == exponent), key=_rank) for exponent in wanted]
    if not groups or not all(groups):
        refuse("exponents", exponents, f"numbers of decimals that ISO 4217 knows: {', '.join(map(str, sorted(_COMMON)))}")
    return st.one_of(*map(st.sampled_from, groups))


def _rank(code: str) -> tuple[bool, str]:
    return (code not in _FIRST, code)


def money(
    currency: str | SearchStrategy[str] | None = None,
    *,
    min_value: Money | None = None,
    max_value: Money | None = None,
    min_minor: int | None = None,
    max_minor: int | None = None,
    exponent: int | None = None,
) -> SearchStrategy[Money]:
    """Amounts: the smallest, the everyday, and those that no float can hold. Failures shrink to nought, or to the bound nearest to it.

    Args:
        currency: a code or a strategy of codes; by default that of a bound, or else any of `currencies()`.
        min_value: at least this.
        max_value: at most this.
        min_minor: at least so many minor units, in whatever currency.
        max_minor: at most so many minor units, in whatever currency.
        exponent: how many decimals, only for a currency that ISO 4217 does not have.

    Raises:
        ConfigurationError: if the bounds do not go together.
    """
    bounds = [_bounding(bound) for bound in (min_value, max_value) if bound is not None]
    codes = _one_currency(currency, bounds)
    if bounds and exponent is None:
        exponent = bounds[0].exponent if bounds[0].currency not in EXPONENTS else None
    least = _bound("min", min_value, min_minor, -_LIMIT)
    most = _bound("max", max_value, max_minor, _LIMIT)
    if least > most:
        message = "no amount lies between these bounds: the lower one must not be above the upper one"
        raise ConfigurationError(message)
    units = st.integers(least, most)
    low, high = max(least, -_TELLING), min(most, _TELLING)
    if low <= high and (low, high) != (least, most):
        units = st.one_of(st.integers(low, high), units)
    return st.builds(Money.minor, units, codes, exponent=st.just(exponent))


def _bounding(bound: Money) -> Money:
    if not isinstance(bound, Money):
        refuse("min_value and max_value", bound, "Money; min_minor and max_minor take minor units")
    return bound


def _one_currency(currency: str | SearchStrategy[str] | None, bounds: list[Money]) -> SearchStrategy[str]:
    named = {bound.currency for bound in bounds} | ({currency} if isinstance(currency, str) else set())
    if len(named) > 1 or (bounds and not (currency is None or isinstance(currency, str))):
        message = (
            f"bounds are of one currency, and of that of the amounts: give min_minor or max_minor instead ({', '.join(sorted(named))})"
        )
        raise ConfigurationError(message)
    if named:
        return st.just(named.pop())
    return currencies() if currency is None or isinstance(currency, str) else currency


def _bound(side: str, value: Money | None, minor: int | None, default: int) -> int:
    if value is not None and minor is not None:
        message = f"{side}_value and {side}_minor say the same thing: give one of them"
        raise ConfigurationError(message)
    if value is not None:
        return value.minor_units
    if minor is None:
        return default
    if isinstance(minor, bool) or not isinstance(minor, int) or abs(minor) > _LIMIT:
        refuse(f"{side}_minor", minor, f"a whole number of minor units, of {MAX_DIGITS} digits at most")
    return minor
