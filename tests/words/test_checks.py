"""Arguments that cannot work are refused where they are given, by name, before any money moves."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, strategies as st

from finresilience._checks import factor_of, name_of, positive_count, refuse, seconds_of, share_of
from finresilience.errors import ConfigurationError

HUGE = 10**5000  # no float holds it, and Python will not even print it
NUMBERLESS: list[Any] = [None, True, False, "1", b"1", 1j, Decimal(1), Fraction(1), [1], math.nan]
NUMBERS: list[Callable[..., object]] = [seconds_of, positive_count, share_of, factor_of]

Check = Callable[[str, object], object]


def law_a_bad_value_is_refused_by_name(check: Check, value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^patience=.* cannot work: give "):
        check("patience", value)


@pytest.mark.parametrize("check", NUMBERS)
@pytest.mark.parametrize("value", NUMBERLESS, ids=repr)
def test_what_is_no_number_is_refused_by_name(check: Check, value: object) -> None:
    law_a_bad_value_is_refused_by_name(check, value)


@pytest.mark.parametrize("check", NUMBERS)
@given(number=st.one_of(st.integers(max_value=-1), st.floats(max_value=-1e-300), st.just(-HUGE)))
def test_what_is_negative_is_refused_by_name(check: Check, number: float) -> None:
    law_a_bad_value_is_refused_by_name(check, number)


@pytest.mark.parametrize("check", NUMBERS)
@pytest.mark.parametrize("number", [math.inf, -math.inf, HUGE], ids=["inf", "-inf", "huge"])
def test_what_has_no_end_is_refused_by_name(check: Check, number: float) -> None:
    law_a_bad_value_is_refused_by_name(check, number)


@pytest.mark.parametrize("check", NUMBERS)
def test_zero_is_refused_unless_it_is_allowed(check: Check) -> None:
    law_a_bad_value_is_refused_by_name(check, 0)


def careless(name: str, value: Any) -> object:
    """The saboteur: a comparison lets NaN through, and True is more than zero."""
    if value <= 0:
        refuse(name, value, "more than zero")
    return value


@pytest.mark.parametrize("value", [math.nan, True, math.inf], ids=repr)
def test_the_law_catches_a_careless_check(value: object) -> None:
    with pytest.raises(pytest.fail.Exception):
        law_a_bad_value_is_refused_by_name(careless, value)


# ---------------------------------------------------------------- seconds


@given(st.one_of(st.integers(1, 10**300), st.floats(min_value=0, exclude_min=True, allow_infinity=False, allow_nan=False)))
def test_a_positive_number_is_that_many_seconds(number: float) -> None:
    seconds = seconds_of("patience", number)
    assert seconds == float(number)
    assert type(seconds) is float


@given(st.timedeltas(min_value=timedelta(microseconds=1)))
def test_a_timedelta_is_its_seconds(span: timedelta) -> None:
    assert seconds_of("patience", span) == span.total_seconds()


@pytest.mark.parametrize("nothing", [0, 0.0, -0.0, timedelta(0)], ids=repr)
def test_no_seconds_at_all_must_be_allowed(nothing: object) -> None:
    assert seconds_of("patience", nothing, zero=True) == 0.0
    with pytest.raises(ConfigurationError, match="more than zero seconds"):
        seconds_of("patience", nothing)


@pytest.mark.parametrize("forever", [math.inf, HUGE], ids=["inf", "huge"])
def test_no_end_must_be_allowed(forever: float) -> None:
    assert seconds_of("patience", forever, infinite=True) == math.inf
    with pytest.raises(ConfigurationError):
        seconds_of("patience", forever, zero=True)


@pytest.mark.parametrize("never", [-1, timedelta(seconds=-1), -math.inf, math.nan, True], ids=repr)
def test_nothing_allows_what_is_negative_or_no_number(never: object) -> None:
    with pytest.raises(ConfigurationError, match="patience"):
        seconds_of("patience", never, zero=True, infinite=True)


# ---------------------------------------------------------------- counts, shares, factors, names


@given(st.integers(3, 10))
def test_a_count_within_its_bounds_is_itself(number: int) -> None:
    assert positive_count("attempts", number, least=3, most=10) == number


@pytest.mark.parametrize("number", [2, 11, 3.0, 10**9 + 1], ids=repr)
def test_a_count_beyond_its_bounds_is_refused_with_them(number: object) -> None:
    with pytest.raises(ConfigurationError, match=r"attempts=.* a whole number from 3 to 10"):
        positive_count("attempts", number, least=3, most=10)


def test_a_count_has_a_bound_even_if_nobody_names_one() -> None:
    assert positive_count("attempts", 10**9) == 10**9
    with pytest.raises(ConfigurationError, match="from 1 to 1000000000"):
        positive_count("attempts", 10**9 + 1)


@given(st.floats(0, 1, exclude_min=True))
def test_a_share_is_itself(share: float) -> None:
    assert share_of("rate", share) == share


@pytest.mark.parametrize("number", [1.0000001, 2, 50, HUGE], ids=["a little more", "2", "50", "huge"])
def test_more_than_all_is_no_share(number: float) -> None:
    with pytest.raises(ConfigurationError, match=r"rate=.* a share above 0 to 1, such as 0\.5"):
        share_of("rate", number)


def test_an_int_may_be_a_share_and_comes_back_as_a_float() -> None:
    assert (share_of("rate", 1), share_of("rate", 0, zero=True)) == (1.0, 0.0)
    assert type(share_of("rate", 1)) is float


def test_no_share_at_all_must_be_allowed() -> None:
    with pytest.raises(ConfigurationError, match="a share above 0"):
        share_of("rate", 0)
    with pytest.raises(ConfigurationError, match="a share from 0"):
        share_of("rate", -1, zero=True)


@given(st.one_of(st.integers(1, 10**300), st.floats(1, allow_infinity=False, allow_nan=False)))
def test_a_factor_is_itself(number: float) -> None:
    assert factor_of("growth", number) == float(number)


def test_a_factor_that_shrinks_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"growth=0\.999 cannot work: give a finite number of at least 1"):
        factor_of("growth", 0.999)


@pytest.mark.parametrize("name", ["acme", "acme.charge", " acme ", "Zahlung für Müller", "x" * 200])
def test_a_printable_name_is_itself(name: str) -> None:
    assert name_of("name", name) == name


@pytest.mark.parametrize("name", ["", "   ", "x" * 201, "two\nlines", "bell\x07", "\x00", None, 1, b"acme", ["acme"]], ids=repr)
def test_what_cannot_be_printed_is_no_name(name: object) -> None:
    with pytest.raises(ConfigurationError, match=r"name=.* a printable name of 1 to 200 characters"):
        name_of("name", name)


# ---------------------------------------------------------------- the message


@pytest.mark.parametrize("value", ["4111111111111111", b"sk_live_1", {"card": "4111111111111111"}, ["4111111111111111"]])
def test_a_refusal_shows_no_text_of_the_callers(value: object) -> None:
    with pytest.raises(ConfigurationError) as refused:
        refuse("name", value, "something else")
    assert "4111" not in str(refused.value)
    assert "sk_live" not in str(refused.value)
    assert str(refused.value) == f"name=a {type(value).__name__} cannot work: give something else"


@given(st.one_of(st.integers(-(10**15) + 1, 10**15 - 1), st.floats(), st.timedeltas(), st.booleans()))
def test_a_refusal_shows_the_number_that_came(value: object) -> None:
    with pytest.raises(ConfigurationError) as refused:
        refuse("name", value, "something else")
    assert f"name={value!r} cannot work" in str(refused.value)


@pytest.mark.parametrize("value", [10**15, -(10**15), HUGE, -HUGE], ids=["big", "-big", "huge", "-huge"])
def test_a_refusal_does_not_print_digits_without_end(value: int) -> None:
    with pytest.raises(ConfigurationError, match=r"name=a int cannot work") as refused:
        refuse("name", value, "something else")
    assert len(str(refused.value)) < 100


def test_a_refusal_is_a_value_error_too() -> None:
    with pytest.raises(ValueError, match="patience"):
        seconds_of("patience", "soon")
