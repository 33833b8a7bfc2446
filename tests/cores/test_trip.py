"""When does a circuit open? Each rule against its own sentence, and the one law that all rules keep."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, strategies as st

from finresilience.cores.trip import ConsecutiveFailures, FailureCount, FailureRate, SlowRate, TripRule
from finresilience.cores.window import CountWindow, Tally, TimeWindow, Window

numbers = st.integers(0, 40)
RULES: list[TripRule] = [
    FailureRate(0.5, minimum_calls=4),
    SlowRate(0.25, after=2, minimum_calls=3),
    FailureCount(3),
    ConsecutiveFailures(2),
]


def tally(calls: int, failures: int = 0, slow: int = 0, streak: int = 0) -> Tally:
    return Tally(calls=calls, failures=failures, slow=slow, streak=streak)


@given(numbers, numbers, st.integers(1, 16), st.integers(1, 20))
def test_a_rate_trips_exactly_when_enough_calls_stand_and_the_share_is_reached(good: int, bad: int, sixteenths: int, minimum: int) -> None:
    calls = good + bad
    due = bad > 0 and calls >= minimum and Fraction(bad, calls) >= Fraction(sixteenths, 16)
    assert (FailureRate(sixteenths / 16, minimum_calls=minimum).trips(tally(calls, failures=bad)) is not None) == due
    assert (SlowRate(sixteenths / 16, after=1, minimum_calls=minimum).trips(tally(calls, slow=bad)) is not None) == due


@given(numbers, numbers, st.integers(1, 20))
def test_a_count_trips_exactly_when_it_is_reached(calls: int, failures: int, limit: int) -> None:
    assert (FailureCount(limit).trips(tally(calls + failures, failures=failures)) is not None) == (failures >= limit)
    assert (ConsecutiveFailures(limit).trips(tally(calls + failures, streak=failures)) is not None) == (failures >= limit)


def test_failures_do_not_trip_the_slow_rule_nor_slowness_the_failure_rules() -> None:
    assert SlowRate(0.1, after=1, minimum_calls=1).trips(tally(9, failures=9, streak=9)) is None
    assert FailureRate(0.1, minimum_calls=1).trips(tally(9, slow=9)) is None
    assert FailureCount(1).trips(tally(9, slow=9)) is None
    assert ConsecutiveFailures(1).trips(tally(9, slow=9, failures=3)) is None


def test_no_rule_trips_before_its_minimum_of_calls_stand() -> None:
    for rule in (FailureRate(0.5, minimum_calls=4), SlowRate(0.5, after=1, minimum_calls=3), FailureCount(1), ConsecutiveFailures(1)):
        first = next(n for n in range(1, 9) if rule.trips(tally(n, failures=n, slow=n, streak=n)) is not None)
        assert first >= rule.minimum_calls >= 1


def test_by_default_a_rate_asks_for_twenty_calls() -> None:
    assert FailureRate(0.5).minimum_calls == SlowRate(0.5, after=1).minimum_calls == 20


def test_every_reason_is_a_sentence_with_its_numbers() -> None:
    seen = tally(8, failures=4, slow=2, streak=3)
    assert [rule.trips(seen) for rule in RULES] == [
        "4 of 8 calls failed",
        "2 of 8 calls took longer than 2 s",
        "4 calls failed",
        "3 calls in a row failed",
    ]


@pytest.mark.parametrize("window", [TimeWindow(8.0, buckets=4), CountWindow(5), CountWindow(12)], ids=repr)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@given(st.lists(st.tuples(st.integers(0, 1), st.booleans(), st.booleans()), max_size=40))
def test_one_more_quick_success_never_makes_a_rule_trip(window: Window, rule: TripRule, steps: list[tuple[int, bool, bool]]) -> None:
    live, now = window.start(0.0), 0.0
    for ticks, failed, slow in steps:
        now += ticks / 4
        before = live.tally(now)
        tripped = rule.trips(before)
        after = live.record(now, failed=failed, slow=slow)
        if before.calls >= rule.minimum_calls and not failed and not slow and tripped is None:
            assert rule.trips(after) is None
