"""Which provider takes this call? Where the choice turns, to the call and to the second; what is counted, and how it is said."""

from __future__ import annotations

from collections import Counter

from finresilience.cores.routing import Candidate
from tests.cores.providers import candidate, fall_ill, provider, recover, routing, serve


def back_at_once(one: Candidate) -> float:
    """Let it fall ill and come back; return when it did, which is the same for each that this is done to."""
    fall_ill(one.health)
    return recover(one.health, 0.0)


# --- the choice ----------------------------------------------------------------------------------------------------


def test_only_a_drained_provider_that_a_call_went_past_has_been_passed_over() -> None:
    a, b = candidate("a"), candidate("b")
    routes = routing(a, b)
    fall_ill(a.health, 100.0)
    assert [routes.choose(100.0, 0.0).name for _ in range(4)] == ["b"] * 4
    assert [routes.choose(200.0, 0.0).name for _ in range(3)] == ["a"] * 3  # its turn, until it has had it
    assert (a.health.passed_over, b.health.passed_over) == (4, 0)


def test_a_call_that_goes_on_is_not_spared_the_one_that_has_just_come_back() -> None:
    a, b, c = candidate("a"), candidate("b"), candidate("c")
    now = back_at_once(a)
    routes = routing(a, b, c)
    assert routes.choose(now, 0.99) is b
    assert routes.choose(now, 0.99, tried=[b]) is a


def test_spread_by_weight_one_that_has_just_come_back_takes_a_tenth_of_its_share() -> None:
    a, b = candidate("a"), candidate("b")
    now = back_at_once(a)
    routes = routing(a, b, spread=True)
    assert Counter(routes.choose(now, (n + 0.5) / 110).name for n in range(110)) == {"a": 10, "b": 100}


def test_one_whose_figures_are_old_is_judged_by_what_drained_it() -> None:
    failing, slow = candidate("a"), candidate("b")
    fall_ill(failing.health, 0.0)
    slow.health.hear_pace(0.0, 18.0)
    assert (failing.health.figures(601.0).calls, slow.health.drained) == (0, True)
    assert routing(failing, slow).choose(601.0, 0.0) is slow


def test_among_the_ill_a_tenth_more_failures_is_worse_and_less_than_that_is_luck() -> None:
    a, b, c = candidate("a"), candidate("b"), candidate("c")
    for one, good in ((a, 43), (b, 44), (c, 9)):  # 7 of 50, 6 of 50, 7 of 16
        fall_ill(one.health, 100.0)
        serve(one.health, 100.0, good)
    assert all(one.health.drained for one in (a, b, c))
    assert routing(a, b).choose(100.0, 0.0, tried=[c]) is a
    assert routing(b, a).choose(100.0, 0.0, tried=[c]) is b
    assert routing(c, a).choose(100.0, 0.0, tried=[b]) is a


# --- what is counted -----------------------------------------------------------------------------------------------


def test_of_two_calls_under_way_one_ends_and_one_is_left() -> None:
    a = candidate("a")
    routes = routing(a)
    tickets = [routes.begin(a, 0.0) for _ in range(2)]
    routes.end(tickets[0], 1.0, failed=False)
    assert a.under_way == 1


def test_the_calls_that_are_late_are_bounded_too() -> None:
    a = candidate("a", slow_after=1.0)
    routes = routing(a)
    for began in (0.0, 1.1):
        for _ in range(6_000):
            routes.begin(a, began)
        routes.choose(began + 1.1, 0.0)
    assert (len(a.waiting), len(a.late), a.under_way) == (0, 10_000, 12_000)


# --- how it is said ------------------------------------------------------------------------------------------------


def test_who_is_drained_for_silence_is_said_to_be_silent_whether_somebody_looked_or_everybody_gave_up() -> None:
    for waits in (True, False):
        health, told = provider()
        a = Candidate(health, slow_after=1.0)
        routes = routing(a)
        for now in range(0, 120, 10):
            ticket = routes.begin(a, now)
            if waits:
                routes.choose(now + 1.1, 0.0)
            routes.end(ticket, now + 1.2, failed=None, cut=True)
        assert [turn.reason for turn in told] == ["slow: 0 of the last 0 calls failed, 12 without an answer in time"]
