"""An outbox in tables: written in the callers' transactions, owned by partitions, and ordered by key whoever dies."""

from __future__ import annotations

from secrets import randbits
from typing import TYPE_CHECKING, TypeVar, final
from uuid import UUID

from finresilience._checks import name_of, positive_count, refuse, seconds_of
from finresilience.clock import ruling_clock
from finresilience.durable.messages import OutboxMessage, uuid7
from finresilience.durable.outbox import MOST_AT_ONCE, Exhausted, Failure, FencedError, PartitionLease, Reason
from finresilience.sql.outbox_books import OutboxBooks
from finresilience.sql.outbox_claims import OutboxClaims
from finresilience.sql.outbox_deeds import OutboxDeeds
from finresilience.sql.outbox_writes import OutboxWrites
from finresilience.sql.sources import AsyncSource, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta

    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
    from sqlalchemy.orm import Session

    from finresilience.durable.outbox import Batch, DeadLetter, Leased, LeaseTerms, OutboxStatistics
    from finresilience.sql.dialects import Dialect
    from finresilience.sql.statements import Deed
    from finresilience.sql.tables import OutboxTables

T = TypeVar("T")


@final
class Statements:
    """All that is asked of an outbox in one dialect."""

    def __init__(self, names: tuple[str, str, str, str], dialect: Dialect, *, partitions: int, keeps: bool, ordered: bool) -> None:
        outbox, dead, partition, relay = names
        self.deeds: OutboxDeeds = OutboxDeeds(outbox, dead, partition, relay, dialect, keeps=keeps)
        self.claims: OutboxClaims = OutboxClaims(self.deeds, relay, dialect, partitions=partitions)
        self.books: OutboxBooks = OutboxBooks(outbox, dead, partition, dialect)
        self.writes: OutboxWrites = OutboxWrites(outbox, dead, dialect, partitions=partitions, ordered=ordered)


def made_whole(message: object) -> OutboxMessage:
    """Return the message with an id."""
    if not isinstance(message, OutboxMessage):
        refuse("message", message, "an OutboxMessage")
    return message.with_id(uuid7(int(ruling_clock().utc().timestamp() * 1000), randbits(74))) if message.id is None else message


class _AtTheDoor:
    """What both stores check before they ask. Internal."""

    def __init__(self, tables: OutboxTables, statements: Statements) -> None:
        self._tables = tables
        self._sql = statements
        self._fenced = self._takeovers = 0

    @property
    def partitions(self) -> int:
        """How many partitions there are: fixed for the life of the table."""
        return self._tables.partitions

    def _claiming(self, owner: str, at_most: int, terms: LeaseTerms) -> Callable[[], Deed[Leased]]:
        name_of("owner", owner)
        positive_count("at_most", at_most, least=0)
        return lambda: self._sql.claims.claim(owner, at_most, terms)

    def _given(self, leased: Leased) -> Leased:
        self._takeovers += sum(lease.unclean for lease in leased.leases)
        return leased

    def _mine(self, lease: PartitionLease) -> PartitionLease:
        if not isinstance(lease, PartitionLease) or not 0 <= lease.part < self.partitions:
            refuse("lease", getattr(lease, "part", lease), "a lease of this store")
        return lease

    def _fetching(self, lease: PartitionLease, limit: int) -> Callable[[], Deed[Batch]]:
        positive_count("limit", limit, most=MOST_AT_ONCE)
        self._mine(lease)
        return lambda: self._sql.deeds.fetch(lease, limit)

    def _settling(self, lease: PartitionLease, published: Sequence[int]) -> Callable[[], Deed[int]]:
        self._mine(lease)
        for seq in published:
            _place(seq)
        return lambda: self._sql.deeds.settle(lease, published)

    def _retrying(self, lease: PartitionLease, seq: int, after: float, failure: Failure, *, counted: bool) -> Callable[[], Deed[None]]:
        wait = seconds_of("after", after, zero=True)
        _told("failure", failure, Failure)
        self._mine(lease)
        _place(seq)
        return lambda: self._sql.deeds.retry(lease, seq, wait, counted=counted)

    def _burying(self, lease: PartitionLease, seq: int, reason: Reason, failure: Failure, exhausted: Exhausted) -> Callable[[], Deed[None]]:
        _told("reason", reason, Reason)
        _told("failure", failure, Failure)
        _told("exhausted", exhausted, Exhausted)
        self._mine(lease)
        _place(seq)
        return lambda: self._sql.deeds.bury(lease, seq, reason, failure, exhausted)

    def _listing(self, limit: int) -> Callable[[], Deed[Sequence[DeadLetter]]]:
        positive_count("limit", limit, most=MOST_AT_ONCE)
        return lambda: self._sql.books.dead_letters(limit)

    def _replaying(self, since: datetime, until: datetime, limit: int) -> Callable[[], Deed[int]]:
        for name, moment in (("since", since), ("until", until)):
            if getattr(moment, "tzinfo", None) is None:
                refuse(name, moment, "an aware datetime, such as datetime(2026, 1, 1, tzinfo=UTC)")
        positive_count("limit", limit, most=MOST_AT_ONCE)
        return lambda: self._sql.books.replay(since, until, limit)

    def _purging(self, older_than: float | timedelta, limit: int) -> Callable[[], Deed[int]]:
        age = seconds_of("older_than", older_than, zero=True)
        positive_count("limit", limit, most=MOST_AT_ONCE)
        return lambda: self._sql.books.purge(age, limit)


@final
class SqlOutboxStore(_AtTheDoor):
    """An `OutboxStore` over an Engine. Made by `tables.outbox.store(engine)`."""

    def __init__(self, engine: Engine, tables: OutboxTables, statements: Statements) -> None:
        super().__init__(tables, statements)
        self._source = Source(engine)

    def _as_owner(self, begin: Callable[[], Deed[T]], *, alone: bool = False) -> T:
        try:
            return (self._source.alone if alone else self._source.together)(begin)
        except FencedError:
            self._fenced += 1
            raise

    def add(self, transaction: Session | Connection, message: OutboxMessage, /) -> UUID:
        """Write a message in the caller's transaction, when it commits, and return its id."""
        return self._tables.add(transaction, message)

    def claim(self, owner: str, *, at_most: int, terms: LeaseTerms) -> Leased:
        """Take up to `at_most` partitions that nobody holds, and no more than the owner's fair share."""
        return self._given(self._source.together(self._claiming(owner, at_most, terms)))

    def renew(self, lease: PartitionLease, /) -> PartitionLease:
        """Let the lease run anew. Raise `FencedError` if another relay took the partition."""
        self._mine(lease)
        return self._as_owner(lambda: self._sql.deeds.renew(lease))

    def release(self, lease: PartitionLease, /) -> None:
        """Give a partition back with nothing in hand. Raise `FencedError` if another relay took it."""
        self._mine(lease)
        self._as_owner(lambda: self._sql.deeds.release(lease))

    def fetch(self, lease: PartitionLease, /, *, limit: int) -> Batch:
        """Return the first rows that are due. Raise `FencedError` unless the lease still runs."""
        return self._as_owner(self._fetching(lease, limit), alone=True)

    def mark(self, lease: PartitionLease, seq: int, /) -> None:
        """Note that this suspect is about to be delivered, so that it alone is blamed for a death. Raise `FencedError` as `settle` does."""
        self._mine(lease)
        _place(seq)
        self._as_owner(lambda: self._sql.deeds.mark(lease, seq))

    def settle(self, lease: PartitionLease, published: Sequence[int], /) -> int:
        """Note the rows of these `seq` as published, and return how many were not before. Raise `FencedError` for an old epoch."""
        return self._as_owner(self._settling(lease, published), alone=True)

    def retry(self, lease: PartitionLease, seq: int, /, *, after: float, failure: Failure, counted: bool = True) -> None:
        """Hold back the row and its key for `after` seconds; an attempt, if `counted`, has failed. Raise `FencedError` for an old epoch."""
        self._as_owner(self._retrying(lease, seq, after, failure, counted=counted))

    def bury(self, lease: PartitionLease, seq: int, /, *, reason: Reason, failure: Failure, exhausted: Exhausted) -> None:
        """Move a row to the dead letters, whole. Raise `FencedError` for an old epoch."""
        self._as_owner(self._burying(lease, seq, reason, failure, exhausted))

    def dead_letters(self, *, limit: int = 100) -> Sequence[DeadLetter]:
        """Return the dead letters that were buried first."""
        return self._source.alone(self._listing(limit))

    def revive(self, message_id: UUID, /) -> bool:
        """Put a dead letter back in its old place, as if it had never failed; return whether there was one."""
        _told("message_id", message_id, UUID)
        return self._source.together(lambda: self._sql.books.revive(message_id))

    def discard(self, message_id: UUID, /) -> bool:
        """Drop a dead letter for good, so that its key goes on; return whether there was one."""
        _told("message_id", message_id, UUID)
        return self._source.together(lambda: self._sql.books.discard(message_id))

    def replay(self, *, since: datetime, until: datetime, limit: int = 1000) -> int:
        """Publish again what was published from `since` to before `until`; return how many, at most `limit`: ask until it is 0."""
        return self._source.together(self._replaying(since, until, limit))

    def purge(self, *, older_than: float | timedelta, limit: int = 1000) -> int:
        """Forget rows published longer ago; return how many, at most `limit`. What is not published is never forgotten."""
        return self._source.together(self._purging(older_than, limit))

    def statistics(self) -> OutboxStatistics:
        """Return how things stand."""
        return self._source.alone(lambda: self._sql.books.statistics(self._fenced, self._takeovers))


@final
class AsyncSqlOutboxStore(_AtTheDoor):
    """An `AsyncOutboxStore` over an AsyncEngine. Made by `tables.outbox.store(engine)`."""

    def __init__(self, engine: AsyncEngine, tables: OutboxTables, statements: Statements) -> None:
        super().__init__(tables, statements)
        self._source = AsyncSource(engine)

    async def _as_owner(self, begin: Callable[[], Deed[T]], *, alone: bool = False) -> T:
        try:
            return await (self._source.alone if alone else self._source.together)(begin)
        except FencedError:
            self._fenced += 1
            raise

    def add(self, transaction: AsyncSession | AsyncConnection, message: OutboxMessage, /) -> UUID:
        """Write a message in the caller's transaction, when it commits, and return its id. Not awaited."""
        return self._tables.add(transaction, message)

    async def claim(self, owner: str, *, at_most: int, terms: LeaseTerms) -> Leased:
        """Take up to `at_most` partitions that nobody holds, and no more than the owner's fair share."""
        return self._given(await self._source.together(self._claiming(owner, at_most, terms)))

    async def renew(self, lease: PartitionLease, /) -> PartitionLease:
        """Let the lease run anew. Raise `FencedError` if another relay took the partition."""
        self._mine(lease)
        return await self._as_owner(lambda: self._sql.deeds.renew(lease))

    async def release(self, lease: PartitionLease, /) -> None:
        """Give a partition back with nothing in hand. Raise `FencedError` if another relay took it."""
        self._mine(lease)
        await self._as_owner(lambda: self._sql.deeds.release(lease))

    async def fetch(self, lease: PartitionLease, /, *, limit: int) -> Batch:
        """Return the first rows that are due. Raise `FencedError` unless the lease still runs."""
        return await self._as_owner(self._fetching(lease, limit), alone=True)

    async def mark(self, lease: PartitionLease, seq: int, /) -> None:
        """Note that this suspect is about to be delivered, so that it alone is blamed for a death. Raise `FencedError` as `settle` does."""
        self._mine(lease)
        _place(seq)
        await self._as_owner(lambda: self._sql.deeds.mark(lease, seq))

    async def settle(self, lease: PartitionLease, published: Sequence[int], /) -> int:
        """Note the rows of these `seq` as published, and return how many were not before. Raise `FencedError` for an old epoch."""
        return await self._as_owner(self._settling(lease, published), alone=True)

    async def retry(self, lease: PartitionLease, seq: int, /, *, after: float, failure: Failure, counted: bool = True) -> None:
        """Hold back the row and its key for `after` seconds; an attempt, if `counted`, has failed. Raise `FencedError` for an old epoch."""
        await self._as_owner(self._retrying(lease, seq, after, failure, counted=counted))

    async def bury(self, lease: PartitionLease, seq: int, /, *, reason: Reason, failure: Failure, exhausted: Exhausted) -> None:
        """Move a row to the dead letters, whole. Raise `FencedError` for an old epoch."""
        await self._as_owner(self._burying(lease, seq, reason, failure, exhausted))

    async def dead_letters(self, *, limit: int = 100) -> Sequence[DeadLetter]:
        """Return the dead letters that were buried first."""
        return await self._source.alone(self._listing(limit))

    async def revive(self, message_id: UUID, /) -> bool:
        """Put a dead letter back in its old place, as if it had never failed; return whether there was one."""
        _told("message_id", message_id, UUID)
        return await self._source.together(lambda: self._sql.books.revive(message_id))

    async def discard(self, message_id: UUID, /) -> bool:
        """Drop a dead letter for good, so that its key goes on; return whether there was one."""
        _told("message_id", message_id, UUID)
        return await self._source.together(lambda: self._sql.books.discard(message_id))

    async def replay(self, *, since: datetime, until: datetime, limit: int = 1000) -> int:
        """Publish again what was published from `since` to before `until`; return how many, at most `limit`: ask until it is 0."""
        return await self._source.together(self._replaying(since, until, limit))

    async def purge(self, *, older_than: float | timedelta, limit: int = 1000) -> int:
        """Forget rows published longer ago; return how many, at most `limit`. What is not published is never forgotten."""
        return await self._source.together(self._purging(older_than, limit))

    async def statistics(self) -> OutboxStatistics:
        """Return how things stand."""
        return await self._source.alone(lambda: self._sql.books.statistics(self._fenced, self._takeovers))


def _told(name: str, value: object, kind: type[object]) -> None:
    if not isinstance(value, kind):
        refuse(name, value, f"a {kind.__name__}")


def _place(seq: object) -> None:
    if isinstance(seq, bool) or not isinstance(seq, int) or not 0 < seq < 2**63:
        refuse("seq", seq, "the seq of a row that fetch() returned")
