"""The Stripe SDK, guarded, against a Stripe that fails: its own objects and errors come out, and no charge is made twice."""

from __future__ import annotations

import functools
import gc
from contextlib import contextmanager

import anyio.from_thread
import pytest
import stripe

from finresilience.context import idempotency_key
from finresilience.cores.backoff import Constant
from finresilience.errors import UnknownOutcomeError
from finresilience.integrations.stripe import ResilientHTTPClient, stripe_classifier
from finresilience.policies.pipeline import Pipeline
from finresilience.policies.retry import Retry
from finresilience.policies.timeout import Timeout
from tests.integration.faulty_server import refusing
from tests.integration.scripted_provider import ScriptedProvider, answering, half, hanging_up, resetting, silent

# When a connection breaks, some clients leave a socket or a generator to the collector, and the SDK uses httpx as it was once
# used. Theirs to mend.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:Use 'content=<...>':DeprecationWarning"
)

SOON = 0.3  # seconds; for what never comes
CHARGED = answering(200, b'{"id": "ch_1", "object": "charge", "amount": 5000}')
UNANSWERED = [answering(500), answering(502, b"<html>"), answering(503), resetting, hanging_up, half(200)]
UNANSWERED_IDS = ["500", "502", "503 with no word of when", "reset", "hung up", "half an answer"]


@pytest.fixture(scope="module", autouse=True)
def _collected():
    yield
    gc.collect()


def saying(status, *headers, **error):
    told = ", ".join(f'"{name}": "{value}"' for name, value in error.items())
    return answering(status, f'{{"error": {{{told}}}}}'.encode(), *headers)


def pipeline(*policies, **settings):
    return Pipeline("stripe", Retry(attempts=3, backoff=Constant(base=0.001)), *policies, classify=stripe_classifier(), **settings)


def sdk(guard, port):
    base = f"http://127.0.0.1:{port}"
    return stripe.StripeClient(
        "sk_test_1", http_client=ResilientHTTPClient(guard), base_addresses={"api": base, "files": base}, max_network_retries=5
    )


class Sync:
    """The SDK in plain functions."""

    def __init__(self, guard, port):
        self.client = sdk(guard, port)

    def charge(self, **options):
        return self.client.v1.charges.create({"amount": 5000, "currency": "usd"}, options)

    def find(self):
        return self.client.v1.charges.retrieve("ch_1")

    def cancel(self):
        return self.client.v1.subscriptions.cancel("sub_1")

    def pdf(self):
        return self.client.v1.quotes.pdf("qt_1").io.read()


class Async:
    """The SDK in async functions, each run in the loop of another thread."""

    def __init__(self, portal, guard, port):
        self.client = sdk(guard, port)
        self.call = portal.call

    def charge(self, **options):
        return self.call(self.client.v1.charges.create_async, {"amount": 5000, "currency": "usd"}, options)

    def find(self):
        return self.call(self.client.v1.charges.retrieve_async, "ch_1")

    def cancel(self):
        return self.call(self.client.v1.subscriptions.cancel_async, "sub_1")

    def pdf(self):
        async def read():
            return await (await self.client.v1.quotes.pdf_async("qt_1")).read_async()

        return self.call(read)


@contextmanager
def opened(how, guard, port):
    if how == "sync":
        one = Sync(guard, port)
        yield one
        one.client._requestor._get_http_client().close()
        return
    with anyio.from_thread.start_blocking_portal(how) as portal:
        one = Async(portal, guard, port)
        yield one
        portal.call(one.client._requestor._get_http_client().close_async)


@pytest.fixture(params=["sync", "asyncio", "trio"])
def using(request):
    return functools.partial(opened, request.param)


@pytest.mark.parametrize("fault", UNANSWERED, ids=UNANSWERED_IDS)
def test_a_charge_is_made_again_under_the_same_key_until_it_is_answered(using, fault):
    with ScriptedProvider(fault, fault, CHARGED) as provider, using(pipeline(), provider.port) as client:
        assert client.charge().amount == 5000
        assert len(provider.asked) == 3
        assert len(set(provider.keys)) == 1
        assert None not in provider.keys


def test_a_key_of_ones_own_is_sent_as_it_is(using):
    with ScriptedProvider(answering(500), CHARGED) as provider, using(pipeline(), provider.port) as client:
        client.charge(idempotency_key="pay_1")
        assert provider.keys == ["pay_1", "pay_1"]


def test_a_key_in_the_air_takes_the_place_of_the_one_that_the_sdk_makes_up(using):
    with ScriptedProvider(answering(500), CHARGED) as provider, using(pipeline(), provider.port) as client:
        with idempotency_key("pay_1"):
            client.charge()
        assert provider.keys == ["pay_1:stripe:POST /v1/charges"] * 2


def test_a_charge_that_stays_unanswered_is_unknown_and_the_sdk_adds_no_retries(using):
    with ScriptedProvider(answering(500)) as provider, using(pipeline(), provider.port) as client:
        with pytest.raises(UnknownOutcomeError) as caught:
            client.charge()
        assert caught.value.attempts == len(provider.asked) == 3
        assert caught.value.value.status_code == 500


def test_a_charge_that_hangs_is_given_up_in_time_and_unknown(using):
    with (
        ScriptedProvider(silent) as provider,
        using(Pipeline("stripe", Timeout(SOON), classify=stripe_classifier()), provider.port) as client,
    ):
        with pytest.raises(UnknownOutcomeError, match="no answer within"):
            client.charge()
        assert len(provider.asked) == 1


def test_a_declined_card_is_the_sdks_own_error_and_is_not_tried_again(using):
    declined = saying(402, type="card_error", code="card_declined", decline_code="insufficient_funds", message="No.")
    with ScriptedProvider(declined, CHARGED) as provider, using(pipeline(), provider.port) as client:
        with pytest.raises(stripe.CardError) as caught:
            client.charge()
        assert caught.value.error.decline_code == "insufficient_funds"
        assert len(provider.asked) == 1


def test_a_decline_to_be_tried_later_needs_a_new_key_so_it_is_final_under_this_one(using):
    later = saying(402, type="card_error", code="card_declined", decline_code="try_again_later")
    with ScriptedProvider(later, CHARGED) as provider, using(pipeline(), provider.port) as client:
        with pytest.raises(stripe.CardError):
            client.charge()
        assert len(provider.asked) == 1


def test_a_rate_limit_is_waited_out(using):
    with ScriptedProvider(saying(429, "Retry-After: 0", code="rate_limit"), CHARGED) as provider:
        with using(pipeline(), provider.port) as client:
            assert client.charge().id == "ch_1"
        assert len(provider.asked) == 2


def test_a_key_in_use_is_asked_again_and_never_taken_for_a_no(using):
    in_use = saying(409, type="idempotency_error", code="idempotency_key_in_use")
    with ScriptedProvider(in_use, CHARGED) as provider, using(pipeline(), provider.port) as client:
        assert client.charge().id == "ch_1"
    with ScriptedProvider(in_use) as provider, using(pipeline(), provider.port) as client:
        with pytest.raises(UnknownOutcomeError):
            client.charge()


def test_a_key_of_another_request_is_a_no(using):
    with ScriptedProvider(saying(400, type="idempotency_error"), CHARGED) as provider, using(pipeline(), provider.port) as client:
        with pytest.raises(stripe.IdempotencyError):
            client.charge()
        assert len(provider.asked) == 1


def test_a_failure_that_stripe_would_only_repeat_is_not_asked_for_again_and_counts(using):
    with ScriptedProvider(saying(500, "Stripe-Should-Retry: false"), CHARGED) as provider, using(pipeline(), provider.port) as client:
        with pytest.raises(UnknownOutcomeError, match="Stripe said that trying again would change nothing"):
            client.charge()
        assert len(provider.asked) == 1


def test_a_conflict_that_stripe_wants_tried_again_is(using):
    with ScriptedProvider(saying(409, "Stripe-Should-Retry: true"), CHARGED) as provider, using(pipeline(), provider.port) as client:
        assert client.charge().id == "ch_1"


def test_a_lookup_that_fails_is_the_sdks_own_error(using):
    with ScriptedProvider(saying(500, message="Sorry.")) as provider, using(pipeline(), provider.port) as client:
        with pytest.raises(stripe.APIError):
            client.find()
        assert (len(provider.asked), provider.keys) == (3, [None] * 3)


def test_a_delete_may_be_repeated_as_stripe_says(using):
    gone = answering(200, b'{"id": "sub_1", "object": "subscription"}')
    with ScriptedProvider(hanging_up, gone) as provider, using(pipeline(), provider.port) as client:
        assert client.cancel().id == "sub_1"
        assert [asked.method for asked in provider.asked] == ["DELETE", "DELETE"]


def test_a_refused_connection_is_the_sdks_own_error_and_no_unknown(using):
    with refusing() as port, using(pipeline(), port) as client:
        with pytest.raises(stripe.APIConnectionError) as caught:
            client.charge()
        assert "3 attempts" in "".join(caught.value.__notes__)


def test_a_stream_begins_guarded_and_what_is_thrown_away_is_closed(using):
    pdf = answering(200, b"%PDF" + b"x" * 100_000)
    with ScriptedProvider(answering(500, b"x" * 100_000), pdf) as provider:
        with using(pipeline(), provider.port) as client:
            assert client.pdf().startswith(b"%PDF")
        assert len(provider.asked) == 2
