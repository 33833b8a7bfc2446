"""What listeners did elsewhere: they lost results, replaced errors, and waited for the lock of the circuit they were told about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from finresilience import CircuitBreaker, Constant, Effect, Event, Pipeline, Retry, Timeout
from finresilience.events import Publisher
from finresilience.testing import explore_threads
from tests.laws.sabotage import each_kill, kills
from tests.laws.worlds import RULES, Down, No, Provider, still

if TYPE_CHECKING:
    from collections.abc import Callable


def broken(event: Event) -> None:
    raise No


def pipeline(*listeners: Callable[[Event], None]) -> Pipeline:
    clock = still()
    policies = (
        CircuitBreaker("acme", consecutive_failures=3, half_open_calls=1, clock=clock, listeners=listeners),
        Retry(attempts=2, backoff=Constant(0), clock=clock, listeners=listeners),
        Timeout(2.0, clock=clock, listeners=listeners),
    )
    return Pipeline("acme", *policies, classify=RULES, effect=Effect.READ, clock=clock, listeners=listeners)


def test_a_listener_that_raises_loses_no_answer() -> None:
    """The exception of a listener came out of a call that had succeeded, and the answer was gone."""
    assert pipeline(broken).call(Provider(Down(), "paid").charge) == "paid"


def test_a_listener_that_raises_replaces_no_error() -> None:
    """The exception of a listener came out in place of the provider's own error."""
    error = Down()
    with pytest.raises(Down) as caught:
        pipeline(broken).call(Provider(Down(), error).charge)
    assert caught.value is error


def test_a_listener_that_raises_keeps_no_other_from_hearing() -> None:
    """The listeners after the one that raised heard nothing."""
    heard: list[Event] = []
    pipeline(broken, heard.append).call(Provider(Down(), "paid").charge)
    assert len(heard) == 1


def listeners_let_their_errors_out(patch: pytest.MonkeyPatch) -> None:
    def publish(self: Publisher, event: Event) -> None:
        for listener in self.listeners:
            listener(event)

    patch.setattr(Publisher, "__call__", publish)


def a_listener_that_asks_its_circuit() -> tuple[list[Callable[[], None]], Callable[[], None]]:
    seen: list[object] = []

    def curious(event: Event) -> None:
        seen.append(policy.statistics()["state"])
        policy.reset()

    policy = CircuitBreaker("acme", consecutive_failures=1, classify=RULES, clock=still(), listeners=[curious])

    def caller() -> None:
        policy.outcome(Provider(Down()).charge)

    def it_was_answered() -> None:
        assert seen[0] == "open"
        assert policy.state == "closed"

    return [caller], it_was_answered


def test_a_listener_may_use_the_circuit_it_is_told_about() -> None:
    """Listeners were told under the lock, so that one which looked at its circuit waited for itself for ever."""
    explore_threads(a_listener_that_asks_its_circuit, seeds=3)


def listeners_are_told_under_the_lock(patch: pytest.MonkeyPatch) -> None:
    def settle(self: CircuitBreaker, permit: Any, now: float, **told: Any) -> None:
        with self._lock:
            self.core.settle(permit, now, **told)
            self._tell(self._news())

    patch.setattr(CircuitBreaker, "settle", settle)


@each_kill(
    (listeners_let_their_errors_out, test_a_listener_that_raises_loses_no_answer),
    (listeners_let_their_errors_out, test_a_listener_that_raises_replaces_no_error),
    (listeners_let_their_errors_out, test_a_listener_that_raises_keeps_no_other_from_hearing),
    (listeners_are_told_under_the_lock, test_a_listener_may_use_the_circuit_it_is_told_about),
)
def test_its_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
