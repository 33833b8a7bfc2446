"""What must an idempotency store keep? One key, one request, one effect, one answer.

The laws, each a test of `testing.contracts.IdempotencyStoreContract`:

- of any number of claimants one wins; a loser is told for how long the claim still runs;
- a key belongs to the request that claimed it first: another fingerprint is a `Mismatch` in every state, also once the lease has run out;
- what is finished replays the same bytes, a final failure as a failure, and cannot be finished otherwise;
- a claim that ran out has one heir, who sees the recovery point; whoever comes late with the old token is refused by `StaleTokenError`;
- only what surely did not happen is released; INDETERMINATE is neither run again nor taken over, and is settled by evidence;
- a purge spares whatever is not finished; scopes share nothing;
- what is done `within` a caller's transaction is true if and only if that transaction commits.

Time is the store's own: a database's, or the clock that a memory store was given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from finresilience.durable.records import Claim, ClaimToken, KeyState, Record

Tx_contra = TypeVar("Tx_contra", contravariant=True)


class IdempotencyStore(Protocol[Tx_contra]):
    """Idempotency keys for sync callers. `AsyncIdempotencyStore` differs by the `await` only.

    `within` is the caller's own transaction: the store writes in it and neither commits nor rolls back. Without it, each
    method is a short transaction of its own, committed when it returns.
    """

    @property
    def max_response(self) -> int:
        """How many bytes a response, or the data of a recovery point, may have."""
        ...

    def claim(
        self,
        scope: str,
        key: str,
        *,
        fingerprint: str,
        lease: float | timedelta,
        owner: str = "",
        within: Tx_contra | None = None,
    ) -> Claim:
        """Take the key if nobody has it or its lease ran out, or tell what is known of it. Insert first, and look afterwards.

        Args:
            scope: who may share answers: tenant or account, and operation.
            key: as the client sent it.
            fingerprint: a digest of the request, so that a key is not used for two.
            lease: after how many seconds without a renewal somebody else may take over.
            owner: who claims, for people who look at the table.
            within: the caller's transaction.

        Raises:
            ConfigurationError: if an argument cannot work.
            StoreFullError: if there is no room for another key.
        """
        ...

    def renew(self, token: ClaimToken, *, lease: float | timedelta) -> None:
        """Let the lease run `lease` seconds from now. Raise `StaleTokenError` if the claim is not the holder's any more."""
        ...

    def advance(self, token: ClaimToken, recovery_point: str, *, data: bytes = b"", within: Tx_contra | None = None) -> None:
        """Note how far the work is, for an heir. Raise `StaleTokenError` if the claim is not the holder's any more."""
        ...

    def complete(self, token: ClaimToken, response: bytes, *, status: str = "", within: Tx_contra | None = None) -> None:
        """Finish: every later claim gets these bytes. May be done by a late holder without an heir, and again with the same answer.

        Raises:
            StaleTokenError: if the claim has an heir, or is gone.
            FinishedOtherwiseError: if it was finished with another answer, or is INDETERMINATE.
            ConfigurationError: if the response is no bytes or too many; the claim stays as it is.
        """
        ...

    def fail(self, token: ClaimToken, response: bytes = b"", *, status: str = "", within: Tx_contra | None = None) -> None:
        """Finish with a failure that stays one, such as a decline. As for `complete`."""
        ...

    def release(self, token: ClaimToken, *, within: Tx_contra | None = None) -> None:
        """Give the key back, because surely nothing happened: anybody may claim it anew, with any request.

        Where there was a holder before, or a recovery point was noted, that is not sure: then only the lease ends, and the
        next claimant is an heir. Raise `StaleTokenError` if the claim is not the holder's any more.
        """
        ...

    def mark_indeterminate(self, token: ClaimToken, *, reason: str = "", within: Tx_contra | None = None) -> None:
        """Note that it may have happened: from now on the key is neither run again nor taken over, until it is resolved.

        Raise `StaleTokenError` if the claim is not the holder's any more, or is finished.
        """
        ...

    def resolve(
        self,
        record: Record,
        to: KeyState,
        response: bytes,
        *,
        evidence: str,
        status: str = "",
        within: Tx_contra | None = None,
    ) -> None:
        """Settle an INDETERMINATE record, as it was read, to COMPLETED or FAILED_FINAL, by evidence.

        Raises:
            StaleRecordError: if it is not INDETERMINATE any more; unless it was resolved to the same answer.
            ConfigurationError: if an argument cannot work.
        """
        ...

    def find(self, scope: str, key: str, *, within: Tx_contra | None = None) -> Record | None:
        """Return what is known of a key, or None if it is absent."""
        ...

    def unsettled(self, *, limit: int = 100) -> Sequence[Record]:
        """Return records that somebody must look after, longest idle first: INDETERMINATE ones, and claims that ran out."""
        ...

    def purge(self, *, older_than: float | timedelta, scope: str | None = None, limit: int = 1000) -> int:
        """Forget records that were finished that long ago or longer; return how many, at most `limit`: ask until it is 0.

        Of all scopes, or of one, so that operations can be kept for different times. What is not finished is never forgotten. A key
        that is forgotten is new.
        """
        ...


class AsyncIdempotencyStore(Protocol[Tx_contra]):
    """Idempotency keys for async callers: `IdempotencyStore`, awaited."""

    @property
    def max_response(self) -> int:
        """How many bytes a response, or the data of a recovery point, may have."""
        ...

    async def claim(
        self,
        scope: str,
        key: str,
        *,
        fingerprint: str,
        lease: float | timedelta,
        owner: str = "",
        within: Tx_contra | None = None,
    ) -> Claim:
        """Take the key if nobody has it or its lease ran out, or tell what is known of it."""
        ...

    async def renew(self, token: ClaimToken, *, lease: float | timedelta) -> None:
        """Let the lease run `lease` seconds from now."""
        ...

    async def advance(self, token: ClaimToken, recovery_point: str, *, data: bytes = b"", within: Tx_contra | None = None) -> None:
        """Note how far the work is, for an heir."""
        ...

    async def complete(self, token: ClaimToken, response: bytes, *, status: str = "", within: Tx_contra | None = None) -> None:
        """Finish: every later claim gets these bytes."""
        ...

    async def fail(self, token: ClaimToken, response: bytes = b"", *, status: str = "", within: Tx_contra | None = None) -> None:
        """Finish with a failure that stays one."""
        ...

    async def release(self, token: ClaimToken, *, within: Tx_contra | None = None) -> None:
        """Give the key back, because surely nothing happened."""
        ...

    async def mark_indeterminate(self, token: ClaimToken, *, reason: str = "", within: Tx_contra | None = None) -> None:
        """Note that it may have happened."""
        ...

    async def resolve(
        self,
        record: Record,
        to: KeyState,
        response: bytes,
        *,
        evidence: str,
        status: str = "",
        within: Tx_contra | None = None,
    ) -> None:
        """Settle an INDETERMINATE record, as it was read, by evidence."""
        ...

    async def find(self, scope: str, key: str, *, within: Tx_contra | None = None) -> Record | None:
        """Return what is known of a key, or None if it is absent."""
        ...

    async def unsettled(self, *, limit: int = 100) -> Sequence[Record]:
        """Return records that somebody must look after, longest idle first."""
        ...

    async def purge(self, *, older_than: float | timedelta, scope: str | None = None, limit: int = 1000) -> int:
        """Forget records that were finished that long ago or longer."""
        ...
