"""Adding, multiplying, comparing and sharing out, one currency at a time."""

from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, ROUND_UP, Decimal
from unittest.mock import Mock

import pytest

from finresilience.errors import ConfigurationError, CurrencyMismatchError, InvalidMoneyError
from finresilience.money import Money


def usd(text):
    return Money(text, "USD")


def test_adding_taking_away_and_turning_round():
    assert usd("0.10") + usd("0.20") == usd("0.30")
    assert usd("0.10") - usd("0.30") == usd("-0.20")
    assert -usd("0.10") == usd("-0.10")
    assert abs(usd("-0.10")) == usd("0.10")
    assert usd("0.10") * 3 == 3 * usd("0.10") == usd("0.30")


def test_declared_currencies_add_up_like_any_other():
    assert Money("1", "XAU", exponent=4) + Money("0.5", "XAU", exponent=4) == Money("1.5", "XAU", exponent=4)


def test_the_sign_can_be_asked():
    for text, signs in (("-0.01", (True, False, False)), ("0", (False, True, False)), ("0.01", (False, False, True))):
        assert (usd(text).is_negative, usd(text).is_zero, usd(text).is_positive) == signs


def test_order_is_that_of_the_amounts():
    assert usd("1") < usd("2") <= usd("2") < usd("10")
    assert usd("10") > usd("2") >= usd("2") > usd("-1")
    assert not usd("2") < usd("2")
    assert not usd("2") > usd("2")
    assert sorted([usd("3"), usd("-1"), usd("2")]) == [usd("-1"), usd("2"), usd("3")]
    assert max(usd("3"), usd("20")) == usd("20")


@pytest.mark.parametrize(
    ("words", "attempt"),
    [
        ("EUR cannot be added to USD", lambda a, b: a + b),
        ("EUR cannot be taken from USD", lambda a, b: a - b),
        ("EUR cannot be compared with USD", lambda a, b: a < b),
        ("EUR cannot be compared with USD", lambda a, b: a <= b),
        ("EUR cannot be compared with USD", lambda a, b: a > b),
        ("EUR cannot be compared with USD", lambda a, b: a >= b),
        ("EUR cannot be added up in USD", lambda a, b: Money.sum([a, b], "USD")),
    ],
    ids=["+", "-", "<", "<=", ">", ">=", "sum"],
)
def test_two_currencies_never_meet_in_one_sum(words, attempt):
    with pytest.raises(CurrencyMismatchError, match=rf"{words}(.|\n)*nothing was converted(.|\n)*money\.convert"):
        attempt(usd("1"), Money("1", "EUR"))


def test_one_code_in_two_counts_is_two_currencies():
    with pytest.raises(CurrencyMismatchError, match="XAU in 1 decimal cannot be added to XAU in 4 decimals"):
        Money("1", "XAU", exponent=4) + Money("1", "XAU", exponent=1)


def test_the_same_number_of_another_currency_is_different():
    assert usd("1") != Money("1", "EUR")
    assert len({usd("1"), Money("1", "EUR"), usd("1.00")}) == 2
    assert len({hash(Money.minor(units, code)) for units in range(1000) for code in ("USD", "EUR", "JPY")}) > 2900
    assert usd("1") != "1.00 USD"
    assert usd("1") != Decimal(1)


def test_what_only_looks_like_money_is_refused():
    for pretender in (Mock(), Mock(_minor=1, _unit=("USD", 2))):
        with pytest.raises(TypeError, match="do not go together"):
            usd("1") + pretender


def test_the_sum_of_nothing_has_a_currency():
    assert Money.sum([], "USD") == usd("0")
    assert Money.sum((usd(text) for text in ("0.10", "0.20", "-0.05")), "USD") == usd("0.25")
    assert Money.sum([Money("1", "BTC", exponent=8)], "BTC", exponent=8) == Money("1", "BTC", exponent=8)


def test_the_builtin_sum_names_ours():
    with pytest.raises(TypeError, match=r"Money\.sum"):
        sum([usd("1"), usd("2")])
    with pytest.raises(TypeError, match="do not go together"):
        Money.sum([usd("1"), 1], "USD")


@pytest.mark.parametrize(
    "divide", [lambda a: a / 2, lambda a: a // 2, lambda a: a % 2, lambda a: divmod(a, 2), lambda a: a / a], ids=range(5)
)
def test_division_names_allocate(divide):
    with pytest.raises(TypeError, match=r"\.split\(3\) or \.allocate"):
        divide(usd("1"))


@pytest.mark.parametrize("factor", [0.5, True, Decimal("0.5"), "2", None, Money("1", "USD")])
def test_only_an_int_multiplies_without_a_rounding(factor):
    for attempt in (lambda: usd("1") * factor, lambda: factor * usd("1")):
        with pytest.raises(TypeError, match=r"\.times\("):
            attempt()


def test_a_factor_comes_with_a_named_rounding():
    assert usd("10.00").times(Decimal("0.0295"), rounding=ROUND_HALF_UP) == usd("0.30")
    assert usd("10.00").times(Decimal("0.0295"), rounding=ROUND_HALF_EVEN) == usd("0.30")
    assert usd("10.00").times("0.0285", rounding=ROUND_HALF_EVEN) == usd("0.28")
    assert usd("-10.00").times("0.0285", rounding=ROUND_UP) == usd("-0.29")
    assert usd("10.00").times(Decimal("1E+2"), rounding=ROUND_UP) == usd("1000.00")
    with pytest.raises(TypeError, match="a float: it is binary"):
        usd("10.00").times(0.029, rounding=ROUND_HALF_EVEN)


def test_a_rate_takes_money_from_one_exponent_to_another():
    assert usd("10.00").convert("151.238", "JPY", rounding=ROUND_HALF_EVEN) == Money("1512", "JPY")
    assert Money("1512", "JPY").convert("0.00661", "USD", rounding=ROUND_HALF_EVEN) == usd("9.99")
    assert usd("1.00").convert("0.3071", "KWD", rounding=ROUND_HALF_EVEN) == Money("0.307", "KWD")
    assert usd("5.00").convert(Decimal("0.0000125"), "BTC", exponent=8, rounding=ROUND_UP) == Money("0.0000625", "BTC", exponent=8)


@pytest.mark.parametrize(
    ("total", "weights", "shares"),
    [
        ("100.00", [1, 1, 1], ["33.34", "33.33", "33.33"]),
        ("-100.00", [1, 1, 1], ["-33.34", "-33.33", "-33.33"]),
        ("0.05", [70, 0, 30], ["0.04", "0.00", "0.01"]),
        ("0.01", [0, 1, 1], ["0.00", "0.01", "0.00"]),
        ("0.02", [1, 3, 3], ["0.00", "0.01", "0.01"]),
        ("0.00", [1, 2], ["0.00", "0.00"]),
        ("10.00", [Decimal("0.5"), Decimal("0.25"), Decimal("0.25")], ["5.00", "2.50", "2.50"]),
        ("10.00", [Decimal("1E+3"), 1000], ["5.00", "5.00"]),
        ("10.00", [5], ["10.00"]),
    ],
)
def test_shares_follow_the_largest_remainders(total, weights, shares):
    assert usd(total).allocate(weights) == tuple(usd(share) for share in shares)
    assert usd(total).allocate(iter(weights)) == tuple(usd(share) for share in shares)


def test_equal_parts_differ_by_one_minor_unit_at_most():
    assert usd("0.05").split(3) == (usd("0.02"), usd("0.02"), usd("0.01"))
    assert Money("10", "JPY").split(4) == tuple(Money(n, "JPY") for n in ("3", "3", "2", "2"))
    assert usd("1").split(1) == (usd("1"),)


@pytest.mark.parametrize("weights", [[], [0], [0, Decimal("0.00")], [1, -1], [Decimal(-1)], [10**64], [1] * 100_001], ids=range(7))
def test_weights_that_share_nothing_are_refused(weights):
    with pytest.raises(ConfigurationError, match="Nothing was shared"):
        usd("1").allocate(weights)


def test_endless_weights_come_to_an_end():
    with pytest.raises(ConfigurationError, match="100000"):
        usd("1").allocate(iter(lambda: 1, 0))


@pytest.mark.parametrize("weight", [0.5, True, "1", None, Money("1", "USD")])
def test_a_weight_is_an_int_or_a_decimal(weight):
    with pytest.raises(TypeError, match="A weight must be an int or a Decimal"):
        usd("1").allocate([1, weight])


@pytest.mark.parametrize("weight", [Decimal("NaN"), Decimal("Infinity"), Decimal("1e999999999"), Decimal("1e-999999999")])
def test_a_weight_is_a_number_within_bounds(weight):
    with pytest.raises(InvalidMoneyError):
        usd("1").allocate([1, weight])


@pytest.mark.parametrize("parts", [0, -1, 100_001, 10**5000], ids=range(4))
def test_parts_have_a_bound(parts):
    with pytest.raises(ConfigurationError, match="parts must be from 1 to 100000"):
        usd("1").split(parts)


@pytest.mark.parametrize("parts", [2.0, True, "2", None])
def test_parts_are_an_int(parts):
    with pytest.raises(TypeError, match="parts must be an int"):
        usd("1").split(parts)
