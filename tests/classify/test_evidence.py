"""What a traceback proves: that the connection was still being made, or that something had been sent before."""

from __future__ import annotations

import asyncio
import errno
import ssl
from types import SimpleNamespace, TracebackType
from typing import Any

import httpx
import pytest
import requests
import urllib3

from finresilience.classify import ErrorClassifier, http_classifier, payments_classifier, sockets_classifier
from finresilience.classify.evidence import MAX_FRAMES, connecting, sent_before
from finresilience.outcome import RETRYABLE, UNKNOWN, Verdict
from tests.classify.raising import saying, thrown

HTTP, PAYMENTS, SOCKETS = http_classifier(), payments_classifier(), sockets_classifier()
NOT_COUNTED = Verdict(RETRYABLE, counts_against_provider=False)
NOBODY: Any = None  # where a library asks for a pool or a connection that nothing here reads
REFUSED = urllib3.exceptions.NewConnectionError(NOBODY, "")


# ---------------------------------------------------------------- the connection was still being made

HANDSHAKE = ("ssl", "do_handshake")
RESETS = [ConnectionResetError, ConnectionAbortedError, BrokenPipeError, TimeoutError, ssl.SSLEOFError, ssl.SSLError]


@pytest.mark.parametrize("kind", RESETS)
def test_a_socket_error_while_connecting_was_not_sent_and_later_is_unknown(kind: Any) -> None:
    for classifier in (SOCKETS, PAYMENTS):
        assert classifier.error(thrown(kind(), HANDSHAKE)) == Verdict(RETRYABLE)
        assert classifier.error(thrown(kind(), ("ssl", "read"))) == Verdict(UNKNOWN)
        assert classifier.error(kind()) == Verdict(UNKNOWN)


def test_a_timeout_that_interrupted_a_connect_was_not_sent() -> None:
    import asyncio

    error = TimeoutError()
    error.__cause__ = thrown(asyncio.CancelledError(), ("asyncio.base_events", "create_connection"))
    assert HTTP.error(error) == Verdict(RETRYABLE)
    assert SOCKETS.error(error) == Verdict(RETRYABLE)


@pytest.mark.parametrize("named", [True, False], ids=["as cause", "as context"])
@pytest.mark.parametrize("interrupted", [True, False], ids=["by a timeout", "by something else"])
def test_what_a_timeout_of_asyncio_interrupted_is_known_whether_it_names_it_or_not(named: bool, interrupted: bool) -> None:
    before = thrown(asyncio.CancelledError() if interrupted else ValueError(), HANDSHAKE)
    error = TimeoutError()
    setattr(error, "__cause__" if named else "__context__", before)
    assert connecting(error) is (named or interrupted)


def test_what_urllib3_calls_a_read_is_a_handshake_if_it_was_one() -> None:
    for inside in (TimeoutError(), ConnectionResetError(), ssl.SSLError()):
        error = urllib3.exceptions.ReadTimeoutError(NOBODY, "", "")
        error.__cause__ = thrown(inside, HANDSHAKE)
        assert HTTP.error(requests.ReadTimeout(error)) == Verdict(RETRYABLE)
        assert HTTP.error(urllib3.exceptions.ProtocolError("", thrown(inside, HANDSHAKE))) == Verdict(RETRYABLE)
        assert HTTP.error(urllib3.exceptions.SSLError(thrown(inside, HANDSHAKE))) == Verdict(RETRYABLE)


def test_a_certificate_nobody_vouches_for_needs_no_more_proof() -> None:
    assert PAYMENTS.error(ssl.SSLCertVerificationError()) == Verdict(RETRYABLE)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (OSError(errno.EMFILE, ""), NOT_COUNTED),
        (OSError(errno.ENFILE, ""), NOT_COUNTED),
        (OSError(errno.EADDRNOTAVAIL, ""), NOT_COUNTED),
        (OSError(errno.EMFILE, "", "receipt.pdf"), Verdict(UNKNOWN)),  # opened after the call, for all we know
        (OSError(errno.ENOENT, "", "receipt.pdf"), Verdict(UNKNOWN)),
        (OSError(errno.EHOSTUNREACH, ""), Verdict(UNKNOWN)),
        (OSError("several at once"), Verdict(UNKNOWN)),
        (thrown(OSError("several at once"), ("asyncio.base_events", "create_connection")), Verdict(RETRYABLE)),
        (thrown(OSError(errno.EHOSTUNREACH, ""), ("socket", "create_connection")), Verdict(RETRYABLE)),
    ],
    ids=repr,
)
def test_a_bare_os_error_is_told_by_its_errno_and_its_place(error: Any, verdict: Any) -> None:
    assert SOCKETS.error(error) == verdict
    assert PAYMENTS.error(error) == verdict


def test_an_os_error_by_name_that_is_a_value_has_no_errno() -> None:
    assert SOCKETS.value(SimpleNamespace(errno=errno.EMFILE)) is None
    assert SOCKETS.value(type("OSError", (), {"__module__": "builtins"})()) is None
    assert SOCKETS.value(type("TimeoutError", (), {"__module__": "builtins"})()) == Verdict(UNKNOWN)


def test_a_traceback_is_read_only_so_far() -> None:
    """A traceback is read from the outside in, as deep as the recursion limit of most programs allows."""
    for frames, told in ((MAX_FRAMES - 10, True), (MAX_FRAMES + 10, False)):
        error = thrown(ConnectionResetError(), HANDSHAKE)
        above = thrown(RuntimeError(), ("acme", "step")).__traceback__
        assert above is not None
        for _ in range(frames):
            error.__traceback__ = TracebackType(error.__traceback__, above.tb_frame, above.tb_lasti, above.tb_lineno)
        assert connecting(error) is told
    assert not connecting(ConnectionResetError())


# ---------------------------------------------------------------- one call, several exchanges


def hop(status: Any, method: Any = "POST", **more: Any) -> Any:
    return SimpleNamespace(status_code=status, request=SimpleNamespace(method=method), **more)


HTTPX = ("httpx._client", "_send_handling_redirects")


def law_a_client_that_had_gone_on_may_have_moved_money_before(classifier: Any, where: tuple[str, str], local: dict[str, Any]) -> None:
    assert classifier.error(thrown(httpx.ConnectError(""), where, **local)) == Verdict(UNKNOWN)


def test_the_law_catches_one_that_goes_by_the_last_exchange() -> None:
    """The saboteur: a refused connection was never sent, so it says, and forgets the redirect before it."""
    with pytest.raises(AssertionError):
        law_a_client_that_had_gone_on_may_have_moved_money_before(
            ErrorClassifier({httpx.ConnectError: RETRYABLE}), HTTPX, {"history": [hop(303)]}
        )


@pytest.mark.parametrize(
    ("where", "local"),
    [
        (HTTPX, {"history": [], "response": hop(303)}),
        (HTTPX, {"history": [hop(303)]}),
        (("httpx2._client", "_send_handling_redirects"), {"history": [hop(302)]}),
        (("aiohttp.client", "_request"), {"history": [SimpleNamespace(status=303, method="POST")]}),
        (("aiohttp.client", "_request"), {"history": [], "method": "PUT", "retry_persistent_connection": False}),
        (("requests.sessions", "resolve_redirects"), {"hist": [hop(301)]}),
        (("urllib.request", "http_error_302"), {"fp": SimpleNamespace(status=302)}),
        (
            ("urllib3.connectionpool", "urlopen"),
            {"retries": SimpleNamespace(history=(SimpleNamespace(method="GET", status=303, redirect_location="/"),))},
        ),
        (
            ("urllib3.connectionpool", "urlopen"),
            {"retries": SimpleNamespace(history=(SimpleNamespace(method="PUT", error=ConnectionResetError()),))},
        ),
    ],
    ids=str,
)
def test_a_client_that_had_gone_on_may_have_moved_money_before(where: Any, local: Any) -> None:
    law_a_client_that_had_gone_on_may_have_moved_money_before(HTTP, where, local)
    assert sent_before(thrown(ValueError(), where, **local))
    assert HTTP.error(thrown(httpx.UnsupportedProtocol(""), where, **local)) == Verdict(UNKNOWN)
    assert SOCKETS.error(thrown(ConnectionResetError(), where, HANDSHAKE, **local)) == Verdict(UNKNOWN)


@pytest.mark.parametrize(
    ("where", "local"),
    [
        (("acme.client", "_request"), {"history": [hop(303)]}),
        (HTTPX, {"history": []}),
        (HTTPX, {"history": None, "response": None}),
        (HTTPX, {"history": [hop(307), hop(308), hop(401), hop(429)]}),
        (HTTPX, {"history": [hop(303, method="get"), hop(200, method="HEAD")]}),
        (HTTPX, {"history": ["nonsense", 303, ...]}),
        (("aiohttp.client", "_request"), {"history": [], "method": "POST", "retry_persistent_connection": False}),
        (("aiohttp.client", "_request"), {"history": [], "method": "PUT", "retry_persistent_connection": True}),
        (("urllib3.connectionpool", "urlopen"), {"retries": None}),
        (("urllib3.connectionpool", "urlopen"), {"retries": 3}),
        (("urllib3.connectionpool", "urlopen"), {"retries": SimpleNamespace(history=(SimpleNamespace(method="PUT", error=REFUSED),))}),
        (
            ("urllib3.connectionpool", "urlopen"),
            {"retries": SimpleNamespace(history=(SimpleNamespace(method="PUT", error=thrown(ssl.SSLError(), HANDSHAKE)),))},
        ),
    ],
    ids=str,
)
def test_a_client_that_had_sent_nothing_or_was_refused_has_moved_nothing(where: Any, local: Any) -> None:
    assert HTTP.error(thrown(httpx.ConnectError(""), where, **local)) == Verdict(RETRYABLE)


@pytest.mark.parametrize("status", [402, 429])
def test_an_answer_after_a_redirect_speaks_for_the_last_request_only(status: Any) -> None:
    alone, after = hop(status, history=[]), hop(status, method="GET", history=[hop(303)])
    told = HTTP.value(alone)
    assert told is not None
    assert told.classification is not UNKNOWN
    assert HTTP.value(after) == Verdict(UNKNOWN)
    assert HTTP.value(hop(status, history=[hop(307)])) == told
    assert HTTP.error(saying(RuntimeError(), response=after)) == Verdict(UNKNOWN)
    assert HTTP.value(hop(status, retries=SimpleNamespace(history=after.history))) == Verdict(UNKNOWN)
    assert HTTP.value(hop(503, headers={"Retry-After": "7"}, history=[hop(303)])) == Verdict(UNKNOWN, retry_after=7.0)
