"""What does an idempotent operation raise that was not run? None of these errors shows a key, a scope, a fingerprint or a body.

An operation whose end nobody knows raises `UnknownOutcomeError`, as every call does; where that was known before this call,
its cause is a `KeyIndeterminateError` with the record. None of these is a `RefusedError`: who is refused may go to another provider, and
while somebody else is at work under the same key, that would pay twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from finresilience.errors import FinresilienceError

if TYPE_CHECKING:
    from finresilience.durable.records import KeyState, Record


@final
class KeyInProgressError(FinresilienceError):
    """Somebody else is at it, under the same key, and may have sent it already. This call sent nothing.

    Args:
        name: the operation.
        retry_after: seconds after which that claim will have ended or run out.
    """

    def __init__(self, name: str, retry_after: float) -> None:
        super().__init__(name, retry_after)
        self.name: str = name
        self.retry_after: float = max(0.0, retry_after)

    def __str__(self) -> str:
        """Say what happened, what is true of the money, and what to do."""
        return (
            f"{self.name} is being carried out under the same idempotency key by somebody else.\n"
            "  This call sent nothing. The other one may have.\n"
            f"  Ask again with the same key, at the latest after {self.retry_after:.3g} s, and never with a new one."
        )


@final
class KeyMismatchError(FinresilienceError):
    """The key belongs to another request. This call sent nothing, and there is no answer to replay.

    Args:
        name: the operation.
        state: where the key's own request stands.
    """

    def __init__(self, name: str, state: KeyState) -> None:
        super().__init__(name, state)
        self.name: str = name
        self.state: KeyState = state

    def __str__(self) -> str:
        """Say what happened, what is true of the money, and what to do."""
        return (
            f"{self.name} was asked to use an idempotency key that belongs to another request, which is {self.state}.\n"
            "  Nothing was sent for this one.\n"
            "  Send the first request again as it was, or this one under a key of its own. If they are the same, see fingerprint=."
        )


@final
class KeyIndeterminateError(FinresilienceError):
    """An earlier call under this key may have happened, and nobody has found out yet. The cause of an `UnknownOutcomeError`.

    Args:
        name: the operation.
        record: what the store knows; `resolve` settles it, by evidence.
    """

    def __init__(self, name: str, record: Record) -> None:
        super().__init__(name, record)
        self.name: str = name
        self.record: Record = record

    def __str__(self) -> str:
        """Say what happened, what is true of the money, and what to do."""
        return (
            f"an earlier call of {self.name} under this idempotency key may have happened, and was not settled since.\n"
            "  This call sent nothing.\n"
            "  Find out at the provider, and settle the record with resolve(), with your evidence: every later call then gets that answer."
        )


@final
class ReplayedDeclineError(FinresilienceError):
    """The answer was no when this key was used first, and it stays no. What was raised then is told by its name and its code.

    Give `declines=` a codec, such as `decline_codec(CardDeclined)`, and the replay raises your own class again.

    Args:
        name: the operation.
        kind: the class of the first error, as "module.Name".
        code: the provider's code, if the error carried one; never its message.
        status: the HTTP status, if the error carried one.
    """

    def __init__(self, name: str, kind: str, code: str | None = None, status: int | None = None) -> None:
        super().__init__(name, kind, code, status)
        self.name: str = name
        self.kind: str = kind
        self.decline_code: str | None = code
        self.http_status: int | None = status

    def __str__(self) -> str:
        """Say what happened, what is true of the money, and what to do."""
        code = f", code {self.decline_code}" if self.decline_code else ""
        return (
            f"{self.name} was declined when this idempotency key was used first ({self.kind.rpartition('.')[2]}{code}).\n"
            "  Nothing moved then, and nothing was sent now.\n"
            "  To try anew, make a new request under a new key."
        )


@final
class UnreadableReplayError(FinresilienceError):
    """It HAPPENED, or was declined, when this key was used first; but the answer that was kept cannot be read any more.

    Args:
        name: the operation.
        state: how it ended: COMPLETED or FAILED_FINAL.
        record: what the store has.
    """

    def __init__(self, name: str, state: KeyState, record: Record) -> None:
        super().__init__(name, state, record)
        self.name: str = name
        self.state: KeyState = state
        self.record: Record = record

    def __str__(self) -> str:
        """Say what happened, what is true of the money, and what to do."""
        return (
            f"{self.name} is {self.state} under this idempotency key, but its stored answer cannot be read: see the cause.\n"
            "  What happened then has happened. Nothing was sent now.\n"
            "  Read it with the codec or the key of its time (record.response), and do not run it again under a new key."
        )
