"""Which tables does this library keep in your database? They hang on your MetaData, so that your migrations see them like your own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar, final, overload

from sqlalchemy import MetaData, Table
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

from finresilience._checks import positive_count, refuse
from finresilience.durable.codecs import json_codec
from finresilience.durable.consuming import aconsume, consume
from finresilience.durable.records import text_of
from finresilience.errors import ConfigurationError
from finresilience.sql import schema as drawn
from finresilience.sql.checking import acheck, check, ddl
from finresilience.sql.claims import LEASE, TransactionClaim, fingerprint_for
from finresilience.sql.dialects import DIALECTS, Dialect
from finresilience.sql.idempotency import AsyncSqlIdempotencyStore, SqlIdempotencyStore
from finresilience.sql.idempotency_deeds import IdempotencyDeeds
from finresilience.sql.inbox import AsyncSqlInboxStore, Once, SqlInboxStore, marking, place
from finresilience.sql.inbox_deeds import InboxDeeds
from finresilience.sql.links import is_to_be_retried
from finresilience.sql.outbox import AsyncSqlOutboxStore, SqlOutboxStore, Statements, made_whole
from finresilience.sql.outbox_pending import Pending
from finresilience.sql.sources import dialect_of
from finresilience.sql.transactions import ATTEMPTS, async_engine_of, engine_of
from finresilience.sql.within import dialect_within

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import timedelta
    from uuid import UUID

    from sqlalchemy.engine import Engine
    from typing_extensions import Unpack

    from finresilience.durable.codecs import Codec
    from finresilience.durable.messages import OutboxMessage
    from finresilience.durable.seen import Seen
    from finresilience.sql.statements import Deed

R = TypeVar("R")

S = TypeVar("S", bound=Session)
A = TypeVar("A", bound=AsyncSession)


class Consuming(TypedDict, total=False):
    """What `consume` takes beside the message; see there."""

    tenant: str
    delivery_id: str
    entity: str | None
    position: int | None
    redelivered: bool
    park_after: int
    lock_timeout: float | timedelta | None
    attempts: int


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

    @property
    def all(self) -> tuple[Table, ...]:
        """Every table, in the order in which they are made."""
        return (*self.outbox.tables, *self.inbox.tables, self.idempotency.table)

    def check(self, engine: Engine) -> None:
        """Raise `SchemaError`, which names every difference, unless the database has these tables. Call it when a service starts."""
        check(self.all, engine)

    async def acheck(self, engine: AsyncEngine) -> None:
        """Raise `SchemaError`, which names every difference, unless the database has these tables: `check`, awaited."""
        await acheck(self.all, engine)

    def ddl(self, dialect: str) -> str:
        """Return the statements that make these tables, for "postgresql" or "sqlite"."""
        return ddl(self.all, dialect)


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

    def claim(
        self,
        within: Any,
        key: str,
        *,
        scope: str,
        request: object,
        codec: Codec[R] | None = None,
        owner: str = "",
        inherits: bool = False,
    ) -> TransactionClaim[R]:
        """Claim a key in the caller's transaction, so that effect, answer and event commit together: `with` or `async with`.

            async with session.begin():
                async with tables.idempotency.claim(session, key, scope=account, request=req, codec=codec) as claim:
                    session.add(payment)
                    claim.complete(payment)

        Args:
            within: a Session, an AsyncSession, a Connection or an AsyncConnection; or a connection of sqlite3, psycopg or asyncpg.
            key: as the client sent it.
            scope: who may share answers: tenant or account, and operation.
            request: what is asked; its fingerprint is kept, so that a key is not used for two. A text is taken for a fingerprint.
            codec: how the answer is kept; JSON by default.
            owner: who claims, for people who look at the table.
            inherits: whether the block runs for a key whose last claim ran out unsettled: true only if all that is done under this key
                is done in the caller's transactions.

        Raises:
            KeyAnsweredError: on entering, if the key was answered before: `error.answer` is the answer.
            KeyInProgressError: if somebody else is at it, by a lease.
            KeyMismatchError: if the key belongs to another request.
            UnknownOutcomeError: if an earlier call under this key may have happened.
            StoreBusyError: if another transaction holds the key for longer than this one may wait.
        """
        text_of("scope", scope)
        text_of("key", key)
        text_of("owner", owner, empty=True)
        deeds = self.deeds(dialect_within(within, self.table))
        claiming = deeds.claim(scope, key, text_of("fingerprint", fingerprint_for(request)), LEASE, owner, within=True)
        chosen: Any = json_codec() if codec is None else codec
        return TransactionClaim(within, claiming, deeds, self.table, chosen, inherits=inherits)

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
        self.tables: tuple[Table, ...] = (self.table, self.failures, self.marks)
        self._dialects = dialects
        self._deeds: dict[str, InboxDeeds] = {}

    def deeds(self, dialect: str) -> InboxDeeds:
        """Return the statements for a dialect. Internal."""
        known = self._deeds.get(dialect)
        if known is None:
            seen, failures, marks = (spelled(table, dialect) for table in self.tables)
            known = self._deeds[dialect] = InboxDeeds(seen, failures, marks, self._dialects[dialect])
        return known

    def once(
        self,
        within: Any,
        *,
        group: str,
        message_id: str,
        tenant: str = "",
        delivery_id: str = "",
        entity: str | None = None,
        position: int | None = None,
    ) -> Once:
        """Insert the marker of a message in the caller's transaction: `with` or `async with`, and `if` what it gives is fresh, handle it.

            async with session.begin():
                async with tables.inbox.once(session, group="ledger", message_id=event_id) as fresh:
                    if fresh:
                        await book(session, event)

        There is no retry here, and a failure is not counted: the transaction is yours. `consume` does both.
        """
        at = place(tenant, group, message_id)
        begin = marking(self.deeds(dialect_within(within, self.table)), within, at, delivery_id, entity, position)
        return Once(within, begin, self.table)

    @overload
    def store(self, engine: Engine, *, park_after: int = ..., lock_timeout: float | timedelta | None = ...) -> SqlInboxStore: ...

    @overload
    def store(self, engine: AsyncEngine, *, park_after: int = ..., lock_timeout: float | timedelta | None = ...) -> AsyncSqlInboxStore: ...

    def store(
        self, engine: Engine | AsyncEngine, *, park_after: int = 5, lock_timeout: float | timedelta | None = None
    ) -> SqlInboxStore | AsyncSqlInboxStore:
        """Return an inbox whose own transactions come from this engine; awaited, if the engine is async.

        Args:
            engine: yours.
            park_after: after how many failures a message is parked.
            lock_timeout: for how long `once` waits for another transaction that holds the message, in seconds; then it is `Underway`.
                Without it, it waits for as long as the database is told to.
        """
        deeds = self.deeds(dialect_of(engine))
        if isinstance(engine, AsyncEngine):
            return AsyncSqlInboxStore(engine, self.table, deeds, park_after=park_after, lock_timeout=lock_timeout)
        return SqlInboxStore(engine, self.table, deeds, park_after=park_after, lock_timeout=lock_timeout)

    @overload
    def consume(
        self, sessions: sessionmaker[S], handler: Callable[[S], object], *, group: str, message_id: str, **more: Unpack[Consuming]
    ) -> Seen: ...

    @overload
    def consume(
        self,
        sessions: async_sessionmaker[A],
        handler: Callable[[A], Awaitable[object]],
        *,
        group: str,
        message_id: str,
        **more: Unpack[Consuming],
    ) -> Awaitable[Seen]: ...

    def consume(self, sessions: Any, handler: Any, *, group: str, message_id: str, **more: Unpack[Consuming]) -> Any:
        """Handle a message once, in a transaction of its own; count poison outside of it, and park it. Awaited, for an async_sessionmaker.

        Acknowledge it to the broker once this has returned, unless an `Underway` came. What the handler raises is raised, with everything
        rolled back and the failure counted. After a serialization failure or a deadlock the whole transaction is run again, and nothing
        is counted.

        Args:
            sessions: makes the session that the handler is given.
            handler: does the work in it, and commits nothing.
            group: which consumers: each group handles each message once.
            message_id: the logical id of the message.
            **more: `tenant`, `delivery_id`, `entity`, `position`, `redelivered`: as for `once` and `finresilience.durable.consume`;
                `park_after`, `lock_timeout`: as for `store`; `attempts`: how often a transaction is run that the database takes back.
        """
        plain: dict[str, Any] = {"group": group, "message_id": message_id, "again": is_to_be_retried, "attempts": ATTEMPTS, **more}
        settings: dict[str, Any] = {name: plain.pop(name) for name in ("park_after", "lock_timeout") if name in plain}
        if isinstance(sessions, async_sessionmaker):
            astore: Any = self.store(async_engine_of(sessions), **settings)
            return aconsume(astore, sessions.begin, handler, **plain)
        if not isinstance(sessions, sessionmaker):
            refuse("sessions", sessions, "a sessionmaker or an async_sessionmaker")
        store: Any = self.store(engine_of(sessions, self.table), **settings)
        return consume(store, sessions.begin, handler, **plain)


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
        self.tables: tuple[Table, ...] = (self.table, self.dead, self.owners, self.relays)
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
