"""Guarded clients against a provider that fails: what is sent again, under which key, and what the caller is told of the money."""

from __future__ import annotations

import gc

import pytest

from finresilience.classify import http_classifier
from finresilience.context import idempotency_key
from finresilience.cores.backoff import Constant
from finresilience.errors import MissingKeyError, UnknownOutcomeError
from finresilience.outcome import Effect
from finresilience.policies.pipeline import Pipeline
from finresilience.policies.retry import Retry
from finresilience.policies.timeout import Timeout
from tests.integration.faulty_server import never_accepting, refusing
from tests.integration.guarded_clients import CLIENT_ERRORS, GUARDED
from tests.integration.scripted_provider import (
    ScriptedProvider,
    answering,
    half,
    hanging_up,
    not_now,
    paid,
    resetting,
    silent,
    stalling,
)

# When a connection breaks, some clients leave a socket or a generator to the collector. Theirs to mend; collected here, so
# that no later test is blamed.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

FAULTS = 200  # calls
SOON = 0.3  # seconds; for what never comes
KEY = {"Idempotency-Key": "pay_1"}
UNANSWERED = [answering(500), answering(502, b"<html>"), answering(503), resetting, hanging_up, half(200)]
UNANSWERED_IDS = ["500", "502", "503 with no word of when", "reset", "hung up", "half an answer"]


@pytest.fixture(scope="module", autouse=True)
def _collected():
    yield
    gc.collect()


@pytest.fixture(params=GUARDED, ids=lambda client: client.name)
def client(request):
    return request.param


def acme(*policies, **settings):
    retry = Retry(attempts=3, backoff=Constant(base=0.001))
    return Pipeline("acme", retry, *policies, classify=http_classifier(), **settings)


# ---------------------------------------------------------------- a payment without a key


@pytest.mark.parametrize("fault", UNANSWERED, ids=UNANSWERED_IDS)
def test_a_post_without_a_key_that_may_have_happened_is_sent_once_and_unknown(client, fault):
    with ScriptedProvider(fault, paid) as provider, client.open(acme()) as send:
        with pytest.raises(UnknownOutcomeError):
            send("POST", provider.url(), content=b"amount=5000")
        assert len(provider.asked) == 1


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_a_change_without_a_key_is_sent_once_whatever_its_method(client, method):
    with ScriptedProvider(answering(500), paid) as provider, client.open(acme()) as send:
        with pytest.raises(UnknownOutcomeError):
            send(method, provider.url(), content=b"amount=5000")
        assert len(provider.asked) == 1


@pytest.mark.parametrize("refusal", [not_now, answering(429, b"", "Retry-After: 0")], ids=["503 with Retry-After", "429"])
def test_a_post_that_was_surely_not_carried_out_is_sent_again(client, refusal):
    with ScriptedProvider(refusal, refusal, paid) as provider, client.open(acme()) as send:
        answer = send("POST", provider.url(), content=b"amount=5000")
        assert (answer.status, answer.body, answer.notes.attempts) == (200, b'{"status": "paid"}', 3)
        assert [asked.body for asked in provider.asked] == [b"amount=5000"] * 3


def test_a_refused_connection_is_tried_again_and_then_told_as_the_client_tells_it(client):
    with refusing() as port, client.open(acme()) as send:
        with pytest.raises(CLIENT_ERRORS) as caught:
            send("POST", f"http://127.0.0.1:{port}/charges", content=b"amount=5000")
        assert type(caught.value).__module__.partition(".")[0] == client.name.partition(" ")[0]
        assert "3 attempts" in "".join(caught.value.__notes__)


def test_no_answer_in_time_is_unknown_and_the_limit_holds(client):
    with ScriptedProvider(silent, paid) as provider, client.open(acme(Timeout(SOON))) as send:
        with pytest.raises(UnknownOutcomeError) as caught:
            send("POST", provider.url(), content=b"amount=5000")
        assert caught.value.attempts == len(provider.asked) == 1
        assert "no answer within" in caught.value.happened


def test_half_an_answer_in_time_is_unknown(client):
    with ScriptedProvider(stalling(200), paid) as provider, client.open(acme(Timeout(SOON))) as send:
        with pytest.raises(UnknownOutcomeError):
            send("POST", provider.url(), content=b"amount=5000")
        assert len(provider.asked) == 1


# ---------------------------------------------------------------- with a key


@pytest.mark.parametrize("fault", UNANSWERED, ids=UNANSWERED_IDS)
def test_a_post_with_a_key_is_sent_again_under_the_same_key(client, fault):
    with ScriptedProvider(fault, fault, paid) as provider, client.open(acme()) as send:
        answer = send("POST", provider.url(), content=b"amount=5000", headers=KEY)
        assert (answer.body, answer.notes.attempts, answer.notes.effect) == (b'{"status": "paid"}', 3, Effect.IDEMPOTENT)
        assert provider.keys == ["pay_1"] * 3
        assert [asked.body for asked in provider.asked] == [b"amount=5000"] * 3


def test_a_hanging_post_with_a_key_is_given_up_and_sent_again(client):
    with ScriptedProvider(silent, paid) as provider, client.open(acme(Timeout(SOON))) as send:
        answer = send("POST", provider.url(), content=b"amount=5000", headers=KEY)
        assert (answer.body, provider.keys) == (b'{"status": "paid"}', ["pay_1"] * 2)


def test_a_key_in_the_air_is_sent_for_each_step_and_is_the_same_on_each_attempt(client):
    with ScriptedProvider(answering(500), paid, answering(500), paid) as provider, client.open(acme()) as send:
        with idempotency_key("pay_1"):
            send("POST", provider.url(), content=b"amount=5000")
            send("POST", provider.url() + "/1/capture?verbose=1", content=b"amount=5000")
        charge, capture = "pay_1:acme:POST /charges", "pay_1:acme:POST /charges/1/capture"
        assert provider.keys == [charge, charge, capture, capture]


def test_a_key_that_stays_unanswered_is_unknown(client):
    with ScriptedProvider(answering(500)) as provider, client.open(acme()) as send:
        with pytest.raises(UnknownOutcomeError) as caught:
            send("POST", provider.url(), content=b"amount=5000", headers=KEY)
        assert caught.value.attempts == len(provider.asked) == 3
        assert getattr(caught.value.value, "status_code", getattr(caught.value.value, "status", None)) == 500


def test_a_decline_after_a_loss_under_the_same_key_is_a_decline(client):
    with ScriptedProvider(resetting, answering(402, b"no funds")) as provider, client.open(acme()) as send:
        answer = send("POST", provider.url(), content=b"amount=5000", headers=KEY)
        assert (answer.status, answer.body, answer.notes.ended) == (402, b"no funds", "declined")


def test_a_pipeline_that_needs_keys_sends_nothing_without_one(client):
    with ScriptedProvider(paid) as provider, client.open(acme(effect=Effect.IDEMPOTENT)) as send:
        with pytest.raises(MissingKeyError):
            send("POST", provider.url(), content=b"amount=5000")
        assert send("GET", provider.url()).status == 200
        assert [asked.method for asked in provider.asked] == ["GET"]


def test_a_provider_that_takes_no_keys_is_not_trusted_with_one(client):
    with ScriptedProvider(answering(500), paid) as provider, client.open(acme(), key_header=None) as send:
        with idempotency_key("pay_1"), pytest.raises(UnknownOutcomeError):
            send("POST", provider.url(), content=b"amount=5000")
        assert provider.keys == [None]


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_read_is_tried_again_and_sends_no_key(client, method):
    with ScriptedProvider(hanging_up, answering(500, b""), answering(200, b"")) as provider, client.open(acme()) as send:
        with idempotency_key("pay_1"):
            answer = send(method, provider.url())
        assert (answer.status, answer.notes.attempts, answer.notes.effect) == (200, 3, Effect.READ)
        assert provider.keys == [None] * 3


def test_a_read_that_goes_on_failing_returns_its_last_answer(client):
    with ScriptedProvider(answering(500, b"sorry")) as provider, client.open(acme()) as send:
        answer = send("GET", provider.url())
        assert (answer.status, answer.body, answer.notes.ended, answer.notes.attempts) == (500, b"sorry", "failed", 3)
        assert len(provider.asked) == 3


def test_a_read_that_is_never_answered_raises_the_clients_own_error(client):
    with ScriptedProvider(paid, hanging_up) as provider, client.open(acme()) as send:
        send("GET", provider.url())
        provider.asked.clear()
        with pytest.raises(CLIENT_ERRORS) as caught:
            send("GET", provider.url())
        assert not isinstance(caught.value, UnknownOutcomeError)
        assert type(caught.value).__module__.partition(".")[0] == client.name.partition(" ")[0]
        assert len(provider.asked) == 3


# ---------------------------------------------------------------- answers


def test_a_no_is_returned_as_the_client_would_have_got_it(client):
    with ScriptedProvider(answering(402, b"no funds", "X-Why: 51")) as provider, client.open(acme()) as send:
        answer = send("POST", provider.url(), content=b"amount=5000")
        assert (answer.status, answer.body, answer.notes.ended, answer.notes.attempts) == (402, b"no funds", "declined", 1)


def test_refusals_to_the_last_attempt_are_returned_as_the_last_answer(client):
    with ScriptedProvider(not_now) as provider, client.open(acme()) as send:
        answer = send("POST", provider.url(), content=b"amount=5000")
        assert (answer.status, answer.body, answer.notes.ended, answer.notes.attempts) == (503, b"<html>", "failed", 3)


@pytest.mark.parametrize("broken", [half(402), stalling(402)], ids=["breaks off", "stalls"])
def test_a_clear_no_whose_body_is_lost_is_still_a_no(client, broken):
    with ScriptedProvider(broken, paid) as provider, client.open(acme(Timeout(SOON))) as send:
        answer = send("POST", provider.url(), content=b"amount=5000")
        assert (answer.status, answer.body, answer.notes.body_lost) == (402, b"", True)
        assert len(provider.asked) == 1


def test_a_response_knows_how_long_it_took(client):
    if client.name != "aiohttp":  # which does not tell
        with ScriptedProvider(answering(402)) as provider, client.open(acme()) as send:
            assert send("POST", provider.url(), content=b"amount=5000").seconds > 0


# ---------------------------------------------------------------- what is sent beside the caller's own


def test_the_provider_is_told_the_time_left_and_the_earlier_attempts(client):
    with ScriptedProvider(not_now, paid) as provider, client.open(acme(Timeout(5.0))) as send:
        send("POST", provider.url(), content=b"amount=5000")
        first, second = (asked.headers for asked in provider.asked)
        assert "previous-attempts" not in first
        assert second["previous-attempts"] == "1"
        assert 0 < int(first["request-timeout-ms"]) <= 5000


def test_the_provider_is_told_nothing_where_that_is_not_wanted(client):
    with ScriptedProvider(not_now, paid) as provider, client.open(acme(Timeout(5.0)), send_headers=False) as send:
        with idempotency_key("pay_1"):
            send("POST", provider.url(), content=b"amount=5000")
        assert all({"previous-attempts", "request-timeout-ms"}.isdisjoint(asked.headers) for asked in provider.asked)
        assert len(set(provider.keys)) == 1
        assert None not in provider.keys


# ---------------------------------------------------------------- nothing leaks


def test_two_hundred_faults_leave_no_connection_behind(client):
    faults = [answering(500), not_now, resetting, answering(402), hanging_up, half(200), half(402), answering(404, b"x" * 3_000_000), paid]
    with ScriptedProvider(*faults * 23) as provider, client.open(acme(), read_up_to=100_000) as send:
        for _ in range(FAULTS):
            try:
                send("POST", provider.url(), content=b"amount=5000")
            except UnknownOutcomeError:
                pass
        assert send("GET", provider.url() + "/last").status in {200, 402, 404, 500, 503}
        assert len(provider.asked) > 200


def test_a_connection_that_is_not_made_in_time_was_not_sent(client):
    impatient = Pipeline("acme", Timeout(2 * SOON), classify=http_classifier())
    with never_accepting() as port, client.open(impatient) as send:
        with pytest.raises(CLIENT_ERRORS) as caught:
            send("POST", f"http://127.0.0.1:{port}/charges", content=b"amount=5000")
        assert not isinstance(caught.value, UnknownOutcomeError)
        assert impatient.ends.failed == 1
