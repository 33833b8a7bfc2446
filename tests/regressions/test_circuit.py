"""What went wrong round the circuit elsewhere: locks held too long, cancellations counted, clocks that step, errors replaced."""

from __future__ import annotations

import gc
from threading import Barrier
from typing import TYPE_CHECKING, Any
from weakref import ref

import anyio
import pytest

from finresilience import CircuitBreaker, CircuitOpenError, ConfigurationError, OpenFor, Pipeline, Registry
from finresilience.policies.base import Policy
from finresilience.policies.call import Call
from finresilience.policies.guard import CircuitGuard
from finresilience.testing import ManualClock, explore_threads
from finresilience.testing.clock import NEW_YEAR
from tests.laws.sabotage import a_cancelled_call_is_a_failure, each_kill, kills
from tests.laws.worlds import RULES, Down, Held, Provider, both_loops, on, still

if TYPE_CHECKING:
    from collections.abc import Callable


def breaker(**more: Any) -> CircuitBreaker:
    settings: dict[str, Any] = {"consecutive_failures": 1, "half_open_calls": 1, "open_for": OpenFor(10.0, jitter=0.0)} | more
    return CircuitBreaker("acme", classify=RULES, listeners=[], **settings)


def fails(policy: CircuitBreaker) -> None:
    with pytest.raises(Down):
        policy.call(Provider(Down()).charge)


# --- the lock ----------------------------------------------------------------------------------------------------------


def two_calls_that_need_each_other() -> tuple[list[Callable[[], None]], Callable[[], None]]:
    """Each call ends only once the other has begun: under a lock held across the call, neither ever does."""
    policy, together, done = breaker(clock=still()), Barrier(2), []

    def caller() -> None:
        policy.call(together.wait)
        done.append(1)

    def both_ended() -> None:
        assert len(done) == 2

    return [caller, caller], both_ended


def test_two_calls_through_one_circuit_may_be_inside_at_once() -> None:
    """The circuit held its lock while the call ran, so that callers queued up behind one another."""
    explore_threads(two_calls_that_need_each_other, seeds=40)


def the_lock_is_held_across_the_call(patch: pytest.MonkeyPatch) -> None:
    call, locks = CircuitBreaker.call, dict[int, Any]()

    def serialised(self: CircuitBreaker, fn: Callable[[], Any]) -> Any:
        with locks.setdefault(id(self), type(self._lock)()):
            return call(self, fn)

    patch.setattr(CircuitBreaker, "call", serialised)


# --- cancellation ------------------------------------------------------------------------------------------------------


@both_loops
def test_a_caller_that_goes_away_is_no_failure_of_the_provider(backend: str) -> None:
    """Every cancelled call was counted against the provider, so that impatient callers opened the circuit for all."""
    policy = breaker()

    async def world() -> None:
        for _ in range(5):
            with anyio.move_on_after(1):
                await policy.acall(Held().work)

    on(backend, world)
    assert (policy.state, policy.statistics()["failed"]) == ("closed", 0)


# --- the clock ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [-3600.0, 3600.0], ids=["back", "forth"])
def test_a_step_of_the_wall_clock_moves_no_circuit(step: float) -> None:
    """The open time was measured on the wall clock, so that an hour's step backwards kept the circuit open for an hour more."""
    clock = still()
    policy = breaker(clock=clock)
    fails(policy)
    clock.step_utc(step)
    clock.advance(9)
    with pytest.raises(CircuitOpenError):
        policy.call(Provider().charge)
    clock.advance(1)
    assert policy.call(Provider().charge) == "ok"


def the_time_is_taken_from_the_wall(patch: pytest.MonkeyPatch) -> None:
    def monotonic(self: ManualClock) -> float:
        return self._ns / 1e9 + (self._wall - NEW_YEAR).total_seconds()

    patch.setattr(ManualClock, "monotonic", monotonic)


# --- one object, one circuit -------------------------------------------------------------------------------------------


def test_a_circuit_shared_by_two_functions_is_one_circuit() -> None:
    """One breaker on two functions made two circuits, so that the failures of one left the other unprotected."""
    policy, second = breaker(clock=still()), Provider()
    one, two = policy(Provider(Down()).charge), policy(second.charge)
    three = Pipeline("acme", policy, listeners=[])(second.charge)
    with pytest.raises(Down):
        one()
    for other in (two, three):
        with pytest.raises(CircuitOpenError):
            other()
    assert second.attempts == 0


def each_function_gets_its_own_circuit(patch: pytest.MonkeyPatch) -> None:
    decorate = CircuitBreaker._decorate

    def apart(self: CircuitBreaker, fn: Any) -> Any:
        return decorate(self._sibling(self.name), fn)

    patch.setattr(CircuitBreaker, "_decorate", apart)


def four_threads_that_ask_for_one_name() -> tuple[list[Callable[[], None]], Callable[[], None]]:
    registry, got = Registry(listeners=[], clock=still()), list[CircuitBreaker]()

    def asker() -> None:
        got.append(registry["acme"])

    def one_object() -> None:
        assert len(set(got)) == 1

    return [asker] * 4, one_object


def test_threads_that_ask_for_one_name_at_once_get_one_circuit() -> None:
    """Threads that asked a registry for a new name together got different breakers."""
    explore_threads(four_threads_that_ask_for_one_name, seeds=60)


def the_registry_looks_and_then_acts(patch: pytest.MonkeyPatch) -> None:
    def getitem(self: Registry, name: str) -> CircuitBreaker:
        if name not in self._kept:
            self._kept[name] = self._make(name)
        return self._kept[name]

    patch.setattr(Registry, "__getitem__", getitem)


# --- blocks and errors -------------------------------------------------------------------------------------------------


def test_the_body_of_a_with_does_not_run_while_the_circuit_is_open() -> None:
    """`with` round the shared breaker ran its body while the circuit was open, and closed it."""
    policy, ran = breaker(clock=still()), []
    fails(policy)
    with pytest.raises(CircuitOpenError), policy.guard():
        ran.append("guard")
    with pytest.raises(ConfigurationError, match="guard"), policy:
        ran.append("policy")
    assert (ran, policy.state) == ([], "open")


def a_guard_ignores_that_it_got_no_permit(patch: pytest.MonkeyPatch) -> None:
    def enter(self: CircuitGuard) -> CircuitGuard:
        return self

    patch.setattr(CircuitGuard, "__enter__", enter)


def the_shared_policy_is_a_context_manager(patch: pytest.MonkeyPatch) -> None:
    def enter(self: Policy) -> Policy:
        return self

    patch.setattr(Policy, "__enter__", enter)


@pytest.mark.parametrize("form", ["call", "decorator"])
def test_the_call_that_opens_the_circuit_raises_the_providers_own_error(form: str) -> None:
    """The failure that opened the circuit was replaced by the refusal, so that nobody saw what the provider had said."""
    policy, error = breaker(clock=still()), Down()
    charge = Provider(error).charge
    with pytest.raises(Down) as caught:
        policy(charge)() if form == "decorator" else policy.call(charge)
    assert caught.value is error
    assert policy.state == "open"


def the_last_failure_is_replaced_by_the_refusal(patch: pytest.MonkeyPatch) -> None:
    outcome = Call.outcome

    def replaced(self: Call) -> Any:
        ended = outcome(self)
        if self.breaker is not None and self.breaker.state == "open":
            raise CircuitOpenError("acme", "open", 1.0, 1, "Down")
        return ended

    patch.setattr(Call, "outcome", replaced)


class Card:
    """A secret."""


def test_a_circuit_remembers_no_card_of_a_call_that_failed() -> None:
    """The last error was kept to explain the open circuit, and with it its traceback, its frames and the card in them."""
    policy, watched = breaker(clock=still()), list[ref[Any]]()

    def charge(card: Card) -> None:
        watched.append(ref(card))
        raise Down

    gc.disable()  # nobody may need to come and clean up
    try:
        with pytest.raises(Down):
            policy.call(charge, Card())
        assert policy.statistics()["failed"] == 1
        assert watched[0]() is None
    finally:
        gc.enable()


def the_circuit_keeps_the_last_error(patch: pytest.MonkeyPatch) -> None:
    failed, kept = Call.failed, list[Exception]()

    def keeping(self: Call, error: Exception) -> None:
        kept.append(error)
        failed(self, error)

    patch.setattr(Call, "failed", keeping)


@each_kill(
    (the_lock_is_held_across_the_call, test_two_calls_through_one_circuit_may_be_inside_at_once),
    (a_cancelled_call_is_a_failure, test_a_caller_that_goes_away_is_no_failure_of_the_provider, "asyncio"),
    (a_cancelled_call_is_a_failure, test_a_caller_that_goes_away_is_no_failure_of_the_provider, "trio"),
    (the_time_is_taken_from_the_wall, test_a_step_of_the_wall_clock_moves_no_circuit, -3600.0),
    (the_time_is_taken_from_the_wall, test_a_step_of_the_wall_clock_moves_no_circuit, 3600.0),
    (each_function_gets_its_own_circuit, test_a_circuit_shared_by_two_functions_is_one_circuit),
    (the_registry_looks_and_then_acts, test_threads_that_ask_for_one_name_at_once_get_one_circuit),
    (a_guard_ignores_that_it_got_no_permit, test_the_body_of_a_with_does_not_run_while_the_circuit_is_open),
    (the_shared_policy_is_a_context_manager, test_the_body_of_a_with_does_not_run_while_the_circuit_is_open),
    (the_last_failure_is_replaced_by_the_refusal, test_the_call_that_opens_the_circuit_raises_the_providers_own_error, "call"),
    (the_last_failure_is_replaced_by_the_refusal, test_the_call_that_opens_the_circuit_raises_the_providers_own_error, "decorator"),
    (the_circuit_keeps_the_last_error, test_a_circuit_remembers_no_card_of_a_call_that_failed),
)
def test_its_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
