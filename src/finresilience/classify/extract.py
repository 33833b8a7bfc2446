"""Where do errors and responses keep their status, their code and their Retry-After? Attributes only, never messages."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, cast

from finresilience.classify.retry_after import seconds_to_wait

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from finresilience.clock import Clock

MAX_LINKS: Final = 16  # how far a chain of causes is followed
MAX_HEADERS: Final = 1000  # how many headers of a plain dict are compared

_CODES: Final = ("decline_code", "response_code", "code", "sqlstate", "pgcode")

# Where libraries keep the error that tells, if not in `__cause__`. Never `__context__`: what happened to be handled at
# the time need not be the reason.
_HIDING: Final[Mapping[str, str]] = {
    "requests.exceptions.ConnectionError": "args",
    "requests.exceptions.ReadTimeout": "args",
    "urllib3.exceptions.MaxRetryError": "reason",
    "urllib3.exceptions.ProtocolError": "args",
    "urllib3.exceptions.ProxyError": "original_error",
    "urllib3.exceptions.SSLError": "args",
    "urllib.error.URLError": "reason",
}
# Reading `code` there warns the application that it is deprecated; it is the status, which has its own place.
_STATUS_IS_CODE: Final = "aiohttp.client_exceptions.ClientResponseError"


def status_of(subject: object) -> int | None:
    """Return the HTTP status that an error or a response carries, or None.

    A plain `status` counts only on an error, or beside `headers`: an order's own status may be a number too, and asking
    a database object for it may even run a query.
    """
    for holder in (subject, attribute(subject, "response")):
        if holder is None:
            continue
        status = attribute(holder, "status_code")
        if not _is_status(status) and (isinstance(holder, BaseException) or attribute(holder, "headers") is not None):
            status = attribute(holder, "status")
        if not _is_status(status):
            status = attribute(holder, "http_status")
        if isinstance(status, int) and _is_status(status):
            return int(status)
    return None


def codes_of(subject: object) -> Iterator[str]:
    """Yield the provider's own codes that an error or an answer carries, the most telling first."""
    for name in _CODES:
        if name == "code" and isinstance(subject, BaseException) and _STATUS_IS_CODE in class_names(subject):
            continue
        code = attribute(subject, name)
        if isinstance(code, str):
            yield code


def retry_after_of(subject: object, clock: Clock) -> float | None:
    """Return the seconds a response, or the response that an error carries, asks us to wait, or None.

    `Retry-After` (RFC 9110, 10.2.3), or its sibling in milliseconds, `retry-after-ms`, that some providers send beside it.
    """
    for holder in (subject, attribute(subject, "response")):
        headers = attribute(holder, "headers")
        if headers is None:
            continue
        milliseconds = _header(headers, "retry-after-ms")
        if milliseconds is not None:
            wait = seconds_to_wait(milliseconds, now=clock.utc) if milliseconds.isdigit() else None
            if wait is not None:
                return wait / 1000.0
        value = _header(headers, "retry-after")
        if value is not None:
            return seconds_to_wait(value, date=_header(headers, "date"), now=clock.utc)
    return None


_CANCELLED: Final = "asyncio.exceptions.CancelledError"


def inner_error(error: BaseException) -> BaseException | None:
    """Return the error this one was raised from: where its library hides it, or its `__cause__`."""
    for name in class_names(error):
        place = _HIDING.get(name)
        if place is not None:
            held = attribute(error, place)
            for inner in reversed(cast("tuple[object, ...]", held)) if isinstance(held, tuple) else (held,):
                if isinstance(inner, BaseException):
                    return inner
    cause = attribute(error, "__cause__")
    if isinstance(cause, BaseException):
        return cause
    # In the first releases of Python 3.11 `asyncio.timeout` raises its error without naming the cancellation that it was made from.
    interrupted = error.__context__ if type(error) is TimeoutError else None
    return interrupted if interrupted is not None and _CANCELLED in class_names(interrupted) else None


def links(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and what it was raised from, link by link, no more than 16: chains may be long, or circular."""
    link: BaseException | None = error
    for _ in range(MAX_LINKS):
        if link is None:
            return
        yield link
        link = inner_error(link)


def class_names(subject: object) -> tuple[str, ...]:
    """Return "module.Name" for each class of `subject`, the most specific first."""
    kind: Any = type(subject)
    return _names_of(kind)


@lru_cache(maxsize=1000)
def _names_of(kind: type[object]) -> tuple[str, ...]:
    return tuple(f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__)


def attribute(subject: object, name: str) -> object:
    """Return an attribute, or None: a property of somebody's error may do anything, and we only asked."""
    try:
        return getattr(subject, name, None)
    except Exception:
        return None


def _is_status(status: object) -> bool:
    return isinstance(status, int) and not isinstance(status, bool) and 100 <= status <= 999


def _header(headers: Any, name: str) -> str | None:
    """Return one header. The clients' mappings ignore case; in a plain dict it is looked for."""
    try:
        value: object = headers.get(name)
        if value is None:
            pairs: Iterator[tuple[object, object]] = islice(headers.items(), MAX_HEADERS)
            value = next((held for key, held in pairs if str(key).lower() == name), None)
    except Exception:  # not a mapping, or one that does not want to be asked
        return None
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None
