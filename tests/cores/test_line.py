"""Who passes next, to the nanosecond? Stories told in full, where only one answer is right."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from finresilience.cores.limiter import SlidingWindow, TokenBucket
from finresilience.cores.line import TICK, Place
from tests.cores.lines import EVERY, RULES, TICKS, World

# --- a nanosecond, which no clock can tell --------------------------------------------------------------------------------


def opens_in(seconds: float) -> Any:
    """Return a bucket whose first place opens so long after 0.0."""
    return TokenBucket(1, per=1).start(seconds)


def test_a_wait_of_a_nanosecond_is_no_wait_and_one_of_two_is() -> None:
    assert opens_in(TICK).take(0.0)
    assert not opens_in(2 * TICK).take(0.0)
    soon = opens_in(TICK).join(0.0, 0.0, 0.0)
    assert isinstance(soon, Place)
    assert soon.wait == 0.0
    assert opens_in(2 * TICK).join(0.0, 0.0) == 2 * TICK


def test_patience_is_stretched_by_a_nanosecond_and_no_more() -> None:
    core = opens_in(2 * TICK)
    place = core.join(0.0, TICK)
    assert isinstance(place, Place)
    assert place.wait == 2 * TICK
    assert opens_in(2 * TICK).join(0.0, 0.99 * TICK) == 2 * TICK


def test_whoever_comes_back_a_nanosecond_before_its_time_is_in_time() -> None:
    for early, left in [(TICK, 0.0), (2 * TICK, 2 * TICK)]:
        core = opens_in(early)
        assert core.step(core.join(0.0, 1.0), 0.0) == left


def test_a_place_given_back_is_had_a_nanosecond_before_its_time_and_a_nanosecond_after() -> None:
    for start, now, passes in [(TICK, 0.0, True), (2 * TICK, 0.0, None), (0.0, TICK, True), (0.0, 2 * TICK, None)]:
        core = opens_in(start)
        given_back, _behind = core.join(0.0, 9.0), core.join(0.0, 9.0)
        given_back.leave()
        assert core.take(now) is passes


def test_in_a_window_a_call_makes_room_a_nanosecond_before_its_time() -> None:
    for early, passes in [(TICK, True), (2 * TICK, None)]:
        core = SlidingWindow(1, per=1).start(0.0)
        assert core.take(0.0)
        assert core.take(1.0 - early) is passes


# --- places that were given up ---------------------------------------------------------------------------------------------


def test_a_place_given_up_is_of_use_for_as_long_as_nobody_behind_it_is_later_for_it() -> None:
    core = TokenBucket(2, per=1).start(0.0)
    assert core.take(0.0)
    at_half, at_one, at_one_and_half = (core.join(0.0, 9.0) for _ in range(3))
    at_half.leave()
    at_one.leave()
    assert not core.take(1.25)  # half a second later is 1.75
    assert core.distance(1.75) == 0.5  # after the last, who is late and may come now
    assert core.step(at_one_and_half, 1.5) == 0.0
    assert [core.take(1.75), core.take(2.0), core.passed] == [None, True, 3]  # and those that went by count no longer


def test_a_place_that_no_place_in_line_depends_on_never_loses_its_worth() -> None:
    world = World(EVERY["a window of 3"])
    assert [world.join() for _ in range(6)] == [0, 0, 0, 4, 4, 4]
    world.cancel(0)
    world.now = TICKS + 2
    assert world.take()
    assert [world.come(one) for one in list(world.waiting)] == [True, True]


def test_behind_somebody_late_the_wait_is_counted_from_now() -> None:
    world = World(EVERY["a window of 1"])
    assert [world.join() for _ in "AB"] == [0, TICKS]
    world.now = TICKS + 2  # B has not come yet
    assert world.nearest == world.now + TICKS
    assert world.come(world.waiting[0])
    assert world.nearest == world.now + TICKS


def test_when_a_place_has_gone_by_the_line_is_as_long_as_those_who_wait() -> None:
    world = World(EVERY["a bucket of 1"])
    assert [world.join() for _ in "ABCDE"] == [0, TICKS, 2 * TICKS, 3 * TICKS, 4 * TICKS]
    world.cancel(0)
    world.wait(2 * TICKS)
    assert world.join() == 5 * TICKS
    assert world.core.passed == 2


def test_places_given_back_at_the_end_of_the_line_hold_nobody_up_when_their_time_has_gone_by() -> None:
    world = World(EVERY["a bucket of 1"])
    world.core.lease = 9.0
    assert [world.join() for _ in "ABCD"] == [0, TICKS, 2 * TICKS, 3 * TICKS]
    world.cancel(1)
    world.cancel(1)
    world.now = 2 * TICKS + 2  # B has not come yet
    assert world.nearest == world.now + TICKS


def test_behind_a_place_that_went_by_everybody_passes_at_its_own_time_and_not_before() -> None:
    world = World(EVERY["a window of 3"])
    for world.now in (0, 1, 2):
        assert world.take()
    assert [world.join() for _ in "DEFG"] == [4, 5, 6, 8]  # a second after each, and after D
    world.cancel(0)
    for one in list(world.waiting):
        world.now = one.promised - 1
        assert not world.come(one)
        world.now = one.promised
        assert world.come(one)


@pytest.mark.parametrize(("b", "c", "others"), [(6, 7, [8, 10, 11]), (1, 7, [8, 8, 11])])  # a second after D, B and C, or later
def test_a_place_that_went_by_stands_before_those_who_passed_after_its_time(b: int, c: int, others: list[int]) -> None:
    world = World(EVERY["a window of 3"])
    world.core.lease = 9.0
    assert [world.join() for _ in "A"] == [0]
    late: list[Any] = [world.core.join(0.0, 9.0) for _ in "BC"]  # they might pass at once, and come when they come
    assert [world.join() for _ in "DEFG"] == [4, 4, 4, 8]
    world.cancel(0)  # D, whose time is 4: a second after A
    for tick, one in [(b, late[0]), (c, late[1])]:
        assert world.core.step(one, tick / TICKS) == 0.0
        world.passed.append(tick)
    passed = []
    for world.now in range(8, 13):
        passed += [world.now for one in list(world.waiting) if world.come(one)]
    assert passed == others


@pytest.mark.parametrize("rule", RULES)
def test_whoever_may_pass_at_once_after_a_long_pause_has_not_lost_its_place(rule: str) -> None:
    core: Any = RULES[rule].start(0.0)
    place = core.join(100.0, 0.0)
    assert core.waiting(100.0 + core.lease) == 1
    assert core.step(place, 100.0 + core.lease) == 0.0
    assert core.lapsed == 0


# --- another process, another clock ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_a_place_of_the_parent_begins_anew_in_a_forked_child(rule: str) -> None:
    core: Any = RULES[rule].start(0.0)
    for _ in range(10):  # more than may pass
        core.take(0.0)
    places = [core.join(0.0, 9.0) for _ in range(4)]
    core.begin_anew()
    assert core.step(places[3], 0.25) == 0.75  # the first to ask is the first in line
    assert core.waiting(0.25) == 1
    assert core.step(places[3], 1.0) == 0.0


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("start", [0.0, -7.0])
@pytest.mark.parametrize("shift", [-1e6, 0.0, 1e6])
def test_by_a_clock_with_another_zero_whoever_waits_has_its_time_and_its_lease(rule: str, start: float, shift: float) -> None:
    core: Any = RULES[rule].start(start)
    for _ in range(10):  # more than may pass
        core.take(start)
    place = core.join(start, 9.0)  # for a second later
    core.rebase(shift)
    now = start + shift
    assert core.step(place, now + 0.25) == 0.75
    assert [core.waiting(now + later) for later in (1.0, 2.0, 2.25)] == [1, 1, 0]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shift", [-1e6, 1e6])
def test_by_a_clock_with_another_zero_a_lease_that_nobody_renews_ends_when_it_would_have(rule: str, shift: float) -> None:
    core: Any = RULES[rule].start(-7.0)
    for _ in range(10):  # more than may pass
        core.take(-7.0)
    place = core.join(-7.0, 9.0)
    core.rebase(shift)
    assert [core.waiting(shift + at) for at in (-6.0, -5.0, -4.75)] == [1, 1, 0]
    assert core.busy(shift - 4.75) < inf
    place.leave()  # too late to matter
    assert core.waiting(shift) == 0


def test_a_place_that_was_never_made_whole_gives_nothing_back() -> None:
    place = Place.__new__(Place)  # an interruption came before its first line
    del place  # an error in here would fail the test
