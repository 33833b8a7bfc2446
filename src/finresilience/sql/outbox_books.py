"""What may a person ask of an outbox? Dead letters, replays, cleaning up, numbers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, final

from finresilience.durable.outbox import DeadLetter, Failure, OutboxStatistics, Reason
from finresilience.sql.dialects import at_most
from finresilience.sql.outbox_rows import COLUMNS, EVENT, row_of
from finresilience.sql.statements import Deed, Sql

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from finresilience.sql.dialects import Dialect


@final
class OutboxBooks:
    """The statements that no relay needs."""

    def __init__(self, outbox: str, dead: str, partition: str, dialect: Dialect) -> None:
        self._dialect = dialect
        now = dialect.now
        self._letters = Sql(
            f"SELECT reason, failure_kind, failure_where, parks, died_at, {', '.join(COLUMNS)} FROM {dead} "
            "ORDER BY died_at, seq LIMIT :most",
            alone=True,
        )
        kept = ", ".join(name for name in EVENT if name not in {"attempts", "takeovers"})
        self._revive = Sql(
            f"INSERT INTO {outbox} (seq, {kept}, attempts, takeovers, suspect) SELECT seq, {kept}, 0, 0, reason = 'crashed' "
            f"FROM {dead} WHERE id = :id RETURNING 1"
        )
        self._discard = Sql(f"DELETE FROM {dead} WHERE id = :id RETURNING 1")
        again = "published_at = NULL, attempts = 0, takeovers = 0, in_hand = 0, available_at = NULL, suspect = false"
        self._replay = Sql(
            f"WITH chosen AS MATERIALIZED (SELECT seq FROM {outbox} WHERE published_at >= :since AND published_at < :until "
            f"ORDER BY seq LIMIT :most {dialect.locking}) UPDATE {outbox} SET {again} WHERE seq IN (SELECT seq FROM chosen) RETURNING 1"
        )
        self._purge = Sql(
            f"WITH chosen AS MATERIALIZED (SELECT seq FROM {outbox} WHERE published_at < {dialect.later(':before')} "
            f"ORDER BY published_at LIMIT :most {dialect.locking}) "
            f"DELETE FROM {outbox} WHERE seq IN (SELECT seq FROM chosen) RETURNING 1"
        )
        self._pending = Sql(
            f"SELECT part, tenant, count(*), {dialect.seconds(now, 'min(created_at)')}, CAST(sum(attempts) AS bigint), "
            f"CAST(sum(CASE WHEN suspect THEN 1 ELSE 0 END) AS bigint) FROM {outbox} WHERE published_at IS NULL GROUP BY part, tenant"
        )
        parked = f"SELECT DISTINCT tenant, aggregateid FROM {dead} WHERE parks"
        self._others = Sql(
            f"SELECT (SELECT count(*) FROM {outbox} WHERE published_at IS NOT NULL), (SELECT count(*) FROM {dead}), "
            f"(SELECT count(*) FROM ({parked}) AS waiting), (SELECT count(*) FROM {partition} WHERE owner <> '' AND lease_until > {now})"
        )

    def dead_letters(self, most: int) -> Deed[Sequence[DeadLetter]]:
        """Return the dead letters that were buried first."""
        return [self._letter(row) for row in (yield self._letters, {"most": most})]

    def _letter(self, row: Sequence[Any]) -> DeadLetter:
        reason, kind, place, parks, died_at = row[:5]
        return DeadLetter(
            row=row_of(row[5:], self._dialect),
            reason=Reason(reason),
            failure=None if kind is None else Failure(kind, place or ""),
            parks=bool(parks),
            died_at=self._dialect.moment(died_at),
        )

    def revive(self, message_id: UUID) -> Deed[bool]:
        """Put a dead letter back in its old place."""
        told = {"id": self._dialect.parameter(message_id)}
        if not (yield self._revive, told):
            return False
        yield self._discard, told
        return True

    def discard(self, message_id: UUID) -> Deed[bool]:
        """Drop a dead letter for good."""
        return bool((yield self._discard, {"id": self._dialect.parameter(message_id)}))

    def replay(self, since: datetime, until: datetime, most: int) -> Deed[int]:
        """Publish again what was published in between."""
        told = {"since": self._dialect.instant(since), "until": self._dialect.instant(until), "most": most}
        return len((yield self._replay, told))

    def purge(self, age: float, most: int) -> Deed[int]:
        """Forget what was published longer ago."""
        return len((yield self._purge, {"before": at_most(-age), "most": most}))

    def statistics(self, fenced: int, takeovers: int) -> Deed[OutboxStatistics]:
        """Return how things stand."""
        rows = yield self._pending, {}
        parts, tenants = Counter[int](), Counter[str | None]()
        for part, tenant, count, *_ in rows:
            parts[part] += count
            tenants[tenant] += count
        published, dead, parked, owned = (yield self._others, {})[0]
        return OutboxStatistics(
            pending=sum(parts.values()),
            oldest_age=max((row[3] for row in rows), default=0.0),
            by_partition=dict(parts),
            by_tenant=dict(tenants),
            attempts=sum(row[4] for row in rows),
            suspects=sum(row[5] for row in rows),
            published=published,
            dead=dead,
            parked_keys=parked,
            owned=owned,
            fenced=fenced,
            takeovers=takeovers,
        )
