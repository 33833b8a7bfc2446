"""What is known of an idempotency key, and what may be done about it? Values, and the rulings that every store shares.

    absent -> IN_PROGRESS -> COMPLETED | FAILED_FINAL
                  |  ^            ^ by resolve(), with evidence
                  |  +- takeover  |
                  +-> INDETERMINATE

A key that is absent has no record. No value here shows a key, a scope, a fingerprint or a body when it is printed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias, final

from finresilience._checks import refuse, seconds_of
from finresilience.durable.errors import FinishedOtherwiseError, StaleRecordError, StaleTokenError

if TYPE_CHECKING:
    from datetime import timedelta

MAX_TEXT: Final = 255  # characters of a scope, key, fingerprint, owner, recovery point or status: what an indexed column takes anywhere
MAX_REASON: Final = 1_000
MAX_RESPONSE: Final = 1 << 20  # bytes of a response or of a recovery point's data, unless the store says otherwise
MAX_BATCH: Final = 10_000  # rows that one purge or one listing touches


@final
class KeyState(StrEnum):
    """Where a key stands. A key that was never claimed, or was released or purged, has no record and no state."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED_FINAL = "failed_final"
    INDETERMINATE = "indeterminate"  # it may have happened: settled by evidence, never by doing it again


@final
@dataclass(frozen=True, slots=True)
class ClaimToken:
    """The right to finish one claim, good until an heir takes over.

    Args:
        scope: whose key it is.
        key: the key.
        fence: which claim: it only grows, from claim to claim of a key, also past a release. Hand it to whatever can refuse old ones.
    """

    scope: str = field(repr=False)
    key: str = field(repr=False)
    fence: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the store knows of a key, as it was when it was read.

    Args:
        scope: whose key it is.
        key: the key.
        fingerprint: of the request that the key belongs to.
        state: where it stands.
        fence: of the last claim.
        owner: who claimed it last, in the caller's own words.
        takeovers: how many claims ran out, or were let go by an heir, before the last one.
        lease_left: seconds until the last claim runs out; zero or less once it has.
        recovery_point: the last that was noted by `advance`, or None.
        data: what was noted with it.
        response: what every replay gets; empty while it is not finished.
        status: how to read the response, in the caller's own words.
        reason: why it is, or was, INDETERMINATE.
        evidence: by which it was resolved.
        age: seconds since the key was first claimed.
        idle: seconds since the record last changed.
    """

    scope: str = field(repr=False)
    key: str = field(repr=False)
    fingerprint: str = field(repr=False)
    state: KeyState
    fence: int
    owner: str = ""
    takeovers: int = 0
    lease_left: float = 0.0
    recovery_point: str | None = None
    data: bytes = field(default=b"", repr=False)
    response: bytes = field(default=b"", repr=False)
    status: str = ""
    reason: str = field(default="", repr=False)
    evidence: str = field(default="", repr=False)
    age: float = 0.0
    idle: float = 0.0

    @property
    def is_unsettled(self) -> bool:
        """Whether somebody must find out how it ended: it is INDETERMINATE, or its claim ran out."""
        return self.state is KeyState.INDETERMINATE or (self.state is KeyState.IN_PROGRESS and self.lease_left <= 0)


# ---------------------------------------------------------------- what a claim is answered with


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """The work is the caller's, until the lease runs out.

    Args:
        token: finishes it.
        lease: for how many seconds.
        takeovers: how many claims before it did not end well. If there are any, the work may have been done, or half done: ask the
            provider first, by the key that is derived from this one. If it grows, this request kills its workers.
        recovery_point: the last that was noted before, or None.
        data: what was noted with it.
    """

    token: ClaimToken
    lease: float
    takeovers: int = 0
    recovery_point: str | None = None
    data: bytes = field(default=b"", repr=False)

    @property
    def takeover(self) -> bool:
        """Whether somebody had it before and did not finish."""
        return self.takeovers > 0


@final
@dataclass(frozen=True, slots=True)
class Replay:
    """It was finished before: give the same answer again. `failed` tells whether that answer is a final failure."""

    record: Record

    @property
    def failed(self) -> bool:
        """Whether it ended as FAILED_FINAL."""
        return self.record.state is KeyState.FAILED_FINAL


@final
@dataclass(frozen=True, slots=True)
class InProgress:
    """Somebody else is at it: ask again after `retry_after` seconds, when the claim will have ended or run out."""

    retry_after: float


@final
@dataclass(frozen=True, slots=True)
class Mismatch:
    """The key belongs to another request, in whatever `state` that is: a mistake of the caller's, and never a replay."""

    state: KeyState


@final
@dataclass(frozen=True, slots=True)
class Indeterminate:
    """It may have happened, and nobody knows yet: do not run it again; find out, and `resolve` it."""

    record: Record


Claim: TypeAlias = Claimed | Replay | InProgress | Mismatch | Indeterminate

# ---------------------------------------------------------------- rulings


def answer_to(record: Record | None, fingerprint: str) -> Claim | None:
    """Return what a caller is told who cannot have the claim; None if he can: anew without a record, as an heir with one."""
    if record is None:
        return None
    if record.fingerprint != fingerprint:
        return Mismatch(record.state)
    if record.state is KeyState.INDETERMINATE:
        return Indeterminate(record)
    if record.state is not KeyState.IN_PROGRESS:
        return Replay(record)
    return InProgress(record.lease_left) if record.lease_left > 0 else None


def check_holder(what: str, token: ClaimToken, record: Record | None) -> Record:
    """Return the record if `token` is of its last claim, or raise `StaleTokenError`."""
    if record is None:
        raise StaleTokenError(what, token.fence, "the key was released or purged since")
    if record.fence != token.fence:
        raise StaleTokenError(what, token.fence, f"the key is {record.state} under fencing token {record.fence}")
    return record


def check_at_work(what: str, token: ClaimToken, record: Record | None) -> Record:
    """Return the record if `token` still has work to do, or raise `StaleTokenError`."""
    held = check_holder(what, token, record)
    if held.state is not KeyState.IN_PROGRESS:
        raise StaleTokenError(what, token.fence, f"the claim is {held.state} already")
    return held


def may_finish(what: str, token: ClaimToken, record: Record | None, answer: tuple[KeyState, bytes, str]) -> bool:
    """Return whether this answer is to be written: False if exactly it was written before.

    Raises:
        StaleTokenError: if the claim has an heir, or is gone.
        FinishedOtherwiseError: if it ended otherwise.
    """
    held = check_holder(what, token, record)
    if held.state is KeyState.IN_PROGRESS:
        return True
    if (held.state, held.response, held.status) != answer:
        raise FinishedOtherwiseError(what, held.state)
    return False


def may_resolve(seen: Record, record: Record | None, answer: tuple[KeyState, bytes, str]) -> bool:
    """Return whether this evidence is to be written: False if exactly it was written before.

    Raises:
        StaleRecordError: if the record is not INDETERMINATE, or not the one that was seen.
    """
    if record is None:
        raise StaleRecordError("absent")
    if record.fence == seen.fence and (record.state, record.response, record.status) == answer:
        return False
    if record.fence != seen.fence or record.state is not KeyState.INDETERMINATE:
        raise StaleRecordError(record.state)
    return True


def is_let_go(record: Record) -> bool:
    """Return whether a release leaves the record behind: somebody had it before, or something was noted, so the next is an heir too."""
    return record.takeovers > 0 or record.recovery_point is not None


# ---------------------------------------------------------------- what comes through the door


def text_of(name: str, value: object, *, most: int = MAX_TEXT, empty: bool = False) -> str:
    """Return `value` if every database can hold it unchanged: not empty, unless `empty`, and not too long; shows nothing of it."""
    if not isinstance(value, str) or len(value) > most or (not value and not empty) or "\0" in value or not _encodes(value):
        least = 0 if empty else 1
        refuse(name, _kind_of(value), f"text of {least} to {most} characters, without NUL and lone surrogates")
    return value


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind_of(value: object) -> object:
    return value if isinstance(value, str | bytes) else type(value).__name__  # refuse() never shows text


def bytes_of(name: str, value: object, *, most: int = MAX_RESPONSE) -> bytes:
    """Return `value` if it is at most so many bytes; a copy, if it could be changed later."""
    if isinstance(value, bytearray | memoryview):
        value = bytes(value)
    if not isinstance(value, bytes) or len(value) > most:
        refuse(name, _kind_of(value), f"at most {most:,} bytes, already encoded")
    return value


def lease_of(lease: float | timedelta) -> float:
    """Return the seconds of a lease, which are more than zero and finite."""
    return seconds_of("lease", lease)


def token_of(token: object) -> ClaimToken:
    """Return `token` if it is one."""
    if not isinstance(token, ClaimToken):
        refuse("token", token, "the token of a Claimed, as claim() returned it")
    return token


def final_of(to: object) -> KeyState:
    """Return `to` if an indeterminate record can be resolved to it."""
    if not isinstance(to, KeyState) or to not in {KeyState.COMPLETED, KeyState.FAILED_FINAL}:
        refuse("to", to, "KeyState.COMPLETED or KeyState.FAILED_FINAL")
    return to
