"""A FastAPI endpoint that calls a provider holds a lease meanwhile; what it returns, or raises, says what becomes of the key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fastapi import HTTPException
from fastapi.dependencies import models
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.testclient import TestClient

from finresilience import CircuitOpenError, ConfigurationError, UnknownOutcomeError, current_key, mark_sent
from finresilience.durable.records import KeyState
from finresilience.integrations.asgi import owned_key
from finresilience.integrations.fastapi import install_handlers
from finresilience.integrations.idempotency_fastapi import HttpClaim  # noqa: TC001 - FastAPI looks the annotations of an endpoint up
from finresilience.integrations.problems import Problems
from tests.integrations.asgi_calls import without_addresses
from tests.integrations.idempotency_desk import SPACE, Asked, Desk, leased_desk, post, told
from tests.integrations.idempotency_shop import LEASE
from tests.laws.worlds import RULES, Down, No

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def fastapi_keeps_no_shop() -> Iterator[None]:
    """It keeps each endpoint in a cache, and with it a shop, whose store would be told of every clock of every later test."""
    yield
    for thing in vars(models).values():
        getattr(thing, "cache_clear", int)()


# ---------------------------------------------------------------- leased


@pytest.mark.parametrize("sync", [False, True])
def test_what_a_leased_endpoint_returns_is_kept(backend: Any, sync: bool) -> None:
    desk = leased_desk(backend, sync=sync)
    with desk.client() as client:
        first, repeat = post(client), post(client)
    assert (first.status_code, repeat.status_code, repeat.content, desk.runs) == (201, 201, first.content, 1)


def test_a_plain_endpoint_finishes_by_a_sync_store(backend: Any) -> None:
    desk = Desk(backend, sync=True)

    @desk.router.post("/payments")
    def pay(asked: Asked, session: Any = desk.opened, once: HttpClaim = desk.once) -> Response:
        desk.effect(session)
        return once.complete_sync({"run": desk.runs}, status_code=201) if asked.amount else once.fail_sync({"run": desk.runs})

    with desk.client() as client:
        assert [post(client).status_code for _ in range(2)] == [201, 201]
        assert [post(client, 0, "k2").status_code for _ in range(2)] == [402, 402]
    assert desk.effects == 2


def test_a_plain_endpoint_with_an_async_store_is_told_so(backend: Any) -> None:
    desk = Desk(backend, shared=False)

    @desk.router.post("/payments")
    def pay(asked: Asked, once: HttpClaim = desk.once) -> Response:
        return once.complete_sync({})

    desk.app.include_router(desk.router)
    with TestClient(desk.app, backend=backend) as client, pytest.raises(ConfigurationError, match="sync store"):
        post(client)


ENDS: list[Any] = [
    (HTTPException(402, "no"), [402, 402], KeyState.FAILED_FINAL),
    (HTTPException(401, "who are you"), [401, 201], KeyState.COMPLETED),
    (HTTPException(503, "full", {"Retry-After": "1"}), [503, 201], KeyState.COMPLETED),
    (HTTPException(500, "oh"), [500, 202], KeyState.INDETERMINATE),
    (OSError("who knows"), [500, 202], KeyState.INDETERMINATE),
    (CircuitOpenError("acme", "open", 1.0, 1, None), [500, 201], KeyState.COMPLETED),
    (Down(), [500, 201], KeyState.COMPLETED),
    (No(), [500, 402], KeyState.FAILED_FINAL),
    (JSONResponse({"no": 1}, 402), [402, 402], KeyState.FAILED_FINAL),
    (StreamingResponse(iter(["a"])), [200, 409], KeyState.COMPLETED),
]


@pytest.mark.parametrize(("word", "statuses", "state"), ENDS, ids=without_addresses)
def test_an_end_says_what_becomes_of_the_key(backend: Any, word: Any, statuses: list[int], state: KeyState) -> None:
    desk = leased_desk(backend, word, {"run": 2}, classify=RULES, problems=Problems(declined=(No,)))
    with desk.client() as client:
        assert [post(client).status_code for _ in range(2)] == statuses
    assert desk.state() is state


def test_with_our_handlers_an_unknown_outcome_is_202_from_the_first(backend: Any) -> None:
    desk = leased_desk(backend, UnknownOutcomeError("acme", attempts=1, happened="no answer", held_back="It is UNSAFE."))
    install_handlers(desk.app)
    with desk.client() as client:
        answers = [post(client) for _ in range(2)]
    assert [(answer.status_code, told(answer)) for answer in answers] == [(202, "unknown-outcome")] * 2
    assert desk.runs == 1


def test_a_refusal_after_something_was_sent_does_not_free_the_key(backend: Any) -> None:
    async def two_steps(once: HttpClaim) -> None:
        mark_sent()
        raise CircuitOpenError("acme", "open", 1.0, 1, None)

    desk = leased_desk(backend, two_steps)
    with desk.client() as client:
        post(client)
    assert desk.state() is KeyState.INDETERMINATE


def test_what_fastapi_cannot_read_leaves_a_leased_key_free(backend: Any) -> None:
    desk = leased_desk(backend)
    with desk.client() as client:
        assert [post(client, amount).status_code for amount in ("much", 50)] == [422, 201]


def test_a_leased_claim_is_finished_by_the_endpoint_if_it_likes(backend: Any) -> None:
    async def finish(once: HttpClaim) -> Response:
        await once.advance("asked", data=b"ref")
        assert (once.key, once.takeovers, once.recovery_point) == ("k1", 0, None)
        return await once.complete(PlainTextResponse("paid", 201))

    desk = leased_desk(backend, finish)
    with desk.client() as client:
        assert [post(client).text for _ in range(2)] == ["paid", "paid"]


def test_a_stream_cannot_be_finished_with(backend: Any) -> None:
    async def finish(once: HttpClaim) -> Response:
        return await once.complete(StreamingResponse(iter(["a"])))

    desk = leased_desk(backend, finish)
    desk.app.include_router(desk.router)
    with TestClient(desk.app, backend=backend) as client, pytest.raises(ConfigurationError, match="stream"):
        post(client)
    assert desk.state() is KeyState.INDETERMINATE


def test_an_heir_runs_only_if_you_say_so_and_sees_how_far_it_came(backend: Any) -> None:
    seen: list[Any] = []

    async def look(once: HttpClaim) -> Any:
        seen.append((once.takeovers, once.recovery_point, once.data))
        return {"run": 1}

    desk = leased_desk(backend, look, on_takeover="repeat")
    with desk.client() as client:
        post(client, key="k2")
        desk.books.advance(desk.claimed_like("k2").token, "asked", data=b"ref")
        desk.clock.advance(LEASE + 1)
        assert post(client).status_code == 201
    assert seen == [(0, None, b""), (1, "asked", b"ref")]


def test_calls_inside_derive_their_key_from_the_claim(backend: Any) -> None:
    seen: list[str | None] = []

    async def look(once: HttpClaim) -> Any:
        seen.append(current_key())
        return {}

    desk = leased_desk(backend, look)
    with desk.client() as client:
        post(client)
    assert seen == [owned_key(SPACE, "k1")]
