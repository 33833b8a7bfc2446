"""What may be done under this key, and what becomes of the key afterwards? Decisions: told everything, touching nothing.

The rules in one place:

- a first claimant runs; an heir, whose predecessor may have sent it, asks first, or runs only where that is declared safe, for so long;
- an answer completes the key and a no of the provider's fails it; what surely did not happen gives it back; the rest is in doubt;
- an answer that stands in for the provider's own is never kept (law 7);
- a holder whose lease is over must send no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, Final, final

from finresilience._checks import refuse, seconds_of
from finresilience.classify.evidence import reached_nobody
from finresilience.errors import ConfigurationError
from finresilience.outcome import Declined, Failed, Found, NotFound, Ok, Refused, Stale, StillUnknown, Unknown

if TYPE_CHECKING:
    from datetime import timedelta

    from finresilience.durable.records import Claimed
    from finresilience.outcome import Outcome

_POLL: Final = 0.05  # seconds before the first look whether the other caller is done, doubled each time...
_SLOWEST: Final = 1.0  # ... up to this
_HURRY: Final = 12  # a renewal that failed is tried again after this part of the lease


@final
class Act(StrEnum):
    """What the store is told at the end; the value is the store's own method."""

    COMPLETE = "complete"
    FAIL = "fail"
    RELEASE = "release"
    DOUBT = "mark_indeterminate"


@final
class Begin(Enum):
    """What a claimant does first."""

    RUN = "run the body"
    ASK = "ask recover="
    LOOK = "look how old the key is"
    DOUBT = "run nothing: nobody knows, and nobody can be asked"
    LET_GO = "run nothing, and leave it to the next one: the asking itself failed"
    FOUND = "run nothing: the provider has it"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The numbers of one operation, checked. See `idempotent`."""

    lease: float
    keep: float
    deadline: float | None
    wait: float
    rerun_within: float | None
    asks: bool


def terms_of(
    *,
    lease: float | timedelta,
    keep: float | timedelta,
    deadline: float | timedelta | None,
    wait: float | timedelta,
    rerun_within: float | timedelta | None,
    asks: bool,
) -> Terms:
    """Return the terms if they can work together, or raise the `ConfigurationError` that says what would."""
    terms = Terms(
        lease=seconds_of("lease", lease),
        keep=seconds_of("keep", keep),
        deadline=None if deadline is None else seconds_of("deadline", deadline),
        wait=seconds_of("wait", wait, zero=True),
        rerun_within=None if rerun_within is None else seconds_of("rerun_within", rerun_within),
        asks=asks,
    )
    if terms.keep <= terms.lease:
        refuse("keep", keep, f"more than the lease ({terms.lease:g} s): an answer that is forgotten is asked for again as new")
    if terms.rerun_within is not None and terms.rerun_within < terms.lease:
        refuse("rerun_within", rerun_within, f"at least the lease ({terms.lease:g} s): nobody inherits a key sooner than that")
    return terms


class IdempotentCore:
    """Decides for one operation. A core: it is told what happened and answers with what to do."""

    __slots__ = ("terms",)

    def __init__(self, terms: Terms) -> None:
        self.terms: Terms = terms

    # --- before the body ------------------------------------------------------------------------------------------------

    def begin(self, claimed: Claimed) -> Begin:
        """Return what to do first with a key that is ours."""
        if not claimed.takeover and claimed.recovery_point is None:
            return Begin.RUN
        if self.terms.asks:
            return Begin.ASK
        return Begin.DOUBT if self.terms.rerun_within is None else Begin.LOOK

    def looked(self, age: float | None) -> Begin:
        """Return whether an heir may run what somebody may have sent `age` seconds ago: only while the provider knows its key again."""
        within = self.terms.rerun_within
        return Begin.RUN if within is not None and age is not None and age <= within else Begin.DOUBT

    def asked(self, answer: object) -> Begin:
        """Return what an heir does who was given this answer; anything but the three is no answer."""
        if isinstance(answer, Found):
            return Begin.FOUND
        if isinstance(answer, NotFound):
            return Begin.RUN
        return Begin.DOUBT if isinstance(answer, StillUnknown) else Begin.LET_GO

    def wait(self, retry_after: float, *, waited: float, looks: int, left: float | None) -> float | None:
        """Return the seconds until the next look at a key that somebody else holds, or None if we have waited enough."""
        most = self.terms.wait - waited if left is None else min(self.terms.wait - waited, left)
        if most <= 0:
            return None
        slower: float = _POLL * 2.0 ** min(looks, 10)
        return min(most, max(retry_after, 0.001), slower, _SLOWEST)

    # --- after the body -------------------------------------------------------------------------------------------------

    def ended(self, outcome: Outcome[Any], *, provisional: bool) -> Act:
        """Return what becomes of the key now that the body has ended so."""
        if isinstance(outcome, Ok):
            return self._answered(outcome, provisional=provisional)
        if isinstance(outcome, Declined):
            return Act.RELEASE if outcome.value is None and reached_nobody(outcome.error) else Act.FAIL  # a no of our own is nobody's
        return Act.RELEASE if isinstance(outcome, Failed | Refused) else Act.DOUBT

    def _answered(self, outcome: Ok[Any], *, provisional: bool) -> Act:
        value: object = outcome.value
        if isinstance(value, Unknown):  # of an `outcome` or `aoutcome` inside, handed on as it was
            return Act.DOUBT
        if isinstance(value, Failed | Refused):
            return Act.RELEASE
        stands_in = provisional or isinstance(value, Stale) or (isinstance(value, Ok) and value.fallback is not None)
        # Nobody knows of an intent that a fallback has recorded, to be carried out later: so it is not as if nothing had happened.
        return Act.DOUBT if stands_in or outcome.fallback is not None else Act.COMPLETE

    def interrupted(self, *, sent: bool) -> Act:
        """Return what becomes of the key whose holder is cancelled, or told to exit."""
        return Act.DOUBT if sent else Act.RELEASE

    def lost(self, *, sent: bool, marks_sent: bool) -> bool:
        """Return whether a body whose claim is lost must be stopped: unless it is known that it has sent, and so can do no more harm."""
        return not (sent and marks_sent)


class Lease:
    """When is the claim to be renewed, and when is it over? Counted from when the store was asked, which is never too late."""

    __slots__ = ("_failures", "_until", "seconds")

    def __init__(self, seconds: float, asked_at: float) -> None:
        self.seconds: float = seconds
        self._until = asked_at + seconds
        self._failures = 0

    def next(self, now: float) -> float | None:
        """Return the seconds until the next renewal, or None if the claim may have run out."""
        left = self._until - now
        if left <= 0:
            return None
        return min(left, self.seconds / (_HURRY if self._failures else 3))

    def left(self, now: float) -> float:
        """Return for how long a renewal may be waited for."""
        return max(0.0, self._until - now)

    def renewed(self, asked_at: float) -> None:
        """Take note that the store has renewed it."""
        self._until = asked_at + self.seconds
        self._failures = 0

    def failed(self) -> None:
        """Take note that the store did not answer."""
        self._failures += 1


def check_sync(name: str, terms: Terms) -> None:
    """Raise unless a plain function, whose lease nobody renews, is given less time than its lease."""
    if terms.deadline is None or terms.deadline >= terms.lease:
        given = "none" if terms.deadline is None else f"deadline={terms.deadline:g}"
        message = (
            f"{name} is a plain function, and nobody renews its lease of {terms.lease:g} s while it runs: "
            f"give @idempotent a deadline= that is shorter than the lease, not {given}, and hand remaining() to your client"
        )
        raise ConfigurationError(message)
