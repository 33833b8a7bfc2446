"""How may a call end, and what may be made of one error? Every kind of outcome and verdict, the plainest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from hypothesis import strategies as st

from finresilience.errors import BulkheadFullError, DeadlineExceededError, ExpiredError, RateLimitedError, RefusedError, UnknownOutcomeError
from finresilience.outcome import (
    Classification,
    Declined,
    Failed,
    Found,
    NotFound,
    Ok,
    Outcome,
    Refused,
    Stale,
    StillUnknown,
    Unknown,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

V = TypeVar("V")

_ERRORS: Final[tuple[Callable[[], Exception], ...]] = (
    lambda: RuntimeError("no"),
    lambda: ConnectionRefusedError("refused"),
    lambda: ConnectionResetError("reset"),
    lambda: TimeoutError("timed out"),
    lambda: ExpiredError("acme.charge", 2.0),
    ValueError,
)
_REFUSALS: Final[tuple[Callable[[], RefusedError], ...]] = (
    lambda: DeadlineExceededError("acme.charge", 0.5),
    lambda: BulkheadFullError("acme", 20, 0.5),
    lambda: RateLimitedError("acme", 1.5),
)
_KINDS: Final = (Ok, Declined, Failed, Refused, Unknown)
_WAITS: Final = (0.0, 0.5, 1.0, 30.0, 86_400.0)


def errors() -> SearchStrategy[Exception]:
    """Errors as clients raise them, a new one each time."""
    return st.sampled_from(_ERRORS).map(lambda make: make())


def refusals() -> SearchStrategy[RefusedError]:
    """Our own refusals: nothing was sent."""
    return st.sampled_from(_REFUSALS).map(lambda make: make())


def unknowns() -> SearchStrategy[UnknownOutcomeError]:
    """The error of a call that may have happened."""
    return st.builds(_doubt, st.integers(1, 5), st.none() | st.integers(1, 99).map("pay_{}".format))


def stale() -> SearchStrategy[Stale]:
    """Marks of an answer that a fallback gave."""
    return st.builds(Stale, st.sampled_from(_WAITS), st.sampled_from(("Refused CircuitOpenError", "Failed ConnectionRefusedError")))


def outcomes(values: SearchStrategy[V] | None = None, *, fallbacks: bool = True) -> SearchStrategy[Outcome[V]]:
    """Every kind of outcome. A failure shrinks to an Ok, if that fails too.

    Args:
        values: what a provider answers; whole numbers by default.
        fallbacks: whether an Ok may be the answer of a fallback.
    """
    given: SearchStrategy[Any] = st.integers() if values is None else values
    marks = st.none() | stale() if fallbacks else st.none()
    return st.builds(_outcome, st.sampled_from(_KINDS), given, marks, st.none() | errors(), unknowns(), refusals())


def oks(values: SearchStrategy[V], *, fallbacks: bool = True) -> SearchStrategy[Ok[V]]:
    """The provider's own answers, and those of a fallback."""
    return st.builds(_ok, values, st.none() | stale() if fallbacks else st.none())


def answered(kind: Any, values: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """Ends that hold an error or an answer: Declined or Failed."""
    return errors().map(kind) | values.map(lambda value: kind(value=value))


def found(values: SearchStrategy[V] | None = None) -> SearchStrategy[Found[V] | NotFound | StillUnknown]:
    """Answers of an inquiry."""
    given: SearchStrategy[Any] = st.integers() if values is None else values
    return st.builds(Found, given) | st.builds(NotFound) | st.builds(StillUnknown)


def verdicts() -> SearchStrategy[Verdict]:
    """Every classification, counted or not, with and without a wait."""
    waits = st.none() | st.sampled_from(_WAITS)
    return st.builds(Verdict, st.sampled_from(Classification), counts_against_provider=st.none() | st.booleans(), retry_after=waits)


def _outcome(
    kind: Any, value: Any, mark: Stale | None, error: Exception | None, doubt: UnknownOutcomeError, refusal: RefusedError
) -> Outcome[Any]:
    """Make one of what was drawn for all of them: draws that are the same for every kind let an end shrink to a plainer kind."""
    if kind is Ok:
        return _ok(value, mark)
    if kind is Unknown:
        return Unknown(doubt)
    if kind is Refused:
        return Refused(refusal)
    answer: Outcome[Any] = kind(value=value) if error is None else kind(error)
    return answer


def _ok(value: V, mark: Stale | None) -> Ok[V]:
    ok = Ok(value)
    ok.fallback = mark
    return ok


def _doubt(attempts: int, reference: str | None) -> UnknownOutcomeError:
    held_back = "Nothing was retried: the call is not repeatable."
    return UnknownOutcomeError("acme.charge", attempts=attempts, happened="no answer in time", held_back=held_back, reference=reference)
