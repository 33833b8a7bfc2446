"""What does an HTTP caller hear of an error? The status, the headers and the body of RFC 9457 that say no more than is true.

A status is a statement about the money: a client reads 402 as "no", 503 with Retry-After as "not sent, come again", and
500 or 504 as "nobody knows". So what we answer here is what our own `http_classifier` reads at the other end.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypedDict, Unpack, cast, final

from finresilience._checks import refuse, seconds_of
from finresilience.classify.statuses import STATUSES
from finresilience.durable.idempotent_errors import KeyInProgressError, KeyMismatchError, ReplayedDeclineError
from finresilience.errors import (
    ConfigurationError,
    DeadlineExceededError,
    ExpiredError,
    MissingKeyError,
    RateLimitedError,
    RefusedError,
    ResultError,
    UnknownOutcomeError,
)
from finresilience.integrations.headers import HeaderError
from finresilience.outcome import NON_RETRYABLE, UNKNOWN, Declined, Failed, Refused, Unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import timedelta

    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.outcome import Outcome

MEDIA_TYPE: Final = "application/problem+json"
TYPES: Final = "urn:finresilience:problem:"
LONGEST_WAIT: Final = 86_400  # seconds; a longer Retry-After helps nobody


class Problem(NamedTuple):
    """An answer that tells of a problem: plain data, for any framework."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]


class Kind(NamedTuple):
    """One type of problem: the end of its URI, its status, and its words. None of them ever holds call data."""

    name: str
    status: int
    title: str
    detail: str


_ASK: Final = "Ask for its state before you send it again, and never send it as new."
UNKNOWN_OUTCOME: Final = Kind(
    "unknown-outcome", 202, "The outcome is not known yet", f"It may have been carried out, or may still be. {_ASK}"
)
INCOMPLETE: Final = Kind(
    "incomplete", 500, "Stopped on the way", f"A step of it was refused after an earlier step may have been carried out. {_ASK}"
)
EXPIRED: Final = Kind("expired", 504, "No answer came in time", f"If it changes anything, it may have been carried out. {_ASK}")
REFUSED: Final = Kind("refused", 503, "Not now", "It was refused before anything was sent, so nothing moved. Send it again later.")
RATE_LIMITED: Final = Kind("rate-limited", 503, "Too much at once", "It was refused before anything was sent, so nothing moved. Slow down.")
OUT_OF_TIME: Final = Kind(
    "deadline-exceeded", 503, "Out of time", "Its time was used up before anything was sent, so nothing moved. Give it more time."
)
FAILED: Final = Kind("failed", 503, "It failed", "It failed and was surely not carried out. Send it again later.")
DECLINED: Final = Kind("declined", 402, "Declined", "The answer is no, and nothing moved. Sent again as it is, it will be declined again.")
KEY_MISSING: Final = Kind(
    "key-missing", 400, "Idempotency-Key is missing", "This operation needs an Idempotency-Key header. Nothing was done without one."
)
BAD_HEADER: Final = Kind("bad-header", 400, "A header cannot be read", "Nothing was done.")
KEY_IN_USE: Final = Kind(
    "key-in-use", 409, "It is being carried out", "A request with this key is being carried out. Send it again later, as it is."
)
KEY_REUSED: Final = Kind(
    "key-reused",
    422,
    "The key belongs to another request",
    "This key was used before, for a request that was not the same. Nothing was done for this one. Give it a key of its own.",
)
BODY_TOO_LARGE: Final = Kind("body-too-large", 413, "The request is too large", "Nothing was done.")
ANSWER_NOT_KEPT: Final = Kind(
    "answer-not-kept",
    409,
    "It was carried out before",
    "It ended with the status that `answered` names, and its answer could not be kept. Ask for its state, and never send it as new.",
)
CALLER_UNKNOWN: Final = Kind("caller-unknown", 403, "Whose key is it?", "A key needs an owner, and nobody is known. Nothing was done.")
KINDS: Final = (
    *(UNKNOWN_OUTCOME, INCOMPLETE, EXPIRED, REFUSED, RATE_LIMITED),
    *(OUT_OF_TIME, FAILED, DECLINED, KEY_MISSING, BAD_HEADER),
    *(KEY_IN_USE, KEY_REUSED, BODY_TOO_LARGE, ANSWER_NOT_KEPT, CALLER_UNKNOWN),
)

# Ours, the most specific first: the class, its kind, and whether it says that nothing of this call was sent.
_OURS: Final[tuple[tuple[type[Exception], Kind, bool], ...]] = (
    (UnknownOutcomeError, UNKNOWN_OUTCOME, False),
    (ExpiredError, EXPIRED, False),
    (DeadlineExceededError, OUT_OF_TIME, True),
    (RateLimitedError, RATE_LIMITED, True),
    (RefusedError, REFUSED, True),
    (MissingKeyError, KEY_MISSING, True),
    (KeyInProgressError, KEY_IN_USE, True),
    (KeyMismatchError, KEY_REUSED, True),
    (ReplayedDeclineError, DECLINED, False),
    (HeaderError, BAD_HEADER, True),
)
_MEMBERS: Final = frozenset({"type", "title", "status", "detail", "instance"})


class ProblemOptions(TypedDict, total=False):
    """What can be said about problems; see `Problems`."""

    declined: tuple[type[Exception], ...]
    classify: ErrorClassifier | None
    statuses: Mapping[type[Exception], int] | None
    members: Callable[[Exception], Mapping[str, Any] | None] | None
    types: str
    retry_after: float | timedelta
    ask_after: float | timedelta


@final
class Problems:
    """Tell for any error which answer it is to an HTTP caller, or None where it is not ours to tell.

    Args:
        declined: the exceptions by which your providers say no, such as `stripe.CardError`: 402.
        classify: rules for the rest: what they find NON_RETRYABLE is a decline too. A gate's no (401, 403, 404 and their like)
            is not: it is about you, not about your caller.
        statuses: other statuses for some classes, such as `{RateLimitedError: 429}` where the limiter stands at your own door.
        members: more members for the body, such as `{"status_url": ...}` or a decline code of yours; `status_url` of an unknown
            outcome becomes its `Location` too. Where it fails, the answer goes out without.
        types: what the problem types begin with; end it with a slash and serve pages there, if you like.
        retry_after: the seconds in `Retry-After` where a refusal does not know them: without that header, a 503 says "nobody knows".
        ask_after: the seconds after which it makes sense to ask about an unknown outcome.

    Raises:
        ConfigurationError: if an argument cannot work, or would tell the caller more than is true.
    """

    __slots__ = ("_ask_after", "_classify", "_declined", "_members", "_retry_after", "_statuses", "_types")

    def __init__(
        self,
        *,
        declined: tuple[type[Exception], ...] = (),
        classify: ErrorClassifier | None = None,
        statuses: Mapping[type[Exception], int] | None = None,
        members: Callable[[Exception], Mapping[str, Any] | None] | None = None,
        types: str = TYPES,
        retry_after: float | timedelta = 1.0,
        ask_after: float | timedelta = 5.0,
    ) -> None:
        if classify is not None and not callable(getattr(classify, "error", None)):
            refuse("classify", classify, "an ErrorClassifier")
        if members is not None and not callable(members):
            refuse("members", members, "a function of the error")
        if not isinstance(types, str) or not types.isascii() or not types.isprintable() or ":" not in types:
            refuse("types", types, "the beginning of a URI, such as 'https://api.acme.test/problems/'")
        self._declined = _declines(declined)
        self._classify = classify
        self._statuses = _true_statuses(statuses or {})
        self._members = members
        self._types = types
        self._retry_after = seconds_of("retry_after", retry_after)
        self._ask_after = seconds_of("ask_after", ask_after)

    @property
    def declined(self) -> tuple[type[Exception], ...]:
        """The classes that are declines by themselves."""
        return self._declined

    def of(self, end: Exception | Outcome[Any], *, sent: bool = False) -> Problem | None:
        """Return the answer for an error, or for the outcome of a call; None for an error that is not ours to tell, and for an `Ok`.

        Args:
            end: the error that reached you, or what `outcome` and `aoutcome` return.
            sent: whether something else of the same request may have been sent before: then no refusal can say that nothing was.
        """
        error, kind = self._kind(end, sent=sent)
        if kind is None:
            return None
        assert error is not None  # noqa: S101 - whatever has a kind has an error
        status = kind.status
        if kind is not INCOMPLETE:
            status = next((self._statuses[base] for base in type(error).__mro__ if base in self._statuses), status)
        body = {"type": self._types + kind.name, "title": kind.title, "status": status, "detail": kind.detail}
        if isinstance(error, HeaderError):
            body.update(detail=f"{error}. {kind.detail}", header=error.header)
        headers = self._headers(error, kind)
        more = self._more(error)
        if kind is UNKNOWN_OUTCOME and _is_location(more.get("status_url")):
            headers["Location"] = more["status_url"]
        return Problem(status, headers, {**more, **body})

    def _kind(self, end: Exception | Outcome[Any], *, sent: bool) -> tuple[Exception | None, Kind | None]:
        if isinstance(end, Declined | Failed):
            return end.error, DECLINED if isinstance(end, Declined) else FAILED
        if isinstance(end, Unknown):
            return end.error, UNKNOWN_OUTCOME
        error = end.error if isinstance(end, Refused) else end
        if not isinstance(error, Exception):
            return None, None
        for known, kind, nothing_sent in _OURS:
            if isinstance(error, known):
                return error, INCOMPLETE if sent and nothing_sent else kind
        return error, DECLINED if self._is_decline(error) else None

    def _is_decline(self, error: Exception) -> bool:
        if isinstance(error, self._declined):
            return True
        if self._classify is None or self._classify.error(error).classification is not NON_RETRYABLE:
            return False
        from finresilience.classify.evidence import speaks_of_the_call
        from finresilience.classify.extract import links

        return all(speaks_of_the_call(link.value if isinstance(link, ResultError) else link) for link in links(error))

    def _headers(self, error: Exception, kind: Kind) -> dict[str, str]:
        headers = {"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store"}
        if kind is UNKNOWN_OUTCOME:
            headers["Retry-After"] = _whole_seconds(self._ask_after)
        elif kind in {REFUSED, RATE_LIMITED, OUT_OF_TIME, FAILED, KEY_IN_USE}:
            hint = error.retry_after if isinstance(error, RefusedError | KeyInProgressError) else None
            headers["Retry-After"] = _whole_seconds(self._retry_after if hint is None else hint)
        return headers

    def _more(self, error: Exception) -> dict[str, Any]:
        """Return the members of the user's own; a function that fails must not cost the caller the answer."""
        if self._members is None:
            return {}
        import json

        try:
            more = self._members(error)
            kept = {} if more is None else {str(name): value for name, value in more.items() if name not in _MEMBERS}
            json.dumps(kept, allow_nan=False)
        except Exception:
            return {}
        return kept


def problem(end: Exception | Outcome[Any], *, sent: bool = False, **options: Unpack[ProblemOptions]) -> Problem | None:
    """Return the answer for an error or an outcome, as `Problems(**options).of(end, sent=sent)` does."""
    return Problems(**options).of(end, sent=sent)


def log_problem(end: Exception | Outcome[Any], answer: Problem) -> None:
    """Warn of what a person should know: something may have been done, or our own set-up lacks a key. Our errors hold no call data."""
    error = end.error if isinstance(end, Refused) else end
    if not isinstance(error, RefusedError | ExpiredError | MissingKeyError) or answer.headers.get("Retry-After"):
        return
    import logging

    kind = str(answer.body["type"]).removeprefix(TYPES)
    logging.getLogger("finresilience").warning("answered %d (%s): %s", answer.status, kind, str(error).partition("\n")[0])


def _whole_seconds(wait: float) -> str:
    """Return a wait for Retry-After: whole, never less than was meant, and never zero, which would bring everybody back at once."""
    return str(max(1, ceil(min(wait, LONGEST_WAIT)))) if wait == wait else "1"  # noqa: PLR0124 - NaN is not itself


def _is_location(url: object) -> bool:
    return isinstance(url, str) and url.isascii() and url.isprintable() and bool(url) and " " not in url


def _declines(declined: object) -> tuple[type[Exception], ...]:
    kinds = cast("tuple[object, ...]", declined if isinstance(declined, tuple) else (declined,))
    for kind in kinds:
        if not isinstance(kind, type) or not issubclass(kind, Exception):
            refuse("declined", declined, "the classes of your providers' declines, as a tuple")
        if kind.__module__ == "builtins" or any(issubclass(ours, kind) for ours, *_ in _OURS):
            message = f"declined={kind.__name__} would call a mere mistake, or an unknown outcome, a decline: name the decline's own class"
            raise ConfigurationError(message)
    return cast("tuple[type[Exception], ...]", kinds)


def _true_statuses(statuses: Mapping[type[Exception], int]) -> dict[type[Exception], int]:
    """Return the statuses if none of them says more than is true: an unknown outcome must not be read as a no, nor a refusal as a yes."""
    for kind, status in statuses.items():
        if not isinstance(kind, type) or not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 599:
            refuse("statuses", status, "a status from 200 to 599 for each class of errors")
        said = STATUSES.get(status)
        unknown = issubclass(kind, UnknownOutcomeError | ExpiredError)
        if unknown and (status == 503 or said not in {None, UNKNOWN}):
            message = f"statuses={{{kind.__name__}: {status}}} would say that nothing happened; nobody knows: give 202, 500, 502 or 504"
            raise ConfigurationError(message)
        if not unknown and said is None:
            message = f"statuses={{{kind.__name__}: {status}}} would say that all is well: give a status from 400 to 599"
            raise ConfigurationError(message)
    return dict(statuses)
