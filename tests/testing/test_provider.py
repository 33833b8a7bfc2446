"""What does the caller see, what do the books hold, and what does an inquiry tell? One row for each way to fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Classification
from finresilience.testing.clock import ManualClock, instant
from finresilience.testing.faults import AMBIGUOUS, CALLS, MOVES, Fault, FaultKind, FaultPlan
from finresilience.testing.provider import FakeProvider, ProviderError
from finresilience.testing.virtual import run_virtual
from tests.testing.providing import EUR, NOTHING, Seen, aheard, asked, charged, failing

if TYPE_CHECKING:
    from finresilience import Money

K = FaultKind
A_DAY, PATIENCE = 86_400.0, 30.0
FOUND, DECLINED, ABSENT, PENDING = Seen("succeeded", 200, 0.0), Seen("declined", 200, 0.0), Seen("NotFound", None, 0.0), None

# kind: what the caller sees, whether money moves at once, what an inquiry then tells, what the error means for the money
LAWS: dict[FaultKind, tuple[Seen, bool, Seen, Classification | None]] = {
    K.OK: (Seen("succeeded", 201, 0.0), True, FOUND, None),
    K.DECLINE: (Seen("declined", 402, 0.0), False, DECLINED, NON_RETRYABLE),
    K.DECLINE_SILENT: (Seen("timeout", None, PATIENCE), False, DECLINED, UNKNOWN),
    K.SLOW: (Seen("succeeded", 201, 5.0), True, FOUND, None),
    K.HANG: (Seen("timeout", None, A_DAY), False, ABSENT, UNKNOWN),
    K.TIMEOUT_BEFORE: (Seen("timeout", None, PATIENCE), False, ABSENT, UNKNOWN),
    K.TIMEOUT_AFTER: (Seen("timeout", None, PATIENCE), True, FOUND, UNKNOWN),
    K.EFFECT_LATER: (Seen("timeout", None, PATIENCE), True, FOUND, UNKNOWN),  # five seconds later, while the caller still waits
    K.RESET: (Seen("reset", None, 0.0), False, ABSENT, UNKNOWN),
    K.RESET_AFTER: (Seen("reset", None, 0.0), True, FOUND, UNKNOWN),
    K.TOO_MANY: (Seen("busy", 429, 0.0), False, ABSENT, RETRYABLE),
    K.BUSY: (Seen("busy", 503, 0.0), False, ABSENT, RETRYABLE),
    K.HTML: (Seen("garbled", None, 0.0), False, ABSENT, UNKNOWN),
    K.HTML_AFTER: (Seen("garbled", None, 0.0), True, FOUND, UNKNOWN),
    K.CONTRADICT: (Seen("declined", 402, 0.0), True, FOUND, NON_RETRYABLE),
}


def balance(provider: FakeProvider) -> Money:
    return provider.ledger.balance("EUR")


def verdict(provider: FakeProvider) -> Classification | None:
    try:
        provider.charge("pay_1", EUR)
    except ProviderError as error:
        return provider.classifier().error(error).classification
    return None


def test_every_kind_that_befalls_a_call_has_its_law() -> None:
    assert set(LAWS) == CALLS
    assert {kind for kind, law in LAWS.items() if law[3] is UNKNOWN} == AMBIGUOUS
    assert {kind for kind, law in LAWS.items() if law[1]} - {K.CONTRADICT} == MOVES - {K.INQUIRY_LAG}


@pytest.mark.parametrize("kind", sorted(CALLS), ids=str)
def test_the_caller_sees_what_the_kind_says(kind: FaultKind) -> None:
    assert charged(failing(kind)) == LAWS[kind][0]


@pytest.mark.parametrize("kind", sorted(CALLS), ids=str)
async def test_the_async_caller_sees_the_same(kind: FaultKind) -> None:
    provider = failing(kind)
    assert await aheard(provider, lambda: provider.acharge("pay_1", EUR, key="k")) == LAWS[kind][0]
    assert balance(provider) == (EUR if LAWS[kind][1] else NOTHING)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("kind", sorted(CALLS), ids=str)
def test_in_virtual_time_the_caller_sees_the_same(kind: FaultKind, backend: Any) -> None:
    async def main() -> Seen:
        provider = FakeProvider("acme", FaultPlan([Fault(kind=kind)]))
        return await aheard(provider, lambda: provider.acharge("pay_1", EUR))

    assert run_virtual(main, backend=backend) == LAWS[kind][0]


@pytest.mark.parametrize("kind", sorted(CALLS), ids=str)
def test_the_books_hold_what_the_kind_says(kind: FaultKind) -> None:
    provider = failing(kind)
    charged(provider)
    assert balance(provider) == (EUR if LAWS[kind][1] else NOTHING)


@pytest.mark.parametrize("kind", sorted(CALLS), ids=str)
def test_an_inquiry_tells_the_truth(kind: FaultKind) -> None:
    provider = failing(kind)
    charged(provider)
    assert asked(provider) == LAWS[kind][2]


@pytest.mark.parametrize("kind", sorted(CALLS), ids=str)
def test_the_classifier_knows_what_the_kind_means_for_the_money(kind: FaultKind) -> None:
    assert verdict(failing(kind)) is LAWS[kind][3]


@pytest.mark.parametrize("kind", sorted(CALLS - {K.DECLINE, K.DECLINE_SILENT, K.CONTRADICT}), ids=str)
def test_a_second_attempt_with_the_same_key_ends_well_and_moves_money_once(kind: FaultKind) -> None:
    provider = failing(kind)
    charged(provider)
    assert charged(provider) == Seen("succeeded", 201, 0.0)
    assert (balance(provider), provider.ledger.charged_twice()) == (EUR, ())


@pytest.mark.parametrize("kind", sorted(MOVES - {K.INQUIRY_LAG}), ids=str)
def test_a_second_attempt_without_a_key_charges_twice_wherever_the_first_one_moved_money(kind: FaultKind) -> None:
    provider = failing(kind)
    charged(provider, key=None)
    charged(provider, key=None)
    assert (balance(provider), provider.ledger.charged_twice()) == (EUR * 2, ("pay_1",))


def test_what_happens_later_is_pending_until_then() -> None:
    clock = ManualClock()
    provider = FakeProvider("acme", FaultPlan([Fault(kind=K.EFFECT_LATER, seconds=600.0, nth=(1,))]), clock=clock)
    charged(provider)
    assert (asked(provider).word, balance(provider), provider.outstanding) == ("StillUnknown", NOTHING, 1)
    assert charged(provider).word == "keyinuse"
    clock.advance(600.0 - PATIENCE)
    assert (asked(provider), balance(provider), provider.outstanding) == (FOUND, EUR, 0)
    assert provider.ledger[0].at == 600.0
    assert charged(provider).status == 201


def test_what_happens_later_may_be_hidden_until_then() -> None:
    provider = failing(K.EFFECT_LATER, shows_pending=False, patience=1.0)
    charged(provider)
    assert asked(provider) == ABSENT


def test_the_end_of_a_test_need_not_wait_for_what_happens_later() -> None:
    provider = failing(K.EFFECT_LATER, patience=1.0)
    charged(provider)
    assert (provider.settle(), balance(provider), asked(provider)) == (1, EUR, FOUND)


@pytest.mark.parametrize("at", ["charge", "inquiry", ""])
def test_an_inquiry_that_lags_sees_nothing_and_then_the_truth(at: str) -> None:
    clock = ManualClock()
    provider = FakeProvider("acme", FaultPlan([Fault(kind=K.INQUIRY_LAG, seconds=60.0, operation=at)]), clock=clock)
    charged(provider)
    clock.advance(59.9)
    assert asked(provider) == ABSENT
    clock.advance(0.1)
    assert asked(provider) == FOUND


def test_a_lag_comes_on_top_of_what_befell_the_call() -> None:
    provider = failing(K.INQUIRY_LAG, K.RESET_AFTER)
    assert (charged(provider).word, asked(provider), balance(provider)) == ("reset", ABSENT, EUR)


def test_a_provider_may_say_yes_and_not_do_it() -> None:
    provider = FakeProvider("acme", FaultPlan([Fault(kind=K.CONTRADICT, code="succeeded")]), clock=ManualClock())
    assert (charged(provider).status, asked(provider), balance(provider)) == (201, DECLINED, NOTHING)


def test_an_inquiry_can_fail_too_and_moves_nothing() -> None:
    plan = FaultPlan([Fault(kind=kind, operation="inquiry", nth=(number,)) for number, kind in enumerate(sorted(CALLS), start=1)])
    provider = FakeProvider("acme", plan, clock=ManualClock())
    charged(provider)
    words = {kind: asked(provider).word for kind in sorted(CALLS)}
    effects = {K.OK, K.SLOW, K.DECLINE, K.DECLINE_SILENT, K.CONTRADICT, K.EFFECT_LATER}  # of an effect that an inquiry does not have
    assert {kind for kind, word in words.items() if word == "succeeded"} == effects
    assert (words[K.HANG], words[K.RESET_AFTER], words[K.BUSY], words[K.HTML]) == ("timeout", "reset", "busy", "garbled")
    assert balance(provider) == EUR


async def test_an_inquiry_takes_as_long_as_a_call() -> None:
    plan = FaultPlan([Fault(kind=K.SLOW, operation="inquiry", nth=(1, 2)), Fault(kind=K.TIMEOUT_AFTER, operation="inquiry", nth=(3, 4))])
    provider = FakeProvider("acme", plan, clock=ManualClock(), latency=0.25)
    assert asked(provider) == Seen("NotFound", None, 5.5)
    assert await aheard(provider, lambda: provider.ainquiry("pay_1")) == Seen("NotFound", None, 5.5)
    assert asked(provider) == Seen("timeout", None, PATIENCE)
    assert await aheard(provider, lambda: provider.ainquiry("pay_1")) == Seen("timeout", None, PATIENCE)


async def test_every_way_to_call_takes_the_latency_twice() -> None:
    provider = failing(latency=0.25)
    assert await aheard(provider, lambda: provider.acharge("pay_1", EUR)) == Seen("succeeded", 201, 0.5)
    assert asked(provider) == Seen("succeeded", 200, 0.5)
    assert await aheard(provider, lambda: provider.ainquiry("pay_1")) == Seen("succeeded", 200, 0.5)


def test_the_caller_gives_up_on_a_slow_answer_and_the_money_has_moved() -> None:
    provider = failing(K.SLOW, patience=2.0)
    assert (charged(provider), balance(provider)) == (Seen("timeout", None, 2.0), EUR)


def test_an_answer_that_comes_at_the_last_moment_is_heard() -> None:
    assert charged(failing(K.SLOW, patience=5.0)) == Seen("succeeded", 201, 5.0)


def test_while_the_slow_first_one_is_at_work_its_key_is_in_use() -> None:
    provider = failing(K.SLOW, patience=2.0)
    assert [charged(provider).word for _ in range(2)] == ["timeout", "keyinuse"]
    provider.clock.sleep_sync(3.0)
    assert charged(provider).word == "succeeded"


def test_latency_is_travelled_twice() -> None:
    assert charged(failing(latency=0.25)) == Seen("succeeded", 201, 0.5)
    assert charged(failing(K.RESET, latency=0.25)) == Seen("reset", None, 0.5)
    assert charged(failing(K.TIMEOUT_AFTER, latency=0.25)) == Seen("timeout", None, PATIENCE)
    assert charged(failing(K.SLOW, latency=0.25, patience=5.25)) == Seen("timeout", None, 5.25)


def test_it_obeys_the_ruling_clock_unless_it_has_its_own() -> None:
    provider = FakeProvider("acme", FaultPlan([Fault(kind=K.HANG)]))
    with instant() as clock:
        charged(provider)
    assert clock.monotonic() == A_DAY


def test_when_its_clock_has_ceased_to_rule_the_books_stay_as_they_were() -> None:
    provider = FakeProvider("acme", FaultPlan([Fault(kind=K.EFFECT_LATER, seconds=60.0)]))
    with instant():
        charged(provider)
    assert (len(provider.ledger), provider.outstanding, list(provider.deliveries())) == (0, 1, [])


@given(st.permutations([f"pay_{number}" for number in range(8)]))
def test_a_payment_meets_the_same_fate_in_whatever_order_payments_come(order: list[str]) -> None:
    plan = FaultPlan([Fault(kind=kind, probability=0.1) for kind in sorted(CALLS)], seed=11)

    def fates(references: list[str]) -> object:
        provider = FakeProvider("acme", plan)
        with instant():
            seen = {(reference, charged(provider, reference=reference).word) for reference in references}
        provider.settle()
        return seen, {(booking.reference, booking.amount) for booking in provider.ledger}

    assert fates(order) == fates(sorted(order))
