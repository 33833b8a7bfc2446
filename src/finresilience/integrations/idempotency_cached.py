"""What may be kept of a finished key, and what is to be believed of what was? The rulings of the cache; nothing waits. Internal.

It is never the guard. Only what is finished is cached, as the store told it outside of any transaction, and that never changes: an answer
from here is one that the store gave before. Whatever is wrong with the cache, the store is asked.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from finresilience._checks import name_of, positive_count, refuse, seconds_of
from finresilience.clock import obey, ruling_clock
from finresilience.durable.records import KeyState, Record, Replay

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from datetime import timedelta

    from finresilience.clock import Clock
    from finresilience.durable.records import Claim

VERSION: Final = 1
LONGEST: Final = 30 * 86_400.0  # seconds
_FINAL: Final = {str(state): state for state in (KeyState.COMPLETED, KeyState.FAILED_FINAL)}


class CacheClient(Protocol):
    """What is needed of a client, such as `valkey.Valkey` or `redis.Redis`."""

    def get(self, name: str, /) -> Any:
        """Return what is kept under a name, or None."""
        ...

    def set(self, name: str, value: str, /, *, px: int) -> Any:
        """Keep a value for so many milliseconds."""
        ...


class AsyncCacheClient(Protocol):
    """What is needed of an async client, such as `valkey.asyncio.Valkey`."""

    def get(self, name: str, /) -> Awaitable[Any]:
        """Return what is kept under a name, or None."""
        ...

    def set(self, name: str, value: str, /, *, px: int) -> Awaitable[Any]:
        """Keep a value for so many milliseconds."""
        ...


@final
@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """What a cache was good for.

    Args:
        hits: claims that were answered by it.
        misses: claims of which it knew nothing.
        stored: answers that it was given.
        rejected: what was found in it and could not be trusted: another version, another key, nonsense.
        errors: how often it failed, or took too long.
        skipped: claims that did not ask it, because it had just failed.
    """

    hits: int = 0
    misses: int = 0
    stored: int = 0
    rejected: int = 0
    errors: int = 0
    skipped: int = 0


class Cached:
    """What the sync and the async one share: all but the waiting."""

    def __init__(
        self,
        store: Any,
        client: Any,
        *,
        ttl: float | timedelta,
        timeout: float | timedelta = 0.05,
        rest: float | timedelta = 1.0,
        max_value: int = 1 << 16,
        prefix: str = "finresilience:idempotency",
        clock: Clock | None = None,
    ) -> None:
        if not callable(getattr(store, "claim", None)) or not callable(getattr(store, "mark_indeterminate", None)):
            refuse("store", store, "an IdempotencyStore, or an AsyncIdempotencyStore for AsyncCachedStore")
        if not callable(getattr(client, "get", None)) or not callable(getattr(client, "set", None)):
            refuse("client", client, "a client of Valkey or Redis")
        self._store = store
        self._client = client
        self._lives = seconds_of("ttl", ttl)
        if not 0.001 <= self._lives <= LONGEST:
            refuse("ttl", self._lives, f"0.001 to {LONGEST:.0f} seconds, and no more than you keep finished keys for")
        self._px = int(self._lives * 1000)
        self._timeout = seconds_of("timeout", timeout)
        self._rest = seconds_of("rest", rest, zero=True)
        self._max_value = positive_count("max_value", max_value)
        self._prefix = name_of("prefix", prefix)
        self._own_clock = clock
        self._clock = ruling_clock() if clock is None else clock
        self._counts = dict.fromkeys(("hits", "misses", "stored", "rejected", "errors", "skipped"), 0)
        self._resting_until = float("-inf")
        obey(self)

    def told_by(self, clock: Clock, /) -> None:
        """Follow the ruling clock. Internal: clocks call it."""
        if self._own_clock is None:
            self._clock, self._resting_until = clock, float("-inf")

    @property
    def max_response(self) -> int:
        """How many bytes a response, or the data of a recovery point, may have."""
        most: int = self._store.max_response
        return most

    def statistics(self) -> CacheStatistics:
        """Return what it was good for so far."""
        return CacheStatistics(**self._counts)

    def _name(self, scope: str, key: str) -> str | None:
        """Return under which name a key is kept, and nobody else's; it shows neither. None: the cache is not to be asked now."""
        if not isinstance(scope, str) or not isinstance(key, str):
            return None  # the store says what is wrong with them
        if self._clock.monotonic() < self._resting_until:
            self._counts["skipped"] += 1
            return None
        told = f"{len(scope)}:{scope}{key}".encode("utf-8", "surrogatepass")
        return f"{self._prefix}:{VERSION}:{sha256(told).hexdigest()}"

    def _failed(self) -> None:
        """Count a failure, and leave the cache alone for a while: a claim should not wait for what is down."""
        self._counts["errors"] += 1
        self._resting_until = self._clock.monotonic() + self._rest

    def _answer(self, name: str, found: Any, scope: str, key: str, fingerprint: str) -> Claim | None:
        """Return the answer that is kept, if it is this key's; None: ask the store, as also when the request is another one."""
        if found is None:
            self._counts["misses"] += 1
            return None
        record = _read(name, found, scope, key)
        if record is None:
            self._counts["rejected"] += 1
            return None
        if record.fingerprint != fingerprint:  # refused, unless the key was purged and is another's now: the store knows
            self._counts["misses"] += 1
            return None
        self._counts["hits"] += 1
        return Replay(record)

    def _kept(self, name: str, claim: Claim) -> str | None:
        """Return what to keep of what the store said outside of any transaction: of a finished key only."""
        if not isinstance(claim, Replay) or len(claim.record.response) > self._max_value or self._clock.monotonic() < self._resting_until:
            return None
        return _written(name, claim.record)


def _written(name: str, record: Record) -> str:
    """Return a record as text, which every client brings back as it was; it says whose it is, for clients have mixed answers up before."""
    told: dict[str, Any] = {
        "v": VERSION,
        "name": name,
        "fingerprint": record.fingerprint,
        "state": str(record.state),
        "status": record.status,
        "fence": record.fence,
        "response": b64encode(record.response).decode("ascii"),
    }
    return json.dumps(told)


def _read(name: str, found: Any, scope: str, key: str) -> Record | None:
    """Return the record that is kept under this name, or None if it cannot be trusted."""
    try:
        told = json.loads(found)
        if told["v"] != VERSION or told["name"] != name:
            return None
        fingerprint, status, fence = told["fingerprint"], told["status"], told["fence"]
        state, response = _FINAL[told["state"]], b64decode(told["response"], validate=True)
    except (ValueError, TypeError, KeyError, RecursionError, AttributeError):
        return None
    if not isinstance(fingerprint, str) or not isinstance(status, str) or not isinstance(fence, int):
        return None
    return Record(scope=scope, key=key, fingerprint=fingerprint, state=state, fence=fence, status=status, response=response)
