"""How are effect, key and event made one? In the caller's transaction: the key is claimed first, and its answer commits with the effect.

There is no lease to outlive and no window to crash in. Two callers with one key: the second waits for the first one's transaction, and is
answered by it, or does the work if that was rolled back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar, final

from finresilience._checks import refuse
from finresilience.durable.codecs import checked_codec
from finresilience.durable.fingerprints import fingerprint_of
from finresilience.durable.idempotent_errors import KeyIndeterminateError, KeyInProgressError, KeyMismatchError, UnreadableReplayError
from finresilience.durable.records import MAX_RESPONSE, Claimed, Indeterminate, InProgress, KeyState, Mismatch, Record, bytes_of, text_of
from finresilience.errors import ConfigurationError, FinresilienceError, UnknownOutcomeError
from finresilience.sql.within import acarry_out_within, carry_out_within

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from sqlalchemy import Table

    from finresilience.durable.codecs import Codec
    from finresilience.durable.records import Claim, ClaimToken
    from finresilience.sql.idempotency_deeds import IdempotencyDeeds
    from finresilience.sql.statements import Deed

R = TypeVar("R")

LEASE: Final = 60.0  # seconds; of a claim that was committed unfinished by a caller who swallowed an error
NAME: Final = "this operation"


@final
class KeyAnsweredError(FinresilienceError):
    """The key was answered before: nothing is to be done, and here is the answer.

    Args:
        record: what the store knows.
        answer: the answer, decoded.
    """

    def __init__(self, record: Record, answer: Any) -> None:
        super().__init__(record)
        self.record: Record = record
        self.answer: Any = answer

    @property
    def failed(self) -> bool:
        """Whether that answer is a final failure, such as a decline."""
        return self.record.state is KeyState.FAILED_FINAL

    def __str__(self) -> str:
        """Say what happened, what is true of the money, and what to do."""
        return (
            f"this idempotency key was answered before: it is {self.record.state}.\n"
            "  Nothing was done now; what happened then has happened once.\n"
            "  Give the caller `error.answer` again."
        )


@final
class TransactionClaim(Generic[R]):
    """A key in the caller's transaction. Tell it the answer by `complete` or `fail` before its block ends.

    Made by `tables.idempotency.claim`. `with` for a Session or a Connection, `async with` for those of asyncio.
    """

    def __init__(
        self,
        within: Any,
        claiming: Deed[Claim],
        deeds: IdempotencyDeeds,
        table: Table,
        codec: Codec[R],
        *,
        inherits: bool,
    ) -> None:
        self._within = within
        self._claiming = claiming
        self._deeds = deeds
        self._table = table
        self._codec = checked_codec(codec)
        self._inherits = inherits
        self._token: ClaimToken | None = None
        self._claimed: Claimed | None = None
        self._end: tuple[str, KeyState, bytes, str] | None = None

    @property
    def token(self) -> ClaimToken:
        """The right to finish it, with the fencing token."""
        if self._token is None:
            raise ConfigurationError("the claim is not entered: with tables.idempotency.claim(...) as claim: ...")
        return self._token

    @property
    def takeovers(self) -> int:
        """How many had this key before and did not finish; 0 unless `inherits=True`."""
        return 0 if self._claimed is None else self._claimed.takeovers

    def complete(self, value: R, *, status: str = "") -> None:
        """Let every later claim get this answer, if the transaction commits. Bytes are kept as they are."""
        self._ends("complete", KeyState.COMPLETED, value, status)

    def fail(self, value: R | bytes = b"", *, status: str = "") -> None:
        """Let every later claim get this failure, such as a decline, if the transaction commits."""
        self._ends("fail", KeyState.FAILED_FINAL, value, status)

    def _ends(self, what: str, state: KeyState, value: Any, status: str) -> None:
        if self._end is not None:
            refuse(what, what, "one answer: this claim has been given one already")
        _ = self.token
        body = value if isinstance(value, bytes) else self._codec.encode(value)
        self._end = (what, state, bytes_of("response", body, most=MAX_RESPONSE), text_of("status", status, empty=True))

    # --- the block -------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._told(carry_out_within(self._within, self._claiming, self._table))
        return self

    async def __aenter__(self) -> Self:
        self._told(await acarry_out_within(self._within, self._claiming, self._table))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if kind is None:
            carry_out_within(self._within, self._finishing(), self._table)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if kind is None:
            await acarry_out_within(self._within, self._finishing(), self._table)

    def _finishing(self) -> Deed[None]:
        if self._end is None:
            raise ConfigurationError(
                "the block of an idempotency claim ended without an answer: call claim.complete(answer) or claim.fail(...) in it. "
                "Let this error roll the transaction back: the key is free again then"
            )
        what, state, body, status = self._end
        return self._deeds.finish(what, self.token, (state, body, status))

    def _told(self, claim: Claim) -> None:
        if not isinstance(claim, Claimed):
            self._refused(claim)
        if claim.takeover and not self._inherits:
            raise _unknown("an earlier claim of this key ran out and was never settled")
        self._token, self._claimed = claim.token, claim

    def _refused(self, claim: Any) -> NoReturn:
        if isinstance(claim, InProgress):
            raise KeyInProgressError(NAME, claim.retry_after)
        if isinstance(claim, Mismatch):
            raise KeyMismatchError(NAME, claim.state)
        if isinstance(claim, Indeterminate):
            raise _unknown("an earlier call under this key may have happened") from KeyIndeterminateError(NAME, claim.record)
        raise KeyAnsweredError(claim.record, self.answer_of(claim.record))

    def answer_of(self, record: Record) -> Any:
        """Return the answer that was kept: decoded, or as bytes where it is a failure without one."""
        if record.state is KeyState.FAILED_FINAL and not record.response:
            return None
        try:
            return self._codec.decode(record.response)
        except (TypeError, ValueError) as error:
            raise UnreadableReplayError(NAME, record.state, record) from error


def _unknown(happened: str) -> UnknownOutcomeError:
    held_back = "Nothing was done now: this transaction is to be rolled back."
    return UnknownOutcomeError(NAME, attempts=1, happened=happened, held_back=held_back)


def fingerprint_for(request: object) -> str:
    """Return the fingerprint of a request: a text is taken for one."""
    return request if isinstance(request, str) else fingerprint_of(request)
