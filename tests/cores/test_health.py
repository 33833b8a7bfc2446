"""Is this provider well? What drains it, what brings it back, and what an operator may say about it."""

from __future__ import annotations

from itertools import product
from math import inf

import pytest
from hypothesis import given, strategies as st

from finresilience.cores.health import DWELL, LONGEST_DWELL, MEMORY, RECENT, STEADY, Balance, HealthSettings, RouteState as S
from tests.cores.providers import QUICK, SLOW, VERY_SLOW, fail, fall_ill, provider, recover, serve
from tests.laws.sabotage import kills

# --- what drains it ------------------------------------------------------------------------------------------------


def test_seven_failures_in_a_row_drain_it_and_six_do_not() -> None:
    health, told = provider()
    fail(health, 0.0, 6)
    assert (health.state, told) == (S.HEALTHY, [])
    fail(health, 0.0, 1)
    assert health.state is S.DRAINED
    assert [(turn.route, turn.before, turn.after) for turn in told] == [("acme", S.HEALTHY, S.DRAINED)]
    assert told[0].reason == "failing: 7 of the last 7 calls failed"


def test_one_failure_in_thirty_never_drains_it_and_one_in_four_does() -> None:
    well, ill = provider()[0], provider()[0]
    for now in range(3000):
        well.hear(now, failed=now % 30 == 0, took=0.1)
        ill.hear(now, failed=now % 4 == 0, took=0.1)
        assert not well.drained
    assert ill.drained


def test_very_slow_calls_drain_it_sooner_than_slow_ones() -> None:
    counts = {}
    for evidence in (SLOW, VERY_SLOW):
        health, _ = provider()
        counts[evidence] = next(n for n in range(1, 50) if health.hear_pace(0.0, evidence) or health.drained)
    assert counts == {SLOW: 12, VERY_SLOW: 7}


def test_one_slow_call_in_twenty_never_drains_it() -> None:
    health, _ = provider()
    for now in range(3000):
        health.hear_pace(now, SLOW if now % 20 == 0 else QUICK)
    assert not health.drained


def test_a_suspicion_that_nothing_was_added_to_for_ten_minutes_is_forgotten() -> None:
    for quiet, state in ((MEMORY, S.DRAINED), (MEMORY + 0.1, S.HEALTHY)):
        health, _ = provider()
        fail(health, 0.0, 6)
        fail(health, quiet, 1)
        assert health.state is state


@pytest.mark.parametrize("rate", [0.05, 0.25, 0.9])
def test_the_rate_it_was_told_drains_it_and_an_eighth_of_that_does_not(rate: float) -> None:
    rules = HealthSettings(failure_rate=rate, trickle=0.01, watch_every=2.0)
    for share, drained in ((rate, True), (rate / 8, False)):
        health, _ = provider("acme", rules)
        owed = 0.0
        for _ in range(2000):
            owed += share
            health.hear(0.0, failed=owed >= 1.0, took=0.1)
            owed -= owed >= 1.0
        assert health.drained is drained


# --- what brings it back -------------------------------------------------------------------------------------------


def test_it_comes_back_after_26_good_answers_that_took_at_least_the_dwell() -> None:
    health, told = provider()
    fall_ill(health)
    serve(health, 1.0, 1000)
    assert health.drained
    serve(health, 1.0 + DWELL - 0.01, 1)
    assert health.drained
    serve(health, 1.0 + DWELL, 1)
    assert (health.state, told[-1].after) == (S.HEALTHY, S.HEALTHY)
    assert told[-1].reason.startswith("it answers well again: ")
    health, _ = provider()
    fall_ill(health)
    serve(health, 1.0, 1)
    for number in range(2, 27):  # each is 31/24 times likelier of a provider that fails one in 32 than of one that fails one in 4
        assert health.drained, number
        serve(health, 100.0, 1)
    assert not health.drained


def test_figures_as_bad_as_the_limit_do_not_bring_it_back() -> None:
    health, _ = provider()
    fall_ill(health)
    for now in range(3000):
        health.hear(float(now), failed=now % 6 == 0, took=0.1)
        assert health.drained


def test_a_slow_provider_that_fails_nobody_comes_back_by_quick_answers_only() -> None:
    health, _ = provider()
    for _ in range(7):
        health.hear_pace(0.0, VERY_SLOW)
    serve(health, 1.0, 100)
    serve(health, 100.0, 100)
    assert health.drained
    for now in range(200, 216):
        health.hear_pace(float(now), QUICK)
    assert not health.drained


def test_both_suspicions_must_be_dispelled() -> None:
    for order in product((True, False), repeat=2):
        health, _ = provider()
        fall_ill(health)
        for _ in range(7):
            health.hear_pace(0.0, VERY_SLOW)
        for failing_first in (order[0], not order[0]):
            assert health.drained
            for now in range(10, 40):
                if failing_first:
                    serve(health, float(now), 1)
                else:
                    health.hear_pace(float(now), QUICK)
        assert not health.drained


def test_the_dwell_doubles_with_each_relapse_up_to_a_cap_and_not_for_an_illness_of_another_day() -> None:
    health, _ = provider()
    now, dwells = 0.0, []
    for _ in range(5):
        fall_ill(health, now)
        back = recover(health, now)
        dwells.append(back - now)
        now = back + STEADY - 1.0
    assert dwells == pytest.approx([DWELL, 2 * DWELL, 4 * DWELL, LONGEST_DWELL, LONGEST_DWELL], abs=0.21)  # two answers
    now += STEADY
    fall_ill(health, now)
    assert recover(health, now) - now == pytest.approx(DWELL, abs=0.21)


def no_dwell(patch: pytest.MonkeyPatch) -> None:
    hear = Balance.hear
    patch.setattr(Balance, "hear", lambda self, weight, now, dwell: hear(self, weight, now, 0.0))


def test_a_provider_that_need_not_dwell_is_found_out() -> None:
    kills(no_dwell, test_the_dwell_doubles_with_each_relapse_up_to_a_cap_and_not_for_an_illness_of_another_day)


def test_good_news_is_not_forgotten_where_there_is_little_traffic() -> None:
    health, _ = provider()
    fall_ill(health)
    for hour in range(1, 27):
        assert health.drained
        serve(health, 3600.0 * hour, 1)
    assert not health.drained


class Hasty:
    """The saboteur: it believes the first good answer."""

    def __init__(self, balance: Balance) -> None:
        self.balance = balance

    def hear(self, weight: float, now: float, dwell: float) -> None:
        self.balance.hear(weight, now, dwell)
        if weight < 0:
            self.balance.forget()


def turns(balance: Balance | Hasty, weights: list[float]) -> int:
    inner = balance.balance if isinstance(balance, Hasty) else balance
    count = 0
    for now, weight in enumerate(weights):
        was = inner.bad
        balance.hear(weight, float(now), 0.0)
        count += inner.bad is not was
    return count


def test_a_balance_turns_back_on_much_better_figures_only() -> None:
    brown = ([1.5] * 10 + [-0.25] * 10) * 20
    assert turns(Balance(drain=14.0, back=6.5), brown) == 1
    assert turns(Hasty(Balance(drain=14.0, back=6.5)), brown) > 10


@given(st.lists(st.floats(-3.0, 3.0), max_size=200))
def test_a_balance_is_what_its_book_says(weights: list[float]) -> None:
    balance, bad, book = Balance(drain=5.0, back=3.0), False, 0.0
    for now, weight in enumerate(weights):
        balance.hear(weight, float(now), 0.0)
        book = min(max(0.0, book - weight), 3.0) if bad else max(0.0, book + weight)
        if book >= (3.0 if bad else 5.0):
            bad, book = not bad, 0.0
        assert (balance.bad, balance.score) == (bad, book)
        assert balance.trust() == (book / 3.0 if bad else 1.0)


# --- its figures ---------------------------------------------------------------------------------------------------


def test_the_figures_are_about_the_last_fifty_calls_of_the_last_ten_minutes() -> None:
    health, _ = provider()
    assert (health.figures(0.0).calls, health.figures(0.0).p95, health.figures(0.0).success_rate) == (0, None, None)
    for number in range(200):
        health.hear(number * 0.001, failed=number % 50 == 0, took=number / 100)
    figures = health.figures(0.2)
    assert (figures.calls, figures.failures, figures.success_rate) == (RECENT, 1, 0.98)
    assert figures.p95 == 1.97  # the 47th of the 49 that were answered
    assert health.figures(0.2 + MEMORY).calls == 0


def test_calls_without_an_answer_are_told_with_the_reason() -> None:
    health, told = provider()
    serve(health, 0.0, 3)
    for _ in range(12):
        health.hear_pace(0.0, SLOW, silent=True)
    assert told[0].reason == "slow: 0 of the last 3 calls failed, p95 0.1 s, 12 without an answer in time"


# --- how much traffic ----------------------------------------------------------------------------------------------


def passed_over(health: object, times: int) -> None:
    for _ in range(times):
        health.pass_over()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue] - of no type


def test_a_provider_that_only_fails_gets_one_call_in_watch_every_and_the_longer_the_rarer() -> None:
    health, _ = provider()
    fall_ill(health)
    passed_over(health, 100_000)  # whatever the traffic
    assert not health.due(1.99)
    assert health.due(2.15)
    health.called(60.0)
    passed_over(health, 100_000)
    assert not health.due(65.9)
    assert health.due(66.1)


def test_of_little_traffic_it_gets_one_call_in_five() -> None:
    health, _ = provider()
    fall_ill(health)
    for now in (1000.0, 2000.0):
        for _ in range(4):
            assert not health.due(now)
            health.pass_over()
        assert health.due(now)
        health.called(now)


def test_the_better_it_answers_the_more_it_gets() -> None:
    health, _ = provider()
    fall_ill(health)
    gaps = []
    for number in range(1, 25):
        serve(health, 1.0, 1)
        health.called(1.0)
        passed_over(health, 1)
        gaps.append(next(gap / 100 for gap in range(1000) if health.due(1.0 + gap / 100)))
        assert health.drained, number
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 0.2 < 1.0 < gaps[0]


def test_with_much_traffic_its_share_of_it_is_spent_once_it_answers() -> None:
    health, _ = provider()
    fall_ill(health)
    serve(health, 1.0, 1)
    health.called(1.0)
    calls = next(n for n in range(1, 1000) if health.pass_over() or health.due(1.0))
    assert 50 <= calls <= 100  # of one in a hundred, and nearly twice that for the first good answer


def test_its_traffic_returns_over_ten_seconds() -> None:
    health, _ = provider()
    assert health.share(0.0) == 1.0
    fall_ill(health)
    back = recover(health, 0.0)
    assert [round(health.share(back + age), 2) for age in (0.0, 0.5, 5.0, 10.0, 99.0)] == [0.1, 0.1, 0.5, 1.0, 1.0]


# --- an operator's word --------------------------------------------------------------------------------------------


def test_it_is_held_until_the_last_handle_is_let_go() -> None:
    health, told = provider()
    one, two = object(), object()
    for handle in (one, two):
        health.hold(handle, 1.0)
    health.let_go(one, 2.0)
    health.let_go(one, 2.0)
    assert (health.held, health.since) == (True, 1.0)
    health.let_go(two, 3.0)
    assert health.state is S.HEALTHY
    assert [(turn.before, turn.after, turn.reason) for turn in told] == [
        (S.HEALTHY, S.HELD, "an operator drained it"),
        (S.HELD, S.HEALTHY, "the last operator let it go"),
    ]
    assert health.since == 3.0


def test_it_may_fall_ill_while_it_is_held_and_is_drained_afterwards() -> None:
    health, told = provider()
    handle = object()
    health.hold(handle, 0.0)
    fail(health, 1.0, 7)
    assert (health.state, health.drained) == (S.HELD, True)
    health.let_go(handle, 2.0)
    assert health.state is S.DRAINED
    assert [turn.after for turn in told] == [S.HELD, S.DRAINED]


def test_restored_it_is_well_whoever_held_it_and_whatever_was_known() -> None:
    health, told = provider()
    fall_ill(health)
    stale = object()
    health.hold(stale, 1.0)
    health.restore(2.0)
    assert (health.state, health.figures(2.0).calls, health.share(2.0), health.life) == (S.HEALTHY, 0, 1.0, 1)
    assert (told[-1].before, told[-1].after, told[-1].reason) == (S.HELD, S.HEALTHY, "an operator restored it")
    assert (health.since, health.failing.score, len(told)) == (2.0, 0.0, 3)
    health.restore(2.5)
    assert (health.life, health.since, len(told)) == (2, 2.0, 3)  # it was well already: no news
    health.hold(object(), 3.0)
    health.let_go(stale, 4.0)  # a handle of before: it holds nothing any more
    assert health.state is S.HELD


def test_a_provider_that_was_restored_too_early_is_drained_again() -> None:
    health, _ = provider()
    fall_ill(health)
    health.restore(1.0)
    fall_ill(health, 2.0)


# --- another clock -------------------------------------------------------------------------------------------------


def test_on_a_clock_with_another_zero_everything_goes_on() -> None:
    here, there = provider()[0], provider()[0]
    for health, zero in ((here, 0.0), (there, 0.0)):
        fall_ill(health, zero)
        serve(health, zero + 1.0, 3)
    there.shift(1e6)
    for age in (2.0, 3.0, 4.0):
        passed_over(here, 5)
        passed_over(there, 5)
        assert here.due(age) == there.due(1e6 + age)
        assert here.figures(age).calls == there.figures(1e6 + age).calls == 10
    assert recover(there, 1e6 + 4.0) - 1e6 == pytest.approx(recover(here, 4.0))
    assert there.share(1e6) == here.share(0.0)
    assert here.since < there.since < inf
