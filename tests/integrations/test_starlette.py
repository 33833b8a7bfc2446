"""A Starlette application answers for its guarded calls, through its own test client, on asyncio and on trio."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient

from finresilience import (
    NON_RETRYABLE,
    CircuitBreaker,
    ConfigurationError,
    Effect,
    ErrorClassifier,
    ExpiredError,
    Pipeline,
    RefusedError,
    Retry,
    Timeout,
    current_key,
    remaining,
)
from finresilience.errors import RateLimitedError
from finresilience.integrations.asgi import owned_key
from finresilience.integrations.starlette import DeadlineMiddleware, IdempotencyKeyMiddleware, install_handlers, problem_response
from finresilience.testing import ManualClock, instant
from tests.integrations.asgi_calls import JSON, NAME
from tests.laws.worlds import RULES, Down, Lost, No, Provider

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

MS = "Request-Timeout-Ms"


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def clock() -> Iterator[ManualClock]:
    with instant() as ruling:
        yield ruling


class Shop:
    """An application with one endpoint, and a provider behind it."""

    def __init__(self, *script: Any, open_circuit: bool = False, effect: Effect = Effect.UNSAFE, **options: Any) -> None:
        breaker = CircuitBreaker("acme", listeners=[])
        self.acme = Pipeline(
            "acme.charge", breaker, Retry(attempts=1), Timeout(5.0), classify=RULES, effect=effect, reference=lambda: "pay_1", listeners=[]
        )
        if open_circuit:
            breaker.force_open()
        self.provider = Provider(*script)
        self.told: list[Any] = []
        self.app = Starlette(routes=[Route("/pay", self.pay, methods=["POST"]), Route("/plain", self.plain, methods=["POST"])])
        self.problems = install_handlers(self.app, **options)

    async def pay(self, request: Request) -> Response:
        self.told.append((remaining(), current_key()))
        return JSONResponse({"receipt": await self.acme.acall(self.provider.acharge)})

    def plain(self, request: Request) -> Response:
        """A plain endpoint: Starlette runs it in a thread."""
        self.told.append((remaining(), current_key()))
        return JSONResponse({"receipt": self.acme.call(self.provider.charge)})


def post(app: Any, backend: Any, path: str = "/pay", **headers: str) -> Any:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    with TestClient(app, backend=backend) as client:
        return client.post(path, headers=named)


def type_of(answer: Any) -> str:
    return str(answer.json()["type"]).removeprefix(NAME)


# ---------------------------------------------------------------- the answers


@pytest.mark.parametrize("path", ["/pay", "/plain"])
def test_an_unknown_outcome_is_202_and_can_be_asked_about(backend: Any, path: str) -> None:
    def members(error: Any) -> dict[str, str]:
        return {"status_url": f"/payments/{error.reference}"}

    shop = Shop(Lost(), members=members)
    answer = post(shop.app, backend, path)
    assert (answer.status_code, type_of(answer), answer.headers["content-type"]) == (202, "unknown-outcome", JSON)
    assert (answer.headers["retry-after"], answer.headers["location"]) == ("5", "/payments/pay_1")


@pytest.mark.parametrize("path", ["/pay", "/plain"])
def test_an_open_circuit_is_503_with_retry_after(backend: Any, path: str) -> None:
    answer = post(Shop(open_circuit=True).app, backend, path)
    assert (answer.status_code, type_of(answer), answer.headers["retry-after"]) == (503, "refused", "1")


def test_a_decline_is_402_by_its_class(backend: Any) -> None:
    answer = post(Shop(No(), declined=(No,)).app, backend)
    assert (answer.status_code, type_of(answer)) == (402, "declined")


def test_a_decline_is_402_by_a_classifier(backend: Any) -> None:
    answer = post(Shop(No(), classify=ErrorClassifier({No: NON_RETRYABLE})).app, backend)
    assert (answer.status_code, type_of(answer)) == (402, "declined")


def test_a_missing_key_is_400(backend: Any) -> None:
    answer = post(Shop(effect=Effect.IDEMPOTENT).app, backend)
    assert (answer.status_code, type_of(answer)) == (400, "key-missing")


def test_a_limiter_at_the_door_may_say_429(backend: Any) -> None:
    async def pay(request: Request) -> Response:
        raise RateLimitedError("door", 1.5)

    app = Starlette(routes=[Route("/pay", pay, methods=["POST"])])
    install_handlers(app, statuses={RateLimitedError: 429})
    answer = post(app, backend)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")


def test_what_is_not_ours_is_the_applications_own(backend: Any) -> None:
    with pytest.raises(Down):
        post(Shop(Down(), declined=(No,)).app, backend)


def test_an_answer_that_works_is_left_alone(backend: Any) -> None:
    answer = post(Shop("paid").app, backend)
    assert (answer.status_code, answer.json()) == (200, {"receipt": "paid"})


@pytest.mark.parametrize("path", ["/pay", "/plain"])
def test_a_refusal_after_an_earlier_step_says_so(backend: Any, path: str) -> None:
    shop, ledger = Shop(open_circuit=True), Pipeline("ledger.hold", Retry(attempts=1), listeners=[])
    held = Provider()

    async def pay(request: Request) -> Response:
        await ledger.acall(held.acharge)
        return await shop.pay(request)

    def plain(request: Request) -> Response:
        ledger.call(held.charge)
        return shop.plain(request)

    app = Starlette(routes=[Route("/pay", pay, methods=["POST"]), Route("/plain", plain, methods=["POST"])])
    install_handlers(app)
    answer = post(app, backend, path)
    assert (answer.status_code, type_of(answer), held.attempts) == (500, "incomplete", 1)


def test_a_mounted_application_inside_is_answered_for(backend: Any) -> None:
    async def pay(request: Request) -> Response:
        raise ExpiredError("acme", 2.0)

    app = Starlette(routes=[Mount("/v1", routes=[Route("/pay", pay, methods=["POST"])])])
    install_handlers(app)
    answer = post(app, backend, "/v1/pay")
    assert (answer.status_code, type_of(answer)) == (504, "expired")


def test_a_middleware_of_the_application_sees_an_answer_and_not_an_error(backend: Any) -> None:
    seen: list[int] = []

    class Metrics(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            response: Response = await call_next(request)
            seen.append(response.status_code)
            return response

    for shop in (Shop(Lost()), Shop(No(), classify=ErrorClassifier({No: NON_RETRYABLE}))):
        shop.app.add_middleware(Metrics)
        post(shop.app, backend)
    assert seen == [202, 402]


# ---------------------------------------------------------------- handlers and the set-up


def test_a_handler_of_your_own_stays_as_it_is(backend: Any) -> None:
    async def mine(request: Request, error: Exception) -> Response:
        return PlainTextResponse("mine", 500)

    async def pay(request: Request) -> Response:
        raise RateLimitedError("door", 1.5)

    app = Starlette(routes=[Route("/pay", pay, methods=["POST"])], exception_handlers={RefusedError: mine})
    install_handlers(app)
    assert post(app, backend).text == "mine"


def test_a_handler_for_a_wider_class_does_not_swallow_an_unknown_outcome(backend: Any) -> None:
    """An ExpiredError is a TimeoutError too, and many applications have a handler for those."""

    async def mine(request: Request, error: Exception) -> Response:
        return PlainTextResponse("nothing happened", 400)

    async def pay(request: Request) -> Response:
        raise ExpiredError("acme", 2.0)

    app = Starlette(routes=[Route("/pay", pay, methods=["POST"])], exception_handlers={TimeoutError: mine})
    install_handlers(app)
    assert post(app, backend).status_code == 504


def test_once_it_serves_it_is_too_late(backend: Any) -> None:
    shop = Shop("paid")
    post(shop.app, backend)
    with pytest.raises(RuntimeError, match="before its first request"):
        install_handlers(shop.app)


def test_an_option_that_cannot_work_is_refused_at_once() -> None:
    wrong: Any = {"declined": (Exception,)}
    with pytest.raises(ConfigurationError):
        install_handlers(Starlette(), **wrong)


def test_a_websocket_has_no_status_so_its_error_passes_through(backend: Any) -> None:
    async def socket(websocket: WebSocket) -> None:
        raise RateLimitedError("door", 1.5)

    app = Starlette(routes=[WebSocketRoute("/pay", socket)])
    install_handlers(app)
    with pytest.raises(RateLimitedError), TestClient(app, backend=backend).websocket_connect("/pay"):
        pass


def test_an_outcome_in_hand_has_its_response(backend: Any) -> None:
    shop = Shop(Lost())

    async def pay(request: Request) -> Response:
        outcome = await shop.acme.aoutcome(shop.provider.acharge)
        return problem_response(outcome, shop.problems) or JSONResponse({"receipt": outcome.unwrap()})

    app = Starlette(routes=[Route("/pay", pay, methods=["POST"])])
    answers = [post(app, backend) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 200]
    assert answers[0].headers["content-type"] == JSON


def test_without_starlette_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "starlette.middleware", None)
    monkeypatch.delitem(sys.modules, "finresilience.integrations.starlette")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'finresilience\[starlette\]'"):
        __import__("finresilience.integrations.starlette")


# ---------------------------------------------------------------- deadline and key


@pytest.mark.parametrize("path", ["/pay", "/plain"])
def test_the_deadline_reaches_every_kind_of_endpoint(backend: Any, path: str) -> None:
    shop = Shop("paid")
    shop.app.add_middleware(DeadlineMiddleware, at_most=10)
    post(shop.app, backend, path, Request_Timeout_Ms="1500")
    assert shop.told == [(1.5, None)]


def test_the_deadline_reaches_through_a_middleware_that_runs_the_endpoint_in_a_task(backend: Any) -> None:
    async def through(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        return response

    shop = Shop("paid")
    shop.app.add_middleware(BaseHTTPMiddleware, dispatch=through)
    shop.app.add_middleware(DeadlineMiddleware, at_most=10)
    post(shop.app, backend, Request_Timeout_Ms="1500")
    assert shop.told == [(1.5, None)]


@pytest.mark.parametrize("path", ["/pay", "/plain"])
def test_a_used_up_deadline_is_503_and_nothing_is_sent(backend: Any, path: str, clock: ManualClock) -> None:
    async def slow(request: Request, call_next: Any) -> Response:
        clock.advance(2.0)
        response: Response = await call_next(request)
        return response

    shop = Shop("paid")
    shop.app.add_middleware(BaseHTTPMiddleware, dispatch=slow)
    shop.app.add_middleware(DeadlineMiddleware, at_most=10)
    answer = post(shop.app, backend, path, Request_Timeout_Ms="1500")
    assert (answer.status_code, type_of(answer), shop.provider.attempts) == (503, "deadline-exceeded", 0)


def test_a_background_task_has_time_after_its_caller_has_the_answer(backend: Any) -> None:
    left: list[float | None] = []

    async def notify() -> None:
        left.append(remaining())

    async def pay(request: Request) -> Response:
        left.append(remaining())
        return JSONResponse({}, background=BackgroundTask(notify))

    app = Starlette(routes=[Route("/pay", pay, methods=["POST"])])
    install_handlers(app)
    app.add_middleware(IdempotencyKeyMiddleware, owner=lambda _: "m_1")
    app.add_middleware(DeadlineMiddleware, at_most=10)
    post(app, backend, Idempotency_Key="pay_1")
    assert left == [10, None]


class ByHeader(AuthenticationBackend):
    """Who is it? A real service would look at a token."""

    async def authenticate(self, conn: HTTPConnection) -> Any:
        name = conn.headers.get("X-Merchant")
        return None if name is None else (AuthCredentials(["pay"]), SimpleUser(name))


def signed_in(scope: Any) -> str | None:
    return scope["user"].display_name or None


def test_the_key_inside_is_the_authenticated_callers_own(backend: Any) -> None:
    shop = Shop("paid", "paid")
    outer = [Middleware(DeadlineMiddleware, at_most=10), Middleware(AuthenticationMiddleware, backend=ByHeader())]
    shop.app.user_middleware[:0] = [*outer, Middleware(IdempotencyKeyMiddleware, owner=signed_in, required_for="POST")]
    for who in ("m_1", "m_2"):
        post(shop.app, backend, X_Merchant=who, Idempotency_Key="pay_1")
    assert shop.told == [(10, owned_key("m_1", "pay_1")), (10, owned_key("m_2", "pay_1"))]


def test_every_thread_of_every_request_knows_its_own(backend: Any) -> None:
    shop = Shop(*["paid"] * 20)
    shop.app.add_middleware(IdempotencyKeyMiddleware, owner=lambda _: "m_1")
    keys = [f"pay_{number}" for number in range(20)]
    with TestClient(shop.app, backend=backend) as client:
        for key in keys:
            client.post("/plain", headers={"Idempotency-Key": key})
    assert shop.told == [(None, owned_key("m_1", key)) for key in keys]
