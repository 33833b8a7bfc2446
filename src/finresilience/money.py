"""How much money is that, exactly? Whole minor units and a currency (ISO 4217), never a float and never a silent rounding."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final, NoReturn, final

from finresilience import _minor_units as _units
from finresilience._currencies import ISO, Exponents, Unit, carried, code_of, decimals, provider_exponent, unit_of
from finresilience.errors import CurrencyMismatchError, InvalidMoneyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Exponents", "Money"]

_LIMIT: Final = 10**_units.MAX_DIGITS
_FLOOR: Final = -_LIMIT


@final
class Money:
    """An exact amount of one currency: a whole number of minor units, at the exponent of ISO 4217.

    It cannot change, can be a dictionary key, and is ordered within its currency. `str` and `Decimal` make one; an `int`
    would not say whether it counts dollars or cents, so it goes through `Money.minor`. A float is refused everywhere.
    Nothing here reads or touches the Decimal context.

    >>> Money("50.00", "USD") + Money.minor(50, "USD")
    Money("50.50", "USD")
    >>> Money("100.00", "USD").allocate([1, 1, 1])
    (Money("33.34", "USD"), Money("33.33", "USD"), Money("33.33", "USD"))

    Args:
        amount: in major units, such as "50.00". Decimals past the currency's own must be noughts.
        currency: an active ISO 4217 code, in upper case.
        exponent: how many decimals, only for a code to which ISO 4217 gives none: "XAU", "BTC", a withdrawn currency.
    """

    __slots__ = ("_minor", "_unit")
    _minor: int
    _unit: Unit

    def __new__(cls, amount: str | Decimal, currency: str, *, exponent: int | None = None) -> Money:
        """Take exactly this amount, or refuse it."""
        coefficient, power = _units.read(amount)
        unit = unit_of(currency, exponent)
        minor = _units.exact(coefficient, power, unit[1])
        if minor is None:
            raise InvalidMoneyError(
                f"The amount needs more than the {decimals(unit[1])} that {unit[0]} has.\n"
                f"  {_units.NOTHING}\n"
                "  Round it by name: Money.rounded(amount, currency, rounding=decimal.ROUND_HALF_EVEN)."
            )
        return _make(minor, unit)

    @classmethod
    def minor(cls, units: int, currency: str, *, exponent: int | None = None) -> Money:
        """Return so many minor units: cents, fils, and whole yen.

        >>> Money.minor(5000, "USD"), Money.minor(5000, "JPY"), Money.minor(5000, "KWD")
        (Money("50.00", "USD"), Money("5000", "JPY"), Money("5.000", "KWD"))
        """
        return _make(_units.whole(units, "units"), unit_of(currency, exponent))

    @classmethod
    def rounded(cls, amount: str | Decimal, currency: str, *, rounding: str, exponent: int | None = None) -> Money:
        """Return the amount brought to the currency's decimals by a rounding that you name.

        >>> Money.rounded("1.505", "USD", rounding="ROUND_HALF_EVEN")
        Money("1.50", "USD")
        """
        unit = unit_of(currency, exponent)
        return _make(_units.rounded(*_units.read(amount), unit[1], rounding), unit)

    @classmethod
    def from_provider_units(cls, units: int, currency: str, *, exponents: Exponents, exponent: int | None = None) -> Money:
        """Return what a provider counts as so many units, or refuse what ISO 4217 cannot hold exactly.

        A currency that only the provider's table knows is held at the table's decimals, or at `exponent` if you give one.

        >>> Money.from_provider_units(500, "ISK", exponents=Exponents({"ISK": 2}))
        Money("5", "ISK")
        """
        theirs = provider_exponent(exponents, currency)
        unit = unit_of(currency, theirs if exponent is None and code_of(currency) not in ISO else exponent)
        return _make(carried(_units.whole(units, "units"), theirs, unit), unit)

    @classmethod
    def sum(cls, amounts: Iterable[Money], currency: str, *, exponent: int | None = None) -> Money:
        """Return the total, nought of `currency` if there are none.

        >>> Money.sum([], "JPY")
        Money("0", "JPY")
        """
        nought = _make(0, unit_of(currency, exponent))
        return _make(sum(nought._peer(amount, "added up in") for amount in amounts), nought._unit)  # noqa: SLF001 - its own

    @property
    def amount(self) -> Decimal:
        """The amount in major units, with all the currency's decimals, whatever the Decimal context."""
        return Decimal(_units.notation(self._minor, self._unit[1]))

    @property
    def currency(self) -> str:
        """The currency's code."""
        return self._unit[0]

    @property
    def exponent(self) -> int:
        """How many decimals the currency has."""
        return self._unit[1]

    @property
    def minor_units(self) -> int:
        """The whole number of minor units."""
        return self._minor

    @property
    def is_zero(self) -> bool:
        """True if this is nothing."""
        return self._minor == 0

    @property
    def is_positive(self) -> bool:
        """True if this is more than nothing."""
        return self._minor > 0

    @property
    def is_negative(self) -> bool:
        """True if this is less than nothing."""
        return self._minor < 0

    def to_provider_units(self, *, exponents: Exponents) -> int:
        """Return the amount in the units in which a provider counts it, or refuse if that takes a fraction of one.

        >>> Money("5", "ISK").to_provider_units(exponents=Exponents({"ISK": 2}))
        500
        """
        return carried(self._minor, self._unit[1], (self._unit[0], provider_exponent(exponents, self._unit[0])))

    def times(self, factor: str | Decimal, *, rounding: str) -> Money:
        """Return this much times a decimal factor: a fee, a tax, a rate. The rounding has a name or it does not happen.

        >>> Money("10.00", "USD").times("0.0295", rounding="ROUND_HALF_UP")
        Money("0.30", "USD")
        """
        coefficient, power = _units.read(factor)
        return _make(_units.rounded(self._minor * coefficient, power, 0, rounding), self._unit)

    def convert(self, rate: str | Decimal, currency: str, *, rounding: str, exponent: int | None = None) -> Money:
        """Return what this buys at so many of `currency` for one of ours. Keep both legs, the rate and what rounding took.

        >>> Money("10.00", "USD").convert("151.238", "JPY", rounding="ROUND_HALF_EVEN")
        Money("1512", "JPY")
        """
        coefficient, power = _units.read(rate)
        unit = unit_of(currency, exponent)
        return _make(_units.rounded(self._minor * coefficient, power - self._unit[1], unit[1], rounding), unit)

    def allocate(self, weights: Iterable[int | Decimal]) -> tuple[Money, ...]:
        """Share all of it in proportion to the weights; the shares add up to it to the last minor unit.

        Each share is within one minor unit of its exact part, and the odd units go to the largest remainders, at equal
        remainders to the earlier share. A weight of nought gets nought. A debt is shared as its mirror image.

        >>> Money("0.05", "USD").allocate([70, 0, 30])
        (Money("0.04", "USD"), Money("0.00", "USD"), Money("0.01", "USD"))
        """
        return tuple(_make(share, self._unit) for share in _units.apportion(self._minor, _units.scale(weights)))

    def split(self, parts: int) -> tuple[Money, ...]:
        """Share all of it into equal parts, the odd minor units going to the first ones.

        >>> Money("-1.00", "EUR").split(3)
        (Money("-0.34", "EUR"), Money("-0.33", "EUR"), Money("-0.33", "EUR"))
        """
        return self.allocate([1] * _units.part_count(parts))

    def __add__(self, other: Money) -> Money:
        unit = self._unit
        try:  # _make, written out: adding is what money does most, and the units of ISO 4217 exist once
            if unit is other._unit and _FLOOR < (minor := self._minor + other._minor) < _LIMIT:
                money = _new(Money)
                _set_minor(money, minor)
                _set_unit(money, unit)
                return money
        except AttributeError:  # not money: `_peer` says so
            pass
        return _make(self._minor + self._peer(other, "added to"), unit)

    def __sub__(self, other: Money) -> Money:
        return _make(self._minor - self._peer(other, "taken from"), self._unit)

    def __mul__(self, count: int) -> Money:
        if type(count) is not int:
            raise TypeError(
                f"Money is multiplied by an int, not by {_units.a(count)}. Nothing was counted.\n"
                '  A decimal factor comes as str or Decimal and with a named rounding: money.times("0.029", rounding=...).'
            )
        return _make(self._minor * count, self._unit)

    __rmul__ = __mul__

    def __neg__(self) -> Money:
        return _make(-self._minor, self._unit)

    def __abs__(self) -> Money:
        return _make(abs(self._minor), self._unit)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Money):
            return NotImplemented
        return self._minor == other._minor and self._unit == other._unit

    def __hash__(self) -> int:
        return hash((self._minor, self._unit))

    def __lt__(self, other: Money) -> bool:
        return self._minor < self._peer(other, "compared with")

    def __le__(self, other: Money) -> bool:
        return self._minor <= self._peer(other, "compared with")

    def __gt__(self, other: Money) -> bool:
        return self._minor > self._peer(other, "compared with")

    def __ge__(self, other: Money) -> bool:
        return self._minor >= self._peer(other, "compared with")

    def __bool__(self) -> NoReturn:
        raise TypeError("Money is neither true nor false: ask .is_zero, .is_positive, .is_negative, or `is None`.")

    def __str__(self) -> str:
        return f"{_units.notation(self._minor, self._unit[1])} {self._unit[0]}"

    def __repr__(self) -> str:
        code, exponent = self._unit
        declared = "" if code in ISO else f", exponent={exponent}"
        return f'Money("{_units.notation(self._minor, exponent)}", "{code}"{declared})'

    def __format__(self, spec: str) -> str:
        if spec:
            raise TypeError("Money takes no format: lay out its parts, as in f'{money.amount:>12} {money.currency}', or str(money).")
        return str(self)

    def __copy__(self) -> Money:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Money:
        return self

    def __reduce__(self) -> tuple[Callable[[int, str, int], Money], tuple[int, str, int]]:
        return _restored, (self._minor, *self._unit)

    def _peer(self, other: object, met: str) -> int:
        """Return the other's minor units if they count the same thing as ours."""
        if not isinstance(other, Money):
            way = "Money.sum(amounts, currency) adds up a list" if type(other) is int else 'write Money("5.00", "USD") of it first'
            raise TypeError(f"Money and {_units.a(other)} do not go together: only one of them has a currency. Nothing was counted; {way}.")
        theirs, ours = other._unit, self._unit  # noqa: SLF001 - its own kind
        if theirs != ours:
            raise CurrencyMismatchError(
                f"{_named(theirs, ours)} cannot be {met} {_named(ours, theirs)}.\n"
                "  Nothing was counted and nothing was converted.\n"
                "  Keep one total for each currency, or convert by a rate that you name: money.convert(rate, currency, rounding=...)."
            )
        return other._minor  # noqa: SLF001 - its own kind

    if not TYPE_CHECKING:  # pragma: no branch - a type checker refuses these by their absence; others are told the way out

        def __setattr__(self, name: str, value: object) -> NoReturn:
            raise AttributeError("Money does not change; make another.")

        def __delattr__(self, name: str) -> NoReturn:
            raise AttributeError("Money does not change; make another.")

        def __init_subclass__(cls) -> NoReturn:
            raise TypeError("Money is final; hold one in a field instead.")

        def __radd__(self, other: object) -> NoReturn:  # sum() begins with the int 0
            self._peer(other, "added to")

        def __truediv__(self, other: object) -> NoReturn:
            raise TypeError(
                "Money is not divided, since pennies would be lost: share it by .split(3) or .allocate([70, 30]), or scale it by .times."
            )

        __floordiv__ = __mod__ = __divmod__ = __truediv__


_new: Final = object.__new__
_set_minor: Final[Callable[[Money, int], None]] = Money.__dict__["_minor"].__set__  # past __setattr__, which refuses
_set_unit: Final[Callable[[Money, Unit], None]] = Money.__dict__["_unit"].__set__


def _make(minor: int, unit: Unit) -> Money:
    if not _FLOOR < minor < _LIMIT:
        message = (
            f"The amount would need more than {_units.MAX_DIGITS} digits.\n  {_units.NOTHING}\n  Look for a factor or a unit that is wrong."
        )
        raise InvalidMoneyError(message)
    money = _new(Money)
    _set_minor(money, minor)
    _set_unit(money, unit)
    return money


def _restored(minor: int, currency: str, exponent: int) -> Money:
    """Make again what was pickled, perhaps under an edition of ISO 4217 that has since moved or dropped the currency."""
    unit = unit_of(currency, None if currency in ISO else exponent)
    return _make(carried(minor, exponent, unit), unit)


def _named(unit: Unit, other: Unit) -> str:
    return f"{unit[0]} in {decimals(unit[1])}" if unit[0] == other[0] else unit[0]
