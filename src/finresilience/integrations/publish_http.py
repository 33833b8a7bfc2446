"""How do events reach an HTTP endpoint? As CloudEvents, by httpx or httpx2; what is not a 2xx was not published."""

from __future__ import annotations

from contextlib import suppress
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, Protocol, final, overload
from urllib.parse import urlsplit

from finresilience._checks import refuse
from finresilience.classify.classifier import ErrorClassifier, Rule
from finresilience.classify.http import http_classifier
from finresilience.context import deadline, remaining
from finresilience.errors import FinresilienceError
from finresilience.integrations.publish_common import (
    OUR_RULES,
    STRUCTURED,
    UnpublishableError,
    attributes,
    checked_seconds,
    checked_source,
    structured,
    with_own,
)
from finresilience.outcome import RETRYABLE, Classification

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from datetime import timedelta

    from finresilience.clock import Clock
    from finresilience.durable.messages import OutboxRow

__all__ = ["PublishRejectedError", "http_publish_classifier", "http_publisher"]

KEY: Final = "Idempotency-Key"
READ_UP_TO: Final = 65_536  # bytes of an answer that nobody looks at, read so that the connection can be used again

# What would change how the request is framed, where it goes or who sends it: a client's business, not a message's.
_FRAMING: Final = {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect"}
_WITHHELD: Final = _FRAMING | {"authorization", "cookie", KEY.lower()}

# An endpoint says no to our address or our credentials, not to the event: people mend it, and a backlog must outlive it.
# By the rules for payments these are final, because there a person waits for the answer; here nobody does.
_MENDED_BY_PEOPLE: Final = frozenset({401, 402, 403, 404, 405, 406, 407, 410, 411, 412, 416, 417, 426, 428, 451})
# The request was not carried out, but sent elsewhere; nobody goes there with an event without being told.
_ELSEWHERE: Final = frozenset({301, 302, 307, 308})


class _Answered(Protocol):
    @property
    def status_code(self) -> int: ...


class _Client(Protocol):
    def post(self, url: str, /) -> _Answered: ...


class _AsyncClient(Protocol):
    def post(self, url: str, /) -> Awaitable[Any]: ...


@final
class PublishRejectedError(FinresilienceError):
    """The endpoint answered, and not by a 2xx; so the event is not published, whatever the answer said.

    Args:
        status: of the answer.
        response: the client's own object, without its body.
    """

    def __init__(self, status: int, response: Any = None) -> None:
        super().__init__(status)
        self.status_code: int = status
        self.response: Any = response

    def __str__(self) -> str:
        """Say what happened, what is true of the event, and what to do."""
        return (
            f"the endpoint answered {self.status_code}, which is no 2xx.\n"
            "  The event is not taken for published.\n"
            "  The rules of http_publish_classifier() say whether it is tried again; the endpoint can drop what it has by its id."
        )


def http_publish_classifier(*, clock: Clock | None = None) -> ErrorClassifier:
    """Return the rules for `Relay(classify=...)`: how far a request came, or what the status says of the event.

    400, 413, 414, 415, 422 and 431 speak of the event itself: NON_RETRYABLE. 401, 403, 404 and their kin speak of our address and our
    credentials: RETRYABLE, since a relay that buried its backlog during a broken deployment would be the greater harm. All others are
    as `http_classifier` has them, with `Retry-After`.
    """

    def mended(subject: object) -> Classification | None:
        return RETRYABLE if isinstance(subject, PublishRejectedError) else None

    statuses: dict[int, Rule] = dict.fromkeys(_MENDED_BY_PEOPLE | _ELSEWHERE, mended)
    return OUR_RULES | ErrorClassifier(status=statuses, clock=clock) | http_classifier(clock=clock)


@overload
def http_publisher(
    client: _AsyncClient,
    url: str | Callable[[OutboxRow], str],
    *,
    source: str,
    whole: bool = ...,
    already: Iterable[int] = ...,
    timeout: float | timedelta = ...,
) -> Callable[[OutboxRow], Awaitable[None]]: ...
@overload
def http_publisher(
    client: _Client,
    url: str | Callable[[OutboxRow], str],
    *,
    source: str,
    whole: bool = ...,
    already: Iterable[int] = ...,
    timeout: float | timedelta = ...,
) -> Callable[[OutboxRow], None]: ...
def http_publisher(
    client: Any,
    url: str | Callable[[OutboxRow], str],
    *,
    source: str,
    whole: bool = False,
    already: Iterable[int] = (),
    timeout: float | timedelta = 10.0,
) -> Callable[[OutboxRow], Awaitable[None]] | Callable[[OutboxRow], None]:
    """Return a publisher that posts each event to `url` as a CloudEvent 1.0, async for an async client, plain for a sync one.

    It is published once the endpoint has answered with a 2xx. Redirects are not followed. The event's id is `ce-id` and
    `Idempotency-Key`, the same on every attempt.

    Args:
        client: an `httpx.AsyncClient` or `httpx.Client`, or one of httpx2: authentication, TLS and limits are its own.
        url: where to, or a function of the row.
        source: who tells it, a URI reference (CloudEvents).
        whole: send attributes and payload as one JSON document (structured mode) in place of headers and the payload as it is (binary).
        already: statuses by which this endpoint says that it has an event of this id already, such as 409; they count as published.
        timeout: how long one request may take; less, if the relay's own limit leaves less.

    Raises:
        ConfigurationError: if an argument cannot work.
    """
    publisher = _Poster(client, url, source=source, whole=whole, already=already, timeout=timeout)
    return publisher.apublish if iscoroutinefunction(client.send) else publisher.publish


@final
class _Poster:
    __slots__ = ("_already", "_client", "_source", "_timeout", "_url", "_whole")

    def __init__(
        self,
        client: Any,
        url: str | Callable[[OutboxRow], str],
        *,
        source: str,
        whole: bool,
        already: Iterable[int],
        timeout: float | timedelta,
    ) -> None:
        if not callable(getattr(client, "build_request", None)) or not callable(getattr(client, "send", None)):
            refuse("client", client, "an httpx.AsyncClient or httpx.Client, or one of httpx2")
        if not isinstance(whole, bool):
            refuse("whole", whole, "True or False")
        if not callable(url) and not _is_url(url):
            refuse("url", url, "an absolute http or https URL, or a function of the row")
        self._client = client
        self._url = url
        self._source = checked_source(source)
        self._whole = whole
        self._already = _statuses(already)
        self._timeout = checked_seconds(timeout)

    async def apublish(self, row: OutboxRow) -> None:
        """Return once the endpoint has said that it has the event."""
        with deadline(self._timeout):
            response = await self._client.send(self._request(row), stream=True, follow_redirects=False)
            try:
                await _adrained(response)
            finally:
                await _aclose(response)
        self._judge(response)

    def publish(self, row: OutboxRow) -> None:
        """Return once the endpoint has said that it has the event."""
        with deadline(self._timeout):
            response = self._client.send(self._request(row), stream=True, follow_redirects=False)
            try:
                _drained(response)
            finally:
                with suppress(Exception):
                    response.close()
        self._judge(response)

    def _request(self, row: OutboxRow) -> Any:
        if self._whole:
            body, headers = structured(row, source=self._source), {"content-type": STRUCTURED}
        else:
            body, headers = row.message.payload, attributes(row, source=self._source, prefix="ce-", percent=True)
        headers = with_own(headers, row, withheld=_not_beside if self._whole else _is_withheld, ascii_only=True)
        headers[KEY] = str(row.id)
        return self._client.build_request("POST", self._address(row), content=body, headers=headers, timeout=remaining())

    def _address(self, row: OutboxRow) -> str:
        if not callable(self._url):
            return self._url
        made = self._url(row)
        if not _is_url(made):
            raise UnpublishableError("its URL would be none: url= must return an absolute http or https URL")
        return made

    def _judge(self, response: Any) -> None:
        status = response.status_code
        if not 200 <= status < 300 and status not in self._already:
            raise PublishRejectedError(status, response)


async def _adrained(response: Any) -> None:
    """Read an answer to its end, if it is short and soon: the word is in hand, and must not be lost over its body."""
    from anyio import move_on_after

    with suppress(Exception), move_on_after((remaining() or 0.0) / 2):
        size = 0
        async for chunk in response.aiter_raw():
            size += len(chunk)
            if size > READ_UP_TO:
                return


def _drained(response: Any) -> None:
    with suppress(Exception):
        size = 0
        for chunk in response.iter_raw():
            size += len(chunk)
            if size > READ_UP_TO or remaining() == 0.0:
                return


async def _aclose(response: Any) -> None:
    from anyio import CancelScope

    with CancelScope(shield=True), suppress(Exception):
        await response.aclose()


def _is_withheld(name: str) -> bool:
    return name in _WITHHELD or name.startswith("proxy-")


def _not_beside(name: str) -> bool:
    """In structured mode the document says what the event is, and no header contradicts it."""
    return _is_withheld(name) or name.startswith("ce-")


def _is_url(url: object) -> bool:
    if not isinstance(url, str) or not url.isprintable() or " " in url:
        return False
    with suppress(ValueError):
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname)
    return False


def _statuses(already: Iterable[int]) -> frozenset[int]:
    if isinstance(already, str) or not hasattr(already, "__iter__"):
        refuse("already", already, "statuses, such as (409,)")
    told = frozenset(already)
    for status in told:
        if type(status) is not int or not 300 <= status <= 499:
            refuse("already", status, "statuses from 300 to 499, such as 409: nothing else can say that the event is there")
    return told
