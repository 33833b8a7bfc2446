"""A provider: a process of its own that speaks HTTP on loopback, and leaves when whoever started it does."""

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
from threading import Lock, Thread
from typing import ClassVar

from examples.payment_flow.books import CHARGE, HUNG_UP, INQUIRY, Books, Reply
from examples.payment_flow.haste import SPEED, journal_time
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
    lock: ClassVar[Lock] = Lock()

    def do_POST(self) -> None:
        """Charge."""
        came = journal_time()
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reference, key = order["reference"], self.headers.get("Idempotency-Key")
        if came - order["sent_at"] > PATIENCE:  # as on a machine that is far too busy
            self._note(reference, CHARGE, came, "too old")
            self.close_connection = True
            return
        with self.lock:
            reply = self.books.take(reference, key)
        time.sleep(reply.wait / SPEED)
        spoken = reply.status is not None and reply.status > 0
        self._note(reference, CHARGE, came, HUNG_UP if spoken and hung_up(self.connection) else reply.end)
        if reply.status is None:
            self._say_nothing(reply, reference, key, sent_at=order["sent_at"])
        elif reply.status < 0:
            self._reset()
        else:
            self._answer(reply.status, {"status": reply.body, "reference": reference})

    def do_GET(self) -> None:
        """Show the books, or what became of one payment."""
        came = journal_time()
        with self.lock:
            if self.path == "/books":
                status, body = 200, dict(self.books.page())
            else:
                reference = self.path.removeprefix("/payments/")
                found = self.books.find(reference)
                self.books.note(reference, INQUIRY, came=came, left=journal_time(), end=found or "not found")
                status, body = (200, {"status": found}) if found else (404, {"status": "not_found"})
        self._answer(status, body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the server's own word
        """Keep quiet."""

    def _note(self, reference: str, errand: str, came: float, end: str) -> None:
        with self.lock:
            self.books.note(reference, errand, came=came, left=journal_time(), end=end)

    def _say_nothing(self, reply: Reply, reference: str, key: str | None, *, sent_at: float) -> None:
        self.close_connection = True
        if reply.book_after is not None:
            time.sleep(reply.book_after / SPEED)
            with self.lock:
                if journal_time() - sent_at <= PATIENCE:
                    self.books.book(reference, key)
        time.sleep((PATIENCE - (reply.book_after or 0.0)) / SPEED)

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
            self.send_header("Retry-After", "2")
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
    Handler.books = Books(told.name, script(told.seed, told.payments))
    server = Server(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    with suppress(BrokenPipeError):
        print(server.server_address[1], flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
