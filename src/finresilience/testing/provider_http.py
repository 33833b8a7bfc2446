"""A fake provider as a real HTTP server on loopback: threads, real silence, real resets, and nothing left behind."""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any, Final, cast, final

from finresilience.clock import SystemClock
from finresilience.errors import ConfigurationError
from finresilience.testing.provider_wire import MAX_BODY, Request, Response, served
from finresilience.testing.provider_words import How

if TYPE_CHECKING:
    from types import TracebackType

    from finresilience.testing.provider import FakeProvider

_NO_LINGER: Final = struct.pack("ii", 1, 0)  # close() sends a reset
_PATIENCE: Final = 10.0  # real seconds that leaving waits for the server's own thread


@final
class Served:
    """`with Served(provider) as url:` serves it until the block is left; connections still open are closed then.

    Args:
        provider: whose face it is.
    """

    def __init__(self, provider: FakeProvider) -> None:
        self._provider = provider
        self._server: _Server | None = None
        self._thread: Thread | None = None

    def __enter__(self) -> str:
        if self._server is not None:
            message = "this provider is served by this block already: call serve() once for each `with`"
            raise ConfigurationError(message)
        _refuse_virtual_time(self._provider)
        self._server = _Server(self._provider)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.name = f"fake provider {self._provider.name}"
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.hang_up()
            self._thread.join(_PATIENCE)
        self._server = self._thread = None


def _refuse_virtual_time(provider: FakeProvider) -> None:
    virtual = sys.modules.get("finresilience.testing.virtual")
    if virtual is not None and isinstance(provider.clock, virtual.VirtualClock):
        raise ConfigurationError(
            "serve() needs real time or a ManualClock: virtual time knows nothing of sockets, and would reach a timeout while an answer\n"
            "  is on its way. Nothing was served; in virtual time use httpx.ASGITransport(provider.asgi())."
        )


@final
class _Server(ThreadingHTTPServer):
    """Takes many callers; one that has hung up is nobody's error."""

    daemon_threads = True
    block_on_close = False  # a handler may be in the middle of a long answer; its connection is closed, and it is a daemon
    request_queue_size = 256

    def __init__(self, provider: FakeProvider) -> None:
        self.provider: FakeProvider = provider
        self.closing: Event = Event()
        self._lock = Lock()
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about callers that left; what is wrong with the server itself is told."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def hang_up(self) -> None:
        """End every silence and every wait."""
        self.closing.set()
        with self._lock:
            left = list(self._open)
        for connection in left:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@final
class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer leaves in one piece
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit() and int(length) <= MAX_BODY):
            self.close_connection = True
            self._write(Response(413, {}, b""))
            return
        body = self.rfile.read(int(length))
        if len(body) == int(length):  # else the caller left before it had sent everything: nothing came
            self._serve(body)

    do_PUT = do_PATCH = do_DELETE = do_POST  # noqa: N815 - http.server's own words; `served` refuses them by name

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the server's own word
        """Keep quiet."""

    def _serve(self, body: bytes) -> None:
        server = self._owner
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._pass(server.provider.latency)
        answer = served(server.provider, Request(self.command, path, query, headers, body))
        if isinstance(answer, Response):
            self._pass(answer.wait)
            self._write(answer)
        elif answer is How.SILENCE:
            self._stay_silent()
        else:
            self._reset()

    @property
    def _owner(self) -> _Server:
        return cast("_Server", self.server)

    def _pass(self, seconds: float) -> None:
        clock = self._owner.provider.clock
        if seconds and isinstance(clock, SystemClock):
            self._owner.closing.wait(seconds)  # real seconds, unless the server is closed first
        elif seconds:
            clock.sleep_sync(seconds)

    def _write(self, answer: Response) -> None:
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def _stay_silent(self) -> None:
        """Say nothing until the caller hangs up, or the server is closed."""
        self.close_connection = True
        with suppress(OSError):
            while self.connection.recv(4096):
                pass

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        socket.close(self.connection.detach())
