"""What the tests of the command line share: a service in memory, a command run in this process, stores that note what is written."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from finresilience.cli.main import main
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.durable.memory_inbox import MemoryInboxStore
from finresilience.durable.memory_outbox import MemoryOutbox
from finresilience.durable.messages import OutboxMessage
from finresilience.durable.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from finresilience.durable.messages import OutboxRow

SIGNED = ("--apply", "--by", "ana", "--reason", "ticket 7")


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def records(self) -> list[Any]:
        return [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]


class Shell:
    """Runs commands over the object that `--app bank:app` names."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def let(self, **names: Any) -> None:
        """Let the service's module have these names."""
        self._monkeypatch.setitem(sys.modules, "bank", SimpleNamespace(**names))

    def __call__(self, *argv: object, app: str | None = "bank:app") -> Said:
        self._capsys.readouterr()
        code = main([*map(str, argv), *(() if app is None else ("--app", app))])
        told = self._capsys.readouterr()
        return Said(code, told.out, told.err)


class Noting:
    """A store that passes on every call, and notes its name."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.store, name)
        if not callable(found):
            return found

        def asked(*args: Any, **more: Any) -> Any:
            self.asked.append(name)
            return found(*args, **more)

        return asked


class Waiting:
    """A store whose answers must be awaited."""

    def __init__(self, store: Any) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.store, name)
        if not callable(found):
            return found

        async def asked(*args: Any, **more: Any) -> Any:
            return found(*args, **more)

        return asked


class LedgerDown(Exception): ...


def event(key: str, **more: Any) -> OutboxMessage:
    plain: dict[str, Any] = {"topic": "payments", "key": key, "type": "Paid", "payload": {"n": 1}}
    return OutboxMessage(**plain | more)


def outbox_with(*, published: int = 0, dead: int = 0, pending: int = 0, partitions: int = 4) -> MemoryOutbox:
    """Return an outbox in which so many events, each of a key of its own, ended so."""
    store = MemoryOutbox(partitions=partitions)
    filled(store, *(event(f"good_{n}") for n in range(published)))
    ran(store, lambda _: None)
    filled(store, *(event(f"bad_{n}") for n in range(dead)))
    ran(store, broken)
    filled(store, *(event(f"new_{n}") for n in range(pending)))
    return store


def filled(store: MemoryOutbox, *messages: OutboxMessage) -> None:
    with store.transaction() as mine:
        for message in messages:
            store.add(mine, message)


def broken(_: OutboxRow) -> None:
    raise LedgerDown


def ran(store: MemoryOutbox, publish: Callable[[OutboxRow], object]) -> None:
    Relay(store, publish, max_attempts=1, listeners=()).run_sync(until_idle=True)


def keys() -> MemoryIdempotencyStore:
    """Return keys in each state: pay_1 completed, pay_2 indeterminate, pay_3 failed."""
    store = MemoryIdempotencyStore()
    for key in ("pay_1", "pay_2", "pay_3"):
        token: Any = store.claim("bank/charge", key, fingerprint="f", lease=60.0, owner="worker-1")
        if key == "pay_1":
            store.complete(token.token, b'{"private": "yes"}', status="201")
        elif key == "pay_2":
            store.mark_indeterminate(token.token, reason="read timeout")
        else:
            store.fail(token.token, b"\xff\x00")
    return store


def inbox() -> MemoryInboxStore:
    """Return an inbox with one parked message."""
    store = MemoryInboxStore(park_after=2)
    for _ in range(2):
        store.failed(group="ledger", message_id="m1", reason="LedgerDown", delivery_id="d9")
    return store
