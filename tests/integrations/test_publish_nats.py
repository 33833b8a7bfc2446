"""Events to JetStream, before a fake of its client: subjects, headers, sizes, acknowledgements, and what each error means."""

from __future__ import annotations

import asyncio
import json
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import nats.errors
import nats.js.errors
import pytest
from hypothesis import given, strategies as st
from nats.js.api import PubAck

from finresilience.context import deadline
from finresilience.errors import ConfigurationError, RefusedError
from finresilience.integrations.publish_common import BrokerNotReadyError, NotConfirmedError, UnpublishableError
from finresilience.integrations.publish_nats import event_subject, nats_classifier, nats_publisher, token
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN
from finresilience.testing import ManualClock, instant
from tests.ids import named
from tests.integrations.publishing import ID, SOURCE, TRACE, FakeNats, World, row

if TYPE_CHECKING:
    from finresilience.durable.messages import OutboxRow


def sent(event: Any, client: FakeNats | None = None, **more: Any) -> Any:
    """Publish one event on asyncio, and return what the client was told."""
    client = FakeNats(World()) if client is None else client
    asyncio.run(_awaited(nats_publisher(client, source=SOURCE, **more)(event)))
    return client.published[-1]


async def _awaited(published: Any) -> None:
    await published


# --- what is sent ----------------------------------------------------------------------------------------------------


def test_an_event_goes_to_the_subject_of_its_topic_with_its_payload_as_it_is() -> None:
    told = sent(row(topic="payments.eu", payload=b'{"n": 0}', traceparent=TRACE), stream="PAYMENTS")
    assert (told.subject, told.payload, told.stream) == ("payments.eu", b'{"n": 0}', "PAYMENTS")
    assert told.headers["ce-sequence"] == "00000000000000000042"
    assert (told.headers["ce-type"], told.headers["ce-source"], told.headers["traceparent"]) == ("Paid", SOURCE, TRACE)


def test_the_server_can_drop_what_comes_twice_because_each_attempt_has_the_same_id() -> None:
    for attempts in (0, 1, 9):
        told = sent(row(attempts=attempts))
        assert told.headers["Nats-Msg-Id"] == told.headers["ce-id"] == str(ID)


def test_a_message_cannot_command_the_server_by_a_header() -> None:
    commands = {
        "Nats-Rollup": "all",
        "nats-msg-id": "x",
        "Nats-TTL": "1",
        "Nats-Expected-Last-Sequence": "0",
        "Status": "100",
    }
    told = sent(row(headers={**commands, "baggage": "user=7", "Shop": "7"}))
    assert {name for name in told.headers if not name.startswith(("ce-", "content-type"))} == {"Shop", "Nats-Msg-Id"}
    assert told.headers["Nats-Msg-Id"] == str(ID)


def test_what_a_header_line_cannot_carry_is_percent_encoded() -> None:
    told = sent(row(key="Zürich 1", headers={"City": " Zürich"}))
    assert (told.headers["ce-subject"], told.headers["City"]) == ("Z%C3%BCrich%201", "%20Z%C3%BCrich")


def test_the_acknowledgement_is_awaited_for_no_longer_than_the_deadline_leaves() -> None:
    assert sent(row(), timeout=3.0).timeout == 3.0
    with instant(ManualClock()), deadline(0.25):
        assert sent(row()).timeout == 0.25


# --- subjects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "subject"),
    [
        ("payments", "payments"),
        ("payments.eu.v1", "payments.eu.v1"),
        ("a b", "a%20b"),
        ("a*.>", "a%2A.%3E"),
        ("$JS.API.STREAM.DELETE.x", "%24JS.API.STREAM.DELETE.x"),
        ("Zürich", "Z%C3%BCrich"),
        ("100%", "100%25"),
    ],
)
def test_a_topic_never_breaks_a_subject(topic: str, subject: str) -> None:
    assert sent(row(topic=topic)).subject == event_subject(row(topic=topic)) == subject


WORDS = st.text(min_size=1, max_size=255).filter(lambda text: text.isprintable() and bool(text.strip()))


@given(WORDS)
def test_a_token_is_one_token_whatever_is_in_it(text: str) -> None:
    made = token(text)
    assert made.isascii()
    assert made
    assert not set(made) & set(" .*>$\t\r\n")


@given(WORDS, WORDS)
def test_two_texts_never_share_a_token(one: str, other: str) -> None:
    assert (token(one) == token(other)) == (one == other)


def test_the_longest_topic_still_fits_the_line_of_the_protocol() -> None:
    assert len(sent(row(topic="\U0001f600" * 255)).subject) == 255 * 12 < 3_500


@pytest.mark.parametrize("topic", ["a..b", ".a", "a.", "."])
def test_a_topic_with_an_empty_part_is_never_sent(topic: str) -> None:
    with pytest.raises(UnpublishableError, match="empty part"):
        sent(row(topic=topic))


@pytest.mark.parametrize("made", ["", "a b", "a.*", "a.>", "a..b", "a.", "a\r\nPUB b", "$JS.API.INFO", "_INBOX.a", "a" * 3_501, None, 7])
def test_a_subject_of_ones_own_that_nats_would_read_otherwise_is_never_sent(made: Any) -> None:
    def make(_: OutboxRow) -> Any:
        return made

    client = FakeNats(World())
    with pytest.raises(UnpublishableError, match="subject"):
        sent(row(), client, subject=make)
    assert not client.published


def test_a_subject_may_be_made_of_the_key() -> None:
    def of_key(event: OutboxRow) -> str:
        return f"payments.{token(event.message.key)}"

    assert sent(row(key="acc.1 *"), subject=of_key).subject == "payments.acc%2E1%20%2A"


# --- sizes: what the server answers by hanging up is not sent --------------------------------------------------------


def test_what_is_larger_than_the_server_takes_with_its_headers_is_never_sent() -> None:
    client = FakeNats(World())
    size = len(json.dumps({"n": 0, "x": ""}))
    fits, over = ({"n": 0, "x": "x" * (20_000 - size)} for size in (size, size - 1))
    with pytest.raises(UnpublishableError, match="the server takes 20,000"):
        client.max_payload = 20_000
        sent(row(payload=fits), client)
    client.max_payload = 21_000
    sent(row(payload=over), client)
    assert len(client.published) == 1


def test_headers_that_no_stream_takes_are_never_sent() -> None:
    client = FakeNats(World())
    sent(row(headers={f"H-{n}": "x" * 8_000 for n in range(8)}), client)
    with pytest.raises(UnpublishableError, match="headers take"):
        sent(row(headers={f"H-{n}": "x" * 8_192 for n in range(8)}), client)
    assert len(client.published) == 1


def test_the_size_of_the_headers_is_what_the_client_writes() -> None:
    told = sent(row(headers={"City": "Zürich", "Shop": "7"}))
    written = b"NATS/1.0\r\n" + b"".join(f"{name}: {value}\r\n".encode() for name, value in told.headers.items()) + b"\r\n"
    exact = FakeNats(World())
    exact.max_payload = len(written) + len(told.payload)
    sent(row(headers={"City": "Zürich", "Shop": "7"}), exact)
    exact.max_payload -= 1
    with pytest.raises(UnpublishableError):
        sent(row(headers={"City": "Zürich", "Shop": "7"}), exact)


# --- what counts as published ----------------------------------------------------------------------------------------


def test_that_the_stream_knew_the_id_already_is_an_acknowledgement() -> None:
    client = FakeNats(World())
    client.answer = PubAck(stream="PAYMENTS", seq=1, duplicate=True)
    sent(row(), client)


@pytest.mark.parametrize("answer", [None, SimpleNamespace(), PubAck(stream="", seq=1), PubAck(stream="PAYMENTS", seq=0)], ids=named)
def test_what_names_no_place_in_a_stream_is_no_acknowledgement(answer: Any) -> None:
    client = FakeNats(World())
    client.answer = answer
    client.publish = answering(answer)  # type: ignore[method-assign]  # None is the default of a fake's answer too
    with pytest.raises(NotConfirmedError, match="no stream acknowledged it"):
        sent(row(), client)


def answering(answer: Any) -> Any:
    async def publish(*_: Any, **__: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return publish


@pytest.mark.parametrize("error", [json.JSONDecodeError("", "hello", 0), TypeError("seq"), AttributeError("get")], ids=named)
def test_an_answer_by_somebody_who_is_no_stream_is_no_acknowledgement(error: Exception) -> None:
    client = FakeNats(World())
    client.publish = answering(error)  # type: ignore[method-assign]  # what the real one raises when it cannot read the answer
    with pytest.raises(NotConfirmedError, match="is no stream"):
        sent(row(), client)


@pytest.mark.parametrize("gone", ["is_connected", "is_draining"])
def test_without_a_connection_nothing_waits_in_the_clients_buffer(gone: str, caplog: pytest.LogCaptureFixture) -> None:
    client = FakeNats(World())
    publish = nats_publisher(client, source=SOURCE)
    for told in (1, 2):
        setattr(client, gone, gone == "is_draining")
        for _ in range(3):
            with pytest.raises(BrokerNotReadyError, match="no connection"):
                asyncio.run(_awaited(publish(row())))
        assert len(caplog.records) == told, "each outage is told once"
        setattr(client, gone, gone != "is_draining")
        asyncio.run(_awaited(publish(row())))
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert len(client.published) == 2


async def test_on_trio_it_says_that_it_cannot_run_there(anyio_backend_name: str) -> None:
    client = FakeNats(World())
    publish = nats_publisher(client, source=SOURCE)
    if anyio_backend_name == "asyncio":
        await publish(row())
    else:
        with pytest.raises(RefusedError, match="asyncio only"):
            await publish(row())
    assert len(client.published) == (anyio_backend_name == "asyncio")


# --- what an error means ---------------------------------------------------------------------------------------------


def api(code: int, err_code: int | None) -> Exception:
    error: Exception = nats.js.errors.APIError(code=code, err_code=err_code)
    return error


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (nats.js.errors.NoStreamResponseError(), RETRYABLE),
        (nats.errors.NoRespondersError(), RETRYABLE),
        (nats.errors.ConnectionClosedError(), RETRYABLE),
        (nats.errors.ConnectionDrainingError(), RETRYABLE),
        (nats.errors.ConnectionReconnectingError(), RETRYABLE),
        (nats.errors.OutboundBufferLimitError(), RETRYABLE),
        (nats.errors.NoServersError(), RETRYABLE),
        (nats.errors.MaxPayloadError(), NON_RETRYABLE),
        (nats.errors.BadSubjectError(), NON_RETRYABLE),
        (nats.errors.BadHeaderError("a b"), NON_RETRYABLE),
        (nats.errors.TimeoutError(), UNKNOWN),
        (nats.errors.StaleConnectionError(), UNKNOWN),
        (nats.errors.AuthorizationError(), UNKNOWN),
        (nats.js.errors.BadRequestError(code=400, err_code=10054), NON_RETRYABLE),
        (nats.js.errors.BadRequestError(code=400, err_code=10097), NON_RETRYABLE),
        (nats.js.errors.BadRequestError(code=400, err_code=10060), RETRYABLE),
        (nats.js.errors.ServiceUnavailableError(code=503, err_code=10077), RETRYABLE),
        (nats.js.errors.ServiceUnavailableError(code=503, err_code=None), UNKNOWN),
        (api(500, None), UNKNOWN),
        (UnpublishableError("no"), NON_RETRYABLE),
        (NotConfirmedError("no"), UNKNOWN),
        (OSError(), UNKNOWN),
    ],
    ids=lambda one: f"{one} {getattr(one, 'err_code', '')}".strip(),
)
def test_an_error_means_no_more_than_is_known(error: Exception, meaning: Any) -> None:
    assert nats_classifier().error(error).classification is meaning


def test_every_class_that_the_rules_name_is_there() -> None:
    [part] = [part for part in nats_classifier()._parts if any(isinstance(name, str) and name.startswith("nats.") for name in part.types)]
    for name in part.types:
        module, _, kind = str(name).rpartition(".")
        assert hasattr({"nats.errors": nats.errors, "nats.js.errors": nats.js.errors}[module], kind), name


# --- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [{"client": object()}, {"client": None}, {"subject": "payments"}, {"stream": ""}, {"stream": 7}, {"source": ""}, {"timeout": -1}],
    ids=named,
)
def test_what_cannot_work_is_refused_by_name(wrong: dict[str, Any]) -> None:
    plain: dict[str, Any] = {"client": FakeNats(World()), "source": SOURCE}
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        nats_publisher(**plain | wrong)


def test_a_context_of_jetstream_will_do() -> None:
    client = FakeNats(World())
    asyncio.run(_awaited(nats_publisher(client.jetstream(), source=SOURCE)(row())))
    assert len(client.published) == 1
