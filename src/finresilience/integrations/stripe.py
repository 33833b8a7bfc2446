"""Guard the Stripe SDK by a pipeline, and read what Stripe says: `StripeClient(key, http_client=ResilientHTTPClient(stripe_pipeline))`."""

from __future__ import annotations

import re
from contextlib import aclosing, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import urlsplit

from finresilience.context import current, remaining
from finresilience.integrations._exchange import KEY_HEADER
from finresilience.integrations._rules import READ_UP_TO, Rules, needs, warn_of_retries
from finresilience.integrations._stripe_words import StripeAnswer, advice, stripe_classifier

try:
    import stripe
except ModuleNotFoundError as _missing:
    raise needs("stripe", _missing) from _missing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from finresilience.integrations._exchange import Exchange
    from finresilience.policies.pipeline import Pipeline

__all__ = ["ResilientHTTPClient", "StripeAnswer", "StripeRequest", "check_sdk_retries", "stripe_classifier"]

_POOL: Final = 50  # connections that are kept for the threads of one process
_TOLD_NOT_TO: Final = "it was not tried again: Stripe said that trying again would change nothing"
_MADE_UP: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


@final
class StripeRequest:
    """What the functions of a pipeline (`key=`, `reference=`, `per`) are called with."""

    __slots__ = ("body", "headers", "method", "url")

    def __init__(self, method: str, url: str, headers: Mapping[str, str], body: Any) -> None:
        self.method: str = method.upper()
        self.url: str = url
        self.headers: Mapping[str, str] = headers
        self.body: Any = body

    def __repr__(self) -> str:
        """Show where it goes; the rest holds secrets."""
        return f"<StripeRequest {self.method} {urlsplit(self.url).path}>"


@final
class ResilientHTTPClient(stripe.HTTPClient):
    """Guard each request of the SDK by a pipeline; the SDK's own retries are off.

    The answers become the SDK's own objects and errors, as ever; a call that nobody knows the end of raises `UnknownOutcomeError`. A
    DELETE may be repeated, as Stripe says. Inside `with idempotency_key(...)`, a POST is sent under that key in place of the random
    one that the SDK makes up.

    Args:
        guard: the pipeline, best with `classify=stripe_classifier()`.
        client: makes the sync requests; by default requests, each limited to the time left.
        async_client: makes the async requests; by default the SDK's own choice.
    """

    name = "finresilience"

    def __init__(
        self, guard: Pipeline, /, *, client: stripe.HTTPClient | None = None, async_client: stripe.HTTPClient | None = None
    ) -> None:
        super().__init__()
        self._rules = Rules(type(self).__name__, guard, kind=StripeAnswer, by_nature=("DELETE",), send_headers=False)
        self._client = client
        self._async_client = async_client

    # --- guarded ---------------------------------------------------------------------------------------------------

    def request_with_retries(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        post_data: Any = None,
        max_network_retries: Any = None,  # noqa: ARG002 - switched off
        **more: Any,
    ) -> tuple[Any, int, Mapping[str, str]]:
        """Make the call guarded; how often it is tried, the pipeline says."""
        return self._guarded(super().request_with_retries, method, url, headers, post_data, more)

    def request_stream_with_retries(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        post_data: Any = None,
        max_network_retries: Any = None,  # noqa: ARG002 - switched off
        **more: Any,
    ) -> tuple[Any, int, Mapping[str, str]]:
        """Make the call guarded; the guard ends where the stream begins."""
        return self._guarded(super().request_stream_with_retries, method, url, headers, post_data, more, stream=True)

    async def request_with_retries_async(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        post_data: Any = None,
        max_network_retries: Any = None,  # noqa: ARG002 - switched off
        **more: Any,
    ) -> tuple[Any, int, Any]:
        """Make the call guarded; how often it is tried, the pipeline says."""
        return await self._aguarded(super().request_with_retries_async, method, url, headers, post_data, more)

    async def request_stream_with_retries_async(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        post_data: Any = None,
        max_network_retries: Any = None,  # noqa: ARG002 - switched off
        **more: Any,
    ) -> tuple[Any, int, Any]:
        """Make the call guarded; the guard ends where the stream begins."""
        return await self._aguarded(super().request_stream_with_retries_async, method, url, headers, post_data, more, stream=True)

    def _guarded(
        self, once: Callable[..., Any], method: str, url: str, headers: Mapping[str, str], body: Any, more: Any, *, stream: bool = False
    ) -> tuple[Any, int, Mapping[str, str]]:
        request = StripeRequest(method, url, self._keyed(headers), body)
        exchange = self._exchange(request)

        def attempt(request: StripeRequest) -> StripeAnswer:
            limit, told = remaining(), {**request.headers, **exchange.begins(request.headers)}
            exchange.leaves()
            try:
                answer = StripeAnswer(*once(method, url, told, body, max_network_retries=0, **more))
            except Exception as error:
                known = exchange.within(error, limit)
                if known is error:
                    raise
                raise known from error
            return _taken(exchange, answer, stream=stream)

        try:
            whole: StripeAnswer = exchange.run(attempt, request)
            return whole.as_tuple()
        finally:
            _close(exchange)

    async def _aguarded(
        self, once: Callable[..., Any], method: str, url: str, headers: Mapping[str, str], body: Any, more: Any, *, stream: bool = False
    ) -> tuple[Any, int, Mapping[str, str]]:
        request = StripeRequest(method, url, self._keyed(headers), body)
        exchange = self._exchange(request)

        async def attempt(request: StripeRequest) -> StripeAnswer:
            told = {**request.headers, **exchange.begins(request.headers)}
            exchange.leaves()
            answer = StripeAnswer(*await once(method, url, told, body, max_network_retries=0, **more))
            if stream and exchange.judged(answer):
                answer.body = await _read(answer.body)  # or its connection would be nobody's
            return _taken(exchange, answer, stream=False)

        whole: StripeAnswer = await exchange.arun(attempt, request)
        return whole.as_tuple()

    def _exchange(self, request: StripeRequest) -> Exchange:
        url = urlsplit(request.url)
        return self._rules.call(
            request,
            method=request.method,
            host=url.hostname or "",
            port=url.port,
            path=url.path,
            headers=request.headers,
            stoppable=True,
        )

    def _keyed(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Return the headers without a key that the SDK made up, where there is a better one: yours, which the next process knows too."""
        key = headers.get(KEY_HEADER)
        context = current.get()
        yours = self._rules.pipelines()[0]._plan.key_of is not None or (context is not None and context.base_key is not None)
        if key is None or not yours or not _MADE_UP.fullmatch(key):
            return headers
        return {name: value for name, value in headers.items() if name != KEY_HEADER}

    # --- one attempt, by the client inside -------------------------------------------------------------------------

    def request(self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None, **more: Any) -> Any:
        """Make one request, unguarded."""
        return self._inner().request(method, url, headers, post_data, **more)

    def request_stream(self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None, **more: Any) -> Any:
        """Make one request, unguarded."""
        return self._inner().request_stream(method, url, headers, post_data, **more)

    async def request_async(self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None, **more: Any) -> Any:
        """Make one request, unguarded."""
        return await self._ainner().request_async(method, url, headers, post_data, **more)

    async def request_stream_async(self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None, **more: Any) -> Any:
        """Make one request, unguarded."""
        return await self._ainner().request_stream_async(method, url, headers, post_data, **more)

    def _inner(self) -> stripe.HTTPClient:
        if self._client is None:
            self._client = _bounded()
        return self._client

    def _ainner(self) -> stripe.HTTPClient:
        if self._async_client is None:
            from stripe._http_client import new_http_client_async_fallback

            self._async_client = new_http_client_async_fallback()
        return self._async_client

    def close(self) -> None:
        """Close the sync client inside."""
        inner: Any = self._client  # the SDK has no types for it
        if inner is not None:
            inner.close()

    async def close_async(self) -> None:
        """Close the async client inside."""
        inner: Any = self._async_client  # the SDK has no types for it
        if inner is not None:
            await inner.close_async()


def check_sdk_retries(guard: Pipeline, client: stripe.StripeClient | None = None) -> None:
    """Warn, once, if the SDK retries by itself inside a function that this pipeline guards; `explain()` then says so too.

    Args:
        guard: the pipeline round your function.
        client: that the function calls; without it, the settings of the module `stripe` are meant.
    """
    own = None if client is None else client._requestor._options.max_network_retries
    retries = stripe.max_network_retries if own is None else own
    if isinstance(retries, int) and retries > 0:
        warn_of_retries([guard], f"the Stripe SDK (max_network_retries={retries})", retries + 1)


def _taken(exchange: Exchange, answer: StripeAnswer, *, stream: bool) -> StripeAnswer:
    if advice(answer) == "false" and answer.status_code >= 409:
        exchange.used_up(_TOLD_NOT_TO)
    if stream:
        exchange.opened.append(answer)
    return answer


async def _read(stream: Any) -> Any:
    """Return a stream that was read, for the SDK to read: what says no is short, and what is not is cut off."""
    chunks: list[bytes] = []
    size = 0
    with suppress(Exception):  # its status is the word, and is in hand
        async with aclosing(stream) if hasattr(stream, "aclose") else nullcontext(stream) as pieces:
            async for piece in pieces:
                chunks.append(piece)
                size += len(piece)
                if size > READ_UP_TO:
                    break

    async def again() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return again()


def _close(exchange: Exchange) -> None:
    for answer in exchange.opened:
        answer.close()


def _bounded() -> stripe.HTTPClient:
    """Return the SDK's client for plain functions, whose every request is limited to the time that the attempt has."""
    try:
        import requests
    except ModuleNotFoundError:
        from stripe._http_client import new_default_http_client

        return new_default_http_client()
    from finresilience.integrations.requests import BoundedAdapter

    session = requests.Session()
    session.mount("https://", BoundedAdapter(pool_maxsize=_POOL))
    session.mount("http://", BoundedAdapter(pool_maxsize=_POOL))
    return stripe.RequestsClient(session=session)
