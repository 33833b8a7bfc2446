"""Does the rate stay what it is after a billion calls? Floats told, exact fractions reckoned."""

from __future__ import annotations

import os
from collections import deque
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, strategies as st

from finresilience.cores.limiter import SlidingWindow, TokenBucket
from finresilience.cores.line import Place, Seat

CALLS = 3_000_000 if os.environ.get("FINRESILIENCE_DEEP") else 30_000
NANOSECOND = Fraction(1, 10**9)
starts = st.floats(0.0, 2.0**24)


@given(
    start=starts,
    taken=st.integers(1, 10**9),
    limit=st.integers(1, 10**6),
    per=st.floats(1.0, 100.0),
    burst=st.integers(1, 1000),
    near=st.integers(-3, 3),
)
def test_after_a_billion_calls_without_a_pause_a_slot_opens_at_its_time_to_the_nanosecond(
    start: float, taken: int, limit: int, per: float, burst: int, near: int
) -> None:
    interval = Fraction(per) / limit
    core = TokenBucket(limit, per=per, burst=burst).start(start)
    core._taken = float(taken)
    opens = Fraction(start) + (taken + 1 - burst) * interval
    now = float(max(opens, Fraction(start)) + near * NANOSECOND)
    error = NANOSECOND + (abs(Fraction(now)) + taken * interval) * Fraction(1, 2**50)  # of the clock, and of the reading at that size
    if core.take(now):
        assert opens - error <= Fraction(now)
    else:
        assert Fraction(now) < opens + error


def passed_one_by_one(core: Any, start: float, calls: int) -> float:
    """Let calls pass, each as soon as it may, and return when the last did."""
    now = start
    for _ in range(calls):
        place = core.join(now, 1e9)
        assert isinstance(place, Place)
        now += place.wait
        while (left := core.step(place, now)) > 0.0:
            now += left
    return now


@pytest.mark.parametrize("burst", [1, 2, 20])
@pytest.mark.parametrize("start", [0.0, 2.0**20 + 0.1, 2.0**23])
@pytest.mark.parametrize(("limit", "per"), [(10, 7.0), (10, 1.0), (3, 1.0), (100_000, 7.0)])
def test_errors_of_rounding_never_add_up_to_a_call_too_many(limit: int, per: float, start: float, burst: int) -> None:
    end = passed_one_by_one(TokenBucket(limit, per=per, burst=burst).start(start), start, CALLS + burst)
    exact = Fraction(start) + CALLS * Fraction(per) / limit
    assert Fraction(end) >= exact - NANOSECOND
    assert Fraction(end) <= exact + CALLS * Fraction(2.0**-29)  # who comes an unreadable moment late has come late


@pytest.mark.parametrize("start", [0.0, 2.0**20 + 0.1, 2.0**23])
def test_a_window_compares_two_readings_and_adds_nothing_up(start: float) -> None:
    now, passed = start, []
    core = SlidingWindow(3, per=0.7).start(start)
    for _ in range(CALLS // 10):
        now = passed_one_by_one(core, now, 1)
        passed.append(Fraction(now))
    assert all(later - sooner >= Fraction(0.7) - NANOSECOND for sooner, later in zip(passed, passed[3:], strict=False))


class AddsUp:
    """Saboteur: the textbook's GCRA, whose due time is a float that grows by the interval."""

    def __init__(self, interval: float, now: float) -> None:
        self.interval, self.due = interval, now

    def join(self, now: float, patience: float) -> Place:
        due = max(self.due, now)
        self.due = due + self.interval
        return Place(deque(), Seat(), due - now)

    def step(self, place: Place, now: float) -> float:
        return 0.0


def test_a_due_time_that_is_added_up_lets_calls_pass_too_soon() -> None:
    start, calls = 2.0**20, 30_000  # a million more, and the readings pass 2^21, from where on the same sum is rounded up
    end = passed_one_by_one(AddsUp(0.7, start), start, calls + 1)
    assert Fraction(end) < Fraction(start) + calls * Fraction(7, 10) - 1000 * NANOSECOND
