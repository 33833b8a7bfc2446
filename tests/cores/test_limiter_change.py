"""A rate that is changed while it is in use: no stretch of time holds more than one of its rules allows."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from copy import deepcopy
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import given, strategies as st

from finresilience.cores.limiter import SlidingWindow, TokenBucket
from finresilience.cores.line import Place

Q = 8  # ticks in a second
buckets = st.builds(lambda limit, burst: TokenBucket(limit, per=1, burst=burst), st.sampled_from([1, 2, 4, 8]), st.integers(1, 6))
windows = st.builds(lambda limit, per: SlidingWindow(limit, per=per), st.integers(1, 6), st.sampled_from([0.5, 1, 2]))
either = st.one_of(st.lists(buckets, min_size=2, max_size=3), st.lists(windows, min_size=2, max_size=3))
paces = st.lists(st.integers(0, 5), min_size=1, max_size=25)


def lawful(rules: list[Any], passed: list[tuple[int, Any]]) -> None:
    """Count, for each call that passed, those that passed before it.

    A window goes by the rule in force, whenever the others passed. With buckets, any stretch that ends here holds at most what
    one of the rules allows.
    """
    for at, (tick, rule) in enumerate(passed):
        if isinstance(rule, SlidingWindow):
            assert at < rule.limit or tick - passed[at - rule.limit][0] >= rule.per * Q
            continue
        for first in range(at):
            allowed = [one.burst + Fraction((tick - passed[first][0]) * one.limit, Q) for one in rules]
            assert at - first + 1 <= max(allowed), passed


def law_of_changing_rules(core: Any, rules: list[Any], paces: list[int], change: Any = None) -> None:
    """Take all that can be had at each moment; change the rule now and then."""
    passed: list[tuple[int, Any]] = []
    now = 0
    for at, rule in enumerate(rules):
        if at:
            (change or type(core).change)(core, rule, now / Q)
        for pace in paces:
            while core.take(now / Q):
                passed.append((now, rule))
                assert len(passed) < 999, "it never refuses"
            now += pace
        now -= paces[-1]
    lawful(rules, passed)


def test_a_change_gives_no_burst_to_a_bucket_that_was_used_as_often_before_as_now() -> None:
    bucket = TokenBucket(1, per=1, burst=3).start(0.0)
    for now in (0.0, 100.0):  # full again in between
        assert [bucket.take(now) for _ in range(4)] == [True, True, True, None]
    bucket.change(TokenBucket(1, per=1, burst=3), 100.0)
    assert bucket.take(100.0) is None


@given(rules=either, paces=paces)
def test_no_window_holds_too_many_even_if_it_began_under_another_rule(rules: list[Any], paces: list[int]) -> None:
    law_of_changing_rules(rules[0].start(0.0), rules, paces)


@given(rules=either, paces=paces, seed=st.integers(0, 99))
def test_whoever_waits_keeps_its_place_and_passes_by_the_rule_of_the_moment(rules: list[Any], paces: list[int], seed: int) -> None:
    core, chance, now = rules[0].start(0.0), Random(seed), 0
    passed: list[tuple[int, Any]] = []
    waiting: list[Any] = []
    for rule in rules:
        core.change(rule, now / Q)
        for pace in paces:
            place = core.join(now / Q, chance.randrange(4))
            if isinstance(place, Place):
                waiting.append(place)
            for one in list(waiting):
                if core.step(one, now / Q) == 0.0:
                    waiting.remove(one)
                    passed.append((now, rule))
            now += pace
    lawful(rules, passed)
    assert core.waiting(now / Q) == len(waiting)


def test_a_new_bucket_begins_without_a_burst_and_earns_it() -> None:
    core = TokenBucket(1, per=1, burst=5).start(0.0)
    core.take(0.0)
    core.change(TokenBucket(2, per=1, burst=3), 0.0)
    assert [core.take(at) for at in (0.0, 0.5, 0.5, 1.0)] == [None, True, None, True]
    assert [core.take(9.0) for _ in range(4)] == [True, True, True, None]


def test_what_an_idle_bucket_would_have_earned_is_not_taken_from_it() -> None:
    core = TokenBucket(1, per=1, burst=5).start(0.0)
    core.take(0.0)
    core.change(TokenBucket(2, per=1, burst=3), 60.0)
    assert [core.take(60.0) for _ in range(4)] == [True, True, True, None]


def test_a_debt_is_paid_in_calls_and_not_in_seconds() -> None:
    core = TokenBucket(4, per=1, burst=6).start(0.0)
    for _ in range(10):  # more than may pass
        core.take(0.0)
    core.change(TokenBucket(1, per=1, burst=2), 1.0)  # four earned, six spent: two owed, as if the new burst were spent
    assert [core.take(1.5), core.take(2.0), core.take(2.0)] == [None, True, None]
    core = TokenBucket(4, per=1, burst=9).start(0.0)
    for _ in range(10):  # more than may pass
        core.take(0.0)
    core.change(TokenBucket(1, per=1, burst=2), 1.0)  # five owed, and the new burst is two
    assert [core.take(4.5), core.take(5.0), core.take(5.5)] == [None, True, None]


def test_part_of_a_call_owed_is_a_call_owed() -> None:
    core = TokenBucket(1, per=1, burst=5).start(0.0)
    for _ in range(10):  # more than may pass
        core.take(0.0)
    core.change(TokenBucket(1, per=1), 0.5)
    assert [core.take(5.25), core.take(5.5)] == [None, True]


def test_a_debt_is_paid_at_the_new_rate() -> None:
    core = TokenBucket(1, per=1, burst=5).start(0.0)
    for _ in range(10):  # more than may pass
        core.take(0.0)
    core.change(TokenBucket(1, per=2, burst=1), 0.0)
    assert not core.take(9.5)
    assert core.take(10.0)


@pytest.mark.parametrize("kind", [TokenBucket, SlidingWindow])
def test_before_the_first_call_a_change_costs_nothing(kind: Any) -> None:
    core = kind(1, per=1).start(0.0)
    core.change(kind(3, per=1), 0.0)
    assert core.take(0.0)


def test_a_narrower_window_looks_at_the_last_of_its_own_number() -> None:
    core = SlidingWindow(3, per=10).start(0.0)
    assert [core.take(at) for at in (0.0, 1.0, 2.0)] == [True] * 3
    core.change(SlidingWindow(2, per=10), 2.0)
    assert [core.take(at) for at in (10.5, 11.5, 11.5, 12.0)] == [None, True, None, True]


def test_a_wider_window_reckons_with_calls_too_old_to_be_known_as_late_as_they_can_have_been() -> None:
    core = SlidingWindow(2, per=1).start(0.0)
    for second in range(4):
        assert [core.take(second), core.take(second)] == [True, True]
    core.change(SlidingWindow(7, per=4), 3.0)
    assert [core.take(3.0), core.take(3.9), core.take(4.0)] == [None, None, True]  # those of second 0 have left


def test_one_call_too_old_to_be_known_is_reckoned_with_beside_those_that_are() -> None:
    core = SlidingWindow(3, per=1).start(0.0)
    assert [core.take(at) for at in (0.0, 0.25, 0.5)] == [True] * 3
    core.change(SlidingWindow(4, per=2), 0.5)  # the call before these was at -0.5 at the latest, a second before the last of them
    passed = [tick / 4 for tick in range(20) if core.take(tick / 4)]
    assert passed[:5] == [1.5, 2.0, 2.25, 2.5, 3.5]  # two seconds after -0.5, 0.0, 0.25, 0.5 and 1.5


def carries_nothing_over(core: Any, rule: Any, now: float) -> None:
    vars_of = rule.start(now)
    for slot in type(core).__slots__:
        setattr(core, slot, getattr(vars_of, slot))


def gives_the_burst_at_once(core: Any, rule: Any, now: float) -> None:
    debt = max(core._debt(now), 0.0) / core._interval
    core._anchor, core._taken = now, float(int(debt))
    core._set(rule)


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        (carries_nothing_over, [TokenBucket(4, per=1, burst=4), TokenBucket(4, per=1, burst=3)]),
        (carries_nothing_over, [SlidingWindow(4, per=1), SlidingWindow(3, per=1)]),
        (gives_the_burst_at_once, [TokenBucket(8, per=1, burst=1), TokenBucket(1, per=1, burst=6)]),
    ],
)
def test_a_change_that_forgets_is_found_out(change: Any, rules: list[Any]) -> None:
    law_of_changing_rules(rules[0].start(0.0), rules, [1] * 20)
    with pytest.raises(AssertionError):
        law_of_changing_rules(deepcopy(rules[0].start(0.0)), rules, [1] * 20, change)
