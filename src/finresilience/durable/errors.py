"""What a durable store raises. Each error says what is true of the row now, and none carries a key, a body or a scope."""

from __future__ import annotations

from typing import final

from finresilience.errors import FinresilienceError, RefusedError


class StaleTokenError(FinresilienceError):
    """The claim, lease or epoch that this token stands for is not its holder's any more; the row was left as it is.

    Args:
        what: the deed that was refused, such as "complete".
        fence: the fencing token that came.
        found: what holds the row now, in a few words.
    """

    def __init__(self, what: str, fence: int, found: str) -> None:
        super().__init__(what, fence, found)
        self.what: str = what
        self.fence: int = fence
        self.found: str = found

    def __str__(self) -> str:
        """Say what happened, what is true of the money, and what to do."""
        return (
            f"{self.what} came too late with fencing token {self.fence}: {self.found}.\n"
            "  Nothing was written. What this holder did at the provider may have happened beside what its heir did.\n"
            "  Do not repeat it. Keep its answer as evidence, and let reconciliation compare both."
        )


@final
class FinishedOtherwiseError(FinresilienceError):
    """The claim was finished before, with another answer; the first one stays."""

    def __init__(self, what: str, state: str) -> None:
        super().__init__(what, state)

    def __str__(self) -> str:
        """Say what happened, what is true of the money, and what to do."""
        what, state = self.args
        return (
            f"{what} was refused: the claim is {state} already, with another answer.\n"
            "  The first answer stays and is what every replay gets.\n"
            "  Find out why one piece of work ended twice; an INDETERMINATE one is settled by resolve(), with evidence."
        )


@final
class StaleRecordError(FinresilienceError):
    """The record was settled or taken on by somebody else since it was read; nothing was written."""

    def __init__(self, state: str) -> None:
        super().__init__(state)

    def __str__(self) -> str:
        """Say what happened, what is true of the money, and what to do."""
        return (
            f"resolve was refused: the record is {self.args[0]} now, and only an INDETERMINATE one, as it was read, can be resolved.\n"
            "  Nothing was written.\n"
            "  Read it again with find(), and compare your evidence with what it says."
        )


@final
class StoreBusyError(RefusedError):
    """Another transaction, still open, holds the row; nothing was written."""

    @property
    def retry_after(self) -> float | None:
        """Seconds until it may be worth asking again."""
        return 0.1

    def __str__(self) -> str:
        """Say what happened, what is true of the money, and what to do."""
        return (
            "another transaction holds this row.\n"
            "  Nothing was written.\n"
            "  Ask again once it has ended; keep transactions short, and call no provider inside one."
        )


@final
class StoreFullError(RefusedError):
    """The store holds as many rows as it may; nothing was written."""

    def __init__(self, what: str, at_most: int) -> None:
        super().__init__(what, at_most)

    def __str__(self) -> str:
        """Say what happened, what is true of the money, and what to do."""
        what, at_most = self.args
        return (
            f"the store holds {at_most:,} {what} already, as many as it may.\n"
            "  Nothing was written, and nothing was sent under this claim.\n"
            "  Purge what is old enough, or give it a greater at_most."
        )
