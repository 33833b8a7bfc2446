"""The demo's payments service, one payment at a time: wherever it stops, the next one who comes finishes it, once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import pytest
from sqlalchemy import select

from examples.payment_flow.service import payments as room
from examples.payment_flow.service.acme import Order
from examples.payment_flow.service.home import Home
from examples.payment_flow.service.payments import NAME, NotCarriedOutError, Paid, Payment, Payments, tables
from finresilience import UnknownOutcomeError
from finresilience.durable.idempotent_errors import KeyInProgressError, KeyMismatchError
from finresilience.testing import crash
from finresilience.testing.faults import Fault, FaultKind, FaultPlan
from finresilience.testing.provider import FakeProvider

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ORDER: Final = Order("order_1", "C1", 1000)
PAID: Final = Paid("order_1", "succeeded")
LEASE: Final = 1.2


@pytest.fixture
def acme() -> FakeProvider:
    return FakeProvider("acme")


@pytest.fixture
def service(tmp_path: Path, acme: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> Iterator[Payments]:
    monkeypatch.setattr(room, "LEASE", LEASE)
    home = Home(tmp_path)
    home.empty(NAME, tables.outbox.table.metadata).dispose()
    with acme.serve() as url:
        home.announce("acme", url)
        made = Payments(home)
        yield made
        made.sessions.kw["bind"].dispose()
        made.acme._client.close()


def told(service: Payments) -> tuple[str, int]:
    """The payment's status, and how many events wait to be told."""
    with service.sessions() as session:
        status = session.scalar(select(Payment.status)) or "nothing"
    return status, tables.outbox.store(service.sessions.kw["bind"]).statistics().pending


@pytest.mark.parametrize("point", ["idempotent.claimed", "idempotent.done", "idempotent.stored"])
def test_wherever_it_dies_the_heir_finishes_it_once(service: Payments, acme: FakeProvider, point: str) -> None:
    with pytest.raises(crash.Crashed), crash.at(point):
        service.pay(ORDER)
    if point != "idempotent.stored":
        with pytest.raises(KeyInProgressError):
            service.pay(ORDER)
        time.sleep(LEASE)
    assert service.pay(ORDER) == PAID
    assert (len(acme.ledger), told(service)) == (1, ("succeeded", 1))


def test_what_a_customer_walked_away_from_is_finished_by_the_sweep(service: Payments, acme: FakeProvider) -> None:
    with pytest.raises(crash.Crashed), crash.at("idempotent.done"):
        service.pay(ORDER)
    service.sweep()
    time.sleep(LEASE)
    service.sweep()
    assert (len(acme.ledger), told(service)) == (1, ("succeeded", 1))


def test_what_nobody_knew_is_settled_by_the_sweep_from_what_acme_says(service: Payments, acme: FakeProvider) -> None:
    acme.plan = FaultPlan([Fault(kind=FaultKind.TIMEOUT_AFTER)])  # inquiries are not answered either
    with pytest.raises(UnknownOutcomeError):
        service.pay(ORDER)
    service.sweep()
    assert (len(acme.ledger), told(service)) == (1, ("sending", 0))
    acme.heal()
    service.sweep()
    assert (len(acme.ledger), told(service)) == (1, ("succeeded", 1))
    assert service.pay(ORDER) == PAID


def test_what_was_surely_not_carried_out_is_left_alone_until_the_customer_comes_again(service: Payments, acme: FakeProvider) -> None:
    acme.plan = FaultPlan([Fault(kind=FaultKind.BUSY, operation="charge", retry_after=0.0)])
    with pytest.raises(NotCarriedOutError):
        service.pay(ORDER)
    acme.heal()
    service.sweep()
    assert (len(acme.ledger), told(service)) == (0, ("withdrawn", 0))
    assert service.pay(ORDER) == PAID
    assert (len(acme.ledger), told(service)) == (1, ("succeeded", 1))


def test_a_decline_is_an_answer_told_once_and_replayed(service: Payments, acme: FakeProvider) -> None:
    acme.plan = FaultPlan([Fault(kind=FaultKind.DECLINE)])
    assert [service.pay(ORDER).status for _ in range(2)] == ["declined"] * 2
    assert (len(acme.ledger), len(acme.visits), told(service)) == (0, 1, ("declined", 1))


def test_one_key_is_one_request(service: Payments, acme: FakeProvider) -> None:
    service.pay(ORDER)
    with pytest.raises(KeyMismatchError):
        service.pay(Order("order_1", "C1", 9999))
    assert (len(acme.ledger), told(service)) == (1, ("succeeded", 1))


def test_closing_it_twice_tells_of_it_once(service: Payments) -> None:
    service.intend(ORDER)
    assert [service.record(ORDER, "succeeded") for _ in range(2)] == [PAID] * 2
    assert told(service) == ("succeeded", 1)
