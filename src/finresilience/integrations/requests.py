"""Guard every request of a requests session by a pipeline: `session.mount("https://", ResilientAdapter(acme))`."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, cast, final
from urllib.parse import urlsplit

from finresilience.context import remaining
from finresilience.errors import ConfigurationError
from finresilience.integrations._exchange import KEY_HEADER, cut
from finresilience.integrations._rules import READ_UP_TO, Rules, needs, warn_of_retries

try:
    import requests
except ModuleNotFoundError as _missing:
    raise needs("requests", _missing) from _missing
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import rewind_body
from urllib3.util import Timeout as Limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from finresilience.integrations._exchange import Exchange
    from finresilience.integrations._rules import EffectOf, Hosts
    from finresilience.policies.pipeline import Pipeline

__all__ = ["ResilientAdapter"]


@final
class ResilientAdapter(BaseAdapter):
    """Guard each request by a pipeline, by its method and its idempotency key; the response is the session's own.

    The functions of a pipeline (`key=`, `reference=`, `per`) are called with the `requests.PreparedRequest`.

    Args:
        guard: the pipeline of each host that `by_host` does not name.
        adapter: makes the requests; by default a plain `HTTPAdapter()`. Pools and TLS are its own.
        by_host: pipelines by host or "host:port", or a function of the host. Without `guard`, other hosts are refused.
        effect: what happens if this request is carried out twice, where you know better than its method; None for "do not know".
        by_nature: of PUT and DELETE, those that your provider lets repeat without harm.
        key_header: the header that the provider takes the idempotency key in; None if it takes none.
        send_headers: whether to tell the provider the time left and the number of earlier attempts.
        read_up_to: bytes of an answer that says no which are read inside the guard although the caller streams.

    Raises:
        ConfigurationError: if an argument cannot work.
    """

    def __init__(
        self,
        guard: Pipeline | None = None,
        /,
        *,
        adapter: BaseAdapter | None = None,
        by_host: Hosts | None = None,
        effect: EffectOf | None = None,
        by_nature: Iterable[str] = (),
        key_header: str | None = KEY_HEADER,
        send_headers: bool = True,
        read_up_to: int = READ_UP_TO,
    ) -> None:
        super().__init__()
        self._rules = Rules(
            type(self).__name__,
            guard,
            kind=requests.Response,
            by_host=by_host,
            effect=effect,
            by_nature=by_nature,
            key_header=key_header,
            send_headers=send_headers,
            read_up_to=read_up_to,
        )
        self._inner: BaseAdapter = HTTPAdapter() if adapter is None else adapter
        if isinstance(self._inner, ResilientAdapter):
            message = "a ResilientAdapter inside another would retry its retries: give adapter= a plain one"
            raise ConfigurationError(message)
        retries = getattr(getattr(self._inner, "max_retries", None), "total", 0)
        if isinstance(retries, int) and retries > 0:
            warn_of_retries(self._rules.pipelines(), f"{type(self._inner).__name__}(max_retries={retries})", retries + 1)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: FBT001, FBT002 - as requests has it
        timeout: Any = None,
        verify: Any = True,  # noqa: FBT002 - as requests has it
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Return the response, or raise as the laws of outcomes say."""
        told: dict[str, Any] = {"verify": verify, "cert": cert, "proxies": proxies}
        url = urlsplit(str(request.url))
        exchange = self._rules.call(
            request,
            method=str(request.method),
            host=url.hostname or "",
            port=url.port,
            path=url.path or "/",
            headers=_texts(request.headers),
            stoppable=not _can_be_sent_again(request.body, request),
        )

        def attempt(request: requests.PreparedRequest) -> requests.Response:
            response = self._attempt(exchange, request, stream=stream, timeout=timeout, told=told)
            if exchange.ended:  # a thread that was left behind: nobody reads it any more
                response.close()
            return response

        try:
            answer: requests.Response = exchange.run(attempt, request)
            return answer
        finally:
            for response in exchange.opened:
                response.close()

    def _attempt(
        self, exchange: Exchange, request: requests.PreparedRequest, *, stream: bool, timeout: Any, told: dict[str, Any]
    ) -> requests.Response:
        sent, limit = _as_sent(exchange, request), remaining()
        within: Any = limits_within(timeout, limit, exact=isinstance(self._inner, HTTPAdapter))
        exchange.leaves()
        try:
            response = self._inner.send(sent, stream=stream, timeout=within, **told)
            response.connection = cast("Any", self)  # what follows this answer, such as a digest's second request, is guarded too
            _take(exchange, response, stream=stream)
        except Exception as error:
            known = exchange.within(error, limit)
            if known is error:
                raise
            raise known from error
        return response

    def close(self) -> None:
        """Close the adapter inside."""
        self._inner.close()

    def __reduce__(self) -> NoReturn:
        """Refuse to travel: another process would have another breaker of the same name, which knows nothing."""
        message = "a ResilientAdapter cannot be pickled: its pipeline lives in this process; mount a new one where the session is used"
        raise TypeError(message)


@final
class BoundedAdapter(HTTPAdapter):
    """Guards nothing; cuts each request to the time that the attempt around it has."""

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: FBT001, FBT002 - as requests has it
        timeout: Any = None,
        verify: Any = True,  # noqa: FBT002 - as requests has it
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send the request within what is left."""
        return super().send(request, stream, limits_within(timeout, remaining(), exact=True), verify, cert, proxies)


def _as_sent(exchange: Exchange, request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Return the request as this attempt sends it: a copy, so that no attempt leaves a trace on the caller's own."""
    sent = request.copy()
    sent.headers.update(exchange.begins(sent.headers))
    body: Any = sent.body
    if not _can_be_sent_again(body, request):
        if hasattr(body, "read"):
            exchange.used_up()  # who reads a file says nothing when they begin
        else:
            again: Any = _Once(body, exchange)
            sent.body = again
    elif exchange.attempts > 1 and hasattr(body, "seek"):
        rewind_body(sent)
    return sent


@final
class _Once:
    """A body that can be sent only once; it tells when that happens."""

    def __init__(self, body: Iterable[bytes], exchange: Exchange) -> None:
        self._body = body
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        self._exchange.used_up()
        yield from self._body


def _can_be_sent_again(body: object, request: requests.PreparedRequest) -> bool:
    if body is None or isinstance(body, str | bytes | bytearray):
        return True
    with suppress(Exception):
        return isinstance(getattr(request, "_body_position", None), int) and bool(getattr(body, "seekable", bool)())
    return False


def _texts(headers: Any) -> Mapping[str, str]:
    """Return headers whose values are text, as a session may have prepared them in bytes."""
    told = CaseInsensitiveDict[str]()
    for name, value in headers.items():
        key = name.decode("latin-1") if isinstance(name, bytes) else str(name)
        told[key] = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return told


def limits_within(timeout: Any, left: float | None, *, exact: bool) -> Any:
    """Return the client's limits, made no longer than what is left, for all of them together where the adapter knows such a limit."""
    if left is None:
        return timeout
    if isinstance(timeout, Limits):
        return Limits(total=cut(_number(timeout.total), left), connect=timeout._connect, read=timeout._read)
    connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    if exact:
        return Limits(total=cut(None, left), connect=connect, read=read)
    return cut(connect, left), cut(read, left)


def _number(seconds: object) -> float | None:
    return float(seconds) if isinstance(seconds, int | float) else None


def _take(exchange: Exchange, response: requests.Response, *, stream: bool) -> None:
    """Read what the session would read at once, and a short no; leave the rest of a stream to its reader."""
    judged = exchange.judged(response)
    if stream and not (judged and exchange.short(response.headers.get("content-length"))):
        exchange.opened.append(response)
        return
    try:
        _ = response.content
    except Exception:
        response.close()
        if not judged:
            raise
        exchange.body_lost = True  # the word is in hand, and is not thrown away
        response._content, response._content_consumed = b"", True
