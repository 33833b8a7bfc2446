"""What does an inbox ask a database? The marker is inserted first; what stands in its way is looked at afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

from finresilience.durable.seen import UNFINISHED, Counted, Duplicate, Fresh, Parked, ParkedMessage, Seen, Stale, Underway
from finresilience.sql.dialects import at_most
from finresilience.sql.links import is_busy
from finresilience.sql.statements import Deed, Sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finresilience.sql.dialects import Dialect

Place: TypeAlias = tuple[str, str, str]  # tenant, group, and a message or an entity

A_MOMENT: Final = 0.1  # seconds after which another's transaction will probably have ended
_SAVE: Final = Sql("SAVEPOINT fin_once")
_BACK: Final = Sql("ROLLBACK TO SAVEPOINT fin_once")
_KEEP: Final = Sql("RELEASE SAVEPOINT fin_once")
_PATIENCE: Final = Sql("SELECT current_setting('lock_timeout')")
_WAIT: Final = Sql("SELECT set_config('lock_timeout', :most, true)")
_AT: Final = "tenant = :tenant AND consumer_group = :grp AND message_id = :message"


@final
class InboxDeeds:
    """The statements of an inbox's tables in one dialect, and what is done with them."""

    def __init__(self, seen: str, failure: str, mark: str, dialect: Dialect) -> None:
        now = dialect.now
        is_parked = f"SELECT 1 FROM {failure} WHERE {_AT} AND parked"
        insert = (
            f"INSERT INTO {seen} (tenant, consumer_group, message_id, handled_at) SELECT CAST(:tenant AS varchar(255)), "
            f"CAST(:grp AS varchar(255)), CAST(:message AS varchar(255)), {now} WHERE NOT EXISTS ({is_parked}) "
            "ON CONFLICT (tenant, consumer_group, message_id) DO NOTHING RETURNING 1"
        )
        failures = f"SELECT failures, parked FROM {failure} WHERE {_AT}"
        self._one_trip = dialect.name == "postgresql"
        if self._one_trip:
            self._once = Sql(
                f"WITH mine AS ({insert}) SELECT (SELECT count(*) FROM mine), "
                f"(SELECT {dialect.seconds(now, 'handled_at')} FROM {seen} WHERE {_AT}), f.failures, f.parked "
                f"FROM (SELECT 1) one LEFT JOIN ({failures}) f ON true"
            )
        else:
            self._once = Sql(insert)
        self._failures = Sql(failures)
        self._age = Sql(f"SELECT {dialect.seconds(now, 'handled_at')} FROM {seen} WHERE {_AT}")
        self._forget = Sql(f"DELETE FROM {seen} WHERE {_AT} RETURNING 1")
        at_entity = "tenant = :tenant AND consumer_group = :grp AND entity = :entity"
        self._raise = Sql(
            f"INSERT INTO {mark} (tenant, consumer_group, entity, position) VALUES (:tenant, :grp, :entity, :position) "
            "ON CONFLICT (tenant, consumer_group, entity) DO UPDATE SET position = excluded.position "
            f"WHERE {mark}.position < excluded.position RETURNING 1"
        )
        self._highest = Sql(f"SELECT position FROM {mark} WHERE {at_entity}", alone=True)

        unseen = f"NOT EXISTS (SELECT 1 FROM {seen} WHERE {_AT})"
        names = "tenant, consumer_group, message_id, failures, first_at, last_at, reason, delivery_id, parked"
        place = "CAST(:tenant AS varchar(255)), CAST(:grp AS varchar(255)), CAST(:message AS varchar(255))"
        conflict = "ON CONFLICT (tenant, consumer_group, message_id) DO UPDATE SET last_at = excluded.last_at"
        facts = "CAST(:reason AS varchar(1000)), CAST(:delivery AS varchar(255))"
        most = "CAST(:most AS integer)"
        more = f"{failure}.failures + 1"
        self._failed = Sql(
            f"INSERT INTO {failure} ({names}) SELECT {place}, 1, {now}, {now}, {facts}, 1 >= {most} WHERE {unseen} {conflict}, "
            f"failures = {more}, reason = excluded.reason, delivery_id = excluded.delivery_id, parked = {more} >= {most} "
            f"WHERE NOT {failure}.parked RETURNING failures, parked"
        )
        worn = f"{failure}.failures >= {most}"
        self._begun = Sql(
            f"INSERT INTO {failure} ({names}) SELECT {place}, 1, {now}, {now}, '', '', false WHERE {unseen} {conflict}, "
            f"failures = CASE WHEN {worn} THEN {failure}.failures ELSE {more} END, parked = {worn}, "
            f"reason = CASE WHEN {worn} THEN CAST(:reason AS varchar(1000)) ELSE {failure}.reason END, "
            f"delivery_id = CASE WHEN {worn} THEN CAST(:delivery AS varchar(255)) ELSE {failure}.delivery_id END "
            f"WHERE NOT {failure}.parked RETURNING failures, parked"
        )
        self._known = Sql(f"SELECT failures, parked FROM {failure} WHERE {_AT} AND {unseen}")
        self._fewer = Sql(f"UPDATE {failure} SET failures = failures - 1, parked = false WHERE {_AT} AND {unseen} RETURNING failures")
        self._none_left = Sql(f"DELETE FROM {failure} WHERE {_AT} AND failures <= 0 RETURNING 1")
        self._unpark = Sql(f"DELETE FROM {failure} WHERE {_AT} AND parked AND {unseen} RETURNING 1", alone=True)
        is_seen = (
            f"EXISTS (SELECT 1 FROM {seen} s WHERE s.tenant = f.tenant AND s.consumer_group = f.consumer_group "
            "AND s.message_id = f.message_id)"
        )
        self._parked = Sql(
            "SELECT tenant, consumer_group, message_id, delivery_id, failures, reason, "
            f"{dialect.seconds(now, 'first_at')}, {dialect.seconds(now, 'last_at')} FROM {failure} f "
            f"WHERE parked AND NOT {is_seen} ORDER BY last_at LIMIT :most",
            alone=True,
        )
        past = dialect.later(":before")
        key = "tenant, consumer_group, message_id"
        self._purge_failures = Sql(
            f"WITH chosen AS MATERIALIZED (SELECT {key} FROM {failure} f WHERE last_at <= {past} "
            f"AND (NOT parked OR {is_seen}) ORDER BY last_at LIMIT :most {dialect.locking}) "
            f"DELETE FROM {failure} WHERE ({key}) IN (SELECT {key} FROM chosen) RETURNING 1"
        )
        self._purge_seen = Sql(
            f"WITH chosen AS MATERIALIZED (SELECT {key} FROM {seen} WHERE handled_at <= {past} "
            f"ORDER BY handled_at LIMIT :most {dialect.locking}) "
            f"DELETE FROM {seen} WHERE ({key}) IN (SELECT {key} FROM chosen) RETURNING 1"
        )

    # --- in the caller's transaction -----------------------------------------------------------------------------------

    def once_within(self, at: Place, entity: str | None, position: int | None, patience: float) -> Deed[Seen]:
        """Insert the marker, and wait no longer than `patience` seconds for whoever holds it."""
        if (
            not self._one_trip
        ):  # SQLite waits for as long as its connection was told to, and a statement that fails there ends no transaction
            try:
                return (yield from self.once(at, entity, position))
            except Exception as error:
                if not is_busy(error):
                    raise
                return Underway(A_MOMENT)
        yield _SAVE, {}
        before = (yield _PATIENCE, {})[0][0]
        yield _WAIT, {"most": f"{max(1, round(patience * 1000))}ms"}
        try:
            seen = yield from self.once(at, entity, position)
        except Exception as error:
            if not is_busy(error):
                raise
            yield _BACK, {}  # which sets the old patience again
            return Underway(A_MOMENT)
        yield _WAIT, {"most": before}
        yield _KEEP, {}
        return seen

    def once(self, at: Place, entity: str | None, position: int | None) -> Deed[Seen]:
        """Insert the marker, or tell what stands in its way."""
        told = _at(at)
        if self._one_trip:
            inserted, age, failures, parked = (yield self._once, told)[0]
        else:
            inserted = len((yield self._once, told))
            failures, parked = _first((yield self._failures, told), (None, None))
            age = None
        if inserted:
            stale = None if entity is None else (yield from self._stale(at, entity, position))
            return Fresh(failures or 0) if stale is None else stale
        if age is None:  # inserted by another, and committed after our statement began; or it is parked
            age = _first((yield self._age, told), (None,))[0]
        if age is not None:
            return Duplicate(age)
        return Parked(failures) if parked else Underway(A_MOMENT)

    def _stale(self, at: Place, entity: str, position: int | None) -> Deed[Seen | None]:
        told = {"tenant": at[0], "grp": at[1], "entity": entity}
        if (yield self._raise, told | {"position": position}):
            return None
        highest = (yield self._highest, told)[0][0]
        yield self._forget, _at(at)
        return Stale(highest)

    # --- in transactions of its own ---------------------------------------------------------------------------------------

    def failed(self, at: Place, reason: str, delivery_id: str, most: int) -> Deed[Counted]:
        """Count one failure."""
        return (yield from self._counted(self._failed, at, {"reason": reason, "delivery": delivery_id, "most": most}))

    def begun(self, at: Place, delivery_id: str, most: int) -> Deed[Counted]:
        """Count a run before it is made."""
        return (yield from self._counted(self._begun, at, {"reason": UNFINISHED, "delivery": delivery_id, "most": most}))

    def _counted(self, sql: Sql, at: Place, facts: dict[str, Any]) -> Deed[Counted]:
        told = _at(at)
        rows = yield sql, told | facts
        if not rows:  # it was handled, or is parked already
            rows = yield self._known, told
        return Counted(rows[0][0], parked=bool(rows[0][1])) if rows else Counted(0, parked=False)

    def forgiven(self, at: Place) -> Deed[Counted]:
        """Take one failure back."""
        told = _at(at)
        rows = yield self._fewer, told
        if rows and rows[0][0] <= 0:
            yield self._none_left, told
        return Counted(max(rows[0][0], 0) if rows else 0, parked=False)

    def parked(self, most: int) -> Deed[Sequence[ParkedMessage]]:
        """Return parked messages."""
        rows = yield self._parked, {"most": most}
        return [_parked(*row) for row in rows]

    def unpark(self, at: Place) -> Deed[bool]:
        """Let it be handled when it is delivered again."""
        return bool((yield self._unpark, _at(at)))

    def high_water(self, at: Place) -> Deed[int | None]:
        """Return the highest position that was handled."""
        rows = yield self._highest, {"tenant": at[0], "grp": at[1], "entity": at[2]}
        highest: int | None = _first(rows, (None,))[0]
        return highest

    def purge(self, age: float, most: int) -> Deed[int]:
        """Forget old failures and old markers."""
        failures = len((yield self._purge_failures, {"before": at_most(-age), "most": most}))
        if failures == most:
            return failures
        return failures + len((yield self._purge_seen, {"before": at_most(-age), "most": most - failures}))


def _at(at: Place) -> dict[str, Any]:
    return {"tenant": at[0], "grp": at[1], "message": at[2]}


def _first(rows: Sequence[Sequence[Any]], otherwise: tuple[Any, ...]) -> Sequence[Any]:
    return rows[0] if rows else otherwise


def _parked(
    tenant: str, group: str, message_id: str, delivery_id: str, failures: int, reason: str, age: float, idle: float
) -> ParkedMessage:
    return ParkedMessage(
        tenant=tenant, group=group, message_id=message_id, delivery_id=delivery_id, failures=failures, reason=reason, age=age, idle=idle
    )
