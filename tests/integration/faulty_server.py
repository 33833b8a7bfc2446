"""A server on 127.0.0.1 that fails in one chosen way, and keeps a book of the requests that reached it whole."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CERTIFICATE = Path(__file__).with_name("loopback.pem")  # self-signed: whoever does not trust it will not shake hands
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of zero seconds: closing sends RST instead of FIN


class FaultyServer:
    """Accept connections and do to each what `fault` says, in a thread of its own."""

    def __init__(self, fault: Callable[[Exchange], None], *, tls: bool = False) -> None:
        self._fault = fault
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self._news = threading.Condition()
        self.stopped = threading.Event()
        self.book: list[bytes] = []  # the first line of each request that arrived with its whole body

    def url(self, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}/charges"

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.stop_listening()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def noted(self, count: int) -> bool:
        """Return whether so many requests are in the book, once the server has read what is on its way."""
        with self._news:
            return self._news.wait_for(lambda: len(self.book) >= count, timeout=10)

    def note(self, line: bytes) -> None:
        with self._news:
            self.book.append(line)
            self._news.notify_all()

    def stop_listening(self) -> None:
        """Refuse whoever comes from now on."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _run(self, function: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=function, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(10)
            self._open.append(connection)
            self._run(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        exchange = Exchange(self, connection)
        with contextlib.suppress(OSError, EOFError):
            if self._tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(CERTIFICATE)
                exchange.socket = context.wrap_socket(connection, server_side=True)
            self._fault(exchange)
        exchange.socket.close()


class Exchange:
    """One connection, and what a fault may do with it."""

    def __init__(self, server: FaultyServer, connection: socket.socket) -> None:
        self.server = server
        self.socket = connection

    def request(self) -> None:
        """Read one request to its end, and note it in the book."""
        data = self._more(b"")
        while b"\r\n\r\n" not in data:
            data = self._more(data)
        head, _, body = data.partition(b"\r\n\r\n")
        lengths = [line.split(b":")[1] for line in head.splitlines() if line.lower().startswith(b"content-length:")]
        while len(body) < int(lengths[0] if lengths else 0):
            body = self._more(body)
        self.server.note(head.splitlines()[0])

    def hello(self) -> None:
        """Read the first bytes, whatever they are: of TLS, the greeting."""
        self._more(b"")

    def answer(self, status: int, body: bytes = b"", *headers: str, close: bool = True) -> None:
        lines = [f"HTTP/1.1 {status} Because", f"Content-Length: {len(body)}", *headers, *(["Connection: close"] if close else [])]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        if isinstance(self.socket, ssl.SSLSocket):  # past TLS, which would say goodbye first
            socket.close(self.socket.detach())
        else:
            self.socket.close()

    def silence(self) -> None:
        self.server.stopped.wait(10)

    def _more(self, data: bytes) -> bytes:
        more = self.socket.recv(65536)
        if not more:
            raise EOFError
        return data + more


@contextlib.contextmanager
def refusing() -> Iterator[int]:
    """Yield a port that is taken but not listened on, so that nobody else can begin to answer there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextlib.contextmanager
def never_accepting() -> Iterator[int]:
    """Yield a port whose queue is full: the kernel drops whoever else wants to connect, and they wait."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
