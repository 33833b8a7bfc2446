"""A minute in three seconds: the loop, its waits and the clock must all run at one speed."""

from __future__ import annotations

import selectors
import time

import pytest

from examples.payment_flow.haste import SPEED, HastyClock, HastyLoop, HastySelector, journal_time


@pytest.mark.parametrize(("asked", "waited"), [(20.0, 1.0), (0.0, 0.0), (None, None)])
def test_a_wait_of_twenty_seconds_takes_one(asked: float | None, waited: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []

    def select(self: object, timeout: float | None = None) -> list[object]:
        waits.append(timeout)
        return []

    monkeypatch.setattr(selectors.DefaultSelector, "select", select)
    with HastySelector() as selector:
        selector.select(asked)
    assert (waits, SPEED) == ([waited], 20)


def test_loop_clock_and_journal_run_at_one_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = HastyLoop()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(time, "monotonic", lambda: 5.0)
            patch.setattr(time, "time", lambda: 7.0)
            assert (loop.time(), HastyClock().monotonic(), journal_time()) == (100.0, 100.0, 140.0)
    finally:
        loop.close()


def test_a_thread_that_sleeps_sleeps_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    HastyClock().sleep_sync(20.0)
    assert slept == [1.0]
