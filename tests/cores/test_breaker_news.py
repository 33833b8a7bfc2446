"""What does a circuit tell? Every change with its reason, every note once, and totals that lose nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from finresilience.cores.breaker import BreakerCore, Change, CircuitState as S
from finresilience.cores.window import TimeWindow
from tests.cores.circuits import BASE, CAP, Act, call, fresh, half_open, heard, passed

BY_HAND: dict[str, tuple[Act, tuple[object, ...]]] = {
    "trip": (lambda core: core.trip(0.0, 5.0), (S.CLOSED, S.OPEN, "tripped by hand", 5.0)),
    "force open": (lambda core: core.hold(S.FORCED_OPEN, 0.0), (S.CLOSED, S.FORCED_OPEN, "forced open by hand", None)),
    "disable": (lambda core: core.hold(S.DISABLED, 0.0), (S.CLOSED, S.DISABLED, "disabled by hand", None)),
    "metrics only": (lambda core: core.hold(S.METRICS_ONLY, 0.0), (S.CLOSED, S.METRICS_ONLY, "metrics only, by hand", None)),
    "isolate": (lambda core: core.isolate(), (S.CLOSED, S.ISOLATED, "isolated by hand", None)),
}
ENDED_BY_HAND: dict[str, tuple[Act, Act, tuple[object, ...]]] = {
    "rejoin": (lambda core: core.isolate(), lambda core: core.rejoin(0.0), (S.ISOLATED, S.CLOSED, "isolation ended", None)),
    "reset": (lambda core: core.trip(0.0, 5.0), lambda core: core.reset(0.0), (S.OPEN, S.CLOSED, "reset by hand", None)),
}


def changes(core: BreakerCore) -> list[Any]:
    """Return the changes in the news, and leave none unread."""
    seen = [(news.before, news.after, news.reason, news.open_for) for news in core.news if isinstance(news, Change)]
    core.news = ()
    return seen


def notes(core: BreakerCore) -> list[Any]:
    """Return the notes in the news, and leave none unread."""
    seen = [(news.kind, news.generation, news.failed, news.detail) for news in core.news if not isinstance(news, Change)]
    core.news = ()
    return seen


@pytest.mark.parametrize(("act", "change"), BY_HAND.values(), ids=BY_HAND.keys())
def test_what_a_person_does_is_told_as_done_by_hand(act: Act, change: tuple[object, ...]) -> None:
    core = fresh()
    act(core)
    assert changes(core) == [change]


@pytest.mark.parametrize(("before", "act", "change"), ENDED_BY_HAND.values(), ids=ENDED_BY_HAND.keys())
def test_what_a_person_ends_is_told_as_ended_by_hand(before: Act, act: Act, change: tuple[object, ...]) -> None:
    core = fresh()
    before(core)
    core.news = ()
    act(core)
    assert changes(core) == [change]


def test_a_circuit_that_opens_tells_by_which_rule_and_for_how_long() -> None:
    core = fresh()
    for _ in range(3):
        call(core, 0.0, failed=True)
    assert changes(core) == [(S.CLOSED, S.OPEN, "3 calls in a row failed", BASE)]


def test_a_round_that_goes_well_is_told_from_its_beginning_to_its_end() -> None:
    core = half_open(size=1)
    call(core, 8.0)
    assert changes(core) == [
        (S.OPEN, S.HALF_OPEN, "the interval is over", None),
        (S.HALF_OPEN, S.CLOSED, "probes succeeded", None),
    ]


def test_a_round_that_goes_badly_tells_so() -> None:
    core = half_open(size=1)
    call(core, 8.0, failed=True)
    assert changes(core)[1:] == [(S.HALF_OPEN, S.OPEN, "probes failed", 2 * BASE)]


def test_a_round_nobody_answers_opens_the_circuit_again_for_longer_and_tells_why() -> None:
    core = half_open(size=1)
    core.admit(8.0)
    assert core.admit(12.0) is None
    assert changes(core)[1:] == [(S.HALF_OPEN, S.OPEN, "no probe came back within its lease", 2 * BASE)]
    assert core.retry_after(12.0) == 2 * BASE


def test_a_lost_probe_is_told_before_what_follows_from_it() -> None:
    core = half_open(size=1)
    core.admit(8.0)
    core.admit(12.0)
    assert heard(core) == [(S.OPEN, S.HALF_OPEN), "probe_lost", (S.HALF_OPEN, S.OPEN)]


def test_a_change_names_the_generation_that_it_begins() -> None:
    core = fresh()
    core.trip(0.0, 5.0)
    core.reset(0.0)
    assert [news.generation for news in core.news] == [1, 2]


def test_a_change_names_the_last_failure_until_then() -> None:
    core = fresh()
    core.hold(S.METRICS_ONLY, 0.0)
    call(core, 0.0, failed=True, failure="Boom")
    core.trip(0.0, 5.0)
    assert [news.last_failure for news in core.news] == [None, "Boom"]


def test_a_lost_probe_is_noted_in_its_own_generation() -> None:
    core = half_open(size=2)
    core.admit(8.0)
    core.admit(12.0)
    assert notes(core) == [("probe_lost", 2, False, "")]


@pytest.mark.parametrize("failed", [False, True])
def test_a_late_result_is_noted_with_how_it_ended_in_the_generation_that_hears_of_it(failed: bool) -> None:
    core = fresh()
    old = passed(core, 0.0)
    core.reset(0.0)
    core.settle(old, 1.0, failed=failed)
    assert notes(core) == [("late", 1, failed, "")]


@pytest.mark.parametrize("failed", [False, True])
def test_a_probe_that_comes_back_after_its_lease_is_noted_with_how_it_ended(failed: bool) -> None:
    core = half_open(size=1)
    core.settle(passed(core, 8.0), 12.0, failed=failed)
    assert notes(core) == [("late", 2, failed, "")]


def test_metrics_only_says_once_when_it_would_have_opened_and_lets_everything_pass() -> None:
    core = fresh()
    core.hold(S.METRICS_ONLY, 0.0)
    for _ in range(9):
        call(core, 0.0, failed=True)
    assert notes(core) == [("threshold", 1, False, "3 calls in a row failed")]
    assert core.state is S.METRICS_ONLY


def test_each_time_that_metrics_only_begins_it_may_tell_once() -> None:
    core = fresh()
    for _ in range(2):
        core.reset(0.0)
        core.hold(S.METRICS_ONLY, 0.0)
        for _ in range(6):
            call(core, 0.0, failed=True)
    assert [kind for kind, *_ in notes(core)] == ["threshold", "threshold"]


def test_no_news_pushes_other_news_out() -> None:
    core = fresh(size=2)
    old = passed(core, 0.0)
    core.hold(S.METRICS_ONLY, 0.0)
    for _ in range(3):
        call(core, 0.0, failed=True)
    core.settle(old, 0.0, failed=True)
    core.trip(0.0, 1.0)
    core.admit(1.0)
    core.admit(1.0 + BASE)
    assert heard(core) == [
        (S.CLOSED, S.METRICS_ONLY),
        "threshold",
        "late",
        (S.METRICS_ONLY, S.OPEN),
        (S.OPEN, S.HALF_OPEN),
        "probe_lost",
    ]


# --- what it counts, and how long it asks to wait ------------------------------------------------------------------------


def test_the_totals_survive_every_window() -> None:
    core = fresh()
    for failed in (False, True, True, True):
        call(core, 0.0, failed=failed, slow=failed)
    assert (core.state, core.ok, core.failed, core.slow) == (S.OPEN, 1, 3, 3)


@given(st.lists(st.booleans(), max_size=12))
def test_the_totals_count_every_probe_as_it_ended(ends: list[bool]) -> None:
    core, now = half_open(size=1), 8.0
    for failed in ends:
        core.trip(now, 1.0)
        now += 1.0
        call(core, now, failed=failed)
    assert (core.ok, core.failed) == (ends.count(False), ends.count(True))


def test_while_a_place_is_free_nobody_is_told_to_wait() -> None:
    core = half_open(size=2)
    core.admit(8.0)
    assert core.retry_after(8.0) == 0.0
    core.admit(9.0)
    assert core.retry_after(9.0) == 3.0


@pytest.mark.parametrize(("hint", "wait"), [(None, BASE), (1.0, BASE), (20.0, 20.0), (99.0, CAP)])
def test_what_the_provider_asked_for_with_the_last_failure_keeps_the_circuit_open_within_bounds(hint: float | None, wait: float) -> None:
    core = fresh()
    for _ in range(3):
        call(core, 0.0, failed=True, hint=hint)
    assert core.retry_after(0.0) == wait


@pytest.mark.parametrize(("hint", "wait"), [(None, 2 * BASE), (20.0, 20.0), (99.0, CAP)])
def test_what_the_provider_asked_a_probe_for_keeps_the_circuit_open_within_bounds(hint: float | None, wait: float) -> None:
    core = half_open(size=1)
    call(core, 8.0, failed=True, hint=hint)
    assert core.retry_after(8.0) == wait


@given(st.lists(st.tuples(st.floats(-9, 9), st.sampled_from(["admit", "good", "bad", "cancel"])), max_size=60))
def test_a_time_told_out_of_order_neither_raises_nor_crowds_the_round(steps: list[tuple[float, str]]) -> None:
    core, now, held = fresh(size=2, window=TimeWindow(4.0)), 100.0, list[object]()
    for ahead, action in steps:
        now = max(0.0, now + ahead)
        if action == "admit":
            permit = core.admit(now)
            held += [permit] if permit is not None else []
        elif held:
            permit = held.pop(0)
            if action == "cancel":
                core.release(permit)
            else:
                core.settle(permit, now, failed=action == "bad")
        assert core._round is None or len(core._round._live) <= 2
        assert (core.retry_after(now) or 0.0) >= 0.0
