"""Which provider takes this call? The order among those that may, residency and pins, and what becomes of the choice."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import pytest
from hypothesis import given, strategies as st

from finresilience.cores.health import RouteState as S
from finresilience.cores.pace import EVIDENCE, Pace
from finresilience.cores.routing import Candidate, NoRoute, RouteEnd, Routing, outweighs, passes
from tests.cores.providers import candidate, fall_ill, recover, routing, serve

# --- the two rules of the walk -------------------------------------------------------------------------------------


def test_only_what_is_surely_not_applied_goes_on_and_a_decline_that_is_called_soft() -> None:
    assert {end: (passes(end, soft=False), passes(end, soft=True)) for end in RouteEnd} == {
        RouteEnd.OK: (False, False),
        RouteEnd.UNKNOWN: (False, False),
        RouteEnd.DECLINED: (False, True),
        RouteEnd.FAILED: (True, True),
        RouteEnd.REFUSED: (True, True),
    }


def test_the_whole_ends_by_the_join_over_the_providers() -> None:
    heaviest_first = [RouteEnd.OK, RouteEnd.UNKNOWN, RouteEnd.DECLINED, RouteEnd.FAILED, RouteEnd.REFUSED]
    for (i, later), (j, kept) in product(enumerate(heaviest_first), repeat=2):
        assert outweighs(later, kept) is (i <= j)


# --- the order -----------------------------------------------------------------------------------------------------


def order(routes: Routing, now: float = 100.0, u: float = 0.0, **more: Any) -> list[str]:
    """Ask for one provider after another, as a call does that goes on and on."""
    tried: list[Any] = []
    while isinstance(chosen := routes.choose(now, u, tried=tried, **more), Candidate):
        assert chosen not in tried
        tried.append(chosen)
    return [one.name for one in tried]


def test_the_first_that_is_well_takes_all_the_traffic() -> None:
    routes = routing(candidate("a"), candidate("b"), candidate("c"))
    for u in (0.0, 0.5, 0.999):
        assert order(routes, u=u) == ["a", "b", "c"]
    fall_ill(routes.candidates[0].health, 100.0)
    assert order(routes) == ["b", "c", "a"]


def test_those_that_refuse_at_the_moment_come_last_and_the_soonest_of_them_first() -> None:
    a, b, c = candidate("a"), candidate("b"), candidate("c")
    routes = routing(a, b, c)
    routes.pause(a, 130.0)
    routes.pause(b, 120.0)
    fall_ill(c.health, 100.0)
    assert order(routes) == ["c", "b", "a"]
    assert order(routes, now=120.0)[0] == "b"
    assert order(routes, now=130.0)[0] == "a"
    assert a.health.figures(130.0).calls == 0  # nobody's failure


def test_if_all_are_ill_the_least_bad_serves() -> None:
    a, b = candidate("a"), candidate("b")
    for one in (a, b):
        fall_ill(one.health, 100.0)
    serve(b.health, 100.0, 7)
    assert order(routing(a, b)) == ["b", "a"]
    serve(a.health, 100.0, 14)
    assert order(routing(a, b)) == ["a", "b"]


def test_the_failing_are_worse_than_the_slow() -> None:
    a, b = candidate("a"), candidate("b", slow_after=1.0)
    fall_ill(a.health, 100.0)
    for _ in range(9):
        b.health.hear(100.0, failed=False, took=9.0)
        b.health.hear_pace(100.0, 3.0)
    assert b.health.drained
    assert order(routing(a, b)) == ["b", "a"]


def test_a_drained_provider_whose_turn_it_is_goes_first_and_the_one_not_seen_for_longest_before_all() -> None:
    a, b, c = candidate("a"), candidate("b"), candidate("c")
    routes = routing(a, b, c)
    fall_ill(a.health, 100.0)
    fall_ill(b.health, 99.0)
    first = [routes.choose(100.0, 0.0).name for _ in range(5)]
    assert first == ["c"] * 5
    watched = routes.choose(103.0, 0.0)
    assert watched is b
    routes.begin(watched, 103.0)
    assert routes.choose(103.0, 0.0) is a


def test_a_call_that_goes_on_is_not_used_for_watching() -> None:
    a, b, c = candidate("a"), candidate("b"), candidate("c")
    routes = routing(a, b, c)
    fall_ill(b.health, 0.0)
    for _ in range(10):
        b.health.pass_over()
    assert routes.choose(100.0, 0.0) is b
    assert routes.choose(100.0, 0.0, tried=[a]) is c


def test_a_provider_that_has_come_back_takes_its_traffic_over_by_and_by() -> None:
    a, b = candidate("a"), candidate("b")
    routes = routing(a, b)
    fall_ill(a.health, 0.0)
    back = recover(a.health, 0.0)
    taken = {age: sum(routes.choose(back + age, u / 100) is a for u in range(100)) for age in (0.0, 5.0, 10.0)}
    assert taken == {0.0: 10, 5.0: 50, 10.0: 100}
    assert routes.choose(back, 0.99, tried=[b]) is a


def test_where_all_have_just_come_back_the_first_takes_what_nobody_would() -> None:
    a, b = candidate("a"), candidate("b")
    for one in (a, b):
        fall_ill(one.health, 0.0)
    back = max(recover(one.health, 0.0) for one in (a, b))
    taken = Counter(routing(a, b).choose(back, u / 100).name for u in range(100))
    assert taken["a"] >= 90
    assert 9 <= taken["b"] <= 10


def test_spread_by_weight_the_shares_are_the_weights() -> None:
    routes = routing(candidate("a", weight=3.0), candidate("b"), candidate("c", weight=0.0), spread=True)
    taken = Counter(routes.choose(0.0, u / 1000).name for u in range(1000))
    assert taken == {"a": 750, "b": 250}
    a, b, c = routes.candidates
    assert routes.choose(0.0, 0.9, tried=[a]) is b
    assert routes.choose(0.0, 0.9, tried=[a, b]) is c  # it stands by
    fall_ill(a.health, 0.0)
    assert {routes.choose(0.0, u / 100).name for u in range(100)} == {"b"}


# --- residency, pins and an operator's word ------------------------------------------------------------------------


def test_residency_yields_to_nothing() -> None:
    eu, us = candidate("eu", regions=frozenset({"EU"})), candidate("us", regions=frozenset({"US"}))
    routes = routing(eu, us)
    fall_ill(eu.health)
    routes.pause(eu, 1e9)
    assert order(routes, region="EU") == ["eu"]
    assert routes.choose(0.0, 0.0, region="JP") is NoRoute.REGION
    assert routes.choose(0.0, 0.0, region=None) is NoRoute.REGION
    assert routes.choose(0.0, 0.0, region="EU", pin="us") is NoRoute.ABROAD
    assert routes.choose(0.0, 0.0, region="US", pin="us") is us
    eu.health.hold("me", 0.0)
    assert routes.choose(0.0, 0.0, region="EU") is NoRoute.HELD


def test_a_pinned_call_goes_to_its_provider_whatever_its_health_or_to_nobody() -> None:
    a, b = candidate("a"), candidate("b")
    routes = routing(a, b)
    fall_ill(b.health)
    routes.pause(b, 1e9)
    b.health.hold("me", 0.0)
    assert order(routes, pin="b") == ["b"]
    assert routes.choose(0.0, 0.0, pin="c") is NoRoute.STRANGER


def test_what_an_operator_drained_serves_nobody_even_if_nobody_else_is_left() -> None:
    a, b = candidate("a"), candidate("b")
    routes = routing(a, b)
    fall_ill(b.health)
    a.health.hold("me", 0.0)
    assert order(routes) == ["b"]
    b.health.hold("me", 0.0)
    assert routes.choose(0.0, 0.0) is NoRoute.HELD
    assert routes.choose(0.0, 0.0, tried=[b]) is None


REGIONS = st.sampled_from(["EU", "US", "JP"])


@given(
    lists=st.lists(st.none() | st.frozensets(REGIONS, min_size=1), min_size=1, max_size=4),
    region=st.none() | REGIONS,
    pin=st.none() | st.integers(0, 5).map(str),
    ill=st.frozensets(st.integers(0, 3)),
    held=st.frozensets(st.integers(0, 3)),
    paused=st.frozensets(st.integers(0, 3)),
    spread=st.booleans(),
    u=st.floats(0.0, 1.0, exclude_max=True),
)
def test_nobody_is_ever_asked_who_may_not_and_everybody_who_may_is(
    lists: Any, region: Any, pin: Any, ill: Any, held: Any, paused: Any, spread: Any, u: float
) -> None:
    routes = routing(*[candidate(str(n), regions=regions) for n, regions in enumerate(lists)], spread=spread)
    for n, one in enumerate(routes.candidates):
        if n in ill:
            fall_ill(one.health, 100.0)
        if n in held:
            one.health.hold("me", 0.0)
        if n in paused:
            routes.pause(one, 1e9)
    may = {str(n) for n, regions in enumerate(lists) if regions is None or region in regions}
    asked = order(routes, u=u, region=region, pin=pin)
    assert len(asked) == len(set(asked))
    if pin is not None:
        assert asked == ([pin] if pin in may else [])
    else:
        assert set(asked) == may - {str(n) for n in held}


# --- what becomes of it --------------------------------------------------------------------------------------------


def done(routes: Any, one: Any, began: float, ended: float, *, failed: bool | None = False, cut: bool = False) -> None:
    routes.end(routes.begin(one, began), ended, failed=failed, cut=cut)


def test_what_says_nothing_of_the_provider_changes_nothing() -> None:
    a = candidate("a", slow_after=1.0)
    routes = routing(a)
    for now in range(100):
        done(routes, a, now, now + 0.9, failed=None)
        routes.end(routes.begin(a, now), now + 9.0, failed=None)
        assert (a.health.state, a.health.slow.score) == (S.HEALTHY, 0.0)
    assert (a.health.figures(100.0).calls, a.under_way) == (0, 0)
    b = candidate("b")
    for now in range(100):
        done(routing(b), b, now, now + 0.9, failed=None)
    assert b.baseline.p95 is None


def test_a_call_that_was_cut_short_counts_for_its_slowness_only_and_only_if_it_was_slow() -> None:
    a = candidate("a", slow_after=1.0)
    routes = routing(a)
    done(routes, a, 0.0, 1.0, failed=None, cut=True)
    assert a.health.slow.score == 0.0
    done(routes, a, 1.0, 2.5, failed=None, cut=True)
    done(routes, a, 2.5, 2.6, failed=None, cut=True)
    assert (a.health.slow.score, a.health.failing.score) == (EVIDENCE[Pace.SLOW], 0.0)


def test_a_failure_says_nothing_of_the_pace() -> None:
    a = candidate("a", slow_after=1.0)
    done(routing(a), a, 0.0, 0.5, failed=True)
    assert (a.health.slow.score, a.health.failing.score > 0.0) == (0.0, True)


def test_silence_counts_before_it_ends_and_counts_once() -> None:
    a, b = candidate("a", slow_after=1.0), candidate("b", slow_after=1.0)
    routes = routing(a, b)
    tickets = [routes.begin(a, 0.0) for _ in range(7)]
    routes.choose(1.0, 0.0)
    assert a.health.slow.score == 0.0
    routes.choose(1.1, 0.0)
    scores = [a.health.slow.score]
    routes.choose(2.9, 0.0)
    scores.append(a.health.slow.score)
    assert scores[0] == scores[1] > 0.0
    routes.choose(3.1, 0.0)
    assert a.health.drained
    trust = a.health.slow.score
    for ticket in tickets:
        routes.end(ticket, 4.0, failed=False)
    assert (a.health.slow.score, a.under_way) == (trust, 0)


@pytest.mark.parametrize(("took", "pace"), [(1.0, Pace.QUICK), (1.1, Pace.SLOW), (3.0, Pace.SLOW), (3.1, Pace.VERY_SLOW)])
@pytest.mark.parametrize("looks", [(), (0.5,), (1.05,), (2.0,), (1.05, 3.0), (1.05, 3.05)])
def test_a_call_counts_the_same_however_often_somebody_looked_meanwhile(took: float, pace: Pace, looks: tuple[float, ...]) -> None:
    began, usual = 64.0, 2.0
    for seen in ((), looks):
        a = candidate("a", slow_after=usual)
        routes = routing(a)
        ticket = routes.begin(a, began)
        for at in seen:
            if at <= took:
                routes.choose(began + at * usual, 0.0)
        routes.end(ticket, began + took * usual, failed=False)
        assert a.health.slow.score == pytest.approx(max(0.0, EVIDENCE[pace]))


def test_calls_are_judged_in_the_order_in_which_they_began() -> None:
    a = candidate("a", slow_after=1.0)
    routes = routing(a)
    slow = [routes.begin(a, 0.0) for _ in range(4)]
    for _ in range(20):
        done(routes, a, 0.1, 0.2)  # the quick ones of a provider that has just become slow
    assert a.health.slow.score == 0.0
    routes.choose(1.01, 0.0)
    scores = a.health.slow.score
    for ticket in slow:
        routes.end(ticket, 1.02, failed=False)
    assert scores == a.health.slow.score == 0.0  # four slow ones, and the twenty that began after them


def test_a_pace_is_learned_while_all_is_well_and_only_then() -> None:
    a = candidate("a")
    routes = routing(a)
    for number in range(100):
        done(routes, a, number - 0.5, float(number))
    assert a.baseline.p95 == 0.5
    fall_ill(a.health, 100.0)
    for number in range(100, 130):
        done(routes, a, number - 400.0, float(number), failed=number % 2 == 0)
    assert a.health.drained
    assert (a.baseline.p95, a.baseline._batch) == (0.5, [])


def test_a_restored_provider_learns_its_pace_anew() -> None:
    a = candidate("a")
    routes = routing(a)
    for number in range(100):
        done(routes, a, number - 0.5, float(number))
    a.health.restore(100.0)
    routes.choose(100.0, 0.0)
    assert a.baseline.p95 is None
    for number in range(101, 201):
        done(routes, a, number - 0.7, float(number))
    assert a.baseline.p95 == pytest.approx(0.7)


def test_of_two_operations_of_one_provider_each_has_its_own_pace_and_pauses_and_both_its_health() -> None:
    charge = candidate("acme", slow_after=0.1)
    refund = Candidate(charge.health, slow_after=10.0)
    charges, refunds = routing(charge, candidate("globex")), routing(refund)
    for _ in range(50):
        done(refunds, refund, 0.0, 5.0)
    assert charge.health.state is S.HEALTHY
    refunds.pause(refund, 1e9)
    assert charges.choose(5.0, 0.0) is charge
    for _ in range(7):
        done(refunds, refund, 5.0, 5.1, failed=True)
    assert charges.choose(5.1, 0.0) is not charge


def test_what_is_followed_is_bounded_and_forgotten_in_a_forked_child() -> None:
    a = candidate("a")
    routes = routing(a)
    tickets = [routes.begin(a, 0.0) for _ in range(10_001)]
    assert (len(a.waiting), a.under_way) == (10_000, 10_001)
    routes.forget_calls()
    assert (len(a.waiting), len(a.late), a.under_way) == (0, 0, 0)
    routes.end(tickets[0], 1.0, failed=False)
    assert a.under_way == 0


def test_on_a_clock_with_another_zero_pauses_and_calls_under_way_go_on() -> None:
    a, b = candidate("a", slow_after=1.0), candidate("b")
    routes = routing(a, b)
    routes.pause(b, 10.0)
    ticket = routes.begin(a, 4.0)
    routes.shift(1e6)
    for one in (a, b):
        one.health.shift(1e6)
    assert order(routes, now=1e6 + 9.0) == ["a", "b"]
    assert b.paused == 1e6 + 10.0
    assert a.health.slow.score > 0.0
    routes.end(ticket, 1e6 + 9.0, failed=False)
    assert a.health.figures(1e6 + 9.0).p95 == pytest.approx(5.0)
