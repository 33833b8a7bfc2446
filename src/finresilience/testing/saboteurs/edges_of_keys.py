"""Idempotency stores that are broken where nobody looks: in names, in ages, and where two come at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from finresilience._checks import seconds_of
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore, Row
from finresilience.durable.memory_table import checked_transaction
from finresilience.durable.records import Claim, Claimed, ClaimToken, InProgress, KeyState, Record, answer_to, is_let_go
from finresilience.testing.saboteurs import saboteur

if TYPE_CHECKING:
    from datetime import timedelta

    from finresilience.durable.memory_transaction import MemoryTransaction

CONTRACT = "IdempotencyStoreContract"


@saboteur(CONTRACT, kills="test_where_a_scope_ends_its_key_begins")
class JoinsItsNames(MemoryIdempotencyStore):
    """Keeps `scope:key` in one column: two tenants can be spelt alike, and one is given the other's answer."""

    def claim(self, scope: str, key: str, **more: Any) -> Claim:
        if ":" in scope:
            scope, _, rest = scope.partition(":")
            key = f"{rest}:{key}"
        return super().claim(scope, key, **more)


@saboteur(CONTRACT, kills="test_nobody_is_let_in_twice")
class LetsItsOwnerInAgain(MemoryIdempotencyStore):
    """Gives a claim again to whoever comes under the name of its owner: two tasks of one process both send."""

    def claim(self, scope: str, key: str, *, owner: str = "", **more: Any) -> Claim:
        told, known = super().claim(scope, key, owner=owner, **more), self.find(scope, key)
        if isinstance(told, InProgress) and owner and known is not None and known.owner == owner:
            return Claimed(token=ClaimToken(scope, key, known.fence), lease=told.retry_after, takeovers=known.takeovers)
        return told


@saboteur(CONTRACT, kills="test_a_lease_lasts_as_long_as_was_asked")
class OneLeaseForAll(MemoryIdempotencyStore):
    """Has one lease in its settings, and takes no notice of the one that is asked for."""

    def renew(self, token: ClaimToken, *, lease: float | timedelta) -> None:
        super().renew(token, lease=min(seconds_of("lease", lease), 60.0))


@saboteur(CONTRACT, kills="test_a_purge_counts_from_the_end")
class PurgesByTheClaim(MemoryIdempotencyStore):
    """Purges by when a key was claimed: what took long, or was settled by evidence, is forgotten at once and run again."""

    @staticmethod
    def _is_old(row: Row, before: float) -> bool:
        return row.record.state in {KeyState.COMPLETED, KeyState.FAILED_FINAL} and row.began <= before


@saboteur(CONTRACT, kills="test_a_record_tells_who_since_when_and_why")
class ForgetsItsHeirs(MemoryIdempotencyStore):
    """Lists no claim that an heir let run out: the second death of one payment is seen by nobody."""

    def unsettled(self, *, limit: int = 100) -> list[Record]:
        return [record for record in super().unsettled(limit=limit) if not record.takeovers]


@saboteur(CONTRACT, kills="test_the_last_recovery_point_is_told_whole")
class KeepsOldData(MemoryIdempotencyStore):
    """Writes data where there are any: an heir is told of one step with the data of the step before."""

    def advance(self, token: ClaimToken, recovery_point: str, *, data: bytes = b"", within: MemoryTransaction | None = None) -> None:
        known = self._row(token, within)
        kept = known.record.data if known is not None and data == b"" else data
        super().advance(token, recovery_point, data=kept, within=within)


@saboteur(CONTRACT, kills="test_the_status_is_part_of_the_answer")
class ComparesBytesOnly(MemoryIdempotencyStore):
    """Takes the same bytes under another status for the same answer."""

    def _finish(self, what: str, token: ClaimToken, to: KeyState, response: bytes, status: str, within: MemoryTransaction | None) -> None:
        known = self._row(token, within)
        if known is not None and (known.record.state, known.record.response) == (to, response):
            status = known.record.status
        super()._finish(what, token, to, response, status, within)


@saboteur(CONTRACT, kills="test_evidence_about_an_earlier_claim_is_stale")
class AnyEvidenceWill(MemoryIdempotencyStore):
    """Resolves by key alone: what was found out of one claim settles its heir's."""

    def resolve(self, record: Record, to: KeyState, response: bytes, **more: Any) -> None:
        known = self.find(record.scope, record.key, within=more.get("within"))
        super().resolve(record if known is None else replace(record, fence=known.fence), to, response, **more)


@saboteur(CONTRACT, kills="test_a_late_release_and_an_heir_cannot_both_have_it")
class ReleasesByKey(MemoryIdempotencyStore):
    """Looks whether the claim is still its holder's, and then deletes by key: an heir's claim is gone, and the next one is new."""

    def release(self, token: ClaimToken, *, within: MemoryTransaction | None = None) -> None:
        inside = checked_transaction(within)
        with self._lock:
            row = self._at_work("release", token, inside)
        if is_let_go(row.record):
            super().release(token, within=within)
            return
        with self._lock:
            self._rows.put((token.scope, token.key), None, inside)


@saboteur(CONTRACT, kills="test_a_late_renewal_and_an_heir_cannot_both_have_it")
class RenewsWhatItRead(MemoryIdempotencyStore):
    """Reads the row, and writes it back with a longer lease: an heir who comes between the two is overwritten."""

    def renew(self, token: ClaimToken, *, lease: float | timedelta) -> None:
        with self._lock:
            row = self._at_work("renew", token, None)
        now = self._clock.monotonic()
        with self._lock:
            self._put(replace(row, until=now + seconds_of("lease", lease), changed=now), None)


@saboteur(CONTRACT, kills="test_a_late_doubt_and_an_heir_cannot_both_have_it")
class DoubtsWhatItRead(MemoryIdempotencyStore):
    """Reads the row, and writes it back INDETERMINATE: an heir who comes between the two cannot finish."""

    def mark_indeterminate(self, token: ClaimToken, *, reason: str = "", within: MemoryTransaction | None = None) -> None:
        with self._lock:
            row = self._at_work("mark_indeterminate", token, within)
        with self._lock:
            self._change(row, within, state=KeyState.INDETERMINATE, reason=reason)


@saboteur(CONTRACT, kills="test_nobody_is_told_what_is_not_committed")
class ReplaysWhatMayBeRolledBack(MemoryIdempotencyStore):
    """Reads what is not committed: a caller is given an answer that never becomes true."""

    def claim(self, scope: str, key: str, **more: Any) -> Claim:
        held = self._rows._locked.get((scope, key))
        part = None if held is None else held()
        row = None if part is None else part.rows.get((scope, key))
        told = answer_to(row.record, more["fingerprint"]) if isinstance(row, Row) else None
        return super().claim(scope, key, **more) if told is None or isinstance(told, InProgress) else told


@saboteur(CONTRACT, kills="test_evidence_and_release_are_taken_back_too")
class ResolvesBesideTheTransaction(MemoryIdempotencyStore):
    """Resolves in a transaction of its own: the refund that goes with it is rolled back, and the key says that it was paid."""

    def resolve(self, record: Record, to: KeyState, response: bytes, **more: Any) -> None:
        more.update(within=None)
        super().resolve(record, to, response, **more)


@saboteur(CONTRACT, kills="test_a_failure_keeps_its_status_in_a_transaction")
class DropsTheStatusInTransactions(MemoryIdempotencyStore):
    """Binds one parameter less where a transaction is given: a decline replays without its status."""

    def fail(self, token: ClaimToken, response: bytes = b"", *, status: str = "", within: MemoryTransaction | None = None) -> None:
        super().fail(token, response, status=status if within is None else "", within=within)
