"""When may the next call pass? Two rules, and what they say of themselves."""

from __future__ import annotations

from datetime import timedelta
from math import inf, nan
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import given, strategies as st

from finresilience.cores.limiter import SlidingWindow, TokenBucket
from finresilience.cores.line import TICK, Place
from finresilience.errors import ConfigurationError
from tests.cores.lines import RULES, TICKS, World, capacity

either = pytest.mark.parametrize("kind", [TokenBucket, SlidingWindow])


# --- what passes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0.0, 1e6, -7.25, 1.7e9])
def test_a_bucket_lets_its_burst_pass_and_then_one_at_each_interval(start: float) -> None:
    core = TokenBucket(4, per=1, burst=3).start(start)
    assert [core.take(start) for _ in range(4)] == [True, True, True, None]
    assert [core.take(start + tick / 4) for tick in (1, 1, 2, 2, 3, 3)] == [True, None] * 3


@pytest.mark.parametrize("start", [0.0, 1e6, -7.25, 1.7e9])
def test_a_window_lets_its_limit_pass_and_each_makes_room_when_its_age_is_reached(start: float) -> None:
    core = SlidingWindow(2, per=1).start(start)
    assert [core.take(start), core.take(start + 0.25), core.take(start + 0.75)] == [True, True, None]
    assert [core.take(start + 1.0), core.take(start + 1.0), core.take(start + 1.25), core.take(start + 1.25)] == [True, None, True, None]


def test_a_bucket_saves_no_more_than_its_burst() -> None:
    core = TokenBucket(10, per=1, burst=2).start(0.0)
    assert [core.take(1e6) for _ in range(3)] == [True, True, None]


def test_a_bucket_without_a_burst_never_lets_two_pass_at_once() -> None:
    core = TokenBucket(100, per=1).start(0.0)
    assert [core.take(5.0), core.take(5.0), core.take(5.01)] == [True, None, True]


@pytest.mark.parametrize("tenths", range(1, 50))
def test_a_slot_opens_at_the_very_time_that_a_person_would_reckon(tenths: int) -> None:
    bucket, window = TokenBucket(10, per=1).start(0.0), SlidingWindow(1, per=0.1).start(0.0)
    for tenth in range(tenths):
        assert bucket.take(tenth / 10)
        assert window.take(tenth / 10)


@either
def test_all_who_ever_passed_are_counted(kind: Any) -> None:
    core = kind(1, per=1).start(0.0)
    for now in (10.0, 20.0, 30.0):
        assert core.take(now)
    for now in (40.0, 50.0, 60.0):
        assert core.step(core.join(now, 0.0), now) == 0.0
    assert core.passed == 6


def test_a_time_told_out_of_order_lets_nobody_pass_too_soon() -> None:
    for rule in (TokenBucket(1, per=1), SlidingWindow(1, per=1)):
        core = rule.start(0.0)
        assert core.take(10.0)
        assert not core.take(5.0)
        assert not core.take(10.9)
        assert core.take(11.0)


# --- who waits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_a_place_beyond_patience_is_not_taken_and_its_distance_is_told(rule: str) -> None:
    world = World(RULES[rule])
    while world.take():
        pass
    assert world.core.join(0.0, 0.9) == 1.0
    assert world.core.join(0.0, 1.0, 1.0) == 1.0  # no time would be left
    assert isinstance(world.core.join(0.0, 1.0, 1.01), Place)


@pytest.mark.parametrize("rule", RULES)
@given(patience=st.integers(0, 40))
def test_no_more_wait_than_have_a_slot_within_the_longest_wait(rule: str, patience: int) -> None:
    world = World(RULES[rule])
    while world.take():
        pass
    while world.join(patience) is not None:
        pass
    assert len(world.waiting) == world.core.waiting(0.0)
    seconds, limit = patience // TICKS, world.rule.limit
    assert len(world.waiting) == (seconds if isinstance(world.rule, TokenBucket) else seconds * limit)


@pytest.mark.parametrize("rule", RULES)
def test_first_come_first_served(rule: str) -> None:
    world = World(RULES[rule])
    times = [world.join() for _ in range(9)]
    assert times == sorted(time for time in times if time is not None)


@pytest.mark.parametrize("rule", RULES)
def test_in_a_forked_child_nobody_waits_and_the_past_is_not_forgotten(rule: str) -> None:
    world = World(RULES[rule])
    while world.take():
        pass
    world.join()
    left, _ = world.waiting, world.core.begin_anew()
    assert world.core.waiting(world.now / TICKS) == 0
    assert not world.core.take(0.0)
    left[0].place.leave()  # of the parent
    assert World(world.rule, world.core).join() == TICKS


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shift", [-1e6, 0.0, 1e6])
def test_a_clock_with_another_zero_changes_nothing(rule: str, shift: float) -> None:
    core = RULES[rule].start(0.0)
    for _ in range(10):  # more than may pass
        core.take(0.25)
    core.rebase(shift)
    assert not core.take(shift + 1.0)
    place = core.join(shift + 1.0, 1.0)
    assert isinstance(place, Place)
    assert place.wait == 0.25
    assert core.busy(shift + 1.0) == inf
    assert core.busy(shift + 2.25) == inf  # it may come yet
    assert core.busy(shift + 2.5) < 9.0  # it has lost its place


@pytest.mark.parametrize("rule", RULES)
def test_it_is_busy_until_it_is_as_good_as_new(rule: str) -> None:
    world = World(RULES[rule])
    while world.take():
        pass
    busy = world.core.busy(0.0)
    assert busy == (world.rule.burst if isinstance(world.rule, TokenBucket) else 1.0)
    assert world.core.busy(busy) == 0.0


def test_a_window_is_busy_until_its_last_call_has_left_it() -> None:
    core = SlidingWindow(3, per=1).start(0.0)
    assert [core.take(0.0), core.take(0.5)] == [True, True]
    assert core.busy(0.75) == 0.75


@pytest.mark.parametrize("rule", RULES)
def test_a_crowd_that_goes_away_at_once_holds_nobody_up(rule: str) -> None:
    world = World(RULES[rule])
    while world.take():
        pass
    times = [world.join(10**6) for _ in range(2000)]
    for _ in range(1999):
        world.cancel(0)
    last = times[-1]
    assert last is not None
    for tick in range(1, 20):  # whoever was last waits still, and the free places before it serve all who come in the meantime
        world.now = tick
        while world.take():
            pass
    assert len(world.passed) - capacity(world) == 4 * (1 if isinstance(world.rule, TokenBucket) else world.rule.limit)
    world.now = last
    assert world.come(world.waiting[0])


# --- how they are made -------------------------------------------------------------------------------------------------

STRANGE: list[Any] = [None, True, "1", [1], nan, -1, inf, 10**400]


@either
@pytest.mark.parametrize("limit", [*STRANGE, 0, 1.5, 10**10], ids=repr)
def test_an_unusable_limit_is_refused_by_name(kind: Any, limit: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^limit="):
        kind(limit, per=3600.0)


@either
@pytest.mark.parametrize("per", [*STRANGE[:3], *STRANGE[4:], 0, timedelta(0), timedelta(seconds=-1), 1e-7], ids=repr)
def test_an_unusable_period_is_refused_by_name(kind: Any, per: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^per=") if per is not True else pytest.raises(ConfigurationError):
        kind(1, per=per)


@pytest.mark.parametrize("burst", [*STRANGE, 0, 1.5], ids=repr)
def test_an_unusable_burst_is_refused_by_name(burst: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^burst="):
        TokenBucket(1, per=1, burst=burst)


def test_a_rate_beyond_what_a_clock_can_tell_is_refused() -> None:
    TokenBucket(1_000_000, per=1)
    TokenBucket(1, per=1e-6)
    with pytest.raises(ConfigurationError, match=r"^per=1e-07 cannot work: give at least a microsecond$"):
        TokenBucket(1, per=1e-7)
    TokenBucket(2, per=2e-6 * (1 - TICK))
    with pytest.raises(ConfigurationError, match=r"^limit=1000001 cannot work: give at most a million calls a second: 1000000 in 1 s$"):
        TokenBucket(1_000_001, per=1)
    with pytest.raises(ConfigurationError, match=r"^limit="):
        SlidingWindow(1_000_001, per=3600)


@either
def test_a_period_may_be_a_timedelta(kind: Any) -> None:
    assert kind(5, per=timedelta(minutes=1)).per == 60.0
    assert kind(30, per=60).pace == 0.5


def test_rules_that_say_the_same_are_equal() -> None:
    assert TokenBucket(1, per=1) == TokenBucket(1, per=timedelta(seconds=1)) != TokenBucket(1, per=1, burst=2)
    assert len({SlidingWindow(1, per=1), SlidingWindow(1, per=1.0), SlidingWindow(2, per=1)}) == 2
    assert TokenBucket(1, per=1) != SlidingWindow(1, per=1)
    assert TokenBucket(1, per=1) == ANY  # what is of another type may have its own opinion
    assert len({hash(SlidingWindow(limit, per=1)) for limit in range(1, 100)}) > 90  # so that a set of them is quick
    assert repr(TokenBucket(100, per=1, burst=20)) == "TokenBucket(100, per=1.0, burst=20)"
    assert repr(SlidingWindow(5, per=0.5)) == "SlidingWindow(5, per=0.5)"
