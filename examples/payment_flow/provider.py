"""A provider: a process of its own that speaks HTTP on loopback, and leaves when whoever started it does.

`FakeProvider.serve()` would do for a test. Here the wire is the demo's own: a request tells when it was sent, and the journal, from which
the table is counted, must know whether the caller was still there when the answer was ready.
"""

from __future__ import annotations

import argparse
import json
import select
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar

from examples.payment_flow.books import CHARGE, HUNG_UP, INQUIRY, Books, end_of
from examples.payment_flow.haste import SPEED, HastyClock, journal_time
from examples.payment_flow.script import PATIENCE, script

NO_LINGER = struct.pack("ii", 1, 0)  # close() sends a reset


def hung_up(connection: socket.socket) -> bool:
    """Return whether the caller has closed the connection without waiting for the answer."""
    if not select.select([connection], [], [], 0)[0]:
        return False
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except OSError:
        return True


class Handler(BaseHTTPRequestHandler):
    """Speaks for the books."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    books: ClassVar[Books]

    def do_POST(self) -> None:
        """Charge."""
        came = journal_time()
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reference = order["reference"]
        if self.books.too_old(reference, came - order["sent_at"]):  # as on a machine that is far too busy
            self._note(reference, CHARGE, came, "too old")
            self.close_connection = True
            return
        reply = self.books.take(reference, self.headers.get("Idempotency-Key"))
        time.sleep(reply.wait / SPEED)
        receipt = reply.receipt
        self._note(reference, CHARGE, came, HUNG_UP if receipt is not None and hung_up(self.connection) else end_of(reply))
        if receipt is not None:
            self._answer(receipt.status, {"status": receipt.result, "reference": reference}, receipt.retry_after)
        elif reply.how == "reset":
            self._reset()
        else:
            self._say_nothing()

    def do_GET(self) -> None:
        """Show the books, or what became of one payment."""
        came = journal_time()
        if self.path == "/books":
            self._answer(200, self.books.page())
            return
        reference = self.path.removeprefix("/payments/")
        found = self.books.find(reference)
        self._note(reference, INQUIRY, came, found or "not found")
        self._answer(200 if found else 404, {"status": found or "not_found"})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the server's own word
        """Keep quiet."""

    def _note(self, reference: str, errand: str, came: float, end: str) -> None:
        self.books.note(reference, errand, came=came, left=journal_time(), end=end)

    def _say_nothing(self) -> None:
        self.close_connection = True
        time.sleep(PATIENCE / SPEED)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        socket.close(self.connection.detach())

    def _answer(self, status: int, body: object, retry_after: float | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if retry_after is not None:
            self.send_header("Retry-After", f"{retry_after:g}")
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
    Handler.books = Books(told.name, script(told.seed, told.payments), HastyClock())
    server = Server(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    with suppress(BrokenPipeError):
        print(server.server_address[1], flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
