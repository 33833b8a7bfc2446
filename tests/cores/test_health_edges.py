"""Is this provider well? Where it turns, to the second and to the call, and what is said of it when it does."""

from __future__ import annotations

from math import inf
from typing import Any

from finresilience.cores.health import DWELL, MEMORY, RECENT, RETURN_SLOW, STEADY, Balance, HealthSettings, RouteState as S
from tests.cores.providers import QUICK, SLOW, fail, fall_ill, provider, serve


def slow_one(way_back: float, now: float = 0.0) -> tuple[Any, list[Any]]:
    """Return one that was drained for its pace, and is so far on its way back."""
    health, told = provider()
    health.hear_pace(now, 18.0)
    if way_back:
        health.hear_pace(now, -way_back * RETURN_SLOW)
    return health, told


# --- a balance -----------------------------------------------------------------------------------------------------


def test_a_balance_turns_at_its_limits_and_not_past_them_only() -> None:
    balance = Balance(drain=2.0, back=1.0)
    scores = []
    for weight in (1.0, 1.0, -0.5, -0.5):
        balance.hear(weight, 0.0, 0.0)
        scores.append((balance.bad, balance.score))
    assert scores == [(False, 1.0), (True, 0.0), (True, 0.5), (False, 0.0)]


def test_good_news_must_have_lasted_since_it_began_and_begins_anew_once_it_was_refuted() -> None:
    balance = Balance(drain=2.0, back=1.0)
    balance.hear(2.0, 0.0, 5.0)
    for weight, now in ((-1.0, 10.0), (9.0, 12.0), (-1.0, 13.0), (0.0, 17.9)):
        balance.hear(weight, now, 5.0)
        assert balance.bad, now
    balance.hear(0.0, 18.0, 5.0)
    assert not balance.bad


def test_on_a_clock_with_another_zero_a_suspicion_is_as_old_as_it_was() -> None:
    for age, score in ((MEMORY, 2.0), (MEMORY + 0.1, 1.0)):
        balance = Balance(drain=9.0, back=1.0)
        balance.hear(1.0, 100.0, 5.0)
        balance.shift(1000.0)
        balance.hear(1.0, 1100.0 + age, 5.0)
        assert balance.score == score


def test_on_a_clock_with_another_zero_good_news_is_as_old_as_it_was() -> None:
    for age, bad in ((4.9, True), (5.0, False)):
        balance = Balance(drain=2.0, back=1.0)
        balance.hear(2.0, 0.0, 5.0)
        balance.hear(-1.0, 100.0, 5.0)
        balance.shift(1000.0)
        balance.hear(-1.0, 1100.0 + age, 5.0)
        assert balance.bad is bad


# --- its figures ---------------------------------------------------------------------------------------------------


def test_of_nineteen_calls_the_slowest_is_the_95th_percentile_and_of_twenty_the_one_before() -> None:
    health, _ = provider()
    for calls, p95 in ((1, 1.0), (19, 19.0), (20, 19.0), (21, 20.0)):
        health.restore(0.0)
        for took in range(1, calls + 1):
            health.hear(0.0, failed=False, took=float(took))
        assert health.figures(0.0).p95 == p95


def test_a_call_of_ten_minutes_ago_is_the_oldest_that_counts() -> None:
    health, _ = provider()
    serve(health, 0.0, 1)
    assert [health.figures(MEMORY + age).calls for age in (0.0, 0.1)] == [1, 0]


# --- what is said --------------------------------------------------------------------------------------------------


def test_the_slow_come_and_go_by_the_same_words_as_the_failing() -> None:
    health, told = provider()
    for _ in range(12):
        health.hear_pace(1.0, SLOW)
    for now in range(16):
        health.hear_pace(100.0 + now, QUICK)
    assert [(turn.before, turn.after) for turn in told] == [(S.HEALTHY, S.DRAINED), (S.DRAINED, S.HEALTHY)]
    assert [turn.reason for turn in told] == ["slow: 0 of the last 0 calls failed", "it answers well again: 0 of the last 0 calls failed"]
    assert health.share(health.since + 5.0) == 0.5


def test_only_silence_in_a_row_is_told_and_none_of_before_an_operators_word() -> None:
    for ends in (lambda one: one.restore(0.0), lambda one: serve(one, 0.0, 1)):
        health, told = provider()
        health.hear_pace(0.0, SLOW, silent=True)
        ends(health)
        health.hear_pace(0.0, 18.0)
        assert len(told) == 1
        assert "without an answer" not in told[0].reason
    health, told = provider()
    health.hear_pace(0.0, 18.0, silent=True)
    assert told[0].reason == "slow: 0 of the last 0 calls failed, 1 without an answer in time"


def test_of_one_that_was_never_called_nothing_is_known() -> None:
    health, told = provider()
    assert (health.state, health.since, health.watched, health.passed_over, told) == (S.HEALTHY, -inf, -inf, 0, [])
    health.shift(1000.0)
    assert (health.since, health.share(1000.0)) == (-inf, 1.0)


# --- how much traffic ----------------------------------------------------------------------------------------------


def test_it_gets_every_other_call_of_little_traffic_until_it_is_a_fifth_of_the_way_back() -> None:
    for way_back, others in ((0.19, 1), (0.2, 0), (0.5, 0), (0.9, 0)):
        health, _ = slow_one(way_back)
        health.called(0.0)
        assert health.due(1000.0) is (others == 0)
        health.pass_over()
        assert health.due(1000.0)


def test_half_the_way_back_it_is_watched_eleven_times_as_often() -> None:
    health, _ = slow_one(0.5)
    health.called(0.0)
    assert not health.due(2.0 / 11.0 - 0.001)
    assert health.due(2.0 / 11.0)


def test_three_quarters_of_the_way_back_one_call_in_sixteen_becomes_every_call() -> None:
    health, _ = provider("acme", HealthSettings(failure_rate=0.25, trickle=1.0 / 16.0, watch_every=2.0))
    health.hear_pace(0.0, 18.0)
    health.hear_pace(0.0, -0.75 * RETURN_SLOW)
    health.called(0.0)
    assert not health.due(0.0)
    health.pass_over()
    assert health.due(0.0)


def test_one_that_is_drained_again_two_minutes_after_its_return_is_not_flapping() -> None:
    for age, dwell in ((STEADY, DWELL), (STEADY - 1.0, 2.0 * DWELL)):
        health, _ = provider()
        fall_ill(health, 0.0)
        serve(health, 1.0, 25)
        serve(health, 64.0, 1)
        assert not health.drained
        fail(health, 64.0 + age, 7)
        serve(health, 200.0, 26)
        serve(health, 200.0 + dwell - 0.5, 1)
        assert health.drained
        serve(health, 200.0 + dwell, 1)
        assert not health.drained


# --- another clock -------------------------------------------------------------------------------------------------


def test_on_a_clock_with_another_zero_a_drained_provider_is_watched_when_it_would_have_been() -> None:
    health, _ = provider()
    fall_ill(health, 100.0)
    health.called(110.0)
    health.shift(1000.0)
    assert (health.since, health.watched) == (1100.0, 1110.0)


def test_on_a_clock_with_another_zero_its_traffic_returns_as_it_would_have() -> None:
    health, _ = slow_one(0.0, now=100.0)
    health.hear_pace(150.0, -RETURN_SLOW)
    health.hear_pace(160.0, -RETURN_SLOW)
    health.shift(1000.0)
    assert health.share(1165.0) == 0.5


def test_on_a_clock_with_another_zero_the_figures_are_still_about_fifty_calls() -> None:
    health, _ = provider()
    health.shift(1000.0)
    serve(health, 1000.0, RECENT + 1)
    assert health.figures(1000.0).calls == RECENT
