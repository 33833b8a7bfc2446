"""A FastAPI endpoint carries each request out once: key, effect and answer in one transaction, or none of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import HTTPException, Request
from fastapi.dependencies import models
from fastapi.responses import Response  # noqa: TC002 - FastAPI looks the annotations of an endpoint up
from fastapi.testclient import TestClient

from finresilience import ConfigurationError, UnknownOutcomeError
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.durable.records import KeyState
from finresilience.integrations.idempotency_fastapi import HttpClaim, idempotency
from tests.integrations.idempotency_desk import Asked, Desk, leased_desk, post, shared_desk, tenant, told
from tests.integrations.idempotency_shop import LEASE

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


# ---------------------------------------------------------------- in one transaction


def test_a_repeat_gets_the_answer_of_the_first_and_there_is_one_effect(backend: Any) -> None:
    desk = shared_desk(backend)
    with desk.client() as client:
        first, repeat = post(client), post(client)
    assert (first.status_code, first.json(), desk.effects) == (201, {"run": 1, "amount": 50}, 1)
    assert (repeat.status_code, repeat.content, repeat.headers["location"]) == (201, first.content, "/payments/1")
    assert (repeat.headers["idempotent-replayed"], "idempotent-replayed" in first.headers) == ("true", False)


def test_if_the_endpoint_fails_neither_effect_nor_key_remain(backend: Any) -> None:
    desk, fails = Desk(backend), [True]

    @desk.router.post("/payments")
    async def pay(asked: Asked, session: Any = desk.opened, once: HttpClaim = desk.once) -> Response:
        desk.effect(session)
        answer = await once.complete({"run": desk.runs}, status_code=201)
        if fails.pop() if fails else False:
            raise OSError("the third write fails")
        return answer

    with desk.client() as client:
        assert (post(client).status_code, desk.effects, desk.state()) == (500, 0, None)
        assert (post(client).status_code, desk.effects, desk.state()) == (201, 1, KeyState.COMPLETED)


def test_another_body_is_422_and_no_effect(backend: Any) -> None:
    desk = shared_desk(backend)
    with desk.client() as client:
        post(client)
        answer = post(client, 51)
    assert (answer.status_code, told(answer), desk.effects) == (422, "key-reused", 1)


@pytest.mark.parametrize("commits", [True, False])
def test_what_fastapi_cannot_read_leaves_the_key_free(backend: Any, commits: bool) -> None:
    desk = shared_desk(backend, commits=commits)
    with desk.client() as client:
        assert (post(client, "much").status_code, desk.state()) == (422, None)
        assert (post(client).status_code, desk.effects) == (201, 1)


def test_a_decline_that_is_finished_stays_one(backend: Any) -> None:
    desk = Desk(backend)

    @desk.router.post("/payments")
    async def pay(asked: Asked, session: Any = desk.opened, once: HttpClaim = desk.once) -> Response:
        desk.runs += 1
        answer = await once.fail({"code": "insufficient_funds"})
        session.commit()
        return answer

    with desk.client() as client:
        answers = [post(client) for _ in range(2)]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(402, "insufficient_funds")] * 2
    assert (desk.runs, desk.state()) == (1, KeyState.FAILED_FINAL)


def test_a_claim_that_was_given_back_is_free(backend: Any) -> None:
    desk = Desk(backend)

    @desk.router.post("/payments")
    async def pay(asked: Asked, session: Any = desk.opened, once: HttpClaim = desk.once) -> Any:
        desk.runs += 1
        await once.release()
        return {"run": desk.runs}

    with desk.client() as client:
        assert [post(client).json()["run"] for _ in range(2)] == [1, 2]
    assert desk.state() is None


def test_an_endpoint_that_forgets_its_claim_is_told_at_once_and_nothing_runs_again(backend: Any) -> None:
    desk = Desk(backend)

    @desk.router.post("/payments")
    async def pay(asked: Asked, session: Any = desk.opened, once: HttpClaim = desk.once) -> Any:
        desk.effect(session)
        return {"run": desk.runs}

    desk.app.include_router(desk.router)
    with TestClient(desk.app, backend=backend) as client, pytest.raises(ConfigurationError, match="without finishing"):
        post(client)
    assert (desk.effects, desk.state()) in {
        (0, None),
        (1, KeyState.INDETERMINATE),
    }  # the second in FastAPI before 0.118, which commits first


def test_a_claim_is_finished_once(backend: Any) -> None:
    desk = Desk(backend)

    @desk.router.post("/payments")
    async def pay(asked: Asked, session: Any = desk.opened, once: HttpClaim = desk.once) -> Response:
        await once.complete({})
        return await once.fail({})

    desk.app.include_router(desk.router)
    with TestClient(desk.app, backend=backend) as client, pytest.raises(ConfigurationError, match="finished already"):
        post(client)


def test_an_unknown_outcome_in_your_own_transaction_is_shouted_about(backend: Any, caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(backend)

    @desk.router.post("/payments")
    async def pay(asked: Asked, session: Any = desk.opened, once: HttpClaim = desk.once) -> Response:
        raise UnknownOutcomeError("acme", attempts=1, happened="no answer", held_back="It is UNSAFE.")

    with desk.client() as client:
        post(client)
    assert "its row is rolled back, and a repeat runs" in caplog.text


def test_a_claim_that_ran_out_is_202_in_your_transaction_too(backend: Any) -> None:
    desk = shared_desk(backend)
    with desk.client() as client:
        post(client, key="k2")
        desk.claimed_like("k2")
        desk.clock.advance(LEASE + 1)
        assert [(answer.status_code, told(answer)) for answer in [post(client), post(client)]] == [(202, "unknown-outcome")] * 2
    assert desk.effects == 1


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("make", [shared_desk, leased_desk])
def test_a_missing_key_is_400_and_a_bad_one_too(backend: Any, make: Any) -> None:
    desk = make(backend)
    with desk.client() as client:
        answers = [post(client, key=key) for key in (None, "a, b", "k" * 10_000)]
    assert [(answer.status_code, told(answer)) for answer in answers] == [(400, "key-missing"), *[(400, "bad-header")] * 2]
    assert desk.runs == 0


@pytest.mark.parametrize("make", [shared_desk, leased_desk])
def test_where_no_key_is_required_a_request_without_one_runs_and_keeps_nothing(backend: Any, make: Any) -> None:
    desk = make(backend, required=False)
    with desk.client() as client:
        assert [post(client, key=None).json()["run"] for _ in range(2)] == [1, 2]
    assert desk.state() is None


def test_a_request_that_is_too_large_is_413(backend: Any) -> None:
    desk = shared_desk(backend, max_body=10)
    with desk.client() as client:
        chunked = client.post("/payments", content=iter([b'{"amount":', b"50000000}"]), headers={"Idempotency-Key": "k1"})
        answers = [post(client, 50_000_000), chunked]
    assert [(answer.status_code, told(answer)) for answer in answers] == [(413, "body-too-large")] * 2
    assert desk.state() is None


def test_who_is_nobody_is_told_so_by_your_own_dependency(backend: Any) -> None:
    def nobody() -> str:
        raise HTTPException(401, "log in")

    desk = shared_desk(backend, scope=nobody)
    with desk.client() as client:
        assert (post(client).status_code, desk.runs) == (401, 0)


def test_the_key_of_one_tenant_never_shows_the_answer_of_another(backend: Any) -> None:
    who = iter(["m_1", "m_2"])
    desk = shared_desk(backend, scope=lambda: next(who))
    with desk.client() as client:
        assert [post(client).json()["run"] for _ in range(2)] == [1, 2]


def test_without_its_route_it_says_so_before_anything_is_claimed(backend: Any) -> None:
    desk = Desk(backend)

    @desk.app.post("/payments")
    async def pay(asked: Asked, once: HttpClaim = desk.once) -> Any:
        return {}

    with TestClient(desk.app, backend=backend) as client, pytest.raises(ConfigurationError, match="IdempotentRoute"):
        post(client)
    assert desk.state() is None


def test_where_the_body_was_read_by_somebody_else_it_says_to_use_the_middleware(backend: Any) -> None:
    """A form is read so, by FastAPI itself."""

    async def reads(request: Request) -> str:
        async for _ in request.stream():
            pass
        return "m_1"

    desk = leased_desk(backend, scope=reads)

    @desk.router.post("/forms")
    async def pay(once: HttpClaim = desk.once) -> Any:
        return {}

    desk.app.include_router(desk.router)
    with TestClient(desk.app, backend=backend) as client, pytest.raises(ConfigurationError, match="IdempotencyMiddleware"):
        client.post("/forms", content=b"amount=5", headers={"Idempotency-Key": "k1"})


WRONG: list[dict[str, Any]] = [
    {"scope": "m_1"},
    {"within": 7},
    {"fingerprint": 7},
    {"operation": 7},
    {"on_takeover": "again"},
    {"classify": {}},
    {"max_body": 0},
    {"ask_again": 0},
    {"keep_headers": ("set-cookie",)},
    {"lease": 0},
]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_what_cannot_work_is_refused_at_once(wrong: Any) -> None:
    make: Any = idempotency
    with pytest.raises(ConfigurationError):
        make(MemoryIdempotencyStore(), **{"scope": tenant, **wrong})


def test_a_session_that_is_none_is_refused(backend: Any) -> None:
    def none() -> None:
        return None

    desk = leased_desk(backend, within=none)
    desk.app.include_router(desk.router)
    with TestClient(desk.app, backend=backend) as client, pytest.raises(ConfigurationError, match="within"):
        post(client)


def test_without_fastapi_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    for name in ("idempotency_claim", "idempotency_fastapi"):
        monkeypatch.delitem(sys.modules, f"finresilience.integrations.{name}")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'finresilience\[fastapi\]'"):
        __import__("finresilience.integrations.idempotency_fastapi")
