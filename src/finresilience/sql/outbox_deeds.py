"""What does a relay ask a database? Rows of a partition that is its own, by an epoch that every deed names.

Where no row of the partition is held (put off, suspect, or behind a dead letter that parks its key), its first rows are handed out by one
statement that looks at nothing else. Only otherwise is each row asked what stands before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from finresilience.durable.outbox import Batch, Exhausted, Failure, FencedError, PartitionLease, Reason
from finresilience.sql.dialects import at_most
from finresilience.sql.outbox_rows import COLUMNS, EVENT, row_of
from finresilience.sql.statements import Asked, Deed, Sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finresilience.sql.dialects import Dialect

HELD = "(available_at IS NOT NULL OR suspect OR in_hand <> 0)"  # as the partial index says it
_OWNED = "part = :part AND epoch = :epoch AND owner = :owner"


@final
class OutboxDeeds:
    """The statements of a relay with its partition in hand."""

    def __init__(self, outbox: str, dead: str, partition: str, relay: str, dialect: Dialect, *, keeps: bool) -> None:
        self._dialect = dialect
        self.outbox: str = outbox
        self.dead: str = dead
        self.partition: str = partition
        now = dialect.now
        pending = "part = :part AND published_at IS NULL"
        # A range of one: with `part = :part` the planner takes `seq` alone for the order, and walks the primary key through all that is
        # published and all that is another partition's. With a range, only the index of what is pending gives the order.
        one = "part BETWEEN :part AND :part AND published_at IS NULL"
        names = ", ".join(COLUMNS)
        self._held_by = Sql(f"SELECT epoch FROM {partition} WHERE part = :part")
        self._owned = Sql(
            f"SELECT CASE WHEN lease_until > {now} THEN 1 ELSE 0 END, fetched FROM {partition} WHERE {_OWNED}"
            + (" FOR SHARE" if dialect.name == "postgresql" else "")
        )
        rough = f"EXISTS (SELECT 1 FROM {outbox} WHERE {pending} AND {HELD}) OR EXISTS (SELECT 1 FROM {dead} WHERE part = :part AND parks)"
        self._one_trip = dialect.name == "postgresql"
        window = f"SELECT {names} FROM {outbox} WHERE {one} ORDER BY part, seq LIMIT :most"
        state = f"CASE WHEN p.lease_until > {now} THEN 1 ELSE 0 END, p.fetched, {rough}"
        if self._one_trip:
            self._look = Sql(
                f"SELECT {state}, o.* FROM {partition} p LEFT JOIN LATERAL ({window}) o ON p.lease_until > {now} "
                "WHERE p.part = :part AND p.epoch = :epoch AND p.owner = :owner ORDER BY o.seq",
                alone=True,
            )
        else:
            self._look = Sql(f"SELECT {state} FROM {partition} p WHERE p.part = :part AND p.epoch = :epoch AND p.owner = :owner")
        self._window = Sql(window)
        line = "h.part = o.part AND h.aggregateid = o.aggregateid AND coalesce(h.tenant, '') = coalesce(o.tenant, '')"
        held = f"h.published_at IS NULL AND {HELD.replace('available_at', 'h.available_at')} AND h.seq < o.seq".replace(
            "OR suspect OR in_hand", "OR h.suspect OR h.in_hand"
        )
        parks = f"EXISTS (SELECT 1 FROM {dead} h WHERE h.parks AND {line} {_unflattened(dialect)})"
        told = ", ".join(f"o.{name}" for name in COLUMNS)

        def due(what: str, at: str, also: str, where: str = "") -> str:
            """Rows that may be published at a moment, in order: those whose key has nothing before them that must wait."""
            before = f"EXISTS (SELECT 1 FROM {outbox} h WHERE {line} AND {held} AND (h.available_at > {at}{also}) {_unflattened(dialect)})"
            return (
                f"SELECT {what} FROM {outbox} o WHERE o.part BETWEEN :part AND :part AND o.published_at IS NULL "
                f"AND (o.available_at IS NULL OR o.available_at <= {at}) AND NOT {before} AND NOT {parks}{where} "
                "ORDER BY o.part, o.seq LIMIT :most"
            )

        self._due = Sql(due(f"o.suspect, {told}", now, " OR h.suspect"))
        # What the owner that died may have had in its hands: by the time at which its lease ran out.
        at_death = f"(SELECT lease_until FROM {partition} WHERE part = :part)"
        nearby = due("o.seq", at_death, "", f" AND NOT o.suspect AND o.created_at <= {at_death}")
        self.blame: Sql = Sql(
            f"UPDATE {outbox} SET suspect = true, takeovers = CASE WHEN takeovers < 1 THEN 1 ELSE takeovers END "
            f"WHERE part = :part AND seq IN ({nearby}) RETURNING 1"
        )
        self.blame_marked: Sql = Sql(
            f"UPDATE {outbox} SET in_hand = 0, takeovers = takeovers + 1, available_at = {dialect.later(':lease')} "
            f"WHERE {pending} AND in_hand <> 0 RETURNING seq, takeovers"
        )
        self._fetched = Sql(f"UPDATE {partition} SET fetched = true WHERE {_OWNED} RETURNING 1", alone=True)

        mine = f"EXISTS (SELECT 1 FROM {partition} WHERE {_OWNED})"
        gone = f"{pending} AND {dialect.among('seq', ':seqs')} AND {mine} RETURNING 1"
        done = f"published_at = {now}, in_hand = 0, suspect = false, available_at = NULL"
        settle = f"UPDATE {outbox} SET {done} WHERE {gone}" if keeps else f"DELETE FROM {outbox} WHERE {gone}"
        if self._one_trip:
            settle = f"WITH done AS ({settle}) SELECT (SELECT count(*) FROM done), (SELECT count(*) FROM {partition} WHERE {_OWNED})"
        self._settle = Sql(settle, alone=True)
        row = f"{pending} AND seq = :seq"
        self._mark = Sql(f"UPDATE {outbox} SET in_hand = :epoch WHERE {row}")
        self._retry = Sql(
            f"UPDATE {outbox} SET attempts = attempts + :counted, available_at = {dialect.later(':after')}, in_hand = 0, suspect = false "
            f"WHERE {row}"
        )
        event = ", ".join(name for name in EVENT if name != "attempts")
        self._entomb = Sql(
            f"INSERT INTO {dead} (seq, {event}, attempts, reason, failure_kind, failure_where, parks, died_at) "
            f"SELECT seq, {event}, attempts + :more, CAST(:reason AS varchar(16)), CAST(:kind AS varchar(300)), "
            f"CAST(:place AS varchar(300)), CAST(:parks AS boolean), {now} FROM {outbox} WHERE {row} RETURNING 1"
        )
        self._drop = Sql(f"DELETE FROM {outbox} WHERE {row}")

        self._lease_statements(relay, pending)

    def _lease_statements(self, relay: str, pending: str) -> None:
        outbox, partition = self.outbox, self.partition
        until = self._dialect.later(":seconds")
        self._renew = Sql(f"UPDATE {partition} SET lease_until = {until} WHERE {_OWNED} RETURNING 1")
        self._live = Sql(
            f"INSERT INTO {relay} (owner, lease_until) VALUES (:owner, {until}) "
            "ON CONFLICT (owner) DO UPDATE SET lease_until = excluded.lease_until"
        )
        self._release = Sql(f"UPDATE {partition} SET owner = '', lease_until = NULL WHERE {_OWNED} RETURNING 1")
        self._unhand = Sql(f"UPDATE {outbox} SET in_hand = 0 WHERE {pending} AND in_hand <> 0")
        self._leave = Sql(f"DELETE FROM {relay} WHERE owner = :owner AND NOT EXISTS (SELECT 1 FROM {partition} WHERE owner = :owner)")

    # --- fences ----------------------------------------------------------------------------------------------------------

    def _fence(self, lease: PartitionLease, doing: str) -> Deed[None]:
        rows = yield self._held_by, {"part": lease.part}
        epoch = rows[0][0] if rows else None
        raise FencedError(lease.part, lease.epoch, current=None if epoch == lease.epoch else epoch, doing=doing)

    def _must_own(self, lease: PartitionLease, doing: str) -> Deed[None]:
        """Let nobody take the partition until this transaction ends."""
        if not (yield self._owned, _at(lease)):
            yield from self._fence(lease, doing)

    # --- rows ------------------------------------------------------------------------------------------------------------

    def fetch(self, lease: PartitionLease, most: int) -> Deed[Batch]:
        """Return the first rows that are due."""
        told = _at(lease) | {"most": most}
        rows = yield self._look, told
        if not rows or not rows[0][0]:
            yield from self._fence(lease, "fetching")
        _, fetched, held = rows[0][:3]
        if held:
            return (yield from self._looked_at(lease, told, fetched=bool(fetched)))
        if self._one_trip:
            found = [row_of(row[3:], self._dialect) for row in rows if row[3] is not None]
        else:
            found = [row_of(row, self._dialect) for row in (yield self._window, told)]
        if found and not fetched:
            yield from self._note_fetched(lease)
        return Batch(tuple(found))

    def _looked_at(self, lease: PartitionLease, told: dict[str, Any], *, fetched: bool) -> Deed[Batch]:
        # The first alone to begin with: a suspect is handed out alone, and the rows behind it may wait for it as far as one looks.
        rows = yield self._due, told | {"most": 1}
        if rows and not fetched:
            yield from self._note_fetched(lease)
        if rows and rows[0][0]:
            return Batch((row_of(rows[0][1:], self._dialect),), suspect=True)
        if rows:
            rows = yield self._due, told
        return Batch(tuple(row_of(row[1:], self._dialect) for row in rows if not row[0]))

    def _note_fetched(self, lease: PartitionLease) -> Deed[None]:
        if not (yield self._fetched, _at(lease)):
            yield from self._fence(lease, "fetching")

    def mark(self, lease: PartitionLease, seq: int) -> Deed[None]:
        """Note that a suspect is about to be delivered."""
        yield from self._must_own(lease, "marking")
        yield self._mark, _at(lease) | {"seq": seq}

    def settle(self, lease: PartitionLease, seqs: Sequence[int]) -> Deed[int]:
        """Note rows as published."""
        rows = yield self._settle, _at(lease) | {"seqs": self._dialect.listed(list(seqs))}
        if self._one_trip:
            done, owned = rows[0]
        else:
            done = len(rows)
            owned = done or len((yield self._owned, _at(lease)))
        if not owned:
            yield from self._fence(lease, "settling")
        return int(done)

    def retry(self, lease: PartitionLease, seq: int, after: float, *, counted: bool) -> Deed[None]:
        """Hold a row and its key back."""
        yield from self._must_own(lease, "retrying")
        yield self._retry, _at(lease) | {"seq": seq, "after": at_most(after), "counted": int(counted)}

    def bury(self, lease: PartitionLease, seq: int, reason: Reason, failure: Failure, exhausted: Exhausted) -> Deed[None]:
        """Move a row to the dead letters."""
        yield from self._must_own(lease, "burying")
        yield from self.entomb(lease.part, seq, reason, failure, parks=exhausted is Exhausted.PARK_KEY, more=1)

    def entomb(self, part: int, seq: int, reason: Reason, failure: Failure | None, *, parks: bool, more: int) -> Deed[None]:
        """Move a row to the dead letters, whoever owns its partition."""
        kind, place = (None, None) if failure is None else (failure.kind, failure.where)
        row = {"part": part, "seq": seq}
        told = {"reason": str(reason), "kind": kind, "place": place, "parks": parks, "more": more}
        if (yield self._entomb, row | told):
            yield self._drop, row

    # --- leases ----------------------------------------------------------------------------------------------------------

    def renew(self, lease: PartitionLease) -> Deed[PartitionLease]:
        """Let the lease run anew."""
        if not (yield self._renew, _at(lease) | {"seconds": at_most(lease.seconds)}):
            yield from self._fence(lease, "renewing")
        yield self.lives(lease.owner, lease.seconds)
        return lease

    def lives(self, owner: str, seconds: float) -> Asked:
        """Return what says that a relay lives."""
        return self._live, {"owner": owner, "seconds": at_most(seconds)}

    def release(self, lease: PartitionLease) -> Deed[None]:
        """Give a partition back."""
        if not (yield self._release, _at(lease)):
            yield from self._fence(lease, "releasing")
        yield self._unhand, {"part": lease.part}
        yield self._leave, {"owner": lease.owner}


def _at(lease: PartitionLease) -> dict[str, Any]:
    return {"part": lease.part, "epoch": lease.epoch, "owner": lease.owner}


def _unflattened(dialect: Dialect) -> str:
    """Keep the planner from joining: a join may sort the whole backlog before the first row, and a look costs one probe a row."""
    return "OFFSET 0" if dialect.name == "postgresql" else ""
