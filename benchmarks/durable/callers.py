"""Callers: so many at once, who make one call after the other, each with a number that nobody had before."""

from __future__ import annotations

import asyncio
import threading
from abc import abstractmethod
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, Column, Identity, MetaData, String, Table, insert
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.durable.contests import Contestant
from benchmarks.durable.places import ENGINE, url
from finresilience.sql import Tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from benchmarks.durable.places import Place

BUSINESS: Final = MetaData()
PAYMENTS: Final = Table(
    "payment",
    BUSINESS,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("account", String(255), nullable=False),
    Column("amount", BigInteger, nullable=False),
)
PAID: Final = insert(PAYMENTS).inline()  # the effect; nobody asks for its id


class Callers(Contestant):
    """`together` callers share the calls; what each call does, a subclass says."""

    together = 1

    def __init__(self) -> None:
        self._numbers: Iterator[int] = count()

    @abstractmethod
    async def call(self, number: int) -> None:
        """Make one call."""

    async def run(self, n: int) -> float | None:
        left = iter(range(n))

        async def caller() -> None:
            for _ in left:
                await self.call(next(self._numbers))

        await asyncio.gather(*(caller() for _ in range(self.together)))
        return None


class ThreadedCallers(Contestant):
    """The same with threads, for sync drivers."""

    together = 1

    def __init__(self) -> None:
        self._numbers: Iterator[int] = count()

    @abstractmethod
    def call(self, number: int) -> None:
        """Make one call."""

    async def run(self, n: int) -> float | None:
        left = iter(range(n))
        failures: list[Exception] = []

        def caller() -> None:
            try:
                for _ in left:
                    self.call(next(self._numbers))
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=caller) for _ in range(self.together)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return None


class OnPostgres(Callers):
    """Callers with an async engine, our tables and one of their own."""

    def __init__(self, place: Place, *, together: int = 1, driver: str = "asyncpg", **tables: Any) -> None:
        super().__init__()
        self.together = together
        self.database = place.database()
        self.metadata = MetaData()
        self.tables = Tables(self.metadata, **tables)
        self.engine: AsyncEngine = create_async_engine(url(self.database, driver), **ENGINE)

    async def open(self) -> None:
        async with self.engine.begin() as connection:
            await connection.run_sync(BUSINESS.create_all)
            await connection.run_sync(self.metadata.create_all)

    async def close(self) -> None:
        await self.engine.dispose()
