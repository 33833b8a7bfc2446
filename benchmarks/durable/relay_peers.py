"""The peers on the same job, each set up as its pages advise, with the batch size that is asked for. Their clock stops at the last message.

Where they can, they delete what was published, as the floor does, and keep the order that they know how to keep.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from benchmarks.durable.contests import Contestant
from benchmarks.durable.places import ENGINE, KEYS, url

if TYPE_CHECKING:
    from benchmarks.durable.places import Place

LONGEST: Final = 60.0  # seconds of one run, before a peer is given up


class Peer(Contestant):
    """A peer with a database, a number of workers and a count of what was published."""

    def __init__(self, place: Place, *, batch: int, workers: int) -> None:
        self._batch, self._workers = batch, workers
        self._database = place.database()
        self._seen = self._wanted = 0
        self._all: asyncio.Event = asyncio.Event()
        self._done = 0.0

    async def _publish(self, *_: object) -> None:
        self._seen += 1
        if self._seen == self._wanted:
            self._done = time.perf_counter()
            self._all.set()

    async def run(self, n: int) -> float | None:
        self._seen, self._wanted = 0, n
        self._all.clear()
        await asyncio.wait_for(self._publish_all(), LONGEST)
        return self._done

    async def _publish_all(self) -> None:
        raise NotImplementedError

    async def check(self, n: int) -> None:
        if self._seen != n:
            raise RuntimeError(f"{self._seen} of {n} rows were published")


class TxOutbox(Peer):
    """txoutbox: rows leased, one relay at a time claims; ten keys at once."""

    async def open(self) -> None:
        asyncpg: Any = import_module("asyncpg")
        txoutbox: Any = import_module("txoutbox")
        postgres: Any = import_module("txoutbox.adapters.postgres")
        self._pool = await asyncpg.create_pool(self._database.socket_dsn, min_size=self._workers, max_size=self._workers)
        storage = postgres.PostgresStorage(self._pool, strict_ordering=True, delete_on_ack=True)
        await storage.create_schema()
        config = txoutbox.RelayConfig(batch_size=self._batch, lease=timedelta(seconds=600))
        self._relays = [txoutbox.Relay(storage, self._publish, config=config, worker_id=f"worker-{n}") for n in range(self._workers)]
        self._table = storage.qualified_table

    async def fill(self, n: int) -> None:
        insert = f"INSERT INTO {self._table} (topic, key, payload, headers) SELECT 'payments', 'acct-' || n % $1, "
        rows = "convert_to('{\"amount\": ' || n || '}', 'UTF8'), '{}' FROM generate_series(0, $2 - 1) s (n)"
        await self._pool.execute(f"TRUNCATE {self._table}")
        await self._pool.execute(insert + rows, KEYS, n)
        await self._pool.execute(f"VACUUM ANALYZE {self._table}")

    async def _publish_all(self) -> None:
        await asyncio.gather(*(self._drained(relay) for relay in self._relays))

    async def _drained(self, relay: Any) -> None:
        while self._seen < self._wanted:
            await relay.run_once()

    async def close(self) -> None:
        await self._pool.close()


class PgQueuer(Peer):
    """pgqueuer: a job queue; a queue manager and a connection for each worker."""

    async def open(self) -> None:
        asyncpg: Any = import_module("asyncpg")
        self._pgqueuer: Any = import_module("pgqueuer")
        logging.getLogger("pgqueuer").setLevel(logging.ERROR)
        self._first = await asyncpg.connect(self._database.socket_dsn)
        self._others = [await asyncpg.connect(self._database.socket_dsn) for _ in range(self._workers)]
        self._queries = self._pgqueuer.Queries(self._pgqueuer.AsyncpgDriver(self._first))
        await self._queries.install()

    async def fill(self, n: int) -> None:
        await self._first.execute("TRUNCATE pgqueuer, pgqueuer_log")
        await self._queries.enqueue(["publish"] * n, [b'{"amount": 1}'] * n, [0] * n)
        await self._first.execute("VACUUM ANALYZE pgqueuer")

    async def _publish_all(self) -> None:
        managers = [self._manager(connection) for connection in self._others]
        runs = [asyncio.create_task(manager.run(batch_size=self._batch)) for manager in managers]
        await self._all.wait()
        for manager in managers:
            manager.shutdown.set()
        await asyncio.gather(*runs)

    def _manager(self, connection: Any) -> Any:
        queries = self._pgqueuer.Queries(self._pgqueuer.AsyncpgDriver(connection))
        manager: Any = self._pgqueuer.QueueManager(queries)
        manager.entrypoint("publish")(self._publish)
        return manager

    async def close(self) -> None:
        for connection in (self._first, *self._others):
            await connection.close()


class FastStreamOutbox(Peer):
    """faststream-outbox: a subscriber with so many workers, which deletes in batches."""

    async def open(self) -> None:
        from sqlalchemy import MetaData
        from sqlalchemy.ext.asyncio import create_async_engine

        self._peer: Any = import_module("faststream_outbox")
        metadata = MetaData()
        self._table = self._peer.make_outbox_table(metadata)
        self._engine = create_async_engine(url(self._database, "asyncpg"), **ENGINE)
        async with self._engine.begin() as connection:
            await connection.run_sync(metadata.create_all)

    async def fill(self, n: int) -> None:
        from sqlalchemy import text

        rows = """SELECT 'payments', convert_to('{"amount": ' || n || '}', 'UTF8') FROM generate_series(0, CAST(:n AS integer) - 1) s (n)"""
        async with self._engine.begin() as connection:
            await connection.execute(text("TRUNCATE outbox"))
            await connection.execute(text(f"INSERT INTO outbox (queue, payload) {rows}".replace('"amount":', '"amount"\\:')), {"n": n})
        async with self._engine.connect() as connection:
            await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(text("VACUUM ANALYZE outbox"))

    async def _publish_all(self) -> None:
        broker = self._peer.OutboxBroker(self._engine, outbox_table=self._table, logger=None)
        options: dict[str, Any] = {"fetch_batch_size": self._batch, "terminal_flush_batch_size": self._batch, "min_fetch_interval": 0.01}

        async def publish(body: Any) -> None:
            await self._publish(body)

        broker.subscriber("payments", max_workers=self._workers, **options)(publish)
        async with broker:
            await self._all.wait()

    async def close(self) -> None:
        await self._engine.dispose()
