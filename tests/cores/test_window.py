"""What stands in a window? Arithmetic by two running totals, against a list of everything that ever happened."""

from __future__ import annotations

from fractions import Fraction
from math import inf, nextafter
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from finresilience.cores.window import BlindWindow, CountWindow, LiveTimeWindow, LiveWindow, Tally, TimeWindow

events = st.lists(st.tuples(st.integers(0, 40), st.booleans(), st.booleans()), max_size=60)
WIDTH = 0.25  # a power of two: the oracle's arithmetic is exact


def streak(history: list[tuple[float, bool, bool]]) -> int:
    count = 0
    for _, failed, _ in reversed(history):
        if not failed:
            break
        count += 1
    return count


def shown(tally: Tally) -> tuple[int, int, int, int]:
    return tally.calls, tally.failures, tally.slow, tally.streak


def expected(inside: list[tuple[float, bool, bool]], history: list[tuple[float, bool, bool]]) -> tuple[int, int, int, int]:
    return len(inside), sum(f for _, f, _ in inside), sum(s for _, _, s in inside), streak(history)


def play(live: LiveWindow | Hoarder, steps: list[tuple[int, bool, bool]], size: int, start: float = 100.0) -> None:
    """Every tally is what the oracle counts: the calls of the running bucket and the `size - 1` before it."""
    now, history = start, list[tuple[float, bool, bool]]()
    for ticks, failed, slow in steps:
        now += ticks / 16
        history.append((now, failed, slow))
        inside = [event for event in history if now // WIDTH - event[0] // WIDTH < size]
        assert shown(live.record(now, failed=failed, slow=slow)) == expected(inside, history)
        assert shown(live.tally(now)) == expected(inside, history)


@given(events, st.integers(1, 12), st.sampled_from([100.0, 0.0, -2.0, -1e6]))
@example([(0, True, False), (2, True, False), (4, True, False)], 1, -0.125)
def test_a_time_window_counts_what_a_list_of_everything_counts(steps: list[tuple[int, bool, bool]], size: int, start: float) -> None:
    play(TimeWindow(WIDTH * size, buckets=size).start(start), steps, size, start)


@given(events, st.integers(1, 12))
def test_a_call_has_left_when_its_age_reaches_the_window_and_not_more_than_a_bucket_before(
    steps: list[tuple[int, bool, bool]], size: int
) -> None:
    live, now, ages = TimeWindow(WIDTH * size, buckets=size).start(100.0), 100.0, list[float]()
    for ticks, failed, slow in steps:
        now += ticks / 16
        live.record(now, failed=failed, slow=slow)
        ages.append(now)
        young = sum(now - at <= WIDTH * (size - 1) for at in ages)
        not_old = sum(now - at < WIDTH * size for at in ages)
        assert young <= live.tally(now).calls <= not_old


@given(events, st.integers(1, 8))
def test_a_count_window_counts_the_last_calls_and_no_others(steps: list[tuple[int, bool, bool]], size: int) -> None:
    live, history = CountWindow(size).start(0.0), list[tuple[float, bool, bool]]()
    for _, failed, slow in steps:
        history.append((0.0, failed, slow))
        assert shown(live.record(0.0, failed=failed, slow=slow)) == expected(history[-size:], history)
    assert (live.ok + live.failed, live.failed, live.slow) == (len(steps), sum(f for _, f, _ in steps), sum(s for _, _, s in steps))
    assert live.lane() == inf


@given(events, st.integers(1, 8), st.booleans())
def test_a_success_by_the_fast_lane_counts_as_one_by_the_slow_lane(steps: list[tuple[int, bool, bool]], size: int, by_time: bool) -> None:
    kind = TimeWindow(WIDTH * size, buckets=size) if by_time else CountWindow(size)
    fast, slow_lane, now = kind.start(100.0), kind.start(100.0), 100.0
    last = fast.tally(now)
    for ticks, failed, slow in steps:
        now += ticks / 16
        seen = slow_lane.record(now, failed=failed, slow=slow)
        if not failed and not slow and last.streak == 0 and now < fast.lane():  # nobody looks at the time any closer
            fast.ok += 1
        else:
            last = fast.record(now, failed=failed, slow=slow)
            assert shown(last) == shown(seen)
    assert shown(fast.tally(now)) == shown(slow_lane.tally(now))


@given(st.integers(-200, 200), st.integers(0, 200))
def test_the_fast_lane_by_time_ends_with_the_running_bucket(start: int, later: int) -> None:
    live = TimeWindow(WIDTH * 4, buckets=4).start(start / 16)
    assert live.edge == live.lane() > start / 16 >= live.lane() - WIDTH
    now = (start + later) / 16
    live.record(now, failed=False, slow=False)
    assert live.lane() > now >= live.lane() - WIDTH


def test_the_fast_lane_by_count_never_ends() -> None:
    live = CountWindow(3).start(0.0)
    assert live.edge == live.lane() == inf


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
    live: Any = TimeWindow(1.0, buckets=60).start(0.0)
    live.record(0.5, failed=True, slow=True)
    touched = list[object]()

    class Ring(list[int]):
        def __setitem__(self, at: Any, value: Any) -> None:
            touched.append(at)
            super().__setitem__(at, value)

    live._marks = Ring(live._marks)
    assert live.tally(gap + 0.5).calls == 0
    assert len(touched) <= 60


def test_memory_of_a_count_window_never_outgrows_its_size() -> None:
    live: Any = CountWindow(10).start(0.0)
    for _ in range(1000):
        live.record(0.0, failed=True, slow=True)
    assert len(live._failures) == len(live._slows) == 10
    for _ in range(10):
        live.record(0.0, failed=False, slow=False)
    assert len(live._failures) == len(live._slows) == 0


def test_a_success_has_no_price_that_grows_with_the_calls() -> None:
    live: Any = TimeWindow(60.0).start(0.0)
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


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_what_a_window_takes_over_is_added_to_its_totals(good: int, failures: int, slow: int) -> None:
    for window in (TimeWindow(2.5), CountWindow(60)):
        live = window.start(100.0)
        live.record(100.0, failed=True, slow=True)
        live.record(100.0, failed=False, slow=False)
        live.fill(calls=good + failures, failures=failures, slow=slow)
        assert (live.ok, live.failed, live.slow) == (1 + good, 1 + failures, 1 + slow)


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
    assert (blind.ok, blind.failed, blind.slow, blind.edge) == (0, 0, 0, inf)
    for failed, slow in [(True, True), (False, True), (True, False), (False, True), (False, False)]:
        assert shown(blind.record(0.0, failed=failed, slow=slow)) == (0, 0, 0, 0)
    assert (blind.ok, blind.failed, blind.slow, blind.lane()) == (3, 2, 3, inf)


@given(st.floats(1e-6, 1e9), st.integers(1, 60))
@example(1.0, 3)  # a third is rounded down
@example(1.0, 10)  # a tenth is rounded up
@example(2.5, 10)  # a quarter is exact
@example(3.2, 8)  # exact, but its multiples are not
def test_a_bucket_lasts_its_share_of_the_window_or_two_floats_less(seconds: float, buckets: int) -> None:
    width = TimeWindow(seconds, buckets=buckets).start(0.0).lane()
    share = Fraction(seconds) / buckets
    assert Fraction(width) <= share < Fraction(nextafter(nextafter(nextafter(width, inf), inf), inf))
    assert width * buckets < seconds or share == Fraction(width)


@pytest.mark.parametrize("seconds", [3.2, 1.1 * 2**20, 0.7])
def test_two_times_that_lie_less_than_a_window_apart_never_differ_by_its_length(seconds: float) -> None:
    """Else a call whose age reaches the length would still be in the oldest bucket. Only a long share is at risk, not 1.0 or 0.25."""
    for buckets in range(1, 61):
        width = TimeWindow(seconds, buckets=buckets).start(0.0).lane()
        for bucket in range(1, 121):
            at, now = bucket * width, nextafter((bucket + buckets) * width, 0.0)
            assert now // width - at // width >= buckets or now - at < seconds


def test_a_window_shows_how_it_was_made() -> None:
    assert repr(TimeWindow(30)) == "TimeWindow(30, buckets=10)"
    assert repr(CountWindow(7)) == "CountWindow(7)"


class Hoarder:
    """The saboteur: it never lets a call leave."""

    def __init__(self, now: float, *, width: float, size: int) -> None:
        self._real = LiveTimeWindow(now, width=width, size=size)

    def record(self, now: float, *, failed: bool, slow: bool) -> Tally:
        return self._real.record(100.0, failed=failed, slow=slow)

    def tally(self, now: float) -> Tally:
        return self._real.tally(100.0)


def test_the_oracle_catches_a_window_that_never_lets_go() -> None:
    with pytest.raises(AssertionError):
        play(Hoarder(100.0, width=WIDTH, size=2), [(0, True, False), (40, False, False)], 2)
