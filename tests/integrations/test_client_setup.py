"""A mistake in the set-up of a guarded client is told when it is made, and what cannot be refused is warned of."""

from __future__ import annotations

import httpx
import pytest
import requests

from finresilience.errors import ConfigurationError
from finresilience.integrations import notes_of
from finresilience.integrations.httpx import ResilientTransport
from finresilience.integrations.requests import ResilientAdapter
from finresilience.outcome import Effect
from tests.integrations.test_client_rules import Provider, acme, client

MISTAKES = [
    ((), {}, "guards nothing"),
    ((acme,), {}, "guard="),
    ((), {"by_host": {"acme.test": "acme"}}, "guard="),
    ((), {"by_host": "acme.test"}, "by_host="),
    ((acme(effect=Effect.READ),), {}, "acme says READ of every call"),
    ((acme(effect=Effect.IDEMPOTENT_BY_NATURE),), {}, "says IDEMPOTENT_BY_NATURE of every call"),
    ((acme(),), {"effect": Effect.READ}, "effect="),
    ((acme(),), {"by_nature": ["POST"]}, "only PUT and DELETE are idempotent in HTTP"),
    ((acme(),), {"by_nature": "POST"}, "only PUT and DELETE are idempotent in HTTP"),
    ((acme(),), {"key_header": ""}, "key_header="),
    ((acme(),), {"send_headers": 1}, "send_headers="),
    ((acme(),), {"read_up_to": -1}, "read_up_to="),
]


@pytest.mark.parametrize(("guard", "rules", "words"), MISTAKES, ids=[f"{number} {words}" for number, (*_, words) in enumerate(MISTAKES)])
@pytest.mark.parametrize("kind", [ResilientTransport, ResilientAdapter])
def test_a_mistake_is_told_when_it_is_made(kind, guard, rules, words):
    with pytest.raises(ConfigurationError, match=words):
        kind(*guard, **rules)


def test_an_effect_function_that_answers_nonsense_sends_nothing():
    provider = Provider()
    with pytest.raises(ConfigurationError, match="effect="):
        client(provider, acme(), effect=lambda request: "read").get("http://acme.test/")
    assert provider.asked == []


def test_a_guard_inside_a_guard_is_refused():
    for kind, place in ((ResilientTransport, "transport"), (ResilientAdapter, "adapter")):
        with pytest.raises(ConfigurationError, match="would retry its retries"):
            kind(acme(), **{place: kind(acme())})


@pytest.mark.parametrize(
    ("guard", "what"),
    [
        (lambda pipeline: ResilientTransport(pipeline, transport=httpx.HTTPTransport(retries=2, verify=False)), "HTTPTransport"),
        (lambda pipeline: ResilientAdapter(pipeline, adapter=requests.adapters.HTTPAdapter(max_retries=2)), "HTTPAdapter"),
    ],
    ids=["httpx", "requests"],
)
def test_a_client_that_retries_by_itself_is_warned_of_once(guard, what, caplog):
    pipeline = acme()
    guard(pipeline)
    guard(pipeline)
    assert [what in record.getMessage() for record in caplog.records] == [True]
    assert "the client inside makes 3 attempts by itself: switch its retries off" in str(pipeline.explain())
    assert pipeline.explain().attempts == 9


def test_the_notes_show_nothing_secret():
    assert repr(notes_of(client(Provider(402), acme()).post("http://acme.test/"))) == "<CallNotes declined, unsafe, attempts 1>"
    assert notes_of(httpx.Response(200)) is None
    assert notes_of(object()) is None
