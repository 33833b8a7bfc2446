"""How long to wait before the next attempt? Every schedule: its formula, its bounds, its spread."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from math import inf, sqrt, tanh
from random import Random
from statistics import mean
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from finresilience.cores.backoff import (
    Backoff,
    Constant,
    Custom,
    DecorrelatedJitter,
    DecorrelatedJitterV2,
    EqualJitter,
    Exponential,
    FullJitter,
    Linear,
    SymmetricJitter,
)
from finresilience.errors import ConfigurationError

SCHEDULES: list[Any] = [Constant, Linear, Exponential, SymmetricJitter, FullJitter, EqualJitter, DecorrelatedJitter, DecorrelatedJitterV2]
each = pytest.mark.parametrize("schedule", SCHEDULES, ids=[kind.__name__ for kind in SCHEDULES])
chances = st.floats(0.0, 1.0, exclude_max=True)
small = st.integers(0, 12)
BIG = 1e12  # a cap that does not bite


def waits(schedule: Backoff, count: int, luck: Random) -> list[float]:
    carry, out = 0.0, list[float]()
    for n in range(count):
        wait, carry = schedule.wait(n, luck.random(), carry)
        out.append(wait)
    return out


def within_cap(schedule: Backoff, luck: list[float]) -> bool:
    carry = 0.0
    for n, u in enumerate(luck):
        wait, carry = schedule.wait(n, u, carry)
        if not 0.0 <= wait <= schedule.cap:
            return False
    return True


@each
@given(st.floats(0, 1e308), st.floats(0, 1e308), st.lists(chances, max_size=20))
@example(1e308, 1e308, [0.0, 0.0, 0.5])
def test_no_wait_is_negative_or_beyond_the_cap_or_not_a_number(schedule: Any, base: float, cap: float, luck: list[float]) -> None:
    assert within_cap(schedule(base, cap=cap), luck)


@each
@given(st.integers(0, 10**9), chances, st.floats(0, 1e308))
@example(1024, 0.0, 1.0)  # 2**1024 is the first power that a float cannot hold
def test_no_number_of_waits_overflows(schedule: Any, n: int, u: float, base: float) -> None:
    made = schedule(base, cap=60)
    wait, carry = made.wait(n, u, 0.0)
    assert 0.0 <= wait <= 60.0
    assert 0.0 <= made.wait(n + 1, u, carry)[0] <= 60.0


@each
@given(st.integers(0, 5000), chances)
def test_a_base_of_zero_waits_zero(schedule: Any, n: int, u: float) -> None:
    assert schedule(0).wait(n, u, 0.0)[0] == 0.0


@each
@given(small, chances)
def test_a_cap_of_zero_waits_zero(schedule: Any, n: int, u: float) -> None:
    assert schedule(1, cap=0).wait(n, u, 0.0)[0] == 0.0


@each
def test_no_schedule_waits_longer_than_a_minute_unless_told(schedule: Any) -> None:
    assert schedule(1e6).cap == 60.0
    assert schedule(1e6).wait(9, 0.999, 1e6)[0] <= 60.0


@pytest.mark.parametrize("factor", [2.0, 1.5, 1e308])
def test_a_growing_schedule_rests_at_its_cap_beyond_what_a_float_can_hold(factor: float) -> None:
    made = Exponential(0.1, cap=7, factor=factor)
    assert [made.wait(n, 0.0, 0.0)[0] for n in (10**5, 10**6, 10**9)] == [7.0] * 3


def test_after_thousands_of_waits_the_smooth_schedule_rests_at_its_cap() -> None:
    assert waits(DecorrelatedJitterV2(0.1, cap=7), 1100, Random(1))[20:] == [7.0] * 1080


@given(small, chances)
def test_each_schedule_without_memory_follows_its_formula(n: int, u: float) -> None:
    grown = 0.5 * 3.0**n
    for made, wanted in [
        (Constant(0.5, cap=BIG), 0.5),
        (Linear(0.5, cap=BIG), 0.5 * (n + 1)),
        (Exponential(0.5, cap=BIG, factor=3), grown),
        (SymmetricJitter(0.5, cap=BIG, factor=3), grown + grown * 0.5 * u - grown * 0.25),  # Polly's own words
        (FullJitter(0.5, cap=BIG, factor=3), u * grown),
        (EqualJitter(0.5, cap=BIG, factor=3), grown / 2 + u * grown / 2),
    ]:
        wait, carry = made.wait(n, u, 7.0)
        assert wait == pytest.approx(wanted)
        assert carry == 7.0


@given(small, chances)
def test_jitter_is_spread_below_the_cap_rather_than_cut_off_at_it(n: int, u: float) -> None:
    t = min(2.0, 0.5 * 2.0**n)
    assert FullJitter(0.5, cap=2).wait(n, u, 0.0)[0] == pytest.approx(u * t)
    assert EqualJitter(0.5, cap=2).wait(n, u, 0.0)[0] == pytest.approx(t / 2 + u * t / 2)
    assert SymmetricJitter(0.5, cap=2, spread=0.1).wait(n, u, 0.0)[0] == pytest.approx(min(2.0, t * (0.9 + 0.2 * u)))


@given(small, chances)
def test_without_spread_there_is_no_jitter(n: int, u: float) -> None:
    assert SymmetricJitter(0.5, spread=0).wait(n, u, 0.0) == Exponential(0.5).wait(n, u, 0.0)


@given(st.lists(chances, max_size=12), st.floats(0.01, 10), st.floats(0.01, 100))
def test_decorrelated_jitter_follows_the_aws_formula(luck: list[float], base: float, cap: float) -> None:
    made, previous, carry = DecorrelatedJitter(base, cap=cap), base, 0.0
    for n, u in enumerate(luck):
        wait, carry = made.wait(n, u, carry)
        previous = min(cap, base + u * (3 * previous - base))
        assert wait == pytest.approx(previous)


@given(st.lists(chances, max_size=12))
def test_the_smooth_schedule_follows_pollys_formula(luck: list[float]) -> None:
    made, before, carry = DecorrelatedJitterV2(0.128, cap=BIG), 0.0, 0.0
    for n, u in enumerate(luck):
        wait, carry = made.wait(n, u, carry)
        t = n + u
        reached = 2.0**t * tanh(sqrt(4 * t))
        assert wait == pytest.approx(0.128 * (reached - before) / 1.4)
        before = reached


@pytest.mark.parametrize(
    ("made", "low", "high", "middle"),
    [
        (SymmetricJitter(1.0), 6.0, 10.0, 8.0),
        (FullJitter(1.0), 0.0, 8.0, 4.0),
        (EqualJitter(1.0), 4.0, 8.0, 6.0),
    ],
    ids=["symmetric", "full", "equal"],
)
def test_the_fourth_wait_fills_its_range_evenly(made: Backoff, low: float, high: float, middle: float) -> None:
    luck = Random(20)
    seen = [made.wait(3, luck.random(), 0.0)[0] for _ in range(4000)]
    span = high - low
    assert low <= min(seen) < low + span / 100
    assert high - span / 100 < max(seen) <= high
    assert mean(seen) == pytest.approx(middle, abs=span / 50)


def test_the_smooth_schedule_doubles_in_the_mean_and_does_not_bunch() -> None:
    runs = [waits(DecorrelatedJitterV2(1.0, cap=BIG), 7, Random(seed)) for seed in range(3000)]
    means = [mean(run[n] for run in runs) for n in range(7)]
    for one, two in pairwise(means[1:]):
        assert 1.6 < two / one < 2.4
    assert len({round(run[4], 6) for run in runs}) > 2900


def test_decorrelated_waits_stay_at_or_above_the_base_and_differ_between_callers() -> None:
    runs = [waits(DecorrelatedJitter(1.0, cap=30), 8, Random(seed)) for seed in range(500)]
    assert all(1.0 <= wait <= 30.0 for run in runs for wait in run)
    assert len({run[-1] for run in runs} - {30.0}) > 250


@pytest.mark.parametrize(("said", "wait"), [(0, 0.0), (3, 3.0), (99.0, 5.0), (inf, 5.0), (timedelta(seconds=2), 2.0)])
def test_a_schedule_of_ones_own_is_bounded_like_the_rest(said: Any, wait: float) -> None:
    asked = list[int]()

    def own(n: int) -> Any:
        asked.append(n)
        return said

    assert Custom(own, cap=5).wait(4, 0.5, 1.5) == (wait, 1.5)
    assert asked == [4]


def test_a_schedule_of_ones_own_waits_a_minute_at_most_unless_told() -> None:
    assert Custom(lambda n: inf).wait(0, 0.0, 0.0)[0] == 60.0
    assert Custom(lambda n: inf, cap=0).wait(0, 0.0, 0.0)[0] == 0.0


@pytest.mark.parametrize("said", [-1, float("nan"), None, "2", True], ids=repr)
def test_a_schedule_of_ones_own_that_says_nonsense_is_told_so(said: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"waits\(n\)"):
        Custom(lambda n: said).wait(0, 0.0, 0.0)


def test_a_schedule_shows_how_it_was_made() -> None:
    assert repr(FullJitter(0.5, cap=8)) == "FullJitter(base=0.5, cap=8)"


Growing: Any = Exponential.__bases__[0]
Steady: Any = Constant.__bases__[0]


class Uncapped(Growing):  # type: ignore[misc] # of no type
    """Saboteur: jitter after the cap, as gRPC has it."""

    def wait(self, n: int, u: float, carry: float, /) -> tuple[float, float]:
        return min(self._grown(n), self.cap) * (0.8 + 0.4 * u), carry


def test_the_law_of_the_cap_catches_jitter_that_comes_after_it() -> None:
    assert not within_cap(Uncapped(1.0, cap=2.0), [0.9] * 3)


def test_a_schedule_that_says_nothing_is_not_a_schedule() -> None:
    class Silent(Steady):  # type: ignore[misc] # of no type
        pass

    with pytest.raises(NotImplementedError):
        Silent(1.0).wait(0, 0.0, 0.0)
