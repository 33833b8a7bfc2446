"""SQLite: leased keys and the relay's batches through aiosqlite, beside the same by SQLAlchemy on aiosqlite, and by the standard library.

Both at synchronous=FULL, which is what money needs, and at NORMAL, which may lose the last commits when the power goes.
"""

from __future__ import annotations

import json
import sqlite3
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    event,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.durable.callers import Callers
from benchmarks.durable.contests import Contest, Contestant, Goal
from benchmarks.durable.keys import SCOPE, answer, told
from benchmarks.durable.places import KEYS
from benchmarks.durable.relay_ours import PARTITIONS, PARTS
from finresilience.durable.codecs import json_codec
from finresilience.durable.outbox import LeaseTerms
from finresilience.durable.records import Claimed
from finresilience.sql import Tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from benchmarks.durable.places import Place

HAND, OURS, STDLIB = "SQLAlchemy on aiosqlite, by hand", "ours, on aiosqlite", "sqlite3 by hand, blocking"
DRAWN: Final = MetaData()
HAND_KEY: Final = Table(
    "hand_key",
    DRAWN,
    Column("scope", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("state", String, nullable=False),
    Column("response", LargeBinary),
    Column("lease_until", BigInteger),
)
HAND_OUTBOX: Final = Table(
    "hand_outbox",
    DRAWN,
    Column("id", Integer, primary_key=True),
    Column("event", String, nullable=False, unique=True),
    Column("topic", String, nullable=False),
    Column("key", String, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("owner", String),
    Column("lease_until", BigInteger),
)
CLAIMED: Final = insert(HAND_KEY).on_conflict_do_nothing().returning(HAND_KEY.c.state)
FINISHED: Final = (
    update(HAND_KEY)
    .where(HAND_KEY.c.scope == bindparam("in_scope"), HAND_KEY.c.key == bindparam("at_key"))
    .values(state="completed", response=bindparam("answer"))
)
LEASED: Final = (
    update(HAND_OUTBOX)
    .where(
        HAND_OUTBOX.c.id.in_(
            select(HAND_OUTBOX.c.id)
            .where(or_(HAND_OUTBOX.c.lease_until.is_(None), HAND_OUTBOX.c.lease_until < bindparam("now")))
            .order_by(HAND_OUTBOX.c.id)
            .limit(bindparam("most"))
        )
    )
    .values(owner="me", lease_until=bindparam("until"))
    .returning(HAND_OUTBOX.c.id, HAND_OUTBOX.c.event, HAND_OUTBOX.c.topic, HAND_OUTBOX.c.key, HAND_OUTBOX.c.payload)
)
GONE: Final = delete(HAND_OUTBOX).where(HAND_OUTBOX.c.id.in_(bindparam("ids", expanding=True)), HAND_OUTBOX.c.owner == "me")


class OnAFile(Callers):
    """A file in WAL, an async engine on it, our tables and the hand's."""

    def __init__(self, place: Place, *, synchronous: str, **tables: Any) -> None:
        super().__init__()
        self.path = place.file("async")
        self.metadata = MetaData()
        self.tables = Tables(self.metadata, **tables)
        self.engine: AsyncEngine = create_async_engine(f"sqlite+aiosqlite:///{self.path}")
        self.pragmas = ("PRAGMA journal_mode=WAL", f"PRAGMA synchronous={synchronous}")

    async def open(self) -> None:
        @event.listens_for(self.engine.sync_engine, "connect")
        def _(connection: Any, __: object) -> None:
            cursor = connection.cursor()
            for pragma in self.pragmas:
                cursor.execute(pragma)
            cursor.close()

        async with self.engine.begin() as connection:
            await connection.run_sync(DRAWN.create_all)
            await connection.run_sync(self.metadata.create_all)

    async def close(self) -> None:
        await self.engine.dispose()


# ---------------------------------------------------------------- leased keys


class Leased(OnAFile):
    """Ours: claim and complete, each a transaction."""

    async def open(self) -> None:
        await super().open()
        self._store = self.tables.idempotency.store(self.engine)
        self._codec = json_codec()

    async def call(self, number: int) -> None:
        row = told(number)
        claim = await self._store.claim(SCOPE, row["key"], fingerprint=row["fingerprint"], lease=60.0)
        assert isinstance(claim, Claimed)
        await self._store.complete(claim.token, self._codec.encode(answer(number)))


class LeasedByHand(OnAFile):
    """The same by SQLAlchemy Core, two transactions."""

    async def call(self, number: int) -> None:
        row = told(number) | {"lease_until": time.time_ns()}
        async with self.engine.begin() as connection:
            if (await connection.execute(CLAIMED, row)).first() is None:
                raise RuntimeError("the key is taken")
        async with self.engine.begin() as connection:
            done = {"in_scope": SCOPE, "at_key": row["key"], "answer": json.dumps(answer(number)).encode()}
            await connection.execute(FINISHED, done)


class LeasedByStdlib(OnAFile):
    """The same by sqlite3, in the caller's thread: the floor of floors, which holds up the event loop."""

    async def open(self) -> None:
        await super().open()
        self._raw = sqlite3.connect(self.path, isolation_level=None)
        for pragma in self.pragmas:
            self._raw.execute(pragma)

    async def call(self, number: int) -> None:
        row = told(number) | {"lease_until": time.time_ns()}
        made = "INSERT INTO hand_key VALUES (:scope, :key, :fingerprint, :state, NULL, :lease_until) ON CONFLICT DO NOTHING RETURNING state"
        if not self._raw.execute(made, row).fetchall():
            raise RuntimeError("the key is taken")
        done = "UPDATE hand_key SET state = 'completed', response = ? WHERE scope = ? AND key = ?"
        self._raw.execute(done, (json.dumps(answer(number)).encode(), SCOPE, row["key"]))

    async def close(self) -> None:
        self._raw.close()
        await super().close()


# ---------------------------------------------------------------- the relay's batches


class Store(OnAFile):
    """Ours: fetch and settle, batch by batch."""

    def __init__(self, place: Place, *, batch: int, **more: Any) -> None:
        super().__init__(place, **more, partitions=PARTITIONS, keep_published=False)
        self._batch = batch

    async def fill(self, n: int) -> None:
        names = "id, aggregatetype, aggregateid, type, payload, content_type, part, created_at"
        values = "lower(hex(randomblob(16))), 'payments', :key, 'PaymentInitiated', :payload, 'application/json', :part, 0"
        rows = [{"key": f"acct-{k % KEYS}", "payload": b'{"amount": 5000}', "part": PARTS[k % KEYS]} for k in range(n)]
        async with self.engine.begin() as connection:
            await connection.execute(text(f"INSERT INTO fin_outbox ({names}) VALUES ({values})"), rows)

    async def call(self, number: int) -> None:
        raise NotImplementedError

    async def run(self, n: int) -> float | None:
        store = self.tables.outbox.store(self.engine)
        leases = (await store.claim("me", at_most=PARTITIONS, terms=LeaseTerms(lease=60.0, window=self._batch))).leases
        settled = 0
        for lease in leases:
            while rows := (await store.fetch(lease, limit=self._batch)).rows:
                settled += await store.settle(lease, [row.seq for row in rows])
        done = time.perf_counter()
        for lease in leases:
            await store.release(lease)
        if settled != n:
            raise RuntimeError(f"{settled} of {n} rows were settled")
        return done


class RowsByHand(Store):
    """Lease rows and delete them, by SQLAlchemy Core."""

    async def fill(self, n: int) -> None:
        made = "INSERT INTO hand_outbox (event, topic, key, payload) VALUES (lower(hex(randomblob(16))), 'payments', :key, :payload)"
        rows = [{"key": f"acct-{k % KEYS}", "payload": b'{"amount": 5000}'} for k in range(n)]
        async with self.engine.begin() as connection:
            await connection.execute(text(made), rows)

    async def run(self, n: int) -> float | None:
        done = 0
        while rows := await self._claimed():
            async with self.engine.begin() as connection:
                await connection.execute(GONE, {"ids": [row.id for row in rows]})
            done += len(rows)
        if done != n:
            raise RuntimeError(f"{done} of {n} rows were published")
        return None

    async def _claimed(self) -> Any:
        now = time.time_ns()
        async with self.engine.begin() as connection:
            return (await connection.execute(LEASED, {"now": now, "until": now + 60 * 10**9, "most": self._batch})).fetchall()


def contests(place: Place) -> Iterator[Contest]:
    """Yield each, at both settings."""
    for synchronous in ("FULL", "NORMAL"):
        here = partial(partial, place=place, synchronous=synchronous)
        keys: dict[str, Callable[[], Contestant]] = {HAND: here(LeasedByHand), OURS: here(Leased), STDLIB: here(LeasedByStdlib)}
        yield Contest(name=f"sqlite: leased key, {synchronous}", base=HAND, contestants=keys, goals=[Goal(OURS, (HAND,), 5.0)])
    for synchronous in ("FULL", "NORMAL"):
        for batch in (100, 500):
            here = partial(partial, place=place, synchronous=synchronous, batch=batch)
            rows: dict[str, Callable[[], Contestant]] = {HAND: here(RowsByHand), OURS: here(Store)}
            yield Contest(name=f"sqlite: store, batch {batch}, {synchronous}", base=HAND, contestants=rows, rows=10_000)
