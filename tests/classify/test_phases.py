"""The clients' tables are data: each foreign name is held against the library it names, and each library's error against the table."""

from __future__ import annotations

import importlib
from typing import Any, cast

import pytest

from finresilience.classify.clients import CLIENTS, PHASES, UNSENT, Phase, phase_of
from finresilience.classify.extract import _HIDING, _STATUS_IS_CODE
from finresilience.classify.sockets import AT_ANY_TIME, NOT_SENT
from finresilience.classify.sql import POOLS
from finresilience.outcome import RETRYABLE, Verdict

NOT_NOW = Verdict(RETRYABLE, counts_against_provider=False)
NOT_INSTALLED = {"sqlalchemy", "psycopg_pool"}  # no part of this library's tests; the names were compared with 2.0 and 3.2
RULED_ELSEWHERE = [*_HIDING, _STATUS_IS_CODE, "aiohttp.http_exceptions.HttpProcessingError"]
NAMES = sorted({*PHASES, *NOT_SENT, *AT_ANY_TIME, *POOLS, *RULED_ELSEWHERE})


def found(name: Any) -> Any:
    module, _, qualname = name.rpartition(".")
    return getattr(importlib.import_module(module), qualname)


@pytest.mark.parametrize("name", [name for name in NAMES if name.partition(".")[0] not in NOT_INSTALLED])
def test_every_foreign_name_is_the_name_of_an_error(name: Any) -> None:
    kind = found(name)
    assert issubclass(kind, BaseException)
    assert f"{kind.__module__}.{kind.__qualname__}" == name


def law_every_error_of_a_client_has_a_phase_or_a_status(library: str) -> None:
    told_by_status = {"HTTPStatusError", "HTTPError", "ClientResponseError", "ContentTypeError", "WSServerHandshakeError"}
    bases = {"ClientError", "RequestException"}  # raised by nobody
    after_the_answer = {"CookieConflict", "StreamError", "StreamConsumed", "StreamClosed", "ResponseNotRead", "RequestNotRead"}
    not_http = {"WSMessageTypeError", "ProtocolError"}  # h11's base
    for name, kind in vars(importlib.import_module(library)).items():
        if isinstance(kind, type) and issubclass(kind, Exception) and kind.__module__ == library and not issubclass(kind, Warning):
            known = phase_of(kind.__new__(kind)) is not None
            assert known or name in told_by_status | bases | after_the_answer | not_http, name


@pytest.mark.parametrize("library", [library for library in CLIENTS if library])
def test_every_error_of_a_client_has_a_phase_or_a_status(library: str) -> None:
    """A new release's new error must not slip through unseen."""
    law_every_error_of_a_client_has_a_phase_or_a_status(library)


@pytest.mark.parametrize("missing", ["urllib3.exceptions.ProxySchemeUnsupported", "httpx.RequestError", "requests.exceptions.RetryError"])
def test_the_law_catches_a_table_with_a_row_too_few(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(cast("dict[str, Phase]", PHASES), missing)
    with pytest.raises(AssertionError):
        law_every_error_of_a_client_has_a_phase_or_a_status(missing.rpartition(".")[0])


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("httpx.ReadTimeout", Phase.SENT),
        ("httpx.WriteError", Phase.SENT),
        ("httpx.RemoteProtocolError", Phase.SENT),
        ("httpx.ConnectTimeout", Phase.CONNECT),
        ("httpx2.SSEError", Phase.SENT),
        ("httpcore.WriteTimeout", Phase.SENT),
        ("httpcore2.RemoteProtocolError", Phase.SENT),
        ("aiohttp.client_exceptions.ClientConnectorCertificateError", Phase.TLS),
        ("aiohttp.client_exceptions.UnixClientConnectorError", Phase.CONNECT),
        ("aiohttp.client_exceptions.ClientConnectionResetError", Phase.SENT),
        ("aiohttp.client_exceptions.ServerTimeoutError", Phase.SENT),
        ("aiohttp.client_exceptions.SocketTimeoutError", Phase.SENT),
        ("aiohttp.client_exceptions.ClientOSError", Phase.SENT),
        ("aiohttp.client_exceptions.InvalidUrlClientError", Phase.MAKE),
        ("aiohttp.client_exceptions.InvalidUrlRedirectClientError", Phase.SENT),
        ("requests.exceptions.ConnectTimeout", Phase.INSIDE),
        ("requests.exceptions.SSLError", Phase.INSIDE),
        ("requests.exceptions.JSONDecodeError", Phase.SENT),
        ("urllib3.exceptions.ReadTimeoutError", Phase.SENT),
        ("urllib3.exceptions.FullPoolError", Phase.SENT),  # raised when a connection is given back, after the answer
        ("urllib3.exceptions.InvalidHeader", Phase.SENT),  # the answer's
        ("urllib3.exceptions.LocationParseError", Phase.MAKE),
        ("urllib3.exceptions.ProxySchemeUnsupported", Phase.MAKE),  # TLS inside TLS: said before the handshake
        ("urllib3.exceptions.ProxySchemeUnknown", Phase.MAKE),
        ("http.client.RemoteDisconnected", Phase.SENT),
    ],
)
def test_the_most_specific_class_gives_the_phase(name: Any, phase: Any) -> None:
    kind = found(name)
    assert phase_of(kind.__new__(kind)) is phase


def test_only_what_comes_before_the_first_byte_is_unsent() -> None:
    assert set(Phase) - UNSENT == {Phase.SENT, Phase.LOCAL, Phase.INSIDE}
