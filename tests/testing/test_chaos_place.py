"""Where chaos stands: inside of everything, so that each policy takes its trouble for the provider's."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from finresilience import (
    CircuitBreaker,
    ConfigurationError,
    Constant,
    DecorationError,
    Effect,
    Failed,
    Failover,
    Hedge,
    Money,
    Ok,
    Outcome,
    Pipeline,
    Refused,
    Retry,
    Route,
    Timeout,
    Unknown,
    current_key,
)
from finresilience.policies import order
from finresilience.testing import ManualClock, instant
from finresilience.testing.faults import Fault, FaultKind, FaultPlan
from finresilience.testing.provider import FakeProvider
from tests.laws.sabotage import each_kill, kills
from tests.laws.worlds import both_loops, on
from tests.testing.troubles import Bank, chaos, error_of, piped

if TYPE_CHECKING:
    from finresilience.testing.chaos import Chaos

# ---------------------------------------------------------------- where it stands


def test_a_breaker_sees_the_trouble_as_the_providers() -> None:
    with instant():
        breaker = CircuitBreaker("acme", minimum_calls=2, failure_rate=0.5, listeners=[])
        pipeline = piped(chaos(FaultKind.HTML), breaker)
        for _ in range(3):
            pipeline.outcome(Bank().charge, "pay_1")
        assert breaker.state.value == "open"


def test_the_function_inside_knows_its_call() -> None:
    keys: list[str | None] = []

    def charge(_: str) -> None:
        keys.append(current_key())

    with instant():
        made = piped(chaos(FaultKind.RESET_AFTER), effect=Effect.IDEMPOTENT, key=lambda payment: payment)
        assert isinstance(made.outcome(charge, "pay_1"), Unknown)
    assert keys == ["pay_1:acme.charge"]


def test_a_failover_meets_it_in_each_of_its_routes() -> None:
    bank = Bank()
    with instant():
        troubled = piped(chaos(FaultKind.BUSY))(bank.charge)
        other = Pipeline("globex.charge", listeners=[])(bank.charge)
        router = Failover([Route("acme", troubled), Route("globex", other)], listeners=[])
        assert router.routed("pay_1").route == "globex"


@both_loops
def test_each_arm_of_a_hedge_meets_its_own_fault(backend: str) -> None:
    bank = Bank()

    async def charge() -> tuple[Outcome[str], float]:
        pipeline = piped(chaos(FaultKind.HANG, nth=(1,)), Hedge(1.0), effect=Effect.IDEMPOTENT_BY_NATURE)
        return await pipeline.aoutcome(bank.acharge, "pay_1"), pipeline._now()

    outcome, took = on(backend, charge)
    assert (type(outcome), took, bank.booked) == (Ok, 1.0, ["pay_1"])


def test_a_thread_that_is_given_up_was_troubled_in_its_thread() -> None:
    clock, bank = ManualClock(), Bank()
    pipeline = piped(chaos(FaultKind.TIMEOUT_AFTER), Timeout(2.0, thread_limit=1), clock=clock)
    assert isinstance(pipeline.outcome(bank.charge, "pay_1"), Unknown)
    assert (bank.booked, clock.monotonic()) == (["pay_1"], 2.0)


def test_a_plain_function_that_gives_something_to_await_is_awaited_before_its_answer_is_thrown_away() -> None:
    bank = Bank()

    async def charge() -> Outcome[str]:
        return await piped(chaos(FaultKind.RESET_AFTER)).aoutcome(lambda payment: bank.acharge(f"{payment}"), "pay_1")

    assert isinstance(on("asyncio", charge), Unknown)
    assert bank.booked == ["pay_1"]


def test_a_sibling_for_calls_of_another_effect_meets_it_too() -> None:
    with instant():
        reads = piped(chaos(FaultKind.RESET))._with_effect(Effect.READ)
        assert isinstance(reads.outcome(Bank().charge, "pay_1"), Failed)


def lost_answers(seed: int) -> Chaos:
    """Every third answer is lost, one way or another, after the money has moved."""
    kinds = (FaultKind.TIMEOUT_AFTER, FaultKind.RESET_AFTER, FaultKind.HTML_AFTER)
    return chaos(FaultPlan([Fault(kind=kind, probability=0.12) for kind in kinds], seed=seed))


def twice_charged(seed: int, *, keyed: bool) -> int:
    """Send 30 payments through a pipeline that retries, and return how many of them were charged twice."""
    provider = FakeProvider("acme")

    def charge(payment: str) -> None:
        provider.charge(payment, Money("1.00", "EUR"), key=current_key() if keyed else None)

    with instant():
        more: dict[str, Any] = {"effect": Effect.IDEMPOTENT, "key": lambda payment: payment}
        pipeline = piped(lost_answers(seed), Retry(attempts=4, backoff=Constant(1), listeners=[]), **more)
        for number in range(30):
            assert not isinstance(pipeline.outcome(charge, f"pay_{number}"), Refused)
    assert len({booking.reference for booking in provider.ledger}) == 30
    return len(provider.ledger.charged_twice())


def test_a_lost_answer_is_asked_for_again_under_its_key_and_nobody_pays_twice() -> None:
    assert [twice_charged(seed, keyed=True) for seed in range(5)] == [0] * 5


def test_a_client_that_sends_no_key_is_found_out() -> None:
    assert all(twice_charged(seed, keyed=False) > 0 for seed in range(5))


@pytest.mark.parametrize("allow_order", [False, True])
def test_nothing_stands_inside_of_it(allow_order: bool) -> None:
    with pytest.raises(ConfigurationError, match="Chaos stands innermost"):
        Pipeline("acme.charge", chaos(FaultKind.BUSY), Timeout(2.0), allow_order=allow_order)
    with pytest.raises(ConfigurationError, match="Chaos stands innermost"):
        Pipeline("acme.charge", chaos(FaultKind.BUSY), chaos(FaultKind.BUSY), allow_order=allow_order)


def test_an_order_of_your_own_may_end_in_it() -> None:
    bank = Bank()
    with instant():
        pipeline = piped(chaos(FaultKind.BUSY, nth=(1,)), Timeout(2.0), Retry(attempts=2, backoff=Constant(0)), allow_order=True)
        assert isinstance(pipeline.outcome(bank.charge, "pay_1"), Ok)
        assert pipeline(bank.charge)("pay_2") == "paid pay_2"
    assert bank.booked == ["pay_1", "pay_2"]


def test_a_function_guarded_already_is_not_troubled_twice() -> None:
    trouble = chaos(FaultKind.SLOW)
    with instant() as clock:
        pipeline = piped(trouble)
        pipeline.call(pipeline(Bank().charge), "pay_1")
    assert clock.waits == [5.0]


def test_a_plain_call_that_must_be_awaited_is_refused_rather_than_thrown_away() -> None:
    bank = Bank()
    with instant():
        outcome = piped(chaos(FaultKind.RESET_AFTER)).outcome(lambda payment: bank.acharge(f"{payment}"), "pay_1")
    assert isinstance(error_of(outcome), DecorationError)


def test_a_generator_is_refused() -> None:
    def pages(_: str) -> Any:
        yield 1

    with pytest.raises(DecorationError):
        chaos(FaultKind.BUSY)(pages)


def test_a_call_that_meets_nothing_keeps_its_name_and_its_answer() -> None:
    bank = Bank()
    guarded = chaos(FaultKind.BUSY, nth=(9,))(bank.charge)
    assert (guarded("pay_1"), guarded.__name__) == ("paid pay_1", "charge")


# ---------------------------------------------------------------- saboteurs


def chaos_may_stand_anywhere(patch: pytest.MonkeyPatch) -> None:
    places = order.placed

    def lax(policies: Any, *, allow_order: bool) -> Any:
        last = [policy for policy in policies if policy.role == "Chaos"][-1:]
        return places((*(policy for policy in policies if policy.role != "Chaos"), *last), allow_order=allow_order)

    patch.setattr("finresilience.policies.pipeline.placed", lax)


@each_kill(
    (chaos_may_stand_anywhere, test_nothing_stands_inside_of_it, False),
    (chaos_may_stand_anywhere, test_nothing_stands_inside_of_it, True),
)
def test_the_laws_are_awake(row: tuple[Any, ...]) -> None:
    kills(*row)
