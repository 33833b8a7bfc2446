"""The laws of money, and the saboteurs that each of them must kill."""

import decimal
import pickle
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from finresilience._iso4217 import EXPONENTS
from finresilience._minor_units import _AWAY
from finresilience.money import Money
from tests.laws.sabotage import SEARCH

Share = Callable[[Money, list[int]], tuple[Money, ...]]

units = st.one_of(st.integers(-1000, 1000), st.integers(-(10**36), 10**36))
currencies = st.sampled_from(sorted(EXPONENTS))
moneys = st.builds(Money.minor, units, currencies)
weights = st.lists(st.integers(0, 50) | st.integers(0, 10**20), min_size=1, max_size=30).filter(any)
factors = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=7)
roundings = st.sampled_from(sorted(_AWAY))
signals = [decimal.Inexact, decimal.Rounded, decimal.Subnormal, decimal.FloatOperation, decimal.Clamped, decimal.InvalidOperation]
contexts = st.builds(
    decimal.Context,
    prec=st.sampled_from([1, 2, 28]),
    rounding=roundings,
    Emin=st.sampled_from([-1, 0]),
    Emax=st.sampled_from([0, 1]),
    capitals=st.sampled_from([0, 1]),
    clamp=st.sampled_from([0, 1]),
    traps=st.sets(st.sampled_from(signals)).map(list),
)


# ---------------------------------------------------------------- the laws


def shares_add_up(share: Share, money: Money, parts: list[int]) -> None:
    assert Money.sum(share(money, parts), money.currency) == money


def no_share_is_a_unit_off(share: Share, money: Money, parts: list[int]) -> None:
    for got, weight in zip(share(money, parts), parts, strict=True):
        assert abs(got.minor_units - Fraction(money.minor_units * weight, sum(parts))) < 1


def no_weight_no_share(share: Share, money: Money, parts: list[int]) -> None:
    for got, weight in zip(share(money, parts), parts, strict=True):
        assert weight or got.is_zero


def equal_weights_are_served_in_order(share: Share, money: Money, parts: list[int]) -> None:
    for first, second in pairwise(share(abs(money), [1] * len(parts))):
        assert 0 <= first.minor_units - second.minor_units <= 1


def a_debt_is_the_mirror_of_a_credit(share: Share, money: Money, parts: list[int]) -> None:
    assert share(-money, parts) == tuple(-got for got in share(money, parts))


SHARING = [shares_add_up, no_share_is_a_unit_off, no_weight_no_share, equal_weights_are_served_in_order, a_debt_is_the_mirror_of_a_credit]


@pytest.mark.parametrize("law", SHARING, ids=lambda law: law.__name__)
@given(money=moneys, parts=weights)
def test_allocate_keeps_the_law(law, money, parts):
    law(Money.allocate, money, parts)


@given(money=moneys, parts=st.integers(1, 50))
def test_split_is_allocate_by_equal_weights(money, parts):
    assert money.split(parts) == money.allocate([Decimal("0.1")] * parts)


@given(money=moneys, parts=weights, scale=st.integers(-6, 6))
def test_only_the_proportions_of_the_weights_matter(money, parts, scale):
    scaled = [Decimal((0, tuple(map(int, str(weight))), scale)) for weight in parts]
    assert money.allocate(scaled) == money.allocate(parts)


# ---------------------------------------------------------------- the saboteurs


def thief(money: Money, parts: list[int]) -> tuple[Money, ...]:
    """Keep what does not divide."""
    return tuple(Money.minor(money.minor_units * weight // sum(parts), money.currency) for weight in parts)


def floater(money: Money, parts: list[int]) -> tuple[Money, ...]:
    """Reckon in binary."""
    return tuple(Money.minor(round(money.minor_units * (weight / sum(parts))), money.currency) for weight in parts)


def last_takes_all(money: Money, parts: list[int]) -> tuple[Money, ...]:
    """Give the last one everything that is left, as many ledgers do."""
    fair = thief(money, parts)[:-1]
    return (*fair, money - Money.sum(fair, money.currency))


def backwards(money: Money, parts: list[int]) -> tuple[Money, ...]:
    """Serve the last share first."""
    return money.allocate(parts[::-1])[::-1]


def creditors_only(money: Money, parts: list[int]) -> tuple[Money, ...]:
    """Give the odd units of a debt to others than those of a credit."""
    return backwards(money, parts) if money.is_negative else money.allocate(parts)


@pytest.mark.parametrize(
    ("law", "saboteur"),
    [
        (shares_add_up, thief),
        (shares_add_up, floater),
        (no_share_is_a_unit_off, last_takes_all),
        (no_weight_no_share, last_takes_all),
        (equal_weights_are_served_in_order, backwards),
        (a_debt_is_the_mirror_of_a_credit, creditors_only),
    ],
    ids=lambda each: each.__name__,
)
def test_the_law_is_awake(law, saboteur):
    @settings(SEARCH, suppress_health_check=list(HealthCheck))
    @given(money=moneys, parts=weights)
    def sabotaged(money: Money, parts: list[int]) -> None:
        law(saboteur, money, parts)

    with pytest.raises((AssertionError, ExceptionGroup)):
        sabotaged()


# ---------------------------------------------------------------- round trips and algebra


@given(moneys)
def test_every_way_out_is_a_way_back(money):
    assert Money(money.amount, money.currency) == money
    assert Money(str(money.amount), money.currency) == money
    assert Money.minor(money.minor_units, money.currency) == money
    text, code = str(money).split(" ")
    assert Money(text, code) == money
    assert eval(repr(money), {"Money": Money}) == money
    assert pickle.loads(pickle.dumps(money)) == money


@given(units, units, units, currencies, st.integers(-50, 50))
def test_money_adds_up_as_whole_numbers_do(a, b, c, currency, count):
    def money(number):
        return Money.minor(number, currency)

    assert money(a) + money(b) == money(b) + money(a) == money(a + b)
    assert (money(a) + money(b)) + money(c) == money(a) + (money(b) + money(c))
    assert money(a) - money(b) == money(a) + -money(b) == money(a - b)
    assert money(a) * count == count * money(a) == money(a * count)
    assert abs(money(a)) == money(abs(a))
    assert (money(a) < money(b), money(a) <= money(b), money(a) == money(b)) == (a < b, a <= b, a == b)
    assert (money(a) > money(b), money(a) >= money(b), money(a) != money(b)) == (a > b, a >= b, a != b)
    assert (hash(money(a)) == hash(money(b))) or a != b
    assert Money.sum(map(money, (a, b, c)), currency) == money(a + b + c)


WIDE = decimal.Context(prec=200, Emax=999999, Emin=-999999)


def oracle(number: Decimal, exponent: int, rounding: str) -> Decimal:
    return number.quantize(Decimal((0, (1,), -exponent)), rounding=rounding, context=WIDE)


@given(number=factors, currency=currencies, rounding=roundings)
def test_a_named_rounding_is_that_of_the_decimal_module(number, currency, rounding):
    assert Money.rounded(number, currency, rounding=rounding).amount == oracle(number, EXPONENTS[currency], rounding)


@given(number=st.integers(-2000, 2000), rounding=roundings)
def test_ties_round_as_in_the_decimal_module(number, rounding):
    tenths = Decimal(number) / 10
    assert Money.rounded(tenths, "JPY", rounding=rounding).amount == oracle(tenths, 0, rounding)


@given(money=st.builds(Money.minor, st.integers(-(10**20), 10**20), currencies), factor=factors, rounding=roundings)
def test_a_factor_rounds_once_and_at_the_end(money, factor, rounding):
    expected = oracle(WIDE.multiply(money.amount, factor), money.exponent, rounding)
    assert money.times(factor, rounding=rounding).amount == expected


@given(money=st.builds(Money.minor, st.integers(-(10**20), 10**20), currencies), rate=factors, other=currencies, rounding=roundings)
def test_a_rate_rounds_once_and_at_the_end(money, rate, other, rounding):
    expected = oracle(WIDE.multiply(money.amount, rate), EXPONENTS[other], rounding)
    assert money.convert(rate, other, rounding=rounding).amount == expected


# ---------------------------------------------------------------- the Decimal context


def everything(add: Callable[[Money, Money], Money], a: Money, b: Money, factor: Decimal, parts: list[int]) -> list[object]:
    """Do all that money does, and return what can be compared afterwards."""
    made = Money.rounded(factor, a.currency, rounding="ROUND_HALF_EVEN")
    seen = [add(a, b), a - b, a * 3, -a, abs(a), made, Money(a.amount, a.currency), Money("1.00", "USD"), Money.sum([a, b], a.currency)]
    seen += [a.times(factor, rounding="ROUND_HALF_UP"), a.convert(factor, "JPY", rounding="ROUND_DOWN")]
    seen += [*a.allocate(parts), *a.allocate([Decimal("1.0005"), Decimal("1E+3")]), *b.split(7)]
    return [*(value.minor_units for value in seen), *map(repr, seen), *(value.amount.as_tuple() for value in seen), a < b, a == b, hash(a)]


small = st.integers(-(10**20), 10**20)
pairs = st.builds(lambda a, b, currency: (Money.minor(a, currency), Money.minor(b, currency)), small, small, currencies)


def heeds_no_context(add: Callable[[Money, Money], Money], pair, factor, parts, context) -> None:
    quiet = everything(Money.__add__, *pair, factor, parts)
    with decimal.localcontext(context) as hostile:
        flags = dict(hostile.flags)
        assert everything(add, *pair, factor, parts) == quiet
        assert dict(hostile.flags) == flags
        assert repr(hostile) == repr(context)


@given(pair=pairs, factor=factors, parts=weights, context=contexts)
def test_no_decimal_context_is_heeded_or_touched(pair, factor, parts, context):
    heeds_no_context(Money.__add__, pair, factor, parts, context)


def by_decimal(a: Money, b: Money) -> Money:
    """Add by Decimal, as everybody does."""
    return Money.rounded(a.amount + b.amount, a.currency, rounding="ROUND_HALF_EVEN")


def test_the_law_of_the_context_is_awake():
    @settings(SEARCH)
    @given(pair=pairs, factor=factors, parts=weights, context=contexts)
    def sabotaged(pair, factor, parts, context) -> None:
        heeds_no_context(by_decimal, pair, factor, parts, context)

    with pytest.raises((AssertionError, ExceptionGroup, decimal.DecimalException)):
        sabotaged()
