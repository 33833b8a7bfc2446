"""What comes back when a circuit is saved and restored, or goes on by another clock? All that counts, and nothing twice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from finresilience.cores.breaker import BreakerCore, CircuitState as S
from finresilience.cores.probes import Probe
from finresilience.cores.window import TimeWindow
from tests.cores.circuits import BASE, LEASE, call, fresh, half_open, heard, passed

BY_TIME = TimeWindow(8.0, buckets=4)


def load(core: BreakerCore, now: float, **saved: Any) -> Any:
    """Restore `core` from what was saved, and return it."""
    blank: dict[str, Any] = fresh().save(0.0)
    blank |= saved
    blank["state"] = S(blank["state"])
    core.load(now, **blank)
    return core


def restored(core: BreakerCore, now: float) -> Any:
    return load(fresh(), 1000.0, **core.save(now))


# --- saved ---------------------------------------------------------------------------------------------------------------


def test_a_saved_circuit_that_lets_nobody_pass_has_no_calls_to_save() -> None:
    core = half_open()
    assert core.save(3.0) == {
        "state": "open",
        "generation": 1,
        "openings": 1,
        "open_for": 5.0,
        "calls": 0,
        "failures": 0,
        "slow": 0,
        "last_failure": None,
    }


def test_what_is_saved_of_a_circuit_that_passes_calls_is_what_stands_in_its_window() -> None:
    core = fresh()
    for failed, slow in [(True, False), (False, False), (False, True)]:
        call(core, 0.0, failed=failed, slow=slow, failure="Boom" if failed else None)
    assert core.save(0.0) == {
        "state": "closed",
        "generation": 0,
        "openings": 0,
        "open_for": 0.0,
        "calls": 3,
        "failures": 1,
        "slow": 1,
        "last_failure": "Boom",
    }


def test_calls_that_have_left_the_window_are_not_saved() -> None:
    core = fresh(window=BY_TIME)
    call(core, 0.0, failed=True)
    assert [core.save(now)["calls"] for now in (7.0, 8.0)] == [1, 0]


@pytest.mark.parametrize(("now", "rest"), [(0.0, 8.0), (7.5, 0.5), (8.0, 0.0), (9.0, 0.0)])
def test_of_an_open_circuit_the_rest_of_its_wait_is_saved(now: float, rest: float) -> None:
    assert half_open().save(now)["open_for"] == rest


def test_a_circuit_that_a_person_has_reset_saves_no_wait_and_no_openings() -> None:
    core = half_open()
    core.reset(1.0)
    assert (core.save(1.0)["open_for"], core.save(1.0)["openings"]) == (0.0, 0)


def test_a_reset_forgets_the_openings_of_an_isolated_circuit_too() -> None:
    core = half_open()
    core.isolate()
    core.reset(1.0)
    assert core.save(1.0)["openings"] == 0


# --- restored ------------------------------------------------------------------------------------------------------------


def test_a_restored_circuit_goes_on_counting_where_it_was() -> None:
    core = fresh()
    for failed, slow in [(True, False), (False, True), (False, False), (False, False), (True, False)]:
        call(core, 0.0, failed=failed, slow=slow, failure="Boom")
    assert core.save(0.0)["last_failure"] == "Boom"
    other = restored(core, 0.0)
    assert other.save(1000.0) | {"generation": 0} == core.save(0.0)
    call(other, 1000.0, failed=True)
    assert other.state is S.OPEN


def test_the_first_call_after_a_restore_is_looked_at_for_it_may_be_one_too_many() -> None:
    other = load(fresh(), 1000.0, calls=3, slow=2)
    assert not passed(other, 1000.0).edge > 1000.0
    call(other, 1000.0)
    assert other.state is S.OPEN  # two of four were slow


def test_a_restored_window_begins_when_it_is_restored() -> None:
    other = load(fresh(window=BY_TIME), 1000.0, calls=3, failures=1)
    assert [other.save(now)["calls"] for now in (1007.0, 1008.0)] == [3, 0]


def test_a_restored_open_circuit_waits_out_the_rest_and_remembers_its_openings() -> None:
    core = half_open(size=1)
    call(core, 8.0, failed=True)
    other = restored(core, 14.0)
    assert other.retry_after(1000.0) == 10.0
    assert other.generation == core.generation
    assert other.save(1000.0)["openings"] == 2


@pytest.mark.parametrize("openings", [1, 2, 3])
def test_a_restored_circuit_that_opens_again_stays_open_as_long_as_it_would_have(openings: int) -> None:
    core = load(fresh(), 1000.0, state="open", openings=openings, open_for=0.0)
    for _ in range(2):
        call(core, 1000.0, failed=True)
    assert core.retry_after(1000.0) == min(32.0, BASE * 2**openings)


@pytest.mark.parametrize("openings", [0, -1])
def test_a_restored_open_circuit_has_opened_once_at_least(openings: int) -> None:
    assert load(fresh(), 0.0, state="open", openings=openings, open_for=5.0).save(0.0)["openings"] == 1


def test_a_restored_circuit_tells_that_it_was_restored() -> None:
    opened, closed = load(fresh(), 0.0, state="open", open_for=5.0), load(half_open(), 0.0, state="closed")
    changes = [(news.after, news.reason, news.open_for) for news in (*opened.news, *closed.news)]
    assert changes == [(S.OPEN, "restored", 5.0), (S.CLOSED, "restored", None)]


@pytest.mark.parametrize("generation", [0, 7])
def test_a_restore_never_goes_back_to_a_generation_that_was(generation: int) -> None:
    core = half_open()  # the first generation
    assert load(core, 0.0, generation=generation).generation == max(2, generation)


def test_a_restored_half_open_circuit_is_ready_to_probe() -> None:
    core = half_open()
    core.admit(8.0)
    other = restored(core, 8.0)
    assert other.state is S.OPEN
    assert isinstance(other.admit(1000.0), Probe)


@pytest.mark.parametrize("state", [S.FORCED_OPEN, S.DISABLED, S.METRICS_ONLY])
def test_what_a_person_decided_is_restored(state: S) -> None:
    core = fresh()
    core.hold(state, 0.0)
    assert restored(core, 0.0).state is state


def test_a_window_of_metrics_only_is_restored_with_what_stood_in_it() -> None:
    other = load(fresh(window=BY_TIME), 1000.0, state="metrics_only", calls=3, failures=2)
    assert (other.save(1000.0)["calls"], other.save(1008.0)["calls"]) == (3, 0)


def test_an_isolation_does_not_come_back_with_a_new_process() -> None:
    core = fresh()
    core.isolate()
    assert restored(core, 0.0).state is S.CLOSED


def test_what_was_saved_elsewhere_does_not_end_an_isolation() -> None:
    core = half_open()
    core.isolate()
    before = core.save(0.0)
    assert load(core, 0.0, state="closed", generation=99, last_failure="Boom").save(0.0) == before


# --- by another clock ----------------------------------------------------------------------------------------------------


@given(st.floats(-1e6, 1e6))
def test_another_clock_changes_nothing_but_the_numbers(shift: float) -> None:
    shift = float(round(shift * 1024)) / 1024  # exact in sums
    closed, opened, probing = fresh(), fresh(), half_open(size=1)
    for failed in (True, False, False):
        call(closed, 0.0, failed=failed)
    opened.trip(0.0, 5.0)
    probing.admit(8.0)
    for core in (closed, opened, probing):
        heard(core)
    was = [core.save(9.0) for core in (closed, probing)], opened.retry_after(1.0), probing.retry_after(9.0)
    closed.rebase(9.0, 9.0 + shift)
    opened.rebase(1.0, 1.0 + shift)
    probing.rebase(9.0, 9.0 + shift)
    assert (
        [core.save(9.0 + shift) for core in (closed, probing)],
        opened.retry_after(1.0 + shift),
        probing.retry_after(9.0 + shift),
    ) == was
    assert not any(heard(core) for core in (closed, opened, probing))


def test_by_another_clock_an_open_circuit_refuses_as_long_as_it_admits_nobody() -> None:
    core = half_open()
    core.rebase(1.0, 501.0)
    assert core.shut is not None
    assert core.shut[1] == 508.0
    assert core.admit(507.9) is None
    assert core.admit(508.0) is not None


def test_by_another_clock_a_lease_ends_when_it_would_have() -> None:
    core = half_open(size=1)
    probe = passed(core, 8.0)
    core.rebase(9.0, 509.0)
    assert probe.expires == 508.0 + LEASE


def test_by_another_clock_a_window_keeps_its_calls_and_begins_anew() -> None:
    core = fresh(window=BY_TIME)
    call(core, 0.0, failed=True, slow=True)
    call(core, 8.0, slow=True)
    core.rebase(8.5, 508.5)
    assert [core.save(now)["calls"] for now in (508.5, 515.9, 516.0)] == [1, 1, 0]


@pytest.mark.parametrize("window", [None, BY_TIME])
@pytest.mark.parametrize("failed", [False, True])
def test_by_another_clock_a_window_keeps_calls_that_ended_all_alike(window: Any, failed: bool) -> None:
    core = fresh(window=window)
    call(core, 0.0, failed=failed)
    core.rebase(1.0, 501.0)
    assert (core.save(501.0)["calls"], core.save(501.0)["failures"]) == (1, failed)


def test_by_another_clock_the_next_call_is_looked_at_for_it_may_be_one_too_many() -> None:
    core = fresh()
    for slow in (True, True, False):
        call(core, 0.0, slow=slow)
    core.rebase(0.0, 500.0)
    assert not passed(core, 500.0).edge > 500.0


@pytest.mark.parametrize("window", [None, BY_TIME])
def test_by_another_clock_no_total_is_lost_and_none_is_counted_twice(window: Any) -> None:
    core = fresh(window=window)
    for failed, slow in [(False, True), (False, False), (True, True)]:
        call(core, 0.0, failed=failed, slow=slow)
    for was, now in [(7.0, 500.0), (508.0, 3.0)]:
        core.rebase(was, now)
    core.reset(3.0)  # what stands in a window is added when it goes
    assert (core.ok, core.failed, core.slow) == (2, 1, 2)


def test_another_clock_leaves_alone_what_a_person_decided_and_loses_no_total() -> None:
    for state in (S.FORCED_OPEN, S.DISABLED, S.METRICS_ONLY):
        core = fresh()
        call(core, 0.0, failed=True, slow=True)
        core.hold(state, 0.0)
        before = (core.state, core.shut, core.ok, core.failed, core.slow)
        core.rebase(0.0, 500.0)
        assert (core.state, core.shut, core.ok, core.failed, core.slow) == before
