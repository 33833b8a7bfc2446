"""Guarded clients that are cancelled, left behind, raced or marked: nothing leaks, and nothing is sent twice that must not be."""

from __future__ import annotations

import gc
import threading
import time

import aiohttp
import anyio
import httpx
import pytest

from finresilience.classify import ErrorClassifier, http_classifier
from finresilience.context import deadline
from finresilience.cores.backoff import Constant
from finresilience.errors import ExpiredError, UnknownOutcomeError
from finresilience.events import CallAbandoned, LateResult, log_event
from finresilience.integrations.aiohttp import resilient_middleware
from finresilience.integrations.httpx import AsyncResilientTransport, ResilientTransport
from finresilience.outcome import Effect
from finresilience.policies.breaker import CircuitBreaker
from finresilience.policies.hedge import Hedge
from finresilience.policies.pipeline import Pipeline
from finresilience.policies.retry import Retry
from finresilience.policies.timeout import Timeout
from tests.integration.clients import POOL_WAIT
from tests.integration.faulty_server import refusing
from tests.integration.guarded_clients import CLIENT_ERRORS, GUARDED
from tests.integration.scripted_provider import ScriptedProvider, answering, hanging_up, paid, silent

# When a connection breaks, some clients leave a socket or a generator to the collector. Theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

SOON = 0.2  # seconds; for what never comes
KEY = {"Idempotency-Key": "pay_1"}
ASYNC = [client for client in GUARDED if client.is_async]
PLAIN = [client for client in GUARDED if not client.is_async]


@pytest.fixture(scope="module", autouse=True)
def _collected():
    yield
    gc.collect()


def acme(*policies, rules=None, **settings):
    return Pipeline("acme", Retry(attempts=3, backoff=Constant(base=0.001)), *policies, classify=rules or http_classifier(), **settings)


# ---------------------------------------------------------------- marks

MARKING = [client for client in GUARDED if client.name.startswith("httpx")]
OTHERS = [client for client in GUARDED if client not in MARKING]
KNOWING_NOTHING = ErrorClassifier()  # so that the mark alone tells


@pytest.mark.parametrize("client", MARKING, ids=lambda client: client.name)
def test_httpx_marks_a_request_as_it_leaves_so_what_failed_before_is_tried_again(client):
    with refusing() as port, client.open(acme(rules=KNOWING_NOTHING, marks_sent=True)) as send:
        with pytest.raises(CLIENT_ERRORS) as caught:
            send("POST", f"http://127.0.0.1:{port}/charges", content=b"amount=5000")
        assert "3 attempts" in "".join(caught.value.__notes__)


@pytest.mark.parametrize("client", OTHERS, ids=lambda client: client.name)
def test_other_clients_mark_a_request_before_they_connect(client):
    with refusing() as port, client.open(acme(rules=KNOWING_NOTHING, marks_sent=True)) as send:
        with pytest.raises(UnknownOutcomeError):
            send("POST", f"http://127.0.0.1:{port}/charges", content=b"amount=5000")


@pytest.mark.parametrize("client", GUARDED, ids=lambda client: client.name)
def test_what_was_sent_is_marked_by_every_client(client):
    with ScriptedProvider(hanging_up, paid) as provider, client.open(acme(rules=KNOWING_NOTHING, marks_sent=True)) as send:
        with pytest.raises(UnknownOutcomeError):
            send("POST", provider.url(), content=b"amount=5000")
        assert len(provider.asked) == 1


def test_a_transport_that_tells_nothing_is_marked_before_it_is_asked():
    def lost(request):
        raise OSError

    transport = ResilientTransport(acme(rules=KNOWING_NOTHING, marks_sent=True), transport=httpx.MockTransport(lost))
    with httpx.Client(transport=transport) as client, pytest.raises(UnknownOutcomeError):
        client.post("http://acme.test/")


def test_the_callers_own_trace_goes_on_hearing():
    heard = []
    transport = ResilientTransport(acme(marks_sent=True))
    with ScriptedProvider(paid) as provider, httpx.Client(transport=transport) as client:
        client.post(provider.url(), extensions={"trace": lambda name, info: heard.append(name)})
    assert "http11.send_request_headers.started" in heard


# ---------------------------------------------------------------- time


@pytest.mark.parametrize("client", PLAIN, ids=lambda client: client.name)
def test_a_deadline_from_outside_ends_a_plain_call_and_a_short_one_is_nobodys_fault(client):
    breaker = CircuitBreaker("acme", consecutive_failures=1)
    pipeline = Pipeline("acme", breaker, Timeout(5.0), classify=http_classifier())
    with ScriptedProvider(silent) as provider, client.open(pipeline) as send:
        with deadline(SOON), pytest.raises(UnknownOutcomeError) as caught:
            send("POST", provider.url(), content=b"amount=5000")
        assert isinstance(caught.value.__cause__, ExpiredError)
        assert breaker.state == "closed"


@pytest.mark.parametrize("client", PLAIN, ids=lambda client: client.name)
def test_a_whole_timeout_without_an_answer_is_kept_and_the_providers_fault(client):
    breaker = CircuitBreaker("acme", consecutive_failures=1)
    with ScriptedProvider(silent) as provider, client.open(Pipeline("acme", breaker, Timeout(SOON), classify=http_classifier())) as send:
        started = time.monotonic()
        with pytest.raises(UnknownOutcomeError):
            send("POST", provider.url(), content=b"amount=5000")
        assert SOON * 0.9 < time.monotonic() - started < 2.5
        assert breaker.state == "open"


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_an_answer_that_trickles_in_is_given_up_in_time(name):
    def trickling(exchange):
        exchange.socket.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not exchange.server.stopped.wait(SOON / 10):
            exchange.socket.sendall(b"x")

    client = next(one for one in PLAIN if one.name == name)
    with ScriptedProvider(trickling) as provider, client.open(Pipeline("acme", Timeout(SOON), classify=http_classifier())) as send:
        with pytest.raises(UnknownOutcomeError, match="no answer within"):
            send("POST", provider.url(), content=b"amount=5000")


# ---------------------------------------------------------------- given up by others


@pytest.mark.parametrize("client", ASYNC, ids=lambda client: client.name)
def test_a_race_of_two_arms_leaves_no_connection_and_one_answer(client):
    pipeline = Pipeline("acme", Hedge(after=0.05), classify=http_classifier(), effect=Effect.IDEMPOTENT)
    with ScriptedProvider(silent, paid) as provider, client.open(pipeline, pool=2) as send:
        answer = send("POST", provider.url(), content=b"amount=5000", headers=KEY)
        assert (answer.body, provider.keys) == (b'{"status": "paid"}', ["pay_1"] * 2)
        assert send("POST", provider.url(), content=b"amount=5000", headers=KEY).status == 200


async def test_a_cancelled_call_gives_its_connection_back_and_is_told_of():
    told = []
    inner = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=1), verify=False)
    transport = AsyncResilientTransport(acme(listeners=[told.append]), transport=inner)
    timeout = httpx.Timeout(10.0, pool=POOL_WAIT)
    with ScriptedProvider(silent, paid) as provider:
        async with httpx.AsyncClient(transport=transport, timeout=timeout) as client:
            with anyio.move_on_after(SOON):
                await client.post(provider.url(), content=b"amount=5000")
            assert [type(event) for event in told] == [CallAbandoned]
            assert (await client.post(provider.url(), content=b"amount=5000")).status_code == 200


async def test_a_call_cancelled_between_two_attempts_gives_a_long_answer_up():
    inner = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=1), verify=False)
    slow = Pipeline("acme", Retry(attempts=2, backoff=Constant(base=30.0, cap=30.0)), classify=http_classifier())
    transport = AsyncResilientTransport(slow, transport=inner, read_up_to=1000)
    timeout = httpx.Timeout(10.0, pool=POOL_WAIT)
    with ScriptedProvider(answering(429, b"x" * 1_000_000), paid) as provider:
        async with httpx.AsyncClient(transport=transport, timeout=timeout) as client:
            with anyio.move_on_after(SOON):
                await client.post(provider.url(), content=b"amount=5000")
            assert (await client.post(provider.url(), content=b"amount=5000")).status_code == 200


def test_a_thread_that_is_left_behind_closes_what_it_gets():
    told, gate, closed = [], threading.Event(), threading.Event()

    class Stream(httpx.SyncByteStream):
        def __iter__(self):
            yield b"statement"

        def close(self):
            closed.set()

    class Late(httpx.BaseTransport):
        def handle_request(self, request):
            gate.wait(10)
            return httpx.Response(200, stream=Stream())

    pipeline = Pipeline("acme", Timeout(SOON, thread_limit=2), classify=http_classifier(), listeners=[told.append, log_event])
    with httpx.Client(transport=ResilientTransport(pipeline, transport=Late())) as client:
        with pytest.raises(ExpiredError):
            client.get("http://acme.test/")
        gate.set()
        assert closed.wait(10)
    assert not [event for event in told if isinstance(event, LateResult) and not event.succeeded]


# ---------------------------------------------------------------- what we count on


async def test_aiohttp_still_repeats_lost_requests_by_a_switch_that_we_turn_off(anyio_backend_name):
    if anyio_backend_name == "asyncio":
        with ScriptedProvider(paid) as provider:
            async with aiohttp.ClientSession(middlewares=(resilient_middleware(acme()),)) as session:
                assert session._retry_connection is True
                async with session.get(provider.url()) as response:
                    assert response.status == 200
                assert session._retry_connection is False
