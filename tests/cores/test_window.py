"""What stands in a window? Arithmetic by two running totals, against a list of everything that ever happened."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from finresilience.cores.window import BlindWindow, CountWindow, LiveTimeWindow, TimeWindow

events = st.lists(st.tuples(st.integers(0, 40), st.booleans(), st.booleans()), max_size=60)
WIDTH = 0.25  # a power of two: the oracle's arithmetic is exact


def streak(history: list[tuple[float, bool, bool]]) -> int:
    count = 0
    for _, failed, _ in reversed(history):
        if not failed:
            break
        count += 1
    return count


def shown(tally) -> tuple[int, int, int, int]:
    return tally.calls, tally.failures, tally.slow, tally.streak


def expected(inside: list[tuple[float, bool, bool]], history: list[tuple[float, bool, bool]]) -> tuple[int, int, int, int]:
    return len(inside), sum(f for _, f, _ in inside), sum(s for _, _, s in inside), streak(history)


def play(live, steps: list[tuple[int, bool, bool]], size: int) -> None:
    """Every tally is what the oracle counts: the calls of the running bucket and the `size - 1` before it."""
    now, history = 100.0, []
    for ticks, failed, slow in steps:
        now += ticks / 16
        history.append((now, failed, slow))
        inside = [event for event in history if now // WIDTH - event[0] // WIDTH < size]
        assert shown(live.record(now, failed=failed, slow=slow)) == expected(inside, history)
        assert shown(live.tally(now)) == expected(inside, history)


@given(events, st.integers(1, 12))
def test_a_time_window_counts_what_a_list_of_everything_counts(steps: list[tuple[int, bool, bool]], size: int) -> None:
    play(TimeWindow(WIDTH * size, buckets=size).start(100.0), steps, size)


@given(events, st.integers(1, 12))
def test_a_call_has_left_when_its_age_reaches_the_window_and_not_more_than_a_bucket_before(
    steps: list[tuple[int, bool, bool]], size: int
) -> None:
    live, now, ages = TimeWindow(WIDTH * size, buckets=size).start(100.0), 100.0, []
    for ticks, failed, slow in steps:
        now += ticks / 16
        live.record(now, failed=failed, slow=slow)
        ages.append(now)
        young = sum(now - at <= WIDTH * (size - 1) for at in ages)
        not_old = sum(now - at < WIDTH * size for at in ages)
        assert young <= live.tally(now).calls <= not_old


@given(events, st.integers(1, 8))
def test_a_count_window_counts_the_last_calls_and_no_others(steps: list[tuple[int, bool, bool]], size: int) -> None:
    live, history = CountWindow(size).start(0.0), []
    for _, failed, slow in steps:
        history.append((0.0, failed, slow))
        assert shown(live.record(0.0, failed=failed, slow=slow)) == expected(history[-size:], history)
    assert live.lane() == float("inf")


@given(events, st.integers(1, 8), st.booleans())
def test_a_success_by_the_fast_lane_counts_as_one_by_the_slow_lane(steps: list[tuple[int, bool, bool]], size: int, by_time: bool) -> None:
    kind = TimeWindow(WIDTH * size, buckets=size) if by_time else CountWindow(size)
    fast, slow_lane, now = kind.start(100.0), kind.start(100.0), 100.0
    for ticks, failed, slow in steps:
        now += ticks / 16
        a = slow_lane.record(now, failed=failed, slow=slow)
        if not failed and not slow and a.streak == 0 and now < fast.lane() and fast.tally(now).streak == 0:
            fast.ok += 1
        else:
            fast.record(now, failed=failed, slow=slow)
        assert shown(fast.tally(now)) == shown(a)


@given(st.lists(st.tuples(st.floats(-5, 5), st.booleans()), max_size=30))
def test_a_time_told_out_of_order_neither_raises_nor_brings_a_call_back(steps: list[tuple[float, bool]]) -> None:
    live, now, latest = TimeWindow(2.0, buckets=4).start(100.0), 100.0, 100.0
    for ahead, failed in steps:
        now = max(0.0, now + ahead)
        latest = max(latest, now)
        live.record(now, failed=failed, slow=False)
        assert live.lane() > latest - 0.5
        assert shown(live.tally(now)) == shown(live.tally(latest))
    assert live.tally(latest + 2.0).calls == 0


@pytest.mark.parametrize("gap", [1.0, 1e3, 1e9, 1e12])
def test_a_long_silence_costs_one_turn_of_the_ring_and_empties_it(gap: float) -> None:
    live = TimeWindow(1.0, buckets=60).start(0.0)
    live.record(0.5, failed=True, slow=True)
    touched = []

    class Ring(list):
        def __setitem__(self, at, value) -> None:
            touched.append(at)
            super().__setitem__(at, value)

    live._marks = Ring(live._marks)
    assert live.tally(gap + 0.5).calls == 0
    assert len(touched) <= 60 * 3


def test_memory_of_a_count_window_never_outgrows_its_size() -> None:
    live = CountWindow(10).start(0.0)
    for _ in range(1000):
        live.record(0.0, failed=True, slow=True)
    assert len(live._failures) == len(live._slows) == 10
    for _ in range(10):
        live.record(0.0, failed=False, slow=False)
    assert len(live._failures) == len(live._slows) == 0


def test_a_success_has_no_price_that_grows_with_the_calls() -> None:
    live = TimeWindow(60.0).start(0.0)
    size = len(live._marks)
    for step in range(10_000):
        live.record(step / 100, failed=False, slow=False)
    assert len(live._marks) == size == 30


@given(st.integers(0, 60), st.data())
def test_a_window_that_takes_over_stands_as_the_other_stood(calls: int, data: st.DataObject) -> None:
    failures, slow = (data.draw(st.integers(0, calls)) for _ in range(2))
    for window in (TimeWindow(2.5), CountWindow(60)):
        live = window.start(100.0)
        live.fill(calls=calls, failures=failures, slow=slow)
        assert shown(live.tally(100.0)) == (calls, failures, slow, 0)


def test_a_smaller_window_keeps_the_bad_calls_of_what_it_takes_over() -> None:
    live = CountWindow(10).start(0.0)
    live.fill(calls=1_000_000, failures=7, slow=300_000)
    assert shown(live.tally(0.0)) == (10, 7, 10, 0)
    for _ in range(9):
        live.record(0.0, failed=False, slow=False)
    assert shown(live.tally(0.0)) == (10, 1, 1, 0)


def test_marks_of_32_bits_see_right_across_their_limit() -> None:
    live = TimeWindow(10.0).start(0.0)
    live.ok, live.failed, live.slow = 2**32 - 3, 2**40 - 1, 2**32 - 1
    live.tally(10.0)
    for _ in range(8):
        live.record(10.5, failed=False, slow=True)
        live.record(10.5, failed=True, slow=False)
    assert shown(live.tally(11.0)) == (16, 8, 8, 1)


def test_a_blind_window_counts_for_the_statistics_and_sees_nothing() -> None:
    blind = BlindWindow()
    blind.record(0.0, failed=True, slow=True)
    assert shown(blind.record(0.0, failed=False, slow=False)) == (0, 0, 0, 0)
    assert (blind.ok, blind.failed, blind.slow, blind.lane()) == (1, 1, 1, float("inf"))


def test_a_window_shows_how_it_was_made() -> None:
    assert repr(TimeWindow(30)) == "TimeWindow(30, buckets=10)"
    assert repr(CountWindow(7)) == "CountWindow(7)"


class Hoarder:
    """The saboteur: it never lets a call leave."""

    def __init__(self, now: float, *, width: float, size: int) -> None:
        self._real = LiveTimeWindow(now, width=width, size=size)

    def record(self, now: float, *, failed: bool, slow: bool):
        return self._real.record(100.0, failed=failed, slow=slow)

    def tally(self, now: float):
        return self._real.tally(100.0)


def test_the_oracle_catches_a_window_that_never_lets_go() -> None:
    with pytest.raises(AssertionError):
        play(Hoarder(100.0, width=WIDTH, size=2), [(0, True, False), (40, False, False)], 2)
