"""Events over HTTP, by httpx and httpx2: what is sent, what counts as published, and what each answer means for the event."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest

from finresilience.context import deadline
from finresilience.errors import ConfigurationError
from finresilience.integrations.publish_common import UnpublishableError
from finresilience.integrations.publish_http import PublishRejectedError, http_publish_classifier, http_publisher
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN
from finresilience.testing import ManualClock, instant
from tests.ids import named
from tests.integrations.publishing import ID, SOURCE, TRACE, row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from finresilience.durable.messages import OutboxRow

URL = "https://bus.test/in"
LIBRARIES = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])


def posted(event: Any, *, status: int = 202, library: Any = httpx, url: Any = URL, **more: Any) -> list[Any]:
    """Publish one event, and return the requests that the endpoint saw."""
    seen: list[Any] = []

    def answer(request: Any) -> Any:
        seen.append(request)
        return library.Response(status, headers={"Location": "https://elsewhere.test/"})

    publish: Any = http_publisher(library.Client(transport=library.MockTransport(answer)), url, source=SOURCE, **more)
    publish(event)
    return seen


# --- what is sent ----------------------------------------------------------------------------------------------------


@LIBRARIES
def test_an_event_is_a_cloudevent_in_binary_mode_with_its_payload_as_it_is(library: Any) -> None:
    [request] = posted(row(payload=b'{"amount": "1.10" }', content_type="application/json", tenant="eu"), library=library)
    assert (request.method, str(request.url), request.content) == ("POST", URL, b'{"amount": "1.10" }')
    told = {name: value for name, value in request.headers.items() if name.startswith("ce-")}
    assert told == {
        "ce-specversion": "1.0",
        "ce-id": str(ID),
        "ce-source": SOURCE,
        "ce-type": "Paid",
        "ce-subject": "acc_1",
        "ce-time": "2026-03-01T12:00:00Z",
        "ce-partitionkey": "acc_1",
        "ce-sequence": "00000000000000000042",
        "ce-schemaversion": "1",
        "ce-tenant": "eu",
    }
    assert request.headers["content-type"] == "application/json"


@LIBRARIES
async def test_an_async_client_is_awaited(library: Any) -> None:
    def answer(_: Any) -> Any:
        return library.Response(204)

    client = library.AsyncClient(transport=library.MockTransport(answer))
    publish: Any = http_publisher(client, URL, source=SOURCE)
    await publish(row())
    await client.aclose()


def test_every_attempt_carries_the_same_id_also_as_its_idempotency_key() -> None:
    seen = [*posted(row()), *posted(row(attempts=3, takeovers=1))]
    assert {request.headers["ce-id"] for request in seen} == {request.headers["Idempotency-Key"] for request in seen} == {str(ID)}


def test_the_trace_goes_with_it_and_baggage_does_not() -> None:
    [request] = posted(row(traceparent=TRACE, headers={"tracestate": "a=1", "Baggage": "user=7"}))
    assert (request.headers["traceparent"], request.headers["tracestate"]) == (TRACE, "a=1")
    assert "baggage" not in request.headers


def test_a_header_of_the_message_goes_beside_and_never_in_the_place_of_what_tells_the_event() -> None:
    own = {"Shop": "7", "CE-ID": "x", "Content-Type": "text/html", "Idempotency-Key": "x", "Ce-Color": "red"}
    [request] = posted(row(headers=own))
    assert (request.headers["shop"], request.headers["ce-color"]) == ("7", "red")
    assert request.headers.get_list("ce-id") == request.headers.get_list("idempotency-key") == [str(ID)]
    assert request.headers.get_list("content-type") == ["application/json"]


@pytest.mark.parametrize(
    "name", ["Host", "Content-Length", "Transfer-Encoding", "Connection", "Authorization", "Cookie", "Proxy-Authorization"]
)
def test_a_message_cannot_steer_the_request(name: str) -> None:
    [plain], [request] = posted(row()), posted(row(headers={name: "chunked"}))
    assert request.headers.get(name) == plain.headers.get(name)


@pytest.mark.parametrize(("value", "sent"), [("Zürich", "Z%C3%BCrich"), ("a b", "a b"), (" a", "%20a"), ("5%", "5%"), ("", "")])
def test_a_header_that_no_line_can_carry_is_percent_encoded(value: str, sent: str) -> None:
    [request] = posted(row(headers={"City": value}))
    assert request.headers["City"] == sent


def test_as_a_whole_it_is_one_json_document_whose_amounts_are_not_rounded() -> None:
    exact = b'{"amount": 0.12345678901234567890, "n": 1.10}'
    [request] = posted(row(payload=exact, content_type="application/json", headers={"ce-id": "x", "Shop": "7"}), whole=True)
    event = json.loads(request.content)
    assert (request.headers["content-type"], request.headers["shop"]) == ("application/cloudevents+json", "7")
    assert (event["id"], event["source"], event["sequence"]) == (str(ID), SOURCE, "00000000000000000042")
    assert b'"data":' + exact in request.content
    assert not any(name.startswith("ce-") for name in request.headers)


def test_as_a_whole_bytes_are_base64() -> None:
    [request] = posted(row(payload=b"\xff\x00"), whole=True)
    assert json.loads(request.content)["data_base64"] == "/wA="


@pytest.mark.parametrize(
    "payload", [b"{", b"\xff", b"[NaN]", b"\xef\xbb\xbf{}", b"[" * 100_000], ids=["cut", "bytes", "nan", "bom", "deep"]
)
def test_as_a_whole_a_payload_that_only_says_that_it_is_json_is_never_sent(payload: bytes) -> None:
    with pytest.raises(UnpublishableError, match="says JSON"):
        posted(row(payload=payload, content_type="application/json"), whole=True)


def test_the_url_may_be_made_from_the_row() -> None:
    def of_topic(event: OutboxRow) -> str:
        return f"https://{event.message.topic}.test/in"

    [request] = posted(row(), url=of_topic)
    assert str(request.url) == "https://payments.test/in"


@pytest.mark.parametrize("made", ["", "payments", "ftp://a", "https://", "https://[", None, 7])
def test_a_url_of_ones_own_that_is_none_is_never_sent(made: Any) -> None:
    def make(_: OutboxRow) -> Any:
        return made

    with pytest.raises(UnpublishableError, match="URL"):
        posted(row(), url=make)


def test_a_request_takes_no_longer_than_the_deadline_leaves() -> None:
    with instant(ManualClock()):
        [request] = posted(row(), timeout=3.0)
        assert set(request.extensions["timeout"].values()) == {3.0}
        with deadline(0.25):
            [request] = posted(row())
            assert set(request.extensions["timeout"].values()) == {0.25}


# --- what counts as published ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_a_2xx_is_published(status: int) -> None:
    assert len(posted(row(), status=status)) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 304, 400, 401, 404, 409, 500, 503])
def test_nothing_but_a_2xx_is_published_and_no_redirect_is_followed(status: int) -> None:
    with pytest.raises(PublishRejectedError) as caught:
        posted(row(), status=status)
    assert caught.value.status_code == status
    assert str(ID) not in str(caught.value)


def test_an_endpoint_that_says_by_409_that_it_has_the_id_has_it() -> None:
    posted(row(), status=409, already=(409,))
    with pytest.raises(PublishRejectedError):
        posted(row(), status=404, already=(409,))


class Breaking(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that breaks off."""

    def __init__(self) -> None:
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        yield b"o"
        raise httpx.ReadError("gone")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"o"
        raise httpx.ReadError("gone")

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


async def test_a_word_in_hand_is_not_lost_over_a_body_that_breaks_off() -> None:
    for status in (202, 503):
        bodies = [Breaking(), Breaking()]
        left = iter(bodies)
        transport = httpx.MockTransport(lambda _, status=status, left=left: httpx.Response(status, stream=next(left)))
        sync, alike = httpx.Client(transport=transport), httpx.AsyncClient(transport=transport)
        if status == 202:
            http_publisher(sync, URL, source=SOURCE)(row())
            await http_publisher(alike, URL, source=SOURCE)(row())
        else:
            with pytest.raises(PublishRejectedError):
                http_publisher(sync, URL, source=SOURCE)(row())
            with pytest.raises(PublishRejectedError):
                await http_publisher(alike, URL, source=SOURCE)(row())
        assert [body.closed for body in bodies] == [1, 1]


def test_a_body_that_trickles_for_ever_holds_up_nothing() -> None:
    with instant(ManualClock()) as clock:

        class Trickling(httpx.SyncByteStream):
            def __iter__(self) -> Iterator[bytes]:
                while True:
                    clock.advance(1)
                    yield b"."

        transport = httpx.MockTransport(lambda _: httpx.Response(202, stream=Trickling()))
        http_publisher(httpx.Client(transport=transport), URL, source=SOURCE, timeout=5.0)(row())
        assert clock.monotonic() == 5.0


# --- what an answer means --------------------------------------------------------------------------------------------


def verdict(status: int, **headers: str) -> Any:
    return http_publish_classifier().error(PublishRejectedError(status, httpx.Response(status, headers=headers)))


@pytest.mark.parametrize("status", [400, 413, 414, 415, 422, 431])
def test_a_no_to_the_event_itself_is_final(status: int) -> None:
    assert verdict(status).classification is NON_RETRYABLE


@pytest.mark.parametrize("status", [301, 302, 307, 308, 401, 403, 404, 405, 407, 410, 421, 425, 426, 429, 451])
def test_a_no_to_our_address_or_credentials_is_tried_again_since_people_mend_it(status: int) -> None:
    assert verdict(status).classification is RETRYABLE


@pytest.mark.parametrize("status", [303, 304, 408, 409, 423, 500, 502, 503, 504, 599])
def test_what_may_have_been_taken_is_unknown(status: int) -> None:
    assert verdict(status).classification is UNKNOWN


@pytest.mark.parametrize("status", [404, 429, 503])
def test_the_endpoint_says_when_to_come_back(status: int) -> None:
    told = verdict(status, **{"Retry-After": "7"})
    assert (told.classification, told.retry_after) == (RETRYABLE, 7.0)


def test_how_far_a_request_came_is_judged_as_for_any_http_call() -> None:
    rules = http_publish_classifier()
    request = httpx.Request("POST", URL)
    assert rules.error(httpx.ConnectError("refused", request=request)).classification is RETRYABLE
    assert rules.error(httpx.ReadTimeout("silence", request=request)).classification is UNKNOWN
    assert rules.error(UnpublishableError("no")).classification is NON_RETRYABLE


def test_what_another_call_says_is_judged_as_ever() -> None:
    raised = httpx.HTTPStatusError("", request=httpx.Request("POST", URL), response=httpx.Response(404))
    assert http_publish_classifier().error(raised).classification is NON_RETRYABLE


# --- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"client": object()},
        {"client": None},
        {"url": "bus.test"},
        {"url": "https://bus test/"},
        {"url": ""},
        {"url": 7},
        {"source": ""},
        {"source": "a\nb"},
        {"source": "x" * 256},
        {"whole": 1},
        {"already": "409"},
        {"already": (200,)},
        {"already": (500,)},
        {"already": (True,)},
        {"already": 409},
        {"timeout": 0},
        {"timeout": float("nan")},
    ],
    ids=named,
)
def test_what_cannot_work_is_refused_by_name(wrong: dict[str, Any]) -> None:
    plain: dict[str, Any] = {"client": httpx.Client(), "url": URL, "source": SOURCE}
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        http_publisher(**plain | wrong)
