"""How did the call end? The join over its attempts (law 1)."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, final

from finresilience.outcome import Classification, Effect

if TYPE_CHECKING:
    from finresilience.outcome import Verdict


@final
class End(StrEnum):
    """The ends of a call that did not end Ok."""

    DECLINED = "declined"
    FAILED = "failed"
    UNKNOWN = "unknown"
    REFUSED = "refused"


@final
class Join:
    """Remember of a call's attempts what decides how the call ended.

    Ok, if any attempt was (the caller stops there); else Declined, if the no was said under the same provider key as every attempt
    that may have been applied, by the provider and of the call itself; else Unknown, if any attempt was; else what the last
    attempt was. Refused only if no attempt was sent.

    A core. One per call, not thread-safe.
    """

    __slots__ = ("_effect", "_final", "_keyed", "_last", "_unknown", "sent")

    _final: bool  # of the last attempt, so not there before the first

    def __init__(self, effect: Effect, *, keyed: bool) -> None:
        self._effect = effect
        self._keyed = keyed
        self._last: Verdict | None = None
        self._unknown: Verdict | None = None  # on the last attempt that may have been applied
        self.sent: int = 0

    def attempt(self, verdict: Verdict, *, final: bool = True) -> None:
        """Note how an attempt that was sent ended; `final` is False where a no was our own or a gate's, not about the call."""
        self.sent += 1
        self._final = final
        self._last = verdict
        if verdict.classification is Classification.UNKNOWN:
            self._unknown = verdict

    def end(self) -> End:
        """Return how the call ended."""
        if self._last is None:
            return End.REFUSED
        last = self._last.classification
        if last is Classification.NON_RETRYABLE and (self._unknown is None or self._effect is Effect.READ or (self._keyed and self._final)):
            return End.DECLINED
        if self._unknown is not None and self._effect is not Effect.READ:
            return End.UNKNOWN
        return End.FAILED
