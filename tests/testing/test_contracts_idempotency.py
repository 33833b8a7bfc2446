"""The contract of idempotency stores: our own stores keep it, and a stranger's is proven in a few lines."""

from __future__ import annotations

import os

from finresilience.durable.amemory_idempotency import AsyncMemoryIdempotencyStore
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.testing import contracts

DEEP = bool(os.environ.get("FINRESILIENCE_DEEP"))
EXAMPLES, SCHEDULES = (1_000, 300) if DEEP else (60, 15)


class TestTheMemoryStore(contracts.IdempotencyStoreContract):
    examples, schedules = EXAMPLES, SCHEDULES

    def make_store(self) -> MemoryIdempotencyStore:
        return MemoryIdempotencyStore(clock=self.clock, max_response=4096)


class TestTheAsyncMemoryStore(contracts.IdempotencyStoreContract):
    examples, schedules = EXAMPLES // 3, SCHEDULES  # two backends, and a hop between threads for each step

    def make_store(self) -> AsyncMemoryIdempotencyStore:
        return AsyncMemoryIdempotencyStore(MemoryIdempotencyStore(clock=self.clock, max_response=4096))
