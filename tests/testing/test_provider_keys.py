"""One key, one effect: what a fake provider remembers, what it refuses, and what it does without a key."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from finresilience import Money
from finresilience.testing.clock import ManualClock
from finresilience.testing.exhaustive import exhaust
from finresilience.testing.faults import CALLS, Fault, FaultKind, FaultPlan
from finresilience.testing.provider import FakeProvider, Order, ProviderDeclinedError, ProviderError, Receipt
from finresilience.testing.threads import explore_threads
from tests.testing.providing import EUR, charged, failing, heard

OTHER = Money("12.51", "EUR")


def charge(provider: FakeProvider, reference: str = "pay_1", amount: Money = EUR, key: str | None = "k") -> Receipt | None:
    try:
        return provider.charge(reference, amount, key=key)
    except ProviderError as error:
        return error.receipt


def test_a_key_is_in_nothing_that_is_printed() -> None:
    provider = failing()
    key = "key-of-a-customer"
    charge(provider, key=key)
    printed = [repr(it) for it in (provider, *provider.ledger, *provider.visits, Order("charge", "pay_1", EUR, key=key))]
    assert not [text for text in printed if key in text]


def test_the_same_key_gets_the_same_answer_marked_as_a_replay() -> None:
    provider = failing()
    first, again = charge(provider), charge(provider)
    assert first is not None
    assert again is not None
    assert (first.replayed, again.replayed, first.id, again.id) == (False, True, first.id, first.id)
    assert len(provider.ledger) == 1


def test_a_decline_is_replayed_too_even_if_the_card_would_be_good_by_now() -> None:
    provider = failing(FaultKind.DECLINE)
    first, again = charge(provider), charge(provider)
    assert first is not None
    assert again is not None
    assert (again.status, again.code, again.replayed, again.id) == (402, "insufficient_funds", True, first.id)
    assert charged(provider, key="another").status == 201


@pytest.mark.parametrize(("reference", "amount"), [("pay_1", OTHER), ("pay_2", EUR), ("pay_1", Money("12", "JPY"))])
def test_the_same_key_with_another_body_is_refused_and_moves_nothing(reference: str, amount: Money) -> None:
    provider = failing()
    charge(provider)
    other = charge(provider, reference, amount)
    assert (other and (other.status, other.result), len(provider.ledger)) == ((422, "key_reused"), 1)


def test_the_same_key_for_another_operation_is_refused() -> None:
    provider = failing()
    charge(provider)
    assert heard(provider, lambda: provider.refund("pay_1", EUR, key="k")).status == 422


def test_another_body_is_refused_while_the_first_is_at_work_too() -> None:
    provider = failing(FaultKind.EFFECT_LATER, patience=1.0)
    charge(provider)
    other, same = charge(provider, amount=OTHER), charge(provider)
    assert (other and other.status, same and same.status) == (422, 409)


@pytest.mark.parametrize("kind", [FaultKind.TOO_MANY, FaultKind.BUSY, FaultKind.HTML, FaultKind.RESET, FaultKind.TIMEOUT_BEFORE])
def test_what_never_reached_the_books_uses_up_no_key(kind: FaultKind) -> None:
    provider = failing(kind)
    charge(provider)
    assert charged(provider, key="k", amount=OTHER).status == 201


def test_a_key_whose_answer_is_lost_each_time_still_moves_money_once() -> None:
    provider = FakeProvider("acme", FaultPlan([Fault(kind=FaultKind.TIMEOUT_AFTER)]), clock=ManualClock())
    assert [charge(provider) for _ in range(3)] == [None] * 3
    assert len(provider.ledger) == 1


def test_keys_are_forgotten_oldest_first_and_then_the_charge_is_a_new_one() -> None:
    provider = failing(keys=2)
    for key in ("a", "b", "c", "b", "a"):
        charge(provider, key=key)
    assert [booking.key for booking in provider.ledger] == ["a", "b", "c", "a"]


def test_a_key_at_work_is_never_forgotten() -> None:
    provider = failing(FaultKind.EFFECT_LATER, keys=1, patience=1.0)
    charge(provider, key="a")
    charged(provider, reference="pay_2")
    assert charged(provider, key="a").status == 409


def test_a_key_is_forgotten_with_age() -> None:
    clock = ManualClock()
    provider = failing(clock=clock, keys_kept_for=86_400.0)
    charge(provider)
    clock.advance(86_399.0)
    charge(provider)
    assert len(provider.ledger) == 1
    clock.advance(1.0)
    charge(provider)
    assert provider.ledger.charged_twice() == ("pay_1",)


def test_the_answer_to_nothing_found_is_not_kept_since_it_may_come_to_be() -> None:
    provider = failing()
    assert heard(provider, lambda: provider.refund("pay_1", EUR, key="r")).status == 404
    charge(provider)
    assert heard(provider, lambda: provider.refund("pay_1", EUR, key="r")).status == 201


def test_a_reference_is_no_key() -> None:
    provider = failing()
    charge(provider, key=None)
    charge(provider, key="k")
    assert provider.ledger.charged_twice() == ("pay_1",)


def test_a_decline_that_was_never_heard_is_told_to_whoever_asks_again() -> None:
    provider = failing(FaultKind.DECLINE_SILENT)
    charge(provider)
    with pytest.raises(ProviderDeclinedError) as caught:
        provider.charge("pay_1", EUR, key="k")
    assert caught.value.code == "insufficient_funds"


kinds = st.lists(st.sampled_from(sorted(CALLS - {FaultKind.CONTRADICT})), max_size=6)


@given(kinds, st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=8))
def test_whatever_goes_wrong_one_key_moves_money_at_most_once_and_says_one_thing(kinds: list[FaultKind], keys: list[str]) -> None:
    plan = FaultPlan([Fault(kind=kind, nth=(number,), seconds=1.0) for number, kind in enumerate(kinds, start=1)])
    provider = FakeProvider("acme", plan, clock=ManualClock())
    told: dict[str, set[object]] = {}
    for key in keys:
        answer = charge(provider, key=key)
        if answer is not None and answer.status in {201, 402}:
            told.setdefault(key, set()).add((answer.status, answer.id))
    booked = [booking.key for booking in provider.ledger]
    assert len(booked) == len(set(booked))
    assert all(len(answers) == 1 for answers in told.values())


def test_three_clients_under_one_key_move_money_once_in_every_interleaving() -> None:
    def scenario() -> Any:
        provider = FakeProvider("acme")

        async def client() -> None:
            await provider.acharge("pay_1", EUR, key="k")

        def check() -> None:
            assert len(provider.ledger) == 1

        return [client(), client(), client()], check

    assert exhaust(scenario).schedules > 1


def test_three_threads_under_one_key_move_money_once() -> None:
    def scenario() -> Any:
        provider = FakeProvider("acme")

        def check() -> None:
            assert len(provider.ledger) == 1
            assert [visit.attempt for visit in provider.visits] == [1, 2, 3]

        return [lambda: charge(provider)] * 3, check

    explore_threads(scenario, seeds=range(30))
