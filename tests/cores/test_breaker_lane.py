"""When may a success be counted without a word? The fast lane: it opens where one more success could change nothing."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, strategies as st

from finresilience.cores.breaker import BreakerCore, CircuitState as S
from finresilience.cores.probes import Probe
from finresilience.cores.trip import ConsecutiveFailures, FailureCount
from finresilience.cores.window import CountWindow, TimeWindow
from tests.cores.circuits import Act, call, fresh, half_open, passed

SHUT, OPEN = -inf, inf
GOOD, BAD, SLOW = (False, False), (True, False), (False, True)


def edges(core: BreakerCore, *ends: tuple[bool, bool]) -> list[float]:
    """Return until when the fast lane is open after each of these calls."""
    seen = []
    for failed, slow in ends:
        call(core, 0.0, failed=failed, slow=slow)
        assert core.window is not None
        seen.append(core.window.edge)
    return seen


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans(), st.booleans()), max_size=60), st.booleans())
def test_the_fast_lane_changes_no_decision(steps: list[tuple[int, bool, bool]], by_time: bool) -> None:
    window = TimeWindow(2.0, buckets=4) if by_time else CountWindow(6)
    one, two, now = fresh(window=window), fresh(window=window), 0.0
    for ticks, failed, slow in steps:
        now += ticks / 16
        a, b = one.admit(now), two.admit(now)
        assert (a is None) == (b is None)
        if a is not None:
            one.settle(a, now, failed=failed, slow=slow)
            if not failed and not slow and not isinstance(b, Probe) and now < b.edge:
                b.ok += 1
            else:
                two.settle(b, now, failed=failed, slow=slow)
        assert (one.state, one.generation, one.retry_after(now)) == (two.state, two.generation, two.retry_after(now))


def test_the_fast_lane_stays_open_while_all_is_well() -> None:
    assert edges(fresh(), GOOD, GOOD, GOOD) == [OPEN] * 3


def test_the_fast_lane_by_time_ends_with_the_running_bucket() -> None:
    assert edges(fresh(window=TimeWindow(8.0, buckets=4)), GOOD) == [2.0]


def test_after_a_failure_the_fast_lane_is_shut_until_the_rules_have_calls_enough_to_judge() -> None:
    assert edges(fresh(), BAD, GOOD, GOOD, GOOD) == [SHUT, SHUT, SHUT, OPEN]  # four calls


def test_after_a_slow_call_the_fast_lane_is_shut_until_the_rules_have_calls_enough_to_judge() -> None:
    assert edges(fresh(), SLOW, GOOD, GOOD, GOOD) == [SHUT, SHUT, SHUT, OPEN]


def test_each_failure_shuts_the_fast_lane_for_a_success_must_end_the_streak() -> None:
    assert edges(fresh(), GOOD, GOOD, GOOD, GOOD, BAD, GOOD) == [OPEN] * 4 + [SHUT, OPEN]


def test_a_streak_is_ended_by_the_next_success_where_nothing_opens_the_circuit_too() -> None:
    core = fresh(rules=(ConsecutiveFailures(1),))
    core.hold(S.METRICS_ONLY, 0.0)
    assert edges(core, GOOD, BAD, GOOD) == [OPEN, SHUT, OPEN]


def test_a_disabled_circuit_has_no_call_that_must_leave_the_fast_lane() -> None:
    core = fresh(rules=(FailureCount(1),))
    core.hold(S.DISABLED, 0.0)
    assert passed(core, 0.0).edge == OPEN
    assert edges(core, BAD, SLOW) == [OPEN, OPEN]


ENDS_OF_A_WINDOW: dict[str, Act] = {
    "tripped": lambda core: core.trip(0.0, 1.0),
    "disabled": lambda core: core.hold(S.DISABLED, 0.0),
    "isolated": lambda core: core.isolate(),
    "reset": lambda core: core.reset(0.0),
    "by another clock": lambda core: core.rebase(0.0, 9.0),
}


@pytest.mark.parametrize("act", ENDS_OF_A_WINDOW.values(), ids=ENDS_OF_A_WINDOW.keys())
def test_whoever_holds_a_permit_of_a_window_that_is_gone_must_leave_the_fast_lane(act: Act) -> None:
    core = fresh()
    old = passed(core, 0.0)
    act(core)
    assert old.edge == SHUT


NEW_WINDOWS: dict[str, Act] = {
    "a reset": lambda core: core.reset(21.0),
    "metrics only": lambda core: core.hold(S.METRICS_ONLY, 21.0),
    "an isolation's end": lambda core: (core.isolate(), core.rejoin(21.0)),
    "a probe's success": lambda core: (core.trip(0.0, 1.0), core.settle(core.admit(21.0), 21.0, failed=False)),
}


@pytest.mark.parametrize("begin", NEW_WINDOWS.values(), ids=NEW_WINDOWS.keys())
def test_every_new_window_begins_at_the_time_that_was_told(begin: Act) -> None:
    core = fresh(size=1, window=TimeWindow(8.0, buckets=4))
    begin(core)
    assert passed(core, 21.0).edge == 22.0


def test_a_probe_never_takes_the_fast_lane() -> None:
    assert not hasattr(passed(half_open(), 8.0), "edge")
