"""What do the databases say when everybody has gone home? Read from them alone, and from the provider's own ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from examples.payment_flow.service.consumers import Ledger, LedgerDropped, Notice, NoticeDropped, Notifications, Posting
from examples.payment_flow.service.payments import NAME, SENDING, Payment, tables

if TYPE_CHECKING:
    from sqlalchemy import Select

    from examples.payment_flow.crash.customers import Told
    from examples.payment_flow.service.acme import Order
    from examples.payment_flow.service.home import Home
    from finresilience.testing.ledger import Ledger as ProvidersLedger

Line = tuple[str, int]  # a reference, and minor units


@dataclass(slots=True)
class Books:
    """Everything that is known of one run."""

    orders: dict[str, Order]
    told: dict[str, Told]
    acme: list[Line]
    payments: dict[str, tuple[str, int]]  # status and minor units
    postings: list[tuple[str, str, int]]  # reference, account, minor units
    notices: list[tuple[str, str, int]]  # reference, kind, minor units
    pending: int = 0
    dead: int = 0
    heirs: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


class Desk:
    """Reads the services' databases, while they work and afterwards."""

    def __init__(self, home: Home) -> None:
        self._engines = {name: home.engine(name) for name in (NAME, Ledger.name, Notifications.name)}
        self._outbox = tables.outbox.store(self._engines[NAME])

    def closed(self) -> int:
        """Return how many payments are closed."""
        return self._count(NAME, select(func.count()).where(Payment.status.in_(("succeeded", "declined"))))

    def taken(self, consumer: type[Ledger | Notifications]) -> int:
        """Return how many events a consumer has handled."""
        return self._count(consumer.name, select(func.count()).select_from(consumer.tables.inbox.table))

    def is_quiet(self) -> bool:
        """Return whether nothing is left to do: no payment is open, and no event on its way."""
        return self._count(NAME, select(func.count()).where(Payment.status == SENDING)) == self._outbox.statistics().pending == 0

    def read(self, orders: dict[str, Order], told: dict[str, Told], acme: ProvidersLedger) -> Books:
        """Return the books."""
        with Session(self._engines[NAME]) as session:
            payments = {one.reference: (one.status, one.minor) for one in session.scalars(select(Payment))}
        with Session(self._engines[Ledger.name]) as session:
            postings = [(one.reference, one.account, one.minor) for one in session.scalars(select(Posting))]
        with Session(self._engines[Notifications.name]) as session:
            notices = [(one.reference, one.kind, one.minor) for one in session.scalars(select(Notice))]
        outbox, keys = self._outbox.statistics(), tables.idempotency.table.c
        return Books(
            orders=orders,
            told=told,
            acme=[(booking.reference, booking.amount.minor_units) for booking in acme],
            payments=payments,
            postings=postings,
            notices=notices,
            pending=outbox.pending,
            dead=outbox.dead,
            heirs=self._count(NAME, select(func.coalesce(func.sum(keys.takeovers), 0))),
            dropped={
                Ledger.name: self._count(Ledger.name, select(func.count()).select_from(LedgerDropped)),
                Notifications.name: self._count(Notifications.name, select(func.count()).select_from(NoticeDropped)),
            },
        )

    def close(self) -> None:
        """Let go of the databases."""
        for engine in self._engines.values():
            engine.dispose()

    def _count(self, service: str, query: Select[int]) -> int:
        with Session(self._engines[service]) as session:
            return session.scalar(query) or 0
