"""Guard every request of an aiohttp session by a pipeline: `ClientSession(middlewares=(resilient_middleware(acme),))`."""

from __future__ import annotations

from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING

from finresilience.context import remaining
from finresilience.integrations._exchange import KEY_HEADER, not_sent
from finresilience.integrations._rules import READ_UP_TO, Rules, needs

try:
    import aiohttp
except ModuleNotFoundError as _missing:
    raise needs("aiohttp", _missing) from _missing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse

    from finresilience.integrations._exchange import Exchange
    from finresilience.integrations._rules import EffectOf, Hosts
    from finresilience.policies.pipeline import Pipeline

__all__ = ["resilient_middleware"]


def resilient_middleware(
    guard: Pipeline | None = None,
    /,
    *,
    by_host: Hosts | None = None,
    effect: EffectOf | None = None,
    by_nature: Iterable[str] = (),
    key_header: str | None = KEY_HEADER,
    send_headers: bool = True,
    read_up_to: int = READ_UP_TO,
) -> ClientMiddlewareType:
    """Return a middleware that guards each request by a pipeline, by its method and its idempotency key.

    The functions of a pipeline (`key=`, `reference=`, `per`) are called with the `aiohttp.ClientRequest`. The session's own repetition of
    requests that a lost connection took along is switched off, at the session's first request: it would go round the guard.

    Args:
        guard: the pipeline of each host that `by_host` does not name.
        by_host: pipelines by host or "host:port", or a function of the host. Without `guard`, other hosts are refused.
        effect: what happens if this request is carried out twice, where you know better than its method; None for "do not know".
        by_nature: of PUT and DELETE, those that your provider lets repeat without harm.
        key_header: the header that the provider takes the idempotency key in; None if it takes none.
        send_headers: whether to tell the provider the time left and the number of earlier attempts.
        read_up_to: an answer that says it is longer is not read inside the guard, nor is a stream of events.

    Raises:
        ConfigurationError: if an argument cannot work.
    """
    rules = Rules(
        "resilient_middleware",
        guard,
        kind=aiohttp.ClientResponse,
        by_host=by_host,
        effect=effect,
        by_nature=by_nature,
        key_header=key_header,
        send_headers=send_headers,
        read_up_to=read_up_to,
    )

    async def middleware(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        request.session._retry_connection = False
        exchange = rules.call(
            request,
            method=request.method,
            host=request.url.host or "",
            port=request.url.port,
            path=request.url.raw_path,
            headers=request.headers,
            stoppable=not _is_bytes(request.body),
        )

        async def attempt(request: ClientRequest) -> ClientResponse:
            return await _attempt(exchange, request, handler)

        try:
            answer: ClientResponse = await exchange.arun(attempt, request)
            return answer
        finally:
            for response in exchange.opened:
                response.close()

    return middleware


async def _attempt(exchange: Exchange, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Return the response to one attempt; what is not left to its reader is read, so that its connection is free again."""
    sent = copy(request)  # so that no attempt leaves a trace on the caller's own
    sent.headers = request.headers.copy()
    sent.headers.update(exchange.begins(sent.headers))
    exchange.leaves()
    unsent = False
    try:
        response = await handler(sent)
        return await _taken(exchange, response)
    except Exception as error:
        unsent = not_sent(error)
        if not _is_bytes(request.body):
            with suppress(Exception):
                await sent.close()  # whoever writes the body settles first, and leaves it as it was, if it can
        raise
    finally:
        if not unsent and not _rewinds(request.body):
            exchange.used_up()


def _is_bytes(body: object) -> bool:
    return isinstance(body, bytes | aiohttp.payload.BytesPayload)


def _rewinds(body: object) -> bool:
    """Return whether a body can be sent again: bytes, and files that are back at their start, where this aiohttp can tell."""
    if _is_bytes(body):
        return True
    return isinstance(body, aiohttp.payload.IOBasePayload | aiohttp.MultipartWriter) and getattr(body, "consumed", True) is False


async def _taken(exchange: Exchange, response: ClientResponse) -> ClientResponse:
    judged = exchange.judged(response)
    length = response.headers.get("content-length")
    wanted = exchange.wants_body(response.headers.get("content-type"), length) if not judged else length is None or exchange.short(length)
    if not wanted:
        exchange.opened.append(response)
        return response
    left = remaining() if judged else None  # a clear word is in hand: its body must not cost it
    import asyncio

    try:
        async with asyncio.timeout(None if left is None else left / 2):
            await response.read()
    except BaseException as error:
        response.close()
        if not judged or not isinstance(error, Exception):
            raise
        exchange.body_lost = True
        response._body, response._released = b"", False  # read() gives what is there, unless the response was released
    return response
