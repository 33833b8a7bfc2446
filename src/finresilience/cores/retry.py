"""Shall this be tried again, and when? One decision per failed attempt, with the reason where the answer is no."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, final

from finresilience.outcome import Classification, Effect

if TYPE_CHECKING:
    from finresilience.cores.backoff import Backoff
    from finresilience.outcome import Verdict


@final
class Stop(StrEnum):
    """Why a call is not tried again. The text ends up in notes, logs and errors, so it is a clause a person can read."""

    DECLINED = "the answer is no and stays no"
    UNSAFE = "the call is UNSAFE and carries no idempotency key, so it must not be sent again"
    NOT_THE_PROVIDER = "the fault is not the provider's, so trying again cannot help"
    REFUSED = "we refused it ourselves"
    SCHEDULE = "the schedule of waits failed"
    ATTEMPTS = "every attempt is used up"
    ELAPSED = "the next attempt would begin after max_elapsed"
    DEADLINE = "the next attempt could not finish before the deadline"
    BUDGET = "the retry budget is spent"
    TREE_BUDGET = "the attempt budget of the whole call is spent"
    NESTED = "an inner layer has used up the attempts already"
    PROBE = "it was the probe of a half-open circuit"
    CIRCUIT = "the circuit opened meanwhile"
    ONCE = "there is no retry policy"


@final
class RetrySettings:
    """What a Retry was told when it was made, and the decision."""

    __slots__ = ("attempts", "backoff", "max_elapsed", "max_retry_after")

    def __init__(self, *, attempts: int, backoff: Backoff, max_elapsed: float, max_retry_after: float) -> None:
        self.attempts: int = attempts
        self.backoff: Backoff = backoff
        self.max_elapsed: float = max_elapsed
        self.max_retry_after: float = max_retry_after

    def decide(
        self,
        verdict: Verdict,
        *,
        effect: Effect,
        attempt: int,
        spent: int,
        elapsed: float,
        left: float,
        u: float,
        carry: float,
    ) -> tuple[float, float] | Stop:
        """Return the wait before the next attempt and what to carry to the next decision, or why there is none.

        Args:
            verdict: on the attempt that just ended.
            effect: what happens if the call is carried out twice.
            attempt: how many attempts this layer has made.
            spent: how many attempts an inner layer made before it gave up on the same error.
            elapsed: seconds since the call began.
            left: seconds until the deadline, infinite if there is none.
            u: a chance in [0, 1).
            carry: what the last decision said to carry; 0.0 at first.
        """
        forbidden = may_repeat(verdict, effect)
        if forbidden is not None:
            return forbidden
        if attempt >= self.attempts:
            return Stop.ATTEMPTS
        if max(attempt, spent) >= self.attempts:
            return Stop.NESTED
        wait, carry = self.backoff.wait(attempt - 1, u, carry)
        if verdict.retry_after is not None:
            wait = min(verdict.retry_after, self.max_retry_after)
            if verdict.retry_after >= left:
                return Stop.DEADLINE
        if elapsed + wait >= self.max_elapsed:
            return Stop.ELAPSED
        return Stop.DEADLINE if wait >= left else (wait, carry)


def may_repeat(verdict: Verdict, effect: Effect) -> Stop | None:
    """Return why a call must not be sent again after this verdict, or None if it may.

    RETRYABLE is known not applied, so anything may be repeated. UNKNOWN may be repeated only where twice is once, and only if the
    provider, not our own code, was at fault. Refusals reach nobody and are handled before this.
    """
    if verdict.classification is Classification.NON_RETRYABLE:
        return Stop.DECLINED
    if verdict.classification is Classification.UNKNOWN:
        if not effect.repeatable:
            return Stop.UNSAFE
        if not verdict.counts_against_provider:
            return Stop.NOT_THE_PROVIDER
    return None
