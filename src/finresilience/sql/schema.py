"""Which tables are there, and why is each column? Their names are Debezium's where Debezium has one.

Indexes follow what is asked in a hot path, and no further: an index on a column that every update changes makes each update dearer.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.types import TypeDecorator

from finresilience.durable.messages import MAX_WORD
from finresilience.durable.records import MAX_TEXT
from finresilience.sql.dialects import DIALECTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeEngine

Big: Final = BigInteger().with_variant(Integer(), "sqlite")  # the one that SQLite counts up by itself
Blob: Final = LargeBinary()

NAMES: Final = (
    "outbox",
    "outbox_dead",
    "outbox_partition",
    "outbox_relay",
    "inbox",
    "inbox_failure",
    "inbox_mark",
    "idempotency",
)


@final
class Instant(TypeDecorator[datetime]):
    """A moment by the database's clock: `timestamptz`, or whole microseconds since 1970 in SQLite."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = DateTime(timezone=True)
    cache_ok: bool | None = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(BigInteger() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return None if value is None else DIALECTS[dialect.name].instant(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else DIALECTS[dialect.name].moment(value)


def _word(name: str, length: int = MAX_TEXT, **more: Any) -> Column[str]:
    return Column(name, String(length), nullable=False, **more)


def _count(name: str, kind: Any = None, default: str = "0") -> Column[int]:
    return Column(name, kind or Integer, nullable=False, server_default=text(default))


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False, server_default=text("false"))


def _event() -> list[Column[Any]]:
    """Return the columns of an event, pending or dead."""
    return [
        Column("id", Uuid, nullable=False),
        _word("aggregatetype", MAX_WORD),
        _word("aggregateid", MAX_WORD),
        _word("type", MAX_WORD),
        Column("payload", Blob, nullable=False),
        Column("headers", Text, nullable=False, server_default=text("'{}'")),
        Column("tenant", String(MAX_WORD)),
        _word("content_type", MAX_WORD),
        _count("schema_version", default="1"),
        Column("traceparent", String(55)),
        Column("part", SmallInteger, nullable=False),
        _count("attempts"),
        _count("takeovers"),
        Column("created_at", Instant, nullable=False),
    ]


def outbox(metadata: MetaData, names: Mapping[str, str], schema: str | None) -> dict[str, Table]:
    """Return the tables of an outbox."""
    pending, dead = names["outbox"], names["outbox_dead"]
    return {
        "outbox": Table(
            pending,
            metadata,
            Column("seq", Big, primary_key=True),
            *_event(),
            Column("available_at", Instant),  # nothing for a row that was never tried
            _flag("suspect"),
            _count("in_hand", BigInteger),  # the epoch that delivers it as a suspect
            Column("published_at", Instant),
            UniqueConstraint("id", name=f"uq_{pending}_id"),
            _partly(f"ix_{pending}_pending", "part", "seq", where="published_at IS NULL"),
            _partly(
                f"ix_{pending}_held",
                "part",
                "aggregateid",
                "seq",
                where="published_at IS NULL AND (available_at IS NOT NULL OR suspect OR in_hand <> 0)",
            ),
            _partly(f"ix_{pending}_published", "published_at", where="published_at IS NOT NULL"),
            schema=schema,
            sqlite_autoincrement=True,  # a place is never given twice, also after the last row is gone
        ),
        "outbox_dead": Table(
            dead,
            metadata,
            Column("seq", BigInteger, primary_key=True, autoincrement=False),
            *_event(),
            _word("reason", 16),
            Column("failure_kind", String(300)),
            Column("failure_where", String(300)),
            _flag("parks"),
            Column("died_at", Instant, nullable=False),
            UniqueConstraint("id", name=f"uq_{dead}_id"),
            _partly(f"ix_{dead}_parks", "part", "aggregateid", where="parks"),
            schema=schema,
        ),
        "outbox_partition": Table(
            names["outbox_partition"],
            metadata,
            Column("part", SmallInteger, primary_key=True, autoincrement=False),
            _word("owner", 300, server_default=text("''")),
            _count("epoch", BigInteger),
            Column("lease_until", Instant),
            _count("held_rows"),  # how many rows its owner may have in hand
            _flag("fetched"),  # whether it has had any
            schema=schema,
        ),
        "outbox_relay": Table(
            names["outbox_relay"],
            metadata,
            Column("owner", String(300), primary_key=True),
            Column("lease_until", Instant, nullable=False),
            schema=schema,
        ),
    }


def inbox(metadata: MetaData, names: Mapping[str, str], schema: str | None) -> dict[str, Table]:
    """Return the tables of an inbox."""
    seen, failed, mark = names["inbox"], names["inbox_failure"], names["inbox_mark"]
    return {
        "inbox": Table(
            seen,
            metadata,
            _word("tenant"),
            _word("consumer_group"),
            _word("message_id"),
            Column("handled_at", Instant, nullable=False),
            PrimaryKeyConstraint("tenant", "consumer_group", "message_id", name=f"pk_{seen}"),
            Index(f"ix_{seen}_handled_at", "handled_at"),
            schema=schema,
        ),
        "inbox_failure": Table(
            failed,
            metadata,
            _word("tenant"),
            _word("consumer_group"),
            _word("message_id"),
            _count("failures"),
            Column("first_at", Instant, nullable=False),
            Column("last_at", Instant, nullable=False),
            Column("reason", String(1000), nullable=False),
            _word("delivery_id"),
            _flag("parked"),
            PrimaryKeyConstraint("tenant", "consumer_group", "message_id", name=f"pk_{failed}"),
            schema=schema,
        ),
        "inbox_mark": Table(
            mark,
            metadata,
            _word("tenant"),
            _word("consumer_group"),
            _word("entity"),
            Column("position", BigInteger, nullable=False),
            PrimaryKeyConstraint("tenant", "consumer_group", "entity", name=f"pk_{mark}"),
            schema=schema,
        ),
    }


def idempotency(metadata: MetaData, names: Mapping[str, str], schema: str | None) -> dict[str, Table]:
    """Return the table of idempotency keys."""
    keys = names["idempotency"]
    return {
        "idempotency": Table(
            keys,
            metadata,
            Column("fence", Big, primary_key=True),  # counted up by every claim, also past a release
            _word("scope"),
            _word("key"),
            _word("fingerprint"),
            _word("state", 16),
            _word("owner"),
            _count("takeovers"),
            Column("lease_until", Instant, nullable=False),
            Column("recovery_point", String(MAX_TEXT)),
            Column("data", Blob),
            Column("response", Blob),
            _word("status", server_default=text("''")),
            Column("reason", String(1000), nullable=False, server_default=text("''")),
            Column("evidence", String(1000), nullable=False, server_default=text("''")),
            Column("began_at", Instant, nullable=False),
            Column("changed_at", Instant, nullable=False),
            UniqueConstraint("scope", "key", name=f"uq_{keys}_scope_key"),
            Index(f"ix_{keys}_began_at", "began_at"),
            _partly(f"ix_{keys}_unsettled", "began_at", where="state IN ('in_progress', 'indeterminate')"),
            schema=schema,
            sqlite_autoincrement=True,
        )
    }


def _partly(name: str, *columns: str, where: str) -> Index:
    return Index(name, *columns, postgresql_where=text(where), sqlite_where=text(where))
