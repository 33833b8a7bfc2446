"""The demo's services without an outbox, without an inbox, and without heirs that ask: each must be found out by the audit."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import httpx

from examples.payment_flow.service.__main__ import SERVICES
from examples.payment_flow.service.acme import Acme
from examples.payment_flow.service.consumers import CONSUMERS, Consumer, Ledger, Notifications
from examples.payment_flow.service.payments import EVENTS, SENDING, WITHDRAWN, Paid, Payments, move
from finresilience import NotFound, idempotency_key
from finresilience.durable import Fresh

if TYPE_CHECKING:
    from examples.payment_flow.service.acme import Order
    from examples.payment_flow.service.home import Home
    from finresilience.durable import Claimed, Seen

A_MOMENT: Final = 0.03  # seconds that others take meanwhile, so that a kill falls into it


class TellsAfterwards(Payments):
    """Commits, and then publishes, as it is so often written."""

    def record(self, order: Order, status: str) -> Paid:
        with self.sessions.begin() as session:
            closed = move(session, order, {SENDING, WITHDRAWN}, status)
        if closed:
            time.sleep(A_MOMENT)
            told = {"reference": order.reference, "customer": order.customer, "minor": order.minor}
            headers = {"ce-id": str(uuid4()), "ce-type": EVENTS[status]}
            for consumer in CONSUMERS:
                httpx.post(f"{self.home.address(consumer.name)}/events", json=told, headers=headers, trust_env=False)
        return Paid(order.reference, status)


class Forgetful(Consumer):
    """Marks what it has seen, and does its work whether it has or not."""

    def take(self, event_id: str, kind: str, event: Any) -> Seen:
        with self.sessions.begin() as session, self.tables.inbox.once(session, group=self.name, message_id=event_id):
            self.work(session, kind, event)
        time.sleep(A_MOMENT)
        return Fresh()


class ForgetfulLedger(Forgetful, Ledger):
    """Books an event as often as it comes."""


class ForgetfulNotifications(Forgetful, Notifications):
    """Sends a mail as often as an event comes."""


class AnotherKeyEachTime(Acme):
    """Makes its keys up, and knows them as long as its process lives."""

    def _charge(self, order: Order) -> str:
        with idempotency_key(f"{order.reference} {os.getpid()}"):
            return super()._charge(order)


class PaysAgain(Payments):
    """Believes that a holder who died did nothing."""

    def __init__(self, home: Home) -> None:
        super().__init__(home)
        self.acme = AnotherKeyEachTime(home.address("acme"))

    def recover(self, claimed: Claimed, order: Order) -> NotFound:
        return NotFound()


WITHOUT_OUTBOX: Final = {**SERVICES, "payments": TellsAfterwards}
WITHOUT_INBOX: Final = {**SERVICES, "ledger": ForgetfulLedger, "notifications": ForgetfulNotifications}
WITHOUT_ASKING: Final = {**SERVICES, "payments": PaysAgain}
