"""A cache in a real Valkey: repeats are answered from it, and whatever becomes of it, nobody pays twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
import valkey as sync_valkey
import valkey.asyncio as async_valkey

from finresilience.durable.amemory_idempotency import AsyncMemoryIdempotencyStore
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.durable.records import Claimed, InProgress, KeyState, Record, Replay
from finresilience.integrations.idempotency_cache import AsyncCachedStore, CachedStore
from tests.integration.servers.valkey import start_valkey

if TYPE_CHECKING:
    from collections.abc import Iterator

TERMS: Any = {"fingerprint": "f1", "lease": 60.0}
EVERY_BYTE = bytes(range(256))


@pytest.fixture(params=[False, True], ids=["bytes", "text"])
def client(valkey: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A client, whose answers are bytes or text."""
    made: Any = sync_valkey.Valkey.from_url(valkey, decode_responses=request.param, socket_timeout=1.0)
    yield made
    made.close()


def finished(store: Any, key: str = "k1", answer: bytes = EVERY_BYTE) -> None:
    store.complete(store.claim("m_1", key, **TERMS).token, answer, status="201")


def record_of(store: Any, key: str = "k1") -> Record:
    found: Replay = store.claim("m_1", key, **TERMS)
    return found.record


def test_a_repeat_is_answered_by_the_cache_byte_for_byte(client: Any) -> None:
    store = CachedStore[Any](MemoryIdempotencyStore(), client, ttl=60)
    finished(store)
    answers = [record_of(store) for _ in range(3)]
    assert {(answer.response, answer.status, answer.state) for answer in answers} == {(EVERY_BYTE, "201", KeyState.COMPLETED)}
    assert (store.statistics().hits, store.statistics().stored) == (2, 1)


def test_another_process_is_answered_too_and_its_store_is_not_asked(client: Any) -> None:
    finished(first := CachedStore[Any](MemoryIdempotencyStore(), client, ttl=60))
    first.claim("m_1", "k1", **TERMS)
    other = CachedStore[Any](MemoryIdempotencyStore(), client, ttl=60)  # its own books know nothing
    assert record_of(other).response == EVERY_BYTE


def test_an_answer_is_kept_for_its_time_and_no_longer(client: Any) -> None:
    store = CachedStore[Any](MemoryIdempotencyStore(), client, ttl=60)
    finished(store)
    store.claim("m_1", "k1", **TERMS)
    (name,) = client.keys("*")
    assert 0 < client.pttl(name) <= 60_000


def test_a_name_that_holds_something_else_is_an_error_and_no_answer(client: Any) -> None:
    store = CachedStore[Any](MemoryIdempotencyStore(), client, ttl=60, rest=0)
    name = store._name("m_1", "k1")
    client.rpush(name, "a list")
    finished(store)
    assert isinstance(store.claim("m_1", "k1", **TERMS), Replay)
    assert store.statistics().errors >= 1


def test_a_server_that_dies_makes_it_slower_and_nothing_else() -> None:
    with start_valkey() as server:
        client: Any = sync_valkey.Valkey.from_url(server.url, socket_timeout=0.5, socket_connect_timeout=0.5)
        store = CachedStore[Any](MemoryIdempotencyStore(), client, ttl=60, rest=0)
        finished(store)
        store.claim("m_1", "k1", **TERMS)
    assert record_of(store).response == EVERY_BYTE
    assert isinstance(store.claim("m_1", "k2", **TERMS), Claimed)
    assert isinstance(store.claim("m_1", "k2", **TERMS), InProgress)
    assert store.statistics().errors >= 3
    client.close()


@pytest.fixture
def anyio_backend() -> str:
    """The client is of asyncio."""
    return "asyncio"


async def test_awaited_a_repeat_is_answered_by_the_cache(valkey: str) -> None:
    async with async_valkey.Valkey.from_url(valkey) as client:
        store = AsyncCachedStore[Any](AsyncMemoryIdempotencyStore(), client, ttl=60, timeout=1.0)
        claimed: Any = await store.claim("m_1", "k1", **TERMS)
        await store.complete(claimed.token, EVERY_BYTE)
        answers: list[Any] = [await store.claim("m_1", "k1", **TERMS) for _ in range(3)]
    assert {answer.record.response for answer in answers} == {EVERY_BYTE}
    assert store.statistics().hits == 2


async def test_of_many_who_ask_at_once_and_give_up_nobody_hears_another_ones_answer(valkey: str) -> None:
    """Answers that nobody waits for any more must not be taken for the next question's, whatever the client does with its connection."""
    async with async_valkey.Valkey.from_url(valkey, max_connections=2) as client:
        store = AsyncCachedStore[Any](AsyncMemoryIdempotencyStore(), client, ttl=60, timeout=1.0, rest=0)
        for number in range(20):
            claimed: Any = await store.claim("m_1", f"k{number}", **TERMS)
            await store.complete(claimed.token, b"%d" % number)
            await store.claim("m_1", f"k{number}", **TERMS)
        heard: list[tuple[int, bytes]] = []

        async def ask(number: int) -> None:
            with anyio.move_on_after(0.0002 * (number % 5)):
                found: Any = await store.claim("m_1", f"k{number}", **TERMS)
                heard.append((number, found.record.response))

        for _ in range(10):
            async with anyio.create_task_group() as group:
                for number in range(20):
                    group.start_soon(ask, number)
        for number in range(20):
            found: Any = await store.claim("m_1", f"k{number}", **TERMS)
            heard.append((number, found.record.response))
    assert all(b"%d" % number == answer for number, answer in heard)
