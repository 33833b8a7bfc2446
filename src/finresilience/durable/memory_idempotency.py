"""The idempotency store in memory: the reference that others are held against, for tests and for services of one process.

It is of this process alone, and gone with it: no store for money that must survive a crash.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Final

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.clock import obey, ruling_clock
from finresilience.durable.errors import StoreFullError
from finresilience.durable.memory_table import StoreLock, Table, checked_transaction
from finresilience.durable.memory_transaction import MemoryTransaction
from finresilience.durable.records import (
    MAX_BATCH,
    MAX_REASON,
    MAX_RESPONSE,
    Claim,
    Claimed,
    ClaimToken,
    InProgress,
    KeyState,
    Record,
    answer_to,
    bytes_of,
    check_at_work,
    check_holder,
    final_of,
    is_let_go,
    lease_of,
    may_finish,
    may_resolve,
    text_of,
    token_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from finresilience.clock import Clock

A_MOMENT: Final = 0.1  # seconds after which another's transaction will probably have ended


@dataclass(frozen=True, slots=True)
class Row:
    """What is kept of a key. `record` says what is known, `until` and the others when, by the store's clock."""

    record: Record
    until: float
    began: float
    changed: float

    def told(self, now: float) -> Record:
        """Return the record as it is now."""
        return replace(self.record, lease_left=self.until - now, age=now - self.began, idle=now - self.changed)


class MemoryIdempotencyStore:
    """Keys in a dict under a lock. Serves threads; `AsyncMemoryIdempotencyStore` serves asyncio and trio, from the same keys if you like.

    Args:
        clock: what leases are measured by; the ruling clock by default.
        at_most: how many keys it holds; one more is a `StoreFullError`. Purge it.
        max_response: how many bytes a response may have.

    Raises:
        ConfigurationError: if an argument cannot work.
    """

    def __init__(self, *, clock: Clock | None = None, at_most: int = 1_000_000, max_response: int = MAX_RESPONSE) -> None:
        self._at_most = positive_count("at_most", at_most)
        self._max_response = positive_count("max_response", max_response)
        self._lock = StoreLock()
        self._rows: Table[tuple[str, str], Row] = Table(self._lock)
        self._fences = count(1)
        self._own_clock = clock
        self._clock = ruling_clock() if clock is None else clock
        obey(self)

    def told_by(self, clock: Clock, /) -> None:
        """Follow the ruling clock. Internal: clocks call it."""
        if self._own_clock is None:
            self._clock = clock

    @property
    def max_response(self) -> int:
        """How many bytes a response, or the data of a recovery point, may have."""
        return self._max_response

    def transaction(self) -> MemoryTransaction:
        """Return a new transaction for `within=`: `with store.transaction() as mine:`, or `async with`."""
        return MemoryTransaction()

    def claim(
        self,
        scope: str,
        key: str,
        *,
        fingerprint: str,
        lease: float | timedelta,
        owner: str = "",
        within: MemoryTransaction | None = None,
    ) -> Claim:
        """Take the key if nobody has it or its lease ran out, or tell what is known of it."""
        at = (text_of("scope", scope), text_of("key", key))
        text_of("fingerprint", fingerprint)
        text_of("owner", owner, empty=True)
        seconds, inside = lease_of(lease), checked_transaction(within)
        with self._lock:
            if self._rows.is_held(at, inside):
                return InProgress(A_MOMENT)
            now = self._clock.monotonic()
            row = self._rows.get(at, inside)
            answer = answer_to(None if row is None else row.told(now), fingerprint)
            return self._take(at, row, fingerprint, seconds, owner, inside) if answer is None else answer

    def _take(
        self, at: tuple[str, str], row: Row | None, fingerprint: str, lease: float, owner: str, within: MemoryTransaction | None
    ) -> Claimed:
        now, fence = self._clock.monotonic(), next(self._fences)
        if row is None:
            if len(self._rows) >= self._at_most:
                raise StoreFullError("idempotency keys", self._at_most)
            record = Record(scope=at[0], key=at[1], fingerprint=fingerprint, state=KeyState.IN_PROGRESS, fence=fence, owner=owner)
            row = Row(record, now + lease, now, now)
        else:
            record = replace(row.record, fence=fence, owner=owner, takeovers=row.record.takeovers + 1)
            row = Row(record, now + lease, row.began, now)
        self._rows.put(at, row, within)
        return Claimed(
            token=ClaimToken(*at, fence),
            lease=lease,
            takeovers=record.takeovers,
            recovery_point=record.recovery_point,
            data=record.data,
        )

    def renew(self, token: ClaimToken, *, lease: float | timedelta) -> None:
        """Let the lease run `lease` seconds from now."""
        seconds = lease_of(lease)
        with self._lock:
            row = self._at_work("renew", token, None)
            now = self._clock.monotonic()
            self._put(replace(row, until=now + seconds, changed=now), None)

    def advance(self, token: ClaimToken, recovery_point: str, *, data: bytes = b"", within: MemoryTransaction | None = None) -> None:
        """Note how far the work is, for an heir."""
        text_of("recovery_point", recovery_point)
        kept, inside = bytes_of("data", data, most=self._max_response), checked_transaction(within)
        with self._lock:
            row = self._at_work("advance", token, inside)
            self._change(row, inside, recovery_point=recovery_point, data=kept)

    def complete(self, token: ClaimToken, response: bytes, *, status: str = "", within: MemoryTransaction | None = None) -> None:
        """Finish: every later claim gets these bytes."""
        self._finish("complete", token, KeyState.COMPLETED, response, status, within)

    def fail(self, token: ClaimToken, response: bytes = b"", *, status: str = "", within: MemoryTransaction | None = None) -> None:
        """Finish with a failure that stays one."""
        self._finish("fail", token, KeyState.FAILED_FINAL, response, status, within)

    def _finish(self, what: str, token: ClaimToken, to: KeyState, response: bytes, status: str, within: MemoryTransaction | None) -> None:
        answer = (to, bytes_of("response", response, most=self._max_response), text_of("status", status, empty=True))
        inside = checked_transaction(within)
        with self._lock:
            row = self._row(token, inside)
            if may_finish(what, token, _record(row), answer) and row is not None:
                self._change(row, inside, state=to, response=answer[1], status=status)

    def release(self, token: ClaimToken, *, within: MemoryTransaction | None = None) -> None:
        """Give the key back, because surely nothing happened; to an heir, if that is not sure."""
        inside = checked_transaction(within)
        with self._lock:
            row = self._at_work("release", token, inside)
            if is_let_go(row.record):
                now = self._clock.monotonic()
                self._put(replace(row, until=now, changed=now), inside)
            else:
                self._rows.put((token.scope, token.key), None, inside)

    def mark_indeterminate(self, token: ClaimToken, *, reason: str = "", within: MemoryTransaction | None = None) -> None:
        """Note that it may have happened."""
        text_of("reason", reason, most=MAX_REASON, empty=True)
        inside = checked_transaction(within)
        with self._lock:
            row = self._row(token, inside)
            held = check_holder("mark_indeterminate", token_of(token), _record(row))
            if held.state is not KeyState.INDETERMINATE:
                row = self._at_work("mark_indeterminate", token, inside)
                self._change(row, inside, state=KeyState.INDETERMINATE, reason=reason)

    def resolve(
        self,
        record: Record,
        to: KeyState,
        response: bytes,
        *,
        evidence: str,
        status: str = "",
        within: MemoryTransaction | None = None,
    ) -> None:
        """Settle an INDETERMINATE record, as it was read, by evidence."""
        if not isinstance(record, Record):
            refuse("record", record, "the Record of an Indeterminate, or one that find() or unsettled() returned")
        text_of("evidence", evidence, most=MAX_REASON)
        answer = (final_of(to), bytes_of("response", response, most=self._max_response), text_of("status", status, empty=True))
        inside = checked_transaction(within)
        with self._lock:
            row = self._rows.get((record.scope, record.key), inside)
            if may_resolve(record, _record(row), answer) and row is not None:
                self._change(row, inside, state=answer[0], response=answer[1], status=status, evidence=evidence)

    def find(self, scope: str, key: str, *, within: MemoryTransaction | None = None) -> Record | None:
        """Return what is known of a key, or None if it is absent."""
        at = (text_of("scope", scope), text_of("key", key))
        inside = checked_transaction(within)
        with self._lock:
            row = self._rows.get(at, inside)
            return None if row is None else row.told(self._clock.monotonic())

    def unsettled(self, *, limit: int = 100) -> Sequence[Record]:
        """Return records that somebody must look after, longest idle first."""
        positive_count("limit", limit, most=MAX_BATCH)
        with self._lock:
            now = self._clock.monotonic()
            found = [told for _, row in self._rows.all() if (told := row.told(now)).is_unsettled]
        return sorted(found, key=lambda record: -record.idle)[:limit]

    def purge(self, *, older_than: float | timedelta, scope: str | None = None, limit: int = 1000) -> int:
        """Forget records that were finished longer ago."""
        age = seconds_of("older_than", older_than, zero=True)
        positive_count("limit", limit, most=MAX_BATCH)
        if scope is not None:
            text_of("scope", scope)
        with self._lock:
            now, gone = self._clock.monotonic(), 0
            for at, row in self._rows.all():
                if gone < limit and scope in {None, at[0]} and self._is_old(row, now - age):
                    self._rows.put(at, None)
                    gone += 1
        return gone

    @staticmethod
    def _is_old(row: Row, before: float) -> bool:
        return row.record.state in {KeyState.COMPLETED, KeyState.FAILED_FINAL} and row.changed <= before

    # ------------------------------------------------------------ under the lock

    def _row(self, token: ClaimToken, within: MemoryTransaction | None) -> Row | None:
        token_of(token)
        return self._rows.get((token.scope, token.key), within)

    def _at_work(self, what: str, token: ClaimToken, within: MemoryTransaction | None) -> Row:
        row = self._row(token, within)
        check_at_work(what, token, _record(row))
        assert row is not None  # noqa: S101 - without a row, check_at_work has raised
        return row

    def _change(self, row: Row, within: MemoryTransaction | None, **what: object) -> None:
        self._put(replace(row, record=replace(row.record, **what), changed=self._clock.monotonic()), within)  # type: ignore[arg-type]

    def _put(self, row: Row, within: MemoryTransaction | None) -> None:
        self._rows.put((row.record.scope, row.record.key), row, within)


def _record(row: Row | None) -> Record | None:
    return None if row is None else row.record
