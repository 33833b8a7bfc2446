"""Are the laws of the guarded clients awake? Each is shown a client with its very defect, and must go red."""

from __future__ import annotations

import itertools

import pytest

from finresilience.integrations import _exchange, _httpx_both, aiohttp as guarding_aiohttp, requests as guarding_requests
from finresilience.integrations._exchange import Exchange, LiveTimeouts
from finresilience.integrations._rules import Rules
from finresilience.outcome import Effect
from tests.integration import test_client_bodies as bodies, test_client_faults as faults, test_client_lives as lives
from tests.integration.guarded_clients import CLIENT_ERRORS, GUARDED
from tests.integration.scripted_provider import answering, half
from tests.laws.sabotage import kills, nothing

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

BY_NAME = {client.name: client for client in GUARDED}
EVERY = ("httpx", "httpx on trio", "httpx2", "aiohttp", "requests")
HTTPX = ("httpx", "httpx2 on asyncio")


def every_post_is_idempotent(patch):
    patch.setattr(Rules, "_effect_of", lambda *_: Effect.IDEMPOTENT_BY_NATURE)


def a_key_is_made_anew_for_each_attempt(patch):
    numbers = itertools.count()
    patch.setattr(_exchange, "derive_key", lambda key, step: f"{key}:{step}:{next(numbers)}")


def a_key_from_the_air_is_not_sent(patch):
    begins = Exchange.begins
    patch.setattr(Exchange, "begins", lambda self, given: {k: v for k, v in begins(self, given).items() if k != "Idempotency-Key"})


def a_stream_is_sent_again(patch):
    patch.setattr(Exchange, "used_up", nothing)


def what_is_thrown_away_stays_open(patch):
    patch.setattr(Exchange, "judged", lambda *_: False)
    patch.setattr(Exchange, "wants_body", lambda *_: False)
    patch.setattr(_httpx_both, "close", nothing)
    patch.setattr(_httpx_both, "aclose", nothing_async)
    patch.setattr(Exchange, "keep", lambda self, answer, response: answer)
    patch.setattr(guarding_aiohttp, "_taken", unread)
    patch.setattr(guarding_requests, "_take", nothing)


async def nothing_async(*_):
    pass


async def unread(exchange, response):
    return response


def a_lost_body_costs_the_word(patch):
    patch.setattr(Exchange, "judged", lambda *_: False)


def the_guard_ends_at_the_headers(patch):
    patch.setattr(Exchange, "wants_body", lambda *_: False)


def every_request_counts_as_unsent(patch):
    patch.setattr(Exchange, "leaves", nothing)


def a_cut_client_is_taken_for_a_failing_provider(patch):
    patch.setattr(Exchange, "within", lambda self, error, limit: error)


def time_is_not_handed_on(patch):
    patch.setattr(LiveTimeouts, "get", lambda self, phase, default=None: min(dict.get(self, phase, default), 3.0))


SABOTAGE = [
    (every_post_is_idempotent, faults.test_a_post_without_a_key_that_may_have_happened_is_sent_once_and_unknown, EVERY, (answering(500),)),
    (a_key_is_made_anew_for_each_attempt, faults.test_a_key_in_the_air_is_sent_for_each_step_and_is_the_same_on_each_attempt, EVERY, ()),
    (a_key_from_the_air_is_not_sent, faults.test_a_key_in_the_air_is_sent_for_each_step_and_is_the_same_on_each_attempt, EVERY, ()),
    (a_stream_is_sent_again, bodies.test_a_streamed_body_is_never_sent_twice_even_under_a_key, EVERY, ()),
    (a_stream_is_sent_again, bodies.test_a_refusal_of_a_streamed_body_is_returned_at_once, EVERY, ()),
    (what_is_thrown_away_stays_open, faults.test_two_hundred_faults_leave_no_connection_behind, (*HTTPX, "aiohttp"), ()),
    (a_lost_body_costs_the_word, faults.test_a_clear_no_whose_body_is_lost_is_still_a_no, EVERY, (half(402),)),
    (the_guard_ends_at_the_headers, faults.test_a_post_with_a_key_is_sent_again_under_the_same_key, (*HTTPX, "aiohttp"), (half(200),)),
    (every_request_counts_as_unsent, lives.test_what_was_sent_is_marked_by_every_client, EVERY, ()),
    (
        a_cut_client_is_taken_for_a_failing_provider,
        lives.test_a_deadline_from_outside_ends_a_plain_call_and_a_short_one_is_nobodys_fault,
        ("httpx", "requests"),
        (),
    ),
    (time_is_not_handed_on, lives.test_a_whole_timeout_without_an_answer_is_kept_and_the_providers_fault, ("httpx",), ()),
]
ROWS = [(saboteur, law, name, args) for saboteur, law, names, args in SABOTAGE for name in names]


@pytest.mark.parametrize(
    ("saboteur", "law", "name", "args"), ROWS, ids=[f"{saboteur.__name__}-{law.__name__}-{name}" for saboteur, law, name, _ in ROWS]
)
def test_the_laws_of_the_clients_are_awake(saboteur, law, name, args):
    def red(client):  # where a law expects an answer, an error of the client is red too
        try:
            law(client, *args)
        except CLIENT_ERRORS as error:
            raise AssertionError(law.__name__) from error

    kills(saboteur, red, BY_NAME[name])
