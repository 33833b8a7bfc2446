"""A provider on 127.0.0.1 that does what a script says, request by request, on kept connections; and notes what it was asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.integration.faulty_server import Exchange, FaultyServer

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Asked:
    """One request that arrived whole."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def key(self) -> str | None:
        return self.headers.get("idempotency-key")


class ScriptedProvider(FaultyServer):
    """Serve any number of requests; the last act of the script is repeated for ever."""

    def __init__(self, *script: Callable[[Exchange], bool | None]) -> None:
        super().__init__(self._whole_connection)
        self._script = script
        self.asked: list[Asked] = []
        self._served = 0

    def _whole_connection(self, exchange: Exchange) -> None:
        rest = b""
        while True:
            asked, rest = _read(exchange, rest)
            with self._news:
                self.asked.append(asked)
                act = self._script[min(self._served, len(self._script) - 1)]
                self._served += 1
            self.note(f"{asked.method} {asked.path}".encode())
            if act(exchange) is not True:
                return

    @property
    def keys(self) -> list[str | None]:
        return [asked.key for asked in self.asked]


def _read(exchange: Exchange, data: bytes) -> tuple[Asked, bytes]:
    while b"\r\n\r\n" not in data:
        data = exchange._more(data)
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        while not body.endswith(b"0\r\n\r\n"):
            body = exchange._more(body)
        return Asked(method, path, headers, _joined(body)), b""
    length = int(headers.get("content-length", 0))
    while len(body) < length:
        body = exchange._more(body)
    return Asked(method, path, headers, body[:length]), body[length:]


def _joined(chunks: bytes) -> bytes:
    body = b""
    while chunks:
        size, _, rest = chunks.partition(b"\r\n")
        body, chunks = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


# --- what it may do; True keeps the connection -------------------------------------------------------------------------


def answering(status: int, body: bytes = b"{}", *headers: str) -> Callable[[Exchange], bool]:
    def act(exchange: Exchange) -> bool:
        exchange.answer(status, body, *headers, close=False)
        return True

    return act


def paid(exchange: Exchange) -> bool:
    return answering(200, b'{"status": "paid"}')(exchange)


def not_now(exchange: Exchange) -> bool:
    return answering(503, b"<html>", "Retry-After: 0")(exchange)


def resetting(exchange: Exchange) -> None:
    exchange.reset()


def hanging_up(exchange: Exchange) -> None:
    pass


def silent(exchange: Exchange) -> None:
    exchange.silence()


def half(status: int, *headers: str) -> Callable[[Exchange], None]:
    """Promise more of an answer than is sent."""

    def act(exchange: Exchange) -> None:
        lines = [f"HTTP/1.1 {status} Because", "Content-Length: 100", *headers, "", ""]
        exchange.socket.sendall("\r\n".join(lines).encode() + b'{"status": ')

    return act


def stalling(status: int) -> Callable[[Exchange], None]:
    """Send the head of an answer, and then nothing."""

    def act(exchange: Exchange) -> None:
        exchange.socket.sendall(f"HTTP/1.1 {status} Because\r\nContent-Length: 100\r\n\r\n".encode())
        exchange.silence()

    return act
