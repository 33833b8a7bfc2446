"""The garbage collector runs when it likes; a schedule must not depend on it."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest

from finresilience.testing import explore_threads
from finresilience.testing.errors import CounterexampleError

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.testing.stories import ThreadStory


def told(seen: list[bool]) -> Callable[[], ThreadStory]:
    def story() -> ThreadStory:
        def work() -> None:
            seen.append(gc.isenabled())

        return [work, work], lambda: None

    return story


def test_nothing_is_collected_in_a_run_and_everything_is_as_before_afterwards() -> None:
    seen: list[bool] = []
    assert gc.isenabled()
    explore_threads(told(seen), seeds=3)
    assert seen == [False] * 6
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        explore_threads(told([]), seeds=3)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_failing_seed_leaves_the_collector_on() -> None:
    def story() -> ThreadStory:
        def fails() -> None:
            raise AssertionError

        return [fails, fails], lambda: None

    with pytest.raises(CounterexampleError):
        explore_threads(story, seeds=1)
    assert gc.isenabled()


def test_what_many_runs_leave_behind_is_collected_between_them() -> None:
    class Loop:
        """Only the collector can take it away."""

        living = 0

        def __init__(self) -> None:
            Loop.living += 1
            self.me: Any = self

        def __del__(self) -> None:
            Loop.living -= 1

    def story() -> ThreadStory:
        return [Loop, Loop], lambda: None

    explore_threads(story, seeds=250)
    assert Loop.living <= 200
    gc.collect()
    assert Loop.living == 0
