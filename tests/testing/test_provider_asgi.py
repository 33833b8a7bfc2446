"""The same provider behind ASGI: what each fault looks like there, and that all four faces agree."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given, settings, strategies as st

from finresilience import Money
from finresilience.testing.errors import DeadlockError
from finresilience.testing.faults import CALLS, Fault, FaultKind, FaultPlan
from finresilience.testing.provider import FakeProvider, ProviderError
from finresilience.testing.provider_words import How, Order
from finresilience.testing.virtual import run_virtual
from tests.testing.providing import EUR, failing
from tests.testing.wires import (
    PAGE,
    RESET,
    SILENCE,
    Answer,
    Still,
    answer_in_process,
    over_asgi,
    over_sockets,
    request_of,
)

K = FaultKind
PAY = Order("charge", "pay_1", EUR, "k")
BODY = {"reference": "pay_1", "amount": 1250, "currency": "EUR"}
SILENT = {K.HANG, K.TIMEOUT_BEFORE, K.TIMEOUT_AFTER, K.EFFECT_LATER, K.DECLINE_SILENT}


def expected(kind: FaultKind) -> Answer:
    declined = Answer(How.ANSWER, 402, "declined", "insufficient_funds")
    named = {
        K.DECLINE: declined,
        K.CONTRADICT: declined,
        K.TOO_MANY: Answer(How.ANSWER, 429, "too_many_requests", retry_after=1.0),
        K.BUSY: Answer(How.ANSWER, 503, "unavailable", retry_after=1.0),
        **dict.fromkeys(SILENT, SILENCE),
        **dict.fromkeys((K.RESET, K.RESET_AFTER), RESET),
        **dict.fromkeys((K.HTML, K.HTML_AFTER), PAGE),
    }
    return named.get(kind, Answer(How.ANSWER, 201, "succeeded"))


def client(provider: FakeProvider) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(provider.asgi()), base_url="http://acme")


async def posted(provider: FakeProvider, order: Order = PAY) -> Answer:
    path, headers, body = request_of(order)
    return await over_asgi(provider, "POST", path, headers, body)


@pytest.mark.parametrize("kind", sorted(CALLS), ids=str)
async def test_each_kind_looks_over_asgi_as_it_should(kind: FaultKind) -> None:
    assert await posted(failing(kind)) == expected(kind)


async def test_httpx_charges_inquires_and_refunds() -> None:
    provider = failing()
    async with client(provider) as http:
        paid = await http.post("/charge", json=BODY, headers={"Idempotency-Key": "k"})
        again = await http.post("/charge", json=BODY, headers={"Idempotency-Key": "k"})
        found = await http.get("/payments/pay_1")
        refund = await http.post("/refund", json={"reference": "pay_1"})
        books = await http.get("/ledger")
    assert [answer.status_code for answer in (paid, again, found, refund)] == [201, 201, 200, 201]
    assert (paid.content, again.headers["idempotent-replayed"]) == (again.content, "true")
    assert [(row["operation"], row["amount"], row["key"]) for row in books.json()["bookings"]] == [
        ("charge", 1250, "k"),
        ("refund", 1250, None),
    ]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_slow_is_slow_in_virtual_time(backend: Any) -> None:
    async def main() -> tuple[int, float]:
        provider = FakeProvider("acme", FaultPlan([Fault(kind=K.SLOW, seconds=5.0)]), latency=0.25)
        began = anyio.current_time()
        async with client(provider) as http:
            answer = await http.post("/charge", json=BODY)
        return answer.status_code, round(anyio.current_time() - began, 6)

    assert run_virtual(main, backend=backend) == (201, 5.5)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_silence_lasts_until_the_caller_gives_up(backend: Any) -> None:
    async def main() -> int:
        provider = FakeProvider("acme", FaultPlan([Fault(kind=K.TIMEOUT_AFTER)]))
        async with client(provider) as http:
            with pytest.raises(TimeoutError), anyio.fail_after(3600.0):
                await http.post("/charge", json=BODY)
        return len(provider.ledger)

    assert run_virtual(main, backend=backend) == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_caller_without_any_timeout_is_told_that_it_would_hang_for_ever(backend: Any) -> None:
    async def main() -> None:
        async with client(FakeProvider("acme", FaultPlan([Fault(kind=K.HANG)]))) as http:
            await http.post("/charge", json=BODY)

    with pytest.raises(DeadlockError):
        run_virtual(main, backend=backend)


async def test_a_reset_comes_out_of_the_app_as_one() -> None:
    provider = failing(K.RESET_AFTER)
    async with client(provider) as http:
        with pytest.raises(ConnectionResetError):
            await http.post("/charge", json=BODY)
    assert len(provider.ledger) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/charge", b"", 400),
        ("POST", "/charge", b"[" * 60_000, 400),
        ("POST", "/charge", b"[]", 400),
        ("POST", "/charge", b'{"reference": "pay_1", "amount": 12.5, "currency": "EUR"}', 400),
        ("POST", "/charge", b'{"reference": "pay_1", "amount": -1, "currency": "EUR"}', 400),
        ("POST", "/charge", b'{"reference": "pay_1", "amount": 1, "currency": "XXZ"}', 400),
        ("POST", "/charge", b'{"reference": 1, "amount": 1, "currency": "EUR"}', 400),
        ("POST", "/charge", b"\xff", 400),
        ("GET", "/charge", b"", 405),
        ("DELETE", "/charge", b"", 405),
        ("POST", "/dance", b"", 404),
        ("GET", "/", b"", 404),
        ("GET", "/payments/pay_1", b"", 404),
        ("GET", "/payments/", b"", 404),
        ("GET", "/payments/pay_1?operation=dance", b"", 400),
    ],
)
async def test_a_request_that_makes_no_sense_is_answered_and_moves_nothing(method: str, path: str, body: bytes, status: int) -> None:
    provider = failing()
    assert (await over_asgi(provider, method, path, {}, body)).status == status
    with provider.serve() as url:
        assert over_sockets(url, method, path, {}, body).status == status
    assert provider.ledger == FakeProvider().ledger


async def test_a_reference_may_hold_what_a_path_may_not() -> None:
    provider = failing()
    await posted(provider, Order("charge", "pay/1 ü?", EUR))
    assert (await over_asgi(provider, "GET", "/payments/pay%2F1%20%C3%BC%3F", {}, b"")).word == "succeeded"


async def test_a_currency_that_iso_4217_does_not_know_brings_its_exponent() -> None:
    provider = failing()
    async with client(provider) as http:
        paid = await http.post("/charge", json={"reference": "pay_1", "amount": 5, "currency": "BTC", "exponent": 8})
    assert (paid.json()["amount"], paid.json()["currency"], paid.json()["exponent"]) == (5, "BTC", 8)
    assert provider.ledger[0].amount == Money("0.00000005", "BTC", exponent=8)


async def test_a_key_that_is_too_long_is_refused() -> None:
    assert (await over_asgi(failing(), "POST", "/charge", {"idempotency-key": "k" * 256}, request_of(PAY)[2])).status == 400


async def test_a_caller_that_left_before_it_sent_everything_has_sent_nothing() -> None:
    provider = failing()
    incoming = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return incoming.pop(0)

    async def send(_message: Any) -> None:
        pytest.fail("there is nobody to answer")

    await provider.asgi()({"type": "http", "method": "POST", "path": "/charge", "headers": []}, receive, send)
    assert provider.visits == ()


async def test_the_app_has_a_lifespan() -> None:
    incoming, sent = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}], list[str]()

    async def receive() -> Any:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await failing().asgi()({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_the_app_speaks_nothing_but_http() -> None:
    app: Any = failing().asgi()
    with pytest.raises(RuntimeError, match="websocket"):
        await app({"type": "websocket"}, None, None)


# ---------------------------------------------------------------- four faces, one provider

orders = st.builds(
    Order,
    st.sampled_from(["charge", "charge", "authorize", "capture", "refund"]),
    st.sampled_from(["pay_1", "pay_2"]),
    st.sampled_from([EUR, EUR, Money("1.00", "EUR")]),
    st.sampled_from([None, "a", "b"]),
    st.sampled_from(["", "vip"]),
)
faults = st.builds(
    Fault,
    kind=st.sampled_from(sorted(CALLS)),
    probability=st.sampled_from([0.5, 1.0]),
    nth=st.sampled_from([(), (1,), (2, 3)]),
    tag=st.sampled_from(["", "vip"]),
    operation=st.sampled_from(["", "charge", "refund"]),
    seconds=st.sampled_from([0.5, 2.0]),
    since=st.sampled_from([0.0, 3.0]),
)
plans = st.builds(FaultPlan, st.lists(faults, max_size=3), seed=st.integers(0, 9))


def sync_face(provider: FakeProvider, order: Order, _url: str) -> Answer:
    told = () if order.amount is None else (order.amount,)
    try:
        return answer_in_process(getattr(provider, order.operation)(order.reference, *told, key=order.key, tag=order.tag))
    except ProviderError as error:
        return answer_in_process(error)


def async_face(provider: FakeProvider, order: Order, _url: str) -> Answer:
    async def main() -> object:
        return await getattr(provider, f"a{order.operation}")(order.reference, order.amount, key=order.key, tag=order.tag)

    try:
        return answer_in_process(anyio.run(main))
    except ProviderError as error:
        return answer_in_process(error)


def asgi_face(provider: FakeProvider, order: Order, _url: str) -> Answer:
    return anyio.run(posted, provider, order)


def http_face(_provider: FakeProvider, order: Order, url: str) -> Answer:
    path, headers, body = request_of(order)
    return over_sockets(url, "POST", path, headers, body)


@settings(max_examples=25)
@given(plans, st.lists(orders, min_size=1, max_size=6))
def test_all_faces_agree_on_every_answer_every_visit_and_every_booking(plan: FaultPlan, orders: list[Order]) -> None:
    runs: list[object] = []
    for face in (sync_face, async_face, asgi_face, http_face):
        clock = Still()
        provider = FakeProvider("acme", plan, clock=clock)
        answers: list[Answer] = []
        with provider.serve() as url:
            for number, order in enumerate(orders):
                clock.now = float(number)
                answers.append(face(provider, order, url))
        runs.append((answers, provider.visits, provider.ledger, list(provider.deliveries(late=True))))
    assert all(run == runs[0] for run in runs)
