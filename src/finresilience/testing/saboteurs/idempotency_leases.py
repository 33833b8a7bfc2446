"""Idempotency stores that are broken in one place: in their leases, their releases, or their transactions."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from finresilience.durable.errors import StaleTokenError
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.durable.memory_transaction import MemoryTransaction, TransactionState
from finresilience.durable.records import Claim, Claimed, ClaimToken, KeyState
from finresilience.testing.saboteurs import saboteur

if TYPE_CHECKING:
    from collections.abc import Generator
    from datetime import timedelta

CONTRACT = "IdempotencyStoreContract"

# ---------------------------------------------------------------- leases and heirs


@saboteur(CONTRACT, kills="test_a_lease_ends_when_it_ran_out_and_not_before")
class NoExpiry(MemoryIdempotencyStore):
    """Never lets a lease run out: whoever dies with a key keeps it for ever."""

    def claim(self, scope: str, key: str, **more: Any) -> Claim:
        told = super().claim(scope, key, **more)
        row = self._rows.get((scope, key), more.get("within"))
        if isinstance(told, Claimed) and row is not None:
            self._put(replace(row, until=1e12), more.get("within"))
        return told


@saboteur(CONTRACT, kills="test_a_step_of_the_wall_clock_ends_no_lease")
class LeasesByTheWallClock(MemoryIdempotencyStore):
    """Measures leases by the wall clock: when that is set, claims are lost or last for hours."""

    def __init__(self, *, clock: Any, **more: Any) -> None:
        wall: Any = SimpleNamespace(monotonic=lambda: clock.utc().timestamp())
        super().__init__(clock=wall, **more)


@saboteur(CONTRACT, kills="test_the_heir_of_an_expired_lease_must_bring_the_same_request")
class AnyRequestInherits(MemoryIdempotencyStore):
    """Does not compare requests when a lease has run out: another amount inherits the claim."""

    def claim(self, scope: str, key: str, **more: Any) -> Claim:
        known = self._rows.get((scope, key))
        if known is not None and known.told(self._clock.monotonic()).is_unsettled:
            more["fingerprint"] = known.record.fingerprint
        return super().claim(scope, key, **more)


@saboteur(CONTRACT, kills="test_an_expired_lease_has_one_heir")
class TwoHeirs(MemoryIdempotencyStore):
    """Looks whether the lease has run out, and then takes over: two may do so at once."""

    def claim(self, scope: str, key: str, **more: Any) -> Claim:
        row = self._rows.get((scope, key), more.get("within"))
        if row is None or row.record.fingerprint != more["fingerprint"] or not row.told(self._clock.monotonic()).is_unsettled:
            return super().claim(scope, key, **more)
        if row.record.state is KeyState.INDETERMINATE:
            return super().claim(scope, key, **more)
        return self._take((scope, key), row, more["fingerprint"], more["lease"], "", more.get("within"))


@saboteur(CONTRACT, kills="test_an_heir_sees_the_recovery_point")
class HeirsStartAnew(MemoryIdempotencyStore):
    """Tells an heir nothing of how far the work was."""

    def claim(self, scope: str, key: str, **more: Any) -> Claim:
        told = super().claim(scope, key, **more)
        return replace(told, recovery_point=None, data=b"") if isinstance(told, Claimed) else told


@saboteur(CONTRACT, kills="test_a_late_finisher_cannot_overwrite_its_heir")
class ForgetsTheFence(MemoryIdempotencyStore):
    """Finishes by key alone: a late holder overwrites what its heir is about to do."""

    def _finish(self, what: str, token: ClaimToken, to: KeyState, response: bytes, status: str, within: MemoryTransaction | None) -> None:
        row = self._row(token, within)
        if row is not None:
            token = replace(token, fence=row.record.fence)
        super()._finish(what, token, to, response, status, within)


@saboteur(CONTRACT, kills="test_a_late_finisher_cannot_overwrite_its_heir")
class RefusesSilently(MemoryIdempotencyStore):
    """Drops a late answer without a word, so that its holder believes it was stored."""

    def _finish(self, what: str, token: ClaimToken, to: KeyState, response: bytes, status: str, within: MemoryTransaction | None) -> None:
        with suppress(StaleTokenError):
            super()._finish(what, token, to, response, status, within)


@saboteur(CONTRACT, kills="test_a_finisher_and_an_heir_cannot_both_have_it")
class LooksAtTheFenceFirst(MemoryIdempotencyStore):
    """Compares the fence, and then writes: an heir who comes between the two is overwritten."""

    def _finish(self, what: str, token: ClaimToken, to: KeyState, response: bytes, status: str, within: MemoryTransaction | None) -> None:
        row = self._row(token, within)
        if row is None or row.record.fence != token.fence or row.record.state is not KeyState.IN_PROGRESS:
            super()._finish(what, token, to, response, status, within)
            return
        self._change(row, within, state=to, response=response, status=status)


@saboteur(CONTRACT, kills="test_fences_only_grow")
class FencesGoDown(MemoryIdempotencyStore):
    """Gives each claim a lower fencing token than the one before it."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self._fences = count(1_000_000, -1)


@saboteur(CONTRACT, kills="test_a_late_finisher_without_an_heir_may_finish")
class ThrowsLateResultsAway(MemoryIdempotencyStore):
    """Refuses an answer because its lease ran out, although nobody else has taken over."""

    def _finish(self, what: str, token: ClaimToken, to: KeyState, response: bytes, status: str, within: MemoryTransaction | None) -> None:
        row = self._row(token, within)
        if row is not None and row.record.state is KeyState.IN_PROGRESS and row.until <= self._clock.monotonic():
            raise StaleTokenError(what, token.fence, "the lease has run out")
        super()._finish(what, token, to, response, status, within)


@saboteur(CONTRACT, kills="test_a_renewal_runs_from_now")
class RenewalsAddUp(MemoryIdempotencyStore):
    """Adds a renewal to what was left, so that a dead holder keeps the key for as long as it had renewed."""

    def renew(self, token: ClaimToken, *, lease: float | timedelta) -> None:
        row = self._row(token, None)
        super().renew(token, lease=lease)
        if row is not None and not isinstance(lease, bool) and isinstance(lease, int | float):
            self._put(replace(row, until=row.until + lease), None)


# ---------------------------------------------------------------- releases


@saboteur(CONTRACT, kills="test_a_released_key_can_be_claimed_anew")
class ReleasesOnlyTheLease(MemoryIdempotencyStore):
    """Keeps what was released: the next one is told to look for an effect that never was."""

    def release(self, token: ClaimToken, **more: Any) -> None:
        row = self._at_work("release", token, more.get("within"))
        self._put(replace(row, until=self._clock.monotonic()), more.get("within"))


@saboteur(CONTRACT, kills="test_the_token_of_a_released_claim_is_dead")
class FencesBeginAnew(MemoryIdempotencyStore):
    """Counts fences anew after a release, so that who released can finish the next one's claim."""

    def release(self, token: ClaimToken, **more: Any) -> None:
        super().release(token, **more)
        self._fences = count(1)


@saboteur(CONTRACT, kills="test_a_release_after_a_recovery_point_leaves_an_heir")
class ReleasesAfterTheEffect(MemoryIdempotencyStore):
    """Forgets the key on release, also when a recovery point says that the request was sent."""

    def release(self, token: ClaimToken, **more: Any) -> None:
        row = self._at_work("release", token, more.get("within"))
        if row.record.recovery_point is None:
            super().release(token, **more)
        else:
            self._rows.put((token.scope, token.key), None, more.get("within"))


@saboteur(CONTRACT, kills="test_an_heir_cannot_make_a_key_look_new")
class HeirsMakeItNew(MemoryIdempotencyStore):
    """Forgets the key when an heir releases it, although the one before may have sent the request."""

    def release(self, token: ClaimToken, **more: Any) -> None:
        row = self._at_work("release", token, more.get("within"))
        if row.record.takeovers and row.record.recovery_point is None:
            self._rows.put((token.scope, token.key), None, more.get("within"))
        else:
            super().release(token, **more)


@saboteur(CONTRACT, kills="test_it_agrees_with_a_model")
class ARenewalForgetsTheTakeover(MemoryIdempotencyStore):
    """Forgets that a claim was taken over once its heir renews the lease."""

    def renew(self, token: ClaimToken, *, lease: float | timedelta) -> None:
        super().renew(token, lease=lease)
        row = self._row(token, None)
        if row is not None:
            self._put(replace(row, record=replace(row.record, takeovers=0)), None)


# ---------------------------------------------------------------- transactions


@saboteur(CONTRACT, kills="test_a_rollback_unclaims")
class ClaimsBesideTheTransaction(MemoryIdempotencyStore):
    """Claims in a transaction of its own: the caller's rollback leaves a claim whose effect never was."""

    def claim(self, scope: str, key: str, **more: Any) -> Claim:
        more.update(within=None)
        return super().claim(scope, key, **more)


@contextmanager
def commits_when_interrupted() -> Generator[MemoryTransaction]:
    """Yield a transaction that is rolled back for exceptions only."""
    mine = MemoryTransaction()
    try:
        yield mine
    except Exception:
        mine.rollback()
        raise
    finally:
        if mine.state is TransactionState.OPEN:
            mine.commit()


@saboteur(CONTRACT, kills="test_an_interruption_unclaims")
class CommitsWhenInterrupted(MemoryIdempotencyStore):
    """Rolls back for exceptions only, so that a caller that is cancelled commits half of its work."""

    def transaction(self) -> Any:
        return commits_when_interrupted()


@saboteur(CONTRACT, kills="test_a_rollback_gives_back_what_was_before")
class FinishesBesideTheTransaction(MemoryIdempotencyStore):
    """Finishes in a transaction of its own: the caller's rollback leaves an answer whose effect never was."""

    def _finish(self, what: str, token: ClaimToken, to: KeyState, response: bytes, status: str, within: MemoryTransaction | None) -> None:
        claimed_outside = self._row(token, None) is not None
        super()._finish(what, token, to, response, status, None if claimed_outside else within)


@saboteur(CONTRACT, kills="test_a_commit_makes_it_true_at_once")
class ForgetsTheAnswerAtCommit(MemoryIdempotencyStore):
    """Keeps of a transaction that claimed and finished only the claim."""

    def _finish(self, what: str, token: ClaimToken, to: KeyState, response: bytes, status: str, within: MemoryTransaction | None) -> None:
        if within is None or self._row(token, None) is not None:
            super()._finish(what, token, to, response, status, within)


@saboteur(CONTRACT, kills="test_a_committed_claim_stays")
class TransactionsNeedNoLease(MemoryIdempotencyStore):
    """Gives a claim in a transaction no lease, so that a committed one is anybody's at once."""

    def claim(self, scope: str, key: str, **more: Any) -> Claim:
        told = super().claim(scope, key, **more)
        row = self._rows.get((scope, key), more.get("within"))
        if more.get("within") is not None and isinstance(told, Claimed) and row is not None:
            self._put(replace(row, until=self._clock.monotonic()), more["within"])
        return told


@saboteur(CONTRACT, kills="test_who_meets_an_open_transaction_waits_or_is_told")
class TransactionsDoNotSeeEachOther(MemoryIdempotencyStore):
    """Lets two transactions claim one key at once; the later commit wins, and both effects stay."""

    def claim(self, scope: str, key: str, **more: Any) -> Claim:
        self._rows._locked.clear()
        return super().claim(scope, key, **more)

    def _finish(self, what: str, token: ClaimToken, to: KeyState, response: bytes, status: str, within: MemoryTransaction | None) -> None:
        self._rows._locked.clear()
        super()._finish(what, token, to, response, status, within)
