"""What never becomes money, and what the refusal says."""

import random
import time
import unicodedata
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import pytest
from hypothesis import given, strategies as st

from finresilience.errors import ConfigurationError, FinresilienceError, InvalidMoneyError
from finresilience.money import Money

DOLLAR = Money("1.00", "USD")


def test_an_int_is_told_to_say_which_units_it_counts():
    with pytest.raises(TypeError, match=r"dollars or cents(.|\n)*Money\.minor\(5000"):
        Money(50, "USD")


def test_a_float_is_told_why():
    with pytest.raises(TypeError, match=r"a float: it is binary, so 0\.1 \+ 0\.2 is not 0\.3"):
        Money(50.0, "USD")


@pytest.mark.parametrize("amount", [True, None, b"50.00", 5j, Fraction(1, 2), DOLLAR, ["50.00"], ("50", "USD"), object()])
def test_nothing_but_str_and_decimal_is_read(amount):
    with pytest.raises(TypeError, match="Money is not made of"):
        Money(amount, "USD")
    with pytest.raises(TypeError, match="Money is not made of"):
        DOLLAR.times(amount, rounding=ROUND_HALF_EVEN)


@pytest.mark.parametrize("units", [True, 50.0, "50", Decimal(50), Fraction(50), None])
def test_minor_units_are_an_int_and_nothing_else(units):
    with pytest.raises(TypeError, match=r"units must be an int, not an? "):
        Money.minor(units, "USD")


ODD_TEXTS = [
    "",
    "-",
    ".",
    "5.",
    ".5",
    "+5",
    "--5",
    "5-",
    "(5)",
    "1,000.00",
    "1.000,00",
    "1_000",
    " 5",
    "5 ",
    "5\n",
    "\t5",
    "5\x00",
    "5\u00a0",
    "1e3",
    "1E+3",
    "1e999999999",
    "0x10",
    "NaN",
    "sNaN",
    "Infinity",
    "-inf",
    "$5",
    "5 USD",
    "USD",
    "\u0665",
    "\uff15",
    "\u0967.\u0966",
    "5\u066b5",
    "\u22125",
    "1.2.3",
    "½",
    "²",
]


@pytest.mark.parametrize("text", ODD_TEXTS, ids=ascii)
def test_only_plain_notation_is_read(text):
    with pytest.raises(InvalidMoneyError):
        Money(text, "USD")


def test_no_digit_of_another_script_is_read():
    for point in range(0x110000):
        if unicodedata.category(chr(point)) == "Nd" and point > 127:
            with pytest.raises(InvalidMoneyError):
                Money(chr(point), "USD")


@given(st.text(max_size=80))
def test_any_text_is_read_at_its_value_or_refused_by_type(text):
    try:
        money = Money(text, "USD")
    except InvalidMoneyError:
        return
    assert text.isascii()
    assert money.amount == Decimal(text)


@pytest.mark.parametrize("text", ["NaN", "-NaN", "sNaN", "sNaN123", "Infinity", "-Infinity"])
def test_a_decimal_that_is_no_number_is_refused(text):
    with pytest.raises(InvalidMoneyError, match="NaN and Infinity"):
        Money(Decimal(text), "USD")


@pytest.mark.parametrize(
    "amount",
    [
        Decimal("1e999999999"),
        Decimal("-1e999999999"),
        Decimal("1e-999999999"),
        Decimal((0, (1,), 65)),
        Decimal((0, (1,), -65)),
        Decimal("1" * 65),
        Decimal("1" * 1_000_000),
        "1" * 65,
        "0" * 67,
        "9" * 1_000_000,
        "1." + "0" * 1_000_000,
    ],
    ids=range(11),
)
def test_a_bomb_is_refused_before_it_goes_off(amount):
    began = time.perf_counter()
    with pytest.raises(InvalidMoneyError):
        Money(amount, "USD")
    with pytest.raises(InvalidMoneyError):
        DOLLAR.times(amount, rounding=ROUND_HALF_EVEN)
    assert time.perf_counter() - began < 2.0


def test_an_amount_holds_38_digits_and_not_one_more():
    most = Money.minor(10**38 - 1, "USD")
    assert Money(str(most.amount), "USD") == most
    for too_much in (
        lambda: Money.minor(10**38, "USD"),
        lambda: Money.minor(-(10**38), "USD"),
        lambda: Money.minor(10**1_000_000, "USD"),
        lambda: Money("1" * 39, "JPY"),
        lambda: Money(Decimal("1E+38"), "JPY"),
        lambda: most + Money.minor(1, "USD"),
        lambda: -most - Money.minor(1, "USD"),
        lambda: -most + Money.minor(-1, "USD"),
        lambda: most * 2,
        lambda: most.times("1.1", rounding=ROUND_HALF_EVEN),
        lambda: Money.sum([most, most], "USD"),
    ):
        with pytest.raises(InvalidMoneyError, match="more than 38 digits"):
            too_much()


def test_every_bound_lets_its_last_value_in():
    assert Money("1", "ABCDEFGHIJKL", exponent=24).minor_units == 10**24
    assert Money("0" * 63 + "1", "JPY") == Money("1", "JPY")
    assert Money(Decimal((0, (1, *[0] * 63), -40)), "JPY").minor_units == 10**23
    assert Money.rounded(Decimal((0, (1,), -64)), "JPY", rounding="ROUND_UP") == Money("1", "JPY")
    assert len(DOLLAR.split(100_000)) == len(DOLLAR.allocate([1] * 100_000)) == 100_000
    assert DOLLAR.allocate([10**64 - 1]) == (DOLLAR,)


def test_endless_weights_are_read_one_past_the_bound_and_no_further():
    read = iter(range(1, 200_000))
    with pytest.raises(ConfigurationError):
        DOLLAR.allocate(read)
    assert next(read) == 100_002


def test_a_total_may_pass_the_bound_on_its_way():
    most = Money.minor(10**38 - 1, "USD")
    assert Money.sum([most, most, -most], "USD") == most


@pytest.mark.parametrize(("amount", "currency"), [("1.505", "USD"), ("0.5", "JPY"), ("1.2345", "KWD"), (Decimal("1E-3"), "USD")])
def test_more_decimals_than_the_currency_has_are_never_rounded_in_silence(amount, currency):
    with pytest.raises(InvalidMoneyError, match=r"needs more than the \d decimals? that(.|\n)*nothing was rounded(.|\n)*Money\.rounded"):
        Money(amount, currency)


@pytest.mark.parametrize(
    "currency", ["usd", "US", "", "US$", " USD", "USD\n", "U\u0405D", "\uff35\uff33\uff24", "1ST", "A" * 13, "50.00", "ß" * 3]
)
def test_what_is_not_a_code_is_refused_and_not_repeated(currency):
    with pytest.raises(InvalidMoneyError, match="not a currency code") as caught:
        Money("50.00", currency)
    assert not currency or currency in "50.00 USD" or currency not in str(caught.value)


@pytest.mark.parametrize("currency", [None, 840, b"USD", ["USD"], object()])
def test_a_currency_is_a_str(currency):
    with pytest.raises(TypeError, match="A currency is a str"):
        Money("50.00", currency)


@pytest.mark.parametrize("currency", ["XAU", "XAG", "XDR", "XXX", "XTS"])
def test_a_code_that_iso_gives_no_minor_unit_asks_for_an_exponent(currency):
    with pytest.raises(InvalidMoneyError, match=r"gives it no minor unit(.|\n)*exponent=4"):
        Money("1", currency)


@pytest.mark.parametrize("currency", ["BTC", "BGN", "DEM", "XYZ", "POINTS"])
def test_a_code_that_iso_does_not_list_asks_for_an_exponent(currency):
    with pytest.raises(InvalidMoneyError, match=r"does not list it(.|\n)*exponent=4"):
        Money("1", currency)


def test_an_iso_currency_is_never_counted_at_another_exponent():
    with pytest.raises(InvalidMoneyError, match=r"USD has 2 decimals by ISO 4217, not 4(.|\n)*from_provider_units"):
        Money("1.0000", "USD", exponent=4)


@pytest.mark.parametrize("exponent", [-1, 25, 2.0, "2", True, False, Decimal(2), 10**5000], ids=range(8))
@pytest.mark.parametrize("currency", ["USD", "JPY", "BTC"])
def test_an_exponent_is_a_small_int(currency, exponent):
    with pytest.raises(ConfigurationError, match="exponent must be an int from 0 to 24"):
        Money("1", currency, exponent=exponent)


@pytest.mark.parametrize("rounding", ["", "HALF_EVEN", "round_half_even", None, 4, ["ROUND_UP"], 10**5000], ids=range(7))
def test_a_rounding_that_decimal_does_not_name_is_refused(rounding):
    for attempt in (
        lambda: Money.rounded("1.00", "USD", rounding=rounding),
        lambda: DOLLAR.times("2", rounding=rounding),
        lambda: DOLLAR.convert("2", "EUR", rounding=rounding),
    ):
        with pytest.raises(ConfigurationError, match="ROUND_HALF_EVEN"):
            attempt()


def test_no_refusal_repeats_the_number_it_refuses():
    card = "4111 1111 1111 1111"
    for attempt in (lambda: Money(card, "USD"), lambda: Money("1", card), lambda: Money.minor(card, "USD"), lambda: DOLLAR + card):
        with pytest.raises((FinresilienceError, TypeError)) as caught:
            attempt()
        assert "1111" not in str(caught.value)


def test_money_is_not_quietly_true_or_false():
    for money in (DOLLAR, DOLLAR - DOLLAR):
        with pytest.raises(TypeError, match=r"\.is_zero"):
            bool(money)


def test_money_is_no_number_to_anyone():
    for convert in (int, float, complex, Decimal, round, hex, Fraction, list, len, iter):
        with pytest.raises(TypeError):
            convert(DOLLAR)


def test_no_arithmetic_with_a_number_of_any_kind_gets_through():
    dollar = DOLLAR
    numbers = [0, 1, True, 0.5, Decimal("0.5"), Fraction(1, 2), 1j, "1", None, object()]
    random.Random(0).shuffle(numbers)
    for number in numbers:
        for attempt in (
            lambda number=number: dollar + number,
            lambda number=number: number + dollar,
            lambda number=number: dollar - number,
            lambda number=number: number - dollar,
            lambda number=number: dollar < number,
            lambda number=number: dollar >= number,
            lambda number=number: dollar / number,
            lambda number=number: dollar // number,
            lambda number=number: dollar % number,
            lambda number=number: number / dollar,
            lambda number=number: dollar**number,
            lambda number=number: divmod(dollar, number),
        ):
            with pytest.raises(TypeError):
                attempt()
        assert (number == dollar) is False
