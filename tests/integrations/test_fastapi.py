"""A FastAPI application answers for its guarded calls, and its own docs say so."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.dependencies import models
from fastapi.testclient import TestClient

from finresilience import (
    NON_RETRYABLE,
    CircuitBreaker,
    ConfigurationError,
    Effect,
    ErrorClassifier,
    Pipeline,
    Retry,
    Timeout,
    current_key,
    http_classifier,
    remaining,
)
from finresilience.integrations.asgi import owned_key
from finresilience.integrations.fastapi import (
    DeadlineMiddleware,
    IdempotencyKeyMiddleware,
    install_handlers,
    problem_response,
    problem_responses,
)
from finresilience.integrations.problems import KINDS, TYPES
from finresilience.testing import ManualClock, instant
from tests.integrations.asgi_calls import JSON, NAME
from tests.laws.worlds import RULES, Lost, No, Provider

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def clock() -> Iterator[ManualClock]:
    with instant() as ruling:
        yield ruling


@pytest.fixture(autouse=True)
def fastapi_keeps_no_shop() -> Iterator[None]:
    """It keeps each endpoint in a cache, and with it a shop, whose policies would be told of every clock of every later test."""
    yield
    for thing in vars(models).values():
        getattr(thing, "cache_clear", int)()


class Shop:
    """An application with an async and a plain endpoint, and a provider behind them."""

    def __init__(self, *script: Any, open_circuit: bool = False, effect: Effect = Effect.UNSAFE, **options: Any) -> None:
        breaker = CircuitBreaker("acme", listeners=[])
        self.acme = Pipeline("acme.charge", breaker, Retry(attempts=1), Timeout(5.0), classify=RULES, effect=effect, listeners=[])
        if open_circuit:
            breaker.force_open()
        self.provider = Provider(*script)
        self.told: list[Any] = []
        self.app = FastAPI(responses=problem_responses())
        self.problems = install_handlers(self.app, **options)
        self.app.post("/pay")(self.pay)
        self.app.post("/plain")(self.plain)

    async def pay(self) -> dict[str, Any]:
        self.told.append((remaining(), current_key()))
        return {"receipt": await self.acme.acall(self.provider.acharge)}

    def plain(self) -> dict[str, Any]:
        """FastAPI runs it in a thread."""
        self.told.append((remaining(), current_key()))
        return {"receipt": self.acme.call(self.provider.charge)}


def post(app: Any, backend: Any, path: str = "/pay", **headers: str) -> Any:
    with TestClient(app, backend=backend) as client:
        return client.post(path, headers={name.replace("_", "-"): text for name, text in headers.items()})


def type_of(answer: Any) -> str:
    return str(answer.json()["type"]).removeprefix(NAME)


each_endpoint = pytest.mark.parametrize("path", ["/pay", "/plain"])


# ---------------------------------------------------------------- the answers


@each_endpoint
def test_an_unknown_outcome_is_202_with_a_time_to_ask_again(backend: Any, path: str) -> None:
    answer = post(Shop(Lost()).app, backend, path)
    assert (answer.status_code, type_of(answer), answer.headers["retry-after"]) == (202, "unknown-outcome", "5")
    assert answer.headers["content-type"] == JSON


@each_endpoint
def test_an_open_circuit_is_503_with_retry_after(backend: Any, path: str) -> None:
    answer = post(Shop(open_circuit=True).app, backend, path)
    assert (answer.status_code, type_of(answer), answer.headers["retry-after"]) == (503, "refused", "1")


@each_endpoint
@pytest.mark.parametrize("options", [{"declined": (No,)}, {"classify": ErrorClassifier({No: NON_RETRYABLE})}], ids=["class", "classifier"])
def test_a_decline_is_402(backend: Any, path: str, options: Any) -> None:
    answer = post(Shop(No(), **options).app, backend, path)
    assert (answer.status_code, type_of(answer)) == (402, "declined")


@each_endpoint
def test_a_missing_key_is_400(backend: Any, path: str) -> None:
    answer = post(Shop(effect=Effect.IDEMPOTENT).app, backend, path)
    assert (answer.status_code, type_of(answer)) == (400, "key-missing")


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/refused", 400), ("/checked", 422)])
def test_what_the_application_says_by_itself_is_never_taken_for_a_decline(backend: Any, path: str, status: int) -> None:
    """Its own errors have a status as a provider's have, and a classifier would read them alike."""
    shop = Shop(classify=http_classifier())

    @shop.app.post("/refused")
    async def refused() -> None:
        raise HTTPException(400, "mine")

    @shop.app.post("/checked")
    async def checked(amount: Annotated[int, Query()]) -> int:
        return amount

    assert post(shop.app, backend, path).status_code == status


def test_an_outcome_in_hand_has_its_response(backend: Any) -> None:
    shop = Shop(Lost())

    @shop.app.post("/outcome", response_model=None)
    async def outcome() -> Any:
        end = await shop.acme.aoutcome(shop.provider.acharge)
        return problem_response(end, shop.problems) or {"receipt": end.unwrap()}

    answers = [post(shop.app, backend, "/outcome") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 200]


# ---------------------------------------------------------------- dependencies


def test_a_dependency_that_cleans_up_sees_the_error_itself(backend: Any) -> None:
    shop, seen = Shop(Lost()), list[str]()

    async def unit_of_work() -> Any:
        try:
            yield
        except Exception as error:
            seen.append(type(error).__name__)
            raise

    @shop.app.post("/unit", dependencies=[Depends(unit_of_work)])
    async def unit() -> dict[str, Any]:
        return await shop.pay()

    assert post(shop.app, backend, "/unit").status_code == 202
    assert seen == ["UnknownOutcomeError"]


def test_a_call_that_a_dependency_sent_is_known_when_a_later_one_is_refused(backend: Any) -> None:
    shop, ledger = Shop(open_circuit=True), Pipeline("ledger.hold", Retry(attempts=1), listeners=[])

    def hold() -> Generator[None]:
        """A plain dependency: FastAPI runs it in a thread."""
        ledger.call(Provider().charge)
        yield

    shop.app.post("/held", dependencies=[Depends(hold)])(shop.pay)
    answer = post(shop.app, backend, "/held")
    assert (answer.status_code, type_of(answer)) == (500, "incomplete")


# ---------------------------------------------------------------- deadline and key


@each_endpoint
def test_the_deadline_and_the_key_reach_every_kind_of_endpoint(backend: Any, path: str) -> None:
    shop = Shop("paid")
    shop.app.add_middleware(IdempotencyKeyMiddleware, owner=lambda _: "m_1")
    shop.app.add_middleware(DeadlineMiddleware, at_most=10)
    post(shop.app, backend, path, Request_Timeout_Ms="1500", Idempotency_Key="pay_1")
    assert shop.told == [(1.5, owned_key("m_1", "pay_1"))]


@each_endpoint
def test_a_used_up_deadline_is_503_and_nothing_is_sent(backend: Any, path: str, clock: ManualClock) -> None:
    shop = Shop("paid")

    async def slow() -> None:
        clock.advance(2.0)

    shop.app.router.dependencies.append(Depends(slow))
    shop.app.post("/late" + path)({"/pay": shop.pay, "/plain": shop.plain}[path])
    shop.app.add_middleware(DeadlineMiddleware, at_most=10)
    answer = post(shop.app, backend, "/late" + path, Request_Timeout_Ms="1500")
    assert (answer.status_code, type_of(answer), shop.provider.attempts) == (503, "deadline-exceeded", 0)


# ---------------------------------------------------------------- its docs


def test_the_docs_show_every_status_that_is_answered() -> None:
    shown = Shop().app.openapi()["paths"]["/pay"]["post"]["responses"]
    for kind in KINDS:
        schema = shown[str(kind.status)]["content"][JSON]["schema"]
        assert TYPES + kind.name in schema["properties"]["type"]["enum"]


def test_only_the_statuses_that_were_asked_for_are_shown() -> None:
    assert list(problem_responses(402, 503)) == [402, 503]
    assert problem_responses(402, types="https://a.test/")[402]["content"][JSON]["schema"]["properties"]["type"]["enum"] == [
        "https://a.test/declined"
    ]


def test_a_status_that_no_problem_has_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="statuses"):
        problem_responses(418)


def test_without_fastapi_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "finresilience.integrations.fastapi")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'finresilience\[fastapi\]'"):
        __import__("finresilience.integrations.fastapi")
