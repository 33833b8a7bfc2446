"""What does a failed socket tell about the money? The standard library's, anyio's and trio's errors, by class and errno."""

from __future__ import annotations

from errno import EHOSTUNREACH, ENETDOWN, ENETUNREACH
from typing import Final

from finresilience.classify.classifier import ErrorClassifier, Rule
from finresilience.classify.evidence import is_shortage, never_sent, sent_before
from finresilience.classify.extract import attribute
from finresilience.outcome import RETRYABLE, UNKNOWN, Classification, Verdict

# These can only come before anything is sent.
NOT_SENT: Final = (
    "builtins.ConnectionRefusedError",
    "socket.gaierror",
    "socket.herror",
    "ssl.SSLCertVerificationError",
    "anyio.ConnectionFailed",
)
# These come at any time: UNKNOWN, unless the traceback proves that the connection was still being made.
AT_ANY_TIME: Final = (
    "builtins.ConnectionError",  # reset, aborted, broken pipe
    "builtins.TimeoutError",
    "ssl.SSLError",
    "asyncio.exceptions.IncompleteReadError",
    "anyio.BrokenResourceError",
    "anyio.ClosedResourceError",
    "anyio.EndOfStream",
    "anyio.IncompleteRead",
    "trio.BrokenResourceError",
    "trio.ClosedResourceError",
    "trio.TooSlowError",
)
# So do these, of a bare OSError: an established connection gets them too, when its packets are no longer answered.
NO_ROUTE: Final = frozenset({EHOSTUNREACH, ENETUNREACH, ENETDOWN})


def sockets_classifier() -> ErrorClassifier:
    """Return the rules for errors of sockets that no client library wrapped.

    >>> sockets_classifier().error(ConnectionRefusedError())
    <Verdict retryable, counts>
    >>> sockets_classifier().error(ConnectionResetError())
    <Verdict unknown, counts>
    """
    types: dict[type[object] | str, Rule] = dict.fromkeys(NOT_SENT, _unless_sent_before)
    types |= dict.fromkeys(AT_ANY_TIME, _unless_connecting)
    types["builtins.OSError"] = _by_errno
    return ErrorClassifier(types)


def _unless_sent_before(subject: object) -> Classification:
    """Never sent; but what a client's hook raises, or its next exchange, is not about the exchange that went before."""
    return UNKNOWN if sent_before(subject) else RETRYABLE


def _unless_connecting(subject: object) -> Classification:
    return RETRYABLE if isinstance(subject, BaseException) and never_sent(subject) else UNKNOWN


def _by_errno(subject: object) -> Classification | Verdict | None:
    if not isinstance(subject, OSError):
        return None
    if is_shortage(subject):
        return Verdict(RETRYABLE, counts_against_provider=False)
    if never_sent(subject):
        return RETRYABLE
    return UNKNOWN if attribute(subject, "errno") in NO_ROUTE else None  # None: about files, or about nothing we know
