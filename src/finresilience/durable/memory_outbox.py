"""An outbox in memory: the reference that every other store is held against, for tests and for one process."""

from __future__ import annotations

from itertools import islice
from math import ceil
from typing import TYPE_CHECKING, Final

from finresilience._checks import name_of, positive_count, refuse, seconds_of
from finresilience.durable.errors import StoreFullError
from finresilience.durable.memory_books import OutboxBooks
from finresilience.durable.memory_rows import NOBODY, Added, Partition, Row
from finresilience.durable.memory_transaction import MemoryTransaction
from finresilience.durable.messages import OutboxMessage, partition_of, uuid7
from finresilience.durable.outbox import (
    MOST_AT_ONCE,
    Batch,
    DeadLetter,
    DuplicateMessageError,
    Exhausted,
    Failure,
    FencedError,
    Leased,
    LeaseTerms,
    PartitionLease,
    Reason,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID


_MOST_OWNERS: Final = 10_000


class MemoryOutbox(OutboxBooks):
    """An `OutboxStore` in memory. Safe to use from threads, asyncio and trio: every decision is one short step under a lock.

    A row gets its `seq` when it is added, and is seen once its transaction commits: rows of other keys may be seen before one with a lower
    `seq`, as in a database. Where two open transactions add to one key, a database lets the second wait; here nobody can wait, so the one
    that commits later takes a later `seq`. What readers see is the same: the `seq`s of a key rise in the order of commits.

    Args:
        partitions: how many; fixed for the life of the store.
        at_most: how many rows it holds, published and dead ones included.
        clock: tells the time; the ruling clock by default.
        chance: 74 bits of luck for an id.

    Raises:
        ConfigurationError: if an argument cannot work.
    """

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        return len(self._parts)

    def transaction(self) -> MemoryTransaction:
        """Return a new transaction, which other memory stores may take part in."""
        return MemoryTransaction()

    # --- the caller's transaction --------------------------------------------------------------------------------------

    def add(self, transaction: MemoryTransaction, message: OutboxMessage, /) -> UUID:
        """Write a message in the caller's transaction, and return its id.

        Raises:
            DuplicateMessageError: if the outbox holds this id.
            StoreFullError: if it holds as many rows as it may.
            ConfigurationError: if the transaction is over, or one of them is something else.
        """
        if not isinstance(transaction, MemoryTransaction):
            refuse("transaction", transaction, "a MemoryTransaction: with MemoryTransaction() as transaction: ...")
        if not isinstance(message, OutboxMessage):
            refuse("message", message, "an OutboxMessage")
        clock = self._time()
        added = transaction.enlist(self, lambda: Added(self))
        now, utc = clock.monotonic(), clock.utc()
        with self._lock:
            whole = message.with_id(uuid7(int(utc.timestamp() * 1000), self._chance()))
            made = whole.id
            if made is None or made in self._ids:
                raise DuplicateMessageError
            if len(self._ids) >= self._at_most:
                raise StoreFullError("rows of an outbox", self._at_most)
            self._ids.add(made)
            part = partition_of(whole.tenant, whole.key, len(self._parts))
            row = Row(next(self._seqs), part, whole, now=now, created_at=utc)
            self._open[row.line] = self._open.get(row.line, 0) + 1
            added.rows.append(row)
        return made

    def commit(self, rows: Sequence[Row]) -> None:
        """Let everybody see these rows. Internal: a transaction calls it."""
        with self._lock:
            for row in rows:
                self._close(row)
                if self._last.get(row.line, 0) > row.seq:  # somebody who came later has committed before
                    row.seq = next(self._seqs)
                self._place(row)

    def rollback(self, rows: Sequence[Row]) -> None:
        """Forget these rows. Internal: a transaction calls it."""
        with self._lock:
            for row in rows:
                self._close(row)
                self._ids.discard(row.told().id)
                if row.line not in self._open:
                    self._last.pop(row.line, None)

    def _close(self, row: Row) -> None:
        left = self._open[row.line] - 1
        if left:
            self._open[row.line] = left
        else:
            del self._open[row.line]

    def _place(self, row: Row) -> None:
        if self._open.get(row.line):  # only where a transaction is open can a lower seq still come
            self._last[row.line] = row.seq
        else:
            self._last.pop(row.line, None)
        self._parts[row.part].put(row)

    # --- owning partitions -----------------------------------------------------------------------------------------------

    def claim(self, owner: str, *, at_most: int, terms: LeaseTerms) -> Leased:
        """Take up to `at_most` partitions that nobody holds, and no more than the owner's fair share."""
        name_of("owner", owner)
        positive_count("at_most", at_most, least=0)
        now = self._time().monotonic()
        with self._lock:
            self._hear_of(owner, now, terms.lease)
            share = ceil(len(self._parts) / len(self._owners))
            mine = sum(part.owner == owner and now < part.until for part in self._parts)
            free = (part for part in self._parts if self._is_free(part, now))
            wanted = max(0, min(at_most, share - mine))
            return Leased(tuple(self._give(part, owner, terms, now) for part in islice(free, wanted)), share)

    def _hear_of(self, owner: str, now: float, lease: float) -> None:
        self._owners = {name: until for name, until in self._owners.items() if now < until}
        if owner in self._owners or len(self._owners) < _MOST_OWNERS:
            self._owners[owner] = now + lease

    def _is_free(self, part: Partition, now: float) -> bool:
        return part.owner == NOBODY or now >= part.until

    def _give(self, part: Partition, owner: str, terms: LeaseTerms, now: float) -> PartitionLease:
        unclean = part.owner != NOBODY
        if unclean:
            self._takeovers += 1
            self._blame(part, terms, now)
        part.owner, part.epoch, part.until = owner, part.epoch + 1, now + terms.lease
        part.window, part.fetched = terms.window, False
        return PartitionLease(part=part.number, owner=owner, epoch=part.epoch, seconds=terms.lease, unclean=unclean)

    def _blame(self, part: Partition, terms: LeaseTerms, now: float) -> None:
        """Note which rows the owner that died may have had in its hands."""
        marked = [row for row in part if row.in_hand]
        if marked:  # it was delivering a suspect, and so nothing else
            for row in marked:
                row.in_hand, row.takeovers = 0, row.takeovers + 1
                row.due = now + terms.lease  # all others first
                if row.takeovers > terms.max_takeovers:
                    self._entomb(part, row, Reason.CRASHED, None, parks=terms.exhausted is Exhausted.PARK_KEY)
        elif part.fetched:
            for row in [row for row in self._due(part, part.until) if not row.suspect][: part.window]:
                row.suspect, row.takeovers = True, max(row.takeovers, 1)  # to have been near is blamed once

    def renew(self, lease: PartitionLease, /) -> PartitionLease:
        """Let the lease run anew. Raise `FencedError` if another relay took the partition."""
        now = self._time().monotonic()
        with self._lock:
            part = self._owned(lease, "renewing")
            part.until = now + lease.seconds
            self._hear_of(lease.owner, now, lease.seconds)
        return lease

    def release(self, lease: PartitionLease, /) -> None:
        """Give a partition back with nothing in hand. Raise `FencedError` if another relay took it."""
        with self._lock:
            part = self._owned(lease, "releasing")
            part.owner = NOBODY
            for row in part:
                row.in_hand = 0
            if all(other.owner != lease.owner for other in self._parts):
                self._owners.pop(lease.owner, None)  # it is going: the others need not leave it a share

    def _owned(self, lease: PartitionLease, doing: str, *, alive_at: float | None = None) -> Partition:
        if not 0 <= lease.part < len(self._parts):
            refuse("lease", lease.part, "a lease of this store")
        part = self._parts[lease.part]
        if part.epoch != lease.epoch or part.owner != lease.owner:
            self._fenced += 1
            current = None if part.epoch == lease.epoch else part.epoch
            raise FencedError(lease.part, lease.epoch, current=current, doing=doing)
        if alive_at is not None and alive_at >= part.until:
            self._fenced += 1
            raise FencedError(lease.part, lease.epoch, current=None, doing=doing)
        return part

    # --- what a relay does with its partition ----------------------------------------------------------------------------

    def fetch(self, lease: PartitionLease, /, *, limit: int) -> Batch:
        """Return the first rows that are due. Raise `FencedError` unless the lease still runs."""
        positive_count("limit", limit, most=MOST_AT_ONCE)
        now = self._time().monotonic()
        with self._lock:
            part = self._owned(lease, "fetching", alive_at=now)
            rows: list[Row] = []
            held: set[tuple[str | None, str]] = set()
            for row in self._due(part, now):
                if row.suspect and not rows:
                    part.fetched = True
                    return Batch((row.told(),), suspect=True)
                if row.suspect:
                    held.add(row.line)  # its turn comes when it is the first
                elif row.line not in held:
                    rows.append(row)
                if len(rows) == limit:
                    break
            part.fetched = part.fetched or bool(rows)
            return Batch(tuple(row.told() for row in rows))

    def mark(self, lease: PartitionLease, seq: int, /) -> None:
        """Note that this suspect is about to be delivered, so that it alone is blamed for a death. Raise `FencedError` as `settle` does."""
        with self._lock:
            row = self._owned(lease, "marking").get(seq)
            if row is not None:
                row.in_hand = lease.epoch

    def _due(self, part: Partition, now: float) -> Iterator[Row]:
        """Yield the rows that may be published now, in order: those whose key has nothing before them that must wait."""
        held = {dead.row.line for dead, _ in self._dead.values() if dead.parks}
        for row in part:
            if row.due > now:
                held.add(row.line)
            if row.line not in held:
                yield row

    def settle(self, lease: PartitionLease, published: Sequence[int], /) -> int:
        """Note the rows of these `seq` as published, and return how many were not before. Raise `FencedError` for an old epoch."""
        clock = self._time()
        with self._lock:
            part = self._owned(lease, "settling")
            done = [row for row in map(part.take, published) if row is not None]
            now, utc = clock.monotonic(), clock.utc()
            for row in done:
                row.published, row.published_at, row.in_hand, row.suspect = now, utc, 0, False
                self._published[row.seq] = row
            return len(done)

    def retry(self, lease: PartitionLease, seq: int, /, *, after: float, failure: Failure, counted: bool = True) -> None:
        """Hold back the row and its key for `after` seconds; an attempt, if `counted`, has failed. Raise `FencedError` for an old epoch."""
        wait = seconds_of("after", after, zero=True)
        _told("failure", failure, Failure)
        now = self._time().monotonic()
        with self._lock:
            row = self._owned(lease, "retrying").get(seq)
            if row is not None:
                row.attempts += counted
                row.due, row.in_hand, row.suspect = now + wait, 0, False

    def bury(self, lease: PartitionLease, seq: int, /, *, reason: Reason, failure: Failure, exhausted: Exhausted) -> None:
        """Move a row to the dead letters, whole. Raise `FencedError` for an old epoch."""
        _told("reason", reason, Reason)
        _told("failure", failure, Failure)
        _told("exhausted", exhausted, Exhausted)
        with self._lock:
            part = self._owned(lease, "burying")
            row = part.get(seq)
            if row is not None:
                row.attempts += 1
                self._entomb(part, row, reason, failure, parks=exhausted is Exhausted.PARK_KEY)

    def _entomb(self, part: Partition, row: Row, reason: Reason, failure: Failure | None, *, parks: bool) -> None:
        part.take(row.seq)
        told = row.told()
        letter = DeadLetter(row=told, reason=reason, failure=failure, parks=parks, died_at=self._time().utc())
        self._dead[told.id] = (letter, row)


def _told(name: str, value: object, kind: type[object]) -> None:
    if not isinstance(value, kind):
        refuse(name, value, f"a {kind.__name__}")
