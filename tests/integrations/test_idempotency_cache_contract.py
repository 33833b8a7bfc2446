"""A store behind a cache keeps the laws of every store."""

from __future__ import annotations

from typing import Any

from finresilience.durable.amemory_idempotency import AsyncMemoryIdempotencyStore
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.integrations.idempotency_cache import AsyncCachedStore, CachedStore
from finresilience.testing import contracts
from tests.integrations.idempotency_shelf import AsyncShelf, Shelf


class Forgetting(MemoryIdempotencyStore):
    """The books, whose purge empties the cache too: the contract wants a forgotten key to be new at once, and a cache takes its ttl."""

    def __init__(self, shelf: Shelf, clock: Any) -> None:
        super().__init__(clock=clock)
        self.shelf = shelf

    def purge(self, **terms: Any) -> int:
        self.shelf.kept.clear()
        return super().purge(**terms)


class TestCachedStore(contracts.IdempotencyStoreContract):
    def make_store(self) -> Any:
        shelf = Shelf(self.clock)
        self.books = Forgetting(shelf, self.clock)
        return CachedStore[Any](self.books, shelf, ttl=100.0, clock=self.clock)

    def transaction(self, store: Any) -> Any:
        return self.books.transaction()


class TestAsyncCachedStore(contracts.IdempotencyStoreContract):
    def make_store(self) -> Any:
        shelf = Shelf(self.clock)
        self.books = Forgetting(shelf, self.clock)
        return AsyncCachedStore[Any](AsyncMemoryIdempotencyStore(self.books), AsyncShelf(shelf), ttl=100.0, clock=self.clock)

    def transaction(self, store: Any) -> Any:
        return self.books.transaction()
