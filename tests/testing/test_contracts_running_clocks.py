"""The laws hold where time does not stand still: stores on a clock of their own, which runs on whenever somebody looks at it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from finresilience.durable.amemory_idempotency import AsyncMemoryIdempotencyStore
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.durable.memory_inbox import MemoryInboxStore
from finresilience.durable.memory_outbox import MemoryOutbox
from finresilience.durable.memory_outbox_async import AsyncMemoryOutbox
from finresilience.testing import contracts
from finresilience.testing.clock import NEW_YEAR

TICK = 0.0005  # seconds from one look to the next


class Running:
    """A database's clock: nobody can hold it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        self.seconds += TICK
        return self.seconds

    def utc(self) -> datetime:
        return NEW_YEAR + timedelta(seconds=self.monotonic())

    async def sleep(self, seconds: float, /) -> None:
        self.sleep_sync(seconds)

    def sleep_sync(self, seconds: float, /) -> None:
        self.seconds += seconds


class OnAClockThatRuns:
    """What a contract is told of such a store."""

    in_process = False
    tolerance = 0.5
    examples = 5
    rounds = 1

    def running(self) -> Running:
        self.time = Running()
        return self.time

    def advance(self, store: Any, seconds: float) -> None:
        del store
        self.time.sleep_sync(seconds)


class TestIdempotencyStore(OnAClockThatRuns, contracts.IdempotencyStoreContract):
    def make_store(self) -> MemoryIdempotencyStore:
        return MemoryIdempotencyStore(clock=self.running())


class TestAsyncIdempotencyStore(OnAClockThatRuns, contracts.IdempotencyStoreContract):
    backends = ("asyncio",)

    def make_store(self) -> AsyncMemoryIdempotencyStore:
        return AsyncMemoryIdempotencyStore(MemoryIdempotencyStore(clock=self.running()))


class TestInbox(OnAClockThatRuns, contracts.InboxContract):
    def make_store(self) -> MemoryInboxStore:
        return MemoryInboxStore(clock=self.running())


class TestOutbox(OnAClockThatRuns, contracts.OutboxStoreContract):
    def make_store(self) -> MemoryOutbox:
        return MemoryOutbox(clock=self.running(), partitions=16)


class TestRelay(OnAClockThatRuns, contracts.RelayContract):
    def make_store(self) -> MemoryOutbox:
        return MemoryOutbox(clock=self.running(), partitions=4)


class TestAsyncRelay(OnAClockThatRuns, contracts.RelayContract):
    backends = ("trio",)

    def make_store(self) -> AsyncMemoryOutbox:
        return AsyncMemoryOutbox(MemoryOutbox(clock=self.running(), partitions=4))
