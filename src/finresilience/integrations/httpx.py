"""Guard every request of an httpx client by a pipeline: `httpx.Client(transport=ResilientTransport(acme))`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from finresilience.integrations._exchange import KEY_HEADER
from finresilience.integrations._httpx_both import Kept, Library, Once, aclose, asend, check, close, guarded, handed_over, send
from finresilience.integrations._rules import READ_UP_TO, Rules, needs

try:
    import httpx
except ModuleNotFoundError as _missing:
    raise needs("httpx", _missing) from _missing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from finresilience.integrations._rules import EffectOf, Hosts
    from finresilience.policies.pipeline import Pipeline

__all__ = ["AsyncResilientTransport", "ResilientTransport"]


@final
class _Kept(Kept, httpx.SyncByteStream, httpx.AsyncByteStream):
    """A response's body that was read already."""


@final
class _Once(Once, httpx.SyncByteStream, httpx.AsyncByteStream):
    """A request's body that can be sent only once."""


_LIBRARY: Final = Library(
    request=httpx.Request,
    response=httpx.Response,
    headers=httpx.Headers,
    bytes=httpx.ByteStream,
    transport=httpx.HTTPTransport,
    async_transport=httpx.AsyncHTTPTransport,
    kept=_Kept,
    once=_Once,
)


@final
class ResilientTransport(httpx.BaseTransport):
    """Guard each request by a pipeline, by its method and its idempotency key; the response is the client's own.

    The functions of a pipeline (`key=`, `reference=`, `per`) are called with the `httpx.Request`.

    Args:
        guard: the pipeline of each host that `by_host` does not name.
        transport: makes the requests; by default a plain `httpx.HTTPTransport()`. TLS, proxies and limits are its own.
        by_host: pipelines by host or "host:port", or a function of the host. Without `guard`, other hosts are refused.
        effect: what happens if this request is carried out twice, where you know better than its method; None for "do not know".
        by_nature: of PUT and DELETE, those that your provider lets repeat without harm.
        key_header: the header that the provider takes the idempotency key in; None if it takes none.
        send_headers: whether to tell the provider the time left and the number of earlier attempts.
        read_up_to: bytes of an answer that are read inside the guard, unless the request only reads.

    Raises:
        ConfigurationError: if an argument cannot work.
    """

    def __init__(
        self,
        guard: Pipeline | None = None,
        /,
        *,
        transport: httpx.BaseTransport | None = None,
        by_host: Hosts | None = None,
        effect: EffectOf | None = None,
        by_nature: Iterable[str] = (),
        key_header: str | None = KEY_HEADER,
        send_headers: bool = True,
        read_up_to: int = READ_UP_TO,
    ) -> None:
        self._rules = Rules(
            type(self).__name__,
            guard,
            kind=httpx.Response,
            by_host=by_host,
            effect=effect,
            by_nature=by_nature,
            key_header=key_header,
            send_headers=send_headers,
            read_up_to=read_up_to,
        )
        self._inner: httpx.BaseTransport = httpx.HTTPTransport() if transport is None else transport
        check(self._rules, self._inner, ResilientTransport)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response, or raise as the laws of outcomes say."""
        exchange = guarded(self._rules, _LIBRARY, request)

        def attempt(request: httpx.Request) -> Any:
            response = send(_LIBRARY, self._inner, exchange, request)
            if exchange.ended:  # a thread that was left behind: nobody reads it any more
                close(response)
            return response

        try:
            answer: httpx.Response = handed_over(_LIBRARY, exchange.run(attempt, request))
            return answer
        finally:
            for response in exchange.opened:
                close(response)

    def close(self) -> None:
        """Close the transport inside."""
        self._inner.close()


@final
class AsyncResilientTransport(httpx.AsyncBaseTransport):
    """Guard each request by a pipeline, as `ResilientTransport` does, without blocking: for `httpx.AsyncClient`.

    Args:
        guard: the pipeline of each host that `by_host` does not name.
        transport: makes the requests; by default a plain `httpx.AsyncHTTPTransport()`. TLS, proxies and limits are its own.
        by_host: pipelines by host or "host:port", or a function of the host. Without `guard`, other hosts are refused.
        effect: what happens if this request is carried out twice, where you know better than its method; None for "do not know".
        by_nature: of PUT and DELETE, those that your provider lets repeat without harm.
        key_header: the header that the provider takes the idempotency key in; None if it takes none.
        send_headers: whether to tell the provider the time left and the number of earlier attempts.
        read_up_to: bytes of an answer that are read inside the guard, unless the request only reads.

    Raises:
        ConfigurationError: if an argument cannot work.
    """

    def __init__(
        self,
        guard: Pipeline | None = None,
        /,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        by_host: Hosts | None = None,
        effect: EffectOf | None = None,
        by_nature: Iterable[str] = (),
        key_header: str | None = KEY_HEADER,
        send_headers: bool = True,
        read_up_to: int = READ_UP_TO,
    ) -> None:
        self._rules = Rules(
            type(self).__name__,
            guard,
            kind=httpx.Response,
            by_host=by_host,
            effect=effect,
            by_nature=by_nature,
            key_header=key_header,
            send_headers=send_headers,
            read_up_to=read_up_to,
        )
        self._inner: httpx.AsyncBaseTransport = httpx.AsyncHTTPTransport() if transport is None else transport
        check(self._rules, self._inner, AsyncResilientTransport)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response, or raise as the laws of outcomes say."""
        exchange = guarded(self._rules, _LIBRARY, request)

        async def attempt(request: httpx.Request) -> Any:
            return await asend(_LIBRARY, self._inner, exchange, request)

        try:
            answer: httpx.Response = handed_over(_LIBRARY, await exchange.arun(attempt, request))
            return answer
        finally:
            for response in exchange.opened:
                await aclose(response)

    async def aclose(self) -> None:
        """Close the transport inside."""
        await self._inner.aclose()
