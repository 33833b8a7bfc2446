"""When does a client library raise what? Its exceptions by the phase of the exchange, as data; nothing is imported.

The phase is what counts: before the first byte of a request is sent, nothing can have been carried out; from then on
it may have been. Names are "module.Name", as `__module__` and `__qualname__` give them; a test compares each with the
installed libraries. Names that only some versions have cost nothing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, final

from finresilience.classify.extract import class_names

if TYPE_CHECKING:
    from collections.abc import Mapping


@final
class Phase(StrEnum):
    """How far a call had come."""

    MAKE = "make"  # the request could not even be made: our own mistake, nothing was sent
    POOL = "pool"  # waiting for a free connection of our own pool: nothing was sent, and the provider was not asked
    NAME = "name"  # looking the host up
    CONNECT = "connect"
    TLS = "tls"  # shaking hands: the request follows later
    PROXY = "proxy"  # the proxy would not make a tunnel
    SENT = "sent"  # writing, reading, or making sense of what came: from here on it may have been carried out
    LOCAL = "local"  # our own mistake, perhaps half-way through a request
    INSIDE = "inside"  # says nothing: what happened is in the error inside


UNSENT: Final = frozenset({Phase.MAKE, Phase.POOL, Phase.NAME, Phase.CONNECT, Phase.TLS, Phase.PROXY})

_HTTPX: Final[Mapping[Phase, tuple[str, ...]]] = {  # httpx and httpx2 raise the same names
    Phase.MAKE: ("UnsupportedProtocol", "InvalidURL"),
    Phase.POOL: ("PoolTimeout",),
    Phase.CONNECT: ("ConnectError", "ConnectTimeout"),  # DNS and TLS too
    Phase.PROXY: ("ProxyError",),  # raised for a refused CONNECT and in the SOCKS handshake only
    Phase.SENT: ("RequestError",),  # all else: WriteError, ReadError, ReadTimeout, RemoteProtocolError, DecodingError...
    Phase.LOCAL: ("LocalProtocolError",),
}
_HTTPCORE: Final[Mapping[Phase, tuple[str, ...]]] = {  # httpcore and httpcore2: they have no common base
    Phase.MAKE: ("UnsupportedProtocol",),
    Phase.POOL: ("PoolTimeout", "ConnectionNotAvailable"),
    Phase.CONNECT: ("ConnectError", "ConnectTimeout"),
    Phase.PROXY: ("ProxyError",),
    Phase.SENT: ("TimeoutException", "NetworkError", "ProtocolError"),
    Phase.LOCAL: ("LocalProtocolError",),
}
_AIOHTTP: Final[Mapping[Phase, tuple[str, ...]]] = {  # ClientResponseError is no phase: it has a status, see http.py
    Phase.MAKE: ("InvalidURL", "NonHttpUrlClientError"),
    Phase.NAME: ("ClientConnectorDNSError",),
    Phase.CONNECT: ("ClientConnectorError", "ConnectionTimeoutError"),  # the latter for the pool wait as well
    Phase.TLS: ("ClientSSLError", "ServerFingerprintMismatch"),
    Phase.PROXY: ("ClientProxyConnectionError", "ClientHttpProxyError"),
    Phase.SENT: (
        "ClientConnectionError",  # ServerDisconnectedError, ClientOSError, SocketTimeoutError, ClientConnectionResetError...
        "ClientPayloadError",
        "UploadAbortedError",
        "RedirectClientError",  # the request before the redirect was answered
        "InvalidUrlRedirectClientError",
        "NonHttpUrlRedirectClientError",
        "TooManyRedirects",
    ),
}
_REQUESTS: Final[Mapping[Phase, tuple[str, ...]]] = {
    Phase.MAKE: (
        "InvalidJSONError",
        "InvalidProxyURL",
        "InvalidSchema",
        "InvalidURL",
        "MissingSchema",
        "URLRequired",
    ),
    # ConnectTimeout, ProxyError and SSLError are ConnectionErrors. A ProxyError may hide a connection lost after sending.
    Phase.INSIDE: ("ConnectionError",),
    Phase.SENT: (
        "ChunkedEncodingError",
        "ContentDecodingError",
        "JSONDecodeError",
        "ReadTimeout",
        "RetryError",
        "StreamConsumedError",
        "Timeout",
        "TooManyRedirects",
        "UnrewindableBodyError",
    ),
    Phase.LOCAL: ("InvalidHeader",),  # ours before it was sent, or an answer's that cannot be read: the name is the same
}
_URLLIB3: Final[Mapping[Phase, tuple[str, ...]]] = {
    Phase.MAKE: ("HostChangedError", "LocationValueError", "ProxySchemeUnsupported"),
    Phase.POOL: ("ClosedPoolError", "EmptyPoolError"),
    Phase.NAME: ("NameResolutionError",),
    Phase.CONNECT: ("ConnectTimeoutError", "NewConnectionError"),
    # "Unable to connect to proxy" is also said when a forward proxy hangs up on a request that was sent.
    Phase.INSIDE: ("MaxRetryError", "ProxyError"),
    Phase.SENT: ("HTTPError",),  # all else; an SSLError or a ReadTimeoutError may still prove to be of the handshake
}
_STDLIB: Final[Mapping[Phase, tuple[str, ...]]] = {
    Phase.MAKE: ("http.client.InvalidURL",),
    Phase.INSIDE: ("urllib.error.URLError",),
    Phase.SENT: ("http.client.HTTPException",),
}
_H11: Final[Mapping[Phase, tuple[str, ...]]] = {Phase.LOCAL: ("LocalProtocolError",), Phase.SENT: ("RemoteProtocolError",)}

CLIENTS: Final[Mapping[str, Mapping[Phase, tuple[str, ...]]]] = {
    "httpx": _HTTPX,
    "httpx2": _HTTPX,
    "httpcore": _HTTPCORE,
    "httpcore2": _HTTPCORE,
    "aiohttp.client_exceptions": _AIOHTTP,
    "requests.exceptions": _REQUESTS,
    "urllib3.exceptions": _URLLIB3,
    "h11._util": _H11,
    "": _STDLIB,
}

PHASES: Final[Mapping[str, Phase]] = {
    f"{module}.{name}" if module else name: phase for module, phases in CLIENTS.items() for phase, names in phases.items() for name in names
}


def phase_of(error: BaseException) -> Phase | None:
    """Return the phase that the most specific known class of `error` stands for, or None for a class nobody listed."""
    for name in class_names(error):
        phase = PHASES.get(name)
        if phase is not None:
            return phase
    return None
