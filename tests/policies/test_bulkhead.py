"""The bulkhead's shell where nobody waits long: its arguments, its places, its guard, its refusals, what it tells."""

from __future__ import annotations

from datetime import timedelta
from math import inf, nan
from typing import TYPE_CHECKING, Any

import pytest

from finresilience import BulkheadFullError, ConfigurationError, DeadlineExceededError, Event, Ok, Refused, Unknown, deadline
from finresilience.cores.bulkhead import BulkheadCore, Ticket
from finresilience.events import BulkheadResized, PlaceLapsed
from finresilience.policies import base
from finresilience.policies.bulkhead import Bulkhead
from finresilience.testing import ManualClock, instant
from tests.laws.sabotage import each_kill, kills, nothing
from tests.laws.worlds import Down, still

if TYPE_CHECKING:
    from collections.abc import Callable


def bulkhead(limit: int = 1, **more: Any) -> Bulkhead:
    settings: dict[str, Any] = {"name": "acme", "clock": still(), "listeners": [], **more}
    return Bulkhead(limit, **settings)


def waits(policy: Bulkhead) -> Ticket:
    """Let somebody stand in the queue, without a thread that waits there."""
    ticket = policy._ticket(inf)
    assert policy._ask(ticket) is not None
    return ticket


def now(policy: Bulkhead, *names: str) -> list[object]:
    told = policy.statistics()
    return [told[name] for name in names]


# --- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "3", None])
def test_a_limit_is_a_whole_number_of_at_least_one(limit: Any) -> None:
    with pytest.raises(ConfigurationError, match="limit="):
        Bulkhead(limit)
    with pytest.raises(ConfigurationError, match="limit="):
        bulkhead().resize(limit)


@pytest.mark.parametrize("queue", [-1, True, 1.5, None])
def test_a_queue_is_a_whole_number(queue: Any) -> None:
    with pytest.raises(ConfigurationError, match="queue="):
        Bulkhead(1, queue=queue, max_wait=1.0)


@pytest.mark.parametrize("more", [{"queue": 5}, {"max_wait": 0.5}, {"queue": 0, "max_wait": 0.5}])
def test_a_queue_and_a_longest_wait_go_together(more: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="max_wait"):
        Bulkhead(1, **more)


@pytest.mark.parametrize("seconds", [0, -1.0, nan, inf, True, "1"])
def test_waits_and_leases_are_positive_and_finite(seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_wait="):
        Bulkhead(1, queue=1, max_wait=seconds)
    with pytest.raises(ConfigurationError, match="lease="):
        Bulkhead(1, lease=seconds)


def test_seconds_may_be_a_timedelta() -> None:
    policy = Bulkhead(3, queue=1, max_wait=timedelta(milliseconds=500), lease=timedelta(seconds=2))
    assert (policy.limit, policy.queue, policy.max_wait, policy.lease, policy.name) == (3, 1, 0.5, 2.0, "bulkhead")


# --- places ------------------------------------------------------------------------------------------------------------


def test_as_many_as_the_limit_are_let_in_and_then_nobody() -> None:
    policy = bulkhead(3)
    assert all(policy.take() is not None for _ in range(3))
    assert policy.take() is None
    with pytest.raises(BulkheadFullError):
        policy.enter()


def test_a_place_given_back_serves_the_next_caller_and_is_one_place_however_often_it_is_given_back() -> None:
    policy = bulkhead()
    hold = policy.take()
    for _ in range(3):
        policy.leave(hold)
    policy.leave(object())
    assert policy.take() is not None
    assert policy.take() is None


def test_nobody_overtakes_a_waiter() -> None:
    policy = bulkhead(queue=2, max_wait=1.0)
    hold = policy.take()
    waiter = waits(policy)
    policy.leave(hold)
    assert policy.take() is None
    assert policy._ask(waiter) is None


def test_a_refusal_tells_who_refused_how_many_are_inside_and_that_nobody_stood_in_the_queue() -> None:
    policy = bulkhead(2)
    assert None not in {policy.take(), policy.take()}
    with pytest.raises(BulkheadFullError, match=r"acme.* all places \(2\) are taken and there is no room to wait") as refusal:
        policy.enter()
    assert (refusal.value.bulkhead, refusal.value.limit, refusal.value.waited) == ("acme", 2, 0.0)


def test_a_deadline_that_has_passed_refuses_even_where_a_place_is_free() -> None:
    policy = bulkhead()
    with pytest.raises(DeadlineExceededError, match="acme"):
        policy.enter(policy._now())
    assert now(policy, "at_work") == [0]


def test_a_block_within_a_deadline_that_has_passed_is_not_entered() -> None:
    with instant() as clock, deadline(1.0):
        policy = Bulkhead(1)
        with policy.guard():
            clock.advance(1)
        with pytest.raises(DeadlineExceededError), policy.guard():
            pytest.fail("it was entered")
        assert now(policy, "at_work") == [0]


def test_a_grant_that_lapsed_is_seen_by_whoever_only_wants_to_take() -> None:
    heard, clock = list[Event](), still()
    policy = bulkhead(queue=1, max_wait=9.0, lease=2.0, clock=clock, listeners=[heard.append])
    hold = policy.take()
    waits(policy)
    policy.leave(hold)
    assert policy.take() is None
    clock.advance(2)
    assert policy.take() is not None
    assert heard == [PlaceLapsed(name="acme", lease=2.0)]


# --- standing alone ----------------------------------------------------------------------------------------------------


def test_alone_it_passes_answers_and_errors_on_as_they_are() -> None:
    policy, error = bulkhead(), Down("as it is")

    @policy
    def charge(end: Any) -> str:
        assert policy.take() is None  # we are inside
        if isinstance(end, BaseException):
            raise end
        return str(end)

    assert charge("ok") == "ok"
    with pytest.raises(Down) as caught:
        charge(error)
    assert caught.value is error
    assert isinstance(policy.outcome(charge, "ok"), Ok)
    assert isinstance(policy.outcome(charge, error), Unknown)  # it knows no rules, so it knows nothing of an error
    assert now(policy, "at_work") == [0]


def test_alone_and_full_it_refuses_and_does_not_call() -> None:
    policy, calls = bulkhead(), list[int]()
    hold = policy.take()

    def charge() -> None:
        calls.append(1)

    guarded = policy(charge)
    with pytest.raises(BulkheadFullError):
        guarded()
    assert isinstance(policy.outcome(guarded), Refused)
    assert calls == []
    policy.leave(hold)
    guarded()
    assert calls == [1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, Down])
@pytest.mark.parametrize("form", ["call", "decorated", "guard", "outcome"])
def test_whatever_ends_the_call_ends_the_stay(error: type[BaseException], form: str) -> None:
    policy = bulkhead()

    def work() -> None:
        raise error

    def in_guard() -> None:
        with policy.guard():
            work()

    forms: dict[str, Callable[[], Any]] = {
        "call": lambda: policy.call(work),
        "decorated": policy(work),
        "guard": in_guard,
        "outcome": lambda: policy.outcome(work).unwrap(),
    }
    with pytest.raises(error):
        forms[form]()
    assert now(policy, "at_work", "waiting", "let_in") == [0, 0, 0]


# --- the guard ---------------------------------------------------------------------------------------------------------


def test_a_block_has_one_place_for_as_long_as_it_runs() -> None:
    policy = bulkhead()
    with policy.guard():
        assert policy.take() is None
    assert policy.take() is not None


def test_a_permit_is_used_once() -> None:
    permit = bulkhead().guard()
    with permit:
        pass
    with pytest.raises(ConfigurationError, match=r"guard\(\) again"), permit:
        pass
    permit.__exit__(None, None, None)  # and ends once


def test_the_shared_policy_is_no_permit() -> None:
    with pytest.raises(ConfigurationError, match=r"policy\.guard"), bulkhead():
        pass


# --- resizing ----------------------------------------------------------------------------------------------------------


def test_a_lower_limit_waits_for_those_inside() -> None:
    policy = bulkhead(2)
    holds = [policy.take(), policy.take()]
    policy.resize(1)
    policy.leave(holds[0])
    assert policy.take() is None
    policy.leave(holds[1])
    assert policy.take() is not None


def test_a_higher_limit_lets_waiters_in_in_order() -> None:
    policy = bulkhead(queue=3, max_wait=9.0)
    policy.take()
    first, second, third = waits(policy), waits(policy), waits(policy)
    policy.resize(3)
    assert policy._ask(third) is not None
    assert (policy._ask(second), policy._ask(first)) == (None, None)


def test_a_change_of_the_limit_is_told_once_and_no_change_is_not() -> None:
    heard: list[Event] = []
    policy = bulkhead(listeners=[heard.append])
    policy.resize(2)
    policy.resize(2)
    assert heard == [BulkheadResized(name="acme", before=1, after=2)]
    assert policy.limit == 2


# --- what it knows -----------------------------------------------------------------------------------------------------


def test_the_statistics_say_who_is_there_and_what_has_been() -> None:
    policy = bulkhead(queue=1, max_wait=1.0, lease=3.0)
    policy.take()
    waits(policy)
    with pytest.raises(BulkheadFullError):
        policy.enter()
    assert policy.statistics() == {
        "name": "acme",
        "limit": 1,
        "at_work": 1,
        "let_in": 0,
        "waiting": 1,
        "waited": 0,
        "refused_full": 1,
        "refused_late": 0,
        "lapsed": 0,
        "listener_failures": 0,
    }


def test_a_listener_that_fails_loses_nobody_a_place() -> None:
    def fails(event: Event) -> None:
        raise RuntimeError

    policy = bulkhead(listeners=[fails])
    policy.resize(2)
    assert now(policy, "limit", "listener_failures") == [2, 1]


def test_another_ruling_clock_keeps_what_is_left_of_each_wait() -> None:
    with instant() as one:
        policy = Bulkhead(1, queue=1, max_wait=4.0)
        policy.take()
        ticket = policy._ticket(inf)
        assert policy._ask(ticket) == 1.0  # its lease is less than its wait
        one.advance(3)
        with instant(ManualClock(1000.0)):
            assert ticket.until == 1001.0
            assert policy._ask(ticket) == 1001.0


# --- a fork ------------------------------------------------------------------------------------------------------------


def test_in_a_forked_child_nobody_is_inside_and_nobody_waits() -> None:
    policy = bulkhead(queue=1, max_wait=9.0)
    hold = policy.take()
    waiter = waits(policy)
    base._before_fork()
    base._after_in_child()
    assert now(policy, "at_work", "waiting") == [0, 0]
    mine = policy.take()
    assert mine is not None
    policy.leave(hold)  # of a thread that does not exist here
    policy.leave(waiter)
    assert policy.take() is None
    policy.leave(mine)
    assert policy.take() is not None


def test_a_child_forked_while_another_thread_was_making_a_bulkhead_goes_on_without_it() -> None:
    half_made = Bulkhead.__new__(Bulkhead)
    half_made.forked()


def test_a_child_forked_in_the_midst_of_a_decision_decides_again() -> None:
    policy = bulkhead()
    policy.take()
    policy._deciding, policy._calm = True, False  # as another thread left it
    policy._door.acquire()
    base._before_fork()
    base._after_in_child()
    assert policy.take() is not None
    policy.resize(2)
    assert policy.take() is not None


def places_outlive_a_fork(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Bulkhead, "forked", nothing)


def decisions_outlive_a_fork(patch: pytest.MonkeyPatch) -> None:
    def forked(self: Bulkhead) -> None:
        self.core.begin_anew()

    patch.setattr(Bulkhead, "forked", forked)


# --- called in the midst of itself -------------------------------------------------------------------------------------


def test_a_place_given_back_in_the_midst_of_a_decision_is_given_back_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector closes a forgotten coroutine whenever it likes, and the coroutine's `finally` leaves."""
    policy = bulkhead(2)
    forgotten, other = policy.take(), policy.take()
    settle = BulkheadCore._settle

    def collects(self: BulkheadCore, now: float) -> None:
        monkeypatch.setattr(BulkheadCore, "_settle", settle)
        policy.leave(forgotten)
        assert len(policy._later) == 1  # what follows from it waits its turn
        settle(self, now)

    monkeypatch.setattr(BulkheadCore, "_settle", collects)
    policy._left(other)
    assert now(policy, "at_work") == [0]
    assert policy.take() is not None
    assert policy.take() is not None


def test_a_call_made_in_the_midst_of_a_decision_is_refused_and_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that the collector or a signal runs may itself make a guarded call."""
    policy = bulkhead(2)
    hold, told = policy.take(), list[object]()
    settle = BulkheadCore._settle

    def interrupts(self: BulkheadCore, now: float) -> None:
        monkeypatch.setattr(BulkheadCore, "_settle", settle)
        told.append(policy.take())
        with pytest.raises(BulkheadFullError):
            policy.enter()
        settle(self, now)

    monkeypatch.setattr(BulkheadCore, "_settle", interrupts)
    policy._left(hold)
    assert told == [None]
    assert now(policy, "at_work", "waiting") == [0, 0]


def test_an_interrupt_in_the_midst_of_a_decision_leaves_everything_as_it_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = bulkhead(queue=2, max_wait=9.0)
    hold = policy.take()
    first, second = waits(policy), waits(policy)
    leave = BulkheadCore.leave

    def interrupted(self: BulkheadCore, now: float, *holds: object) -> None:
        monkeypatch.setattr(BulkheadCore, "leave", leave)
        raise KeyboardInterrupt

    monkeypatch.setattr(BulkheadCore, "leave", interrupted)
    with pytest.raises(KeyboardInterrupt):
        policy.leave(hold)
    assert now(policy, "at_work", "let_in", "waiting") == [0, 1, 1]  # interrupted, it was done again
    assert policy._ask(first) is None
    assert policy._ask(second) is not None


class Interrupted(set[object]):
    """Those inside, and a signal that comes just after somebody got in or out, once."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 1

    def add(self, hold: object) -> None:
        super().add(hold)
        self._signal()

    def discard(self, hold: object) -> None:
        super().discard(hold)
        self._signal()

    def _signal(self) -> None:
        if self.left:
            self.left = 0
            raise KeyboardInterrupt


@pytest.mark.parametrize("queue", [0, 1])
def test_an_interrupt_on_the_way_in_or_out_leaks_no_place(queue: int) -> None:
    """With somebody in the queue, the way is another one: through the lock."""
    policy = bulkhead(queue=queue, max_wait=9.0 if queue else None)
    inside = policy.core.inside = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        policy.take()
    hold = policy.take()
    assert hold is not None
    waiters = [waits(policy) for _ in range(queue)]
    inside.left = 1
    with pytest.raises(KeyboardInterrupt):
        policy.leave(hold)
    for waiter in waiters:
        assert policy._ask(waiter) is None
        policy.leave(waiter)
    assert now(policy, "at_work", "let_in", "waiting") == [0, 0, 0]
    assert policy.take() is not None


def interrupts_leak(patch: pytest.MonkeyPatch) -> None:
    def take(self: Bulkhead) -> object:
        hold = object()
        if len(self.core.inside) >= self.core.limit:
            return None
        self.core.inside.add(hold)
        return hold

    patch.setattr(Bulkhead, "take", take)


@each_kill(
    (places_outlive_a_fork, test_in_a_forked_child_nobody_is_inside_and_nobody_waits),
    (decisions_outlive_a_fork, test_a_child_forked_in_the_midst_of_a_decision_decides_again),
    (interrupts_leak, test_an_interrupt_on_the_way_in_or_out_leaks_no_place, 0),
)
def test_its_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
