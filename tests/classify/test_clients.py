"""What the five clients' errors and responses mean, where no socket is needed to see it."""

from __future__ import annotations

import errno
import socket
import ssl
import urllib.error
import warnings
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx
import httpx2
import multidict
import pytest
import requests
import urllib3
import yarl
from aiohttp.http_exceptions import BadHttpMessage

from finresilience.classify import ErrorClassifier, http_classifier, payments_classifier, sockets_classifier
from finresilience.classify.extract import codes_of, inner_error, retry_after_of, status_of
from finresilience.clock import SystemClock
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Verdict
from finresilience.testing import ManualClock
from tests.classify.raising import saying

HTTP, PAYMENTS, SOCKETS = http_classifier(), payments_classifier(), sockets_classifier()
NOT_COUNTED = Verdict(RETRYABLE, counts_against_provider=False)


# ---------------------------------------------------------------- inside


NOBODY: Any = None  # where a library asks for a pool, a connection or a request that nothing here reads


def max_retry(reason: Any) -> Any:
    return urllib3.exceptions.MaxRetryError(NOBODY, "/", reason)


REFUSED = urllib3.exceptions.NewConnectionError(NOBODY, "")


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (requests.ConnectionError(max_retry(REFUSED)), Verdict(RETRYABLE)),
        (requests.ConnectTimeout(max_retry(urllib3.exceptions.ConnectTimeoutError())), Verdict(RETRYABLE)),
        (requests.ConnectionError(max_retry(urllib3.exceptions.NameResolutionError("h", NOBODY, socket.gaierror()))), Verdict(RETRYABLE)),
        (requests.exceptions.ProxyError(max_retry(urllib3.exceptions.ProxyError("", REFUSED))), Verdict(RETRYABLE)),
        (requests.exceptions.ProxyError(max_retry(urllib3.exceptions.ProxyError("", ConnectionResetError()))), Verdict(UNKNOWN)),
        (requests.ConnectionError(urllib3.exceptions.ProtocolError("", ConnectionResetError())), Verdict(UNKNOWN)),
        (requests.exceptions.SSLError(max_retry(urllib3.exceptions.SSLError(ssl.SSLError()))), Verdict(UNKNOWN)),
        (requests.exceptions.RetryError(max_retry(urllib3.exceptions.ResponseError("too many 503 error responses"))), Verdict(UNKNOWN)),
        (requests.ReadTimeout(urllib3.exceptions.ReadTimeoutError(NOBODY, "", "")), Verdict(UNKNOWN)),
        (requests.ConnectionError(urllib3.exceptions.ClosedPoolError(NOBODY, "")), NOT_COUNTED),
        (requests.ConnectionError(), Verdict(UNKNOWN)),
        (requests.ConnectionError("refused"), Verdict(UNKNOWN)),
        (max_retry(None), Verdict(UNKNOWN)),
        (max_retry(REFUSED), Verdict(RETRYABLE)),
        (urllib.error.URLError("no host given"), Verdict(UNKNOWN)),
    ],
    ids=repr,
)
def test_what_requests_and_urllib3_hide_is_found(error: Any, verdict: Any) -> None:
    assert HTTP.error(error) == verdict
    assert PAYMENTS.error(error) == verdict


def test_what_the_standard_library_hides_is_found() -> None:
    assert PAYMENTS.error(urllib.error.URLError(ConnectionRefusedError())) == Verdict(RETRYABLE)
    assert PAYMENTS.error(urllib.error.URLError(socket.gaierror())) == Verdict(RETRYABLE)
    assert PAYMENTS.error(urllib.error.URLError(ConnectionResetError())) == Verdict(UNKNOWN)


def test_the_error_inside_is_the_last_of_its_arguments_and_before_any_cause() -> None:
    inside, other = ConnectionResetError(), ValueError()
    error = urllib3.exceptions.ProtocolError(other, inside)
    error.__cause__ = other
    assert inner_error(error) is inside
    error.args = ("Connection aborted.",)
    assert inner_error(error) is other


def test_an_error_of_ours_to_be_read_through_a_client_may_be_ruled_by_name() -> None:
    rules = ErrorClassifier({"urllib3.exceptions.NewConnectionError": Verdict(RETRYABLE, retry_after=3.0)})
    assert rules.error(requests.ConnectionError(max_retry(REFUSED))).retry_after == 3.0


# ---------------------------------------------------------------- phases

REQUEST: Any = SimpleNamespace(real_url=yarl.URL("http://localhost"))
KEY: Any = SimpleNamespace(host="localhost", port=80, ssl=True, is_ssl=True)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        *((library.ConnectError(""), Verdict(RETRYABLE)) for library in (httpx, httpx2)),
        *((library.PoolTimeout(""), NOT_COUNTED) for library in (httpx, httpx2)),
        *((library.ReadError(""), Verdict(UNKNOWN)) for library in (httpx, httpx2)),
        *((library.WriteTimeout(""), Verdict(UNKNOWN)) for library in (httpx, httpx2)),
        *((library.DecodingError(""), Verdict(UNKNOWN)) for library in (httpx, httpx2)),
        *((library.UnsupportedProtocol(""), Verdict(NON_RETRYABLE)) for library in (httpx, httpx2)),
        *((library.LocalProtocolError(""), Verdict(UNKNOWN, counts_against_provider=False)) for library in (httpx, httpx2)),
        (aiohttp.ClientConnectorError(KEY, OSError(errno.EMFILE, "too many open files")), NOT_COUNTED),
        (aiohttp.ClientConnectorError(KEY, OSError(errno.ECONNREFUSED, "")), Verdict(RETRYABLE)),
        (aiohttp.ServerFingerprintMismatch(b"", b"", "", 1), Verdict(RETRYABLE)),
        (aiohttp.ClientHttpProxyError(REQUEST, (), status=502), Verdict(RETRYABLE)),
        (aiohttp.ClientOSError(), Verdict(UNKNOWN)),
        (aiohttp.ServerTimeoutError(), Verdict(UNKNOWN)),
        (aiohttp.TooManyRedirects(REQUEST, (), status=302), Verdict(UNKNOWN)),
        (aiohttp.InvalidURL("nonsense"), Verdict(NON_RETRYABLE)),
        (requests.exceptions.InvalidSchema(), Verdict(NON_RETRYABLE)),
        (requests.exceptions.InvalidHeader(), Verdict(UNKNOWN, counts_against_provider=False)),
        (requests.exceptions.InvalidJSONError(), Verdict(NON_RETRYABLE)),
        (requests.exceptions.JSONDecodeError("", "", 0), Verdict(UNKNOWN)),
        (urllib3.exceptions.LocationParseError(""), Verdict(NON_RETRYABLE)),
        (urllib3.exceptions.EmptyPoolError(NOBODY, ""), NOT_COUNTED),
        (urllib3.exceptions.FullPoolError(NOBODY, ""), Verdict(UNKNOWN)),
    ],
    ids=lambda one: type(one).__module__ + "." + type(one).__name__ if isinstance(one, Exception) else None,
)
def test_an_error_is_told_by_its_phase(error: Any, verdict: Any) -> None:
    assert HTTP.error(error) == verdict
    assert PAYMENTS.error(error) == verdict


def test_a_class_named_like_an_error_that_is_a_value_has_no_phase() -> None:
    answer = type("ConnectError", (), {"__module__": "httpx"})()
    assert HTTP.value(answer) is None


def test_reading_through_an_explicit_unknown_is_not_done() -> None:
    error = httpx.ReadError("")
    error.__cause__ = ConnectionRefusedError()
    assert PAYMENTS.error(error) == Verdict(UNKNOWN)


# ---------------------------------------------------------------- responses


def answers(status: Any, **headers: Any) -> Any:
    pairs = {name.replace("_", "-"): value for name, value in headers.items()}
    of_requests = requests.Response()
    of_requests.status_code = status
    of_requests.headers.update(pairs)
    yield httpx.Response(status, headers=pairs)
    yield httpx2.Response(status, headers=pairs)
    yield of_requests
    yield urllib3.HTTPResponse(status=status, headers=pairs)
    yield SimpleNamespace(status=status, headers=multidict.CIMultiDictProxy(multidict.CIMultiDict(pairs)), history=())  # aiohttp's


@pytest.mark.parametrize(
    ("status", "headers", "verdict"),
    [
        (200, {"Retry_After": "7"}, None),
        (303, {}, None),
        (402, {}, Verdict(NON_RETRYABLE)),
        (409, {}, Verdict(UNKNOWN)),
        (429, {"retry_after": "7"}, Verdict(RETRYABLE, retry_after=7.0)),
        (502, {"content_type": "text/html"}, Verdict(UNKNOWN)),
        (503, {}, Verdict(UNKNOWN)),
        (503, {"RETRY_AFTER": "7"}, Verdict(RETRYABLE, retry_after=7.0)),
    ],
    ids=str,
)
def test_a_response_of_any_client_means_the_same(status: Any, headers: Any, verdict: Any) -> None:
    for answer in answers(status, **headers):
        assert HTTP.value(answer) == verdict
        assert PAYMENTS.value(answer) == verdict
        if verdict is not None:
            assert HTTP.error(saying(RuntimeError(), response=answer)) == verdict


def test_a_date_is_measured_by_the_clock_that_was_given() -> None:
    clock = ManualClock(utc=datetime(1994, 11, 6, 8, 49, 30, tzinfo=UTC))
    answer = SimpleNamespace(status_code=503, headers={"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"})
    for classifier in (http_classifier(clock=clock), payments_classifier(clock=clock)):
        assert classifier.value(answer) == Verdict(RETRYABLE, retry_after=7.0)
    assert HTTP.value(answer) == Verdict(RETRYABLE, retry_after=0.0)
    assert retry_after_of(answer, SystemClock()) == 0.0


def test_no_warning_is_caused_by_asking() -> None:
    error = aiohttp.ClientResponseError(REQUEST, (), status=402)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert PAYMENTS.error(error) == Verdict(NON_RETRYABLE)
        assert list(codes_of(error)) == []
    assert caught == []


def test_aiohttps_400_for_an_answer_that_is_not_http_is_unknown() -> None:
    answered = aiohttp.ClientResponseError(REQUEST, (), status=400)
    garbled = aiohttp.ClientResponseError(REQUEST, (), status=400)
    garbled.__cause__ = BadHttpMessage("OK, thank you")
    assert HTTP.error(answered) == Verdict(NON_RETRYABLE)
    assert HTTP.error(garbled) == Verdict(UNKNOWN)
    assert status_of(garbled) == 400
