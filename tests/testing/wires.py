"""Clients of a fake provider over ASGI and over sockets, who see how a request ended without waiting for anything."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from finresilience.testing.clock import NEW_YEAR
from finresilience.testing.provider import ProviderError
from finresilience.testing.provider_words import How, Order

if TYPE_CHECKING:
    from datetime import datetime

    from finresilience.testing.provider import FakeProvider


class Still:
    """A clock that stands where it is put, whoever sleeps: so that four faces can be asked at the same times."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def utc(self) -> datetime:
        return NEW_YEAR

    async def sleep(self, seconds: float, /) -> None: ...

    def sleep_sync(self, seconds: float, /) -> None: ...


@dataclass(frozen=True)
class Answer:
    """How a request ended: silence, a reset, a page, or an answer."""

    how: How
    status: int | None = None
    word: str = ""
    code: str = ""
    replayed: bool = False
    retry_after: float | None = None


SILENCE, RESET, PAGE = Answer(How.SILENCE), Answer(How.RESET), Answer(How.PAGE, 502)


def answer_of(status: int, headers: dict[str, str], body: bytes) -> Answer:
    """Read an HTTP answer; names of headers in lower case."""
    if headers["content-type"] == "text/html":
        return PAGE
    told, wait = json.loads(body), headers.get("retry-after")
    replayed = headers.get("idempotent-replayed") == "true"
    return Answer(How.ANSWER, status, told["status"], told.get("code", ""), replayed, None if wait is None else float(wait))


def answer_in_process(result: Any) -> Answer:
    """Read a receipt, or the error of the in-process client."""
    if isinstance(result, ProviderError) and result.receipt is None:
        return {"ProviderTimeoutError": SILENCE, "ProviderResetError": RESET}.get(type(result).__name__, PAGE)
    receipt: Any = result.receipt if isinstance(result, ProviderError) else result
    return Answer(How.ANSWER, receipt.status, receipt.result, receipt.code, receipt.replayed, receipt.retry_after)


def request_of(order: Order) -> tuple[str, dict[str, str], bytes]:
    """Return the path, the headers and the body of an order."""
    told: dict[str, Any] = {"reference": order.reference, "tag": order.tag}
    if order.amount is not None:
        told |= {"amount": order.amount.minor_units, "currency": order.amount.currency}
    headers = {"content-type": "application/json"} | ({} if order.key is None else {"idempotency-key": order.key})
    return f"/{order.operation}", headers, json.dumps(told).encode()


async def over_asgi(provider: FakeProvider, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
    """Ask the app as a server would whose client leaves as soon as nothing comes: it hears `http.disconnect` next."""
    app, sent = provider.asgi(), list[Any]()
    parts = urlsplit(target)
    incoming: list[dict[str, Any]] = [
        {"type": "http.request", "body": body[:5], "more_body": True},
        {"type": "http.request", "body": body[5:]},
    ]

    async def receive() -> dict[str, Any]:
        return incoming.pop(0) if incoming else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": parts.path, "raw_path": parts.path.encode(), "headers": raw}
    try:
        await app({**scope, "query_string": parts.query.encode()}, receive, send)
    except ConnectionResetError:
        return RESET
    if not sent:
        return SILENCE
    start, content = sent
    return answer_of(start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, content["body"])


def over_sockets(url: str, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
    """Ask a real server, and hang up our sending side at once: where it is silent, it then closes, and nobody has waited."""
    lines = [
        f"{method} {target} HTTP/1.1",
        "host: x",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0)) as connection:
        connection.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        try:
            connection.shutdown(socket.SHUT_WR)
            told = b"".join(iter(lambda: connection.recv(65_536), b""))
        except (ConnectionResetError, OSError):
            return RESET
    return read_answer(told)


def read_answer(told: bytes) -> Answer:
    if not told:
        return SILENCE
    head, _, body = told.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
    return answer_of(int(first.split()[1]), headers, body)
