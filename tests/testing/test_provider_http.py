"""The same provider behind a real socket: real answers, real silence, real resets, and nothing left behind. Nothing here waits."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest

from finresilience import Effect, Pipeline, Unknown, http_classifier
from finresilience.clock import SystemClock
from finresilience.errors import ConfigurationError
from finresilience.testing.faults import CALLS, Fault, FaultKind, FaultPlan
from finresilience.testing.provider import FakeProvider
from finresilience.testing.provider_words import Order, Reply
from finresilience.testing.virtual import run_virtual
from tests.testing.providing import EUR, failing
from tests.testing.test_provider_asgi import BODY, SILENT, expected
from tests.testing.wires import over_sockets, request_of

if TYPE_CHECKING:
    from collections.abc import Iterator

K = FaultKind
PAY = Order("charge", "pay_1", EUR, "k")


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(10.0)
    assert set(threading.enumerate()) <= before


def connected(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=10.0)


def sent(connection: socket.socket, *, key: str = "k") -> None:
    body = json.dumps(BODY).encode()
    connection.sendall(
        b"POST /charge HTTP/1.1\r\nhost: x\r\nidempotency-key: %b\r\ncontent-length: %d\r\n\r\n%b" % (key.encode(), len(body), body)
    )


@pytest.mark.parametrize("kind", sorted(CALLS), ids=str)
def test_each_kind_looks_over_a_socket_as_it_should(kind: FaultKind) -> None:
    with failing(kind).serve() as url:
        assert over_sockets(url, "POST", *request_of(PAY)) == expected(kind)


def arrival(provider: FakeProvider, patch: pytest.MonkeyPatch) -> threading.Event:
    """Return what is set once a request has come to the books, so that no test has to guess when."""
    came, take = threading.Event(), provider.take

    def watched(order: Order) -> Reply:
        reply = take(order)
        came.set()
        return reply

    patch.setattr(provider, "take", watched)
    return came


@pytest.mark.parametrize("kind", [K.RESET, K.RESET_AFTER], ids=str)
def test_httpx_meets_a_real_reset(kind: FaultKind) -> None:
    provider = failing(kind)
    with provider.serve() as url, httpx.Client(base_url=url, trust_env=False) as http, pytest.raises(httpx.ReadError) as caught:
        http.post("/charge", json=BODY)
    assert "reset" in str(caught.value).lower()
    assert len(provider.ledger) == (kind is K.RESET_AFTER)


def test_a_pipeline_over_httpx_knows_that_it_does_not_know() -> None:
    provider = failing(K.RESET_AFTER)
    pipeline = Pipeline("acme.charge", classify=http_classifier(), effect=Effect.UNSAFE)
    with provider.serve() as url, httpx.Client(base_url=url, trust_env=False) as http:
        assert isinstance(pipeline.outcome(http.post, "/charge", json=BODY), Unknown)
        assert http.get("/payments/pay_1").json()["status"] == "succeeded"


@pytest.mark.parametrize("kind", sorted(SILENT), ids=str)
def test_a_silent_provider_says_nothing_while_the_caller_listens(kind: FaultKind, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = failing(kind)
    came = arrival(provider, monkeypatch)
    with provider.serve() as url, connected(url) as connection:
        sent(connection)
        assert came.wait(10.0)
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.recv(1)


def test_leaving_ends_every_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = failing(K.HANG)
    came = arrival(provider, monkeypatch)
    with provider.serve() as url:
        connection = connected(url)
        sent(connection)
        assert came.wait(10.0)
    assert connection.recv(1) == b""
    connection.close()


def test_leaving_ends_a_slow_answer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = FakeProvider("acme", FaultPlan([Fault(kind=K.SLOW, seconds=3600.0)]), clock=SystemClock())
    came = arrival(provider, monkeypatch)
    with provider.serve() as url:
        connection = connected(url)
        sent(connection)
        assert came.wait(10.0)
    connection.close()
    assert len(provider.ledger) == 1


def test_after_the_block_nobody_listens() -> None:
    provider = failing()
    with provider.serve() as url:
        pass
    with pytest.raises(ConnectionRefusedError):
        connected(url)


def test_a_block_that_fails_leaves_nothing_behind_either() -> None:
    with pytest.raises(ZeroDivisionError), failing().serve():
        _ = 1 / 0


def test_one_provider_may_be_served_twice_and_keeps_one_set_of_books() -> None:
    provider = failing()
    with provider.serve() as here, provider.serve() as there:
        assert here != there
        assert [over_sockets(url, "POST", *request_of(PAY)).replayed for url in (here, there)] == [False, True]
    assert len(provider.ledger) == 1


def test_a_block_cannot_be_entered_twice() -> None:
    block = failing().serve()
    with block, pytest.raises(ConfigurationError, match="serve"):
        block.__enter__()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_in_virtual_time_it_says_what_to_use_instead(backend: Any) -> None:
    async def main() -> None:
        with pytest.raises(ConfigurationError, match="ASGITransport"), FakeProvider("acme").serve():
            pytest.fail("a timeout would be reached while an answer is on its way")

    run_virtual(main, backend=backend)


def test_a_connection_is_kept_for_the_next_request() -> None:
    provider = failing()
    with provider.serve() as url:
        connection = HTTPConnection(urlsplit(url).netloc, timeout=10.0)
        bodies: list[bytes] = []
        for _ in range(3):
            path, headers, body = request_of(PAY)
            connection.request("POST", path, body, headers)
            bodies.append(connection.getresponse().read())
        connection.close()
    assert len(set(bodies)) == 1


def test_fifty_callers_under_one_key_at_once_move_money_once() -> None:
    provider = FakeProvider("acme")
    with provider.serve() as url, ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(over_sockets, *zip(*[(url, "POST", *request_of(PAY))] * 50, strict=True)))
    assert ({answer.status for answer in answers}, sum(not answer.replayed for answer in answers)) == ({201}, 1)
    assert len(provider.ledger) == 1


def test_a_caller_that_left_before_it_sent_everything_has_sent_nothing() -> None:
    provider = failing()
    with provider.serve() as url, connected(url) as connection:
        connection.sendall(b'POST /charge HTTP/1.1\r\ncontent-length: 100\r\n\r\n{"reference"')
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert provider.visits == ()


@pytest.mark.parametrize("length", [b"-1", b"x", b"999999999"])
def test_a_body_of_no_length_or_of_too_much_is_refused(length: bytes) -> None:
    with failing().serve() as url, connected(url) as connection:
        connection.sendall(b"POST /charge HTTP/1.1\r\ncontent-length: %b\r\n\r\n" % length)
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_the_client_of_the_caller_may_be_in_the_same_process() -> None:
    provider = failing(K.BUSY)
    with provider.serve() as url, httpx.Client(base_url=url, trust_env=False) as http:
        busy = http.post("/charge", json=BODY)
        assert (busy.status_code, busy.headers["retry-after"]) == (503, "1")
        assert http.post("/charge", json=BODY).json()["amount"] == 1250
