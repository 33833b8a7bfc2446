"""What the tests of publishers share: rows, a world that loses and refuses, and a fake of each broker before it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import nats.errors
import nats.js.errors
from nats.js.api import PubAck

from finresilience.durable.messages import OutboxMessage, OutboxRow
from finresilience.testing.faults import Asked, Fault, FaultKind, FaultPlan

SOURCE = "/payments"
ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
HUGE = 7  # the event that no broker takes


def message(n: int = 0, key: str = "acc_1", **more: Any) -> OutboxMessage:
    plain: dict[str, Any] = {"topic": "payments", "key": key, "type": "Paid", "payload": {"n": n}, "headers": {"Shop": "7"}}
    return OutboxMessage(**plain | more)


def row(n: int = 0, *, attempts: int = 0, takeovers: int = 0, **more: Any) -> OutboxRow:
    created = datetime(2026, 3, 1, 12, tzinfo=UTC)
    plain: dict[str, Any] = {"id": ID}
    told = message(n, **plain | more)
    return OutboxRow(seq=42, part=0, message=told, attempts=attempts, takeovers=takeovers, created_at=created)


# --- the world -------------------------------------------------------------------------------------------------------


class Lost(Exception):
    """The caller hears nothing."""


class Refused(Exception):
    """The caller is told to come again."""


class TooLarge(Exception):
    """The caller is told no."""


@dataclass(frozen=True)
class Arrival:
    id: str
    key: str
    n: int
    headers: dict[str, str]


class World:
    """What a broker keeps, with its moods: each event may be lost before or after it was stored, or refused."""

    def __init__(self, plan: FaultPlan | None = None) -> None:
        self.plan = FaultPlan() if plan is None else plan
        self.arrived: list[Arrival] = []
        self.asked: Counter[int] = Counter()

    def take(self, arrival: Arrival) -> None:
        self.asked[arrival.n] += 1
        fault = self.plan.meets(Asked("publish", str(arrival.n), self.asked[arrival.n]))
        kind = FaultKind.OK if fault is None else fault.kind
        if arrival.n == HUGE:
            raise TooLarge
        if kind is FaultKind.TOO_MANY:
            raise Refused
        if kind is FaultKind.RESET:
            raise Lost
        self.arrived.append(arrival)
        if kind is FaultKind.RESET_AFTER:
            raise Lost


def moods(seed: int) -> FaultPlan:
    """Return a plan by which two of three attempts at first go wrong in some way, and from the fifth on none does."""
    early = (1, 2, 3, 4)
    return FaultPlan([Fault(kind=kind, probability=0.3, nth=early) for kind in TROUBLES], seed=seed)


TROUBLES = (FaultKind.RESET_AFTER, FaultKind.RESET, FaultKind.TOO_MANY)


# --- a fake of each broker -------------------------------------------------------------------------------------------


def endpoint(world: World) -> httpx.MockTransport:
    """An HTTP endpoint that takes CloudEvents in binary mode."""

    def answer(request: httpx.Request) -> httpx.Response:
        headers = dict(request.headers)
        assert headers["ce-id"] == headers["idempotency-key"]
        body = json.loads(request.content)
        try:
            world.take(Arrival(headers["ce-id"], headers["ce-partitionkey"], body["n"], headers))
        except Lost:
            raise httpx.ReadTimeout("silence", request=request) from None
        except Refused:
            return httpx.Response(503, headers={"Retry-After": "2"})
        except TooLarge:
            return httpx.Response(413)
        return httpx.Response(202)

    return httpx.MockTransport(answer)


class FakeNats:
    """What `nats_publisher` needs of a client of NATS: the connection, and JetStream on it."""

    max_payload = 1_048_576
    is_draining = False

    def __init__(self, world: World) -> None:
        self.world = world
        self.is_connected = True
        self.published: list[SimpleNamespace] = []
        self.answer: Any = PubAck(stream="PAYMENTS", seq=1)

    def jetstream(self) -> Any:
        return SimpleNamespace(_nc=self, publish=self.publish)

    async def publish(
        self, subject: str, payload: bytes = b"", timeout: float | None = None, stream: str | None = None, headers: Any = None
    ) -> Any:
        self.published.append(SimpleNamespace(subject=subject, payload=payload, timeout=timeout, stream=stream, headers=headers))
        try:
            self.world.take(Arrival(headers["Nats-Msg-Id"], headers["ce-partitionkey"], json.loads(payload)["n"], headers))
        except Lost:
            raise nats.errors.TimeoutError from None
        except Refused:
            raise nats.js.errors.NoStreamResponseError from None
        except TooLarge:
            raise nats.js.errors.BadRequestError(code=400, err_code=10054) from None
        return self.answer


def named(module: str, name: str, base: type = Exception, **more: Any) -> Any:
    """Return a class of a library that is not installed, by its names."""
    return type(name, (base,), {"__module__": module, **more})


class _FakeBroker:
    """A broker of FastStream, as far as it is called: keeps what it was told, and answers as its library does."""

    trouble: dict[type[Exception], Any]

    def __init__(self, world: World | None = None, answer: Any = None) -> None:
        self.world = World() if world is None else world
        self.answer = self.confirmation if answer is None else answer
        self.told: list[dict[str, Any]] = []

    confirmation: Any = None
    prefix = "ce_"

    async def publish(self, message: bytes, **told: Any) -> Any:
        self.told.append(told)
        headers = told["headers"]
        key = told["key"].decode() if "key" in told else headers[f"{self.prefix}partitionkey"]
        try:
            self.world.take(Arrival(headers[f"{self.prefix}id"], key, json.loads(message)["n"], headers))
        except (Lost, Refused, TooLarge) as error:
            raise self.trouble[type(error)] from None
        return self.answer


AIOKAFKA = "aiokafka.errors"
FakeKafka: Any = named(
    "faststream.kafka.broker.broker",
    "KafkaBroker",
    _FakeBroker,
    confirmation=SimpleNamespace(topic="payments", partition=0, offset=1),
    trouble={
        Lost: named(AIOKAFKA, "KafkaTimeoutError"),
        Refused: named(AIOKAFKA, "NotEnoughReplicasError"),
        TooLarge: named(AIOKAFKA, "MessageSizeTooLargeError"),
    },
)
FakeRabbit: Any = named(
    "faststream.rabbit.broker.broker",
    "RabbitBroker",
    _FakeBroker,
    prefix="cloudEvents_",
    confirmation=SimpleNamespace(name="Basic.Ack", delivery_tag=1),
    trouble={
        Lost: ConnectionResetError,
        Refused: named("aiormq.exceptions", "ChannelNotFoundEntity"),
        TooLarge: UnicodeError,  # RabbitMQ's word for it cannot be told from others; it is buried when its attempts are used up
    },
)
FakeRedis: Any = named(
    "faststream.redis.broker.broker",
    "RedisBroker",
    _FakeBroker,
    confirmation=b"1-0",
    trouble={Lost: named("redis.exceptions", "TimeoutError"), Refused: named("redis.exceptions", "ResponseError"), TooLarge: UnicodeError},
)


# --- saboteurs: each breaks one promise of a publisher ----------------------------------------------------------------


def hasty(publish: Any) -> Any:
    """Says that it is published, whatever the broker said."""

    async def told(event: OutboxRow) -> None:
        try:
            await publish(event)
        except Exception:
            return

    return told


def renaming(publish: Any) -> Any:
    """Gives each attempt an id of its own."""

    async def told(event: OutboxRow) -> None:
        await publish(replace(event, message=replace(event.message, id=uuid4())))

    return told


def keyless(publish: Any) -> Any:
    """Drops the key."""

    async def told(event: OutboxRow) -> None:
        await publish(replace(event, message=replace(event.message, key="all")))

    return told


def bare(publish: Any) -> Any:
    """Loses the message's own headers."""

    async def told(event: OutboxRow) -> None:
        await publish(replace(event, message=replace(event.message, headers={})))

    return told


SABOTEURS = (hasty, renaming, keyless, bare)
