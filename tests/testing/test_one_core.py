"""Threads that are explored keep to one core, and nobody else is kept there."""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from finresilience.testing import CounterexampleError, explore_threads, one_core as room
from tests.laws.sabotage import nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path


def cores() -> set[int]:
    """Return where this thread may run. Only Linux tells; elsewhere, one core stands for all."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}


def law_threads_keep_to_one_core_and_the_caller_has_his_own_again(seeds: int = 5) -> None:
    before, seen = cores(), list[set[int]]()

    def scenario() -> tuple[list[Callable[[], None]], Callable[[], None]]:
        seen.clear()

        def thread() -> None:
            seen.append(cores())

        return [thread, thread], lambda: None

    explore_threads(scenario, seeds=seeds)
    assert len(seen) == 2
    assert all(len(each) == 1 and each <= before for each in seen)
    assert cores() == before


def test_threads_keep_to_one_core_and_the_caller_has_his_own_again() -> None:
    law_threads_keep_to_one_core_and_the_caller_has_his_own_again()


def test_so_has_a_caller_whose_threads_fail() -> None:
    before = cores()

    def wrong() -> None:
        raise ArithmeticError

    with pytest.raises(CounterexampleError):
        explore_threads(lambda: ([wrong], lambda: None), seeds=1)
    assert cores() == before


@contextmanager
def two_cores() -> Generator[bool]:
    """Let this thread run wherever the machine can, and say whether that is more than one place."""
    before, move = cores(), getattr(os, "sched_setaffinity", nothing)
    move(0, range(os.cpu_count() or 1))
    try:
        yield len(cores()) > 1
    finally:
        move(0, before)


def forgets_to_give_them_back(patch: pytest.MonkeyPatch) -> Any:
    real, said = getattr(os, "sched_setaffinity", nothing), list[int]()

    def once(who: int, which: set[int]) -> None:
        if not said:
            real(who, which)
        said.append(who)

    patch.setattr(os, "sched_setaffinity", once, raising=False)


def stays_everywhere(patch: pytest.MonkeyPatch) -> Any:
    patch.setattr(os, "sched_setaffinity", nothing, raising=False)


@pytest.mark.parametrize("saboteur", [forgets_to_give_them_back, stays_everywhere])
def test_the_law_is_awake(saboteur: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with two_cores() as there_are_two, monkeypatch.context() as patch:
        saboteur(patch)
        with pytest.raises(AssertionError) if there_are_two else nullcontext():
            law_threads_keep_to_one_core_and_the_caller_has_his_own_again()


@pytest.mark.parametrize("status", ["", "nonsense", "1 (a (strange) name) R", "1 (x) R" + " ?" * 50], ids=repr)
def test_where_the_core_is_not_told_nothing_changes(status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "stat"
    told.write_text(status)
    monkeypatch.setattr(room, "_STATUS", told)

    def moved(*_: object) -> None:
        pytest.fail("moved")

    monkeypatch.setattr(os, "sched_setaffinity", moved, raising=False)
    with room.one_core():
        pass


def test_where_it_is_forbidden_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", forbidden, raising=False)
    with room.one_core():
        pass


def test_where_nobody_knows_of_cores_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    with room.one_core():
        pass
