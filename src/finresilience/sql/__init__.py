"""Outbox, inbox and idempotency keys in your own database, through SQLAlchemy: PostgreSQL and SQLite. Needs the extra `sqlalchemy`."""

from __future__ import annotations

from finresilience.sql.checking import SchemaError
from finresilience.sql.claims import KeyAnsweredError, TransactionClaim
from finresilience.sql.idempotency import AsyncSqlIdempotencyStore, SqlIdempotencyStore
from finresilience.sql.inbox import AsyncSqlInboxStore, SqlInboxStore
from finresilience.sql.outbox import AsyncSqlOutboxStore, SqlOutboxStore
from finresilience.sql.tables import Tables
from finresilience.sql.transactions import arun_in_transaction, run_in_transaction

__all__ = [
    "AsyncSqlIdempotencyStore",
    "AsyncSqlInboxStore",
    "AsyncSqlOutboxStore",
    "KeyAnsweredError",
    "SchemaError",
    "SqlIdempotencyStore",
    "SqlInboxStore",
    "SqlOutboxStore",
    "Tables",
    "TransactionClaim",
    "arun_in_transaction",
    "run_in_transaction",
]
