"""What a bulkhead must never do. Each law is a function of the core, so that a saboteur may be put in its place."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import pytest

from finresilience.cores.bulkhead import BulkheadCore, Entry, Ticket
from tests.cores.bulkheads import (
    LEASE,
    MAX_WAIT,
    BackOfTheQueue,
    Boundless,
    Core,
    Counting,
    Forgiving,
    Interrupting,
    LastInFirstOut,
    Leaking,
    Leaseless,
    Make,
    Overtaking,
    Patient,
    Sleepy,
    Stingy,
    Unbounded,
)

Law = Callable[[Make], None]


def full(make: Make, *, limit: int = 1, queue: int = 3, waiting: int = 0) -> tuple[Any, list[object], list[Ticket]]:
    """Return a core whose places are taken, who has them, and so many who wait."""
    core = make(limit=limit, queue=queue, lease=LEASE)
    inside = [object() for _ in range(limit)]
    assert all(core.take(hold, 0.0) for hold in inside)
    waiters = [Ticket(0.0, MAX_WAIT) for _ in range(waiting)]
    for ticket in waiters:
        assert isinstance(core.ask(ticket, 0.0), float)
    return core, inside, waiters


def law_no_more_than_the_limit_are_ever_at_work(make: Make) -> None:
    core, _, _ = full(make, limit=2)
    assert core.take(object(), 0.0) is False
    assert isinstance(core.ask(Ticket(0.0, MAX_WAIT), 0.0), float)
    assert len(core.inside) == 2


def law_no_more_than_the_queue_holds_ever_wait(make: Make) -> None:
    core, _, waiters = full(make, queue=2, waiting=2)
    assert core.ask(Ticket(0.0, MAX_WAIT), 0.0) is Entry.FULL
    assert list(core.waiting) == waiters


def law_whoever_came_first_is_let_in_first(make: Make) -> None:
    core, inside, waiters = full(make, limit=2, waiting=3)
    core.leave(1.0, *inside)
    assert list(core.granted) == core.news == waiters[:2]


def law_a_newcomer_never_overtakes_a_waiter(make: Make) -> None:
    core, [hold], [waiter] = full(make, waiting=1)
    core.leave(1.0, hold)
    assert core.take(object(), 1.0) is False
    assert isinstance(core.ask(Ticket(1.0, MAX_WAIT), 1.0), float)
    assert core.ask(waiter, 1.0) is Entry.IN


def law_a_place_never_stands_empty_while_somebody_waits(make: Make) -> None:
    core, [hold], [waiter] = full(make, waiting=1)
    core.leave(1.0, hold)
    assert core.granted == {waiter: 1.0 + LEASE}


def law_a_grant_to_one_who_is_cancelled_at_that_moment_goes_to_the_next(make: Make) -> None:
    core, [hold], [first, second] = full(make, waiting=2)
    core.leave(1.0, hold)
    core.leave(1.0, first)
    assert core.ask(second, 1.0) is Entry.IN


def law_a_grant_that_nobody_comes_for_goes_to_the_next_after_its_lease(make: Make) -> None:
    core, [hold], [_, second] = full(make, waiting=2)
    core.leave(1.0, hold)
    assert isinstance(core.ask(second, 1.0 + LEASE - 0.1), float)
    assert core.ask(second, 1.0 + LEASE) is Entry.IN


def law_one_who_comes_too_late_for_his_grant_is_not_let_in_beside_his_heir(make: Make) -> None:
    core, [hold], [first, second] = full(make, waiting=2)
    core.leave(1.0, hold)
    assert core.ask(second, 1.0 + LEASE) is Entry.IN
    assert isinstance(core.ask(first, 1.0 + LEASE), float)
    assert core.inside == {second}


def law_one_whose_grant_has_lapsed_stands_before_all_who_came_after_him(make: Make) -> None:
    core, [hold], [first, second, third] = full(make, waiting=3)
    core.leave(1.0, hold)
    assert core.ask(second, 1.0 + LEASE) is Entry.IN
    core.ask(first, 1.0 + LEASE)
    core.leave(3.5, second)
    assert core.ask(first, 3.5) is Entry.IN
    assert list(core.waiting) == [third]


def law_every_waiter_looks_again_by_itself_before_any_grant_can_lapse_unseen(make: Make) -> None:
    core, [hold], [_, second] = full(make, waiting=2)
    assert core.ask(second, 0.5) == 0.5 + LEASE  # a grant made from now on lapses later than that
    core.leave(1.0, hold)
    assert core.ask(second, 1.5) == 1.0 + LEASE  # now it knows one, to the second
    assert core.ask(Ticket(1.5, 0.25), 1.5) == 1.75  # its own time is over before


def law_a_place_that_comes_free_when_the_wait_is_over_is_too_late(make: Make) -> None:
    core, [hold], [waiter] = full(make, waiting=1)
    core.leave(MAX_WAIT, hold)
    assert core.ask(waiter, MAX_WAIT) is Entry.LATE
    assert core.idle


def law_a_place_taken_back_twice_is_one_place(make: Make) -> None:
    core, [hold], [first, second] = full(make, waiting=2)
    core.leave(1.0, hold)
    core.leave(1.0, hold, hold)
    core.leave(1.0, object())
    assert core.ask(first, 1.0) is Entry.IN
    assert isinstance(core.ask(second, 1.0), float)


def law_a_lower_limit_interrupts_nobody_and_lets_nobody_in_until_enough_have_left(make: Make) -> None:
    core, inside, [waiter] = full(make, limit=3, waiting=1)
    core.resize(1, 1.0)
    assert core.inside == set(inside)
    core.leave(1.0, *inside[:2])
    assert isinstance(core.ask(waiter, 1.0), float)
    core.leave(1.0, inside[2])
    assert core.ask(waiter, 1.0) is Entry.IN


def law_a_higher_limit_lets_waiters_in_at_once_in_order(make: Make) -> None:
    core, _, waiters = full(make, waiting=3)
    core.resize(3, 1.0)
    assert list(core.granted) == waiters[:2]


SABOTEURS: list[tuple[Law, Make]] = [
    (law_no_more_than_the_limit_are_ever_at_work, Boundless),
    (law_no_more_than_the_queue_holds_ever_wait, Unbounded),
    (law_whoever_came_first_is_let_in_first, LastInFirstOut),
    (law_a_newcomer_never_overtakes_a_waiter, Overtaking),
    (law_a_place_never_stands_empty_while_somebody_waits, Overtaking),
    (law_a_grant_to_one_who_is_cancelled_at_that_moment_goes_to_the_next, Leaking),
    (law_a_grant_that_nobody_comes_for_goes_to_the_next_after_its_lease, Leaseless),
    (law_one_who_comes_too_late_for_his_grant_is_not_let_in_beside_his_heir, Forgiving),
    (law_one_whose_grant_has_lapsed_stands_before_all_who_came_after_him, BackOfTheQueue),
    (law_every_waiter_looks_again_by_itself_before_any_grant_can_lapse_unseen, Sleepy),
    (law_a_place_that_comes_free_when_the_wait_is_over_is_too_late, Patient),
    (law_a_place_taken_back_twice_is_one_place, Counting),
    (law_a_lower_limit_interrupts_nobody_and_lets_nobody_in_until_enough_have_left, Interrupting),
    (law_a_higher_limit_lets_waiters_in_at_once_in_order, Stingy),
]
LAWS = [value for name, value in globals().items() if name.startswith("law_")]


@pytest.mark.parametrize("law", LAWS, ids=[law.__name__ for law in LAWS])
def test_the_core_keeps_the_law(law: Law) -> None:
    law(BulkheadCore)


@pytest.mark.parametrize(("law", "saboteur"), SABOTEURS, ids=[f"{law.__name__}-{saboteur.__name__}" for law, saboteur in SABOTEURS])
def test_the_law_catches_the_saboteur(law: Law, saboteur: Make) -> None:
    with pytest.raises(AssertionError):
        law(saboteur)


def test_every_law_of_the_bulkhead_has_a_saboteur() -> None:
    assert {law for law, _ in SABOTEURS} == set(LAWS)


# --- corners -----------------------------------------------------------------------------------------------------------


def test_one_who_wakes_late_with_no_heir_and_time_left_is_let_in() -> None:
    core, [hold], [waiter] = full(BulkheadCore, waiting=1)
    core.leave(1.0, hold)
    assert core.ask(waiter, 1.0 + LEASE) is Entry.IN
    assert core.lapsed == 1


def test_one_who_wakes_late_when_his_wait_is_over_is_refused_even_if_a_place_is_free() -> None:
    core, [hold], [waiter] = full(BulkheadCore, waiting=1)
    core.leave(1.0, hold)
    assert core.ask(waiter, MAX_WAIT) is Entry.LATE
    assert core.idle


def test_one_who_was_granted_in_time_may_take_his_place_after_his_wait_was_over() -> None:
    core, [hold], [waiter] = full(BulkheadCore, waiting=1)
    core.leave(MAX_WAIT - 0.5, hold)
    assert core.ask(waiter, MAX_WAIT + LEASE - 0.6) is Entry.IN


def test_one_who_wakes_late_and_finds_the_queue_full_is_refused() -> None:
    core, [hold], [first, _] = full(BulkheadCore, queue=2, waiting=2)
    core.leave(1.0, hold)
    for _ in range(2):
        core.ask(Ticket(2.0, MAX_WAIT), 1.0 + LEASE - 0.5)
    core.take(object(), 1.0 + LEASE)  # somebody sees the lapse; one more is granted, and one more may come
    core.ask(Ticket(2.0, MAX_WAIT), 1.0 + LEASE)
    assert len(core.waiting) == 2
    assert core.ask(first, 1.0 + LEASE) is Entry.FULL


def test_a_waiter_whose_time_is_over_does_not_fill_the_queue() -> None:
    core, _, _ = full(BulkheadCore, queue=1, waiting=1)
    assert isinstance(core.ask(Ticket(MAX_WAIT, MAX_WAIT), MAX_WAIT), float)


def test_a_waiter_with_less_time_than_those_before_it_is_refused_when_its_own_is_over() -> None:
    core, _, [first] = full(BulkheadCore, waiting=1)
    hasty = Ticket(0.0, 1.0)
    core.ask(hasty, 0.0)
    assert core.ask(hasty, 1.0) is Entry.LATE
    assert list(core.waiting) == [first]


def test_a_deadline_shortens_the_wait_and_a_longer_one_does_not() -> None:
    assert Ticket(1.0, MAX_WAIT, 2.0).until == 2.0
    assert Ticket(1.0, MAX_WAIT, inf).until == 1.0 + MAX_WAIT


def test_the_books_tell_who_waited_and_who_was_refused_and_why() -> None:
    core, holds, waiters = full(BulkheadCore, limit=2, queue=6, waiting=6)
    for _ in range(3):
        core.ask(Ticket(0.0, MAX_WAIT), 0.0)  # the queue is full
    core.leave(0.5, *holds)  # to the first two, who do not come; so to the next two, who do
    for waiter in waiters[2:4]:
        core.ask(waiter, 0.5 + LEASE)
    for waiter in waiters[:2] + waiters[4:]:
        core.ask(waiter, MAX_WAIT)
    assert (core.full, core.lapsed, core.waited, core.late) == (3, 2, 2, 4)


def test_a_number_is_the_place_in_the_order_of_all_who_ever_stood_in_the_queue() -> None:
    core, [hold], waiters = full(BulkheadCore, queue=3, waiting=3)
    core.leave(1.0, hold, *waiters)
    at_once, later = Ticket(1.0, MAX_WAIT), Ticket(1.0, MAX_WAIT)
    core.ask(at_once, 1.0)
    core.ask(later, 1.0)
    assert [ticket.number for ticket in (*waiters, at_once, later)] == [1, 2, 3, 0, 4]


def test_nobody_is_woken_who_does_not_sleep_yet() -> None:
    assert Ticket(0.0, MAX_WAIT).waiter is None


def test_another_clock_moves_every_wait_and_every_lease_with_it() -> None:
    core, [hold], [first] = full(BulkheadCore, waiting=1)
    second, third = Ticket(0.5, MAX_WAIT), Ticket(0.75, MAX_WAIT, 3.0)
    for ticket in (second, third):
        core.ask(ticket, 0.75)
    core.leave(1.0, hold)
    core.rebase(1.0, 101.0)
    assert core.granted == {first: 101.0 + LEASE}
    assert (first.started, first.until, first.deadline) == (100.0, 100.0 + MAX_WAIT, inf)
    assert (second.started, second.until, second.deadline) == (100.5, 100.5 + MAX_WAIT, inf)
    assert (third.started, third.until, third.deadline) == (100.75, 103.0, 103.0)


def test_only_an_empty_bulkhead_can_be_closed_and_a_closed_one_lets_nobody_in() -> None:
    core, [hold], [waiter] = full(BulkheadCore, waiting=1)
    assert core.close() is False
    core.leave(1.0, hold)
    assert core.close() is False
    core.leave(1.0, waiter)
    assert core.close() is True
    assert core.close() is True
    core.resize(5, 1.0)
    assert core.take(object(), 1.0) is False
    assert core.ask(Ticket(1.0, MAX_WAIT), 1.0) is Entry.CLOSED


def test_a_bulkhead_begun_anew_owes_nobody_anything() -> None:
    core, [hold], [waiter] = full(BulkheadCore, waiting=1)
    core.begin_anew()
    core.leave(1.0, hold)
    assert core.idle
    assert core.free == 1
    assert core.ask(waiter, 1.0) is Entry.IN  # if it lives on, it stands in the new queue


def test_a_step_that_was_interrupted_can_be_done_again() -> None:
    class Interrupted(Core):  # type: ignore[misc] # of no type
        """Is interrupted between the grant and what follows, once."""

        @property
        def free(self) -> int:
            free: int = super().free
            if self.granted and not getattr(self, "done", False):
                self.done = True
                raise KeyboardInterrupt
            return free

    core, [hold], [first, second] = full(Interrupted, waiting=2)
    with pytest.raises(KeyboardInterrupt):
        core.leave(1.0, hold)
    core.leave(1.0, hold)
    assert core.ask(first, 1.0) is Entry.IN
    assert isinstance(core.ask(second, 1.0), float)
    core.leave(2.0, first, second)
    assert core.idle
