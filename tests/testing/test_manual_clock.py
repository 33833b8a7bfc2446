"""A clock that stands still until it is told to move."""

from __future__ import annotations

import math
import threading
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import anyio
import pytest
from hypothesis import example, given, strategies as st

from finresilience import Timeout, Unknown
from finresilience.clock import Clock, ruling_clock
from finresilience.errors import ConfigurationError
from finresilience.testing import ManualClock, instant


def test_it_is_a_clock() -> None:
    clock: Clock = ManualClock()
    assert clock.monotonic() == 0.0


def test_a_tenth_and_two_tenths_are_three_tenths() -> None:
    clock = ManualClock()
    clock.advance(0.1)
    clock.advance(0.2)
    assert clock.monotonic() == 0.3


@given(st.lists(st.integers(0, 10**12), max_size=50))
@example([15, 1_000_000_007])  # a little less than a whole number of nanoseconds, as floats tell them
def test_whole_nanoseconds_never_drift(steps: list[int]) -> None:
    clock = ManualClock()
    for step in steps:
        clock.advance(step / 1e9)
    assert clock.monotonic() == sum(steps) / 1e9


def test_a_million_tenths_of_a_second_are_a_hundred_thousand_seconds() -> None:
    clock = ManualClock()
    for _ in range(100_000):
        clock.advance(0.1)
    assert clock.monotonic() == 10_000.0


def test_both_readings_move_together() -> None:
    clock = ManualClock(5.0, utc=datetime(2026, 3, 1, tzinfo=UTC))
    clock.advance(timedelta(minutes=1))
    assert clock.monotonic() == 65.0
    assert clock.utc() == datetime(2026, 3, 1, 0, 1, tzinfo=UTC)


def test_stepping_the_wall_clock_leaves_monotonic_alone() -> None:
    clock = ManualClock(utc=datetime(2026, 3, 1, 12, tzinfo=UTC))
    clock.step_utc(-3600)
    assert (clock.monotonic(), clock.utc().hour) == (0.0, 11)
    clock.step_utc(timedelta(hours=2))
    assert (clock.monotonic(), clock.utc().hour) == (0.0, 13)


@pytest.mark.parametrize("wrong", [-1, -1e-9, math.nan, math.inf, True, "1", None, timedelta(seconds=-1)])
def test_monotonic_refuses_to_go_back_or_anywhere_odd(wrong: Any) -> None:
    clock = ManualClock()
    for move in (clock.advance, clock.sleep_sync):
        with pytest.raises(ConfigurationError, match="seconds"):
            move(wrong)
    assert (clock.monotonic(), clock.waits) == (0.0, [])


def test_a_naive_wall_time_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="aware"):
        ManualClock(utc=datetime(2026, 1, 1))


def test_utc_is_told_in_utc_whatever_zone_it_was_given_in() -> None:
    told = ManualClock(utc=datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))).utc()
    assert told == datetime(2026, 1, 1, tzinfo=UTC)
    assert told.tzinfo is UTC


@pytest.mark.parametrize("wrong", [math.nan, math.inf, True])
def test_the_wall_clock_steps_by_finite_amounts_only(wrong: float) -> None:
    with pytest.raises(ConfigurationError, match="finite"):
        ManualClock().step_utc(wrong)


def test_sleeping_moves_it_and_is_recorded() -> None:
    clock = ManualClock()
    clock.sleep_sync(1.5)
    clock.sleep_sync(0)
    assert (clock.monotonic(), clock.waits) == (1.5, [1.5, 0.0])


@given(st.floats(0, 1e6), st.floats(0, 1e3))
def test_sleeping_until_due_always_ends(start: float, wait: float) -> None:
    clock = ManualClock(start)
    due = clock.monotonic() + wait
    for _ in range(50):
        if (left := due - clock.monotonic()) <= 0:
            break
        clock.sleep_sync(left)
    assert clock.monotonic() >= due
    assert clock.monotonic() - due < 1e-6


def test_the_record_of_waits_is_bounded_and_keeps_the_newest() -> None:
    clock = ManualClock()
    for number in range(150_001):
        clock.sleep_sync(number)
    assert len(clock.waits) <= 100_000
    assert clock.waits[-1] == 150_000


def test_threads_lose_no_time() -> None:
    clock = ManualClock()

    def sleep_often() -> None:
        for _ in range(1000):
            clock.sleep_sync(0.001)

    threads = [threading.Thread(target=sleep_often) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.monotonic() == 8.0
    assert len(clock.waits) == 8000


def test_instant_rules_inside_its_block_only() -> None:
    before = ruling_clock()
    with instant() as clock:
        assert ruling_clock() is clock
        ruling_clock().sleep_sync(3600)
        assert clock.waits == [3600.0]
    assert ruling_clock() is before


def test_instant_lets_go_when_its_block_fails() -> None:
    before = ruling_clock()
    with pytest.raises(ZeroDivisionError), instant():
        raise ZeroDivisionError
    assert ruling_clock() is before


def test_to_leave_an_instant_that_was_never_entered_changes_nothing() -> None:
    before = ruling_clock()
    instant().__exit__(None, None, None)
    assert ruling_clock() is before


def test_instants_may_end_in_any_order() -> None:
    before = ruling_clock()
    first, second = instant(), instant()
    first.__enter__()
    inner = second.__enter__()
    first.__exit__(None, None, None)
    assert ruling_clock() is inner
    second.__exit__(None, None, None)
    assert ruling_clock() is before


def test_it_tells_its_time() -> None:
    assert repr(ManualClock(1.5)) == "<ManualClock at 1.5 s>"


def test_instants_nest() -> None:
    with instant() as outer, instant() as inner:
        ruling_clock().sleep_sync(1)
        assert (outer.waits, inner.waits) == ([], [1.0])


def test_instant_takes_a_clock() -> None:
    with instant(ManualClock(10)) as clock:
        clock.sleep_sync(1)
    assert clock.monotonic() == 11.0


def test_one_instant_cannot_be_open_twice() -> None:
    block = instant()
    with block, pytest.raises(ConfigurationError, match="make a new one"), block:
        pass
    with block:  # but it may be opened again
        pass


async def test_an_instant_sleep_gives_other_tasks_a_turn() -> None:
    seen: list[str] = []

    async def other() -> None:
        seen.append("other")

    with instant() as clock:
        async with anyio.create_task_group() as group:
            group.start_soon(other)
            for _ in range(3):
                await ruling_clock().sleep(60)
            seen.append("sleeper")
    assert seen == ["other", "sleeper"]
    assert (clock.monotonic(), clock.waits) == (180.0, [60.0] * 3)


async def test_an_instant_sleep_can_be_cancelled() -> None:
    with instant(), anyio.CancelScope() as scope:
        scope.cancel()
        await ruling_clock().sleep(60)
        pytest.fail("slept through its cancellation")
    assert scope.cancelled_caught


def test_a_wait_for_a_signal_ends_with_the_signal_or_once_somebody_has_moved_the_time() -> None:
    clock, glances = ManualClock(), 0

    class Signal(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            nonlocal glances
            assert timeout is not None
            glances += 1
            clock.advance(1.0)
            return self.is_set()

    signal = Signal()
    assert clock.wait_for(signal, 2.0) is False
    assert glances == 2
    signal.set()
    assert clock.wait_for(signal, 2.0) is True
    assert glances == 3


def test_a_thread_that_hangs_is_given_up_without_real_waiting() -> None:
    clock, gate = ManualClock(), threading.Event()

    def hangs() -> None:
        clock.advance(3.0)
        gate.wait()

    outcome = Timeout(2.0, thread_limit=1, clock=clock, listeners=[]).outcome(hangs)
    gate.set()
    assert isinstance(outcome, Unknown)
