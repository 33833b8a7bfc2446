"""What do Stripe's answers and the SDK's errors tell about the money? As data and by names: the SDK need not be there."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast, final

from finresilience.classify.classifier import ErrorClassifier, Rule
from finresilience.classify.extract import attribute, retry_after_of, status_of
from finresilience.classify.payments import payments_classifier
from finresilience.clock import Clock, ruling_clock
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ERRORS: Final = ("stripe._error.StripeError", "stripe.error.StripeError")  # the second is where it was before version 8
_SHOULD_RETRY: Final = "stripe-should-retry"
_NOT_NOW: Final = frozenset({"rate_limit", "lock_timeout"})  # turned away at the door, whatever the status
_TWICE: Final = "duplicate_transaction"  # one of the same amount and card went just before: perhaps ours


@final
class StripeAnswer:
    """One answer of Stripe, before the SDK makes an object or an error of it."""

    __slots__ = ("_said", "body", "finresilience_notes", "headers", "status_code")

    def __init__(self, body: Any, status: int, headers: Mapping[str, str]) -> None:
        self.body: Any = body
        self.status_code: int = status
        self.headers: Mapping[str, str] = headers
        self.finresilience_notes: object = None
        self._said: dict[str, Any] | None = None

    @property
    def said(self) -> dict[str, Any]:
        """The `error` object of the answer; empty where there is none."""
        if self._said is None:
            self._said = _error_in(self.body)
        return self._said

    def as_tuple(self) -> tuple[Any, int, Mapping[str, str]]:
        """Return it as the SDK wants it."""
        return self.body, self.status_code, self.headers

    def close(self) -> None:
        """Let go of a stream that nobody reads."""
        with suppress(Exception):
            self.body.close()

    def __repr__(self) -> str:
        """Show the status; the rest may hold anything."""
        return f"<StripeAnswer {self.status_code}>"


def stripe_classifier(*, clock: Clock | None = None) -> ErrorClassifier:
    """Return the rules for Stripe: its errors, its codes, and the header `stripe-should-retry`; then those of every payment.

    A declined card stays declined: Stripe repeats that answer under the same key for a day, so another try needs a new key. A key in use
    is unknown, a key with other parameters is a no.

    Args:
        clock: tells the time for a Retry-After date that comes without the response's own Date.

    >>> stripe_classifier().value(StripeAnswer(b'{"error": {"code": "lock_timeout"}}', 429, {}))
    <Verdict retryable, counts>
    >>> stripe_classifier().value(StripeAnswer(b'{"error": {"code": "idempotency_key_in_use"}}', 409, {}))
    <Verdict unknown, counts>
    """
    rule = _by_words(clock)
    types: dict[type[object] | str, Rule] = {**dict.fromkeys(_ERRORS, rule), StripeAnswer: rule}
    return ErrorClassifier(types, when=[(lambda subject: advice(subject) is not None, rule)]) | payments_classifier(clock=clock)


def _by_words(clock: Clock | None) -> Callable[[object], Verdict | None]:
    def verdict(subject: object) -> Verdict | None:
        status = status_of(subject)
        if status is None or status < 400:
            return None
        said, told = _said_by(subject), advice(subject)
        wait = retry_after_of(subject, clock or ruling_clock())
        codes = {said.get("code"), said.get("decline_code"), attribute(subject, "code")}
        if said.get("type") == "idempotency_error" or type(subject).__name__ == "IdempotencyError":
            return Verdict(UNKNOWN if status == 409 else NON_RETRYABLE, retry_after=wait)
        if status == 429 or codes & _NOT_NOW:
            return Verdict(NON_RETRYABLE) if told == "false" else Verdict(RETRYABLE, retry_after=wait)
        if status == 402 or said.get("type") == "card_error":
            return Verdict(UNKNOWN if _TWICE in codes else NON_RETRYABLE, counts_against_provider=False)
        return _as_told(status, told, wait)

    return verdict


def _as_told(status: int, told: str | None, wait: float | None) -> Verdict | None:
    """Go by the header. It speaks of the same request under the same key, so `true` does not say that nothing happened."""
    if told == "true":
        return Verdict(UNKNOWN, retry_after=wait)
    if told == "false" and status < 500:
        return Verdict(UNKNOWN, counts_against_provider=False) if status == 409 else Verdict(NON_RETRYABLE)
    return None  # a 500 under this key will be repeated as it is: unknown, and a sign of the provider's health


def advice(subject: object) -> str | None:
    """Return what `stripe-should-retry` says, where an answer has it."""
    headers: Any = attribute(subject, "headers")
    with suppress(Exception):
        value = headers.get(_SHOULD_RETRY)
        if value is None:  # a plain dict, which does not ignore case
            value = next((told for name, told in headers.items() if str(name).lower() == _SHOULD_RETRY), None)
        return value if isinstance(value, str) else None
    return None


def _said_by(subject: object) -> dict[str, Any]:
    if isinstance(subject, StripeAnswer):
        return subject.said
    return _part(attribute(subject, "json_body"))


def _error_in(body: object) -> dict[str, Any]:
    if not isinstance(body, str | bytes):
        return {}
    with suppress(ValueError, RecursionError):
        return _part(json.loads(body))
    return {}


def _part(told: object) -> dict[str, Any]:
    error = cast("dict[str, Any]", told).get("error") if isinstance(told, dict) else None
    return cast("dict[str, Any]", error) if isinstance(error, dict) else {}
