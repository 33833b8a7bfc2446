"""Real faults on real sockets, through five HTTP clients: what was surely not sent is told from what may have been.

Whatever a client raises, the server's own book says which requests had arrived whole.
"""

from __future__ import annotations

import gc
import socket

import pytest

from finresilience.classify import http_classifier, payments_classifier
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Verdict
from tests.integration.clients import CLIENTS
from tests.integration.faulty_server import FaultyServer, never_accepting, refusing

# When a connection breaks, some clients leave a socket or a generator to the collector. Theirs to mend; collected here, so
# that no later test is blamed.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

SOON = 0.1  # seconds; for what never comes
LIBRARIES = ("httpx", "httpx2", "aiohttp", "requests", "urllib3")
HTTP, PAYMENTS = http_classifier(), payments_classifier()
RAISING = [client for client in CLIENTS if "urllib3" not in client.name]  # it has no raise_for_status
RETRYING = [client for client in CLIENTS if client.name in ("aiohttp", "requests", "urllib3")]  # by themselves, if a PUT is lost


@pytest.fixture(scope="module", autouse=True)
def _collected():
    yield
    gc.collect()


@pytest.fixture(params=CLIENTS, ids=lambda client: client.name)
def client(request):
    return request.param


def told(client, url, **how):
    """Return what the classifiers make of what this client makes of it; None for an ordinary answer."""
    raised = None
    try:
        answer = client(url, **how)
    except Exception as error:
        raised = error
    if raised is None:
        assert PAYMENTS.value(answer) == HTTP.value(answer)
        return HTTP.value(answer)
    assert isinstance(raised, TimeoutError) or type(raised).__module__.partition(".")[0] in LIBRARIES
    assert PAYMENTS.error(raised) == HTTP.error(raised)
    return HTTP.error(raised)


def answering(status, body=b"", *headers):
    def fault(exchange):
        exchange.request()
        exchange.answer(status, body, *headers)

    return fault


def hanging_up(exchange):
    exchange.request()


def resetting(exchange):
    exchange.request()
    exchange.reset()


def resetting_early(exchange):
    exchange.hello()
    exchange.reset()


def silent(exchange):
    exchange.request()
    exchange.silence()


# ---------------------------------------------------------------- surely not sent


def test_a_refused_connection_was_not_sent(client):
    with refusing() as port:
        assert told(client, f"http://127.0.0.1:{port}/") == Verdict(RETRYABLE)


def test_a_connection_that_is_never_made_was_not_sent(client):
    with never_accepting() as port:
        assert told(client, f"http://127.0.0.1:{port}/", connect=SOON) == Verdict(RETRYABLE)


def test_a_name_nobody_knows_was_not_sent(client, monkeypatch):
    def unknown(*_, **__):  # what the system says of it, without asking a name server
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert told(client, "http://nobody.invalid/") == Verdict(RETRYABLE)


def test_no_free_connection_in_the_pool_is_not_sent_and_not_the_providers_fault(client):
    def in_use(exchange):
        exchange.request()
        exchange.socket.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nand then nothing")
        exchange.silence()

    with FaultyServer(in_use) as server:
        assert told(client, server.url(), crowded=True) == Verdict(RETRYABLE, counts_against_provider=False)
        assert server.book == [b"GET /held HTTP/1.1"]


def no_tls(exchange):
    exchange.hello()
    exchange.socket.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def silent_greeting(exchange):
    exchange.hello()
    exchange.silence()


@pytest.mark.parametrize("fault", [no_tls, resetting_early, silent_greeting, lambda exchange: exchange.hello()])
def test_a_failed_handshake_was_not_sent(client, fault):
    connect = SOON if fault is silent_greeting else 10.0
    with FaultyServer(fault) as server:
        assert told(client, server.url("https"), connect=connect) == Verdict(RETRYABLE)
        assert server.book == []


def test_a_certificate_nobody_vouches_for_was_not_sent(client):
    with FaultyServer(answering(200), tls=True) as server:
        assert told(client, server.url("https")) == Verdict(RETRYABLE)
        assert server.book == []


def test_a_refusing_proxy_was_not_sent(client):
    with refusing() as port:
        assert told(client, "http://127.0.0.1:1/", proxy=f"http://127.0.0.1:{port}") == Verdict(RETRYABLE)


def test_a_proxy_that_makes_no_tunnel_was_not_sent(client):
    with FaultyServer(answering(403)) as server:
        assert told(client, "https://127.0.0.1:1/", proxy=server.url()) == Verdict(RETRYABLE)
        assert [line.split()[0] for line in server.book] == [b"CONNECT"]


def test_a_total_timeout_that_meets_a_hanging_connect_was_not_sent():
    aiohttp = next(client for client in CLIENTS if client.name == "aiohttp")
    with never_accepting() as port:
        assert told(aiohttp, f"http://127.0.0.1:{port}/", total=SOON) == Verdict(RETRYABLE)
    with FaultyServer(silent_greeting) as server:
        assert told(aiohttp, server.url("https"), total=SOON) == Verdict(RETRYABLE)


# ---------------------------------------------------------------- may have been carried out


@pytest.mark.parametrize("fault", [resetting_early, resetting, hanging_up])
def test_a_connection_lost_after_the_first_byte_is_unknown(client, fault):
    with FaultyServer(fault) as server:
        assert told(client, server.url()) == Verdict(UNKNOWN)
        assert len(server.book) == (fault is not resetting_early)


@pytest.mark.parametrize("fault", [resetting, hanging_up])
def test_a_connection_lost_after_the_handshake_is_unknown(client, fault):
    with FaultyServer(fault, tls=True) as server:
        assert told(client, server.url("https"), trust=True) == Verdict(UNKNOWN)
        assert len(server.book) == 1


@pytest.mark.parametrize("tls", [False, True])
def test_no_answer_in_time_is_unknown(client, tls):
    with FaultyServer(silent, tls=tls) as server:
        assert told(client, server.url("https" if tls else "http"), trust=tls, read=SOON) == Verdict(UNKNOWN)
        assert server.noted(1)


def test_a_total_timeout_that_meets_a_hanging_answer_is_unknown():
    aiohttp = next(client for client in CLIENTS if client.name == "aiohttp")
    with FaultyServer(silent) as server:
        assert told(aiohttp, server.url(), total=2 * SOON) == Verdict(UNKNOWN)
        assert server.noted(1)


def test_an_answer_that_is_not_http_is_unknown(client):
    def babbling(exchange):
        exchange.request()
        exchange.socket.sendall(b"OK, thank you\r\n\r\n")

    with FaultyServer(babbling) as server:
        assert told(client, server.url()) == Verdict(UNKNOWN)  # aiohttp calls it a 400


def test_half_an_answer_is_unknown(client):
    def half(exchange):
        exchange.request()
        exchange.socket.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"status": ')

    with FaultyServer(half) as server:
        assert told(client, server.url()) == Verdict(UNKNOWN)


def test_a_forward_proxy_that_hangs_up_is_unknown(client):
    with FaultyServer(hanging_up) as server:  # urllib3 says "unable to connect to proxy" of it
        assert told(client, "http://127.0.0.1:1/charges", proxy=server.url()) == Verdict(UNKNOWN)
        assert server.book == [b"POST http://127.0.0.1:1/charges HTTP/1.1"]


# ---------------------------------------------------------------- answers

ANSWERS = [
    (200, (), None),
    (201, (), None),
    (402, (), Verdict(NON_RETRYABLE)),
    (409, (), Verdict(UNKNOWN)),
    (422, (), Verdict(NON_RETRYABLE)),
    (429, (), Verdict(RETRYABLE)),
    (429, ("Retry-After: 7",), Verdict(RETRYABLE, retry_after=7.0)),
    (500, (), Verdict(UNKNOWN)),
    (502, ("Content-Type: text/html",), Verdict(UNKNOWN)),
    (503, (), Verdict(UNKNOWN)),
    (503, ("Retry-After: 7",), Verdict(RETRYABLE, retry_after=7.0)),
    (
        503,
        ("retry-after: Sun, 06 Nov 1994 08:49:37 GMT", "DATE: Sunday, 06-Nov-94 08:49:30 GMT"),
        Verdict(RETRYABLE, retry_after=7.0),
    ),
    (504, ("Retry-After: 7",), Verdict(UNKNOWN, retry_after=7.0)),
]


@pytest.mark.parametrize(("status", "headers", "verdict"), ANSWERS, ids=str)
def test_a_returned_answer_is_told_by_its_status(client, status, headers, verdict):
    with FaultyServer(answering(status, b"<html>", *headers)) as server:
        assert told(client, server.url()) == verdict
        assert len(server.book) == 1


@pytest.mark.parametrize("client", RAISING, ids=lambda client: client.name)
@pytest.mark.parametrize(("status", "headers", "verdict"), [one for one in ANSWERS if one[0] >= 400], ids=str)
def test_a_raised_answer_is_told_as_a_returned_one(client, status, headers, verdict):
    with FaultyServer(answering(status, b"<html>", *headers)) as server:
        assert told(client, server.url(), raising=True) == verdict


# ---------------------------------------------------------------- one call, several exchanges


@pytest.mark.parametrize("status", [301, 302, 303])
def test_refused_after_a_redirect_is_unknown_because_the_payment_was_answered(client, status):
    with refusing() as port, FaultyServer(answering(status, b"", f"Location: http://127.0.0.1:{port}/")) as server:
        assert told(client, server.url(), follow=True) == Verdict(UNKNOWN)
        assert len(server.book) == 1


@pytest.mark.parametrize("status", [307, 308])
def test_refused_after_being_told_to_repeat_it_elsewhere_was_not_applied(client, status):
    with refusing() as port, FaultyServer(answering(status, b"", f"Location: http://127.0.0.1:{port}/")) as server:
        assert told(client, server.url(), follow=True) == Verdict(RETRYABLE)


@pytest.mark.parametrize("status", [303, 307])
@pytest.mark.parametrize(
    ("last", "headers", "verdict"), [(404, (), NON_RETRYABLE), (429, (), RETRYABLE), (503, ("Retry-After: 0",), RETRYABLE)]
)
def test_a_no_after_a_redirect_speaks_for_the_last_request_only(client, status, last, headers, verdict):
    def redirecting(exchange):
        exchange.request()
        if len(exchange.server.book) == 1:
            exchange.answer(status, b"", "Location: /receipt")
        else:
            exchange.answer(last, b"", *headers)

    with FaultyServer(redirecting) as server:
        assert told(client, server.url(), follow=True).classification is (UNKNOWN if status == 303 else verdict)
        if client in RAISING:
            server.book.clear()
            assert told(client, server.url(), follow=True, raising=True).classification is (UNKNOWN if status == 303 else verdict)


def test_a_redirected_inquiry_moves_nothing(client):
    with refusing() as port, FaultyServer(answering(302, b"", f"Location: http://127.0.0.1:{port}/")) as server:
        assert told(client, server.url(), method="GET", follow=True) == Verdict(RETRYABLE)


@pytest.mark.parametrize("client", RETRYING, ids=lambda client: client.name)
def test_refused_after_the_clients_own_retry_is_unknown_because_the_first_one_arrived(client):
    def losing_one(exchange):
        exchange.server.stop_listening()
        exchange.request()

    with FaultyServer(losing_one) as server:
        assert told(client, server.url(), method="PUT", retries=2) == Verdict(UNKNOWN)
        assert server.book == [b"PUT /charges HTTP/1.1"]


@pytest.mark.parametrize("client", RETRYING, ids=lambda client: client.name)
def test_refused_on_every_one_of_the_clients_own_retries_was_not_sent(client):
    with refusing() as port:
        assert told(client, f"http://127.0.0.1:{port}/", method="PUT", retries=2) == Verdict(RETRYABLE)


def test_a_kept_connection_that_breaks_is_unknown(client):
    def closing_after_one(exchange):
        exchange.request()
        exchange.answer(200, b"{}", close=False)
        exchange.server.stop_listening()
        exchange.request()

    with FaultyServer(closing_after_one) as server:
        assert told(client, server.url(), method="PUT", again=True, retries=2) == Verdict(UNKNOWN)
        assert len(server.book) == 2
