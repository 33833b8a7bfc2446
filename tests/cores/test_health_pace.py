"""Was this call slow? What is learned of a provider's pace, and what is not."""

from __future__ import annotations

from math import log

import pytest
from hypothesis import given, strategies as st

from finresilience.cores.pace import EVIDENCE, WORSE, Baseline, Pace


def taught(baseline: Baseline, paces: list[float], now: float = 0.0, suspicion: float = 0.0) -> float:
    """Teach it calls, a tenth of a second apart, and return when the last one was."""
    for took in paces:
        now += 0.11
        baseline.learn(took, now, suspicion=suspicion)
    return now


def batch(scale: float = 1.0) -> list[float]:
    return [scale * number / 100 for number in range(1, 101)]


def test_nothing_is_slow_before_a_hundred_calls_are_known() -> None:
    baseline = Baseline()
    now = taught(baseline, batch()[:99])
    assert (baseline.p95, baseline.pace(1e9)) == (None, None)
    taught(baseline, [1.0], now)
    assert baseline.p95 == 0.98


def test_what_is_given_is_not_learned() -> None:
    baseline = Baseline(0.5)
    taught(baseline, batch(7.0))
    assert baseline.p95 == 0.5
    assert [baseline.pace(took) for took in (0.5, 0.51, 1.5, 1.51)] == [Pace.QUICK, Pace.SLOW, Pace.SLOW, Pace.VERY_SLOW]
    baseline.forget()
    assert (baseline.p95, baseline.pace(0.51)) == (0.5, Pace.SLOW)


def test_a_batch_that_ends_under_suspicion_is_thrown_away() -> None:
    baseline = Baseline()
    now = taught(baseline, batch())
    taught(baseline, batch(10.0), now, suspicion=2.0)
    assert baseline.p95 == 0.98


def test_what_was_not_taken_over_yet_can_be_dropped() -> None:
    baseline = Baseline()
    now = taught(baseline, [99.0] * 60)
    baseline.drop()
    taught(baseline, batch(), now)
    assert baseline.p95 == 0.98


def test_of_calls_that_come_together_only_the_first_is_taken() -> None:
    baseline = Baseline()
    for number in range(1000):
        baseline.learn(0.01 if number else 5.0, 0.0, suspicion=0.0)
    taught(baseline, [5.0] * 99)
    assert baseline.p95 == 5.0


def test_of_calls_a_tenth_of_a_second_apart_each_is_taken() -> None:
    baseline = Baseline()
    for now in (0.0, 0.1):
        baseline.learn(5.0, now, suspicion=0.0)
    taught(baseline, [5.0] * 98, 0.1)
    assert baseline.p95 == 5.0


def test_the_second_batch_counts_half_and_the_tenth_a_tenth() -> None:
    baseline = Baseline()
    now = taught(baseline, batch())
    now = taught(baseline, batch(4.0), now)
    assert baseline.p95 == pytest.approx((0.98 * 3.84) ** 0.5)


def test_once_settled_it_grows_by_a_hundredth_and_a_half_and_falls_as_it_likes() -> None:
    baseline, now = Baseline(), 0.0
    for _ in range(12):
        now = taught(baseline, batch(), now)
    settled = baseline.p95
    assert settled is not None
    now = taught(baseline, batch(100.0), now)
    assert log((baseline.p95 or 0.0) / settled) == pytest.approx(0.015)
    grown = baseline.p95 or 0.0
    taught(baseline, batch(0.01), now)
    assert log((baseline.p95 or 0.0) / grown) == pytest.approx(log(0.0096 / grown) / 10, abs=0.005)


def test_up_to_half_as_much_again_as_the_median_is_quick_whatever_the_percentile() -> None:
    baseline = Baseline()
    taught(baseline, [2.0] * 60 + [1.0] * 40)
    assert baseline.p95 == 2.0
    assert [baseline.pace(took) for took in (3.0, 3.1, 6.0, 6.1)] == [Pace.QUICK, Pace.SLOW, Pace.SLOW, Pace.VERY_SLOW]


def test_nobody_moves_money_because_two_milliseconds_became_five() -> None:
    baseline = Baseline()
    taught(baseline, [0.002] * 100)
    assert baseline.pace(0.005) is Pace.QUICK


def test_it_can_be_learned_anew() -> None:
    baseline = Baseline()
    now = taught(baseline, batch())
    baseline.forget()
    assert baseline.p95 is None
    taught(baseline, batch(3.0), now)
    assert baseline.p95 == pytest.approx(2.94)


def test_on_a_clock_with_another_zero_it_goes_on() -> None:
    baseline = Baseline()
    now = taught(baseline, batch()[:50], 1000.0)
    baseline.shift(-1000.0)
    taught(baseline, batch()[50:], now - 1000.0)
    assert baseline.p95 == 0.98


def test_on_a_clock_with_another_zero_calls_that_come_together_still_do() -> None:
    baseline = Baseline()
    now = taught(baseline, batch()[:99], 50.0)
    baseline.shift(1000.0)
    baseline.learn(1.0, 1000.0 + now + 0.05, suspicion=0.0)
    assert baseline.p95 is None


@given(st.floats(0.0, 1e3), st.floats(0.01, 1e3))
def test_more_time_is_never_better(took: float, more: float) -> None:
    baseline = Baseline(1.0)
    paces = baseline.pace(took), baseline.pace(took + more)
    assert paces[0] is not None
    assert paces[1] is not None
    assert paces[0] <= paces[1]
    assert EVIDENCE[paces[0]] <= EVIDENCE[paces[1]]


def test_a_slow_call_that_becomes_very_slow_counts_as_much_as_one_that_was_so_at_once() -> None:
    assert EVIDENCE[Pace.SLOW] + WORSE == pytest.approx(EVIDENCE[Pace.VERY_SLOW])
    assert EVIDENCE[Pace.QUICK] < 0.0 < EVIDENCE[Pace.SLOW]
