"""A window that held a call for too long by the last bit of a float, and a message that asked for less than was taken."""

from __future__ import annotations

from fractions import Fraction
from math import inf, nextafter
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from finresilience import ConfigurationError, Custom, TimeWindow
from finresilience.cores import window as windows
from tests.laws.sabotage import each_kill, kills

Patch = pytest.MonkeyPatch


def law_a_call_has_left_when_its_age_reaches_the_window(seconds: float, buckets: int, at: float) -> None:
    live = TimeWindow(seconds, buckets=buckets).start(at)
    assert live.record(at, failed=True, slow=False).calls == 1
    now = at + seconds
    while now - at < seconds:  # the sum was rounded down
        now = nextafter(now, inf)
    assert live.tally(now).calls == 0


@given(st.floats(1e-3, 1e5), st.integers(1, 60), st.floats(0, 1e6))
@example(8.0, 10, 2.4000000000000004)
@example(8.0, 10, 3276.8)
@example(7.0, 6, 7.0 / 6)
@example(1.1, 11, 0.4)
@example(3.2, 8, 0.4)
def test_a_call_has_left_when_its_age_reaches_the_window(seconds: float, buckets: int, at: float) -> None:
    """Eight seconds in ten buckets of "0.8", which a float holds a hair too long: a failure eight seconds old still counted."""
    law_a_call_has_left_when_its_age_reaches_the_window(seconds, buckets, at)


def law_a_bucket_is_its_share_of_the_window(seconds: float, buckets: int) -> None:
    width, share = Fraction(TimeWindow(seconds, buckets=buckets)._width), Fraction(seconds) / buckets
    assert share * (1 - Fraction(1, 10**15)) <= width <= share


@given(st.floats(1e-6, 1e300), st.integers(1, 60))
@example(60.0, 10)
def test_a_bucket_is_its_share_of_the_window_or_a_hair_less(seconds: float, buckets: int) -> None:
    law_a_bucket_is_its_share_of_the_window(seconds, buckets)


def test_a_share_that_a_float_holds_is_taken_as_it_is() -> None:
    assert [TimeWindow(seconds)._width for seconds in (10, 60, 2.5)] == [1.0, 6.0, 0.25]


def law_a_call_at_the_edge_of_a_bucket_has_left_in_time(seconds: float, buckets: int, bucket: int) -> None:
    at = bucket * (seconds / buckets)
    for _ in range(3):
        law_a_call_has_left_when_its_age_reaches_the_window(seconds, buckets, at)
        at = nextafter(at, inf)


@given(st.integers(1, 10**6), st.sampled_from([1, 4, 10, 100, 1000]), st.integers(1, 60), st.integers(0, 200))
@example(32, 10, 8, 1)
def test_a_call_at_the_edge_of_a_bucket_has_left_in_time(tens: int, parts: int, buckets: int, bucket: int) -> None:
    """Chance alone never meets these: both times lie beside an edge, and their difference is rounded up."""
    law_a_call_at_the_edge_of_a_bucket_has_left_in_time(tens / parts, buckets, bucket)


def an_exact_share_is_always_taken_as_it_is(patch: Patch) -> None:
    patch.setattr(windows, "_SHORT", 2.0**53)


def a_bucket_is_as_long_as_the_division_says(patch: Patch) -> None:
    def width(seconds: float, buckets: int) -> float:
        return seconds / buckets

    patch.setattr(windows, "_width", width)


def a_bucket_is_much_shorter(patch: Patch) -> None:
    def width(seconds: float, buckets: int) -> float:
        return seconds / buckets * 0.999

    patch.setattr(windows, "_width", width)


def test_a_schedule_that_says_nonsense_is_told_what_it_may_say() -> None:
    """The message asked for a finite number, though a wait without end was always taken, and cut to the cap."""
    assert Custom(lambda n: inf, cap=5.0).wait(0, 0.0, 0.0) == (5.0, 0.0)
    with pytest.raises(ConfigurationError, match=r"^waits\(n\)=nan cannot work.*may be infinite") as refused:
        Custom(lambda n: inf - inf).wait(0, 0.0, 0.0)
    assert "finite number" not in str(refused.value).replace("infinite", "")


@each_kill(
    (a_bucket_is_as_long_as_the_division_says, law_a_call_has_left_when_its_age_reaches_the_window, 8.0, 10, 2.4000000000000004),
    (a_bucket_is_as_long_as_the_division_says, law_a_call_has_left_when_its_age_reaches_the_window, 8.0, 10, 3276.8),
    (a_bucket_is_as_long_as_the_division_says, law_a_bucket_is_its_share_of_the_window, 8.0, 10),
    (an_exact_share_is_always_taken_as_it_is, law_a_call_at_the_edge_of_a_bucket_has_left_in_time, 3.2, 8, 1),
    (a_bucket_is_much_shorter, law_a_bucket_is_its_share_of_the_window, 8.0, 10),
)
def test_its_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
