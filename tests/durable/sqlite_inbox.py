"""A stranger's inbox: SQLite by hand, its marker in the caller's transaction, its failures in one of its own. For tests alone."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.durable.records import text_of
from finresilience.durable.seen import UNFINISHED, Counted, Duplicate, Fresh, Parked, ParkedMessage, Seen, Stale
from tests.durable.sqlite_store import NOW, Database

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SCHEMA = """
CREATE TABLE seen (tenant TEXT, team TEXT, message TEXT, at REAL NOT NULL, PRIMARY KEY (tenant, team, message));
CREATE TABLE marks (tenant TEXT, team TEXT, entity TEXT, position INTEGER NOT NULL, PRIMARY KEY (tenant, team, entity));
CREATE TABLE failures (
  tenant TEXT, team TEXT, message TEXT, number INTEGER NOT NULL, first REAL NOT NULL, last REAL NOT NULL,
  reason TEXT NOT NULL, delivery TEXT NOT NULL, parked INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (tenant, team, message));
"""
WHERE = "tenant = ? AND team = ? AND message = ?"
UNSEEN = "NOT EXISTS (SELECT 1 FROM seen s WHERE (s.tenant, s.team, s.message) = (f.tenant, f.team, f.message))"

Place = tuple[str, str, str]


class SqliteInbox(Database):
    park_after = 3

    def __init__(self, path: Path) -> None:
        super().__init__(path, SCHEMA)

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
    ) -> Seen:
        at = _place(tenant, group, message_id)
        if not isinstance(within, sqlite3.Connection):
            refuse("within", within, "the connection of the effect")
        if (entity is None) is not (position is None):
            refuse("position", "", "both entity= and position=, or neither")
        if position is not None:
            positive_count("position", position, least=0, most=2**63 - 1)
        insert = f"INSERT INTO seen VALUES (?, ?, ?, {NOW}) ON CONFLICT DO NOTHING"
        within.execute("SAVEPOINT once")
        told = self._told(within, at, entity, position) if within.execute(insert, at).rowcount else self._duplicate(within, at)
        within.execute("RELEASE once" if isinstance(told, Fresh) else "ROLLBACK TO once")
        return told

    def _duplicate(self, db: sqlite3.Connection, at: Place) -> Duplicate:
        return Duplicate(db.execute(f"SELECT {NOW} - at FROM seen WHERE {WHERE}", at).fetchone()[0])

    def _told(self, db: sqlite3.Connection, at: Place, entity: str | None, position: int | None) -> Seen:
        failures, parked = self._failures(db, at)
        if parked:
            return Parked(failures)
        if entity is not None:
            raised = "INSERT INTO marks VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET position = excluded.position"
            if not db.execute(f"{raised} WHERE position < excluded.position", (*at[:2], entity, position)).rowcount:
                return Stale(self._mark(db, (*at[:2], entity)) or 0)
        return Fresh(failures)

    def _failures(self, db: sqlite3.Connection, at: Place) -> tuple[int, bool]:
        row = db.execute(f"SELECT number, parked FROM failures WHERE {WHERE}", at).fetchone()
        return (0, False) if row is None else (row[0], bool(row[1]))

    def _mark(self, db: sqlite3.Connection, at: Place) -> int | None:
        row = db.execute("SELECT position FROM marks WHERE tenant = ? AND team = ? AND entity = ?", at).fetchone()
        return None if row is None else row[0]

    def failed(self, *, group: str, message_id: str, tenant: str = "", reason: str = "", delivery_id: str = "") -> Counted:
        at = _place(tenant, group, message_id)
        with self.transaction() as db:
            if db.execute(f"SELECT 1 FROM seen WHERE {WHERE}", at).fetchone():
                return Counted(0, parked=False)
            facts = "last = excluded.last, reason = excluded.reason, delivery = excluded.delivery"
            what = f"number = number + 1, parked = number + 1 >= ?, {facts}"
            insert = f"INSERT INTO failures VALUES (?, ?, ?, 1, {NOW}, {NOW}, ?, ?, 1 >= ?)"
            most = self.park_after
            db.execute(f"{insert} ON CONFLICT DO UPDATE SET {what} WHERE NOT parked", (*at, reason, delivery_id, most, most))
            return self._counted(db, at)

    def begun(self, *, group: str, message_id: str, tenant: str = "", delivery_id: str = "") -> Counted:
        at = _place(tenant, group, message_id)
        with self.transaction() as db:
            if db.execute(f"SELECT 1 FROM seen WHERE {WHERE}", at).fetchone():
                return Counted(0, parked=False)
            parks = f"parked = 1, last = {NOW}, reason = ?, delivery = ?"
            most = self.park_after
            if not db.execute(
                f"UPDATE failures SET {parks} WHERE {WHERE} AND number >= ? AND NOT parked", (UNFINISHED, delivery_id, *at, most)
            ).rowcount:
                insert = f"INSERT INTO failures VALUES (?, ?, ?, 1, {NOW}, {NOW}, '', '', 0)"
                db.execute(f"{insert} ON CONFLICT DO UPDATE SET number = number + 1, last = excluded.last WHERE NOT parked", at)
            return self._counted(db, at)

    def _counted(self, db: sqlite3.Connection, at: Place) -> Counted:
        number, parked = self._failures(db, at)
        return Counted(number, parked=parked)

    def forgiven(self, *, group: str, message_id: str, tenant: str = "") -> Counted:
        at = _place(tenant, group, message_id)
        with self.transaction() as db:
            if db.execute(f"SELECT 1 FROM seen WHERE {WHERE}", at).fetchone():
                return Counted(0, parked=False)
            db.execute(f"UPDATE failures SET number = number - 1, parked = 0 WHERE {WHERE}", at)
            db.execute("DELETE FROM failures WHERE number = 0")
            return self._counted(db, at)

    def parked(self, *, limit: int = 100) -> Sequence[ParkedMessage]:
        columns = f"tenant, team, message, delivery, number, reason, {NOW} - first, {NOW} - last"
        names = ("tenant", "group", "message_id", "delivery_id", "failures", "reason", "age", "idle")
        with self.connected() as db:
            asked = f"SELECT {columns} FROM failures f WHERE parked AND {UNSEEN} ORDER BY last LIMIT ?"
            rows: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in db.execute(asked, (limit,))]
            return [ParkedMessage(**row) for row in rows]

    def unpark(self, *, group: str, message_id: str, tenant: str = "") -> bool:
        at = _place(tenant, group, message_id)
        with self.transaction() as db:
            return bool(db.execute(f"DELETE FROM failures AS f WHERE {WHERE} AND parked AND {UNSEEN}", at).rowcount)

    def high_water(self, *, group: str, entity: str, tenant: str = "") -> int | None:
        with self.connected() as db:
            return self._mark(db, (tenant, group, entity))

    def purge(self, *, older_than: Any, limit: int = 1000) -> int:
        age = seconds_of("older_than", older_than, zero=True)
        positive_count("limit", limit)
        with self.transaction() as db:
            tired = f"SELECT rowid FROM failures f WHERE last <= {NOW} - ? AND NOT (parked AND {UNSEEN}) LIMIT ?"
            gone = db.execute(f"DELETE FROM failures WHERE rowid IN ({tired})", (age, limit)).rowcount
            old = f"SELECT rowid FROM seen WHERE at <= {NOW} - ? LIMIT ?"
            return gone + db.execute(f"DELETE FROM seen WHERE rowid IN ({old})", (age, limit - gone)).rowcount


def _place(tenant: str, group: str, message: str) -> Place:
    return text_of("tenant", tenant, empty=True), text_of("group", group), text_of("message_id", message)
