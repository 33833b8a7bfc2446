"""The laws of a rate and its line, in worlds small enough to count."""

from __future__ import annotations

import os
from copy import deepcopy
from itertools import product
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from finresilience.testing import exhaust
from tests.cores.lines import BUCKETS, EVERY, TICKS, World, capacity, slack, soonest

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.cores.limiter import SlidingWindow, TokenBucket
    from finresilience.testing.stories import Story

DEEP = bool(os.environ.get("FINRESILIENCE_DEEP"))
every_rule = pytest.mark.parametrize("rule", EVERY)
numbers = st.integers(0, 9)
deeds = st.lists(st.tuples(st.sampled_from(["join", "join", "take", "cancel", "wait"]), numbers), max_size=30)


def told(world: World, deed: str, number: int) -> None:
    if deed == "join":
        world.join(number)
    elif deed == "take":
        world.take()
    elif deed == "cancel":
        world.cancel(number)
    else:
        world.wait(number % 6)


# --- everybody comes in time -------------------------------------------------------------------------------------------


def law_of_the_earliest_slot(world: World, steps: list[tuple[str, int]]) -> None:
    """Never too early for the rule or for a promise; and exactly then, or, once a slot given back has gone by unused, at the next one."""
    for deed, number in steps:
        first, mine = soonest(world.rule, world.now, world.plan), world.nearest
        assert first <= mine <= first + slack(world.rule, world.core, world.now / TICKS)
        if deed == "join":
            assert world.join(number) == (mine if mine - world.now <= number else None)
        elif deed == "take":
            assert world.take() == (mine == world.now)
        else:
            told(world, deed, number)
    world.wait(99)


@every_rule
@given(steps=deeds)
def test_each_caller_gets_the_earliest_slot_that_the_rule_and_the_promises_already_made_allow(
    rule: str, steps: list[tuple[str, int]]
) -> None:
    law_of_the_earliest_slot(World(EVERY[rule]), steps)


SMALL = [("join", 99), ("take", 0), ("cancel", 0), ("cancel", -1), ("wait", 2), ("wait", 3)]


@every_rule
def test_so_it_is_in_every_small_world(rule: str) -> None:
    for steps in product(SMALL, repeat=6 if DEEP else 4):
        law_of_the_earliest_slot(World(EVERY[rule]), [("join", 99)] * 4 + [*steps])


# --- anybody may be late -----------------------------------------------------------------------------------------------


def law_of_the_window(world: World, steps: list[tuple[str, int]], seed: int) -> None:
    """The world itself counts, whenever somebody passes."""
    chance = Random(seed)
    for deed, number in steps:
        if deed == "wait":
            world.sleep(number % 6, late=lambda _: chance.random() < 0.4)
        else:
            told(world, deed, number)


@every_rule
@given(steps=deeds, seed=numbers)
def test_no_window_holds_too_many_whatever_the_order_of_claims_cancels_and_late_awakenings(
    rule: str, steps: list[tuple[str, int]], seed: int
) -> None:
    law_of_the_window(World(EVERY[rule]), steps, seed)


@every_rule
@given(steps=deeds, seed=numbers)
def test_whoever_was_late_or_cancelled_leaves_nothing_behind(rule: str, steps: list[tuple[str, int]], seed: int) -> None:
    world = World(EVERY[rule])
    law_of_the_window(world, steps, seed)
    while world.waiting:
        world.sleep(TICKS, late=lambda _: False)
    world.sleep(9 * TICKS, late=lambda _: False)
    assert world.core.waiting(world.now / TICKS) == 0
    assert world.core.busy(world.now / TICKS) <= 0.0
    assert world.core.passed == len(world.passed)
    assert [world.take() for _ in range(9)] == [number < capacity(world) for number in range(9)]


@every_rule
@given(steps=deeds, tries=st.lists(numbers, max_size=5))
def test_a_refused_claim_costs_nothing(rule: str, steps: list[tuple[str, int]], tries: list[int]) -> None:
    asked, left_alone = World(EVERY[rule]), World(EVERY[rule])
    for deed, number in steps:
        for patience in tries:
            if soonest(asked.rule, asked.now, asked.plan) > asked.now + patience:
                assert asked.join(patience) is None
        for world in (asked, left_alone):
            told(world, deed, number)
        assert asked.passed == left_alone.passed


@every_rule
@given(steps=deeds, number=numbers)
def test_a_slot_that_was_given_back_at_the_end_of_the_line_was_never_taken(rule: str, steps: list[tuple[str, int]], number: int) -> None:
    world = World(EVERY[rule])
    for deed, extra in steps:
        told(world, deed, extra)
    other = deepcopy(world)
    waiting = len(world.waiting)
    world.join()
    if len(world.waiting) > waiting:
        world.cancel(-1)
        assert [world.join() for _ in range(4)] == [other.join() for _ in range(4)]


@every_rule
def test_every_interleaving_of_callers_cancels_and_time_keeps_the_rate(rule: str) -> None:
    for cancelled in range(4):
        assert exhaust(crowd(EVERY[rule], cancelled)).schedules == (7560 if DEEP else 2520)


def crowd(rule: TokenBucket | SlidingWindow, cancelled: int, core: Any = None) -> Callable[[], Story]:
    """Four callers come at once and one passes; three go on or go away, each whenever it likes, and so does the time."""

    def scenario() -> Story:
        world = World(rule, None if core is None else core(rule))
        for _ in range(capacity(world)):
            world.take()

        def caller(number: int) -> list[Callable[[], object]]:
            mine: list[Any] = []

            def come() -> None:
                before = list(world.waiting)
                world.join()
                mine.extend(one for one in world.waiting if one not in before)

            def end() -> None:
                for one in mine:
                    if number < cancelled:
                        world.cancel(world.waiting.index(one))
                    elif one.comes <= world.now:
                        world.come(one)

            return [come, end]

        def later() -> None:
            world.now += 3 if DEEP else 5

        def nobody_was_let_in_too_soon() -> None:
            world.sleep(9 * TICKS, late=lambda _: False)

        return [*(caller(number) for number in range(3)), [later] * (3 if DEEP else 2)], nobody_was_let_in_too_soon

    return scenario


# --- one story, told in full -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["a bucket of 1", "a window of 1"])
def test_a_slot_given_back_in_the_middle_goes_to_the_next_who_asks_and_to_nobody_else(rule: str) -> None:
    world = World(EVERY[rule])
    assert [world.join() for _ in "ABC"] == [0, TICKS, 2 * TICKS]
    world.cancel(0)  # B, while C sleeps until its own time and cannot be moved up
    assert world.join() == TICKS
    assert world.join() == 3 * TICKS
    world.wait(3 * TICKS)
    assert world.passed == [0, TICKS, 2 * TICKS, 3 * TICKS]


def test_between_the_times_of_two_slots_given_back_the_later_one_is_had() -> None:
    world = World(EVERY["a bucket of 1"])
    assert [world.join() for _ in "ABCD"] == [0, TICKS, 2 * TICKS, 3 * TICKS]
    world.cancel(0)
    world.cancel(0)
    world.wait(TICKS + 1)
    assert world.join() == 2 * TICKS


@pytest.mark.parametrize("rule", ["a bucket of 1", "a window of 1"])
def test_a_slot_that_nobody_took_in_time_is_gone_and_nobody_behind_it_is_later_for_it(rule: str) -> None:
    world = World(EVERY[rule])
    assert [world.join() for _ in "ABC"] == [0, TICKS, 2 * TICKS]
    world.cancel(0)
    world.wait(TICKS + 2)
    assert not world.take()  # it would make C wait
    assert world.join() == 3 * TICKS


def test_once_all_behind_it_have_gone_too_a_slot_of_the_past_holds_nobody_up() -> None:
    world = World(EVERY["a bucket of 1"])
    assert [world.join() for _ in "ABC"] == [0, TICKS, 2 * TICKS]
    world.cancel(0)
    world.wait(TICKS + 2)
    assert not world.take()
    world.cancel(0)
    assert world.take()


@pytest.mark.parametrize("rule", ["a bucket of 1", "a window of 1"])
def test_when_all_oversleep_they_pass_one_by_one(rule: str) -> None:
    world = World(EVERY[rule])
    assert [world.join() for _ in "ABC"] == [0, TICKS, 2 * TICKS]
    world.sleep(10 * TICKS, late=lambda _: False)
    assert len(world.passed) == 2
    world.sleep(TICKS, late=lambda _: False)
    assert world.passed == [0, 10 * TICKS, 11 * TICKS]


def test_a_slot_that_went_by_before_a_late_call_does_not_hide_it() -> None:
    world = World(EVERY["a window of 2"])
    assert [world.join() for _ in "ABCDEF"] == [0, 0, TICKS, TICKS, 2 * TICKS, 2 * TICKS]
    late, given_up, *others = world.waiting
    given_up.place.leave()
    world.waiting.remove(given_up)
    world.now = 2 * TICKS - 1
    assert world.come(late)
    world.now = 2 * TICKS
    assert sorted(world.come(one) for one in others) == [False, True]  # or three would pass within one tick
    assert not world.come(world.waiting[0])
    world.now = 3 * TICKS - 1
    assert world.come(world.waiting[0])


def test_with_a_burst_to_spare_one_sleeper_makes_nobody_else_late() -> None:
    world = World(EVERY["a bucket of 2"])
    assert [world.join() for _ in "ABCDE"] == [0, 0, TICKS, 2 * TICKS, 3 * TICKS]
    sleeper = world.waiting[0]
    for tick in (1, 2, 3):
        world.sleep(TICKS, late=lambda one: one is sleeper)
        assert world.passed[-1] == max(2, tick) * TICKS * (tick > 1)
    assert world.come(sleeper)  # it has the place that it left to the others


def test_each_loses_its_place_a_lease_after_its_own_time() -> None:
    core = BUCKETS["a bucket of 1"].start(0.0)
    assert core.take(0.0)
    places = [core.join(0.0, 9.0) for _ in range(3)]  # for 1, 2 and 3
    assert core.lease == 1.0
    assert [core.waiting(now) for now in (2.0, 2.5, 3.0, 3.25, 4.25)] == [3, 2, 2, 1, 0]
    assert (core.lapsed, len(places)) == (3, 3)
    core = BUCKETS["a bucket of 1"].start(0.0)
    assert core.take(0.0)
    places = [core.join(0.0, 9.0) for _ in range(3)]
    assert core.waiting(3.0) == 2  # and not a moment before


def test_a_place_that_nobody_holds_any_more_is_given_back_by_itself() -> None:
    core = BUCKETS["a bucket of 1"].start(0.0)
    core.take(0.0)
    place = core.join(0.0, 9.0)
    assert core.waiting(0.0) == 1
    del place
    assert core.join(0.0, 9.0) is not None
    assert core.take(1.0)


@every_rule
@given(steps=deeds, seed=numbers)
def test_whoever_never_comes_does_not_hold_the_others_up_for_ever(rule: str, steps: list[tuple[str, int]], seed: int) -> None:
    world = World(EVERY[rule])
    law_of_the_window(world, steps, seed)
    world.waiting.clear()  # their places are held still, by nobody who comes
    held = [world.core.join(world.now / TICKS, 99.0) for _ in range(3)]
    world.now += 30 * TICKS
    assert [world.take() for _ in range(9)] == [number < capacity(world) for number in range(9)]
    assert held
