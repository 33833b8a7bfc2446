"""How long does a circuit stay open?"""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, strategies as st

from finresilience.cores.interval import OpenFor

chances = st.floats(0.0, 1.0, exclude_max=True)


@given(st.integers(0, 10**400), chances, st.floats(0.001, 100), st.floats(1, 1e300), st.none() | st.floats())
def test_it_is_never_shorter_than_the_base_nor_longer_than_the_cap(
    n: int, u: float, base: float, factor: float, hint: float | None
) -> None:
    assert base <= OpenFor(base, factor=factor, cap=100.0).seconds(n, u, hint) <= 100.0


@given(st.integers(0, 12), chances)
def test_it_follows_the_formula_below_the_cap(n: int, u: float) -> None:
    assert OpenFor(1, factor=2, cap=1e9, jitter=0.25).seconds(n, u, None) == pytest.approx(2.0**n * (1 + u / 4))


def test_without_jitter_it_doubles_up_to_the_cap() -> None:
    assert [OpenFor(5, cap=30, jitter=0).seconds(n, 0.9, None) for n in range(5)] == [5, 10, 20, 30, 30]


def test_a_slow_growth_still_reaches_the_cap() -> None:
    assert OpenFor(1, factor=1.01, cap=10, jitter=0).seconds(300, 0.0, None) == 10


def test_a_wait_the_provider_asked_for_is_honoured_up_to_the_cap_and_never_shortens() -> None:
    interval = OpenFor(timedelta(seconds=10), cap=60, jitter=0)
    assert interval.seconds(0, 0.0, 42.0) == 42.0
    assert interval.seconds(0, 0.0, 4200.0) == 60.0
    assert interval.seconds(0, 0.0, float("inf")) == 60.0
    for useless in (3.0, 0.0, -5.0, float("nan")):
        assert interval.seconds(0, 0.0, useless) == 10.0


@given(st.integers(0, 80), chances, chances)
def test_more_openings_or_more_chance_never_shorten_it(n: int, u: float, v: float) -> None:
    interval = OpenFor(0.5, factor=1.5, cap=1000, jitter=0.3)
    assert interval.seconds(n, min(u, v), None) <= interval.seconds(n, max(u, v), None)
    assert interval.seconds(n, u, None) <= interval.seconds(n + 1, u, None)


def test_a_long_base_needs_no_cap_of_its_own() -> None:
    assert OpenFor(3600, jitter=0).seconds(5, 0.0, None) == 3600
    assert OpenFor(30, jitter=0).seconds(9, 0.0, None) == 600
