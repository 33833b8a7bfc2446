"""Whose pipeline guards a request, what happens if it is sent twice, and under which key: told from the request, without a network."""

from __future__ import annotations

import httpx
import pytest

from finresilience.classify import http_classifier
from finresilience.context import attempt_budget, idempotency_key
from finresilience.cores.backoff import Constant
from finresilience.errors import ConfigurationError, MissingKeyError, NoRouteError, UnknownOutcomeError
from finresilience.integrations import notes_of
from finresilience.integrations.httpx import ResilientTransport
from finresilience.outcome import Effect, Found
from finresilience.policies.pipeline import Pipeline
from finresilience.policies.retry import Retry
from finresilience.testing import instant
from tests.laws.sabotage import kills

KEY = {"Idempotency-Key": "pay_1"}


@pytest.fixture(autouse=True)
def _at_once():
    with instant():
        yield


def acme(name="acme", **settings):
    return Pipeline(name, Retry(attempts=3, backoff=Constant(base=1.0)), classify=http_classifier(), **settings)


class Provider:
    """Answers by a script of statuses, the last one for ever, and keeps what it was asked."""

    def __init__(self, *statuses):
        self.statuses = statuses or (200,)
        self.asked = []

    def __call__(self, request):
        self.asked.append(request)
        status = self.statuses[min(len(self.asked), len(self.statuses)) - 1]
        return httpx.Response(status, headers={"Retry-After": "0"} if status == 429 else {})

    @property
    def keys(self):
        return [request.headers.get("Idempotency-Key") for request in self.asked]


def client(provider, *guard, **rules):
    follow = rules.pop("follow", False)
    return httpx.Client(
        transport=ResilientTransport(*guard, transport=httpx.MockTransport(provider), **rules), follow_redirects=follow, trust_env=False
    )


# ---------------------------------------------------------------- what if it is sent twice?

METHODS = [
    ("GET", {}, Effect.READ),
    ("HEAD", {}, Effect.READ),
    ("OPTIONS", {}, Effect.READ),
    ("GET", KEY, Effect.READ),
    ("POST", {}, Effect.UNSAFE),
    ("PATCH", {}, Effect.UNSAFE),
    ("PUT", {}, Effect.UNSAFE),
    ("DELETE", {}, Effect.UNSAFE),
    ("POST", {"Idempotency-Key": " "}, Effect.UNSAFE),
    ("POST", KEY, Effect.IDEMPOTENT),
    ("PATCH", KEY, Effect.IDEMPOTENT),
    ("PUT", KEY, Effect.IDEMPOTENT),
    ("PROPFIND", {}, Effect.UNSAFE),
]


@pytest.mark.parametrize(("method", "headers", "effect"), METHODS, ids=str)
def test_the_method_and_the_key_say_what_twice_means(method, headers, effect):
    assert notes_of(client(Provider(), acme()).request(method, "http://acme.test/", headers=headers)).effect is effect


@pytest.mark.parametrize(("method", "effect"), [("PUT", Effect.IDEMPOTENT_BY_NATURE), ("DELETE", Effect.UNSAFE), ("POST", Effect.UNSAFE)])
def test_what_may_be_repeated_by_nature_is_only_what_is_declared(method, effect):
    assert notes_of(client(Provider(), acme(), by_nature=["PUT"]).request(method, "http://acme.test/")).effect is effect


def test_a_declared_put_is_sent_again_and_ends_unknown_if_it_stays_unanswered():
    provider = Provider(500)
    with pytest.raises(UnknownOutcomeError):
        client(provider, acme(), by_nature=["PUT"]).put("http://acme.test/address")
    assert len(provider.asked) == 3


def test_whoever_knows_better_than_the_method_says_so_for_single_requests():
    def searching(request):
        return Effect.READ if request.url.path == "/search" else None

    provider = Provider(500)
    guarded = client(provider, acme(), effect=searching)
    assert guarded.post("http://acme.test/search").status_code == 500
    assert len(provider.asked) == 3
    with pytest.raises(UnknownOutcomeError):
        guarded.post("http://acme.test/charges")
    assert len(provider.asked) == 4


def test_one_breaker_and_one_count_serve_every_effect():
    pipeline = acme()
    guarded = client(Provider(), pipeline)
    for method in ("GET", "POST", "PUT"):
        guarded.request(method, "http://acme.test/")
    assert pipeline.statistics()["ok"] == 3


# ---------------------------------------------------------------- under which key?


def test_a_key_in_the_air_is_for_posts_and_patches_only():
    provider = Provider()
    guarded = client(provider, acme())
    with idempotency_key("pay_1"):
        for method in ("POST", "PATCH", "PUT", "DELETE", "GET"):
            guarded.request(method, "http://acme.test/charges?page=1")
    assert provider.keys == ["pay_1:acme:POST /charges", "pay_1:acme:PATCH /charges", None, None, None]


def test_a_key_from_the_pipeline_is_for_every_change():
    provider = Provider()
    guarded = client(provider, acme(key=lambda request: request.headers["X-Payment"]))
    guarded.put("http://acme.test/charges/1", headers={"X-Payment": "pay_1"})
    assert provider.keys == ["pay_1:acme:PUT /charges/1"]


def test_the_callers_own_header_is_sent_as_it_is_whatever_is_in_the_air():
    provider = Provider(500, 200)
    with idempotency_key("pay_2"):
        client(provider, acme()).post("http://acme.test/", headers=KEY)
    assert provider.keys == ["pay_1"] * 2


def test_an_empty_header_does_not_take_the_place_of_a_key():
    provider = Provider(500, 200)
    with idempotency_key("pay_1"):
        client(provider, acme()).post("http://acme.test/", headers={"Idempotency-Key": ""})
    assert provider.keys == ["pay_1:acme:POST /"] * 2


def test_two_steps_never_share_a_key():
    provider = Provider()
    guarded, refunding = client(provider, acme()), client(provider, acme("acme.refunds"))
    with idempotency_key("pay_1"):
        for path in ("charges", "charges/1", "refunds", "charges%2F1"):
            guarded.post(f"http://acme.test/{path}")
        refunding.post("http://acme.test/charges")
    assert len(set(provider.keys)) == len(provider.keys) == 5


def test_a_provider_may_take_its_key_in_a_header_of_its_own():
    provider = Provider(500, 200)
    guarded = client(provider, acme(), key_header="PayPal-Request-Id")
    guarded.post("http://acme.test/", headers={"PayPal-Request-Id": "pay_1"})
    assert [request.headers["PayPal-Request-Id"] for request in provider.asked] == ["pay_1"] * 2
    assert provider.keys == [None] * 2
    with pytest.raises(UnknownOutcomeError):
        client(Provider(500), acme(), key_header="PayPal-Request-Id").post("http://acme.test/", headers=KEY)


def test_a_pipeline_that_needs_a_key_sends_nothing_without_one():
    provider = Provider()
    with pytest.raises(MissingKeyError):
        client(provider, acme(effect=Effect.IDEMPOTENT)).delete("http://acme.test/")
    assert provider.asked == []


def test_the_callers_request_is_left_as_it_was():
    provider = Provider(500, 200)
    guarded = client(provider, acme(deadline=60.0))
    request = guarded.build_request("POST", "http://acme.test/", content=b"amount=5000")
    before = (list(request.headers.raw), dict(request.extensions))
    with idempotency_key("pay_1"):
        guarded.send(request)
    assert (list(request.headers.raw), dict(request.extensions)) == before


# ---------------------------------------------------------------- whose pipeline?


def test_each_host_has_its_own_pipeline_and_the_rest_is_refused():
    first, second = acme("first"), acme("second")
    provider = Provider()
    guarded = client(provider, by_host={"API.acme.test": first, "globex.test:8443": second})
    guarded.get("https://api.ACME.test/")
    guarded.get("https://globex.test:8443/")
    with pytest.raises(NoRouteError, match=r"no pipeline guards the host globex\.test"):
        guarded.get("https://globex.test/")
    assert (first.ends.ok, second.ends.ok, len(provider.asked)) == (1, 1, 2)


def test_a_pipeline_beside_the_hosts_guards_the_rest():
    rest, first = acme("rest"), acme("first")
    guarded = client(Provider(), rest, by_host={"acme.test": first})
    guarded.get("https://acme.test/")
    guarded.get("https://elsewhere.test/")
    assert (first.ends.ok, rest.ends.ok) == (1, 1)


def test_a_function_may_find_the_pipeline_of_a_host():
    first = acme("first")
    guarded = client(Provider(), by_host=lambda host: first if host.endswith(".acme.test") else None)
    guarded.get("https://api.acme.test/")
    with pytest.raises(NoRouteError):
        guarded.get("https://api.globex.test/")
    assert first.ends.ok == 1


def test_a_redirect_to_an_unguarded_host_goes_nowhere():
    def elsewhere(request):
        return httpx.Response(307 if request.url.host == "acme.test" else 200, headers={"Location": "https://elsewhere.test/"})

    with pytest.raises(NoRouteError):
        client(elsewhere, by_host={"acme.test": acme()}, follow=True).post("https://acme.test/")


def let_everybody_in(patch):
    from finresilience.integrations._rules import Rules

    patch.setattr(Rules, "pipeline", lambda rules, *_: rules.pipelines()[0])


def forget_the_step(patch):
    from finresilience.integrations import _exchange

    patch.setattr(_exchange, "derive_key", lambda key, step: key)


def call_everything_a_read(patch):
    from finresilience.integrations._rules import Rules

    patch.setattr(Rules, "_effect_of", lambda *_: Effect.READ)


@pytest.mark.parametrize(
    ("saboteur", "law", "args"),
    [
        (let_everybody_in, test_each_host_has_its_own_pipeline_and_the_rest_is_refused, ()),
        (let_everybody_in, test_a_redirect_to_an_unguarded_host_goes_nowhere, ()),
        (forget_the_step, test_two_steps_never_share_a_key, ()),
        (call_everything_a_read, test_the_method_and_the_key_say_what_twice_means, ("POST", {}, Effect.UNSAFE)),
    ],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_the_laws_are_awake(saboteur, law, args):
    kills(saboteur, law, *args)


# ---------------------------------------------------------------- beside other layers


def test_the_attempts_are_spent_from_the_budget_of_the_whole_tree():
    provider = Provider(500)
    guarded = client(provider, acme())
    with attempt_budget(3):
        assert guarded.get("http://acme.test/").status_code == 500
        assert guarded.get("http://acme.test/").status_code == 500
    assert len(provider.asked) == 3 + 2


def test_a_stream_spends_from_the_budget_of_the_whole_tree_too():
    class Down(httpx.BaseTransport):
        def handle_request(self, request):
            raise httpx.ConnectError("refused")

    guarded = httpx.Client(transport=ResilientTransport(acme(), transport=Down()))
    with attempt_budget(3):
        for attempts in (3, 2):
            with pytest.raises(httpx.ConnectError) as caught:
                guarded.post("http://acme.test/", content=iter([b"amount=5000"]))
            assert f"{attempts} attempts" in "".join(caught.value.__notes__)


def test_an_inquiry_answers_in_place_of_the_provider():
    pipeline = acme(reference=lambda request: request.headers["X-Reference"])

    @pipeline.inquiry(schedule=[1.0])
    def find(request):
        return Found(httpx.Response(200, json={"found": request.headers["X-Reference"]}))

    answer = client(Provider(500), pipeline).post("http://acme.test/", headers={"X-Reference": "order 1"})
    assert answer.json() == {"found": "order 1"}


def test_what_is_no_response_is_not_given_to_a_client():
    pipeline = acme()

    @pipeline.inquiry(schedule=[1.0])
    def find(request):
        return Found({"id": 1})

    with pytest.raises(ConfigurationError, match="ended ok with a dict where its client needs a Response"):
        client(Provider(500), pipeline).post("http://acme.test/")
