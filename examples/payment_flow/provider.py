"""A provider: a process of its own that speaks HTTP on loopback, and leaves when whoever started it does."""

from __future__ import annotations

import argparse
import json
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import ClassVar

from examples.payment_flow.books import Books, Reply
from examples.payment_flow.script import script

PATIENCE = 1.0  # silence lasts so long, then the connection is closed without an answer
NO_LINGER = struct.pack("ii", 1, 0)  # close() sends a reset


class Handler(BaseHTTPRequestHandler):
    """Speaks for the books."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    books: ClassVar[Books]
    lock: ClassVar[Lock] = Lock()

    def do_POST(self) -> None:
        """Charge."""
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers.get("Idempotency-Key")
        with self.lock:
            reply = self.books.take(order["reference"], key)
        time.sleep(reply.wait)
        if reply.status is None:
            self._say_nothing(reply, order["reference"], key)
        elif reply.status < 0:
            self._reset()
        else:
            self._answer(reply.status, {"status": reply.body, "reference": order["reference"]})

    def do_GET(self) -> None:
        """Show the books, or what became of one payment."""
        with self.lock:
            if self.path == "/books":
                status, body = 200, dict(self.books.page())
            else:
                found = self.books.find(self.path.removeprefix("/payments/"))
                status, body = (200, {"status": found}) if found else (404, {"status": "not_found"})
        self._answer(status, body)

    def log_message(self, *args: object) -> None:
        """Keep quiet."""

    def _say_nothing(self, reply: Reply, reference: str, key: str | None) -> None:
        self.close_connection = True
        if reply.book_after is not None:
            time.sleep(reply.book_after)
            with self.lock:
                self.books.book(reference, key)
        time.sleep(PATIENCE - (reply.book_after or 0.0))

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        socket.close(self.connection.detach())

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status == 503:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(content)


class Server(ThreadingHTTPServer):
    """Takes many callers; one that has hung up is nobody's error."""

    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet."""


def main() -> None:
    """Serve until standard input is closed, which it is too when the parent dies."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--payments", type=int, required=True)
    told = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle: it still wants the books
    Handler.books = Books(payment for payment in script(told.seed, told.payments) if payment.provider == told.name)
    server = Server(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    with suppress(BrokenPipeError):
        print(server.server_address[1], flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
