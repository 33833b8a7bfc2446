"""Idempotency stores that are broken in one place: in who gets a key, in what ends it, and in what is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.durable.records import Claim, Claimed, ClaimToken, InProgress, KeyState, Record, Replay
from finresilience.testing.saboteurs import saboteur

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finresilience.durable.memory_idempotency import Row
    from finresilience.durable.memory_transaction import MemoryTransaction

CONTRACT = "IdempotencyStoreContract"

# ---------------------------------------------------------------- who gets a key


@saboteur(CONTRACT, kills="test_of_any_number_of_claimants_one_wins")
class CheckThenAct(MemoryIdempotencyStore):
    """Looks whether the key is free, and then takes it: between the two, so does everybody else."""

    def claim(self, scope: str, key: str, **more: Any) -> Claim:
        if self.find(scope, key) is not None:
            return super().claim(scope, key, **more)
        return self._take((scope, key), None, more["fingerprint"], more["lease"], "", None)


@saboteur(CONTRACT, kills="test_a_key_that_nobody_claimed_is_absent")
class EveryoneIsAnHeir(MemoryIdempotencyStore):
    """Tells the first claimant that somebody had the key before."""

    def claim(self, scope: str, key: str, **more: Any) -> Claim:
        told = super().claim(scope, key, **more)
        return replace(told, takeovers=told.takeovers + 1) if isinstance(told, Claimed) else told


@saboteur(CONTRACT, kills="test_a_loser_is_told_for_how_long_the_claim_runs")
class SaysComeBackAtOnce(MemoryIdempotencyStore):
    """Tells losers to ask again at once, and again, and again."""

    def claim(self, scope: str, key: str, **more: Any) -> Claim:
        told = super().claim(scope, key, **more)
        return InProgress(0.0) if isinstance(told, InProgress) else told


@saboteur(CONTRACT, kills="test_a_key_belongs_to_one_request")
class NoFingerprint(MemoryIdempotencyStore):
    """Does not compare requests: another amount under the same key gets the first one's answer."""

    def claim(self, scope: str, key: str, **more: Any) -> Claim:
        more.update(fingerprint="any")
        return super().claim(scope, key, **more)


@saboteur(CONTRACT, kills="test_tenants_share_nothing")
class ForgetsTheTenant(MemoryIdempotencyStore):
    """Looks keys up without their scope: one tenant gets another tenant's answer."""

    def claim(self, scope: str, key: str, **more: Any) -> Claim:
        return super().claim("everybody", key, **more)


@saboteur(CONTRACT, kills="test_keys_are_compared_exactly")
class FoldsKeys(MemoryIdempotencyStore):
    """Takes keys for equal that differ in case or in blanks, as a careless collation does."""

    def claim(self, scope: str, key: str, **more: Any) -> Claim:
        folded = key.strip().casefold() if isinstance(key, str) else key
        return super().claim(scope, folded or key, **more)


@saboteur(CONTRACT, kills="test_what_cannot_work_is_refused_at_the_door")
class ZeroMeansForEver(MemoryIdempotencyStore):
    """Reads a lease of zero as none given, so that the key is never free again."""

    def claim(self, scope: str, key: str, **more: Any) -> Claim:
        more.update(lease=more["lease"] or 1e9)
        return super().claim(scope, key, **more)


@saboteur(CONTRACT, kills="test_nothing_secret_is_printed")
class PrintsItsKeys(MemoryIdempotencyStore):
    """Shows its keys when it is printed, and so in every log."""

    def __repr__(self) -> str:
        return f"<PrintsItsKeys {[key for key, _ in self._rows.all()]}>"


# ---------------------------------------------------------------- how it ends


@saboteur(CONTRACT, kills="test_what_is_completed_replays_the_same_bytes")
class ForgetsAnswersWithTheLease(MemoryIdempotencyStore):
    """Keeps an answer only for as long as the lease ran, and then runs the request again."""

    def claim(self, scope: str, key: str, **more: Any) -> Claim:
        told = super().claim(scope, key, **more)
        if isinstance(told, Replay) and told.record.lease_left <= 0:
            self._rows.put((scope, key), None)
            return super().claim(scope, key, **more)
        return told


@saboteur(CONTRACT, kills="test_a_final_failure_replays_as_a_failure")
class ReplaysFailuresAsSuccesses(MemoryIdempotencyStore):
    """Stores a decline as if it had been a success."""

    def fail(self, token: ClaimToken, response: bytes = b"", **more: Any) -> None:
        self.complete(token, response, **more)


@saboteur(CONTRACT, kills="test_a_final_failure_replays_as_a_failure")
class RunsFailuresAgain(MemoryIdempotencyStore):
    """Forgets a key that failed, so that a declined payment is tried again under the same key."""

    def fail(self, token: ClaimToken, response: bytes = b"", **more: Any) -> None:
        super().fail(token, response, **more)
        self._rows.put((token.scope, token.key), None)


@saboteur(CONTRACT, kills="test_an_answer_cannot_be_changed_afterwards")
class KeepsTheBuffer(MemoryIdempotencyStore):
    """Keeps the caller's own buffer as the answer."""

    def complete(self, token: ClaimToken, response: bytes, **more: Any) -> None:
        super().complete(token, response, **more)
        row = self._row(token, more.get("within"))
        if row is not None:
            self._put(replace(row, record=replace(row.record, response=response)), more.get("within"))


@saboteur(CONTRACT, kills="test_what_is_finished_cannot_be_finished_otherwise")
class TheLastAnswerWins(MemoryIdempotencyStore):
    """Lets a claim be finished again with another answer."""

    def _finish(self, what: str, token: ClaimToken, to: KeyState, response: bytes, status: str, within: MemoryTransaction | None) -> None:
        row = self._row(token, within)
        if row is not None and row.record.fence == token.fence and row.record.state is not KeyState.INDETERMINATE:
            self._change(row, within, state=KeyState.IN_PROGRESS)
        super()._finish(what, token, to, response, status, within)


@saboteur(CONTRACT, kills="test_what_is_finished_has_no_holder")
class ReleasesTheFinished(MemoryIdempotencyStore):
    """Lets a key be released after it was finished: the effect happened, and will happen again."""

    def release(self, token: ClaimToken, **more: Any) -> None:
        row = self._row(token, more.get("within"))
        if row is not None and row.record.fence == token.fence and row.record.state is KeyState.COMPLETED:
            self._rows.put((token.scope, token.key), None)
        else:
            super().release(token, **more)


@saboteur(CONTRACT, kills="test_an_answer_that_is_too_long_is_refused_and_the_claim_stays")
class CutsLongAnswers(MemoryIdempotencyStore):
    """Stores the first part of an answer that is too long, as a column without strict mode does."""

    def complete(self, token: ClaimToken, response: bytes, **more: Any) -> None:
        super().complete(token, response[: self.max_response], **more)


# ---------------------------------------------------------------- what is not known


@saboteur(CONTRACT, kills="test_what_is_indeterminate_is_never_run_again")
class RunsTheIndeterminateAgain(MemoryIdempotencyStore):
    """Lets an heir take over what may have happened, once the lease has run out."""

    def claim(self, scope: str, key: str, **more: Any) -> Claim:
        row = self._rows.get((scope, key))
        if row is not None and row.record.state is KeyState.INDETERMINATE and row.told(self._clock.monotonic()).lease_left <= 0:
            self._put(replace(row, record=replace(row.record, state=KeyState.IN_PROGRESS)), None)
        return super().claim(scope, key, **more)


@saboteur(CONTRACT, kills="test_what_is_indeterminate_is_settled_by_evidence_alone")
class BelievesTheHolder(MemoryIdempotencyStore):
    """Lets the holder finish by guess what it has itself called INDETERMINATE."""

    def complete(self, token: ClaimToken, response: bytes, **more: Any) -> None:
        row = self._row(token, more.get("within"))
        if row is not None and row.record.state is KeyState.INDETERMINATE:
            self._change(row, more.get("within"), state=KeyState.IN_PROGRESS)
        super().complete(token, response, **more)


@saboteur(CONTRACT, kills="test_evidence_settles_it_once")
class TheLastEvidenceWins(MemoryIdempotencyStore):
    """Lets later evidence overwrite what was settled before."""

    def resolve(self, record: Record, to: KeyState, response: bytes, **more: Any) -> None:
        row = self._rows.get((record.scope, record.key))
        if row is not None and row.record.evidence:
            self._change(row, None, state=KeyState.INDETERMINATE)
        super().resolve(record, to, response, **more)


@saboteur(CONTRACT, kills="test_only_what_is_indeterminate_is_resolved")
class SettlesWhatIsUnderWay(MemoryIdempotencyStore):
    """Takes evidence about a claim whose holder is still at it."""

    def resolve(self, record: Record, to: KeyState, response: bytes, **more: Any) -> None:
        row = self._rows.get((record.scope, record.key))
        if row is not None and row.record.state is KeyState.IN_PROGRESS:
            self._change(row, None, state=KeyState.INDETERMINATE)
        super().resolve(record, to, response, **more)


# ---------------------------------------------------------------- what is kept


@saboteur(CONTRACT, kills="test_a_purge_spares_what_is_not_finished")
class PurgesTheLiving(MemoryIdempotencyStore):
    """Purges by age alone: also what is under way, or ran out with the money on its way."""

    @staticmethod
    def _is_old(row: Row, before: float) -> bool:
        return row.changed <= before and row.record.state is not KeyState.INDETERMINATE


@saboteur(CONTRACT, kills="test_a_purge_spares_what_is_not_finished")
class PurgesTheIndeterminate(MemoryIdempotencyStore):
    """Purges what nobody has settled: the question is gone, and the money still is where it is."""

    @staticmethod
    def _is_old(row: Row, before: float) -> bool:
        return row.changed <= before and row.record.state is not KeyState.IN_PROGRESS


@saboteur(CONTRACT, kills="test_a_purge_is_bounded_and_keeps_to_its_scope")
class PurgesEverybody(MemoryIdempotencyStore):
    """Purges all scopes whenever it is told to purge one."""

    def purge(self, *, older_than: Any, scope: str | None = None, limit: int = 1000) -> int:
        return super().purge(older_than=older_than, limit=limit)


@saboteur(CONTRACT, kills="test_what_must_be_looked_after_is_listed")
class HidesWhatRanOut(MemoryIdempotencyStore):
    """Lists what is INDETERMINATE, and not the claims whose holders died."""

    def unsettled(self, *, limit: int = 100) -> Sequence[Record]:
        return [record for record in super().unsettled(limit=limit) if record.state is KeyState.INDETERMINATE]
