"""Which task goes next, as one seed decides."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from hypothesis import given, strategies as st

from finresilience.testing.chance import Chance


class Task:
    """Stands for a task: something with an identity."""


def tasks(many: int) -> list[tuple[Task, int]]:
    return [(Task(), number) for number in range(many)]


def rounds(chance: Any, ready: list[tuple[Task, int]], many: int) -> list[tuple[list[int], list[int]]]:
    return [chance.order(ready) for _ in range(many)]


def loses_nobody(chance: Any, many: int) -> None:
    ready = tasks(many)
    for now, later in rounds(chance, ready, 50):
        assert sorted(now + later) == list(range(many))


def keeps_nobody_waiting_alone(chance: Any) -> None:
    for now, later in rounds(chance, tasks(1), 200):
        assert (now, later) == ([0], [])


def keeps_nobody_back_for_ever(chance: Any) -> None:
    ran: set[int] = set()
    for now, _ in rounds(chance, tasks(5), 2_000):
        ran.update(now)
    assert ran == set(range(5))


def sends_some_to_sleep(chances: list[Any]) -> None:
    longest = 0
    for chance in chances:
        missed = [0] * 3
        for now, _ in rounds(chance, tasks(3), 100):
            missed = [0 if number in now else missed[number] + 1 for number in range(3)]
            longest = max(longest, *missed)
    assert longest >= 10


@given(st.integers(), st.integers(1, 8))
def test_nobody_is_lost(seed: int, many: int) -> None:
    loses_nobody(Chance(seed), many)


@given(st.integers())
def test_nobody_waits_alone(seed: int) -> None:
    keeps_nobody_waiting_alone(Chance(seed))


@given(st.integers())
def test_nobody_is_kept_back_for_ever(seed: int) -> None:
    keeps_nobody_back_for_ever(Chance(seed))


def test_some_seeds_keep_a_task_back_for_many_rounds() -> None:
    sends_some_to_sleep([Chance(seed) for seed in range(30)])


@given(st.integers())
def test_equal_seeds_are_equally_lucky(seed: int) -> None:
    assert rounds(Chance(seed), tasks(5), 50) == rounds(Chance(seed), tasks(5), 50)


def test_other_seeds_are_otherwise_lucky() -> None:
    assert len({str(rounds(Chance(seed), tasks(5), 20)) for seed in range(100)}) > 90


def test_without_a_seed_nothing_changes() -> None:
    chance = Chance(None)
    assert chance.plain
    assert rounds(chance, tasks(4), 3) == [([0, 1, 2, 3], [])] * 3


@pytest.mark.parametrize("seed", [None, 7])
def test_who_ran_is_recorded_where_somebody_asks(seed: int | None) -> None:
    chance = Chance(seed)
    chance.steps = []
    assert not chance.plain
    ran = [number for now, _ in rounds(chance, tasks(4), 10) for number in now]
    assert len(chance.steps) == len(ran)
    assert set(chance.steps) <= {0, 1, 2, 3}


def test_tasks_that_are_gone_leave_nothing_behind() -> None:
    chance = Chance(1)
    for _ in range(1_000):
        chance.order(tasks(2))
    gc.collect()
    assert len(chance._names) == 0


class Losing(Chance):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues] - a saboteur may break what is final
    """Saboteur: whoever is kept back is forgotten."""

    def order(self, tasks: Any) -> Any:
        return super().order(tasks)[0], []


class Stubborn(Chance):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues] - a saboteur may break what is final
    """Saboteur: it keeps the first task back whenever it can, and even alone."""

    def order(self, tasks: Any) -> Any:
        return [item for _, item in tasks[1:]], [tasks[0][1]]


class Shuffling(Chance):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues] - a saboteur may break what is final
    """Saboteur: it reorders a round, and keeps nobody back."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._skip = self._nap = 0.0


def test_the_laws_catch_the_saboteurs() -> None:
    with pytest.raises(AssertionError):
        for seed in range(20):
            loses_nobody(Losing(seed), 4)
    with pytest.raises(AssertionError):
        keeps_nobody_waiting_alone(Stubborn(1))
    with pytest.raises(AssertionError):
        keeps_nobody_back_for_ever(Stubborn(1))
    with pytest.raises(AssertionError):
        sends_some_to_sleep([Shuffling(seed) for seed in range(30)])
