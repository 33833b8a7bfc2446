"""What does a breaker make of what it was told?"""

from __future__ import annotations

from math import inf, nan
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from finresilience.cores.trip import FailureCount, FailureRate
from tests.cores.circuits import LEASE, half_open, passed, told

if TYPE_CHECKING:
    from finresilience.cores.window import Tally


class Odd:
    """A rule of one's own, with a rate of its own kind: calls a second, say."""

    minimum_calls = 3

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def trips(self, tally: Tally, /) -> str | None:
        return None


@given(st.integers(1, 100), st.integers(1, 100))
def test_a_round_fails_at_the_first_count_whose_share_reaches_the_rate(size: int, hundredths: int) -> None:
    rate = hundredths / 100
    bound = told(size=size, rules=(FailureRate(rate),)).half_open_bound
    assert bound == next(bad for bad in range(1, size + 1) if bad / size >= rate)


def test_seven_in_a_hundred_reach_seven_per_cent() -> None:
    assert told(size=100, rules=(FailureRate(0.07),)).half_open_bound == 7


def test_without_a_rate_one_bad_probe_is_enough() -> None:
    assert told(size=5, rules=(FailureCount(3),)).half_open_bound == 1


def test_the_strictest_rate_decides_a_round() -> None:
    assert told(size=10, rules=(FailureRate(0.9), FailureRate(0.2))).half_open_bound == 2


@pytest.mark.parametrize(("rate", "bound"), [(70.0, 5), (inf, 5), (nan, 5), (0.0, 1), (-1.0, 1)])
def test_odd_rules_of_ones_own_do_not_turn_a_round_round(rate: float, bound: int) -> None:
    assert told(size=5, rules=(Odd(rate),)).half_open_bound == bound


def test_a_call_is_slow_by_the_rule_that_asks_for_it_or_never() -> None:
    assert told().slow_after == 1.0
    assert told(rules=(FailureCount(3),)).slow_after == inf


def test_the_fast_lane_waits_for_the_rule_that_needs_most_calls() -> None:
    assert told().minimum_calls == 4


def test_the_lease_it_was_told_is_the_lease_it_gives() -> None:
    core = half_open()
    assert core.probe_lease == LEASE == passed(core, 8.0).expires - 8.0
