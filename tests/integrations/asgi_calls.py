"""One request to an ASGI application, without a server: what went in, and what came out."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from finresilience.integrations.asgi import App, Message, Receive, Scope, Send

T = TypeVar("T")
JSON = "application/problem+json"
NAME = "urn:finresilience:problem:"


def without_addresses(value: object) -> str:
    """Name a case alike in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


class Answer(NamedTuple):
    """What an application sent."""

    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def status_code(self) -> int:
        """As clients call it, so that our own classifier reads it."""
        return self.status

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def type(self) -> str:
        return str(self.body["type"]).removeprefix(NAME)


def scope_of(headers: Iterable[tuple[str, str | bytes]] = (), **more: Any) -> Scope:
    raw = [(name.encode("latin-1"), value if isinstance(value, bytes) else value.encode("latin-1")) for name, value in headers]
    return {"type": "http", "method": "POST", "path": "/payments", "headers": raw, **more}


async def nothing_to_receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def asked(app: App, headers: Iterable[tuple[str, str | bytes]] = (), **more: Any) -> Answer:
    """Send one request and return the whole answer."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope_of(headers, **more), nothing_to_receive, send)
    start, *bodies = sent
    assert start["type"] == "http.response.start"
    told = {name.decode("latin-1"): value.decode("latin-1") for name, value in start["headers"]}
    return Answer(start["status"], told, b"".join(message.get("body", b"") for message in bodies))


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run to its end what never waits, without any event loop."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    pytest.fail("it waits")


async def fine(send: Send, *parts: bytes) -> None:
    """Answer 200, in parts."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for part in parts:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


class Spy:
    """An application that does nothing but remember what was true inside of it."""

    def __init__(self, *looks: Any) -> None:
        self.looks = looks
        self.saw: list[Any] = []
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        self.saw += [look() for look in self.looks]
        if scope["type"] == "http":
            await fine(send)
