"""A cache makes repeats faster. It is never the guard, and whatever is wrong with it, the store is asked."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from hypothesis import given, strategies as st

from finresilience import ConfigurationError
from finresilience.durable.amemory_idempotency import AsyncMemoryIdempotencyStore
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.durable.records import Claimed, KeyState, Replay
from finresilience.integrations.idempotency_cache import AsyncCachedStore, CachedStore, CacheStatistics
from finresilience.testing import ManualClock, run_virtual
from tests.integrations.asgi_calls import without_addresses
from tests.integrations.idempotency_shelf import AsyncShelf, Shelf, World
from tests.integrations.idempotency_shop import Shop

TERMS: Any = {"fingerprint": "f1", "lease": 60.0}


# ---------------------------------------------------------------- what it is for


def test_a_repeat_of_what_is_finished_does_not_ask_the_store() -> None:
    world = World()
    world.finished()
    before = world.counted.claims
    answers = [world.claim() for _ in range(5)]
    assert world.counted.claims == before
    assert {(answer.record.response, answer.record.status, answer.record.state) for answer in answers} == {
        (b"paid", "201", KeyState.COMPLETED)
    }
    assert world.was == CacheStatistics(hits=5, misses=2, stored=1)


def test_a_failure_is_cached_as_one() -> None:
    world = World()
    world.store.fail(world.claim().token, b"declined", status="402")
    assert [world.claim().failed for _ in range(3)] == [True] * 3
    assert world.was.hits == 2


def test_after_its_time_the_store_is_asked_again() -> None:
    world = World(ttl=100.0)
    world.finished()
    before = world.counted.claims
    world.clock.advance(100)
    assert isinstance(world.claim(), Replay)
    assert world.counted.claims == before + 1


def test_what_is_too_large_is_not_cached() -> None:
    world = World(max_value=3)
    world.finished(answer=b"paid")
    assert world.shelf.kept == {}


def test_a_key_that_was_purged_is_replayed_no_longer_than_the_ttl() -> None:
    world = World(ttl=100.0)
    world.finished()
    world.books.purge(older_than=0)
    assert isinstance(world.claim(), Replay)
    world.clock.advance(100)
    assert isinstance(world.claim(), Claimed)


def test_a_key_that_was_purged_may_be_used_for_another_request_at_once() -> None:
    world = World()
    world.finished()
    world.books.purge(older_than=0)
    assert isinstance(world.claim(fingerprint="f2"), Claimed)


# ---------------------------------------------------------------- what is found in it


NONSENSE = ["", b"", b"\xff", "null", "[]", "7", 7, b"{}", '{"v":1}', '{"v":2}', "[" * 100_000, bytearray(b"x"), object()]


@pytest.mark.parametrize("nonsense", NONSENSE, ids=lambda thing: without_addresses(thing)[:20])
def test_nonsense_in_the_cache_is_as_nothing(nonsense: Any) -> None:
    world = World()
    world.finished()
    ((name, (_, until)),) = world.shelf.kept.items()
    world.shelf.kept[name] = (nonsense, until)
    assert world.claim().record.response == b"paid"
    assert world.was.rejected == 1


@given(
    st.sampled_from(["v", "name", "fingerprint", "state", "status", "fence", "response"]),
    st.none() | st.integers() | st.text() | st.booleans(),
)
def test_a_value_that_was_tampered_with_is_never_another_answer(member: str, value: Any) -> None:
    world = World()
    world.finished()
    ((name, (text, until)),) = world.shelf.kept.items()
    world.shelf.kept[name] = (json.dumps({**json.loads(text), member: value}), until)
    found = world.claim()
    assert isinstance(found, Replay)
    assert member in {"status", "response", "state"} or found.record.response == b"paid"


@given(st.binary(max_size=200), st.text(max_size=30))
def test_whatever_bytes_were_stored_come_back_through_a_client_that_decodes(answer: bytes, status: str) -> None:
    world = World()
    status = status.encode("utf-8", "ignore").decode().replace("\0", "")
    world.store.complete(world.claim().token, answer, status=status)
    world.claim()
    ((name, (text, until)),) = world.shelf.kept.items()
    world.shelf.kept[name] = (text.encode(), until)
    found = world.claim().record
    assert (found.response, found.status, world.was.hits) == (answer, status, 1)


def test_the_cache_is_shown_no_key_and_no_scope() -> None:
    world = World()
    world.finished("key-4711", "merchant-4712")
    assert "471" not in str(world.shelf.kept)


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_two_keys_never_share_a_place(one: tuple[str, str], other: tuple[str, str]) -> None:
    store = World().store
    assert (store._name(*one) == store._name(*other)) == (one == other)


def test_what_is_no_key_is_the_stores_to_refuse() -> None:
    world: Any = World()
    with pytest.raises(ConfigurationError, match="key"):
        world.claim(7)


# ---------------------------------------------------------------- awaited


def awaited(clock: Any = None, **options: Any) -> tuple[AsyncCachedStore[Any], AsyncShelf]:
    clock = ManualClock() if clock is None else clock
    shelf = AsyncShelf(Shelf(clock))
    books = AsyncMemoryIdempotencyStore(MemoryIdempotencyStore(clock=clock))
    return AsyncCachedStore(books, shelf, ttl=100.0, clock=clock, **options), shelf


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("when", ["it is asked", "it is told"])
def test_a_cache_that_hangs_is_waited_for_no_longer_than_its_timeout(backend: Any, when: str) -> None:
    async def story() -> float:
        store, shelf = awaited(timeout=0.05)
        claimed: Any = await store.claim("m_1", "k1", **TERMS)
        await store.complete(claimed.token, b"paid")
        if when == "it is told":
            shelf.get = _nothing  # type: ignore[method-assign]  # pyright: ignore[reportAttributeAccessIssue] - a fake
        shelf.hangs = True
        began = anyio.current_time()
        assert isinstance(await store.claim("m_1", "k1", **TERMS), Replay)
        assert store.statistics().errors == 1
        return anyio.current_time() - began

    assert run_virtual(story, backend=backend) == pytest.approx(0.05)


async def _nothing(name: str) -> None:
    return


async def test_a_cancellation_is_not_swallowed_by_a_cache_that_hangs() -> None:
    store, shelf = awaited(timeout=1000.0)
    shelf.hangs = True
    with anyio.CancelScope() as cancel:
        cancel.cancel()
        await store.claim("m_1", "k1", **TERMS)
    assert cancel.cancelled_caught


async def test_the_middleware_works_with_a_cached_store() -> None:
    def cached(books: Any) -> Any:
        return AsyncCachedStore(AsyncMemoryIdempotencyStore(books), AsyncShelf(Shelf()), ttl=60)

    shop = Shop(store=cached)
    assert [(await shop.post()).raw for _ in range(4)] == [b'{"run":1}'] * 4
    assert shop.store.statistics().hits == 2


# ---------------------------------------------------------------- set-up


WRONG: list[dict[str, Any]] = [
    {"ttl": 0},
    {"ttl": float("inf")},
    {"ttl": 31 * 86_400},
    {"ttl": 0.0001},
    {"rest": -1},
    {"max_value": 0},
    {"prefix": ""},
    {"client": object()},
    {"store": object()},
]


@pytest.mark.parametrize("kind", [CachedStore, AsyncCachedStore])
@pytest.mark.parametrize("wrong", WRONG, ids=without_addresses)
def test_what_cannot_work_is_refused_at_once(kind: Any, wrong: Any) -> None:
    given = {"store": MemoryIdempotencyStore(), "client": Shelf(), "ttl": 60.0, **wrong}
    with pytest.raises(ConfigurationError):
        kind(given.pop("store"), given.pop("client"), **given)


def test_it_follows_the_ruling_clock() -> None:
    from finresilience.testing import instant

    shelf = Shelf()
    store = CachedStore[Any](MemoryIdempotencyStore(), shelf, ttl=60, rest=10)
    with instant() as clock:
        shelf.fault = ConnectionError()
        store.claim("m_1", "k1", **TERMS)
        clock.advance(10)
        store.claim("m_1", "k2", **TERMS)
    assert store.statistics().errors == 2
