"""Providers that are broken on purpose, each of which the law beside it must catch; else the law is asleep."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from dataclasses import replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from finresilience.testing import provider_asgi, provider_client, provider_core, provider_http, provider_wire, webhooks
from finresilience.testing.faults import Asked, Fault, FaultKind, FaultPlan
from finresilience.testing.history import Booking
from finresilience.testing.provider_accounts import Account, Fact
from finresilience.testing.provider_core import ProviderCore
from finresilience.testing.provider_keys import Keys
from finresilience.testing.provider_words import Order, Receipt
from finresilience.testing.webhooks import Webhooks
from tests.testing import (
    test_faults,
    test_provider,
    test_provider_asgi,
    test_provider_http,
    test_provider_keys,
    test_provider_pipeline,
    test_provider_trade,
    test_webhooks,
)
from tests.testing.providing import EUR

if TYPE_CHECKING:
    from collections.abc import Callable

K = FaultKind
RED = (AssertionError, LookupError, TypeError, ValueError, pytest.fail.Exception, ExceptionGroup)
Patch = pytest.MonkeyPatch


def awake(law: Callable[[], object]) -> None:
    with pytest.raises(RED):
        law()


def once(law: Any, *told: object) -> Callable[[], object]:
    """Return a property as it is for one example: to shrink what is broken on purpose teaches nothing."""
    return partial(law.hypothesis.inner_test, *told)


PAID_TWICE_OVER = (FaultPlan([Fault(kind=K.HANG, nth=(3,))]), [Order("charge", "pay_1", EUR, "a")] * 3)


def none(*_: object, **__: object) -> None:
    """It does nothing."""


# ---------------------------------------------------------------- the books


def test_a_provider_that_books_what_it_declined_is_caught(monkeypatch: Patch) -> None:
    honest = ProviderCore._tell

    def books(core: Any, truth: Receipt, asked: Any, at: float) -> None:
        if truth.status == 402:
            core.bookings.append(Booking(core.name, truth.reference, truth.operation, EUR, at))
        honest(core, truth, asked, at)

    monkeypatch.setattr(ProviderCore, "_tell", books)
    awake(partial(test_provider.test_the_books_hold_what_the_kind_says, K.DECLINE))
    awake(partial(test_provider.test_the_books_hold_what_the_kind_says, K.DECLINE_SILENT))


def test_a_provider_that_books_nothing_before_it_falls_silent_is_caught(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Account, "apply", none)
    for kind in (K.OK, K.TIMEOUT_AFTER, K.RESET_AFTER, K.HTML_AFTER, K.EFFECT_LATER, K.SLOW):
        awake(partial(test_provider.test_the_books_hold_what_the_kind_says, kind))


def test_a_provider_that_carries_out_at_the_door_is_caught(monkeypatch: Patch) -> None:
    monkeypatch.setattr(provider_core, "_at_the_door", none)
    for kind in (K.HANG, K.TIMEOUT_BEFORE, K.RESET, K.HTML, K.BUSY, K.TOO_MANY):
        awake(partial(test_provider.test_the_books_hold_what_the_kind_says, kind))


def test_a_provider_that_answers_where_it_should_be_silent_is_caught(monkeypatch: Patch) -> None:
    monkeypatch.setattr(provider_core, "_SILENT", frozenset())
    awake(partial(test_provider.test_the_caller_sees_what_the_kind_says, K.TIMEOUT_AFTER))


def test_a_provider_that_forgets_what_was_to_happen_later_is_caught(monkeypatch: Patch) -> None:
    monkeypatch.setattr(ProviderCore, "settle", lambda *_args, **_told: 0)
    awake(test_provider.test_what_happens_later_is_pending_until_then)


def test_a_provider_that_gives_back_more_than_it_took_is_caught(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Account, "objection", none)
    awake(test_provider_trade.test_refunds_never_give_back_more_than_was_taken)
    awake(once(test_provider_trade.test_money_is_conserved_whatever_is_asked_in_whatever_order, [("charge", 1), ("refund", 2)]))


def test_a_provider_whose_luck_hangs_on_the_order_of_calls_is_caught(monkeypatch: Patch) -> None:
    drawn: list[object] = []

    def in_turn(plan: FaultPlan, number: int, _call: object) -> float:
        drawn.append(number)
        return (len(drawn) * 0.37) % 1.0

    monkeypatch.setattr(FaultPlan, "_drawn", in_turn)
    backwards = [f"pay_{number}" for number in reversed(range(8))]
    awake(once(test_provider.test_a_payment_meets_the_same_fate_in_whatever_order_payments_come, backwards))
    asked = [Asked("charge", f"pay_{number}", 1) for number in range(20)]
    awake(once(test_faults.test_a_call_meets_the_same_fault_whenever_it_comes, test_faults.HALF, asked, Random(1)))


# ---------------------------------------------------------------- inquiries


def test_a_provider_that_hides_a_booking_from_inquiries_for_ever_is_caught(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Account, "seen", none)
    awake(partial(test_provider.test_an_inquiry_tells_the_truth, K.TIMEOUT_AFTER))
    awake(partial(test_provider.test_an_inquiry_that_lags_sees_nothing_and_then_the_truth, "charge"))
    awake(partial(test_provider_pipeline.test_an_inquiry_finds_out_what_the_call_could_not_tell, K.RESET_AFTER))


def test_an_inquiry_that_does_not_lag_is_caught(monkeypatch: Patch) -> None:
    honest = Fact.seen
    monkeypatch.setattr(Fact, "say", lambda fact, at, receipt, **_: fact._told.append((at, 0.0, receipt)))
    awake(partial(test_provider.test_an_inquiry_that_lags_sees_nothing_and_then_the_truth, "charge"))
    monkeypatch.undo()
    monkeypatch.setattr(Fact, "seen", lambda fact, now, **_: honest(fact, now, lag=0.0))
    awake(partial(test_provider.test_an_inquiry_that_lags_sees_nothing_and_then_the_truth, "inquiry"))


def test_an_inquiry_that_believes_the_lie_is_caught(monkeypatch: Patch) -> None:
    monkeypatch.setattr(provider_core, "_other", lambda truth, _fault: truth)
    awake(partial(test_provider.test_the_caller_sees_what_the_kind_says, K.CONTRADICT))


def test_a_provider_that_tells_of_nothing_pending_is_caught(monkeypatch: Patch) -> None:
    honest = Fact.say
    monkeypatch.setattr(Fact, "say", lambda fact, at, receipt, **told: receipt.result == "pending" or honest(fact, at, receipt, **told))
    awake(test_provider.test_what_happens_later_is_pending_until_then)


# ---------------------------------------------------------------- keys


def test_a_provider_that_forgets_keys_is_caught(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Keys, "answer", none)
    awake(test_provider_keys.test_the_same_key_gets_the_same_answer_marked_as_a_replay)
    awake(once(test_provider_keys.test_whatever_goes_wrong_one_key_moves_money_at_most_once_and_says_one_thing, [], ["a", "a"]))
    awake(test_provider_keys.test_three_clients_under_one_key_move_money_once_in_every_interleaving)
    awake(partial(test_provider.test_a_second_attempt_with_the_same_key_ends_well_and_moves_money_once, K.RESET_AFTER))


def test_a_provider_that_answers_another_body_from_the_key_is_caught(monkeypatch: Patch) -> None:
    honest = Keys.answer

    def blind(keys: Keys, order: Any, now: float) -> Receipt | None:
        kept = keys._kept.get(order.key)
        if kept is not None:
            kept.body = order.body
        return honest(keys, order, now)

    monkeypatch.setattr(Keys, "answer", blind)
    awake(partial(test_provider_keys.test_the_same_key_with_another_body_is_refused_and_moves_nothing, "pay_2", EUR))
    awake(test_provider_keys.test_another_body_is_refused_while_the_first_is_at_work_too)


def test_a_provider_that_forgets_a_key_at_work_is_caught(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Keys, "_forget", lambda keys, _now: keys._kept.pop(next(iter(keys._kept))))
    awake(test_provider_keys.test_a_key_at_work_is_never_forgotten)


def test_a_provider_that_never_forgets_is_caught(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Keys, "_forget", none)
    awake(test_provider_keys.test_keys_are_forgotten_oldest_first_and_then_the_charge_is_a_new_one)


def test_a_provider_that_keeps_declines_for_nobody_is_caught(monkeypatch: Patch) -> None:
    honest = Keys.keep

    def only_successes(keys: Keys, order: Any, receipt: Receipt | None, now: float, **told: Any) -> object:
        return None if receipt is not None and receipt.status == 402 else honest(keys, order, receipt, now, **told)

    monkeypatch.setattr(Keys, "keep", only_successes)
    awake(test_provider_keys.test_a_decline_is_replayed_too_even_if_the_card_would_be_good_by_now)


# ---------------------------------------------------------------- callers


def test_a_client_that_says_too_late_that_it_has_sent_is_caught(monkeypatch: Patch) -> None:
    monkeypatch.setattr(provider_client, "mark_sent", none)
    awake(partial(test_provider_pipeline.test_the_outcome_is_what_the_kind_says_if_it_never_ends, K.HANG))


def test_a_client_that_waits_past_the_deadline_is_caught(monkeypatch: Patch) -> None:
    monkeypatch.setattr(provider_client, "remaining", none)
    awake(partial(test_provider_pipeline.test_the_client_waits_no_longer_than_the_deadline_round_it, K.HANG))
    awake(test_provider_pipeline.test_a_caller_without_time_sends_nothing)


def test_an_answer_that_takes_no_time_is_caught(monkeypatch: Patch) -> None:
    monkeypatch.setattr(provider_client.Client, "_wait", lambda *_args, **_told: (0.0, True))
    awake(partial(test_provider.test_the_caller_sees_what_the_kind_says, K.SLOW))


# ---------------------------------------------------------------- webhooks


def test_a_signature_that_covers_less_than_all_is_caught(monkeypatch: Patch) -> None:
    honest = webhooks.sign
    monkeypatch.setattr(webhooks, "sign", lambda secret, _id, timestamp, body: honest(secret, "", timestamp, body))
    awake(test_webhooks.test_whatever_is_changed_the_signature_shows_it)


def test_a_forger_who_knows_the_secret_is_caught(monkeypatch: Patch) -> None:
    secret = test_webhooks.telling().secret
    monkeypatch.setattr(webhooks, "secret_of", lambda _seed: secret)
    awake(test_webhooks.test_a_forged_webhook_does_not_verify)


def test_a_queue_that_overtakes_nobody_is_caught(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Webhooks, "_follow", none)
    awake(test_webhooks.test_a_reordered_webhook_is_told_after_the_one_that_follows)


def test_a_second_delivery_under_an_id_of_its_own_is_caught(monkeypatch: Patch) -> None:
    honest, numbers = Webhooks._put, iter(range(100))

    def renamed(queue: Webhooks, event: Any, at: float, **told: Any) -> object:
        return honest(queue, replace(event, id=f"evt_{next(numbers)}"), at, **told)

    monkeypatch.setattr(Webhooks, "_put", renamed)
    awake(test_webhooks.test_a_webhook_told_twice_has_one_id)


# ---------------------------------------------------------------- faces


def test_a_face_that_answers_another_body_is_caught(monkeypatch: Patch) -> None:
    honest = provider_wire._receipt

    def careless(receipt: Receipt, wait: float) -> object:
        return honest(Receipt(201, "succeeded", receipt.operation, receipt.reference), wait)

    monkeypatch.setattr(provider_wire, "_receipt", careless)
    awake(once(test_provider_asgi.test_all_faces_agree_on_every_answer_every_visit_and_every_booking, *PAID_TWICE_OVER))


def test_a_face_that_loses_the_key_is_caught(monkeypatch: Patch) -> None:
    honest = provider_wire.served

    def keyless(provider: Any, request: Any) -> object:
        headers = {name: value for name, value in request.headers.items() if name != "idempotency-key"}
        return honest(provider, provider_wire.Request(request.method, request.path, request.query, headers, request.body))

    monkeypatch.setattr(provider_http, "served", keyless)
    awake(test_provider_http.test_fifty_callers_under_one_key_at_once_move_money_once)
    awake(once(test_provider_asgi.test_all_faces_agree_on_every_answer_every_visit_and_every_booking, *PAID_TWICE_OVER))


def test_a_reset_that_only_closes_is_caught(monkeypatch: Patch) -> None:
    monkeypatch.setattr(provider_http._Handler, "_reset", lambda handler: setattr(handler, "close_connection", True))
    awake(partial(test_provider_http.test_each_kind_looks_over_a_socket_as_it_should, K.RESET))


def test_a_silence_that_ends_by_itself_is_caught(monkeypatch: Patch) -> None:
    monkeypatch.setattr(provider_http._Handler, "_stay_silent", lambda handler: handler._write(provider_wire._problem(500, "no", "")))
    awake(partial(test_provider_http.test_each_kind_looks_over_a_socket_as_it_should, K.HANG))


def test_an_app_that_resets_where_it_should_be_silent_is_caught(monkeypatch: Patch) -> None:
    async def torn(_receive: Any) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(provider_asgi, "_until_gone", torn)
    awake(once(test_provider_asgi.test_all_faces_agree_on_every_answer_every_visit_and_every_booking, *PAID_TWICE_OVER))
