"""Which tables does this library keep in your database? They hang on your MetaData, so that your migrations see them like your own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, final, overload

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
from finresilience.sql.sources import dialect_of


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
        dialects: Mapping[str, Dialect] = DIALECTS,
    ) -> None:
        if not isinstance(metadata, MetaData):
            refuse("metadata", metadata, "your MetaData, such as Base.metadata")
        positive_count("partitions", partitions, most=MOST_PARTITIONS)
        known = _named(names or {}, prefix)
        self.idempotency: IdempotencyTable = IdempotencyTable(drawn.idempotency(metadata, known, schema)["idempotency"], dialects)
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
