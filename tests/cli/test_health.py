"""What a relay tells over HTTP: well while its store answers, and nothing but GET of two pages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from finresilience.cli.health import Contact, Health, _response
from finresilience.clock import ruling_clock
from finresilience.durable.outbox import FencedError, LeaseTerms
from finresilience.durable.relay import Relay
from tests.cli.commands import Waiting, outbox_with

if TYPE_CHECKING:
    from finresilience.testing import ManualClock

TERMS = LeaseTerms(lease=60.0)


class Sick:
    """A store that answers as it is told to."""

    error: Exception | None = None

    def claim(self, *_: object, **__: object) -> str:
        if self.error is not None:
            raise self.error
        return "answered"


def health(store: Any = None, *, name: str = "relay") -> Health:
    outbox = outbox_with(pending=2)
    made = Health(Relay(outbox, lambda _: None, name=name), Contact(store or outbox, ruling_clock()), stale=30.0)
    made.state = "running"
    return made


def asked(told: Health, request: str = "GET /healthz HTTP/1.1") -> tuple[int, str, str]:
    head, _, body = _response(told, f"{request}\r\nHost: x\r\n\r\n".encode()).decode().partition("\r\n\r\n")
    return int(head.split(" ")[1]), head, body


def test_a_store_that_answers_is_in_contact(clock: ManualClock) -> None:
    contact = Contact(Sick(), clock)
    clock.advance(20)
    assert contact.silence() == 20.0
    assert contact.claim("me") == "answered"
    assert contact.silence() == 0.0


async def test_a_store_that_is_awaited_is_in_contact_once_it_has_answered(clock: ManualClock) -> None:
    contact = Contact(Waiting(Sick()), clock)
    clock.advance(20)
    answer = contact.claim("me")
    assert contact.silence() == 20.0
    assert (await answer, contact.silence()) == ("answered", 0.0)


def test_a_store_that_fails_is_not_in_contact_and_one_that_fences_is(clock: ManualClock) -> None:
    store = Sick()
    contact = Contact(store, clock)
    clock.advance(20)
    for error, silence in ((ConnectionResetError(), 20.0), (FencedError(0, 1, current=2, doing="claiming"), 0.0)):
        store.error = error
        with pytest.raises(type(error)):
            contact.claim("me")
        assert contact.silence() == silence


def test_what_is_no_deed_of_a_store_is_passed_on(clock: ManualClock) -> None:
    assert Contact(outbox_with(partitions=7), clock).partitions == 7


def test_silence_up_to_the_limit_is_health_and_beyond_it_is_not(clock: ManualClock) -> None:
    told = health()
    for seconds, status in ((30.0, 200), (0.5, 503)):
        clock.advance(seconds)
        assert asked(told)[0] == status
        assert json.loads(asked(told)[2])["healthy"] is (status == 200)


@pytest.mark.parametrize(("state", "status"), [("starting", 200), ("running", 200), ("draining", 200), ("ended", 503)])
def test_a_relay_that_drains_is_well_and_one_that_ended_is_not(clock: ManualClock, state: str, status: int) -> None:
    told = health()
    told.state = state
    assert asked(told)[0] == status


def test_the_document_has_these_keys(clock: ManualClock) -> None:
    clock.advance(1.5)
    told = health()
    clock.advance(1.5)
    counts = ("published", "settled", "failed", "refused", "buried", "fenced", "takeovers", "store_failures")
    assert json.loads(asked(told)[2]) == {
        "healthy": True,
        "state": "running",
        "relay": "relay",
        "held_partitions": 0,
        "last_contact_age": 1.5,
        "stale_after": 30.0,
        "statistics": dict.fromkeys(counts, 0),
    }


def test_metrics_are_told_as_prometheus_reads_them(clock: ManualClock) -> None:
    status, head, body = asked(health(name='my "relay"'), "GET /metrics?x=1 HTTP/1.1")
    assert (status, "text/plain; version=0.0.4" in head) == (200, True)
    assert '# TYPE finresilience_relay_running gauge\nfinresilience_relay_running{relay="my \\"relay\\""} 1\n' in body
    assert 'finresilience_relay_published_total{relay="my \\"relay\\""} 0\n' in body
    assert len([line for line in body.splitlines() if not line.startswith("#")]) == 11


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET / HTTP/1.1", 404),
        ("GET /healthz/ HTTP/1.1", 404),
        ("HEAD /healthz HTTP/1.1", 405),
        ("POST /metrics HTTP/1.1", 405),
        ("GET /healthz HTTP/2", 400),
        ("GET /healthz", 400),
        ("\x16\x03\x01", 400),
        ("", 400),
    ],
)
def test_nothing_else_is_answered(clock: ManualClock, request_line: str, status: int) -> None:
    answered, head, _ = asked(health(), request_line)
    assert answered == status
    assert ("Allow: GET" in head) is (status == 405)


def test_an_answer_says_how_long_it_is_and_that_it_is_the_last(clock: ManualClock) -> None:
    _, head, body = asked(health())
    assert f"Content-Length: {len(body.encode())}\r\n" in head
    assert "Connection: close" in head


def test_the_fake_store_is_claimed_as_the_real_one(clock: ManualClock) -> None:
    leased = Contact(outbox_with(partitions=2), clock).claim("me", at_most=2, terms=TERMS)
    assert len(leased.leases) == 2
