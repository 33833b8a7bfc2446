"""Publishing to a real NATS: what a stream holds, what the server says no to, and what becomes of events while it is down."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from faststream.nats import NatsBroker
from nats.aio.client import Client
from nats.errors import Error
from nats.js.api import DiscardPolicy, StreamConfig
from nats.js.errors import APIError, NoStreamResponseError

from finresilience.durable.memory_outbox import MemoryOutbox
from finresilience.durable.memory_outbox_async import AsyncMemoryOutbox
from finresilience.durable.outbox import Exhausted
from finresilience.integrations.publish_common import BrokerNotReadyError, NotConfirmedError, UnpublishableError
from finresilience.integrations.publish_faststream import faststream_classifier, faststream_publisher
from finresilience.integrations.publish_nats import nats_classifier, nats_publisher, token
from finresilience.outcome import NON_RETRYABLE, RETRYABLE
from tests.durable.relays import committed, relay_of
from tests.integration.servers.nats import start_nats
from tests.integrations.publishing import ID, SOURCE, message, row

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path

EVENTS = 2_000 if os.environ.get("FINRESILIENCE_DEEP") else 200


async def quiet(_: Exception) -> None:
    """The client tells its troubles to the log of the test otherwise."""


@asynccontextmanager
async def connected(url: str, **more: Any) -> AsyncGenerator[Client]:
    client = Client()
    options: dict[str, Any] = {"reconnect_time_wait": 0.02, "max_reconnect_attempts": -1, "error_cb": quiet}
    await client.connect(url, **options | more)
    try:
        yield client
    finally:
        await client.close()


def on_asyncio(url: str, story: Callable[[Client], Awaitable[None]]) -> None:
    async def run() -> None:
        async with connected(url) as client:
            await story(client)

    asyncio.run(run())


async def held(client: Client, name: str) -> list[Any]:
    """Return what the stream holds."""
    streams = client.jetstream()
    last = (await streams.stream_info(name)).state.last_seq
    return [await streams.get_msg(name, seq) for seq in range(1, last + 1)]


def test_a_stream_holds_the_event_with_its_headers_and_once_however_often_it_is_published(nats: str, fresh_name: str) -> None:
    async def story(client: Client) -> None:
        await client.jetstream().add_stream(name=fresh_name, subjects=[f"{fresh_name}.>"])
        publish = nats_publisher(client, source=SOURCE, stream=fresh_name)
        for attempts in range(3):
            await publish(row(topic=f"{fresh_name}.eu", key="Zürich 1", headers={"Shop": "7"}, attempts=attempts))
        [one] = await held(client, fresh_name)
        assert (one.subject, one.data) == (f"{fresh_name}.eu", b'{"n":0}')
        assert (one.headers["ce-id"], one.headers["ce-subject"], one.headers["Shop"]) == (str(ID), "Z%C3%BCrich%201", "7")
        assert one.headers["content-type"] == "application/json"

    on_asyncio(nats, story)


def test_whatever_a_key_is_made_of_its_subject_is_found_again(nats: str, fresh_name: str) -> None:
    keys = ["acc_1", "a.b", "*", ">", "a b", "$JS", "Zürich", "100%", "\U0001f600" * 255]

    async def story(client: Client) -> None:
        await client.jetstream().add_stream(name=fresh_name, subjects=[f"{fresh_name}.*"])
        publish = nats_publisher(client, source=SOURCE, subject=lambda event: f"{fresh_name}.{token(event.message.key)}")
        for n, key in enumerate(keys):
            await publish(row(key=key, id=UUID(int=n + 1)))
        assert [one.subject for one in await held(client, fresh_name)] == [f"{fresh_name}.{token(key)}" for key in keys]

    on_asyncio(nats, story)


SAYS_NO: dict[str, tuple[dict[str, Any], int, Any]] = {
    "a message larger than the stream takes": ({"max_msg_size": 10}, 10054, NON_RETRYABLE),
    "a stream that is full": ({"max_msgs": 1, "discard": DiscardPolicy.NEW}, 10077, RETRYABLE),
    "a stream that has no room": ({"max_bytes": 600, "discard": DiscardPolicy.NEW}, 10077, RETRYABLE),
    "another stream than expected": ({"name": "another"}, 10060, RETRYABLE),
}


@pytest.mark.parametrize(("config", "code", "meaning"), SAYS_NO.values(), ids=SAYS_NO)
def test_what_the_server_says_no_to_is_known_by_its_code(
    nats: str, fresh_name: str, config: dict[str, Any], code: int, meaning: Any
) -> None:
    async def story(client: Client) -> None:
        name = fresh_name + config.get("name", "")
        await client.jetstream().add_stream(StreamConfig(subjects=[f"{fresh_name}.>"], **config | {"name": name}))
        publish = nats_publisher(client, source=SOURCE, stream=fresh_name)
        with pytest.raises(APIError) as caught:
            for n in range(9):
                await publish(row(topic=f"{fresh_name}.eu", id=UUID(int=n + 1)))
        assert caught.value.err_code == code
        assert nats_classifier().error(caught.value).classification is meaning

    on_asyncio(nats, story)


def test_where_no_stream_takes_the_subject_it_is_tried_again_until_there_is_one(nats: str, fresh_name: str) -> None:
    async def story(client: Client) -> None:
        publish = nats_publisher(client, source=SOURCE)
        event = row(topic=f"{fresh_name}.eu")
        with pytest.raises(NoStreamResponseError) as caught:
            await publish(event)
        assert nats_classifier().error(caught.value).classification is RETRYABLE
        await client.jetstream().add_stream(name=fresh_name, subjects=[f"{fresh_name}.>"])
        await publish(event)

    on_asyncio(nats, story)


@pytest.mark.parametrize("answer", [b"hello", b"{}", b"[1]", b'{"stream": "", "seq": 0}', b'{"stream": "x", "seq": "1"}'], ids=str)
def test_somebody_else_who_answers_on_the_subject_confirms_nothing(nats: str, fresh_name: str, answer: bytes) -> None:
    async def story(client: Client) -> None:
        async def reply(asked: Any) -> None:
            await asked.respond(answer)

        await client.subscribe(f"{fresh_name}.eu", cb=reply)
        with pytest.raises(NotConfirmedError):
            await nats_publisher(client, source=SOURCE)(row(topic=f"{fresh_name}.eu"))

    on_asyncio(nats, story)


def test_what_the_server_would_hang_up_on_is_never_sent(nats: str, fresh_name: str) -> None:
    """The client looks at the payload alone: with headers, the server cuts the connection that all publishes share."""

    async def story(client: Client) -> None:
        await client.jetstream().add_stream(name=fresh_name, subjects=[f"{fresh_name}.>"])
        payload, headers = b"x" * 1_000_000, {f"H-{n}": "x" * 8_000 for n in range(7)}
        too_much = row(topic=f"{fresh_name}.eu", payload=payload, headers=headers)
        publish = nats_publisher(client, source=SOURCE)
        with pytest.raises(UnpublishableError, match="the server takes"):
            await publish(too_much)
        assert client.stats["reconnects"] == 0
        with pytest.raises(Error):  # the saboteur: the bare client
            await client.jetstream().publish(f"{fresh_name}.eu", payload, headers=headers, timeout=0.5)
        assert client.stats["reconnects"] > 0 or not client.is_connected

    on_asyncio(nats, story)


def test_headers_that_no_stream_takes_are_told_by_their_code_and_never_sent(nats: str, fresh_name: str) -> None:
    async def story(client: Client) -> None:
        await client.jetstream().add_stream(name=fresh_name, subjects=[f"{fresh_name}.>"])
        headers = {f"H-{n}": "x" * 8_192 for n in range(8)}
        with pytest.raises(UnpublishableError, match="headers take"):
            await nats_publisher(client, source=SOURCE)(row(topic=f"{fresh_name}.eu", headers=headers))
        with pytest.raises(APIError) as caught:
            await client.jetstream().publish(f"{fresh_name}.eu", b"", headers=headers)
        assert nats_classifier().error(caught.value).classification is NON_RETRYABLE

    on_asyncio(nats, story)


# --- a relay ---------------------------------------------------------------------------------------------------------


def outbox(topic: str, events: int) -> AsyncMemoryOutbox:
    store = AsyncMemoryOutbox(MemoryOutbox(partitions=4))
    committed(store, *[message(n, f"acc_{n % 10}", topic=topic) for n in range(events)])
    return store


def arrived(messages: list[Any]) -> list[tuple[str, int]]:
    return [(one.headers["ce-partitionkey"], json.loads(one.data)["n"]) for one in messages]


def in_order(found: list[tuple[str, int]]) -> bool:
    keys = {key for key, _ in found}
    of_key = [[n for known, n in found if known == key] for key in keys]
    return all(numbers == sorted(set(numbers)) for numbers in of_key)


def test_a_relay_brings_each_event_once_and_each_key_in_order(nats: str, fresh_name: str) -> None:
    async def story(client: Client) -> None:
        await client.jetstream().add_stream(name=fresh_name, subjects=[f"{fresh_name}.>"])
        store = outbox(f"{fresh_name}.eu", EVENTS)
        publish = nats_publisher(client, source=SOURCE, stream=fresh_name)
        relays = [relay_of(store, publish, classify=nats_classifier(), publish_timeout=2.0) for _ in range(2)]
        await asyncio.gather(*[relay.run(until_idle=True) for relay in relays])
        await relay_of(store, publish, classify=nats_classifier(), publish_timeout=2.0).run(until_idle=True)
        found = arrived(await held(client, fresh_name))
        assert sorted(n for _, n in found) == list(range(EVENTS))
        assert in_order(found)

    on_asyncio(nats, story)


def test_a_server_that_dies_and_comes_back_costs_no_event_and_no_dead_letter(tmp_path: Path, fresh_name: str) -> None:
    server = start_nats(tmp_path)

    async def story() -> None:
        nonlocal server
        async with connected(server.url) as client:
            await client.jetstream().add_stream(name=fresh_name, subjects=[f"{fresh_name}.>"])
            store = outbox(f"{fresh_name}.eu", EVENTS)
            seen = 0
            publish_by = nats_publisher(client, source=SOURCE, stream=fresh_name)

            async def publish(event: Any) -> None:
                nonlocal seen
                seen += 1
                if seen == EVENTS // 4:
                    server.crash()
                await publish_by(event)

            relay = relay_of(
                store, publish, classify=nats_classifier(), publish_timeout=1.0, exhausted=Exhausted.SKIP_TO_DLQ, poll=(0.02, 0.1)
            )
            running = asyncio.create_task(relay.run())
            while client.is_connected:
                await asyncio.sleep(0.01)
            with pytest.raises(BrokerNotReadyError):
                await publish_by(row())
            await asyncio.sleep(0.5)
            server = await asyncio.to_thread(start_nats, tmp_path, port=server.port)
            while store.store.statistics().pending:
                await asyncio.sleep(0.02)
            relay.stop()
            await running
            found = arrived(await held(client, fresh_name))
            assert {n for _, n in found} == set(range(EVENTS))
            assert in_order(list(dict.fromkeys(found)))
            assert store.store.statistics().dead == 0

    try:
        asyncio.run(story())
    finally:
        server.stop()


def test_faststreams_broker_brings_events_to_a_stream_and_they_come_out_as_they_went_in(nats: str, fresh_name: str) -> None:
    async def story(client: Client) -> None:
        await client.jetstream().add_stream(name=fresh_name, subjects=[f"{fresh_name}.>"])
        store = outbox(f"{fresh_name}.eu", 20)
        broker = NatsBroker(nats)
        publish = faststream_publisher(broker, source=SOURCE, stream=fresh_name)
        with pytest.raises(BrokerNotReadyError):
            await publish(row())
        await broker.start()
        await relay_of(store, publish, classify=faststream_classifier(), publish_timeout=2.0).run(until_idle=True)
        with pytest.raises(NoStreamResponseError):
            await publish(row(topic="nobody"))
        with pytest.raises(UnpublishableError, match="the server takes"):
            await publish(row(payload=b"x" * 1_000_000, headers={f"H-{n}": "x" * 8_000 for n in range(7)}))
        await broker.stop()
        assert sorted(n for _, n in arrived(await held(client, fresh_name))) == list(range(20))

    on_asyncio(nats, story)
