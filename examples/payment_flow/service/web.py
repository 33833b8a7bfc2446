"""How does a service speak HTTP? By the standard library: the demo needs no server of somebody else's."""

from __future__ import annotations

import json
import logging
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from email.message import Message

    from examples.payment_flow.service.home import Home


LOG = logging.getLogger("payment_flow")


@dataclass(frozen=True, slots=True)
class Call:
    """A request, read. Names of headers may be asked for in any case."""

    path: str
    headers: Message
    body: Any


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said to it."""

    status: int
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    answer: Callable[[Call], Answer]

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        if len(content := self.rfile.read(size)) < size:
            self.close_connection = True  # whoever sent it died meanwhile
            return
        try:
            said = type(self).answer(Call(self.path, self.headers, json.loads(content)))
        except Exception:
            LOG.exception("no answer to POST %s", self.path)
            said = Answer(500, {"status": "unknown"})
        told = b"" if said.body is None else json.dumps(said.body).encode()
        self.send_response(said.status)
        for name, value in {"Content-Type": "application/json", **said.headers}.items():
            self.send_header(name, value)
        if said.status != 204:  # which has no body, and says nothing of its length
            self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the server's own word
        """Keep quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet: a caller that was killed is no error of ours."""


def serve(home: Home, service: str, answer: Callable[[Call], Answer]) -> None:
    """Serve until standard input is closed, which it is too when the parent dies."""

    class Handler(_Handler):
        pass

    Handler.answer = staticmethod(answer)
    server = _Server(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    home.announce(service, f"http://127.0.0.1:{server.server_address[1]}")
    wait_for_the_end()
    server.shutdown()


def wait_for_the_end() -> None:
    """Return once standard input is closed. Ctrl-C is a terminal's word, and the parent's to handle where there is one."""
    if not sys.stdin.isatty():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(KeyboardInterrupt):
        sys.stdin.read()
