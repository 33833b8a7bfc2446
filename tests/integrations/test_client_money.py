"""Every story of three faults, told to a guarded client: the money moves once at most, and what the caller hears of it is true."""

from __future__ import annotations

import itertools

import httpx
import pytest

from finresilience.classify import http_classifier
from finresilience.cores.backoff import Constant
from finresilience.errors import UnknownOutcomeError
from finresilience.integrations._rules import Rules
from finresilience.integrations.httpx import AsyncResilientTransport, ResilientTransport
from finresilience.outcome import RETRYABLE, Effect, Verdict
from finresilience.policies.pipeline import Pipeline
from finresilience.policies.plan import Plan
from finresilience.policies.retry import Retry
from finresilience.testing import instant
from tests.laws.sabotage import kills

# What may happen to one request: whether the money moves, and what comes back.
FAULTS = {
    "refused": (False, httpx.ConnectError("refused")),
    "lost on the way": (False, httpx.WriteError("lost")),
    "answer lost": (True, httpx.ReadError("lost")),
    "failed before": (False, 500),
    "failed after": (True, 502),
    "shed": (False, 503),
    "declined": (False, 402),
}


@pytest.fixture(autouse=True)
def _at_once():
    with instant():
        yield


class Bank:
    """Carries out what the script says, and then whatever it is asked; under a key, once."""

    def __init__(self, story, *, knows_keys):
        self.story = list(story)
        self.knows_keys = knows_keys
        self.done = {}
        self.moved = 0

    def __call__(self, request):
        key = request.headers.get("Idempotency-Key") if self.knows_keys else None
        moves, answer = FAULTS[self.story.pop(0)] if self.story else (True, 200)
        if answer == 402 and key in self.done:
            answer = 200  # it repeats what it did
        if moves and (key is None or key not in self.done):
            self.moved += 1
            self.done[key] = True
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer, headers={"Retry-After": "0"} if answer == 503 else {}, json={})


def pipeline():
    return Pipeline("acme", Retry(attempts=3, backoff=Constant(base=1.0)), classify=http_classifier(), listeners=())


def payments(stories, *, knows_keys, headers):
    """Pay once in each story, and yield the story, how often the money moved, and what the caller may believe of it."""
    bank = Bank((), knows_keys=knows_keys)
    network = httpx.MockTransport(lambda request: bank(request))  # noqa: PLW0108 - each story has a bank of its own
    with httpx.Client(transport=ResilientTransport(pipeline(), transport=network)) as client:
        for story in stories:
            bank = Bank(story, knows_keys=knows_keys)
            yield story, bank, heard(lambda: client.post("http://acme.test/charges", headers=headers, content=b"amount=5000"))


def heard(pay):
    """Return how often the money may have moved, by what the caller is told."""
    try:
        status = pay().status_code
    except UnknownOutcomeError:
        return {0, 1}
    except httpx.TransportError:
        return {0}
    return {1} if status == 200 else {0}


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "pay_1"}], ids=["without a key", "with a key"])
def test_in_every_story_the_money_moves_once_at_most_and_the_caller_hears_the_truth(headers):
    for story, bank, believed in payments(itertools.product(FAULTS, repeat=3), knows_keys=True, headers=headers):
        assert bank.moved in believed, story


def test_without_a_key_the_law_needs_nothing_of_the_bank():
    for story, bank, believed in payments(itertools.product(FAULTS, repeat=3), knows_keys=False, headers={}):
        assert bank.moved in believed, story


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "pay_1"}], ids=["without a key", "with a key"])
async def test_async_clients_keep_the_same_law(headers):
    bank = Bank((), knows_keys=True)
    network = httpx.MockTransport(lambda request: bank(request))  # noqa: PLW0108 - each story has a bank of its own
    async with httpx.AsyncClient(transport=AsyncResilientTransport(pipeline(), transport=network)) as client:
        for story in itertools.product(FAULTS, repeat=2):
            bank = Bank(story, knows_keys=True)
            try:
                response = await client.post("http://acme.test/charges", headers=headers, content=b"amount=5000")
                believed = heard(lambda answer=response: answer)
            except Exception as error:
                believed = heard(lambda failure=error: raising(failure))
            assert bank.moved in believed, story


def raising(error):
    raise error


def everything_may_be_repeated(patch):
    patch.setattr(Rules, "_effect_of", lambda *_: Effect.IDEMPOTENT_BY_NATURE)


def what_is_lost_was_not_applied(patch):
    patch.setattr(Plan, "judge", lambda *_, **__: Verdict(RETRYABLE))


def no_key_is_sent(patch):
    from finresilience.integrations import _httpx_both

    attempt = _httpx_both._attempt

    def without(*args, **how):
        timeouts, sent = attempt(*args, **how)
        del sent.headers["Idempotency-Key"]
        return timeouts, sent

    patch.setattr(_httpx_both, "_attempt", without)


@pytest.mark.parametrize(
    ("saboteur", "headers"),
    [(everything_may_be_repeated, {}), (what_is_lost_was_not_applied, {}), (no_key_is_sent, {"Idempotency-Key": "pay_1"})],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_the_law_is_awake(saboteur, headers):
    kills(saboteur, test_in_every_story_the_money_moves_once_at_most_and_the_caller_hears_the_truth, headers)
