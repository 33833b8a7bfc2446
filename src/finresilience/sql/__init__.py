"""Outbox, inbox and idempotency keys in your own database, through SQLAlchemy: PostgreSQL and SQLite. Needs the extra `sqlalchemy`."""

from __future__ import annotations

from finresilience.sql.tables import Tables

__all__ = ["Tables"]
