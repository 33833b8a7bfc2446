"""What does an HTTP exchange that went wrong, or an answer that says no, tell about the money? For five clients at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finresilience.classify.classifier import ErrorClassifier, Rule
from finresilience.classify.clients import PHASES, UNSENT, Phase
from finresilience.classify.evidence import connecting, our_shortage, sent_before, settled_phase
from finresilience.classify.extract import attribute, class_names, retry_after_of
from finresilience.classify.statuses import STATUSES, WITH_RETRY_AFTER
from finresilience.clock import Clock, ruling_clock
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Classification, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping


def http_classifier(*, clock: Clock | None = None) -> ErrorClassifier:
    """Return the rules for httpx, httpx2, aiohttp, requests, urllib3 and the standard library's client, sync and async.

    Exceptions are told by the phase in which they can occur, raised and returned responses by their status. An answer
    that came after a redirect speaks for the last request only, so it counts as "nothing moved" only if the earlier
    ones cannot have moved anything either.

    Args:
        clock: tells the time for a Retry-After date that comes without the response's own Date.

    >>> from types import SimpleNamespace
    >>> http_classifier().value(SimpleNamespace(status_code=402, headers={}))
    <Verdict non_retryable, does not count>
    >>> http_classifier().value(SimpleNamespace(status_code=503, headers={"Retry-After": "7"}))
    <Verdict retryable, counts, retry after 7 s>
    >>> http_classifier().value(SimpleNamespace(status_code=201, headers={}))
    """
    types: dict[type[object] | str, Rule] = dict.fromkeys(PHASES, _by_phase)
    types["aiohttp.client_exceptions.ClientResponseError"] = _unless_unreadable
    types["builtins.TimeoutError"] = _by_phase  # aiohttp's total limit, which may have met the connection being made
    return ErrorClassifier(types, status=_status_rules(clock), clock=clock)


def _by_phase(subject: object) -> Classification | Verdict | None:
    if not isinstance(subject, BaseException):
        return None
    phase = settled_phase(subject)
    if phase in UNSENT or connecting(subject):
        return _unsent(subject, phase)
    if phase is Phase.LOCAL:
        return Verdict(UNKNOWN, counts_against_provider=False)
    return None if phase is None else UNKNOWN


def _unsent(error: BaseException, phase: Phase | None) -> Classification | Verdict:
    if sent_before(error):
        return UNKNOWN
    if phase is Phase.MAKE:
        return NON_RETRYABLE
    if phase is Phase.POOL or our_shortage(error):  # our own limit, as a full bulkhead is: the provider was not asked
        return Verdict(RETRYABLE, counts_against_provider=False)
    return RETRYABLE


def _unless_unreadable(subject: object) -> Classification | None:
    """To an answer that is not HTTP at all, aiohttp gives the status 400, as if the provider had refused the request."""
    cause = attribute(subject, "__cause__")
    return UNKNOWN if "aiohttp.http_exceptions.HttpProcessingError" in class_names(cause) else None


def _status_rules(clock: Clock | None) -> Mapping[int, Rule]:
    def nothing_moved(subject: object) -> Classification:
        return UNKNOWN if sent_before(subject) else NON_RETRYABLE

    def not_now(subject: object) -> Classification:
        return UNKNOWN if sent_before(subject) else RETRYABLE

    def if_it_says_when(subject: object) -> Classification:
        return UNKNOWN if retry_after_of(subject, clock or ruling_clock()) is None else not_now(subject)

    rules: dict[Classification, Rule] = {NON_RETRYABLE: nothing_moved, RETRYABLE: not_now, UNKNOWN: UNKNOWN}
    return {status: rules[told] for status, told in STATUSES.items()} | dict.fromkeys(WITH_RETRY_AFTER, if_it_says_when)
