"""A fake provider as an ASGI app: the same requests, the same faults, no socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

from finresilience.testing.provider_wire import MAX_BODY, Request, Response, served
from finresilience.testing.provider_words import How, ProviderResetError
from finresilience.testing.stories import turn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from finresilience.testing.provider import FakeProvider

    Message: TypeAlias = MutableMapping[str, Any]
    Receive: TypeAlias = Callable[[], Awaitable[Message]]
    Send: TypeAlias = Callable[[Message], Awaitable[None]]

_ANSWERED: Final = {"startup": "lifespan.startup.complete", "shutdown": "lifespan.shutdown.complete"}


@final
class App:
    """One provider behind ASGI. Silence waits until the client is gone; a reset is a `ConnectionResetError` out of the app.

    What a server makes of that error is its own: uvicorn closes the connection, `httpx.ASGITransport` raises it in the client.

    Args:
        provider: whose face it is.
    """

    def __init__(self, provider: FakeProvider) -> None:
        self._provider = provider

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            message = f"a fake provider speaks HTTP, not {scope['type']}"
            raise RuntimeError(message)
        body = await _read(receive)
        if body is None:
            return  # the client left before it had sent everything: nothing came
        await self._pass(self._provider.latency)
        answer = served(self._provider, _request(scope, body))
        if answer is How.SILENCE:
            await _until_gone(receive)
        elif isinstance(answer, Response):
            await self._pass(answer.wait)
            await _write(answer, send)
        else:
            raise ProviderResetError(f"{self._provider.name}: the connection was reset after the request was sent")

    async def _pass(self, seconds: float) -> None:
        if seconds:
            await self._provider.clock.sleep(seconds)
        else:
            await turn()


def _request(scope: Message, body: bytes) -> Request:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    raw: bytes = scope.get("raw_path") or scope["path"].encode()  # undecoded: a reference may hold a slash
    return Request(
        scope["method"], raw.split(b"?")[0].decode("ascii", "replace"), scope.get("query_string", b"").decode("latin-1"), headers, body
    )


async def _read(receive: Receive) -> bytes | None:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part: bytes = message.get("body", b"")
        body += part
        if not message.get("more_body", False) or len(body) > MAX_BODY:
            return body


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        await turn()


async def _write(answer: Response, send: Send) -> None:
    headers = {**answer.headers, "Content-Length": str(len(answer.body))}
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    await send({"type": "http.response.body", "body": answer.body})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        event = (await receive())["type"].removeprefix("lifespan.")
        await send({"type": _ANSWERED[event]})
        if event == "shutdown":
            return
