"""What becomes money, at which exponent, and how it is written."""

import copy
import pickle
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal
from enum import StrEnum

import pytest

from finresilience.errors import InvalidMoneyError
from finresilience.money import Money, _restored


class Currency(StrEnum):
    USD = "USD"


class Shouting(str):
    """A str that lies about itself."""

    __slots__ = ()

    def __str__(self) -> str:
        return "999999.99"

    def __hash__(self) -> int:
        return hash("EUR")

    def __eq__(self, other: object) -> bool:
        return True


class Rising(Decimal):
    """A Decimal that lies about its digits."""

    def as_tuple(self):
        return Decimal("999999.99").as_tuple()


@pytest.mark.parametrize(
    ("currency", "decimals", "text"),
    [
        ("JPY", 0, "1234"),
        ("BIF", 0, "1234"),
        ("ISK", 0, "1234"),
        ("HUF", 2, "12.34"),
        ("USD", 2, "12.34"),
        ("MGA", 2, "12.34"),
        ("BHD", 3, "1.234"),
        ("IQD", 3, "1.234"),
        ("KWD", 3, "1.234"),
        ("CLF", 4, "0.1234"),
        ("UYW", 4, "0.1234"),
    ],
)
def test_every_exponent_in_use_gives_the_decimals_of_its_currency(currency, decimals, text):
    money = Money.minor(1234, currency)
    assert money.exponent == decimals
    assert str(money) == f"{text} {currency}"
    assert money == Money(text, currency)
    assert money.amount == Decimal(text)
    assert money.minor_units == 1234
    assert money.currency == currency


def test_a_str_a_decimal_and_minor_units_make_the_same_money():
    assert Money("50.00", "USD") == Money("50", "USD") == Money(Decimal(50), "USD") == Money.minor(5000, "USD")


def test_noughts_past_the_last_decimal_lose_nothing_and_are_taken():
    assert Money("1.500", "USD") == Money("1.50", "USD")
    assert Money(Decimal("100.0"), "JPY") == Money("100", "JPY")


def test_leading_noughts_of_a_fixed_width_file_are_taken():
    assert Money("0000005000.10", "EUR") == Money.minor(500010, "EUR")


def test_a_normalised_decimal_is_taken_at_its_value():
    assert Money(Decimal("1E+3"), "USD") == Money("1000.00", "USD")
    assert Money(Decimal("5E-2"), "USD") == Money("0.05", "USD")


def test_nought_is_nought_at_whatever_sign_and_exponent():
    for nought in (Decimal("-0.00"), Decimal("0E-999999"), Decimal("0E+999999"), "-0", "0.0000"):
        assert str(Money(nought, "USD")) == "0.00 USD"


def test_small_and_negative_amounts_are_written_with_all_their_decimals():
    assert str(Money.minor(-5, "USD")) == "-0.05 USD"
    assert str(Money.minor(-5, "JPY")) == "-5 JPY"
    assert str(Money.minor(-1234567, "KWD")) == "-1234.567 KWD"


def test_an_enum_of_str_is_a_currency_and_leaves_a_plain_str_behind():
    money = Money("5", Currency.USD)
    assert money == Money("5", "USD")
    assert type(money.currency) is str
    assert pickle.loads(pickle.dumps(money)) == money


def test_a_str_or_decimal_of_a_lying_class_is_read_at_its_true_value():
    assert Money(Shouting("1.00"), "USD") == Money("1.00", "USD")
    assert Money("1.00", Shouting("USD")).currency == "USD"
    assert Money(Rising("1.00"), "USD") == Money("1.00", "USD")


def test_a_rounding_has_a_name_or_does_not_happen():
    assert Money.rounded("1.505", "USD", rounding=ROUND_HALF_EVEN) == Money("1.50", "USD")
    assert Money.rounded(Decimal("-0.999"), "USD", rounding=ROUND_DOWN) == Money("-0.99", "USD")
    assert Money.rounded("7", "USD", rounding=ROUND_DOWN) == Money("7.00", "USD")


def test_a_code_without_an_exponent_takes_the_one_it_is_given():
    assert str(Money("1.5", "XAU", exponent=4)) == "1.5000 XAU"
    assert str(Money.minor(150_000_000, "BTC", exponent=8)) == "1.50000000 BTC"
    assert repr(Money("1.5", "BGN", exponent=2)) == 'Money("1.50", "BGN", exponent=2)'
    assert str(Money("100", "POINTS", exponent=0)) == "100 POINTS"
    assert Money.rounded("1.23456", "XAU", exponent=4, rounding=ROUND_DOWN) == Money("1.2345", "XAU", exponent=4)


def test_the_exponent_of_iso_4217_may_be_said_again():
    assert Money("1.5", "USD", exponent=2) == Money("1.50", "USD")
    assert Money("1.5", Currency.USD, exponent=2) == Money("1.50", "USD")


def test_the_same_code_in_other_decimals_counts_another_thing():
    assert Money("1", "XAU", exponent=4) != Money("1", "XAU", exponent=2)
    assert Money("1", "XAU", exponent=4) == Money("1.0", "XAU", exponent=4)


@pytest.mark.parametrize("money", [Money("-50.05", "USD"), Money("7", "JPY"), Money("1.5", "XAU", exponent=4)])
def test_repr_pickle_and_copy_give_the_same_money_back(money):
    assert eval(repr(money), {"Money": Money}) == money
    assert copy.copy(money) is money
    assert copy.deepcopy([money])[0] is money
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(money, protocol))
        assert again == money
        assert hash(again) == hash(money)
        assert type(again) is Money


def test_a_pickle_outlives_an_edition_of_iso_4217_that_moves_or_drops_its_currency():
    assert _restored(500, "ISK", 2) == Money("5", "ISK")  # had two decimals once
    assert _restored(500, "BGN", 2) == Money("5.00", "BGN", exponent=2)  # withdrawn since
    with pytest.raises(InvalidMoneyError, match="does not fit exactly"):
        _restored(512, "ISK", 2)


def test_money_cannot_change():
    money = Money("5.00", "USD")
    for name in ("amount", "currency", "minor_units", "_minor", "_unit", "__class__", "note"):
        with pytest.raises(AttributeError, match="does not change"):
            setattr(money, name, 1)
        with pytest.raises(AttributeError, match="does not change"):
            delattr(money, name)
    money.__init__("9.00", "EUR")
    assert money == Money("5.00", "USD")
    assert not hasattr(money, "__dict__")


def test_money_cannot_be_subclassed():
    with pytest.raises(TypeError, match="final"):
        type("Cash", (Money,), {})


def test_money_is_formatted_as_text_or_by_its_parts():
    money = Money("1234.50", "USD")
    assert f"{money}" == "1234.50 USD"
    assert f"{money.amount:,}" == "1,234.50"
    with pytest.raises(TypeError, match=r"money\.amount"):
        f"{money:.2f}"
