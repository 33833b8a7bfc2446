"""What the tests of relays share: events, a broker, a relay on a told clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finresilience.classify.classifier import ErrorClassifier
from finresilience.durable.messages import OutboxMessage, OutboxRow
from finresilience.durable.relay import Relay
from finresilience.outcome import NON_RETRYABLE, RETRYABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.durable.memory_outbox import MemoryOutbox
    from finresilience.durable.memory_outbox_async import AsyncMemoryOutbox


class Down(Exception): ...


class Lost(Exception): ...


class No(Exception): ...


RULES = ErrorClassifier({Down: RETRYABLE, No: NON_RETRYABLE})


def event(key: str = "acc_1", n: int = 0, **more: Any) -> OutboxMessage:
    plain: dict[str, Any] = {"topic": "payments", "key": key, "type": "Paid", "payload": {"n": n}}
    return OutboxMessage(**plain | more)


def committed(store: MemoryOutbox | AsyncMemoryOutbox, *messages: OutboxMessage) -> None:
    with store.transaction() as transaction:
        for message in messages:
            store.add(transaction, message)


def told(row: OutboxRow) -> tuple[str, int]:
    return (row.message.key, row.message.json()["n"])


def relay_of(store: Any, publisher: Callable[[OutboxRow], object], **more: Any) -> Relay:
    plain: dict[str, Any] = {"classify": RULES, "listeners": (), "chance": lambda: 0.5, "lease": 30.0, "batch": 10}
    return Relay(store, publisher, **plain | more)


def firsts(arrived: list[tuple[str, int]], key: str) -> list[int]:
    """Return the first arrivals of a key, in order."""
    return list(dict.fromkeys(n for known, n in arrived if known == key))
