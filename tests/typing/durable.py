"""What a type checker must see of the durable rooms. Read by mypy --strict and pyright; never run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_type
from uuid import UUID

from sqlalchemy import MetaData, create_engine
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from finresilience import OutboxMessage, Relay, idempotent
from finresilience.durable.codecs import dataclass_codec
from finresilience.durable.seen import Seen
from finresilience.sql import (
    AsyncSqlIdempotencyStore,
    AsyncSqlInboxStore,
    AsyncSqlOutboxStore,
    SqlIdempotencyStore,
    SqlInboxStore,
    SqlOutboxStore,
    Tables,
    arun_in_transaction,
    run_in_transaction,
)

if TYPE_CHECKING:
    from finresilience.durable import (
        AsyncIdempotencyStore,
        AsyncInboxStore,
        AsyncOutboxStore,
        IdempotencyStore,
        InboxStore,
        OutboxRow,
        OutboxStore,
    )

tables = Tables(MetaData())
engine = create_engine("sqlite://")
aengine = create_async_engine("sqlite+aiosqlite://")

# --- stores are what the protocols say, sync or async by their engine ----------------------------------------------------------

assert_type(tables.idempotency.store(engine), SqlIdempotencyStore)
assert_type(tables.idempotency.store(aengine), AsyncSqlIdempotencyStore)
assert_type(tables.inbox.store(engine), SqlInboxStore)
assert_type(tables.inbox.store(aengine, park_after=3), AsyncSqlInboxStore)
assert_type(tables.outbox.store(engine), SqlOutboxStore)
assert_type(tables.outbox.store(aengine), AsyncSqlOutboxStore)

keys: IdempotencyStore[Session] = tables.idempotency.store(engine)
akeys: AsyncIdempotencyStore[AsyncSession] = tables.idempotency.store(aengine)
inbox: InboxStore[Session] = tables.inbox.store(engine)
ainbox: AsyncInboxStore[AsyncSession] = tables.inbox.store(aengine)
outbox: OutboxStore[Session] = tables.outbox.store(engine)
aoutbox: AsyncOutboxStore[AsyncSession] = tables.outbox.store(aengine)


# --- an operation keeps its signature ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Payment:
    id: str


def account_of(account: str, **_: object) -> str:
    return account


@idempotent(
    tables.idempotency.store(engine),
    codec=dataclass_codec(Payment),
    key=account_of,
    scope=account_of,
    fingerprint=account_of,
    lease=60.0,
    deadline=30.0,
)
def pay(account: str, *, amount: str) -> Payment:
    return Payment(account + amount)


@idempotent(
    tables.idempotency.store(aengine),
    codec=dataclass_codec(Payment),
    key=account_of,
    scope=account_of,
    fingerprint=account_of,
)
async def apay(account: str) -> Payment:
    return Payment(account)


assert_type(pay("acc_7", amount="50.00"), Payment)
pay("acc_7")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue] - an argument is missing


async def _awaited() -> None:
    assert_type(await apay("acc_7"), Payment)


# --- transactions --------------------------------------------------------------------------------------------------------------

sessions = sessionmaker(engine)
asessions = async_sessionmaker(aengine)
message = OutboxMessage(topic="payments", key="acc_7", type="Paid", payload={"amount": "50.00"})


def book(session: Session) -> str:
    assert_type(tables.outbox.add(session, message), UUID)
    with tables.idempotency.claim(session, "k", scope="s", request="r", codec=dataclass_codec(Payment)) as claim:
        claim.complete(Payment("pay_1"))
        claim.complete("pay_1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - the codec is for payments
    return "booked"


async def abook(session: AsyncSession) -> str:
    tables.outbox.add(session, message)
    async with tables.inbox.once(session, group="ledger", message_id="m") as fresh:
        assert_type(fresh, Seen)
    return "booked"


assert_type(tables.inbox.consume(sessions, book, group="ledger", message_id="m"), Seen)
assert_type(run_in_transaction(sessions.begin, book), str)


async def _consumed() -> None:
    assert_type(await tables.inbox.consume(asessions, abook, group="ledger", message_id="m"), Seen)
    assert_type(await arun_in_transaction(asessions.begin, abook), str)


# --- relays --------------------------------------------------------------------------------------------------------------------


async def publish(row: OutboxRow) -> None: ...


relay = Relay(tables.outbox.store(aengine), publish, batch=200)
