"""Time is told by whichever clock rules; policies made before it came follow it all the same."""

from __future__ import annotations

import _weakrefset
import gc
import itertools
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from finresilience.clock import Clock, SystemClock, install, obedient, obey, ruling_clock
from finresilience.testing import CounterexampleError, ManualClock, VirtualClock, explore_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.testing.stories import ThreadStory


class Subject:
    """Something that is told the time."""

    def __init__(self) -> None:
        self.told: list[Clock] = []

    def told_by(self, clock: Clock, /) -> None:
        self.told.append(clock)


def test_the_system_clock_rules_until_another_is_installed() -> None:
    assert isinstance(ruling_clock(), SystemClock)


def test_an_installed_clock_rules_until_it_is_taken_away() -> None:
    before, clock = ruling_clock(), ManualClock()
    uninstall = install(clock)
    assert ruling_clock() is clock
    uninstall()
    assert ruling_clock() is before


def law_taking_clocks_away_in_any_order_leaves_the_last_of_the_rest(put: Callable[[Clock], Callable[[], None]]) -> None:
    for order in itertools.permutations(range(3)):
        bottom = ruling_clock()
        clocks = [ManualClock() for _ in range(3)]
        ways_back = [put(clock) for clock in clocks]
        left = list(range(3))
        for gone in order:
            ways_back[gone]()
            left.remove(gone)
            assert ruling_clock() is (clocks[left[-1]] if left else bottom)


def test_taking_clocks_away_in_any_order_leaves_the_last_of_the_rest() -> None:
    law_taking_clocks_away_in_any_order_leaves_the_last_of_the_rest(install)


class Hasty:
    """The saboteur: whoever is taken away puts back what ruled when it came."""

    def __init__(self) -> None:
        self.undo: Callable[[], None] = lambda: None

    def install(self, clock: Clock) -> Callable[[], None]:
        before = ruling_clock()
        self.rule(clock)
        return lambda: self.rule(before)

    def rule(self, clock: Clock) -> None:
        self.undo()
        self.undo = install(clock)


def test_the_law_catches_one_that_puts_back_what_ruled_before() -> None:
    hasty = Hasty()
    with pytest.raises(AssertionError):
        law_taking_clocks_away_in_any_order_leaves_the_last_of_the_rest(hasty.install)
    hasty.undo()
    assert isinstance(ruling_clock(), SystemClock)


def test_taking_a_clock_away_twice_takes_away_nobody_elses() -> None:
    clock = ManualClock()
    first, second = install(clock), install(clock)
    second()
    second()
    assert ruling_clock() is clock
    first()
    first()
    assert isinstance(ruling_clock(), SystemClock)


def test_the_clock_that_rules_already_may_be_installed_and_taken_away_twice() -> None:
    bottom = ruling_clock()
    uninstall = install(bottom)
    uninstall()
    uninstall()
    assert ruling_clock() is bottom


def test_whoever_obeys_is_told_at_once_and_at_every_change() -> None:
    subject, clock = Subject(), ManualClock()
    obey(subject)
    uninstall = install(clock)
    uninstall()
    system = ruling_clock()
    assert subject.told == [system, clock, system]


def test_whoever_obeys_under_another_rule_is_told_by_that_rule() -> None:
    clock, subject = VirtualClock(), Subject()
    uninstall = install(clock)
    obey(subject)
    uninstall()
    assert subject.told == [clock, ruling_clock()]


def test_obeying_keeps_nothing_alive() -> None:
    subject = Subject()
    obey(subject)
    assert subject in obedient()
    known = len(obedient())
    del subject
    gc.collect()
    assert len(obedient()) < known


def test_obeying_twice_is_obeying_once() -> None:
    subject = Subject()
    obey(subject)
    obey(subject)
    assert obedient().count(subject) == 1


# ---------------------------------------------------------------- the system clock


def test_the_system_clock_reads_the_machines_monotonic_time_itself() -> None:
    assert SystemClock().monotonic is time.monotonic


def test_the_system_clock_tells_aware_utc() -> None:
    told = SystemClock().utc()
    assert told.tzinfo is UTC
    assert told > datetime(2024, 1, 1, tzinfo=UTC)


def test_the_system_clock_blocks_by_the_machines_own_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("finresilience.clock.time.sleep", slept.append)
    SystemClock().sleep_sync(3.5)
    assert slept == [3.5]


async def test_the_system_clock_sleeps_on_whichever_loop_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("anyio.sleep", sleep)
    await SystemClock().sleep(3.5)
    assert slept == [3.5]


async def test_sleeping_for_no_time_at_all_returns() -> None:
    await SystemClock().sleep(0)


def test_every_clock_of_the_house_is_a_clock() -> None:
    clocks: list[Clock] = [SystemClock(), ManualClock(), VirtualClock()]
    assert all(callable(clock.monotonic) for clock in clocks)


# ---------------------------------------------------------------- threads


def law_policies_may_be_made_while_others_are_listed(add: Callable[[Subject], object], every: Callable[[], list[Any]]) -> None:
    """A fork asks for all of them, to hold their locks, while some thread makes a breaker for a provider seen first now."""

    def world() -> ThreadStory:
        before = [Subject() for _ in range(3)]
        made: list[Subject] = []
        for subject in before:
            add(subject)

        def make() -> None:
            for _ in range(3):
                made.append(Subject())
                add(made[-1])

        def list_them() -> None:
            listed = every()
            assert all(subject in listed for subject in before)

        return [make, list_them, list_them], lambda: [every().index(subject) for subject in made]

    explore_threads(world, seeds=40, modules=[_weakrefset])


def test_policies_may_be_made_while_others_are_listed() -> None:
    law_policies_may_be_made_while_others_are_listed(obey, obedient)


def test_the_law_catches_a_set_that_is_walked_while_it_grows() -> None:
    walked: _weakrefset.WeakSet[Subject] = _weakrefset.WeakSet()
    with pytest.raises(CounterexampleError, match="changed size during iteration"):
        law_policies_may_be_made_while_others_are_listed(walked.add, lambda: list(walked))
