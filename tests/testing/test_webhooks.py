"""What a fake provider tells afterwards: signed as in Standard Webhooks, and doubled, late, lost, forged or false as the plan says."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, strategies as st

from finresilience.errors import ConfigurationError
from finresilience.testing.clock import ManualClock
from finresilience.testing.faults import WEBHOOKS, Fault, FaultKind, FaultPlan
from finresilience.testing.provider import FakeProvider
from finresilience.testing.webhooks import AGAIN, Delivery, Webhooks, sign, verify
from tests.testing.providing import EUR, charged

K = FaultKind
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def telling(*kinds: FaultKind, clock: ManualClock | None = None, **told: Any) -> FakeProvider:
    """A provider whose first payments' webhooks meet these kinds, one each."""
    faults = [Fault(kind=kind, tag=f"pay_{number}", seconds=60.0) for number, kind in enumerate(kinds, start=1)]
    return FakeProvider("acme", FaultPlan(faults, seed=7), clock=clock or ManualClock(), **told)


def pay(provider: FakeProvider, *numbers: int) -> None:
    for number in numbers:
        charged(provider, reference=f"pay_{number}", tag=f"pay_{number}")


def heard(provider: FakeProvider, *, late: bool = False) -> list[tuple[str, str]]:
    return [(delivery.event.reference, delivery.event.status) for delivery in provider.deliveries(late=late)]


def test_a_signature_is_that_of_the_standards_own_example() -> None:
    body = b'{"test": 2432232314}'
    assert sign(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_payment_is_told_once_and_the_body_says_what_happened() -> None:
    provider = telling()
    pay(provider, 1)
    (delivery,) = provider.deliveries()
    assert json.loads(delivery.body) == {
        "type": "charge.succeeded",
        "timestamp": "2026-01-01T00:00:00+00:00",
        "data": {
            "id": delivery.event.data["id"],
            "reference": "pay_1",
            "status": "succeeded",
            "code": "",
            "amount": 1250,
            "currency": "EUR",
        },
    }
    assert heard(provider) == []


def test_a_delivery_is_verified_by_the_secret_of_its_provider_and_by_no_other() -> None:
    provider = telling()
    pay(provider, 1)
    (delivery,) = provider.deliveries()
    assert verify(delivery, provider.secret)
    assert verify(delivery, SECRET, provider.secret)
    assert not verify(delivery, SECRET)


def test_whatever_is_changed_the_signature_shows_it() -> None:
    provider = telling()
    pay(provider, 1)
    (delivery,) = provider.deliveries()
    body = replace(delivery, body=delivery.body.replace(b"1250", b"9250"))
    changed = [replace(delivery, headers={**delivery.headers, name: value}) for name, value in _others()]
    assert not any(verify(one, provider.secret) for one in (body, *changed))


def _others() -> list[tuple[str, str]]:
    return [
        ("webhook-id", "evt_other"),
        ("webhook-timestamp", "1"),
        ("webhook-timestamp", "-1"),
        ("webhook-timestamp", "now"),
        ("webhook-signature", ""),
        ("webhook-signature", "v1,AAAA"),
        ("webhook-signature", "v1,é"),
    ]


def test_a_delivery_that_is_printed_shows_neither_its_signature_nor_its_body() -> None:
    provider = telling()
    pay(provider, 1)
    (delivery,) = provider.deliveries()
    shown = repr(delivery)
    assert delivery.headers["webhook-signature"] not in shown
    assert "timestamp" not in shown


def test_a_signature_that_is_too_old_or_too_new_is_refused_where_the_time_is_told() -> None:
    provider = telling()
    pay(provider, 1)
    (delivery,) = provider.deliveries()
    told = provider.clock.utc()
    inside, outside = timedelta(seconds=300), timedelta(seconds=301)
    assert all(verify(delivery, provider.secret, now=told + step) for step in (inside, -inside))
    assert not any(verify(delivery, provider.secret, now=told + step) for step in (outside, -outside))


def test_one_of_several_signatures_is_enough_while_secrets_are_rotated() -> None:
    provider = telling()
    pay(provider, 1)
    (delivery,) = provider.deliveries()
    both = "v1,AAAA " + delivery.headers["webhook-signature"]
    assert verify(replace(delivery, headers={**delivery.headers, "webhook-signature": both}), provider.secret)


@pytest.mark.parametrize("secret", ["not base64!", "", "whsec_", None])
def test_a_secret_that_is_none_is_refused_and_not_shown(secret: Any) -> None:
    provider = telling()
    pay(provider, 1)
    (delivery,) = provider.deliveries()
    with pytest.raises(ConfigurationError) as caught:
        verify(delivery, secret)
    assert "not base64!" not in str(caught.value)
    assert caught.value.__context__ is None
    with pytest.raises(ConfigurationError):
        verify(delivery)


@pytest.mark.parametrize("told", [{"now": datetime(2026, 1, 1)}, {"tolerance": -1.0}, {"tolerance": float("nan")}], ids=str)
def test_a_time_that_cannot_be_compared_is_refused(told: Any) -> None:
    provider = telling()
    pay(provider, 1)
    (delivery,) = provider.deliveries()
    with pytest.raises(ConfigurationError):
        verify(delivery, provider.secret, **told)


def test_a_webhook_told_twice_has_one_id() -> None:
    provider = telling(K.WEBHOOK_TWICE)
    pay(provider, 1)
    first, second = provider.deliveries()
    assert (first.event, first.headers["webhook-id"]) == (second.event, second.headers["webhook-id"])


def test_a_reordered_webhook_is_told_after_the_one_that_follows() -> None:
    provider = telling(K.WEBHOOK_REORDERED)
    pay(provider, 1)
    assert heard(provider) == []
    pay(provider, 2, 3)
    assert [reference for reference, _ in heard(provider)] == ["pay_2", "pay_1", "pay_3"]


def test_two_reordered_webhooks_change_places() -> None:
    provider = telling(K.WEBHOOK_REORDERED, K.WEBHOOK_REORDERED)
    pay(provider, 1, 2, 3)
    assert [reference for reference, _ in heard(provider)] == ["pay_3", "pay_2", "pay_1"]


def test_a_reordered_webhook_that_nothing_follows_is_told_at_last() -> None:
    clock = ManualClock()
    provider = telling(K.WEBHOOK_REORDERED, clock=clock)
    pay(provider, 1)
    clock.advance(60.0)
    pay(provider, 2)
    assert [reference for reference, _ in heard(provider)] == ["pay_1", "pay_2"]


def test_a_late_webhook_is_told_late_and_signed_when_it_is_told() -> None:
    clock = ManualClock()
    provider = telling(K.WEBHOOK_LATE, clock=clock)
    pay(provider, 1)
    clock.advance(59.9)
    assert heard(provider) == []
    clock.advance(0.1)
    (delivery,) = provider.deliveries()
    assert verify(delivery, provider.secret, now=clock.utc(), tolerance=0.0)
    assert json.loads(delivery.body)["timestamp"] == "2026-01-01T00:00:00+00:00"


def test_what_would_be_told_later_can_be_heard_at_once() -> None:
    provider = telling(K.WEBHOOK_LATE)
    pay(provider, 1, 2)
    assert heard(provider, late=True) == [("pay_2", "succeeded"), ("pay_1", "succeeded")]


def test_a_dropped_webhook_is_never_told_and_counted() -> None:
    provider = telling(K.WEBHOOK_DROPPED)
    pay(provider, 1)
    assert (heard(provider, late=True), provider.webhooks.dropped) == ([], 1)


def test_a_forged_webhook_does_not_verify() -> None:
    provider = telling(K.WEBHOOK_FORGED)
    pay(provider, 1, 2)
    assert [(one.forged, verify(one, provider.secret)) for one in provider.deliveries()] == [(True, False), (False, True)]


def test_a_contradiction_comes_first_under_an_id_of_its_own_and_verifies() -> None:
    provider = telling(K.WEBHOOK_CONTRADICTS)
    pay(provider, 1)
    false, true = provider.deliveries()
    assert (false.event.status, true.event.status) == ("declined", "succeeded")
    assert false.event.id != true.event.id
    assert json.loads(false.body)["data"]["status"] == "declined"
    assert verify(false, provider.secret)


def test_a_decline_is_told_too_and_a_replay_and_a_refusal_are_not() -> None:
    provider = FakeProvider("acme", FaultPlan([Fault(kind=K.DECLINE, tag="pay_1"), Fault(kind=K.BUSY, tag="pay_2")]), clock=ManualClock())
    pay(provider, 1, 1, 2)
    assert heard(provider) == [("pay_1", "declined")]


def test_what_the_caller_never_heard_is_told_by_webhook() -> None:
    plan = FaultPlan([Fault(kind=K.TIMEOUT_AFTER), Fault(kind=K.WEBHOOK_TWICE)])
    provider = FakeProvider("acme", plan, clock=ManualClock())
    assert charged(provider).word == "timeout"
    assert heard(provider) == [("pay_1", "succeeded")] * 2


def test_what_happens_later_is_told_when_it_happens() -> None:
    clock = ManualClock()
    provider = FakeProvider("acme", FaultPlan([Fault(kind=K.EFFECT_LATER, seconds=600.0)]), clock=clock, patience=1.0)
    charged(provider)
    assert heard(provider, late=True) == []
    clock.advance(599.0)
    assert heard(provider) == [("pay_1", "succeeded")]


def test_a_webhook_that_was_not_taken_comes_again_until_it_does_not() -> None:
    clock = ManualClock()
    provider = telling(clock=clock)
    pay(provider, 1)
    (delivery,) = provider.deliveries()
    waits: list[float] = []
    while provider.redeliver(delivery):
        began = clock.monotonic()
        while not (told := list(provider.deliveries())):
            clock.advance(5.0)
        (again,) = told
        waits.append(clock.monotonic() - began)
        assert (again.event, again.body, again.attempt) == (delivery.event, delivery.body, delivery.attempt + 1)
        delivery = again
    assert tuple(waits) == AGAIN


def test_webhooks_that_nobody_fetches_are_lost_oldest_first_and_counted() -> None:
    provider = telling(webhooks=2)
    pay(provider, 1, 2, 3, 4)
    assert (len(provider.webhooks), provider.webhooks.overflowed) == (2, 2)
    assert [reference for reference, _ in heard(provider)] == ["pay_3", "pay_4"]


def test_a_handler_may_cause_more_webhooks_while_it_reads() -> None:
    provider = telling()
    pay(provider, 1)
    seen: list[str] = []
    for delivery in provider.deliveries():
        seen.append(delivery.event.type)
        if len(seen) == 1:
            provider.refund("pay_1", EUR)
    assert seen == ["charge.succeeded", "refund.succeeded"]


kinds = st.lists(st.sampled_from([K.OK, *sorted(WEBHOOKS)]), max_size=8)


@given(kinds, st.booleans())
def test_every_event_is_told_as_often_as_its_kind_says_and_nothing_else_is(kinds: list[FaultKind], between: bool) -> None:
    provider = telling(*kinds)
    told: list[Delivery] = []
    for number in range(1, len(kinds) + 1):
        pay(provider, number)
        told.extend(provider.deliveries() if between else ())
    told.extend(provider.deliveries(late=True))
    times = {K.WEBHOOK_DROPPED: 0, K.WEBHOOK_TWICE: 2}
    for number, kind in enumerate(kinds, start=1):
        mine = [one for one in told if one.event.reference == f"pay_{number}"]
        true = [one for one in mine if one.event.status == "succeeded"]
        assert len(true) == times.get(kind, 1)
        assert len(mine) - len(true) == (kind is K.WEBHOOK_CONTRADICTS)
    assert len(provider.webhooks) == 0


def test_the_queue_says_when_the_next_one_is_due() -> None:
    provider = telling(K.WEBHOOK_LATE)
    assert provider.webhooks.next_at() is None
    pay(provider, 1)
    assert provider.webhooks.next_at() == 60.0


@pytest.mark.parametrize("limit", [0, -1, True, 1.5])
def test_a_queue_without_a_bound_is_refused(limit: Any) -> None:
    with pytest.raises(ConfigurationError, match="webhooks="):
        Webhooks(limit)


def test_the_time_of_an_event_is_told_in_utc_of_the_clock() -> None:
    clock = ManualClock(utc=datetime(2031, 5, 4, 3, 2, 1, tzinfo=UTC))
    provider = telling(clock=clock)
    pay(provider, 1)
    (delivery,) = provider.deliveries()
    assert delivery.headers["webhook-timestamp"] == str(int(clock.utc().timestamp()))
