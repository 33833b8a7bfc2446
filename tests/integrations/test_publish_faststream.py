"""Events by FastStream's brokers, before fakes of them: what each is told, what it must answer, and what each error means."""

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from faststream.nats import NatsBroker
from nats.js.api import PubAck

from finresilience.context import deadline
from finresilience.durable.messages import cloudevent
from finresilience.errors import ConfigurationError
from finresilience.integrations.publish_common import BrokerNotReadyError, NotConfirmedError, NotRoutedError, UnpublishableError
from finresilience.integrations.publish_faststream import faststream_classifier, faststream_publisher
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN
from finresilience.testing import ManualClock, instant
from tests.integrations.publishing import AIOKAFKA, ID, SOURCE, TRACE, FakeKafka, FakeNats, FakeRabbit, FakeRedis, World, named, row

if TYPE_CHECKING:
    from finresilience.durable.messages import OutboxRow

FakeConfluent: Any = named("faststream.confluent.broker.broker", "KafkaBroker", FakeKafka)
OPTIONS: dict[Any, dict[str, Any]] = {FakeKafka: {}, FakeConfluent: {}, FakeRabbit: {}, FakeRedis: {"into": "stream"}}
EACH = pytest.mark.parametrize("kind", OPTIONS, ids=["kafka", "confluent", "rabbit", "redis"])


async def told(kind: Any, event: Any, *, answer: Any = None, **more: Any) -> dict[str, Any]:
    """Publish one event, and return what the broker was told."""
    broker = kind(answer=answer)
    await faststream_publisher(broker, source=SOURCE, **OPTIONS[kind] | more)(event)
    [arguments] = broker.told
    return dict(arguments)


# --- what every broker is told ---------------------------------------------------------------------------------------


@EACH
async def test_every_attempt_carries_the_same_ids(kind: Any) -> None:
    first, again = await told(kind, row()), await told(kind, row(attempts=3, takeovers=1))
    assert first == again
    assert str(ID) in first["headers"].values()
    assert first["correlation_id"] == str(ID), "FastStream would make up a new one for every attempt"


@EACH
async def test_its_content_type_its_trace_and_its_own_headers_go_with_it_and_baggage_does_not(kind: Any) -> None:
    arguments = await told(kind, row(traceparent=TRACE, headers={"Shop": "7", "baggage": "user=7"}))
    headers = arguments["headers"]
    assert (headers["content-type"], headers["traceparent"], headers["Shop"]) == ("application/json", TRACE, "7")
    assert "baggage" not in headers


@EACH
async def test_a_message_cannot_steer_who_is_answered_or_where_copies_go(kind: Any) -> None:
    own = {"reply_to": "mallory", "Reply_To": "mallory", "correlation_id": "c_1", "CC": "mallory", "BCC": "mallory", "nats-rollup": "all"}
    arguments = await told(kind, row(headers={**own, "Shop": "7"}))
    assert not {"reply_to", "correlation_id", "cc", "bcc", "nats-rollup"} & {name.lower() for name in arguments["headers"]}
    assert arguments["correlation_id"] == "c_1", "whoever wrote the event may say what it belongs to"


def versioned(event: OutboxRow) -> str:
    return f"{event.message.topic}.v1"


def of_tenant(event: OutboxRow) -> str:
    return f"{event.message.tenant}/{event.message.key}"


@EACH
async def test_the_topic_may_be_made_from_the_row(kind: Any) -> None:
    arguments = await told(kind, row(), topic=versioned)
    assert "payments.v1" in arguments.values()


@pytest.mark.parametrize("kind", [FakeKafka, FakeConfluent, FakeRabbit], ids=["kafka", "confluent", "rabbit"])
async def test_where_headers_are_utf8_they_are_what_they_say(kind: Any) -> None:
    event = row(key="Zürich 1", headers={"City": "Zürich 5%"})
    headers = (await told(kind, event))["headers"]
    prefix = "cloudEvents_" if kind is FakeRabbit else "ce_"
    whole = cloudevent(event, source=SOURCE)
    del whole["data"], whole["datacontenttype"]
    assert {name.removeprefix(prefix): value for name, value in headers.items() if name.startswith(prefix)} == whole
    assert headers["City"] == "Zürich 5%"


# --- what each is told -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FakeKafka, FakeConfluent], ids=["kafka", "confluent"])
async def test_kafka_gets_the_key_so_that_a_key_stays_in_one_partition(kind: Any) -> None:
    arguments = await told(kind, row(key="Zürich"))
    assert (arguments["topic"], arguments["key"]) == ("payments", "Zürich".encode())
    assert (await told(kind, row(tenant="eu"), key=of_tenant))["key"] == b"eu/acc_1"
    assert not {"no_confirm", "timestamp_ms", "partition"} & set(arguments), "it waits for the confirmation, and retention is Kafka's"


@pytest.mark.parametrize("topic", ["a b", "Zürich", "x" * 250, ".", "..", "a/b"])
async def test_a_topic_that_kafka_cannot_have_is_never_sent(topic: str) -> None:
    with pytest.raises(UnpublishableError, match="Kafka's topics"):
        await told(FakeKafka, row(topic=topic))


@pytest.mark.parametrize("made", ["", None, 7, "a\nb"])
async def test_a_key_or_topic_that_is_none_is_never_sent(made: Any) -> None:
    def make(_: OutboxRow) -> Any:
        return made

    with pytest.raises(UnpublishableError, match="key"):
        await told(FakeKafka, row(), key=make)
    with pytest.raises(UnpublishableError, match="topic"):
        await told(FakeRabbit, row(), topic=make)


async def test_rabbitmq_is_told_to_keep_it_and_to_say_if_no_queue_does() -> None:
    event = row()
    arguments = await told(FakeRabbit, event, exchange="events")
    assert (arguments["persist"], arguments["mandatory"], arguments["exchange"]) == (True, True, "events")
    assert (arguments["routing_key"], arguments["message_id"], arguments["message_type"]) == ("payments", str(ID), "Paid")
    assert (arguments["timestamp"], arguments["content_type"]) == (event.created_at, "application/json")
    assert "exchange" not in await told(FakeRabbit, row())


async def test_a_routing_key_that_rabbitmq_cannot_carry_is_never_sent() -> None:
    await told(FakeRabbit, row(topic="ü" * 127))
    with pytest.raises(UnpublishableError, match="255 bytes"):
        await told(FakeRabbit, row(topic="ü" * 128))


async def test_a_confirmation_is_awaited_for_no_longer_than_the_deadline_leaves() -> None:
    with instant(ManualClock()):
        assert (await told(FakeRabbit, row(), timeout=3))["timeout"] == 3.0
        with deadline(0.25):
            assert (await told(FakeRabbit, row()))["timeout"] == 0.25


@pytest.mark.parametrize("into", ["stream", "list"])
async def test_redis_gets_it_into_what_keeps_it(into: str) -> None:
    arguments = await told(FakeRedis, row(), into=into)
    assert arguments[into] == "payments"
    assert not {"channel", "maxlen", {"stream": "list", "list": "stream"}[into]} & set(arguments)


async def test_in_redis_headers_are_ascii_because_faststream_counts_letters_for_bytes() -> None:
    headers = (await told(FakeRedis, row(key="Zürich", headers={"City": "Zürich"})))["headers"]
    assert all(len(value) == len(value.encode()) for value in headers.values())
    assert (headers["ce_subject"], headers["City"]) == ("Z%C3%BCrich", "Z%C3%BCrich")


# --- what counts as published ----------------------------------------------------------------------------------------


class Frame:
    """What aiormq hands back, by the name of its class."""

    def __init__(self, name: str) -> None:
        self.name = name


NOT_CONFIRMED: list[tuple[Any, Any, str]] = [
    (FakeKafka, None, "acks"),
    (FakeConfluent, None, "acks"),
    (FakeKafka, SimpleNamespace(add_done_callback=print), "acks"),
    (FakeRabbit, None, "publisher_confirms"),
    (FakeRabbit, Frame("Basic.Nack"), "other than an acknowledgement"),
    (FakeRabbit, True, "other than an acknowledgement"),
    (FakeRedis, None, "no place"),
    (FakeRedis, 0, "no place"),
    (FakeRedis, b"", "no place"),
]


@pytest.mark.parametrize(("kind", "answer", "why"), NOT_CONFIRMED, ids=range(len(NOT_CONFIRMED)))
async def test_what_is_no_confirmation_is_not_taken_for_one(kind: Any, answer: Any, why: str) -> None:
    broker = kind()
    broker.answer = answer
    with pytest.raises(NotConfirmedError, match=why):
        await faststream_publisher(broker, source=SOURCE, **OPTIONS[kind])(row())


async def test_a_message_that_rabbitmq_returns_was_not_published_although_nothing_was_raised() -> None:
    returned = SimpleNamespace(delivery=SimpleNamespace(name="Basic.Return", reply_code=312), header=None, body=b"")
    with pytest.raises(NotRoutedError, match="no queue"):
        await told(FakeRabbit, row(), answer=returned)


@pytest.mark.parametrize("answer", [b"1-0", "2-0", 3])
async def test_a_place_in_redis_is_a_confirmation(answer: Any) -> None:
    await told(FakeRedis, row(), answer=answer)


def raising(error: Any) -> Any:
    """Return a broker that raises this."""

    async def publish(_: bytes, **__: Any) -> Any:
        raise error

    broker = FakeKafka()
    broker.publish = publish
    return broker


async def test_a_broker_that_was_not_started_refuses_all_and_uses_up_no_attempt(caplog: pytest.LogCaptureFixture) -> None:
    publish = faststream_publisher(raising(named("faststream.exceptions", "IncorrectState")), source=SOURCE)
    for _ in range(3):
        with pytest.raises(BrokerNotReadyError, match="start"):
            await publish(row())
    assert len(caplog.records) == 1


async def test_what_a_broker_raises_is_raised_as_it_is() -> None:
    with pytest.raises(ConnectionResetError, match="mine"):
        await faststream_publisher(raising(ConnectionResetError("mine")), source=SOURCE)(row())


async def test_inside_a_test_broker_which_confirms_nothing_it_is_believed() -> None:
    broker = FakeKafka()
    broker.answer = None
    broker.config = SimpleNamespace(producer=named("faststream.kafka.testing", "FakeProducer")())
    await faststream_publisher(broker, source=SOURCE)(row())
    broker.config = SimpleNamespace(producer=named("acme.testing", "FakeProducer")())
    with pytest.raises(NotConfirmedError):
        await faststream_publisher(broker, source=SOURCE)(row())


# --- FastStream's own NatsBroker, before a fake of JetStream ----------------------------------------------------------


def by_nats_broker(event: Any, client: FakeNats, **more: Any) -> None:
    async def story() -> None:
        broker = NatsBroker()
        broker.config.js_producer.connect(client.jetstream(), None)
        await faststream_publisher(broker, source=SOURCE, stream="PAYMENTS", **more)(event)

    asyncio.run(story())


def test_faststreams_broker_of_nats_publishes_to_the_stream_under_the_events_id() -> None:
    client = FakeNats(World())
    by_nats_broker(row(topic="payments.eu", headers={"Shop": "7", "reply_to": "mallory"}), client)
    [sent] = client.published
    assert (sent.subject, sent.stream, sent.payload) == ("payments.eu", "PAYMENTS", b'{"n":0}')
    assert sent.headers["Nats-Msg-Id"] == sent.headers["ce-id"] == sent.headers["correlation_id"] == str(ID)
    assert (sent.headers["content-type"], sent.headers["Shop"]) == ("application/json", "7")
    assert "reply_to" not in sent.headers


def test_by_faststream_too_only_a_stream_confirms() -> None:
    client = FakeNats(World())
    client.answer = PubAck(stream="", seq=0)
    with pytest.raises(NotConfirmedError):
        by_nats_broker(row(), client)


def test_faststreams_broker_of_nats_that_was_not_started_is_not_ready() -> None:
    async def story() -> None:
        await faststream_publisher(NatsBroker(), source=SOURCE, stream="PAYMENTS")(row())

    with pytest.raises(BrokerNotReadyError):
        asyncio.run(story())


# --- the fakes are held against FastStream's source -------------------------------------------------------------------


def parameters(package: str) -> set[str]:
    """Return what `publish` of this package's broker can be told, from its source: what it needs may not be installed."""
    spec = find_spec("faststream")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).parent / package / "broker" / "broker.py"
    functions = [
        node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.AsyncFunctionDef) and node.name == "publish"
    ]
    given = functions[-1].args  # the overloads come before it
    return {argument.arg for argument in (*given.args, *given.kwonlyargs)}


@EACH
async def test_faststreams_publish_takes_all_that_it_is_told(kind: Any) -> None:
    package = kind.__module__.split(".")[1]
    more: dict[str, Any] = {"exchange": "events"} if package == "rabbit" else {}
    assert set(await told(kind, row(), **more)) <= parameters(package)


def test_nothing_of_faststream_is_imported_by_it() -> None:
    code = (
        "import sys, finresilience.integrations.publish_faststream, finresilience.integrations.publish_http;"
        "print([name for name in sys.modules if name.split('.')[0] in ('faststream', 'nats', 'httpx', 'httpx2')])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


# --- what an error means ---------------------------------------------------------------------------------------------

RABBIT, REDIS = "aiormq.exceptions", "redis.exceptions"
BASE = named(REDIS, "ResponseError")


def confluent(code: int) -> Exception:
    error: Exception = named("cimpl", "KafkaException")(SimpleNamespace(code=lambda: code))
    return error


MEANINGS: list[tuple[str, Any, Any]] = [
    *[(name, named(AIOKAFKA, name)(), RETRYABLE) for name in ("NotEnoughReplicasError", "KafkaConnectionError", "ProducerClosed")],
    *[(name, named(AIOKAFKA, name)(), RETRYABLE) for name in ("TopicAuthorizationFailedError", "UnknownTopicOrPartitionError")],
    *[
        (name, named(AIOKAFKA, name)(), NON_RETRYABLE)
        for name in ("MessageSizeTooLargeError", "RecordListTooLargeError", "InvalidTopicError")
    ],
    *[
        (name, named(AIOKAFKA, name)(), UNKNOWN)
        for name in ("KafkaTimeoutError", "RequestTimedOutError", "NotEnoughReplicasAfterAppendError")
    ],
    ("too large for confluent", confluent(10), NON_RETRYABLE),
    ("no topic of confluent", confluent(3), RETRYABLE),
    ("timed out of confluent", confluent(-192), UNKNOWN),
    ("too few replicas after all", confluent(20), UNKNOWN),
    ("confluent without a code", named("cimpl", "KafkaException")("no"), UNKNOWN),
    ("confluent without anything", named("cimpl", "KafkaException")(), UNKNOWN),
    *[(name, named(RABBIT, name)(), RETRYABLE) for name in ("ChannelNotFoundEntity", "ChannelAccessRefused")],
    *[(name, named(RABBIT, name)(), UNKNOWN) for name in ("ConnectionClosed", "ChannelPreconditionFailed")],
    ("returned by RabbitMQ", named(RABBIT, "PublishError", named(RABBIT, "DeliveryError"))(), RETRYABLE),
    ("nack, perhaps by one queue of two", named(RABBIT, "DeliveryError")(), UNKNOWN),
    *[(name, named(REDIS, name, BASE)(), RETRYABLE) for name in ("OutOfMemoryError", "ReadOnlyError", "NoPermissionError")],
    *[(f"redis {name}", named(REDIS, name)(), UNKNOWN) for name in ("ConnectionError", "TimeoutError")],
    ("not routed", NotRoutedError("no queue"), RETRYABLE),
    ("unpublishable", UnpublishableError("no"), NON_RETRYABLE),
    ("anything", OSError(), UNKNOWN),
]


@pytest.mark.parametrize(("error", "meaning"), [told[1:] for told in MEANINGS], ids=[told[0] for told in MEANINGS])
def test_an_error_means_no_more_than_is_known(error: Exception, meaning: Any) -> None:
    assert faststream_classifier().error(error).classification is meaning


# --- what it refuses -------------------------------------------------------------------------------------------------

WRONG: list[tuple[Any, dict[str, Any], str]] = [
    (object(), {}, "broker"),
    (None, {}, "broker"),
    (named("faststream.mqtt.broker.broker", "MQTTBroker")(), {}, "broker"),
    (named("acme.kafka", "KafkaBroker")(), {}, "broker"),
    (named("faststream.kafka.publisher", "LogicPublisher")(), {}, "broker"),
    (FakeRedis(), {}, "channel of Redis keeps nothing"),
    (FakeRedis(), {"into": "channel"}, "channel of Redis keeps nothing"),
    (NatsBroker(), {}, "NATS keeps nothing and confirms nothing"),
    (NatsBroker(), {"stream": " "}, "stream"),
    (FakeKafka(), {"into": "stream"}, "into= means nothing to FastStream's kafka broker: it is for redis"),
    (FakeKafka(), {"stream": "PAYMENTS"}, "it is for nats"),
    (FakeKafka(), {"exchange": "events"}, "it is for rabbit"),
    (FakeRabbit(), {"key": of_tenant}, "it is for kafka and confluent"),
    (FakeKafka(), {"key": "acc_1"}, "key"),
    (FakeKafka(), {"topic": "payments"}, "topic"),
    (FakeKafka(), {"source": ""}, "source"),
    (FakeKafka(), {"timeout": 0}, "timeout"),
]


@pytest.mark.parametrize(("broker", "options", "why"), WRONG, ids=range(len(WRONG)))
def test_what_cannot_work_is_refused_with_the_reason(broker: Any, options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        plain: dict[str, Any] = {"source": SOURCE}
        faststream_publisher(broker, **plain | options)


@pytest.mark.parametrize("name", ["RedisClusterBroker", "RedisSentinelBroker"])
async def test_a_broker_that_is_a_redis_broker_by_descent_will_do(name: str) -> None:
    broker = named("faststream.redis.broker.other", name, FakeRedis)()
    await faststream_publisher(broker, source=SOURCE, into="list")(row())
    assert broker.told[0]["list"] == "payments"
