"""What does a store of idempotency keys ask a database? Claims insert first and look afterwards: the unique constraint is the guard.

Each deed that changes a row names the fencing token and the state that it expects, and looks only where nothing was changed: then the
rulings that all stores share say why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from finresilience.durable.errors import StoreBusyError
from finresilience.durable.records import (
    Claim,
    Claimed,
    ClaimToken,
    KeyState,
    Record,
    answer_to,
    check_at_work,
    check_holder,
    is_let_go,
    may_finish,
    may_resolve,
)
from finresilience.sql.dialects import at_most
from finresilience.sql.statements import Deed, Sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finresilience.sql.dialects import Dialect

_TURNS: Final = 10  # how often a row may change between two looks before we say that it is busy


@final
class IdempotencyDeeds:
    """The statements of one table in one dialect, and what is done with them."""

    def __init__(self, table: str, dialect: Dialect, *, sequence: str = "") -> None:
        now, later = dialect.now, dialect.later
        at = "scope = :scope AND key = :key"
        mine = f"{at} AND fence = :fence AND state = 'in_progress'"
        told = (
            "fence, fingerprint, state, owner, takeovers, "
            f"{dialect.seconds('lease_until', now)}, recovery_point, data, response, status, reason, evidence, "
            f"{dialect.seconds(now, 'began_at')}, {dialect.seconds(now, 'changed_at')}"
        )
        columns = "scope, key, fingerprint, state, owner, lease_until, began_at, changed_at"
        insert = (
            f"INSERT INTO {table} ({columns}) VALUES (:scope, :key, :fingerprint, 'in_progress', :owner, {later(':lease')}, {now}, {now}) "
            "ON CONFLICT (scope, key) DO NOTHING RETURNING fence"
        )
        found = f"SELECT {told} FROM {table} WHERE {at}"
        if dialect.name == "postgresql":  # one trip for a new key and for a replay alike
            nothing = ", ".join(["NULL"] * 13)
            self._claim = Sql(
                f"WITH mine AS ({insert}) SELECT fence, {nothing} FROM mine "
                f"UNION ALL SELECT {told} FROM {table} WHERE {at} AND NOT EXISTS (SELECT 1 FROM mine)",
                alone=True,
            )
        else:
            self._claim = Sql(insert)
        self._insert = Sql(insert)
        self._find = Sql(found, alone=True)
        self._looks_first = dialect.name == "sqlite"
        self._fence = Sql(f"UPDATE {sequence} SET seq = seq + 1 WHERE name = :table RETURNING seq") if sequence else None
        self._name = table.rpartition(".")[2].strip('"')
        self._inherit = Sql(
            f"UPDATE {table} SET fence = {':new' if sequence else 'DEFAULT'}, owner = :owner, takeovers = takeovers + 1, "
            f"lease_until = {later(':lease')}, changed_at = {now} "
            f"WHERE {mine} AND lease_until <= {now} RETURNING fence, takeovers, recovery_point, data"
        )

        def change(what: str, where: str = mine, *, alone: bool = True) -> Sql:
            return Sql(f"UPDATE {table} SET {what}, changed_at = {now} WHERE {where} RETURNING 1", alone=alone)

        self._renew = change(f"lease_until = {later(':lease')}")
        self._advance = change("recovery_point = :point, data = :data")
        self._finish = change("state = :state, response = :response, status = :status")
        self._doubt = change("state = 'indeterminate', reason = :reason")
        self._let_go = change(f"lease_until = {now}")
        unsure = f"{at} AND fence = :fence AND state = 'indeterminate'"
        self._resolve = change("state = :state, response = :response, status = :status, evidence = :evidence", unsure)
        self._drop = Sql(f"DELETE FROM {table} WHERE {mine} AND takeovers = 0 AND recovery_point IS NULL RETURNING 1", alone=True)
        open_ones = f"state = 'indeterminate' OR (state = 'in_progress' AND lease_until <= {now})"
        self._unsettled = Sql(
            f"SELECT scope, key, {told} FROM {table} WHERE state IN ('in_progress', 'indeterminate') AND ({open_ones}) "
            "ORDER BY changed_at, fence LIMIT :most",
            alone=True,
        )
        past = later(":before")
        old = (
            f"SELECT fence FROM {table} WHERE state IN ('completed', 'failed_final') AND began_at <= {past} AND changed_at <= {past} "
            f"AND (CAST(:scope AS varchar(255)) IS NULL OR scope = :scope) ORDER BY began_at LIMIT :most {dialect.locking}"
        )
        # Chosen once: a plan may run a subquery with SKIP LOCKED again and again, and then it finds others each time.
        self._purge = Sql(
            f"WITH chosen AS MATERIALIZED ({old}) DELETE FROM {table} WHERE fence IN (SELECT fence FROM chosen) RETURNING 1", alone=True
        )

    # --- reading ---------------------------------------------------------------------------------------------------------

    def find(self, scope: str, key: str) -> Deed[Record | None]:
        """Return what is known of a key."""
        rows = yield self._find, {"scope": scope, "key": key}
        return _record(scope, key, rows[0]) if rows else None

    def unsettled(self, most: int) -> Deed[Sequence[Record]]:
        """Return records that somebody must look after."""
        rows = yield self._unsettled, {"most": most}
        return [_record(row[0], row[1], row[2:]) for row in rows]

    # --- claiming --------------------------------------------------------------------------------------------------------

    def claim(self, scope: str, key: str, fingerprint: str, lease: float, owner: str, *, within: bool = False) -> Deed[Claim]:
        """Take the key, or tell what is known of it. `within` a caller's transaction most keys are new: there, only a replay asks twice."""
        insert = self._insert if within else self._claim
        told = {"scope": scope, "key": key, "fingerprint": fingerprint, "lease": at_most(lease), "owner": owner}
        if self._looks_first:  # to write is to lock the whole file there, and a replay writes nothing
            answer = answer_to((yield from self.find(scope, key)), fingerprint)
            if answer is not None:
                return answer
        for _ in range(_TURNS):
            rows = yield insert, told
            if rows and (insert is self._insert or self._looks_first or rows[0][2] is None):
                return Claimed(token=ClaimToken(scope, key, rows[0][0]), lease=lease)
            if rows:
                record: Record | None = _record(scope, key, rows[0])
            else:  # inserted by another, and committed after our statement began: another statement sees it
                record = yield from self.find(scope, key)
            if record is None:
                continue
            answer = answer_to(record, fingerprint) or (yield from self._inherited(record, lease, owner))
            if answer is not None:
                return answer
        raise StoreBusyError

    def _inherited(self, record: Record, lease: float, owner: str) -> Deed[Claim | None]:
        told = _at(record) | {"lease": at_most(lease), "owner": owner}
        if self._fence is not None:
            told["new"] = (yield self._fence, {"table": self._name})[0][0]
        rows = yield self._inherit, told
        if not rows:
            return None
        fence, takeovers, point, data = rows[0]
        token = ClaimToken(record.scope, record.key, fence)
        return Claimed(token=token, lease=lease, takeovers=takeovers, recovery_point=point, data=bytes(data or b""))

    # --- working and ending ----------------------------------------------------------------------------------------------

    def renew(self, token: ClaimToken, lease: float) -> Deed[None]:
        """Let the lease run anew."""
        yield from self._at_work("renew", token, self._renew, {"lease": at_most(lease)})

    def advance(self, token: ClaimToken, point: str, data: bytes) -> Deed[None]:
        """Note how far the work is."""
        yield from self._at_work("advance", token, self._advance, {"point": point, "data": data})

    def _at_work(self, what: str, token: ClaimToken, sql: Sql, told: dict[str, Any]) -> Deed[None]:
        for _ in range(_TURNS):
            if (yield sql, _at(token) | told):
                return
            check_at_work(what, token, (yield from self.find(token.scope, token.key)))
        raise StoreBusyError

    def finish(self, what: str, token: ClaimToken, answer: tuple[KeyState, bytes, str]) -> Deed[None]:
        """Finish with this answer."""
        state, response, status = answer
        for _ in range(_TURNS):
            if (yield self._finish, _at(token) | {"state": state.value, "response": response, "status": status}):
                return
            if not may_finish(what, token, (yield from self.find(token.scope, token.key)), answer):
                return
        raise StoreBusyError

    def release(self, token: ClaimToken) -> Deed[None]:
        """Give the key back; to an heir, if it is not sure that nothing happened."""
        for _ in range(_TURNS):
            if (yield self._drop, _at(token)):
                return
            held = check_at_work("release", token, (yield from self.find(token.scope, token.key)))
            if is_let_go(held) and (yield self._let_go, _at(token)):
                return
        raise StoreBusyError

    def mark_indeterminate(self, token: ClaimToken, reason: str) -> Deed[None]:
        """Note that it may have happened."""
        for _ in range(_TURNS):
            if (yield self._doubt, _at(token) | {"reason": reason}):
                return
            held = check_holder("mark_indeterminate", token, (yield from self.find(token.scope, token.key)))
            if held.state is KeyState.INDETERMINATE:
                return
            check_at_work("mark_indeterminate", token, held)
        raise StoreBusyError

    def resolve(self, record: Record, answer: tuple[KeyState, bytes, str], evidence: str) -> Deed[None]:
        """Settle it by evidence."""
        state, response, status = answer
        told = _at(record) | {"state": state.value, "response": response, "status": status, "evidence": evidence}
        for _ in range(_TURNS):
            if (yield self._resolve, told):
                return
            if not may_resolve(record, (yield from self.find(record.scope, record.key)), answer):
                return
        raise StoreBusyError

    def purge(self, age: float, scope: str | None, most: int) -> Deed[int]:
        """Forget what was finished that long ago."""
        return len((yield self._purge, {"before": at_most(-age), "scope": scope, "most": most}))


def _at(what: ClaimToken | Record) -> dict[str, Any]:
    return {"scope": what.scope, "key": what.key, "fence": what.fence}


def _record(scope: str, key: str, row: Sequence[Any]) -> Record:
    fence, fingerprint, state, owner, takeovers, left, point, data, response, status, reason, evidence, age, idle = row
    return Record(
        scope=scope,
        key=key,
        fingerprint=fingerprint,
        state=KeyState(state),
        fence=fence,
        owner=owner,
        takeovers=takeovers,
        lease_left=left,
        recovery_point=point,
        data=bytes(data or b""),
        response=bytes(response or b""),
        status=status,
        reason=reason,
        evidence=evidence,
        age=age,
        idle=idle,
    )
