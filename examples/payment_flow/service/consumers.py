"""How does an event that comes twice take effect once? By an inbox: its marker is written in the transaction of the effect."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from examples.payment_flow.service.web import Answer, Call, serve
from finresilience.durable import Duplicate, Underway
from finresilience.sql import Tables

if TYPE_CHECKING:
    from sqlalchemy import MetaData

    from examples.payment_flow.service.home import Home
    from finresilience.durable import Seen

GATEWAY = 0.008  # seconds that handing over a mail takes


class Consumer:
    """A service that takes CloudEvents by HTTP and does its work in a transaction of its own database."""

    name: ClassVar[str]
    tables: ClassVar[Tables]
    dropped: ClassVar[type[Any]]  # where each duplicate is noted

    def __init__(self, home: Home) -> None:
        engine = home.engine(self.name)
        self.tables.check(engine)
        self.home = home
        self.sessions = sessionmaker(engine)

    def work(self, session: Session, kind: str, event: Any) -> None:
        """Do what this service does about an event."""
        raise NotImplementedError

    def take(self, event_id: str, kind: str, event: Any) -> Seen:
        """Take an event, for the first time or not."""
        return self.tables.inbox.consume(
            self.sessions, lambda session: self.work(session, kind, event), group=self.name, message_id=event_id
        )

    def answer(self, call: Call) -> Answer:
        """POST /events: 204 once it is committed, whether it was new or not."""
        event_id = call.headers["ce-id"]
        seen = self.take(event_id, call.headers["ce-type"], call.body)
        if isinstance(seen, Underway):
            return Answer(503, headers={"Retry-After": "1"})
        if isinstance(seen, Duplicate):
            with self.sessions.begin() as session:
                session.add(self.dropped(event=event_id))
        return Answer(204)

    def serve(self) -> None:
        """Serve."""
        serve(self.home, self.name, self.answer)


class LedgerBase(DeclarativeBase):
    """What the ledger keeps."""


class Posting(LedgerBase):
    """One line: what is debited is positive, what is credited negative, and the lines of an event are 0 in all."""

    __tablename__ = "posting"

    id: Mapped[int] = mapped_column(primary_key=True)
    reference: Mapped[str]
    account: Mapped[str]
    minor: Mapped[int]


class LedgerDropped(LedgerBase):
    """An event that came again, and was dropped."""

    __tablename__ = "dropped"

    id: Mapped[int] = mapped_column(primary_key=True)
    event: Mapped[str]


class Ledger(Consumer):
    """Double entry: what a customer paid is owed to the merchant."""

    name = "ledger"
    tables = Tables(LedgerBase.metadata)
    dropped = LedgerDropped

    def work(self, session: Session, kind: str, event: Any) -> None:
        """Post what has moved."""
        if kind == "PaymentSucceeded":
            session.add(Posting(reference=event["reference"], account="acme", minor=event["minor"]))
            session.add(Posting(reference=event["reference"], account="merchant", minor=-event["minor"]))


class NoticeBase(DeclarativeBase):
    """What notifications keep."""


class Notice(NoticeBase):
    """One mail to one customer."""

    __tablename__ = "notice"

    id: Mapped[int] = mapped_column(primary_key=True)
    reference: Mapped[str]
    customer: Mapped[str]
    kind: Mapped[str]
    minor: Mapped[int]


class NoticeDropped(NoticeBase):
    """An event that came again, and was dropped."""

    __tablename__ = "dropped"

    id: Mapped[int] = mapped_column(primary_key=True)
    event: Mapped[str]


class Notifications(Consumer):
    """A mail for each payment, whether it went well or not."""

    name = "notifications"
    tables = Tables(NoticeBase.metadata)
    dropped = NoticeDropped

    def work(self, session: Session, kind: str, event: Any) -> None:
        """Queue a mail."""
        time.sleep(GATEWAY)
        session.add(Notice(reference=event["reference"], customer=event["customer"], kind=kind, minor=event["minor"]))


CONSUMERS: tuple[type[Consumer], ...] = (Ledger, Notifications)


def metadata_of(consumer: type[Consumer]) -> MetaData:
    """Return all tables of a consumer."""
    return consumer.tables.inbox.table.metadata
