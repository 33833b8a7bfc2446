"""A pipeline round a fake provider: it understands every end, and where it does not know, it asks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from finresilience import (
    Constant,
    Declined,
    Effect,
    Failed,
    Found,
    NotFound,
    Ok,
    Pipeline,
    Retry,
    StillUnknown,
    Timeout,
    Unknown,
    current_key,
    deadline,
)
from finresilience.testing.clock import instant
from finresilience.testing.faults import CALLS, MOVES, Fault, FaultKind, FaultPlan
from finresilience.testing.provider import FakeProvider, ProviderTimeoutError, Receipt
from finresilience.testing.virtual import run_virtual
from tests.testing.providing import EUR

if TYPE_CHECKING:
    from finresilience.outcome import Outcome

K = FaultKind
ALWAYS = {K.OK: Ok, K.SLOW: Ok, K.DECLINE: Declined, K.CONTRADICT: Declined, K.TOO_MANY: Failed, K.BUSY: Failed}  # what every attempt meets


def acme(provider: FakeProvider, *, effect: Effect = Effect.IDEMPOTENT, attempts: int = 4) -> Pipeline:
    return Pipeline(
        "acme.charge",
        Retry(attempts=attempts, backoff=Constant(10.0)),
        Timeout(8.0),
        classify=provider.classifier(),
        effect=effect,
        key=str,
        reference=str,
        marks_sent=True,
    )


def pay(provider: FakeProvider, **told: Any) -> Outcome[Receipt]:
    def charge(reference: str) -> Receipt:
        return provider.charge(reference, EUR, key=current_key())

    with instant():
        return acme(provider, **told).outcome(charge, "pay_1")


def apay(provider: FakeProvider, backend: Any, *, asks: bool = False) -> Outcome[Receipt]:
    pipeline = acme(provider)

    @pipeline
    async def charge(reference: str) -> Receipt:
        return await provider.acharge(reference, EUR, key=current_key())

    async def find(reference: str) -> Found[Receipt] | NotFound | StillUnknown:
        return await provider.ainquiry(reference)

    if asks:
        pipeline.inquiry(schedule=(1.0, 30.0, 60.0))(find)

    async def main() -> Outcome[Receipt]:
        return await pipeline.aoutcome(charge, "pay_1")

    return run_virtual(main, backend=backend)


@pytest.mark.parametrize("kind", sorted(CALLS), ids=str)
def test_a_retry_under_a_key_heals_every_fault_that_strikes_once(kind: FaultKind) -> None:
    provider = FakeProvider("acme", FaultPlan([Fault(kind=kind, nth=(1,))]))
    outcome = pay(provider)
    final = kind in {K.DECLINE, K.CONTRADICT, K.DECLINE_SILENT}
    assert isinstance(outcome, Declined if final else Ok)
    assert len(provider.ledger) == (kind not in {K.DECLINE, K.DECLINE_SILENT})


@pytest.mark.parametrize("kind", sorted(CALLS), ids=str)
def test_the_outcome_is_what_the_kind_says_if_it_never_ends(kind: FaultKind) -> None:
    provider = FakeProvider("acme", FaultPlan([Fault(kind=kind)]))
    assert isinstance(pay(provider), ALWAYS.get(kind, Unknown))
    assert provider.ledger.charged_twice() == ()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("kind", sorted(CALLS), ids=str)
def test_the_async_outcome_is_the_same(kind: FaultKind, backend: Any) -> None:
    provider = FakeProvider("acme", FaultPlan([Fault(kind=kind)]))
    assert isinstance(apay(provider, backend), ALWAYS.get(kind, Unknown))
    assert provider.ledger.charged_twice() == ()


@pytest.mark.parametrize("kind", sorted(CALLS - {K.CONTRADICT}), ids=str)
def test_an_inquiry_finds_out_what_the_call_could_not_tell(kind: FaultKind) -> None:
    provider = FakeProvider("acme", FaultPlan([Fault(kind=kind, operation="charge")]))
    outcome = apay(provider, "asyncio", asks=True)
    told = Ok if kind in MOVES else Declined if kind in {K.DECLINE, K.DECLINE_SILENT} else Failed
    assert isinstance(outcome, told)
    assert len(provider.ledger) == (kind in MOVES)


def test_an_unsafe_call_is_not_sent_again_once_the_provider_may_have_it() -> None:
    provider = FakeProvider("acme", FaultPlan([Fault(kind=K.TIMEOUT_AFTER, nth=(1,))]))
    assert isinstance(pay(provider, effect=Effect.UNSAFE), Unknown)
    assert len(provider.visits) == 1


def test_the_wait_that_the_provider_asks_for_is_kept() -> None:
    provider = FakeProvider("acme", FaultPlan([Fault(kind=K.BUSY, nth=(1,), retry_after=42.0)]))
    pay(provider)
    first, second = provider.visits
    assert second.at - first.at >= 42.0


def test_a_caller_without_time_sends_nothing() -> None:
    provider = FakeProvider("acme")
    with instant() as clock, deadline(1.0), pytest.raises(ProviderTimeoutError) as caught:
        clock.advance(1.0)
        provider.charge("pay_1", EUR)
    assert (caught.value.sent, provider.visits) == (False, ())


@pytest.mark.parametrize("operation", ["acharge", "arefund", "ainquiry"])
async def test_an_async_caller_without_time_sends_nothing(operation: str) -> None:
    provider = FakeProvider("acme")
    money = () if operation == "ainquiry" else (EUR,)
    with instant() as clock, deadline(1.0), pytest.raises(ProviderTimeoutError) as caught:
        clock.advance(1.0)
        await getattr(provider, operation)("pay_1", *money)
    assert (caught.value.sent, provider.visits) == (False, ())


def test_an_inquiry_without_time_is_not_sent() -> None:
    provider = FakeProvider("acme")
    with instant() as clock, deadline(1.0), pytest.raises(ProviderTimeoutError):
        clock.advance(1.0)
        provider.inquiry("pay_1")
    assert provider.visits == ()


@pytest.mark.parametrize("operation", ["acharge", "ainquiry"])
async def test_the_async_client_leaves_the_deadline_round_it_the_first_word(operation: str) -> None:
    provider = FakeProvider("acme", FaultPlan([Fault(kind=K.HANG)]))
    money = () if operation == "ainquiry" else (EUR,)
    with instant() as clock, deadline(2.0), pytest.raises(ProviderTimeoutError):
        await getattr(provider, operation)("pay_1", *money)
    assert 2.0 < clock.monotonic() <= 2.001


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_is_still_on_its_way_is_sent_for_all_that_its_caller_knows(backend: Any) -> None:
    provider = FakeProvider("acme", latency=10.0)  # longer than the Timeout
    assert isinstance(apay(provider, backend), Unknown)
    assert (provider.visits, len(provider.ledger)) == ((), 0)


@pytest.mark.parametrize("kind", [K.HANG, K.TIMEOUT_AFTER, K.SLOW], ids=str)
def test_the_client_waits_no_longer_than_the_deadline_round_it(kind: FaultKind) -> None:
    provider = FakeProvider("acme", FaultPlan([Fault(kind=kind)]))
    with instant() as clock, deadline(2.0), pytest.raises(ProviderTimeoutError) as caught:
        provider.charge("pay_1", EUR)
    assert (clock.monotonic(), caught.value.sent) == (2.0, True)


def test_bad_use_is_known_not_to_have_been_sent() -> None:
    provider = FakeProvider("acme")

    def charge(reference: str) -> Receipt:
        return provider.charge("", EUR, key=current_key())

    with instant():
        outcome = acme(provider, attempts=1).outcome(charge, "pay_1")
    assert isinstance(outcome, Failed)
    assert provider.visits == ()


def test_where_three_answers_in_ten_are_lost_no_payment_moves_twice_and_none_is_missing() -> None:
    payments = 10_000 if os.environ.get("FINRESILIENCE_DEEP") else 1_000
    provider = FakeProvider("acme", FaultPlan([Fault(kind=K.TIMEOUT_AFTER, probability=0.3)], seed=5))
    pipeline = acme(provider, attempts=3)

    def charge(reference: str) -> Receipt:
        return provider.charge(reference, EUR, key=current_key())

    with instant():
        ends = [pipeline.outcome(charge, f"pay_{number}") for number in range(payments)]
    assert provider.ledger.charged_twice() == ()
    assert len(provider.ledger) == payments
    assert {type(end) for end in ends} == {Ok, Unknown}
    assert 0.01 < sum(isinstance(end, Unknown) for end in ends) / payments < 0.05  # 0.3 cubed is 0.027


def test_a_naive_retry_charges_twice_and_the_ledger_says_so() -> None:
    provider = FakeProvider("acme", FaultPlan([Fault(kind=K.TIMEOUT_AFTER, nth=(1,))]))

    def naive() -> Receipt:
        for _ in range(2):
            try:
                return provider.charge("pay_1", EUR)
            except ProviderTimeoutError:
                continue
        raise AssertionError

    with instant():
        naive()
    assert provider.ledger.charged_twice() == ("pay_1",)
