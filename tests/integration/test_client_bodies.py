"""What guarded clients do with bodies: a stream is sent once, an answer comes whole, and what is long is left to its reader."""

from __future__ import annotations

import gc
import gzip
import io

import aiohttp
import httpx
import pytest
import requests

from finresilience.classify import ErrorClassifier, http_classifier
from finresilience.cores.backoff import Constant
from finresilience.errors import UnknownOutcomeError
from finresilience.integrations import notes_of
from finresilience.integrations.httpx import ResilientTransport
from finresilience.integrations.requests import ResilientAdapter
from finresilience.outcome import RETRYABLE
from finresilience.policies.pipeline import Pipeline
from finresilience.policies.retry import Retry
from tests.integration.faulty_server import refusing
from tests.integration.guarded_clients import CLIENT_ERRORS, GUARDED
from tests.integration.scripted_provider import ScriptedProvider, answering, half, hanging_up, not_now, paid

# When a connection breaks, some clients leave a socket or a generator to the collector. Theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

KEY = {"Idempotency-Key": "pay_1"}
LONG = b"x" * 300_000


@pytest.fixture(scope="module", autouse=True)
def _collected():
    yield
    gc.collect()


@pytest.fixture(params=GUARDED, ids=lambda client: client.name)
def client(request):
    return request.param


def acme():
    return Pipeline("acme", Retry(attempts=3, backoff=Constant(base=0.001)), classify=http_classifier())


def parts():
    yield b"amount="
    yield b"5000"


async def async_parts():
    yield b"amount="
    yield b"5000"


def streamed(client):
    return async_parts() if client.is_async else parts()


# ---------------------------------------------------------------- what is sent


def test_a_streamed_body_is_never_sent_twice_even_under_a_key(client):
    with ScriptedProvider(hanging_up, paid) as provider, client.open(acme()) as send:
        with pytest.raises(UnknownOutcomeError, match="its body is a stream, which cannot be sent twice"):
            send("POST", provider.url(), content=streamed(client), headers=KEY)
        assert [asked.body for asked in provider.asked] == [b"amount=5000"]


def test_a_refusal_of_a_streamed_body_is_returned_at_once(client):
    with ScriptedProvider(not_now, paid) as provider, client.open(acme()) as send:
        answer = send("POST", provider.url(), content=streamed(client), headers=KEY)
        assert (answer.status, answer.notes.attempts, len(provider.asked)) == (503, 1, 1)


def test_a_streamed_body_that_nobody_began_to_read_is_tried_again(client):
    with refusing() as port, client.open(acme()) as send:
        with pytest.raises(CLIENT_ERRORS) as caught:
            send("POST", f"http://127.0.0.1:{port}/charges", content=streamed(client), headers=KEY)
        assert "3 attempts" in "".join(caught.value.__notes__)


def test_a_file_is_sent_whole_each_time_or_once(client):
    with ScriptedProvider(not_now, paid) as provider, client.open(acme()) as send:
        file = io.BytesIO(b"amount=5000")
        if client.name.startswith("httpx") and client.is_async:
            return  # it takes async bodies only
        answer = send("POST", provider.url(), content=file, headers=KEY)
        sent = [asked.body for asked in provider.asked]
        assert sent == ([b"amount=5000"] if client.name.startswith("httpx") else [b"amount=5000"] * 2)
        assert answer.notes.attempts == len(sent)


@pytest.mark.parametrize("name", ["httpx", "httpx2", "requests"])
def test_a_form_with_a_file_is_sent_whole_each_time(name):
    client = next(one for one in GUARDED if one.name == name)
    with ScriptedProvider(not_now, not_now, paid) as provider, client.open(acme()) as send:
        send("POST", provider.url(), files={"receipt": ("receipt.txt", io.BytesIO(b"amount=5000"))})
        assert [b"amount=5000" in asked.body for asked in provider.asked] == [True] * 3
        assert len({asked.body for asked in provider.asked}) == 1


def test_a_form_of_aiohttp_is_sent_whole_each_time():
    client = next(one for one in GUARDED if one.name == "aiohttp")
    with ScriptedProvider(not_now, hanging_up, paid) as provider, client.open(acme()) as send:
        form = aiohttp.FormData({"amount": "5000"}, default_to_multipart=True)
        form.add_field("receipt", io.BytesIO(b"x" * 100_000), filename="receipt.txt")
        assert send("POST", provider.url(), content=form, headers=KEY).notes.attempts == 3
        assert len({asked.body for asked in provider.asked}) == 1
        assert b"x" * 100_000 in provider.asked[0].body


# ---------------------------------------------------------------- what comes back


@pytest.mark.parametrize("status", [200, 402])
def test_a_long_answer_comes_whole(client, status):
    with ScriptedProvider(answering(status, LONG)) as provider, client.open(acme(), read_up_to=100_000) as send:
        assert send("POST", provider.url(), content=b"amount=5000").body == LONG
        assert send("POST", provider.url(), content=b"amount=5000").body == LONG


def test_a_long_answer_that_says_try_again_is_let_go_of(client):
    refusal = answering(503, LONG, "Retry-After: 0")
    with ScriptedProvider(refusal, paid) as provider, client.open(acme(), read_up_to=1_000_000) as send:
        assert send("POST", provider.url(), content=b"amount=5000").status == 200


def test_a_compressed_answer_is_read_by_the_rules_and_by_the_caller():
    seen = []

    def full(answer):
        seen.append(answer.json())
        return answer.json()["state"] == "queue full"

    told = [gzip.compress(text) for text in (b'{"state": "queue full"}', b'{"state": "paid"}')]
    rules = ErrorClassifier(when=[(full, RETRYABLE)]) | http_classifier()
    whole = Pipeline("acme", Retry(attempts=3, backoff=Constant(base=0.001)), classify=rules)
    with ScriptedProvider(*(answering(200, one, "Content-Encoding: gzip") for one in told)) as provider:
        with httpx.Client(transport=ResilientTransport(whole)) as client:
            assert client.post(provider.url()).json() == {"state": "paid"}
    assert {"state": "queue full"} in seen


def test_a_read_is_streamed_to_its_reader_and_its_connection_comes_back():
    with ScriptedProvider(answering(500), answering(200, LONG), paid) as provider:
        inner = httpx.HTTPTransport(limits=httpx.Limits(max_connections=1))
        with httpx.Client(transport=ResilientTransport(acme(), transport=inner)) as client:
            with client.stream("GET", provider.url()) as response:
                assert notes_of(response).attempts == 2
                assert sum(map(len, response.iter_raw())) == len(LONG)
            assert client.get(provider.url()).json() == {"status": "paid"}


def test_the_guard_of_a_streamed_read_ends_at_the_headers():
    with ScriptedProvider(half(200)) as provider, httpx.Client(transport=ResilientTransport(acme())) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            client.get(provider.url())
        assert len(provider.asked) == 1


def test_a_stream_of_events_is_left_to_its_reader():
    def events(exchange):
        exchange.socket.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        exchange.silence()

    with ScriptedProvider(events) as provider, httpx.Client(transport=ResilientTransport(acme())) as client:
        with client.stream("POST", provider.url()) as response:
            assert next(response.iter_lines()) == "data: 1"


def test_a_stream_of_requests_is_left_to_its_reader_and_a_short_no_is_read():
    with ScriptedProvider(not_now, answering(200, LONG), paid) as provider, requests.Session() as session:
        session.mount("http://", ResilientAdapter(acme()))
        with session.get(provider.url(), stream=True) as response:
            assert notes_of(response).attempts == 2
            assert len(response.raw.read()) == len(LONG)


def test_what_follows_an_answer_by_its_connection_is_guarded_too():
    challenge = answering(401, b"", 'WWW-Authenticate: Digest realm="acme", nonce="1", qop="auth"')
    with ScriptedProvider(challenge, hanging_up, paid) as provider, requests.Session() as session:
        session.mount("http://", ResilientAdapter(acme()))
        with pytest.raises(UnknownOutcomeError):
            session.post(provider.url(), data=b"amount=5000", auth=requests.auth.HTTPDigestAuth("user", "secret"))
        assert len(provider.asked) == 2
