"""What would a careful hand write for a relay? It leases rows, not partitions: fast, and in no order once there are two of it."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ARRAY, BigInteger, MetaData, Table, any_, bindparam, delete, func, literal, or_, select, text, update
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.durable.contests import Contestant
from benchmarks.durable.places import ENGINE, KEYS, url
from benchmarks.durable.relay_ours import nothing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.durable.places import Place

MADE: Final = """
    CREATE TABLE hand_outbox (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event uuid NOT NULL UNIQUE,
        topic varchar(255) NOT NULL, key varchar(255) NOT NULL, type varchar(255) NOT NULL,
        payload bytea NOT NULL, headers jsonb NOT NULL DEFAULT '{}', tenant varchar(255),
        attempts integer NOT NULL DEFAULT 0, created_at timestamptz NOT NULL DEFAULT now(), owner varchar(300), lease_until timestamptz,
        published_at timestamptz
    )
"""
FILL: Final = """
    INSERT INTO hand_outbox (event, topic, key, type, payload)
    SELECT uuidv7(), 'payments', 'acct-' || n % $1, 'PaymentInitiated', convert_to('{"amount": ' || n || '}', 'UTF8')
    FROM generate_series(0, $2 - 1) AS s (n)
"""
CLAIM: Final = """
    UPDATE hand_outbox SET owner = $1, lease_until = now() + interval '60 seconds', attempts = attempts + 1
    WHERE id IN (SELECT id FROM hand_outbox WHERE lease_until IS NULL OR lease_until < now() ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED)
    RETURNING id, event, topic, key, type, payload, headers, tenant, attempts, created_at
"""
CLAIM_OPEN: Final = CLAIM.replace(
    "WHERE lease_until IS NULL OR lease_until < now()", "WHERE published_at IS NULL AND coalesce(lease_until < now(), true)"
)
NOTED: Final = "UPDATE hand_outbox SET published_at = now(), owner = NULL, lease_until = NULL WHERE id = ANY($1::bigint[]) AND owner = $2"
GONE: Final = "DELETE FROM hand_outbox WHERE id = ANY($1::bigint[]) AND owner = $2"


class Rows(Contestant):
    """asyncpg and a table: claim by UPDATE RETURNING, publish, DELETE. Two statements a batch, each its own transaction."""

    claim, settle = CLAIM, GONE

    def __init__(self, place: Place, *, batch: int, workers: int, publishes: bool) -> None:
        self._database = place.database()
        self._batch, self._workers, self._publishes = batch, workers, publishes
        self._connections: list[Any] = []

    async def open(self) -> None:
        asyncpg: Any = import_module("asyncpg")
        for _ in range(self._workers):
            self._connections.append(await asyncpg.connect(self._database.socket_dsn))
        await self._connections[0].execute(MADE)

    async def fill(self, n: int) -> None:
        first = self._connections[0]
        await first.execute("TRUNCATE hand_outbox")
        await first.execute(FILL, KEYS, n)
        await first.execute("VACUUM ANALYZE hand_outbox")

    async def run(self, n: int) -> float | None:
        told = await asyncio.gather(*(self._worker(f"worker-{place}", one) for place, one in enumerate(self._connections)))
        if sum(told) != n:
            raise RuntimeError(f"{sum(told)} of {n} rows were published")
        return None

    async def _worker(self, owner: str, connection: Any) -> int:
        done = 0
        while rows := await connection.fetch(self.claim, owner, self._batch):
            if self._publishes:
                for row in rows:
                    await nothing(row)
            await connection.execute(self.settle, [row["id"] for row in rows], owner)
            done += len(rows)
        return done

    async def check(self, n: int) -> None:
        left = await self._connections[0].fetchval("SELECT count(*) FROM hand_outbox WHERE published_at IS NULL")
        if left:
            raise RuntimeError(f"it left {left} of {n} rows")

    async def close(self) -> None:
        for one in self._connections:
            await one.close()


class KeptRows(Rows):
    """The same, but rows stay, with the time at which they were published; and what is pending has an index, as ours has."""

    claim, settle = CLAIM_OPEN, NOTED

    async def open(self) -> None:
        await super().open()
        await self._connections[0].execute("CREATE INDEX ON hand_outbox (id) WHERE published_at IS NULL")


class CoreRows(Rows):
    """The same by SQLAlchemy Core, on the same driver."""

    def __init__(self, place: Place, **more: Any) -> None:
        super().__init__(place, **more)
        self._engine = create_async_engine(url(self._database, "asyncpg"), **ENGINE)

    async def open(self) -> None:
        await super().open()
        async with self._engine.connect() as connection:
            await connection.run_sync(self._drawn)

    def _drawn(self, connection: Any) -> None:
        t = Table("hand_outbox", MetaData(), autoload_with=connection).c
        table = t.id.table
        free = (
            select(t.id)
            .where(or_(t.lease_until.is_(None), t.lease_until < func.now()))
            .order_by(t.id)
            .limit(bindparam("most"))
            .with_for_update(skip_locked=True)
        )
        self._claim = (
            update(table)
            .where(t.id.in_(free))
            .values(owner=bindparam("who"), lease_until=func.now() + text("interval '60 seconds'"), attempts=t.attempts + literal(1))
            .returning(t.id, t.event, t.topic, t.key, t.type, t.payload, t.headers, t.tenant, t.attempts, t.created_at)
        )
        self._gone = delete(table).where(t.id == any_(bindparam("ids", type_=ARRAY(BigInteger))), t.owner == bindparam("who"))

    async def _worker(self, owner: str, connection: Any) -> int:  # noqa: ARG002 - the engine has its own
        done = 0
        while rows := await self._claimed(owner):
            if self._publishes:
                for row in rows:
                    await nothing(row)
            async with self._engine.begin() as mine:
                await mine.execute(self._gone, {"ids": [row.id for row in rows], "who": owner})
            done += len(rows)
        return done

    async def _claimed(self, owner: str) -> Sequence[Any]:
        async with self._engine.begin() as mine:
            return (await mine.execute(self._claim, {"who": owner, "most": self._batch})).fetchall()

    async def close(self) -> None:
        await self._engine.dispose()
        await super().close()
