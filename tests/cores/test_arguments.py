"""An argument that cannot work is refused where it is given, by name, before any money moves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from math import inf, nan
from typing import Any, cast

import pytest
from hypothesis import given, strategies as st

from finresilience._checks import factor_of, name_of, positive_count, refuse, seconds_of, share_of
from finresilience.cores import backoff
from finresilience.cores.budget import RatioBudget, TokenBudget
from finresilience.cores.interval import OpenFor
from finresilience.cores.trip import ConsecutiveFailures, FailureCount, FailureRate, SlowRate
from finresilience.cores.window import CountWindow, TimeWindow
from finresilience.errors import ConfigurationError

Make = Callable[[], object]
MakeOf = Callable[[Any], object]
STRANGE: list[Any] = [None, True, False, "1", b"1", [1], object(), 1 + 0j, Decimal(1)]
NO_NUMBER = [*STRANGE, nan, -1, -0.1, -inf]
SECONDS = [*NO_NUMBER, inf, 10**400, 0, timedelta(0), timedelta(seconds=-1)]
SECONDS_OR_ZERO = [*NO_NUMBER, inf, 10**400, timedelta(seconds=-1)]
COUNT = [*NO_NUMBER, 0, 1.0, 2.5, 10**10, 10**400]
SHARE_OR_ZERO = [*NO_NUMBER, 1.0001, 2, inf, 10**400, -(10**400)]
SHARE = [*SHARE_OR_ZERO, 0, 0.0]
FACTOR = [*NO_NUMBER, 0, 0.99, inf, 10**400]

CASES: list[tuple[str, list[Any], MakeOf]] = [
    ("seconds", SECONDS, TimeWindow),
    ("seconds", [1e-7, 5e-324], TimeWindow),
    ("buckets", [*COUNT, 61], lambda value: TimeWindow(60, buckets=value)),
    ("calls", [*COUNT, 1_000_001], CountWindow),
    ("failure_rate", SHARE, FailureRate),
    ("minimum_calls", COUNT, lambda value: FailureRate(0.5, minimum_calls=value)),
    ("slow_rate", SHARE, lambda value: SlowRate(value, after=1)),
    ("slow_after", SECONDS, lambda value: SlowRate(0.5, after=value)),
    ("minimum_calls", COUNT, lambda value: SlowRate(0.5, after=1, minimum_calls=value)),
    ("failure_count", COUNT, FailureCount),
    ("consecutive_failures", COUNT, ConsecutiveFailures),
    ("open_for", SECONDS, lambda value: OpenFor(value, cap=1.7976931348623157e308)),
    ("factor", FACTOR, lambda value: OpenFor(1, factor=value)),
    ("cap", [*SECONDS[1:], 0.5], lambda value: OpenFor(1, cap=value)),  # None is "none of my own"
    ("jitter", SHARE_OR_ZERO, lambda value: OpenFor(1, jitter=value)),
    ("tokens", [*COUNT, 1001], TokenBudget),
    ("ratio", SHARE, lambda value: TokenBudget(ratio=value)),
    ("share", SHARE, RatioBudget),
    ("at_least", [*SECONDS_OR_ZERO, 1_000_001], lambda value: RatioBudget(at_least=value)),
    ("window", [*SECONDS, 1e-7, 5e-324], lambda value: RatioBudget(window=value)),
    ("spread", SHARE_OR_ZERO, lambda value: backoff.SymmetricJitter(1, spread=value)),
    ("waits", STRANGE, backoff.Custom),
    ("cap", SECONDS_OR_ZERO, lambda value: backoff.Custom(float, cap=value)),
]


def of_schedule(kind: Callable[..., object], *, growing: bool) -> list[tuple[str, list[Any], MakeOf]]:
    return [
        ("base", SECONDS_OR_ZERO, kind),
        ("cap", SECONDS_OR_ZERO, lambda value: kind(1, cap=value)),
        *([("factor", FACTOR, lambda value: kind(1, factor=value))] if growing else []),
    ]


for steady in (backoff.Constant, backoff.Linear, backoff.DecorrelatedJitter, backoff.DecorrelatedJitterV2):
    CASES.extend(of_schedule(steady, growing=False))
for grown in (backoff.Exponential, backoff.SymmetricJitter, backoff.FullJitter, backoff.EqualJitter):
    CASES.extend(of_schedule(grown, growing=True))


@pytest.mark.parametrize(("name", "values", "make"), CASES, ids=[f"{at}-{case[0]}" for at, case in enumerate(CASES)])
def test_a_bad_argument_is_refused_by_name(name: str, values: list[Any], make: MakeOf) -> None:
    for value in values:
        if name == "waits" and callable(value):
            continue
        with pytest.raises(ConfigurationError, match=rf"^{name}=.* cannot work: give "):
            make(value)


ANYTHING = st.one_of(
    st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=5), st.timedeltas(), st.binary(max_size=3), st.complex_numbers()
)


@given(ANYTHING, st.sampled_from(CASES))
def test_an_argument_is_taken_or_refused_by_name_and_nothing_else_happens(value: object, case: tuple[str, list[Any], MakeOf]) -> None:
    name, _, make = case
    try:
        make(value)
    except ConfigurationError as refused:
        assert str(refused).startswith(f"{name}=")


@given(st.floats(1e-6, 1e300), st.floats(0, 1e9))
def test_a_window_that_was_taken_works(seconds: float, now: float) -> None:
    live = TimeWindow(seconds).start(now)
    assert live.record(now, failed=True, slow=False).calls == 1
    assert RatioBudget(window=seconds, at_least=1e6).withdraw(now)


def test_what_is_good_is_returned_as_a_plain_number() -> None:
    assert seconds_of("a", timedelta(milliseconds=250)) == 0.25
    assert seconds_of("a", 0, zero=True) == 0.0
    assert seconds_of("a", 10**400, infinite=True) == inf
    assert seconds_of("a", inf, infinite=True) == inf
    assert positive_count("a", 3) == 3
    assert positive_count("a", 0, least=0) == 0
    assert isinstance(share_of("a", 1), float)
    assert share_of("a", 0, zero=True) == 0.0
    assert isinstance(factor_of("a", 1), float)
    assert name_of("a", "acme.charge") == "acme.charge"


@pytest.mark.parametrize("value", [None, 1, "", "   ", "x" * 201, "a\nb", "a\x00b", b"acme"], ids=repr)
def test_a_name_is_printable_and_not_too_long(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^name="):
        name_of("name", value)


SECONDS_WANTED = "seconds (a finite number or a timedelta)"
WORDS: list[tuple[str, Make]] = [
    ("seconds=1e-07 cannot work: give at least a microsecond", lambda: TimeWindow(1e-7)),
    (f"seconds=-1 cannot work: give more than zero {SECONDS_WANTED}", lambda: TimeWindow(-1)),
    ("buckets=61 cannot work: give a whole number from 1 to 60", lambda: TimeWindow(60, buckets=61)),
    ("calls=0 cannot work: give a whole number from 1 to 1000000", lambda: CountWindow(0)),
    ("failure_rate=2 cannot work: give a share above 0 to 1, such as 0.5", lambda: FailureRate(2)),
    ("cap=3.0 cannot work: give at least the base, 4 s", lambda: OpenFor(4, cap=3)),
    ("jitter=-1 cannot work: give a share from 0 to 1, such as 0.5", lambda: OpenFor(4, jitter=-1)),
    ("tokens=1001 cannot work: give a whole number from 1 to 1000", lambda: TokenBudget(1001)),
    ("window=1e-07 cannot work: give at least a microsecond", lambda: RatioBudget(window=1e-7)),
    ("at_least=1000001 cannot work: give at most 1,000,000 retries a second", lambda: RatioBudget(at_least=1_000_001)),
    ("factor=0.5 cannot work: give a finite number of at least 1", lambda: backoff.Exponential(1, factor=0.5)),
    (f"base=-1 cannot work: give zero or more {SECONDS_WANTED}", lambda: backoff.Constant(-1)),
    ("waits=3 cannot work: give a function from the number of the wait to seconds", lambda: backoff.Custom(cast("Any", 3))),
    (
        "waits(n)=-1 cannot work: give zero or more seconds (a number, which may be infinite, or a timedelta)",
        lambda: backoff.Custom(lambda n: -1).wait(0, 0.0, 0.0),
    ),
]


@pytest.mark.parametrize(("words", "make"), WORDS, ids=[words.partition(" ")[0] for words, _ in WORDS])
def test_a_refusal_says_what_came_and_what_would_do(words: str, make: Make) -> None:
    with pytest.raises(ConfigurationError) as refused:
        make()
    assert str(refused.value) == words


TAKEN: dict[str, Make] = {
    "a window of a microsecond": lambda: TimeWindow(1e-6, buckets=60),
    "a window of one call": lambda: CountWindow(1),
    "a window of a million calls": lambda: CountWindow(1_000_000),
    "a rate of all calls": lambda: FailureRate(1, minimum_calls=1),
    "no jitter": lambda: OpenFor(4, cap=4, jitter=0),
    "a thousand tokens": lambda: TokenBudget(1000, ratio=1),
    "a budget of a microsecond": lambda: RatioBudget(1, window=1e-6, at_least=1_000_000),
    "no spread": lambda: backoff.SymmetricJitter(0, cap=0, factor=1, spread=0),
    "a spread of all": lambda: backoff.SymmetricJitter(1, spread=1),
    "a cap of zero": lambda: backoff.Custom(float, cap=0),
}


@pytest.mark.parametrize("make", TAKEN.values(), ids=TAKEN.keys())
def test_what_is_just_within_the_bounds_is_taken(make: Make) -> None:
    assert make() is not None


def test_a_refusal_never_shows_text_that_may_be_a_secret_nor_chokes_on_a_huge_number() -> None:
    for value, shown in [("sk_live_1", "a str"), (10**5000, "a int"), (-1, "-1"), (nan, "nan")]:
        with pytest.raises(ConfigurationError, match=rf"^x={shown} cannot work: give tea$"):
            refuse("x", value, "tea")
