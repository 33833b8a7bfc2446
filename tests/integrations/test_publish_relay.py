"""A relay and each publisher before a broker that loses, refuses and says no: nothing is lost, and what comes twice has one id."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from finresilience.clock import ruling_clock
from finresilience.durable.memory_outbox import MemoryOutbox
from finresilience.durable.memory_outbox_async import AsyncMemoryOutbox
from finresilience.durable.outbox import Exhausted
from finresilience.integrations.publish_faststream import faststream_classifier, faststream_publisher
from finresilience.integrations.publish_http import http_publish_classifier, http_publisher
from finresilience.integrations.publish_local import local_classifier, local_publisher
from finresilience.integrations.publish_nats import nats_classifier, nats_publisher
from finresilience.policies.breaker import CircuitBreaker
from finresilience.testing import instant, run_virtual
from tests.durable.relays import committed, relay_of
from tests.integrations.publishing import (
    HUGE,
    SABOTEURS,
    SOURCE,
    Arrival,
    FakeKafka,
    FakeNats,
    FakeRabbit,
    FakeRedis,
    World,
    endpoint,
    message,
    moods,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.durable.messages import OutboxRow

SEEDS = 200 if os.environ.get("FINRESILIENCE_DEEP") else 4
KEYS = ("acc_1", "acc_2", "acc_3")
EVENTS = 12


def by_http(world: World) -> tuple[Any, ErrorClassifier]:
    client = httpx.AsyncClient(transport=endpoint(world))
    return http_publisher(client, "https://bus.test/in", source=SOURCE), http_publish_classifier()


def by_nats(world: World) -> tuple[Any, ErrorClassifier]:
    return nats_publisher(FakeNats(world), source=SOURCE, stream="PAYMENTS"), nats_classifier()


def by_kafka(world: World) -> tuple[Any, ErrorClassifier]:
    return faststream_publisher(FakeKafka(world), source=SOURCE), faststream_classifier()


def by_rabbit(world: World) -> tuple[Any, ErrorClassifier]:
    return faststream_publisher(FakeRabbit(world), source=SOURCE), faststream_classifier()


def by_redis(world: World) -> tuple[Any, ErrorClassifier]:
    return faststream_publisher(FakeRedis(world), source=SOURCE, into="stream"), faststream_classifier()


def in_process(world: World) -> tuple[Any, ErrorClassifier]:
    def take(event: OutboxRow) -> None:
        world.take(Arrival(str(event.id), event.message.key, event.message.json()["n"], dict(event.message.headers)))

    return local_publisher({"payments": take}), local_classifier()


ON_BOTH = [(by_http, "asyncio"), (by_http, "trio"), (in_process, "asyncio"), (in_process, "trio")]
ON_ASYNCIO = [(made, "asyncio") for made in (by_nats, by_kafka, by_rabbit, by_redis)]
WAYS = pytest.mark.parametrize(("made", "backend"), ON_BOTH + ON_ASYNCIO, ids=lambda one: one if isinstance(one, str) else one.__name__)


async def relayed(publish: Any, rules: ErrorClassifier) -> tuple[AsyncMemoryOutbox, list[str]]:
    """Relay the events until none is left, and return the outbox and the ids under which they were added."""
    store = AsyncMemoryOutbox(MemoryOutbox(partitions=2))
    ids: list[str] = []
    with store.transaction() as transaction:
        ids += [str(store.add(transaction, message(n, KEYS[n % len(KEYS)]))) for n in range(EVENTS)]
    for _ in range(30):
        await relay_of(store, publish, classify=rules, exhausted=Exhausted.SKIP_TO_DLQ).run(until_idle=True)
        if not store.store.statistics().pending:
            return store, ids
        await ruling_clock().sleep(61)
    raise AssertionError(f"{store.store.statistics().pending} events are still there")


def check(world: World, store: AsyncMemoryOutbox, ids: list[str]) -> None:
    """Assert what publishers promise together with their relay."""
    dead = {str(letter.row.id) for letter in store.store.dead_letters()}
    assert dead == {ids[HUGE]}, "only the event that no broker takes is a dead letter"
    assert {one.n for one in world.arrived} == set(range(EVENTS)) - {HUGE}, "nothing else is lost"
    assert all(one.id == ids[one.n] for one in world.arrived), "each has its own id, every time"
    assert all(one.key == KEYS[one.n % len(KEYS)] for one in world.arrived), "each has its key"
    assert all("7" in one.headers.values() for one in world.arrived), "each has its message's headers"
    for key in KEYS:
        first = list(dict.fromkeys(one.n for one in world.arrived if one.key == key))
        assert first == sorted(first), "each key keeps its order"


def tried(made: Callable[[World], tuple[Any, ErrorClassifier]], backend: Any, seed: int, broken: Any = None) -> World:
    world = World(moods(seed))
    publish, rules = made(world)
    store, ids = run_virtual(partial(relayed, publish if broken is None else broken(publish), rules), backend=backend)
    check(world, store, ids)
    return world


@WAYS
def test_before_a_broker_that_fails_nothing_is_lost_and_what_comes_twice_has_one_id(made: Any, backend: str) -> None:
    worlds = [tried(made, backend, seed) for seed in range(SEEDS)]
    assert any(len(world.arrived) > EVENTS for world in worlds), "some came twice, or the moods were too good to prove anything"


@pytest.mark.parametrize("broken", SABOTEURS, ids=lambda saboteur: saboteur.__name__)
@pytest.mark.parametrize("made", [by_http, by_nats, by_kafka, by_rabbit, by_redis], ids=lambda made: made.__name__)
def test_a_publisher_that_breaks_its_promise_is_found_out(made: Any, broken: Any) -> None:
    with pytest.raises(AssertionError):
        tried(made, "asyncio", 1, broken)


def test_what_no_broker_takes_holds_up_no_other_key_and_is_tried_once() -> None:
    world = tried(by_http, "asyncio", 3)
    assert world.asked[HUGE] == 1


def test_the_sync_publisher_keeps_the_same_promises_under_run_sync() -> None:
    world = World(moods(2))
    publish = http_publisher(httpx.Client(transport=endpoint(world)), "https://bus.test/in", source=SOURCE)
    with instant() as clock:
        store = MemoryOutbox(partitions=2)
        committed(store, *[message(n, KEYS[n % len(KEYS)]) for n in range(EVENTS) if n != HUGE])
        while store.statistics().pending:
            relay_of(store, publish, classify=http_publish_classifier()).run_sync(until_idle=True)
            clock.advance(61)
    assert {one.n for one in world.arrived} == set(range(EVENTS)) - {HUGE}
    assert len({one.id for one in world.arrived}) == EVENTS - 1
    assert store.statistics().dead == 0


def test_while_the_connection_is_gone_nothing_is_sent_and_no_attempt_is_used_up() -> None:
    world = World()
    client = FakeNats(world)

    async def story() -> Any:
        store = AsyncMemoryOutbox(MemoryOutbox(partitions=1))
        committed(store, *[message(n) for n in range(5)])
        publish = nats_publisher(client, source=SOURCE)
        client.is_connected = False
        for _ in range(200):  # a night, with a relay that gives each event two attempts
            await relay_of(store, publish, classify=nats_classifier(), max_attempts=2).run(until_idle=True)
            await ruling_clock().sleep(180)
        assert not client.published
        client.is_connected = True
        await ruling_clock().sleep(61)
        await relay_of(store, publish, classify=nats_classifier(), max_attempts=2).run(until_idle=True)
        return store.store.statistics()

    stood = run_virtual(story, backend="asyncio")
    assert (stood.published, stood.dead) == (5, 0)
    assert [one.n for one in world.arrived] == [0, 1, 2, 3, 4]


def test_an_outage_of_hours_buries_nothing_behind_a_circuit_with_as_many_attempts_as_it_has_probes() -> None:
    arrived: list[str] = []
    rules = http_publish_classifier()

    def answer(request: httpx.Request) -> httpx.Response:
        if clock.monotonic() < back_at:
            raise httpx.ConnectError("refused", request=request)
        arrived.append(request.headers["ce-id"])
        return httpx.Response(202)

    with instant() as clock:
        back_at = clock.monotonic() + 6 * 3600
        store = MemoryOutbox(partitions=1)
        committed(store, *[message(n, f"acc_{n}") for n in range(5)])
        client = httpx.Client(transport=httpx.MockTransport(answer))
        publish = http_publisher(client, "https://bus.test/in", source=SOURCE)
        guarded = CircuitBreaker("bus", open_for=30.0, classify=rules, listeners=())(publish)
        relay = relay_of(store, guarded, classify=rules, max_attempts=5_000)
        while store.statistics().pending:
            relay.run_sync(until_idle=True)
            clock.advance(31)
    assert (store.statistics().published, store.statistics().dead) == (5, 0)
    assert len(set(arrived)) == len(arrived) == 5
