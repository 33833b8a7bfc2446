"""A stranger's idempotency store: SQLite by hand, on the database's own clock, in the caller's transaction. For tests alone."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from finresilience._checks import positive_count, seconds_of
from finresilience.durable.records import (
    MAX_REASON,
    MAX_RESPONSE,
    Claim,
    Claimed,
    ClaimToken,
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
)

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

CLOCK = "CREATE TABLE clock (skew REAL NOT NULL); INSERT INTO clock VALUES (0);"
SCHEMA = """
CREATE TABLE fences (fence INTEGER PRIMARY KEY AUTOINCREMENT);
CREATE TABLE keys (
  scope TEXT, key TEXT, fingerprint TEXT NOT NULL, state TEXT NOT NULL, fence INTEGER NOT NULL, owner TEXT NOT NULL,
  takeovers INTEGER NOT NULL DEFAULT 0, until REAL NOT NULL, began REAL NOT NULL, changed REAL NOT NULL, point TEXT,
  data BLOB NOT NULL DEFAULT x'', response BLOB NOT NULL DEFAULT x'', status TEXT NOT NULL DEFAULT '',
  reason TEXT NOT NULL DEFAULT '', evidence TEXT NOT NULL DEFAULT '', PRIMARY KEY (scope, key));
"""
NOW = "((julianday('now') - 2440587.5) * 86400.0 + (SELECT skew FROM clock))"
COLUMNS = (
    "fingerprint, state, fence, owner, takeovers, until - {now}, point, data, response, status, reason, evidence, "
    "{now} - began, {now} - changed"
)


class Database:
    """A file, its transactions, and a clock of its own that a test can set forward."""

    def __init__(self, path: Path, schema: str) -> None:
        self.path = path
        with self.connected() as own:
            own.executescript(CLOCK + schema)

    @contextmanager
    def connected(self) -> Generator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=20)
        try:
            connection.execute("PRAGMA synchronous = OFF")  # this test cuts no power
            yield connection
        finally:
            connection.close()

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        with self.connected() as own:
            own.execute("BEGIN IMMEDIATE")
            try:
                yield own
            except BaseException:
                own.execute("ROLLBACK")
                raise
            own.execute("COMMIT")

    def skip(self, seconds: float) -> None:
        with self.transaction() as own:
            own.execute("UPDATE clock SET skew = skew + ?", (seconds,))


class SqliteStore(Database):
    """Every deed is `BEGIN IMMEDIATE`, look, rule, write: the rulings are those that all stores share."""

    max_response = MAX_RESPONSE

    def __init__(self, path: Path) -> None:
        super().__init__(path, SCHEMA)

    @contextmanager
    def _in(self, within: sqlite3.Connection | None) -> Generator[sqlite3.Connection]:
        if within is not None:
            yield within
            return
        with self.transaction() as own:
            yield own

    def _read(self, db: sqlite3.Connection, scope: str, key: str) -> Record | None:
        row = db.execute(f"SELECT {COLUMNS.format(now=NOW)} FROM keys WHERE scope = ? AND key = ?", (scope, key)).fetchone()
        return None if row is None else _record(scope, key, row)

    def claim(self, scope: str, key: str, *, fingerprint: str, lease: Any, owner: str = "", within: Any = None) -> Claim:
        for name, value in (("scope", scope), ("key", key), ("fingerprint", fingerprint)):
            text_of(name, value)
        text_of("owner", owner, empty=True)
        seconds = lease_of(lease)
        with self._in(within) as db:
            record = self._read(db, scope, key)
            answer = answer_to(record, fingerprint)
            if answer is not None:
                return answer
            fence = int(db.execute("INSERT INTO fences DEFAULT VALUES RETURNING fence").fetchone()[0])
            if record is None:
                names = "scope, key, fingerprint, state, fence, owner, until, began, changed"
                insert = f"INSERT INTO keys ({names}) VALUES (?, ?, ?, 'in_progress', ?, ?, {NOW} + ?, {NOW}, {NOW})"
                db.execute(insert, (scope, key, fingerprint, fence, owner, seconds))
                return Claimed(token=ClaimToken(scope, key, fence), lease=seconds)
            self._write(db, scope, key, f"fence = ?, owner = ?, takeovers = takeovers + 1, until = {NOW} + ?", fence, owner, seconds)
            return Claimed(
                token=ClaimToken(scope, key, fence),
                lease=seconds,
                takeovers=record.takeovers + 1,
                recovery_point=record.recovery_point,
                data=record.data,
            )

    def _write(self, db: sqlite3.Connection, scope: str, key: str, what: str, *values: object) -> None:
        db.execute(f"UPDATE keys SET {what}, changed = {NOW} WHERE scope = ? AND key = ?", (*values, scope, key))

    def renew(self, token: ClaimToken, *, lease: Any) -> None:
        seconds = lease_of(lease)
        with self.transaction() as db:
            check_at_work("renew", token, self._read(db, token.scope, token.key))
            self._write(db, token.scope, token.key, f"until = {NOW} + ?", seconds)

    def advance(self, token: ClaimToken, recovery_point: str, *, data: bytes = b"", within: Any = None) -> None:
        text_of("recovery_point", recovery_point)
        bytes_of("data", data)
        with self._in(within) as db:
            check_at_work("advance", token, self._read(db, token.scope, token.key))
            self._write(db, token.scope, token.key, "point = ?, data = ?", recovery_point, data)

    def complete(self, token: ClaimToken, response: bytes, *, status: str = "", within: Any = None) -> None:
        self._finish("complete", token, KeyState.COMPLETED, response, status, within)

    def fail(self, token: ClaimToken, response: bytes = b"", *, status: str = "", within: Any = None) -> None:
        self._finish("fail", token, KeyState.FAILED_FINAL, response, status, within)

    def _finish(self, what: str, token: ClaimToken, to: KeyState, response: bytes, status: str, within: Any) -> None:
        answer = (to, bytes_of("response", response), text_of("status", status, empty=True))
        with self._in(within) as db:
            if may_finish(what, token, self._read(db, token.scope, token.key), answer):
                self._write(db, token.scope, token.key, "state = ?, response = ?, status = ?", to.value, *answer[1:])

    def release(self, token: ClaimToken, *, within: Any = None) -> None:
        with self._in(within) as db:
            if is_let_go(check_at_work("release", token, self._read(db, token.scope, token.key))):
                self._write(db, token.scope, token.key, f"until = {NOW}")
            else:
                db.execute("DELETE FROM keys WHERE scope = ? AND key = ?", (token.scope, token.key))

    def mark_indeterminate(self, token: ClaimToken, *, reason: str = "", within: Any = None) -> None:
        with self._in(within) as db:
            held = check_holder("mark_indeterminate", token, self._read(db, token.scope, token.key))
            if held.state is not KeyState.INDETERMINATE:
                check_at_work("mark_indeterminate", token, held)
                self._write(db, token.scope, token.key, "state = 'indeterminate', reason = ?", reason)

    def resolve(self, record: Record, to: KeyState, response: bytes, *, evidence: str, status: str = "", within: Any = None) -> None:
        text_of("evidence", evidence, most=MAX_REASON)
        answer = (final_of(to), bytes_of("response", response), status)
        with self._in(within) as db:
            if may_resolve(record, self._read(db, record.scope, record.key), answer):
                what = "state = ?, response = ?, status = ?, evidence = ?"
                self._write(db, record.scope, record.key, what, to.value, response, status, evidence)

    def find(self, scope: str, key: str, *, within: Any = None) -> Record | None:
        if within is not None:
            return self._read(within, scope, key)
        with self.connected() as own:
            return self._read(own, scope, key)

    def unsettled(self, *, limit: int = 100) -> Sequence[Record]:
        where = f"state = 'indeterminate' OR (state = 'in_progress' AND until <= {NOW})"
        with self.connected() as own:
            rows = own.execute(f"SELECT scope, key, {COLUMNS.format(now=NOW)} FROM keys WHERE {where} ORDER BY changed LIMIT ?", (limit,))
            return [_record(row[0], row[1], row[2:]) for row in rows.fetchall()]

    def purge(self, *, older_than: Any, scope: str | None = None, limit: int = 1000) -> int:
        age = seconds_of("older_than", older_than, zero=True)
        positive_count("limit", limit)
        old = f"state IN ('completed', 'failed_final') AND changed <= {NOW} - ? AND scope = coalesce(?, scope)"
        with self.transaction() as db:
            chosen = f"DELETE FROM keys WHERE rowid IN (SELECT rowid FROM keys WHERE {old} LIMIT ?)"
            return db.execute(chosen, (age, scope, limit)).rowcount


def _record(scope: str, key: str, row: Sequence[Any]) -> Record:
    names = ("fingerprint", "state", "fence", "owner", "takeovers", "lease_left", "recovery_point", "data", "response", "status", "reason")
    told: dict[str, Any] = dict(zip((*names, "evidence", "age", "idle"), row, strict=True))
    told["state"] = KeyState(told["state"])
    return Record(scope=scope, key=key, **told)
