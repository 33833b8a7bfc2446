"""How does one request pass through a transport of httpx or httpx2? The two libraries have the same parts under the same names."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from finresilience.context import remaining
from finresilience.errors import ConfigurationError
from finresilience.integrations._exchange import LiveTimeouts
from finresilience.integrations._rules import warn_of_retries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from finresilience.integrations._exchange import Exchange
    from finresilience.integrations._rules import Rules

_EVERY: Final = frozenset({"connect", "read", "write", "pool"})
_FIRST: Final = frozenset({"connect", "pool"})
_LEAVING: Final = "send_request_headers.started"  # httpcore says so just before the first byte


class Library(NamedTuple):
    """What we need of httpx or httpx2. Foreign classes, so of any type."""

    request: Any
    response: Any
    headers: Any
    bytes: Any  # a body of bytes, which can be sent again
    transport: Any  # the sync transport that tells when a request leaves
    async_transport: Any
    kept: type[Kept]
    once: type[Once]


class Kept:
    """A response's body that was read already, perhaps with more to come. Can be read anew as long as nothing is to come."""

    def __init__(self, chunks: list[bytes], rest: Any = None, raw: Any = None) -> None:
        self._chunks = chunks
        self._rest = rest
        self._raw = raw  # the transport's own stream, where it is still open

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks
        if self._rest is not None:
            yield from self._rest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk
        if self._rest is not None:
            async for chunk in self._rest:
                yield chunk

    def close(self) -> None:
        """Close what is still open."""
        if self._raw is not None:
            self._raw.close()

    async def aclose(self) -> None:
        """Close what is still open."""
        if self._raw is not None:
            await self._raw.aclose()


class Once:
    """A request's body that can be sent only once; it tells when that happens."""

    def __init__(self, stream: Any, exchange: Exchange) -> None:
        self._stream = stream
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        self._exchange.used_up()
        yield from self._stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._exchange.used_up()
        async for chunk in self._stream:
            yield chunk


def check(rules: Rules, inner: Any, kind: type[object]) -> None:
    """Refuse to guard what is guarded already, and warn of a transport that retries by itself."""
    if isinstance(inner, kind):
        message = f"a {kind.__name__} inside another would retry its retries: give transport= a plain one"
        raise ConfigurationError(message)
    retries = getattr(getattr(inner, "_pool", None), "_retries", 0)
    if isinstance(retries, int) and retries > 0:
        warn_of_retries(rules.pipelines(), f"{type(inner).__name__}(retries={retries})", retries + 1)


def guarded(rules: Rules, library: Library, request: Any) -> Exchange:
    """Return the guard of this request."""
    url = request.url
    path = url.raw_path.partition(b"?")[0].decode("ascii")
    again = _can_be_sent_again(request.stream, library)
    return rules.call(request, method=request.method, host=url.host, port=url.port, path=path, headers=request.headers, stoppable=not again)


def send(library: Library, inner: Any, exchange: Exchange, request: Any) -> Any:
    """Return the response to one attempt; what is not left to its reader is read, so that its connection is free again."""
    timeouts, sent = _attempt(library, inner, exchange, request, phases=_EVERY, margin=False)
    limit = remaining()
    response = None
    try:
        response = inner.handle_request(sent)
        return exchange.keep(_taken(library, exchange, request, response), response)
    except Exception as error:
        if response is not None:
            close(response)
        told = exchange.within(error, limit)
        if told is error:
            raise
        raise told from error
    finally:
        timeouts.over = True


async def asend(library: Library, inner: Any, exchange: Exchange, request: Any) -> Any:
    """Return the response to one attempt; what is not left to its reader is read, so that its connection is free again."""
    timeouts, sent = _attempt(library, inner, exchange, request, phases=_FIRST, margin=True)
    response = None
    try:
        response = await inner.handle_async_request(sent)
        return exchange.keep(await _ataken(library, exchange, request, response), response)
    except BaseException:
        if response is not None:
            await aclose(response)
        raise
    finally:
        timeouts.over = True


def _attempt(
    library: Library, inner: Any, exchange: Exchange, request: Any, *, phases: frozenset[str], margin: bool
) -> tuple[LiveTimeouts, Any]:
    """Return the request as this attempt sends it: a copy, so that no attempt leaves a trace on the caller's own."""
    headers = library.headers(request.headers)
    headers.update(exchange.begins(headers))
    timeouts = LiveTimeouts(request.extensions.get("timeout") or {}, phases, margin=margin)
    extensions = {**request.extensions, "timeout": timeouts}
    if exchange.marks:
        exact = type(inner) in {library.transport, library.async_transport}
        if exact:
            extensions["trace"] = (_marker if margin is False else _amarker)(exchange, request.extensions.get("trace"))
        else:
            exchange.leaves()
    stream = request.stream if _can_be_sent_again(request.stream, library) else library.once(request.stream, exchange)
    sent = library.request(request.method, request.url, headers=headers, stream=stream, extensions=extensions)
    return timeouts, sent


def _marker(exchange: Exchange, own: Any) -> Any:
    def trace(name: str, info: dict[str, Any]) -> None:
        if name.endswith(_LEAVING):
            exchange.leaves()
        if own is not None:
            own(name, info)

    return trace


def _amarker(exchange: Exchange, own: Any) -> Any:
    async def trace(name: str, info: dict[str, Any]) -> None:
        if name.endswith(_LEAVING):
            exchange.leaves()
        if own is not None:
            await own(name, info)

    return trace


def _can_be_sent_again(stream: Any, library: Library) -> bool:
    if isinstance(stream, library.bytes | library.once):
        return isinstance(stream, library.bytes)
    fields = getattr(stream, "fields", None)  # of a multipart form, which goes back to the start of its files if they can
    return isinstance(fields, list) and all(_rewinds(getattr(field, "file", None)) for field in fields)


def _rewinds(file: Any) -> bool:
    if file is None or isinstance(file, str | bytes):
        return True
    with suppress(Exception):
        return bool(file.seekable())
    return False


# --- the answer --------------------------------------------------------------------------------------------------------


def _taken(library: Library, exchange: Exchange, request: Any, response: Any) -> Any:
    judged = exchange.judged(response)
    if not judged and not exchange.wants_body(response.headers.get("content-type"), response.headers.get("content-length")):
        return response
    try:
        return _whole(library, exchange, request, response)
    except Exception:
        if not judged:
            raise
        close(response)
        return _lost(library, exchange, request, response)


def _whole(library: Library, exchange: Exchange, request: Any, response: Any) -> Any:
    chunks: list[bytes] = []
    body = iter(response.stream)
    if not _read(body, chunks, exchange, response.headers.get("content-length")):
        return _seen(library, request, response, library.kept(chunks, body, response.stream))
    response.close()
    seen = _seen(library, request, response, library.kept(chunks))
    seen.read()
    return seen


async def _ataken(library: Library, exchange: Exchange, request: Any, response: Any) -> Any:
    from anyio import move_on_after

    judged = exchange.judged(response)
    if not judged and not exchange.wants_body(response.headers.get("content-type"), response.headers.get("content-length")):
        return response
    left = remaining() if judged else None  # a clear word is in hand: its body must not cost it
    seen = None
    try:
        with move_on_after(None if left is None else left / 2):
            seen = await _awhole(library, exchange, request, response)
    except Exception:
        if not judged:
            raise
    if seen is None:
        await aclose(response)
        seen = _lost(library, exchange, request, response)
    return seen


async def _awhole(library: Library, exchange: Exchange, request: Any, response: Any) -> Any:
    chunks: list[bytes] = []
    body = aiter(response.stream)
    if not await _aread(body, chunks, exchange.rules.read_up_to):
        return _seen(library, request, response, library.kept(chunks, body, response.stream))
    await response.aclose()
    seen = _seen(library, request, response, library.kept(chunks))
    await seen.aread()
    return seen


def _read(body: Iterator[bytes], chunks: list[bytes], exchange: Exchange, length: str | None) -> bool:
    """Read into `chunks` until they hold more than is read inside the guard; return whether that was all.

    Raises:
        ExpiredError: if the time is over, however steadily it trickles in.
    """
    size, limit = 0, remaining()
    for chunk in body:
        chunks.append(chunk)
        size += len(chunk)
        if size > exchange.rules.read_up_to:
            return False
        if limit is not None and remaining() == 0.0 and not (length is not None and length.isdigit() and size >= int(length)):
            raise exchange.expired(limit)
    return True


async def _aread(body: AsyncIterator[bytes], chunks: list[bytes], most: int) -> bool:
    """Read into `chunks` until they hold more than `most` bytes; return whether that was all."""
    size = 0
    async for chunk in body:
        chunks.append(chunk)
        size += len(chunk)
        if size > most:
            return False
    return True


def _seen(library: Library, request: Any, response: Any, stream: Kept) -> Any:
    told = {"headers": response.headers, "stream": stream, "extensions": response.extensions, "request": request}
    return library.response(response.status_code, **told)


def _lost(library: Library, exchange: Exchange, request: Any, response: Any) -> Any:
    """Return a clear word whose body broke off: the word is in hand, and is not thrown away."""
    exchange.body_lost = True
    return _seen(library, request, response, library.kept([]))


def handed_over(library: Library, response: Any) -> Any:
    """Return the response for the client, which reads and closes its body itself, and takes the time it took."""
    if not isinstance(response.stream, library.kept):
        return response
    return library.response(response.status_code, headers=response.headers, stream=response.stream, extensions=response.extensions)


def close(response: Any) -> None:
    """Close a response that nobody reads."""
    with suppress(Exception):
        response.close()


async def aclose(response: Any) -> None:
    """Close a response even while we are cancelled: its connection belongs to others too."""
    from anyio import CancelScope

    with CancelScope(shield=True), suppress(Exception):
        await response.aclose()
