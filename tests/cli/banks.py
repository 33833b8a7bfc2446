"""A service whose tables are in a database: events, keys and messages in every state that a person may look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import MetaData, create_engine, event as events
from sqlalchemy.pool import NullPool

from finresilience.durable.messages import OutboxMessage
from finresilience.durable.relay import Relay
from finresilience.sql import Tables
from tests.cli.commands import LedgerDown

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from finresilience.durable.messages import OutboxRow


class Bank:
    """Tables and an engine, with 6 published events, 2 dead letters, 1 event behind one of them, 3 keys and 1 parked message."""

    def __init__(self, url: str, *, schema: str | None = None) -> None:
        self.url = url
        self.engine: Any = create_engine(url, poolclass=NullPool)
        if url.startswith("sqlite"):
            events.listen(self.engine, "connect", _quick)
        metadata = MetaData()
        self.tables = Tables(metadata, schema=schema, partitions=4)
        metadata.create_all(self.engine)
        self.outbox = self.tables.outbox.store(self.engine)
        self.keys = self.tables.idempotency.store(self.engine)
        self.inbox = self.tables.inbox.store(self.engine, park_after=2)

    def filled(self) -> Bank:
        self.add(f"acc_{n}" for n in range(8))
        Relay(self.outbox, _publish, max_attempts=1, listeners=()).run_sync(until_idle=True)
        self.add(["acc_7"])
        for key in ("pay_1", "pay_2", "pay_3"):
            claim: Any = self.keys.claim("bank/charge", key, fingerprint="f", lease=60.0, owner="worker-1")
            if key == "pay_1":
                self.keys.complete(claim.token, b'{"ok": true}')
            elif key == "pay_2":
                self.keys.mark_indeterminate(claim.token, reason="read timeout")
        for _ in range(2):
            self.inbox.failed(group="ledger", message_id="m1", reason="LedgerDown", delivery_id="d9")
        return self

    def add(self, accounts: Iterable[str]) -> None:
        with self.engine.begin() as own:
            for account in accounts:
                self.tables.outbox.add(own, OutboxMessage(topic="payments", key=account, type="PaymentInitiated", payload={"n": 1}))

    def older(self, seconds: int) -> None:
        """Let whatever was published, finished or begun have been so for longer, in SQLite."""
        with self.engine.begin() as own:
            for table, columns in (("fin_outbox", ("published_at",)), ("fin_idempotency", ("began_at", "changed_at"))):
                for column in columns:
                    own.exec_driver_sql(f"UPDATE {table} SET {column} = {column} - {seconds * 1_000_000}")


def _quick(raw: Any, _: object) -> None:
    raw.execute("PRAGMA synchronous = OFF")  # no power is cut here


def _publish(row: OutboxRow) -> None:
    if row.message.key in {"acc_6", "acc_7"}:
        raise LedgerDown


def contents(path: Path) -> list[str]:
    """Return everything that is in a SQLite file."""
    import sqlite3

    with sqlite3.connect(path) as connection:
        told = list(connection.iterdump())
    connection.close()
    return told
