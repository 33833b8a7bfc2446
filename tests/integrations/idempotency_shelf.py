"""A cache in a dict, whose time is told, and a store behind it."""

from __future__ import annotations

from typing import Any

import anyio

from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.durable.records import Replay
from finresilience.integrations.idempotency_cache import CachedStore, CacheStatistics
from finresilience.testing import ManualClock


class Shelf:
    """A cache in a dict, whose time is told; `fault` is raised by each question."""

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.clock = ManualClock() if clock is None else clock
        self.kept: dict[str, tuple[Any, float]] = {}
        self.fault: Exception | None = None
        self.asked = 0

    def get(self, name: str) -> Any:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        value, until = self.kept.get(name, (None, 0.0))
        return value if until > self.clock.monotonic() else None

    def set(self, name: str, value: Any, *, px: int) -> bool:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        self.kept[name] = (value, self.clock.monotonic() + px / 1000)
        return True


class AsyncShelf:
    """A shelf that is awaited; it answers never, if it hangs."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.hangs = False

    async def _pause(self) -> None:
        if self.hangs:
            await anyio.sleep_forever()
        await anyio.lowlevel.checkpoint()

    async def get(self, name: str) -> Any:
        await self._pause()
        return self.shelf.get(name)

    async def set(self, name: str, value: Any, *, px: int) -> Any:
        await self._pause()
        return self.shelf.set(name, value, px=px)


class Counted:
    """The books, and how often they were asked for a claim."""

    def __init__(self, books: MemoryIdempotencyStore) -> None:
        self.books, self.claims = books, 0

    def claim(self, *args: Any, **kwargs: Any) -> Any:
        self.claims += 1
        return self.books.claim(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.books, name)


class World:
    """A store behind a cache."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock()
        self.shelf = Shelf(self.clock)
        self.books = MemoryIdempotencyStore(clock=self.clock)
        self.counted: Any = Counted(self.books)
        given: dict[str, Any] = {"ttl": 100.0, "clock": self.clock, **options}
        self.store = CachedStore[Any](self.counted, self.shelf, **given)

    def claim(self, key: str = "k1", scope: str = "m_1", fingerprint: str = "f1", **more: Any) -> Any:
        return self.store.claim(scope, key, fingerprint=fingerprint, lease=60.0, **more)

    def finished(self, key: str = "k1", scope: str = "m_1", answer: bytes = b"paid") -> None:
        """Finish a key, and let it be cached."""
        self.store.complete(self.claim(key, scope).token, answer, status="201")
        assert isinstance(self.claim(key, scope), Replay)

    @property
    def was(self) -> CacheStatistics:
        return self.store.statistics()
