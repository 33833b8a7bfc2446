"""What does a provider tell afterwards, how often, in which order, and how is it signed? As in Standard Webhooks."""

from __future__ import annotations

import hmac
import json
from base64 import b64decode, b64encode
from bisect import insort
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, final

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.testing.faults import FaultKind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from finresilience.testing.faults import Fault

TOLERANCE: Final = 300.0  # seconds: what Standard Webhooks advises
AGAIN: Final = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0)  # waits before a delivery that was not taken comes again
_PREFIX: Final = "whsec_"
_OTHER: Final = {"succeeded": "declined", "declined": "succeeded"}


@final
@dataclass(frozen=True, slots=True)
class Event:
    """Something the provider tells: it has one id, however often it is told.

    Attributes:
        id: the `webhook-id`.
        operation: of what, such as "charge".
        status: what became of it: "succeeded" or "declined".
        reference: the caller's own name of the payment.
        at: when it happened, in seconds of the provider's clock.
        data: all of it, as it goes into the body.
    """

    id: str
    operation: str
    status: str
    reference: str
    at: float
    data: Mapping[str, Any] = field(hash=False)

    @property
    def type(self) -> str:
        """The type of the event, such as "charge.succeeded"."""
        return f"{self.operation}.{self.status}"

    def contradicted(self) -> Event:
        """Return the event that says the other final status, under an id of its own."""
        other = _OTHER.get(self.status, self.status)
        return replace(self, id=f"{self.id}x", status=other, data={**self.data, "status": other})


@final
@dataclass(frozen=True, slots=True)
class Delivery:
    """One request that the provider makes to your endpoint: `handle(delivery.headers, delivery.body)`.

    Attributes:
        event: what it tells.
        headers: `webhook-id`, `webhook-timestamp` and `webhook-signature`.
        body: the bytes that are signed.
        attempt: 1 for the first; more after `redeliver`.
        forged: whether the signature is wrong. For tests: whoever receives it must find that out by `verify`.
    """

    event: Event
    headers: Mapping[str, str] = field(hash=False, repr=False)
    body: bytes = field(repr=False)
    attempt: int = 1
    forged: bool = False


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the `webhook-signature` of Standard Webhooks, version 1.

    Raises:
        ConfigurationError: if the secret is none; the message does not show it.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + b64encode(hmac.digest(_key(secret), signed, sha256)).decode()


def verify(delivery: Delivery, *secrets: str, now: datetime | None = None, tolerance: float | timedelta = TOLERANCE) -> bool:
    """Return whether one of these secrets has signed exactly this; with `now`, also whether the timestamp is near it.

    A header may hold several signatures, and several secrets are in force while they are rotated.

    Raises:
        ConfigurationError: if no secret is given, or one is no secret, or `now` has no time zone.
    """
    if not secrets:
        refuse("secrets", secrets, "one secret or more, such as provider.secret")
    if now is not None and now.tzinfo is None:
        refuse("now", now, "an aware datetime, such as clock.utc()")
    tolerance = seconds_of("tolerance", tolerance, zero=True)
    given = delivery.headers.get("webhook-signature", "").split(" ")
    message_id, timestamp = delivery.headers.get("webhook-id", ""), delivery.headers.get("webhook-timestamp", "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 13):
        return False
    if now is not None and abs(now.timestamp() - int(timestamp)) > tolerance:
        return False
    wanted = [sign(secret, message_id, int(timestamp), delivery.body) for secret in secrets]
    return any(hmac.compare_digest(one.encode(), other.encode()) for one in wanted for other in given)


def secret_of(seed: str) -> str:
    """Return the secret that belongs to this seed."""
    return _PREFIX + b64encode(sha256(f"secret|{seed}".encode()).digest()).decode()


def _key(secret: str) -> bytes:
    try:
        key = b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (AttributeError, ValueError):
        key = b""
    if not key:  # said here, where the secret is not in the chain of errors
        refuse("secret", secret, f'base64, as in Standard Webhooks: "{_PREFIX}..."')
    return key


@final
@dataclass(slots=True, order=True)
class _Due:
    at: float
    number: int
    event: Event = field(compare=False)
    forged: bool = field(compare=False, default=False)
    attempt: int = field(compare=False, default=1)


@final
class Webhooks:
    """What is still to be told, in the order in which it will be. A core: it is told the time, and its user holds the lock.

    Args:
        limit: how many wait at most; beyond that the oldest are lost, and counted.

    Attributes:
        dropped: how many events a fault dropped.
        overflowed: how many deliveries were lost because nobody fetched them.
    """

    __slots__ = ("_behind", "_due", "_limit", "_number", "dropped", "overflowed")

    def __init__(self, limit: int) -> None:
        self._limit = positive_count("webhooks", limit)
        self._due: list[_Due] = []
        self._behind: list[_Due] = []  # those in `_due` that are told after the one that follows
        self._number = 0
        self.dropped: int = 0
        self.overflowed: int = 0

    def post(self, event: Event, fault: Fault | None, now: float) -> None:
        """Let an event be told, as the fault says."""
        kind = None if fault is None else fault.kind
        seconds = 0.0 if fault is None else fault.seconds
        if kind is FaultKind.WEBHOOK_DROPPED:
            self.dropped += 1
            return
        if kind is FaultKind.WEBHOOK_CONTRADICTS:
            self._put(event.contradicted(), now)
        late = kind in {FaultKind.WEBHOOK_LATE, FaultKind.WEBHOOK_REORDERED}
        put = self._put(event, now + seconds if late else now, forged=kind is FaultKind.WEBHOOK_FORGED)
        if kind is FaultKind.WEBHOOK_TWICE:
            self._put(event, now)
        if kind is FaultKind.WEBHOOK_REORDERED:
            self._behind.append(put)
        else:
            self._follow(put, now)

    def again(self, delivery: Delivery, now: float) -> bool:
        """Let a delivery that was not taken come again later; False if it has come as often as it will."""
        if not 1 <= delivery.attempt <= len(AGAIN):
            return False
        self._put(delivery.event, now + AGAIN[delivery.attempt - 1], forged=delivery.forged, attempt=delivery.attempt + 1)
        return True

    def take(self, now: float) -> tuple[Event, bool, int] | None:
        """Return the next event that is due, whether it is forged, and its attempt; None if nothing is due."""
        if not self._due or self._due[0].at > now:
            return None
        first = self._due.pop(0)
        self._behind = [one for one in self._behind if one is not first]
        return first.event, first.forged, first.attempt

    def next_at(self) -> float | None:
        """Return when the next one is due, or None if nothing waits."""
        return self._due[0].at if self._due else None

    def __len__(self) -> int:
        return len(self._due)

    def _put(self, event: Event, at: float, *, forged: bool = False, attempt: int = 1) -> _Due:
        self._number += 1
        put = _Due(at, self._number, event, forged, attempt)
        insort(self._due, put)
        if len(self._due) > self._limit:
            lost = self._due.pop(0)
            self._behind = [one for one in self._behind if one is not lost]
            self.overflowed += 1
        return put

    def _follow(self, leader: _Due, now: float) -> None:
        """Put those that wait to be overtaken right behind the one that overtakes them, unless their time came before."""
        waiting = [one for one in reversed(self._behind) if one.at > now]
        self._behind = []
        for one in waiting:
            self._due.remove(one)
            self._number += 1
            one.at, one.number = leader.at, self._number
            insort(self._due, one)


def delivered(event: Event, secret: str, *, utc: datetime, now: float, forged: bool, attempt: int) -> Delivery:
    """Return the request that tells this event, signed at this time; a forged one by somebody who does not know the secret."""
    happened = (utc - timedelta(seconds=now - event.at)).isoformat()
    told = {"type": event.type, "timestamp": happened, "data": dict(event.data)}
    body = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
    timestamp = int(utc.timestamp())
    signature = sign(secret_of(f"forger|{event.id}") if forged else secret, event.id, timestamp, body)
    headers = {"content-type": "application/json", "webhook-id": event.id, "webhook-timestamp": str(timestamp)}
    return Delivery(event, {**headers, "webhook-signature": signature}, body, attempt, forged)
