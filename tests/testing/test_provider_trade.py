"""Hold, capture, let go, give back: the rules of the trade, which a fake provider keeps as a real one does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from finresilience import Money
from finresilience.testing.clock import ManualClock
from finresilience.testing.faults import Fault, FaultKind, FaultPlan
from finresilience.testing.history import Booking
from finresilience.testing.ledger import Ledger
from finresilience.testing.provider import FakeProvider, ProviderError
from tests.testing.providing import EUR, NOTHING, asked, charged, failing

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.testing.provider import Receipt

PART, REST = Money("10.00", "EUR"), Money("2.50", "EUR")
YEN = Money("12", "JPY")


def told(call: Callable[[], Receipt]) -> tuple[int | None, str]:
    try:
        receipt = call()
    except ProviderError as error:
        assert error.receipt is not None
        return error.receipt.status, error.receipt.code or error.receipt.result
    return receipt.status, receipt.result


def balance(provider: FakeProvider) -> Money:
    return provider.ledger.balance("EUR")


def operations(provider: FakeProvider) -> list[tuple[str, Money]]:
    return [(booking.operation, booking.amount) for booking in provider.ledger]


def test_a_hold_moves_nothing_and_its_capture_does() -> None:
    provider = failing()
    provider.authorize("pay_1", EUR)
    assert operations(provider) == []
    assert provider.capture("pay_1").amount == EUR
    assert operations(provider) == [("capture", EUR)]


def test_a_part_may_be_captured_and_the_rest_is_let_go() -> None:
    provider = failing()
    provider.authorize("pay_1", EUR)
    provider.capture("pay_1", PART)
    assert balance(provider) == PART
    assert told(lambda: provider.capture("pay_1", REST)) == (402, "already_captured")


def test_what_was_let_go_cannot_be_captured() -> None:
    provider = failing()
    provider.authorize("pay_1", EUR)
    provider.void("pay_1")
    assert told(lambda: provider.capture("pay_1")) == (404, "not_found")
    assert balance(provider) == NOTHING


def test_what_was_captured_cannot_be_let_go_but_given_back() -> None:
    provider = failing()
    provider.authorize("pay_1", EUR)
    provider.capture("pay_1")
    assert told(lambda: provider.void("pay_1")) == (402, "already_captured")
    provider.refund("pay_1")
    assert balance(provider) == NOTHING


def test_refunds_never_give_back_more_than_was_taken() -> None:
    provider = failing()
    charged(provider)
    provider.refund("pay_1", PART)
    assert told(lambda: provider.refund("pay_1", PART)) == (402, "amount_too_large")
    provider.refund("pay_1")
    assert operations(provider) == [("charge", EUR), ("refund", PART), ("refund", REST)]
    assert told(lambda: provider.refund("pay_1")) == (402, "nothing_left")


def test_a_capture_takes_no_more_than_is_held() -> None:
    provider = failing()
    provider.authorize("pay_1", PART)
    assert told(lambda: provider.capture("pay_1", EUR)) == (402, "amount_too_large")


@pytest.mark.parametrize("operation", ["capture", "void", "refund"])
def test_nobody_finds_what_was_never_there(operation: str) -> None:
    provider = failing()
    assert told(lambda: getattr(provider, operation)("pay_1")) == (404, "not_found")
    assert asked(provider, operation).word == "NotFound"


def test_one_payment_has_one_currency() -> None:
    provider = failing()
    charged(provider)
    assert told(lambda: provider.refund("pay_1", YEN)) == (402, "currency_mismatch")
    assert told(lambda: provider.charge("pay_1", YEN)) == (402, "currency_mismatch")


async def test_every_operation_has_its_async_twin() -> None:
    provider = failing()
    await provider.aauthorize("pay_1", EUR)
    await provider.acapture("pay_1")
    await provider.arefund("pay_1", PART)
    await provider.aauthorize("pay_2", EUR)
    await provider.avoid("pay_2")
    await provider.acharge("pay_3", REST)
    assert operations(provider) == [("capture", EUR), ("refund", PART), ("charge", REST)]
    assert asked(provider, "void", "pay_2").word == "succeeded"


def test_each_operation_can_be_asked_about() -> None:
    provider = FakeProvider("acme", FaultPlan([Fault(kind=FaultKind.TIMEOUT_AFTER, operation="refund")]), clock=ManualClock())
    charged(provider)
    assert asked(provider, "refund").word == "NotFound"
    with pytest.raises(TimeoutError):
        provider.refund("pay_1", PART)
    assert (asked(provider, "refund").word, asked(provider).word) == ("succeeded", "succeeded")


def test_of_two_tries_the_one_that_moved_money_is_told() -> None:
    provider = failing(FaultKind.DECLINE)
    assert (charged(provider, key="a").word, asked(provider).word) == ("declined", "declined")
    assert (charged(provider, key="b").word, asked(provider).word) == ("succeeded", "succeeded")


def test_a_refund_that_comes_too_late_is_declined_when_its_time_has_come() -> None:
    plan = FaultPlan([Fault(kind=FaultKind.EFFECT_LATER, operation="refund", nth=(1,), seconds=60.0)])
    provider = FakeProvider("acme", plan, clock=ManualClock(), patience=1.0)
    charged(provider)
    with pytest.raises(TimeoutError):
        provider.refund("pay_1", EUR, key="r1")
    provider.refund("pay_1", EUR, key="r2")
    assert provider.settle() == 1
    assert (balance(provider), told(lambda: provider.refund("pay_1", EUR, key="r1"))) == (NOTHING, (402, "amount_too_large"))


def test_a_late_refund_of_what_was_never_taken_ends_declined() -> None:
    provider = FakeProvider("acme", FaultPlan([Fault(kind=FaultKind.EFFECT_LATER, nth=(1,))]), clock=ManualClock(), patience=1.0)
    with pytest.raises(TimeoutError):
        provider.refund("pay_1", EUR, key="r")
    assert provider.settle() == 1
    assert asked(provider, "refund").word != "StillUnknown"
    assert provider.outstanding == 0


def test_a_second_hold_without_a_key_is_a_second_hold() -> None:
    provider = failing()
    for _ in range(2):
        provider.authorize("pay_1", EUR)
        provider.capture("pay_1")
    assert provider.ledger.charged_twice() == ("pay_1",)


steps = st.tuples(st.sampled_from(["authorize", "capture", "charge", "refund", "void"]), st.integers(1, 5))


@given(st.lists(steps, max_size=12))
def test_money_is_conserved_whatever_is_asked_in_whatever_order(steps: list[tuple[str, int]]) -> None:
    provider = failing()
    moved = 0
    for operation, units in steps:
        money = () if operation == "void" else (Money.minor(units, "EUR"),)
        if told(lambda: getattr(provider, operation)("pay_1", *money))[0] == 201:  # noqa: B023 - called at once
            moved += {"charge": units, "capture": units, "refund": -units}.get(operation, 0)
        assert balance(provider).minor_units == moved >= 0


def test_a_ledger_counts_each_currency_by_itself() -> None:
    bookings = [
        Booking("acme", "pay_1", "charge", EUR),
        Booking("acme", "pay_2", "capture", YEN),
        Booking("acme", "pay_1", "refund", PART),
        Booking("acme", "pay_3", "charge", Money("0.5", "BTC", exponent=8)),
    ]
    ledger = Ledger(bookings)
    assert (ledger.balance("EUR"), ledger.balance("JPY"), ledger.balance("USD")) == (REST, YEN, Money("0", "USD"))
    assert ledger.balance("BTC") == Money("0.5", "BTC", exponent=8)
    assert ledger.charged_twice() == ()
