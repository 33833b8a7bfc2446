"""What does a provider remember of idempotency keys? The request, the answer, and until when the first one is at work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, final

from finresilience._checks import positive_count, seconds_of
from finresilience.testing.provider_words import Order, Receipt

if TYPE_CHECKING:
    from datetime import timedelta


@final
@dataclass(slots=True)
class Kept:
    """What is known of one key: `receipt` is None until the first request has an answer that stays."""

    body: object
    at: float
    receipt: Receipt | None = None
    busy_until: float = 0.0


@final
class Keys:
    """Remember answers by key: within limits of number and age, as providers do. What is still at work is never forgotten.

    Args:
        limit: how many; beyond that the oldest are forgotten.
        kept_for: seconds after which a key is forgotten, and a request with it is a new one.
    """

    __slots__ = ("_kept", "_limit", "_seconds")

    def __init__(self, *, limit: int, kept_for: float | timedelta = inf) -> None:
        self._limit = positive_count("keys", limit)
        self._seconds = seconds_of("keys_kept_for", kept_for, infinite=True)
        self._kept: dict[str, Kept] = {}

    def answer(self, order: Order, now: float) -> Receipt | None:
        """Return what a key that came before is answered with: the stored receipt, 409 or 422. None: it is new, or there is none."""
        kept = None if order.key is None else self._kept.get(order.key)
        if kept is None:
            return None
        at_work = kept.receipt is None or now < kept.busy_until
        if not at_work and now - kept.at >= self._seconds:
            del self._kept[order.key or ""]
            return None
        if kept.body != order.body:
            return Receipt(422, "key_reused", order.operation, order.reference)
        if kept.receipt is None or at_work:
            return Receipt(409, "key_in_use", order.operation, order.reference)
        return replace(kept.receipt, replayed=True)

    def keep(self, order: Order, receipt: Receipt | None, now: float, *, busy_until: float = 0.0) -> Kept:
        """Remember the answer to a new key, or with None that there will be one, and return what is remembered."""
        kept = Kept(order.body, now, receipt, busy_until)
        if order.key is not None:
            self._kept[order.key] = kept
            if len(self._kept) > self._limit:
                self._forget(now)
        return kept

    def _forget(self, now: float) -> None:
        done = (key for key, kept in self._kept.items() if kept.receipt is not None and now >= kept.busy_until)
        oldest = next(done, None)
        if oldest is not None:
            del self._kept[oldest]

    def __len__(self) -> int:
        return len(self._kept)
