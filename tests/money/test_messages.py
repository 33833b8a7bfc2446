"""Every refusal says what happened, what is now true of the money, and what to do next. Word for word."""

from decimal import Decimal

import pytest

from finresilience.money import Exponents, Money

DOLLAR = Money("1.00", "USD")
ACME = Exponents({"ISK": 2})
NOTHING = "\n  No amount was made, and nothing was rounded."
PLAINLY = NOTHING + '\n  Write Money("50.00", "USD"), plainly and without separators, or Money.minor(5000, "USD") for minor units.'

MESSAGES = {
    "float": (
        lambda: Money(0.5, "USD"),
        "Money is not made of a float: it is binary, so 0.1 + 0.2 is not 0.3, and what was meant cannot be told from what it holds."
        + PLAINLY,
    ),
    "int": (lambda: Money(50, "USD"), "Money is not made of an int: 50 does not say whether it counts dollars or cents." + PLAINLY),
    "bool": (lambda: Money(True, "USD"), "Money is not made of a bool: it is a truth, not a number." + PLAINLY),
    "text": (
        lambda: Money("1,000", "USD"),
        "A number was refused: this is not a number in plain notation, ASCII digits with at most one point inside." + PLAINLY,
    ),
    "long": (lambda: Money("1" * 99, "USD"), "A number was refused: the number has 99 characters; at most 64 digits are read." + PLAINLY),
    "nan": (lambda: Money(Decimal("NaN"), "USD"), "A number was refused: NaN and Infinity are not numbers of anything." + PLAINLY),
    "bomb": (
        lambda: Money(Decimal("1e999"), "USD"),
        "A number was refused: the Decimal has more than 64 digits or decimal places." + PLAINLY,
    ),
    "decimals": (
        lambda: Money("1.505", "USD"),
        (
            f"The amount needs more than the 2 decimals that USD has.{NOTHING}\n"
            "  Round it by name: Money.rounded(amount, currency, rounding=decimal.ROUND_HALF_EVEN)."
        ),
    ),
    "code": (
        lambda: Money("1", "usd"),
        (
            f"This is not a currency code: one is 3 to 12 capital ASCII letters or digits, a letter first.{NOTHING}\n"
            '  The amount comes first and the code second, in capitals: Money("50.00", "USD").'
        ),
    ),
    "code type": (lambda: Money("1", 840), f'A currency is a str such as "USD", not an int.{NOTHING}'),
    "no minor unit": (
        lambda: Money("1", "XAU"),
        (
            f"XAU has no exponent: ISO 4217 gives it no minor unit.{NOTHING}\n"
            '  If the code is right, say how many decimals you count it in, as in Money("1.5", "XAU", exponent=4).'
        ),
    ),
    "another exponent": (
        lambda: Money("1", "USD", exponent=3),
        (
            f"USD has 2 decimals by ISO 4217, not 3.{NOTHING}\n"
            "  Leave `exponent` out. Where a provider counts otherwise, give its table to Money.from_provider_units."
        ),
    ),
    "exponent": (lambda: Money("1", "BTC", exponent=99), f"exponent must be an int from 0 to 24, and this is not one.{NOTHING}"),
    "units": (
        lambda: Money.minor(5.0, "USD"),
        f"units must be an int, not a float.{NOTHING}\n  Write an amount in major units as Money('50.00', 'USD').",
    ),
    "digits": (
        lambda: Money.minor(10**38, "USD"),
        f"The amount would need more than 38 digits.{NOTHING}\n  Look for a factor or a unit that is wrong.",
    ),
    "no currency": (
        lambda: DOLLAR + 0.5,
        (
            "Money and a float do not go together: only one of them has a currency. Nothing was counted; "
            'write Money("5.00", "USD") of it first.'
        ),
    ),
    "builtin sum": (
        lambda: sum([DOLLAR]),
        (
            "Money and an int do not go together: only one of them has a currency. Nothing was counted; "
            "Money.sum(amounts, currency) adds up a list."
        ),
    ),
    "mismatch": (
        lambda: DOLLAR + Money("1", "EUR"),
        (
            "EUR cannot be added to USD.\n  Nothing was counted and nothing was converted.\n"
            "  Keep one total for each currency, or convert by a rate that you name: money.convert(rate, currency, rounding=...)."
        ),
    ),
    "factor": (
        lambda: DOLLAR * 0.5,
        (
            "Money is multiplied by an int, not by a float. Nothing was counted.\n"
            '  A decimal factor comes as str or Decimal and with a named rounding: money.times("0.029", rounding=...).'
        ),
    ),
    "division": (
        lambda: DOLLAR / 2,
        "Money is not divided, since pennies would be lost: share it by .split(3) or .allocate([70, 30]), or scale it by .times.",
    ),
    "truth": (
        lambda: bool(DOLLAR),
        "Money is neither true nor false: ask .is_zero, .is_positive, .is_negative, or `is None`.",
    ),
    "format": (
        lambda: f"{DOLLAR:.2f}",
        "Money takes no format: lay out its parts, as in f'{money.amount:>12} {money.currency}', or str(money).",
    ),
    "weights": (
        lambda: DOLLAR.allocate([0]),
        "weights must be from 1 to 100000 numbers, not all of them nought. Nothing was shared.",
    ),
    "weight": (lambda: DOLLAR.allocate([0.5]), "A weight must be an int or a Decimal, not a float. Nothing was shared."),
    "negative weight": (
        lambda: DOLLAR.allocate([-1]),
        "A weight must not be negative, nor have more than 64 digits. Nothing was shared.",
    ),
    "parts": (lambda: DOLLAR.split(0), "parts must be from 1 to 100000. Nothing was shared."),
    "parts type": (lambda: DOLLAR.split(2.0), "parts must be an int, not a float. Nothing was shared."),
    "rounding": (
        lambda: DOLLAR.times("2", rounding="HALF_UP"),
        (
            "rounding must be one of ROUND_DOWN, ROUND_UP, ROUND_FLOOR, ROUND_CEILING, ROUND_HALF_UP, ROUND_HALF_DOWN, ROUND_HALF_EVEN, "
            f"ROUND_05UP, as the decimal module names them.{NOTHING}"
        ),
    ),
    "provider": (
        lambda: Money.from_provider_units(512, "ISK", exponents=ACME),
        (
            f"The amount of ISK is counted in 2 decimals and does not fit exactly into 0.{NOTHING}\n"
            "  Compare both exponents with the provider's own documents; it may want multiples of ten or a hundred."
        ),
    ),
    "table": (lambda: Exponents(None), 'Exponents take a mapping, as in Exponents({"ISK": 2}). No table was made.'),
    "row": (
        lambda: Exponents({"isk": 2}),
        (
            "Row 1 of the exponents is wrong; no table was made.\n"
            "  A code is 3 to 12 capital ASCII letters or digits; its exponent is an int from 0 to 24."
        ),
    ),
    "bare dict": (
        lambda: Money("5", "ISK").to_provider_units(exponents={}),
        f'exponents must be a table such as Exponents({{"ISK": 2}}), not a dict.{NOTHING}',
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_the_refusal_says_it_in_these_words(name):
    attempt, words = MESSAGES[name]
    with pytest.raises((TypeError, ValueError)) as caught:
        attempt()
    assert str(caught.value) == words


def test_an_unlisted_code_names_the_edition_that_lacks_it():
    with pytest.raises(ValueError, match=r"^BTC has no exponent: ISO 4217 does not list it in its edition of \d{4}-\d\d-\d\d\.\n"):
        Money("1", "BTC")
