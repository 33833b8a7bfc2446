"""What do publishers have in common? The headers of an event, what is kept out of them, and the errors that none of the brokers has."""

from __future__ import annotations

from json import dumps, loads
from typing import TYPE_CHECKING, Final, NoReturn, final
from urllib.parse import unquote

from finresilience._checks import refuse, seconds_of
from finresilience.classify.classifier import ErrorClassifier
from finresilience.context import remaining
from finresilience.durable.messages import cloudevent, cloudevent_headers
from finresilience.errors import FinresilienceError, RefusedError
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from finresilience.durable.messages import OutboxRow

STRUCTURED: Final = "application/cloudevents+json"
SAFE_IN_TOKENS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=/@:,;+~!()")


@final
class UnpublishableError(FinresilienceError):
    """This event cannot be published as it is, now or ever; it was not sent. A relay keeps it, whole, as a dead letter.

    Args:
        why: what is wrong with it, without its key or its payload.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)

    def __str__(self) -> str:
        """Say what happened, what is true of the event, and what to do."""
        return (
            f"the event cannot be published: {self.args[0]}.\n"
            "  It was not sent, and trying again would not help.\n"
            "  A relay keeps it as a dead letter, with its payload: mend what is wrong, then revive or discard it."
        )


@final
class NotConfirmedError(FinresilienceError):
    """The publish ended, but not with a confirmation that the broker has the event. It may have it.

    Args:
        why: what came in place of a confirmation, and what to do about it.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)

    def __str__(self) -> str:
        """Say what happened, what is true of the event, and what to do."""
        return (
            f"the event was not confirmed: {self.args[0]}.\n"
            "  The broker may have it or not, so it is not settled; publishing it again is safe, because its id stays the same.\n"
            "  It is tried again; if it happens always, the set-up is wrong."
        )


@final
class NotRoutedError(FinresilienceError):
    """Nobody takes events of this topic: no handler, no queue, no stream. It was not delivered to anyone.

    Args:
        why: what is missing.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)

    def __str__(self) -> str:
        """Say what happened, what is true of the event, and what to do."""
        return (
            f"nobody takes the event: {self.args[0]}.\n"
            "  Nothing was delivered. It is tried again, and holds back its own key only.\n"
            "  Make what is missing, or correct the topic; a dead letter is revived afterwards."
        )


@final
class BrokerNotReadyError(RefusedError):
    """There is no connection to publish by, so nothing was sent. No fault of the event: a relay counts no attempt, and waits.

    Args:
        why: what is missing.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)

    def __str__(self) -> str:
        """Say what happened, what is true of the event, and what to do."""
        return f"nothing was published: {self.args[0]}.\n  Nothing was sent, and no attempt is counted.\n  It goes on once that is mended."


OUR_RULES: Final = ErrorClassifier(
    {
        UnpublishableError: NON_RETRYABLE,
        NotConfirmedError: UNKNOWN,
        NotRoutedError: RETRYABLE,  # people mend it: a missing queue must not bury a backlog at once
    }
)


def patience(timeout: float) -> float:
    """Return how long a publish may take now: `timeout`, or what the caller's deadline leaves, if that is less."""
    left = remaining()
    return timeout if left is None else min(timeout, left)


def checked_source(source: object) -> str:
    """Return `source` if CloudEvents can name who tells by it."""
    if not isinstance(source, str) or not source.strip() or not source.isprintable() or len(source) > 255:
        refuse("source", source, "a URI reference that says who tells, such as '/payments', of at most 255 characters")
    return source


def checked_seconds(timeout: float | timedelta) -> float:
    """Return the seconds of a publish's own limit."""
    return seconds_of("timeout", timeout)


def checked_function(name: str, function: object, wanted: str) -> None:
    """Refuse what is neither None nor a function of a row."""
    if function is not None and not callable(function):
        refuse(name, function, wanted)


def told(function: Callable[[OutboxRow], object], row: OutboxRow, what: str) -> str:
    """Return the text that a caller's function makes of a row."""
    made = function(row)
    if not isinstance(made, str) or not made or not made.isprintable():
        raise UnpublishableError(f"its {what} would be {_kind(made)}")
    return made


def attributes(row: OutboxRow, *, source: str, prefix: str, percent: bool) -> dict[str, str]:
    """Return the event's CloudEvents attributes as headers, and its content type.

    Args:
        row: what to tell of.
        source: who tells it.
        prefix: of the names, by the binding of the protocol.
        percent: whether values are percent-encoded; without it they are UTF-8 as they are.
    """
    headers = cloudevent_headers(row, source=source, prefix=prefix)
    if percent:
        return headers
    return {name: unquote(value) if name.startswith(prefix) else value for name, value in headers.items()}


def with_own(headers: dict[str, str], row: OutboxRow, *, withheld: Callable[[str], bool], ascii_only: bool) -> dict[str, str]:
    """Return the headers, and beside them the message's own and its trace context.

    A message's own header never takes the place of one that tells what the event is, whatever its case; `baggage` is for the
    process that wrote it and is not told to others; what `withheld` names would steer the broker.

    Args:
        headers: those of the event.
        row: whose message it is.
        withheld: whether a header, named in lower case, must not reach the broker.
        ascii_only: whether what the protocol cannot carry as it is, is percent-encoded.
    """
    message = row.message
    if message.traceparent is not None:
        headers["traceparent"] = message.traceparent
    taken = {name.lower() for name in headers}
    for name, value in message.headers.items():
        low = name.lower()
        if low not in taken and low != "baggage" and not withheld(low):
            headers[name] = carried(value) if ascii_only else value
    return headers


def carried(value: str) -> str:
    """Return a header's value as every header line carries it: percent-encoded if it is not ASCII, or has spaces at its ends."""
    if value.isascii() and value == value.strip():
        return value
    return "".join(chr(byte) if 0x20 < byte < 0x7F and byte != 0x25 else f"%{byte:02X}" for byte in value.encode())


def structured(row: OutboxRow, *, source: str) -> bytes:
    """Return the whole event in CloudEvents' JSON format. A JSON payload goes into it letter for letter: no amount is rounded.

    Raises:
        UnpublishableError: if its payload says that it is JSON, and is not.
    """
    try:
        event = cloudevent(row, source=source)
        data = None
        if "data" in event:
            del event["data"]
            data = row.message.payload.decode()
            loads(data, parse_constant=_no_json)  # NaN and the infinities, which Python reads and nobody else
    except (ValueError, RecursionError):
        raise UnpublishableError("its content type says JSON, and its payload is none") from None
    whole = dumps(event, ensure_ascii=False, separators=(",", ":"))
    return (whole if data is None else f'{whole[:-1]},"data":{data}}}').encode()


def _no_json(word: str) -> NoReturn:
    raise ValueError(word)


def token(text: str) -> str:
    """Return text as one token of a subject or a routing key: what would part or widen it is percent-encoded."""
    return "".join(letter if letter in SAFE_IN_TOKENS else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    return "".join(f"%{byte:02X}" for byte in letter.encode())


def _kind(made: object) -> str:
    return "empty or unprintable" if isinstance(made, str) else f"a {type(made).__name__}"


@final
class Gate:
    """Refuses to publish while that cannot work, and says so in the log once, not for every event."""

    __slots__ = ("_said",)

    def __init__(self) -> None:
        self._said: str | None = None

    def refuse(self, why: str) -> NoReturn:
        """Raise the refusal; the first in a row is logged too, because whoever waits in silence is not noticed."""
        if self._said != why:
            self._said = why
            import logging

            logging.getLogger("finresilience").warning("nothing is published: %s", why)
        raise BrokerNotReadyError(why)

    def passed(self) -> None:
        """Note that it works."""
        self._said = None
