"""Our relay on a backlog: whole, with a publisher that does nothing; and its store alone, which fetches and settles."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.durable.contests import Contestant
from benchmarks.durable.places import ENGINE, KEYS, url
from finresilience.durable.messages import partition_of
from finresilience.durable.outbox import LeaseTerms
from finresilience.durable.relay import Relay
from finresilience.sql import Tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncEngine

    from benchmarks.durable.places import Place
    from finresilience.durable.messages import OutboxRow
    from finresilience.durable.outbox import PartitionLease

PARTITIONS: Final = 16
PARTS: Final = [partition_of(None, f"acct-{n}", PARTITIONS) for n in range(KEYS)]
FILL: Final = """
    INSERT INTO {table} (id, aggregatetype, aggregateid, type, payload, content_type, part, created_at)
    SELECT uuidv7(), 'payments', 'acct-' || n % {keys}, 'PaymentInitiated', convert_to('{{"amount": ' || n || '}}', 'UTF8'),
        'application/json', (CAST(:parts AS integer[]))[1 + n % {keys}], clock_timestamp()
    FROM generate_series(0, :n - 1) AS s (n)
"""


class Backlog(Contestant):
    """Rows of many keys, committed and not published."""

    def __init__(self, place: Place, *, batch: int, workers: int, keeps: bool, driver: str = "asyncpg") -> None:
        self._database = place.database()
        self._driver = driver
        self._batch, self._workers = batch, workers
        self._metadata = MetaData()
        self._tables = Tables(self._metadata, partitions=PARTITIONS, keep_published=keeps)
        self._engine: AsyncEngine = create_async_engine(url(self._database, driver), **ENGINE)

    async def open(self) -> None:
        async with self._engine.begin() as connection:
            await connection.run_sync(self._metadata.create_all)

    async def fill(self, n: int) -> None:
        name = self._tables.outbox.table.name
        async with self._engine.begin() as connection:
            await connection.execute(text(f"TRUNCATE {name}"))
            await connection.execute(text(FILL.format(table=name, keys=KEYS)), {"n": n, "parts": PARTS})
        async with self._engine.connect() as connection:
            alone = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await alone.execute(text(f"VACUUM ANALYZE {name}"))

    async def check(self, n: int) -> None:
        stands = await self._tables.outbox.store(self._engine).statistics()
        if stands.pending or stands.dead or stands.owned:
            raise RuntimeError(f"it left {stands.pending} of {n} rows unpublished, {stands.dead} dead, {stands.owned} partitions owned")

    async def close(self) -> None:
        await self._engine.dispose()


class Store(Backlog):
    """Fetch and settle, batch by batch, partition by partition."""

    async def run(self, n: int) -> float | None:
        settled, leases = await self._drained()
        done = time.perf_counter()
        if settled != n:
            raise RuntimeError(f"{settled} of {n} rows were settled")
        store = self._tables.outbox.store(self._engine)
        for lease in leases:
            await store.release(lease)
        return done

    async def _drained(self) -> tuple[int, Sequence[PartitionLease]]:
        each = PARTITIONS // self._workers
        told = await asyncio.gather(*(self._worker(f"worker-{n}", each) for n in range(self._workers)))
        return sum(settled for settled, _ in told), [lease for _, leases in told for lease in leases]

    async def _worker(self, owner: str, at_most: int) -> tuple[int, Sequence[PartitionLease]]:
        store = self._tables.outbox.store(self._engine)
        leases = (await store.claim(owner, at_most=at_most, terms=LeaseTerms(lease=60.0, window=self._batch))).leases
        settled = 0
        for lease in leases:
            while rows := (await store.fetch(lease, limit=self._batch)).rows:
                settled += await store.settle(lease, [row.seq for row in rows])
        return settled, leases


class Counted:
    """Our store, watched from outside: when were all rows settled?"""

    def __init__(self, store: Any, count: list[int], n: int, done: list[float]) -> None:
        self._store, self._count, self._n, self._done = store, count, n, done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def settle(self, lease: PartitionLease, published: Sequence[int], /) -> int:
        noted: int = await self._store.settle(lease, published)
        self._count[0] += noted
        if self._count[0] == self._n:
            self._done.append(time.perf_counter())
        return noted


class Whole(Backlog):
    """The relay as a user runs it; each worker is a relay of its own, with its share of the partitions."""

    def __init__(self, place: Place, *, settings: dict[str, Any] | None = None, **more: Any) -> None:
        super().__init__(place, **more)
        self._settings = settings or {}
        self.last: dict[str, int] | None = None  # the highest seq of each key, while the order is watched
        self.disorder = 0

    async def run(self, n: int) -> float | None:
        count, done = [0], list[float]()
        self.last = {} if n <= KEYS else None  # watched in the runs before the first round, which are short
        relays = [self._relay(Counted(self._tables.outbox.store(self._engine), count, n, done)) for _ in range(self._workers)]
        await asyncio.gather(*(relay.run(until_idle=True) for relay in relays))
        published = sum(relay.statistics()["published"] for relay in relays)
        if published != n or count[0] != n or self.disorder:
            raise RuntimeError(f"of {n} rows {published} were published and {count[0]} settled, {self.disorder} out of order")
        return done[0]

    def _relay(self, store: Any) -> Relay:
        numbers: dict[str, Any] = {
            "batch": self._batch,
            "settle_every": self._batch,
            "lease": 300.0,
            "partitions_at_most": PARTITIONS // self._workers,
        }
        return Relay(store, nothing if self.last is None else self._watching, **numbers | self._settings)

    async def _watching(self, row: OutboxRow) -> None:
        assert self.last is not None
        key = row.message.key
        self.disorder += self.last.get(key, 0) > row.seq
        self.last[key] = row.seq


async def nothing(_: object) -> None:
    """Publish, to nobody."""
