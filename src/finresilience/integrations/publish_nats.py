"""How do events reach a stream of NATS? By JetStream's acknowledged publish, under an id by which the server drops what comes twice."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from finresilience._checks import refuse
from finresilience.classify.classifier import ErrorClassifier, Rule
from finresilience.classify.extract import attribute
from finresilience.integrations.publish_common import (
    OUR_RULES,
    Gate,
    NotConfirmedError,
    UnpublishableError,
    attributes,
    checked_function,
    checked_seconds,
    checked_source,
    patience,
    token,
    told,
    with_own,
)
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Classification

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import timedelta

    from finresilience.durable.messages import OutboxRow

__all__ = ["event_subject", "nats_classifier", "nats_publisher", "token"]

MAX_SUBJECT: Final = 3_500  # bytes: a longer control line than 4,096 makes the server hang up on everybody who uses this connection
MAX_HEADERS: Final = 65_535  # bytes that a stream takes

_FIRST_LINE: Final = len(b"NATS/1.0\r\n") + len(b"\r\n")
_MSG_ID: Final = "Nats-Msg-Id"

# What the server says of the message itself: it is larger than the stream takes, or its headers are.
_TOO_LARGE: Final = frozenset({10054, 10097})
# What it says of itself or of the set-up, having stored nothing: no room, no JetStream, another stream than expected, sealed, full.
_NOT_STORED: Final = frozenset({10023, 10028, 10039, 10047, 10060, 10076, 10077, 10109})


def nats_classifier() -> ErrorClassifier:
    """Return the rules for `Relay(classify=...)`.

    What is too large, or has a subject or a header that NATS cannot carry, is NON_RETRYABLE. RETRYABLE is what surely was not stored:
    no stream takes the subject, the stream is full or another one, there is no connection. A missing acknowledgement is UNKNOWN:
    publishing again is safe, because the id stays the same.
    """
    unsent = (
        "nats.js.errors.NoStreamResponseError",
        "nats.errors.NoRespondersError",
        "nats.errors.ConnectionClosedError",
        "nats.errors.ConnectionDrainingError",
        "nats.errors.ConnectionReconnectingError",
        "nats.errors.OutboundBufferLimitError",
        "nats.errors.NoServersError",
    )
    unfit = ("nats.errors.MaxPayloadError", "nats.errors.BadSubjectError", "nats.errors.BadHeaderError")
    rules: dict[type[object] | str, Rule] = dict.fromkeys(unsent, RETRYABLE)
    rules |= dict.fromkeys(unfit, NON_RETRYABLE)
    rules |= {"nats.js.errors.APIError": _by_code, "nats.errors.TimeoutError": UNKNOWN}
    return OUR_RULES | ErrorClassifier(rules)


def nats_publisher(
    client: Any,
    *,
    source: str,
    subject: Callable[[OutboxRow], str] | None = None,
    stream: str | None = None,
    timeout: float | timedelta = 5.0,
) -> Callable[[OutboxRow], Awaitable[None]]:
    """Return a publisher to JetStream. On asyncio only, as the client is.

    An event is published once a stream has acknowledged it; that it knew the id already is an acknowledgement too. Nothing waits in
    the client's buffer for a connection that is gone: such an event is refused, and costs no attempt.

    Args:
        client: a connected `nats.aio.client.Client`, or a `JetStreamContext` of it, as for a domain.
        source: who tells it, a URI reference (CloudEvents).
        subject: where to, a function of the row; by default its topic, `event_subject`. Pass parts of it through `token`.
        stream: the name of the stream that must take it; another one refuses.
        timeout: how long to wait for the acknowledgement; less, if the relay's own limit leaves less.

    Raises:
        ConfigurationError: if an argument cannot work.
    """
    context = client.jetstream() if callable(getattr(client, "jetstream", None)) else client
    connection = getattr(context, "_nc", None)
    if connection is None or not callable(getattr(context, "publish", None)):
        refuse("client", client, "a nats.aio.client.Client, or a JetStreamContext of one")
    checked_function("subject", subject, "a function that makes a row into a subject")
    if stream is not None and (not isinstance(stream, str) or not stream.strip()):
        refuse("stream", stream, "the name of a stream")
    seconds, told_by, gate = checked_seconds(timeout), checked_source(source), Gate()

    async def publish(row: OutboxRow) -> None:
        to = subject_of(row, subject)
        headers = event_headers(row, source=told_by)
        _check_connection(gate, connection)
        check_size(row, headers, connection.max_payload)
        try:
            ack = await context.publish(to, row.message.payload, timeout=patience(seconds), stream=stream, headers=headers)
        except (ValueError, TypeError, AttributeError) as error:  # it could not read the answer
            raise NotConfirmedError("what answered on its subject is no stream; let nobody else reply there") from error
        check_ack(ack)
        gate.passed()

    return publish


def event_subject(row: OutboxRow) -> str:
    """Return the topic as a subject: its dots part it, and what a subject cannot hold is percent-encoded.

    Raises:
        UnpublishableError: if a part of it is empty.
    """
    parts = row.message.topic.split(".")
    if not all(parts):
        raise UnpublishableError("its topic has an empty part between two dots, which no subject can have")
    return ".".join(map(token, parts))


def subject_of(row: OutboxRow, made_by: Callable[[OutboxRow], str] | None) -> str:
    """Return the subject to publish to, which steers nothing but where the event goes.

    Raises:
        UnpublishableError: if NATS would read it as something else.
    """
    if made_by is None:
        return event_subject(row)
    subject = told(made_by, row, "subject")
    if not all(subject.split(".")) or any(letter in "*>" or letter.isspace() for letter in subject):
        raise UnpublishableError("its subject has wildcards, spaces or empty parts: pass the parts of it through token()")
    if len(subject.encode()) > MAX_SUBJECT:
        raise UnpublishableError(f"its subject is longer than {MAX_SUBJECT:,} bytes")
    if subject.startswith(("$", "_INBOX.")):  # the server's own, where a message is a command
        raise UnpublishableError("its subject is one of the server's own")
    return subject


def event_headers(row: OutboxRow, *, source: str) -> dict[str, str]:
    """Return the event's headers for NATS, with the id by which a stream drops what comes twice."""
    headers = attributes(row, source=source, prefix="ce-", percent=True)
    return {**with_own(headers, row, withheld=is_withheld, ascii_only=True), _MSG_ID: str(row.id)}


def is_withheld(name: str) -> bool:
    """Whether a message's own header is a command to the server (roll up, expire, expect) or looks like the server's own word."""
    return name.startswith("nats-") or name in {"status", "description"}


def check_size(row: OutboxRow, headers: dict[str, str], at_most: int) -> None:
    """Refuse what the server would answer by hanging up: the connection is shared, and every attempt would cut it again.

    Raises:
        UnpublishableError: if the event is too large.
    """
    lines = _FIRST_LINE + sum(len(name.encode()) + len(value.encode()) + 4 for name, value in headers.items())
    if lines > MAX_HEADERS:
        raise UnpublishableError(f"its headers take {lines:,} bytes, and a stream takes {MAX_HEADERS:,}")
    if lines + len(row.message.payload) > at_most:
        raise UnpublishableError(f"with its headers it has {lines + len(row.message.payload):,} bytes, and the server takes {at_most:,}")


def check_ack(ack: Any) -> None:
    """Refuse what is no acknowledgement of a stream.

    Raises:
        NotConfirmedError: if it names no stream and no place in it.
    """
    stream, seq = attribute(ack, "stream"), attribute(ack, "seq")
    if not isinstance(stream, str) or not stream or not isinstance(seq, int) or seq < 1:
        raise NotConfirmedError("no stream acknowledged it; let nobody but the stream reply on its subject")


def _check_connection(gate: Gate, connection: Any) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        gate.refuse("the client of NATS runs on asyncio only, and this is no loop of asyncio: run the relay there")
    if not connection.is_connected or attribute(connection, "is_draining"):
        gate.refuse("the client of NATS has no connection now")


def _by_code(error: object) -> Classification:
    code = attribute(error, "err_code")
    if code in _TOO_LARGE:
        return NON_RETRYABLE
    return RETRYABLE if code in _NOT_STORED else UNKNOWN
