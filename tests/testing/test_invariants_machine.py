"""A shop that pays through a pipeline keeps every law, whatever its provider does; one that tries again by itself does not."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from finresilience import Constant, Effect, Found, Money, Pipeline, Retry, Timeout, Unknown, current_key
from finresilience.testing import ManualClock, VirtualClock, run_virtual
from finresilience.testing.faults import CALLS, Fault, FaultKind, FaultPlan
from finresilience.testing.history import End, Entry, History
from finresilience.testing.invariants import STANDING, bounded_attempts, check, no_lost_intent, watch
from finresilience.testing.provider import FakeProvider, ProviderError, Receipt
from finresilience.testing.strategies import fault_schedules, money
from finresilience.testing.violations import InvariantError

if TYPE_CHECKING:
    from finresilience import Outcome

K = FaultKind
ATTEMPTS = 3
EXAMPLES = 2 * settings().max_examples
HONEST = sorted(CALLS - {K.CONTRADICT, K.OK})  # a provider that says no and takes the money is beyond any caller
FIVE = Money("5.00", "USD")
AMOUNTS = money(st.sampled_from(["USD", "JPY", "KWD"]), min_minor=1, max_minor=10**9)


class Shop:
    """Pays by a pipeline, and notes what it asks for and what it is told."""

    effect = Effect.IDEMPOTENT

    def __init__(self, plan: FaultPlan) -> None:
        self.plan, self.clock = plan, ManualClock()
        self.provider = FakeProvider("acme", plan, clock=self.clock)
        self.history = History(self.clock.monotonic)
        self.pipeline = pipeline(self.provider, self.effect)

    def pay(self, reference: str, amount: Money) -> Entry:
        entry = self.history.invoke("charge", reference, amount)
        self.history.outcome(entry, self.asked(entry, reference, amount))
        return entry

    def asked(self, entry: Entry, reference: str, amount: Money) -> Outcome[Receipt]:
        def charge(reference: str, amount: Money) -> Receipt:
            self.history.attempt(entry)
            return self.provider.charge(reference, amount, key=current_key())

        return self.pipeline.outcome(charge, reference, amount)

    def ask(self, entry: Entry) -> None:
        """Find out what became of a payment that is in doubt."""
        try:
            answer = self.provider.inquiry(entry.reference)
        except ProviderError:
            return
        if entry.end is End.UNKNOWN and isinstance(answer, Found):
            self.history.resolve(entry, End.OK if self.is_this(entry, answer.value) else End.FAIL)

    def is_this(self, entry: Entry, receipt: Receipt) -> bool:
        """Return whether it succeeded. The reference may have been used for another amount, and that is another request."""
        return receipt.result == "succeeded" and receipt.amount == entry.amount

    def holds(self) -> None:
        check(self.history, self.provider.ledger, *STANDING, partial(bounded_attempts, at_most=ATTEMPTS))


def pipeline(provider: FakeProvider, effect: Effect) -> Pipeline:
    keyed: Any = (lambda reference, amount: reference) if effect is Effect.IDEMPOTENT else None
    return Pipeline(
        "acme.charge",
        Retry(attempts=ATTEMPTS, backoff=Constant(10.0), listeners=[]),
        Timeout(8.0),
        classify=provider.classifier(),
        effect=effect,
        key=keyed,
        marks_sent=True,
        clock=provider.clock,
        listeners=[],
    )


class UnsafeShop(Shop):
    """Has no keys, and so never sends again what may have arrived."""

    effect = Effect.UNSAFE


class NaiveShop(Shop):
    """Tries again after whatever went wrong, as one does."""

    def asked(self, entry: Entry, reference: str, amount: Money) -> Outcome[Receipt]:
        naive: Any = Retry(attempts=ATTEMPTS, backoff=Constant(0), effect=Effect.IDEMPOTENT_BY_NATURE, clock=self.clock, listeners=[])
        return naive.outcome(lambda: self.sent(entry, reference, amount))  # type: ignore[no-any-return]  # of a naive shop

    def sent(self, entry: Entry, reference: str, amount: Money) -> Receipt:
        self.history.attempt(entry)
        return self.provider.charge(reference, amount)


class KeyedByAttempt(NaiveShop):
    """Mints a key for each attempt, not for each payment."""

    def sent(self, entry: Entry, reference: str, amount: Money) -> Receipt:
        self.history.attempt(entry)
        return self.provider.charge(reference, amount, key=f"{reference}-{entry.attempts}")


class Optimist(UnsafeShop):
    """Takes silence for a no, as one does."""

    def asked(self, entry: Entry, reference: str, amount: Money) -> Outcome[Receipt]:
        from finresilience import Failed

        outcome = super().asked(entry, reference, amount)
        return Failed(outcome.error) if isinstance(outcome, Unknown) else outcome


class Credulous(Shop):
    """Believes an inquiry without a look at the amount."""

    def is_this(self, entry: Entry, receipt: Receipt) -> bool:
        return receipt.result == "succeeded"


class Trade(RuleBasedStateMachine):
    """A day in a shop: new payments, payments asked for again, doubts that are looked into, a provider that comes and goes."""

    kind: type[Shop] = Shop

    def __init__(self) -> None:
        super().__init__()
        self.shop = self.kind(FaultPlan())

    @initialize(plan=fault_schedules(HONEST, at_most=4))
    def opens(self, plan: FaultPlan) -> None:
        self.shop = self.kind(plan)

    @rule(amounts=st.lists(AMOUNTS, min_size=1, max_size=3))
    def pays(self, amounts: list[Money]) -> None:
        for amount in amounts:
            self.shop.pay(f"pay_{len(self.shop.history) + 1}", amount)

    @rule(choice=st.integers(0, 30))
    def asks_again(self, choice: int) -> None:
        entry = self.some(choice)
        if entry is not None and entry.told is not End.OK and self.keyed():
            self.shop.pay(entry.reference, FIVE if entry.amount is None else entry.amount)

    @rule(choice=st.integers(0, 30), amount=AMOUNTS)
    def asks_again_for_another_amount(self, choice: int, amount: Money) -> None:
        entry = self.some(choice)
        if entry is not None and self.keyed():
            self.shop.pay(entry.reference, amount)

    @rule(choice=st.integers(0, 30))
    def looks_into(self, choice: int) -> None:
        entry = self.some(choice)
        if entry is not None:
            self.shop.ask(entry)

    @rule(seconds=st.sampled_from([0.5, 5.0, 600.0]))
    def waits(self, seconds: float) -> None:
        self.shop.clock.advance(seconds)

    def some(self, choice: int) -> Entry | None:
        entries = self.shop.history.entries
        return entries[choice % len(entries)] if entries else None

    def keyed(self) -> bool:
        """Return whether the shop may ask again: its keys tell the provider what it has seen before."""
        return self.shop.effect is Effect.IDEMPOTENT and not isinstance(self.shop, NaiveShop)

    @invariant()
    def every_law_holds(self) -> None:
        self.shop.holds()

    def teardown(self) -> None:
        """Once all is well again, and the provider has done what it does late, nothing is lost but what was never asked about."""
        self.shop.provider.heal()
        self.shop.provider.settle()
        for entry in self.shop.history:
            self.shop.ask(entry)
        self.shop.holds()
        doubts = [entry.reference for entry in self.shop.history if entry.told is End.UNKNOWN]
        booked = self.shop.provider.ledger.references()
        assert not set(doubts) & set(booked), "what moved is known once somebody asks"
        no_lost_intent(self.shop.history, open_cases=doubts)


def runs(kind: type[Shop], **more: Any) -> None:
    trade = type("Trade", (Trade,), {"kind": kind})
    phases = more.pop("phases", [Phase.generate, Phase.shrink])  # to explain each failure would take minutes
    chosen = settings(
        stateful_step_count=20, phases=phases, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], **more
    )
    run_state_machine_as_test(trade, settings=chosen)


@pytest.mark.parametrize("kind", [Shop, UnsafeShop])
def test_a_pipeline_keeps_every_law_whatever_the_provider_does(kind: type[Shop]) -> None:
    runs(kind, max_examples=EXAMPLES)


def test_the_machine_goes_everywhere() -> None:
    """Or that every law held would mean little."""
    ends, attempts, met = Counter[End](), Counter[int](), set[FaultKind]()

    class Counted(Shop):
        def pay(self, reference: str, amount: Money) -> Entry:
            entry = super().pay(reference, amount)
            ends[entry.told] += 1
            attempts[entry.attempts] += 1
            met.update(fault.kind for fault in self.plan.faults)
            return entry

    runs(Counted, max_examples=120, derandomize=True, database=None)
    assert min(ends[end] for end in End) > 15
    assert min(attempts[number] for number in range(1, ATTEMPTS + 1)) > 5
    assert len(met) > len(HONEST) // 2


@pytest.mark.parametrize(
    ("kind", "law"),
    [
        (NaiveShop, "no_double_effect"),
        (KeyedByAttempt, "no_double_effect"),
        (Optimist, "told_failed_but_moved"),
        (Credulous, "money_conserved"),
    ],
    ids=["naive", "keyed_by_attempt", "optimist", "credulous"],
)
def test_a_shop_that_helps_itself_is_caught_by_the_law_it_breaks(kind: type[Shop], law: str) -> None:
    with pytest.raises(InvariantError) as caught:
        runs(kind, max_examples=300, derandomize=True, database=None, report_multiple_bugs=False, phases=[Phase.generate])
    assert law in caught.value.invariants


def test_the_machine_shrinks_a_naive_retry_to_one_payment_and_one_fault() -> None:
    seen: list[NaiveShop] = []

    class Watched(NaiveShop):
        def holds(self) -> None:
            try:
                super().holds()
            except InvariantError:
                seen.append(self)
                raise

    with pytest.raises(InvariantError):
        runs(Watched, max_examples=300, derandomize=True, database=None, report_multiple_bugs=False, phases=[Phase.generate, Phase.shrink])
    shop = seen[-1]
    (entry,) = shop.history
    (fault,) = shop.plan.faults
    assert (entry.amount, fault) == (Money("0.01", "USD"), Fault(kind=fault.kind))
    assert fault.kind in {K.TIMEOUT_AFTER, K.EFFECT_LATER, K.RESET_AFTER, K.HTML_AFTER}


def test_a_provider_that_says_no_and_takes_the_money_is_caught() -> None:
    shop = Shop(FaultPlan([Fault(kind=K.CONTRADICT)]))
    shop.pay("pay_1", FIVE)
    with pytest.raises(InvariantError) as caught:
        shop.holds()
    assert caught.value.invariants == {"told_failed_but_moved", "money_conserved"}


def test_a_payment_in_doubt_that_is_sent_to_another_provider_is_caught() -> None:
    shop, other = Optimist(FaultPlan([Fault(kind=K.TIMEOUT_AFTER)])), FakeProvider("globex")
    shop.pay("pay_1", FIVE)
    other.charge("pay_1", FIVE)
    with pytest.raises(InvariantError) as caught:
        check(shop.history, [*shop.provider.ledger, *other.ledger])
    assert "no_unknown_sent_elsewhere" in caught.value.invariants


# ---------------------------------------------------------------- many at once


async def tradesmen(plan: FaultPlan, *, keyed: bool) -> None:
    """Three of them ask for the same two payments, at once, and are watched at every step."""
    clock = VirtualClock.current()
    provider, history = FakeProvider("acme", plan, clock=clock, latency=0.01), History(clock.monotonic)
    effect = Effect.IDEMPOTENT if keyed else Effect.UNSAFE
    guard = pipeline(provider, effect)

    async def charge(reference: str, amount: Money) -> Receipt:
        history.attempt()
        return await provider.acharge(reference, amount, key=current_key())

    async def pay(reference: str) -> None:
        with history.call("charge", reference, FIVE) as entry:
            history.outcome(entry, await guard.aoutcome(charge, reference, FIVE))

    with watch(history, lambda: provider.ledger):
        async with anyio.create_task_group() as tasks:
            for number in range(6):
                tasks.start_soon(pay, f"pay_{number % 2}")
    provider.settle()
    check(history, provider.ledger, *STANDING, partial(bounded_attempts, at_most=ATTEMPTS))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=25)
@given(plan=fault_schedules(HONEST, at_most=3))
def test_callers_who_ask_for_one_payment_at_once_are_told_the_same_truth(backend: Any, plan: FaultPlan) -> None:
    run_virtual(partial(tradesmen, plan, keyed=True), backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_callers_without_keys_charge_twice_and_are_caught(backend: Any) -> None:
    with pytest.raises((InvariantError, BaseExceptionGroup)) as caught:
        run_virtual(partial(tradesmen, FaultPlan(), keyed=False), backend=backend)
    assert "no_double_effect" in str(leaf(caught.value))


def leaf(error: BaseException) -> BaseException:
    return leaf(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
