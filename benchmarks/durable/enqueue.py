"""Adding an event to the caller's transaction, beside an INSERT written by hand through the same API of SQLAlchemy."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from sqlalchemy import event, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_sessionmaker

from benchmarks.durable.callers import PAID, OnPostgres
from benchmarks.durable.contests import Contest, Goal
from finresilience.durable.messages import OutboxMessage, partition_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.durable.contests import Contestant
    from benchmarks.durable.places import Place

HAND, PLAIN, ORDERED = "INSERT by hand", "ours, without order", "ours, ordered by key"
EFFECT: Final = "the effect alone"


class Adding(OnPostgres):
    """A payment and its event, in one transaction of a connection or a session."""

    def __init__(
        self, place: Place, *, by_session: bool, adds: Callable[[Any, Any, int], Any] | None, events: int = 1, **more: Any
    ) -> None:
        super().__init__(place, **more)
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        self._begin: Any = self._sessions.begin if by_session else self.engine.begin
        self._adds = adds
        self._events = events if adds is not None else 0
        self.statements = 0

    async def open(self) -> None:
        await super().open()
        event.listen(self.engine.sync_engine, "before_cursor_execute", self._counted)

    def _counted(self, *_: object) -> None:
        self.statements += 1

    async def call(self, number: int) -> None:
        async with self._begin() as transaction:
            await transaction.execute(PAID, {"account": f"acct-{number}", "amount": 5000})
            for n in range(self._events):
                assert self._adds is not None
                written = self._adds(transaction, self.tables.outbox, number + n)
                if written is not None:
                    await written

    async def fill(self, n: int) -> None:  # noqa: ARG002 - callers bring what they add
        table = self.tables.outbox.table
        async with self.engine.begin() as connection:
            self._before = (await connection.execute(select(func.count()).select_from(table))).scalar_one()
        self.statements = 0

    async def check(self, n: int) -> None:
        asked = self.statements
        async with self.engine.begin() as connection:
            found = (await connection.execute(select(func.count()).select_from(self.tables.outbox.table))).scalar_one() - self._before
        if found != n * self._events:
            raise RuntimeError(f"{found} of {n * self._events} events were written")
        if self._adds is by_us and asked != 2 * n:
            raise RuntimeError(f"{asked} statements for {n} calls: more than the effect's and one for its events")


def by_us(transaction: AsyncConnection | AsyncSession, outbox: Any, number: int) -> None:
    """Add as our pages say."""
    payload = {"payment": number, "amount": 5000}
    outbox.add(transaction, OutboxMessage(topic="payments", key=f"acct-{number}", type="PaymentInitiated", payload=payload))


async def by_hand(transaction: AsyncConnection | AsyncSession, outbox: Any, number: int) -> None:
    """Insert into the same table; payload, id and partition have to come from somewhere."""
    key = f"acct-{number}"
    row = {
        "id": uuid4(),
        "aggregatetype": "payments",
        "aggregateid": key,
        "type": "PaymentInitiated",
        "payload": json.dumps({"payment": number, "amount": 5000}).encode(),
        "content_type": "application/json",
        "part": partition_of(None, key, 16),
    }
    await transaction.execute(statement(outbox.table), row)


_known: dict[Any, Any] = {}


def statement(table: Any) -> Any:
    """Return the INSERT, made once."""
    if table not in _known:
        _known[table] = insert(table).inline().values(created_at=func.now())
    return _known[table]


def contests(place: Place) -> Iterator[Contest]:
    """Yield each: by a connection and by a session, one caller and eight, one event and five."""
    for by_session in (False, True):
        for together in (1, 8):
            yield contest(place, by_session=by_session, together=together, events=1)
    yield contest(place, by_session=True, together=1, events=5)


def contest(place: Place, *, by_session: bool, together: int, events: int) -> Contest:
    """Compare ours with a hand-written INSERT, and with the effect alone."""
    here = partial(Adding, place, by_session=by_session, together=together, events=events)
    contestants: dict[str, Callable[[], Contestant]] = {
        HAND: partial(here, adds=by_hand),
        PLAIN: partial(here, adds=by_us, ordered=False),
        ORDERED: partial(here, adds=by_us, ordered=True),
        EFFECT: partial(here, adds=None),
    }
    way = "AsyncSession" if by_session else "AsyncConnection"
    callers = f"{together} caller{'s' if together > 1 else ''}"
    name = f"enqueue: {way}, {callers}" + (f", {events} events" if events > 1 else "")
    goals = [Goal(PLAIN, (HAND,), 0.95), Goal(ORDERED, (HAND,), 0.9)]
    return Contest(name=name, base=HAND, contestants=contestants, goals=goals)
