"""Which tables does this library keep in your database? They hang on your MetaData, so that your migrations see them like your own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, final, overload

from sqlalchemy import MetaData, Table
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from finresilience._checks import positive_count, refuse
from finresilience.errors import ConfigurationError
from finresilience.sql import schema as drawn
from finresilience.sql.dialects import DIALECTS, Dialect
from finresilience.sql.idempotency import AsyncSqlIdempotencyStore, SqlIdempotencyStore
from finresilience.sql.idempotency_deeds import IdempotencyDeeds
from finresilience.sql.inbox import AsyncSqlInboxStore, SqlInboxStore
from finresilience.sql.inbox_deeds import InboxDeeds
from finresilience.sql.outbox import AsyncSqlOutboxStore, SqlOutboxStore, Statements, made_whole
from finresilience.sql.outbox_pending import Pending
from finresilience.sql.sources import dialect_of


if TYPE_CHECKING:
    from uuid import UUID

    from finresilience.durable.messages import OutboxMessage
    from finresilience.sql.statements import Deed

MOST_PARTITIONS: Final = 1024


@final
class Tables:
    """The tables of outbox, inbox and idempotency keys, on your MetaData.

    Args:
        metadata: yours: `Base.metadata`, or a `MetaData()`.
        schema: where the tables are, if not in the default one.
        names: other names for some of them, such as `{"outbox": "events"}`.
        prefix: of every other name.
        partitions: of the outbox; fixed for the life of the table.
        keep_published: whether rows stay for a replay, until they are purged; or are deleted once they are published, which is faster.
        ordered: whether events of a key are published in the order of their commits. Without it, adding takes no lock.

    Raises:
        ConfigurationError: if an argument cannot work.
    """

    def __init__(
        self,
        metadata: MetaData,
        *,
        schema: str | None = None,
        names: Mapping[str, str] | None = None,
        prefix: str = "fin_",
        partitions: int = 16,
        keep_published: bool = True,
        ordered: bool = True,
        dialects: Mapping[str, Dialect] = DIALECTS,
    ) -> None:
        if not isinstance(metadata, MetaData):
            refuse("metadata", metadata, "your MetaData, such as Base.metadata")
        positive_count("partitions", partitions, most=MOST_PARTITIONS)
        known = _named(names or {}, prefix)
        self.idempotency: IdempotencyTable = IdempotencyTable(drawn.idempotency(metadata, known, schema)["idempotency"], dialects)
        self.outbox: OutboxTables = OutboxTables(
            drawn.outbox(metadata, known, schema), dialects, partitions=partitions, keeps=keep_published, ordered=ordered
        )
        self.inbox: InboxTables = InboxTables(drawn.inbox(metadata, known, schema), dialects)


def _named(names: Mapping[str, str], prefix: str) -> dict[str, str]:
    if unknown := sorted(set(names) - set(drawn.NAMES)):
        refuse("names", ", ".join(unknown), f"other names for {', '.join(drawn.NAMES)}")
    return {one: names.get(one, f"{prefix}{one}") for one in drawn.NAMES}


def spelled(table: Table, dialect: str) -> str:
    """Return the table's name as statements write it."""
    engine_dialect: Any = _spelling(dialect)
    name: str = engine_dialect.identifier_preparer.format_table(table)
    if ":" in name or "%" in name:
        raise ConfigurationError(f"the table name {name} cannot be used: give one of letters, digits and underscores")
    return name


def _spelling(dialect: str) -> Any:
    from sqlalchemy.dialects import registry

    return registry.load(dialect)()


@final
class IdempotencyTable:
    """Idempotency keys: `store(engine)` for the leased shape, `claim(session, ...)` for the same transaction."""

    def __init__(self, table: Table, dialects: Mapping[str, Dialect]) -> None:
        self.table: Table = table
        self._dialects = dialects
        self._deeds: dict[str, IdempotencyDeeds] = {}

    def deeds(self, dialect: str) -> IdempotencyDeeds:
        """Return the statements for a dialect. Internal."""
        known = self._deeds.get(dialect)
        if known is None:
            name = spelled(self.table, dialect)
            whole = f"{_spelling(dialect).identifier_preparer.quote_schema(self.table.schema)}." if self.table.schema else ""
            sequence = f"{whole}sqlite_sequence" if dialect == "sqlite" else ""
            known = self._deeds[dialect] = IdempotencyDeeds(name, self._dialects[dialect], sequence=sequence)
        return known

    @overload
    def store(self, engine: Engine, *, max_response: int = ...) -> SqlIdempotencyStore: ...

    @overload
    def store(self, engine: AsyncEngine, *, max_response: int = ...) -> AsyncSqlIdempotencyStore: ...

    def store(self, engine: Engine | AsyncEngine, *, max_response: int = 1 << 20) -> SqlIdempotencyStore | AsyncSqlIdempotencyStore:
        """Return a store whose own transactions come from this engine; awaited, if the engine is async."""
        deeds = self.deeds(dialect_of(engine))
        if isinstance(engine, AsyncEngine):
            return AsyncSqlIdempotencyStore(engine, self.table, deeds, max_response=max_response)
        return SqlIdempotencyStore(engine, self.table, deeds, max_response=max_response)


@final
class InboxTables:
    """Markers, failures and high-water marks: `store(engine)`, `once(session, ...)` and `consume(sessionmaker, ...)`."""

    def __init__(self, tables: Mapping[str, Table], dialects: Mapping[str, Dialect]) -> None:
        self.table: Table = tables["inbox"]
        self.failures: Table = tables["inbox_failure"]
        self.marks: Table = tables["inbox_mark"]
        self._dialects = dialects
        self._deeds: dict[str, InboxDeeds] = {}

    def deeds(self, dialect: str) -> InboxDeeds:
        """Return the statements for a dialect. Internal."""
        known = self._deeds.get(dialect)
        if known is None:
            names = (spelled(table, dialect) for table in (self.table, self.failures, self.marks))
            known = self._deeds[dialect] = InboxDeeds(*names, self._dialects[dialect])
        return known

    @overload
    def store(self, engine: Engine, *, park_after: int = ...) -> SqlInboxStore: ...

    @overload
    def store(self, engine: AsyncEngine, *, park_after: int = ...) -> AsyncSqlInboxStore: ...

    def store(self, engine: Engine | AsyncEngine, *, park_after: int = 5) -> SqlInboxStore | AsyncSqlInboxStore:
        """Return an inbox whose own transactions come from this engine; awaited, if the engine is async."""
        deeds = self.deeds(dialect_of(engine))
        if isinstance(engine, AsyncEngine):
            return AsyncSqlInboxStore(engine, self.table, deeds, park_after=park_after)
        return SqlInboxStore(engine, self.table, deeds, park_after=park_after)


@final
class OutboxTables:
    """Events to be published: `add(session, message)` beside the effect, and `store(engine)` for a `Relay`."""

    def __init__(
        self, tables: Mapping[str, Table], dialects: Mapping[str, Dialect], *, partitions: int, keeps: bool, ordered: bool
    ) -> None:
        self.table: Table = tables["outbox"]
        self.dead: Table = tables["outbox_dead"]
        self.owners: Table = tables["outbox_partition"]
        self.relays: Table = tables["outbox_relay"]
        self.partitions: int = partitions
        self._dialects = dialects
        self._keeps = keeps
        self._ordered = ordered
        self._known: dict[str, Statements] = {}
        self._pending = Pending(self.table, self._write)

    def statements(self, dialect: str) -> Statements:
        """Return the statements for a dialect. Internal."""
        known = self._known.get(dialect)
        if known is None:
            outbox, dead, owners, relays = (spelled(table, dialect) for table in (self.table, self.dead, self.owners, self.relays))
            known = self._known[dialect] = Statements(
                (outbox, dead, owners, relays),
                self._dialects[dialect],
                partitions=self.partitions,
                keeps=self._keeps,
                ordered=self._ordered,
            )
        return known

    def _write(self, dialect: str, messages: list[OutboxMessage], given: list[OutboxMessage]) -> Deed[None]:
        return self.statements(dialect).writes.add(messages, given)

    def add(self, transaction: object, message: OutboxMessage) -> UUID:
        """Write a message when the caller's transaction commits, and return its id. Not awaited, in an AsyncSession either.

        Args:
            transaction: a Session, an AsyncSession, a Connection or an AsyncConnection.
            message: what happened.

        Raises:
            ConfigurationError: if one of them is something else.
            StoreFullError: if the transaction has added too many.
            DuplicateMessageError: when it commits, if the outbox holds this id.
        """
        whole = made_whole(message)
        self._pending.add(transaction, whole, given=message.id is not None)
        assert whole.id is not None  # noqa: S101 - it was made whole
        return whole.id

    @overload
    def store(self, engine: Engine) -> SqlOutboxStore: ...

    @overload
    def store(self, engine: AsyncEngine) -> AsyncSqlOutboxStore: ...

    def store(self, engine: Engine | AsyncEngine) -> SqlOutboxStore | AsyncSqlOutboxStore:
        """Return a store for a relay, whose transactions come from this engine; awaited, if the engine is async."""
        statements = self.statements(dialect_of(engine))
        if isinstance(engine, AsyncEngine):
            return AsyncSqlOutboxStore(engine, self, statements)
        return SqlOutboxStore(engine, self, statements)
