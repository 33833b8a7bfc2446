"""A provider may count otherwise than ISO 4217: the border converts exactly, or refuses."""

import pytest
from hypothesis import given, strategies as st

from finresilience.errors import ConfigurationError, InvalidMoneyError
from finresilience.money import Exponents, Money

ACME = Exponents({"ISK": 2, "UGX": 2, "KWD": 2, "BTC": 8, "XAU": 4})


def test_a_provider_that_follows_iso_needs_no_row():
    assert ACME.of("USD") == 2
    assert Money.from_provider_units(1234, "USD", exponents=ACME) == Money("12.34", "USD")
    assert Money("12.34", "USD").to_provider_units(exponents=ACME) == 1234
    assert Exponents({}).of("CLF") == 4


def test_a_finer_count_is_brought_home_and_back():
    assert Money.from_provider_units(500, "ISK", exponents=ACME) == Money("5", "ISK")
    assert Money("5", "ISK").to_provider_units(exponents=ACME) == 500


def test_a_fraction_that_iso_cannot_hold_is_refused():
    with pytest.raises(InvalidMoneyError, match=r"ISK is counted in 2 decimals and does not fit exactly into 0(.|\n)*nothing was rounded"):
        Money.from_provider_units(512, "ISK", exponents=ACME)


def test_a_fraction_that_the_provider_cannot_hold_is_refused():
    assert Money("1.230", "KWD").to_provider_units(exponents=ACME) == 123
    with pytest.raises(InvalidMoneyError, match="KWD is counted in 3 decimals and does not fit exactly into 2"):
        Money("1.234", "KWD").to_provider_units(exponents=ACME)


def test_a_currency_that_only_the_provider_knows_is_held_as_its_table_says():
    money = Money.from_provider_units(150_000_000, "BTC", exponents=ACME)
    assert money == Money("1.5", "BTC", exponent=8)
    assert money.to_provider_units(exponents=ACME) == 150_000_000


def test_two_providers_of_one_coin_meet_at_the_exponent_of_the_house():
    globex = Exponents({"BTC": 6})
    ours = Money.from_provider_units(1_500_000, "BTC", exponents=globex, exponent=8)
    assert ours == Money.from_provider_units(150_000_000, "BTC", exponents=ACME, exponent=8)
    assert ours.to_provider_units(exponents=globex) == 1_500_000


def test_a_currency_in_neither_table_is_refused():
    with pytest.raises(InvalidMoneyError, match="ETH has no exponent"):
        Money.from_provider_units(1, "ETH", exponents=ACME)
    with pytest.raises(InvalidMoneyError, match="ETH has no exponent"):
        Money("1", "ETH", exponent=18).to_provider_units(exponents=ACME)


@pytest.mark.parametrize("units", [5.0, True, "500", None])
def test_provider_units_are_an_int(units):
    with pytest.raises(TypeError, match="units must be an int"):
        Money.from_provider_units(units, "ISK", exponents=ACME)


@pytest.mark.parametrize(
    "rows",
    [
        {"usd": 2},
        {"": 2},
        {840: 2},
        {"USD": -1},
        {"USD": 25},
        {"USD": 2.0},
        {"USD": True},
        {"USD": "2"},
        {"USD": None},
        {10**5000: 10**5000},
    ],
    ids=range(10),
)
def test_one_bad_row_spoils_the_table(rows):
    with pytest.raises(ConfigurationError, match=r"Row 2 of the exponents is wrong; no table was made"):
        Exponents({"ISK": 2} | rows)


@pytest.mark.parametrize("rows", [None, 5, "ISK", [("ISK",)]], ids=range(4))
def test_a_table_is_made_from_a_mapping(rows):
    with pytest.raises(ConfigurationError, match="Exponents take a mapping"):
        Exponents(rows)


def test_a_bare_dict_is_not_a_table():
    with pytest.raises(TypeError, match=r'exponents must be a table such as Exponents\(\{"ISK": 2\}\), not a dict'):
        Money.from_provider_units(500, "ISK", exponents={"ISK": 2})
    with pytest.raises(TypeError, match="not a NoneType"):
        Money("5", "ISK").to_provider_units(exponents=None)


def test_a_code_that_is_none_is_refused_at_the_border():
    with pytest.raises(InvalidMoneyError, match="not a currency code"):
        Money.from_provider_units(1, "isk", exponents=ACME)
    with pytest.raises(TypeError, match="A currency is a str"):
        Money.from_provider_units(1, ["ISK"], exponents=ACME)


def test_a_table_is_a_copy_and_shows_what_differs():
    rows = {"ISK": 2}
    table = Exponents(rows)
    rows["ISK"] = 5
    assert table.of("ISK") == 2
    assert repr(table) == "Exponents({'ISK': 2})"


@given(units=st.integers(-(10**30), 10**30), currency=st.sampled_from(["ISK", "USD", "KWD", "BTC", "JPY", "XAU"]))
def test_what_crosses_the_border_crosses_back_unchanged(units, currency):
    try:
        money = Money.from_provider_units(units, currency, exponents=ACME)
    except InvalidMoneyError:
        assert units % 100
        assert currency == "ISK"
        return
    assert money.to_provider_units(exponents=ACME) == units
