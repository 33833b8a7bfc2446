"""How do events reach a broker that FastStream speaks to? Kafka, RabbitMQ, Redis or NATS, each with what makes its publish durable."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast

from finresilience._checks import refuse
from finresilience.classify.classifier import ErrorClassifier, Rule
from finresilience.classify.extract import attribute, class_names
from finresilience.errors import ConfigurationError
from finresilience.integrations.publish_common import (
    OUR_RULES,
    Gate,
    NotConfirmedError,
    NotRoutedError,
    UnpublishableError,
    attributes,
    checked_function,
    checked_seconds,
    checked_source,
    patience,
    told,
    with_own,
)
from finresilience.integrations.publish_nats import check_ack, check_size, event_headers, is_withheld, nats_classifier, subject_of
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Classification

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from datetime import timedelta

    from finresilience.durable.messages import OutboxRow

__all__ = ["faststream_classifier", "faststream_publisher"]

_NOT_STARTED: Final = "faststream.exceptions.IncorrectState"
_STEERING: Final = frozenset({"correlation_id", "reply_to"})  # headers by which FastStream's consumers answer, and to whom
_COPIES: Final = frozenset({"cc", "bcc"})  # by which RabbitMQ routes further copies
_KAFKA_TOPIC: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")
_ROUTING_KEY: Final = 255  # bytes
_NO_SERVER_TAKES: Final = 1 << 26  # bytes of a message of NATS, where the server has not said how many it takes

_UNSENT: Final = (  # surely not stored: refused, or asked of somebody who could not
    _NOT_STARTED,
    "aiokafka.errors.KafkaConnectionError",
    "aiokafka.errors.LeaderNotAvailableError",
    "aiokafka.errors.NotEnoughReplicasError",
    "aiokafka.errors.NotLeaderForPartitionError",
    "aiokafka.errors.ProducerClosed",
    "aiokafka.errors.TopicAuthorizationFailedError",
    "aiokafka.errors.UnknownTopicOrPartitionError",
    "aiormq.exceptions.ChannelAccessRefused",
    "aiormq.exceptions.ChannelNotFoundEntity",
    "aiormq.exceptions.PublishError",  # returned: no queue takes it
    "redis.exceptions.ResponseError",  # the server's word that it has not carried the command out: full, read only, not allowed
)
_UNFIT: Final = (
    "aiokafka.errors.InvalidTopicError",
    "aiokafka.errors.MessageSizeTooLargeError",
    "aiokafka.errors.RecordListTooLargeError",
    "aiokafka.errors.RecordTooLargeError",
)
# The connection broke, before or after: nobody knows. Named, so that no rule for a base class answers for them.
_LOST: Final = ("aiokafka.errors.KafkaTimeoutError", "aiokafka.errors.RequestTimedOutError", "aiormq.exceptions.DeliveryError")

_CODES: Final = {
    3: RETRYABLE,
    5: RETRYABLE,
    6: RETRYABLE,
    10: NON_RETRYABLE,
    17: NON_RETRYABLE,
    18: NON_RETRYABLE,
    19: RETRYABLE,
    29: RETRYABLE,
}


_CONFLUENT: Final = ("cimpl.KafkaException", "confluent_kafka.cimpl.KafkaException")


class _Options(NamedTuple):
    broker: Any
    topic: Callable[[OutboxRow], str] | None
    key: Callable[[OutboxRow], str] | None
    exchange: Any
    stream: str | None
    into: Literal["stream", "list"] | None
    source: str
    timeout: float


_Make = Callable[["OutboxRow", _Options], dict[str, Any]]
_Confirm = Callable[[Any], None]


def faststream_classifier() -> ErrorClassifier:
    """Return the rules for `Relay(classify=...)`, for all brokers that `faststream_publisher` knows.

    Too large, or a topic that cannot exist, is NON_RETRYABLE. RETRYABLE is what surely was not stored: no such topic, queue or
    stream, not allowed, no leader, too few replicas. All others are UNKNOWN; publishing again is safe, because the id stays the same.
    """
    rules: dict[type[object] | str, Rule] = dict.fromkeys(_UNSENT, RETRYABLE)
    rules |= dict.fromkeys(_UNFIT, NON_RETRYABLE)
    rules |= dict.fromkeys(_LOST, UNKNOWN)
    rules |= dict.fromkeys(_CONFLUENT, _by_code)
    return OUR_RULES | ErrorClassifier(rules) | nats_classifier()


def faststream_publisher(
    broker: Any,
    *,
    source: str,
    topic: Callable[[OutboxRow], str] | None = None,
    key: Callable[[OutboxRow], str] | None = None,
    exchange: Any = None,
    stream: str | None = None,
    into: Literal["stream", "list"] | None = None,
    timeout: float | timedelta = 10.0,
) -> Callable[[OutboxRow], Awaitable[None]]:
    """Return a publisher by a FastStream broker, which must be started, of Kafka (aiokafka, confluent), RabbitMQ, Redis or NATS.

    Each is told to confirm, and is believed only if it did. RabbitMQ: persistent, mandatory, with the message id. NATS: by JetStream.
    Redis: into a stream or a list, never a channel, which keeps nothing.

    Args:
        broker: a `KafkaBroker`, `RabbitBroker`, `RedisBroker` or `NatsBroker`.
        source: who tells it, a URI reference (CloudEvents).
        topic: Kafka's topic, RabbitMQ's routing key, the name in Redis, NATS's subject, as a function of the row; by default its topic.
        key: Kafka's message key, as a function of the row; by default the event's key, so that a key stays in one partition.
        exchange: RabbitMQ's exchange; by default the one that routes to the queue of the topic's name.
        stream: the stream of JetStream that must take it; NATS needs it.
        into: what a topic is in Redis, "stream" or "list"; Redis needs it.
        timeout: how long a confirmation of RabbitMQ or NATS may take; less, if the relay's own limit leaves less.

    Raises:
        ConfigurationError: if it is no such broker, or an argument cannot work with it.
    """
    checked_function("topic", topic, "a function that makes a row into a topic")
    checked_function("key", key, "a function that makes a row into a key")
    options = _Options(broker, topic, key, exchange, stream, into, checked_source(source), checked_seconds(timeout))
    make, confirm = _BROKERS[_kind_of(broker, options)]
    gate, publish_by = Gate(), broker.publish

    async def publish(row: OutboxRow) -> None:
        arguments = make(row, options)
        try:
            answer = await publish_by(row.message.payload, **arguments)
        except Exception as error:
            if _NOT_STARTED in class_names(error):
                gate.refuse("the broker is not started: await broker.start() before the relay runs")
            raise
        if not _is_in_test(broker):
            confirm(answer)
        gate.passed()

    return publish


# --- what each broker is told, and what it must answer -----------------------------------------------------------------


def _for_kafka(row: OutboxRow, options: _Options) -> dict[str, Any]:
    topic = _topic(row, options)
    if _KAFKA_TOPIC.fullmatch(topic) is None:
        raise UnpublishableError("Kafka's topics have letters, digits, dots, underscores and hyphens only, at most 249")
    key = row.message.key if options.key is None else told(options.key, row, "key")
    return {"topic": topic, "key": key.encode(), **_headed(row, options, prefix="ce_", ascii_only=False)}


def _for_rabbit(row: OutboxRow, options: _Options) -> dict[str, Any]:
    routing_key = _topic(row, options)
    if len(routing_key.encode()) > _ROUTING_KEY:
        raise UnpublishableError(f"a routing key of RabbitMQ has at most {_ROUTING_KEY} bytes")
    told_by = {"routing_key": routing_key} if options.exchange is None else {"routing_key": routing_key, "exchange": options.exchange}
    return {
        **told_by,
        "mandatory": True,
        "persist": True,
        "timeout": patience(options.timeout),
        "message_id": str(row.id),
        "message_type": row.message.type,
        "content_type": row.message.content_type,
        "timestamp": row.created_at,
        **_headed(row, options, prefix="cloudEvents_", ascii_only=False),
    }


def _for_redis(row: OutboxRow, options: _Options) -> dict[str, Any]:
    # ASCII only: FastStream's format counts the letters of a header where it means its bytes, and nobody could read the rest.
    return {str(options.into): _topic(row, options), **_headed(row, options, prefix="ce_", ascii_only=True)}


def _for_nats(row: OutboxRow, options: _Options) -> dict[str, Any]:
    headers = _unsteered(event_headers(row, source=options.source))
    connection = attribute(attribute(attribute(options.broker, "config"), "connection_state"), "connection")
    at_most = attribute(connection, "max_payload")
    check_size(row, {**headers, "correlation_id": _correlation(row)}, at_most if isinstance(at_most, int) else _NO_SERVER_TAKES)
    return {
        "subject": subject_of(row, options.topic),
        "stream": options.stream,
        "timeout": patience(options.timeout),
        "headers": headers,
        "correlation_id": _correlation(row),
    }


def _by_kafka(answer: Any) -> None:
    if answer is None or callable(getattr(answer, "add_done_callback", None)):
        raise NotConfirmedError("Kafka confirms nothing with acks=0: give the broker acks='all'")


def _by_rabbit(answer: Any) -> None:
    if answer is None:
        raise NotConfirmedError("RabbitMQ confirms nothing on this channel: leave its publisher_confirms on")
    if attribute(answer, "delivery") is not None:  # returned: `mandatory`, and no queue; FastStream's channels do not raise this
        raise NotRoutedError("no queue of RabbitMQ is bound for its routing key")
    if attribute(answer, "name") != "Basic.Ack":
        raise NotConfirmedError("RabbitMQ answered with something other than an acknowledgement")


def _by_redis(answer: Any) -> None:
    if not answer:  # the id in a stream, or the length of a list
        raise NotConfirmedError("Redis gave it no place in a stream or list")


class _Broker(NamedTuple):
    make: _Make
    confirm: _Confirm


_BROKERS: Final = {
    "kafka": _Broker(_for_kafka, _by_kafka),
    "confluent": _Broker(_for_kafka, _by_kafka),
    "rabbit": _Broker(_for_rabbit, _by_rabbit),
    "redis": _Broker(_for_redis, _by_redis),
    "nats": _Broker(_for_nats, check_ack),
}
_CLASSES: Final = {"KafkaBroker", "RabbitBroker", "RedisBroker", "NatsBroker"}
_TAKES: Final = {"key": ("kafka", "confluent"), "exchange": ("rabbit",), "stream": ("nats",), "into": ("redis",)}


def _kind_of(broker: object, options: _Options) -> str:
    kind = next((kind for name in class_names(broker) if (kind := _known(name)) is not None), None)
    if kind is None:
        refuse("broker", broker, "a KafkaBroker, RabbitBroker, RedisBroker or NatsBroker of FastStream")
    for name, kinds in _TAKES.items():
        if getattr(options, name) is not None and kind not in kinds:
            message = f"{name}= means nothing to FastStream's {kind} broker: it is for {' and '.join(kinds)}"
            raise ConfigurationError(message)
    if kind == "nats" and not (isinstance(options.stream, str) and options.stream.strip()):
        refuse("stream", options.stream, "the name of the stream of JetStream: without one, NATS keeps nothing and confirms nothing")
    if kind == "redis" and options.into not in {"stream", "list"}:
        refuse("into", options.into, "'stream' or 'list': a channel of Redis keeps nothing for consumers that are away")
    return kind


def _known(name: str) -> str | None:
    """Return which of FastStream's brokers a class is, by "module.Name"; nothing is imported."""
    package, _, rest = name.partition(".")
    kind = rest.partition(".")[0]
    return kind if package == "faststream" and kind in _BROKERS and name.rpartition(".")[2] in _CLASSES else None


def _is_in_test(broker: object) -> bool:
    """Whether it is inside one of FastStream's own test brokers, which deliver in memory and confirm nothing."""
    module = type(attribute(attribute(broker, "config"), "producer")).__module__
    return module.startswith("faststream.") and module.endswith(".testing")


def _topic(row: OutboxRow, options: _Options) -> str:
    return row.message.topic if options.topic is None else told(options.topic, row, "topic")


def _headed(row: OutboxRow, options: _Options, *, prefix: str, ascii_only: bool) -> dict[str, Any]:
    headers = attributes(row, source=options.source, prefix=prefix, percent=ascii_only)
    headers = with_own(headers, row, withheld=_steers, ascii_only=ascii_only)
    return {"headers": headers, "correlation_id": _correlation(row)}


def _steers(name: str) -> bool:
    return name in _STEERING or name in _COPIES or is_withheld(name)


def _unsteered(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _STEERING}


def _correlation(row: OutboxRow) -> str:
    """Return what FastStream would make up, a new one for every attempt."""
    return row.message.headers.get("correlation_id") or str(row.id)


def _by_code(error: object) -> Classification:
    """Judge an error of confluent's: it holds the code of Kafka's protocol in its first argument."""
    held = cast("tuple[object, ...]", getattr(error, "args", ()))
    code = attribute(held[0], "code") if held else None
    number = code() if callable(code) else None
    return _CODES.get(number, UNKNOWN) if isinstance(number, int) else UNKNOWN
