"""How does a payment survive the death of whoever carries it out? By a key that is claimed first, and by heirs who ask before they act.

    the key, claimed -> the intent, committed -> acme -> status and event, in one transaction -> the answer, kept under the key

Kill it between any two of them: whoever comes next with this key, a customer or our own sweep, goes on from there.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Thread, local
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import CursorResult, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from examples.payment_flow.service.acme import DECLINED, SUCCEEDED, Acme, Order, reference_of
from examples.payment_flow.service.web import Answer, Call, serve
from finresilience import RETRYABLE, Declined, ErrorClassifier, Found, NotFound, Ok, StillUnknown, Unknown, payments_classifier
from finresilience.durable import KeyState, OutboxMessage
from finresilience.durable.codecs import dataclass_codec
from finresilience.durable.fingerprints import fingerprint_of
from finresilience.durable.idempotent import idempotent, operation_of
from finresilience.durable.idempotent_errors import KeyInProgressError, KeyMismatchError
from finresilience.durable.idempotent_events import AnswerReplayed
from finresilience.integrations.problems import problem
from finresilience.sql import Tables

if TYPE_CHECKING:
    from examples.payment_flow.service.home import Home
    from finresilience.durable import Claimed

LOG = logging.getLogger("payment_flow")
NAME = "payments"
SENDING, WITHDRAWN = "sending", "withdrawn"
EVENTS = {SUCCEEDED: "PaymentSucceeded", DECLINED: "PaymentDeclined"}
LEASE, DEADLINE = 1.2, 1.0  # seconds. In your service a minute: so soon after its holder's death does a key have an heir
SWEEP = 0.5


class Base(DeclarativeBase):
    """What the payments service keeps."""


class Payment(Base):
    """One payment: written before acme hears of it, and closed by the transaction that writes its event."""

    __tablename__ = "payment"

    reference: Mapped[str] = mapped_column(primary_key=True)
    customer: Mapped[str]
    minor: Mapped[int]
    status: Mapped[str]


tables = Tables(Base.metadata)  # outbox, inbox and idempotency keys, beside our own


@dataclass(frozen=True, slots=True)
class Paid:
    """What a customer is told, and told again."""

    reference: str
    status: str


class NotCarriedOutError(Exception):
    """It failed, and acme has surely not carried it out."""


class Payments:
    """The service: an API in front, acme behind, and a sweep that finishes what nobody asks about any more."""

    def __init__(self, home: Home) -> None:
        engine = home.engine(NAME)
        tables.check(engine)
        self.home = home
        self.sessions = sessionmaker(engine)
        self.acme = Acme(home.address("acme"))
        self._replayed = local()
        self.pay = idempotent(
            tables.idempotency.store(engine),
            key=reference_of,
            scope=customer_of,
            fingerprint=fingerprint_of,
            codec=dataclass_codec(Paid),
            lease=LEASE,
            deadline=DEADLINE,
            recover=self.recover,
            classify=ErrorClassifier({NotCarriedOutError: RETRYABLE}) | payments_classifier(),
            name="pay",
            listeners=(self._hear,),
        )(self._carry_out)

    # --- one payment -----------------------------------------------------------------------------------------------------

    def _carry_out(self, order: Order) -> Paid:
        """Carry it out: one holder of the key at a time comes here."""
        self.intend(order)
        end = self.acme.charge(order)
        if isinstance(end, Ok):
            return self.record(order, end.value)
        if isinstance(end, Declined):
            return self.record(order, DECLINED)
        if isinstance(end, Unknown):
            raise end.error
        with self.sessions.begin() as session:  # the customer is told that nothing happened: the sweep must not think otherwise
            move(session, order, {SENDING}, WITHDRAWN)
        raise NotCarriedOutError from end.error

    def recover(self, claimed: Claimed, order: Order) -> Found[Paid] | NotFound | StillUnknown:  # noqa: ARG002 - the library's signature
        """Ask acme on behalf of an heir: the one before died, and may have sent it."""
        found = self.acme.find(order)
        return Found(self.record(order, found.value)) if isinstance(found, Found) else found

    def intend(self, order: Order) -> None:
        """Write down what is to be sent, before it is sent."""
        with suppress(IntegrityError), self.sessions.begin() as session:
            session.add(Payment(reference=order.reference, customer=order.customer, minor=order.minor, status=SENDING))
            return
        with self.sessions.begin() as session:  # it was begun before: by one who died, or by one who withdrew it
            move(session, order, {WITHDRAWN}, SENDING)

    def record(self, order: Order, status: str) -> Paid:
        """Close the payment and write its event: in one transaction, and once, whoever comes here a second time."""
        with self.sessions.begin() as session:
            if move(session, order, {SENDING, WITHDRAWN}, status):
                told = {"reference": order.reference, "customer": order.customer, "minor": order.minor}
                tables.outbox.add(session, OutboxMessage(topic="payments", key=order.customer, type=EVENTS[status], payload=told))
        return Paid(order.reference, status)

    # --- what nobody asks about any more ---------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Finish what was begun and not ended, whether its customer comes again or not."""
        with self.sessions() as session:
            left = [Order(one.reference, one.customer, one.minor) for one in session.scalars(select(Payment).filter_by(status=SENDING))]
        for order in left:
            try:
                self._finish(order)
            except KeyInProgressError:
                pass  # somebody is at it
            except Exception:
                LOG.exception("the sweep leaves a payment to the next one")

    def _finish(self, order: Order) -> None:
        operation = operation_of(self.pay)
        record = operation.find(order)
        if record is None:
            return  # its key was given back: nothing happened, and the customer was told so
        if record.state is not KeyState.INDETERMINATE:
            self.pay(order)  # as the customer would: if its holder is dead we are the heir
        elif isinstance(found := self.acme.find(order), Found):
            operation.resolve(record, self.record(order, found.value), evidence="acme's answer to our inquiry")

    # --- the API ---------------------------------------------------------------------------------------------------------

    def answer(self, call: Call) -> Answer:
        """POST /payments with an Idempotency-Key."""
        key = call.headers.get("Idempotency-Key")
        if not key:
            return Answer(400, {"status": "an Idempotency-Key is needed, and nothing was done without one"})
        self._replayed.now = False
        try:
            paid = self.pay(Order(key, str(call.body["customer"]), int(call.body["minor"])))
        except KeyInProgressError:
            return Answer(409, {"status": "in progress: ask again"}, {"Retry-After": "1"})
        except KeyMismatchError:
            return Answer(422, {"status": "this key belongs to another request"})
        except NotCarriedOutError:
            return Answer(503, {"status": "not carried out: send it again"}, {"Retry-After": "1"})
        except Exception as error:
            if (told := problem(error)) is None:
                raise
            return Answer(told.status, told.body, told.headers)
        replayed = {"Idempotent-Replayed": "true"} if self._replayed.now else {}
        return Answer(201 if paid.status == SUCCEEDED else 402, {"reference": paid.reference, "status": paid.status}, replayed)

    def _hear(self, event: object) -> None:
        if isinstance(event, AnswerReplayed):
            self._replayed.now = True

    def serve(self) -> None:
        """Serve, and sweep beside it."""
        over = Event()

        def keep_sweeping() -> None:
            while not over.wait(SWEEP):
                self.sweep()

        Thread(target=keep_sweeping, daemon=True).start()
        serve(self.home, NAME, self.answer)
        over.set()


def customer_of(order: Order) -> str:
    """Return whose key it is: nobody gets another's answer."""
    return order.customer


def move(session: Session, order: Order, before: set[str], after: str) -> bool:
    """Change the status from one of these, and return whether it was one of these: compare and set."""
    known = Payment.reference == order.reference, Payment.status.in_(before)
    done = cast("CursorResult[Any]", session.execute(update(Payment).where(*known).values(status=after)))
    return done.rowcount == 1
