"""How did it end? It happened, it did not, or nobody knows: what becomes of the key, and what its next caller hears."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience import (
    CircuitBreaker,
    CircuitOpenError,
    Effect,
    Pipeline,
    UnknownOutcomeError,
    mark_sent,
)
from finresilience.durable.records import KeyState
from finresilience.errors import ExpiredError
from finresilience.integrations.asgi import ProblemMiddleware
from finresilience.integrations.idempotency_answers import Answered, End, HttpAnswer, end_of
from finresilience.integrations.problems import Problems
from tests.integrations.asgi_calls import JSON as PROBLEM, nothing_to_receive, scope_of
from tests.integrations.idempotency_shop import KEY, Shop, read, say
from tests.laws.worlds import RULES, Down, Lost, No

if TYPE_CHECKING:
    from finresilience.integrations.asgi import Message, Receive, Scope, Send

OPEN = CircuitOpenError("acme", "open", 12.5, 1, None)
UNKNOWN = UnknownOutcomeError("acme", attempts=1, happened="no answer", held_back="It is UNSAFE.")


# ---------------------------------------------------------------- what becomes of the key

ENDS = [(201, KeyState.COMPLETED, 201, 1), (402, KeyState.FAILED_FINAL, 402, 1), (429, None, 429, 2), (500, KeyState.INDETERMINATE, 202, 1)]


@pytest.mark.parametrize(("status", "state", "then", "runs"), ENDS, ids=str)
async def test_the_first_hears_what_was_answered_and_the_second_what_is_true(status: int, state: Any, then: int, runs: int) -> None:
    shop = Shop(status)
    assert ((await shop.post()).status, shop.state()) == (status, state)
    assert ((await shop.post()).status, shop.runs) == (then, runs)


async def test_a_decline_is_replayed_word_for_word() -> None:
    shop = Shop(402)
    first, repeat = await shop.post(), await shop.post()
    assert (repeat.raw, repeat.headers["idempotent-replayed"]) == (first.raw, "true")


async def test_a_key_that_was_released_may_come_with_another_body() -> None:
    shop = Shop(401, 201)
    assert [(await shop.post("k1", body)).status for body in (b"1", b"2")] == [401, 201]


async def test_what_a_status_says_can_be_yours_to_say() -> None:
    def ends(answered: Answered) -> End:
        return End.FAIL if answered.status == 409 else end_of(answered)

    shop = Shop(409, ends=ends)
    assert [(await shop.post()).status for _ in range(2)] == [409, 409]
    assert shop.runs == 1


@pytest.mark.parametrize("wrong", ["paid", None, ZeroDivisionError()], ids=repr)
async def test_if_what_says_so_fails_nobody_knows_and_the_answer_is_given(wrong: Any) -> None:
    def ends(answered: Answered) -> Any:
        if isinstance(wrong, Exception):
            raise wrong
        return wrong

    shop = Shop(ends=ends)
    assert ((await shop.post()).status, shop.state()) == (201, KeyState.INDETERMINATE)


async def test_a_refusal_of_ours_inside_frees_the_key() -> None:
    async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
        raise OPEN

    shop = Shop(ProblemMiddleware(refuses), 201)
    assert [(await shop.post()).status for _ in range(2)] == [503, 201]


async def test_an_unknown_outcome_that_was_answered_inside_is_no_success() -> None:
    async def loses(scope: Scope, receive: Receive, send: Send) -> None:
        raise UNKNOWN

    shop = Shop(ProblemMiddleware(loses))
    assert [(await shop.post()).status for _ in range(2)] == [202, 202]
    assert (shop.state(), shop.runs) == (KeyState.INDETERMINATE, 1)


# ---------------------------------------------------------------- nobody knows


async def test_what_nobody_knows_is_202_and_never_run_again() -> None:
    shop = Shop(500, 201)
    await shop.post()
    for _ in range(3):
        answer = await shop.post()
        assert (answer.status, answer.type, answer.headers["content-type"]) == (202, "unknown-outcome", PROBLEM)
        assert "retry-after" in answer.headers
        assert "idempotent-replayed" not in answer.headers
        shop.clock.advance(100_000)
    assert shop.runs == 1


async def test_the_202_holds_no_key_and_nothing_of_the_request() -> None:
    shop = Shop(500)
    raws = [(await shop.post("key-4711", b"4111111111111111")).raw for _ in range(2)]
    assert not any(secret in raw for raw in raws for secret in (b"4711", b"4111"))


async def test_where_to_ask_is_yours_to_add() -> None:
    shop = Shop(500, problems=Problems(members=lambda _: {"status_url": "/payments/p1"}))
    await shop.post()
    answer = await shop.post()
    assert (answer.body["status_url"], answer.headers["location"]) == ("/payments/p1", "/payments/p1")


async def test_once_somebody_has_found_out_repeats_get_the_answer() -> None:
    shop = Shop(500)
    await shop.post()
    (record,) = shop.books.unsettled()
    found = HttpAnswer.json(201, {"id": 1}, location="/payments/1").stored(most=1000)
    shop.books.resolve(record, KeyState.COMPLETED, found, evidence="acme's report of Friday", status="201")
    repeat = await shop.post()
    assert (repeat.status, repeat.body, repeat.headers["location"], shop.runs) == (201, {"id": 1}, "/payments/1", 1)


@pytest.mark.parametrize("written", [b"", b"paid", b"http 1\nnonsense\n", b'http 1\n{"status":99}\n', b"http 2\n{}\n"], ids=repr)
async def test_an_answer_that_somebody_else_wrote_is_neither_a_500_nor_run_again(written: bytes) -> None:
    shop = Shop(500)
    await shop.post()
    (record,) = shop.books.unsettled()
    shop.books.resolve(record, KeyState.COMPLETED, written, evidence="by hand")
    answer = await shop.post()
    assert (answer.status, answer.type, shop.runs) == (409, "answer-not-kept", 1)


# ---------------------------------------------------------------- errors of the application


async def test_defect_18_a_handler_that_raises_once_does_not_leave_409_for_ever() -> None:
    shop = Shop(OSError("the ledger is down"))
    with pytest.raises(OSError, match="ledger"):
        await shop.post()
    assert ((await shop.post()).status, shop.state(), shop.runs) == (202, KeyState.INDETERMINATE, 1)


async def test_an_unknown_outcome_is_202_for_the_first_caller_too() -> None:
    shop = Shop(UNKNOWN)
    answers = [await shop.post() for _ in range(2)]
    assert [(answer.status, answer.type) for answer in answers] == [(202, "unknown-outcome")] * 2
    assert shop.runs == 1


@pytest.mark.parametrize("error", [ExpiredError("acme", 2.0), RuntimeError("who knows"), TypeError("a mistake")], ids=repr)
async def test_an_error_that_proves_nothing_leaves_the_key_taken(error: Exception) -> None:
    shop = Shop(error)
    try:
        await shop.post()
    except (RuntimeError, TypeError) as raised:
        assert raised is error
    assert shop.state() is KeyState.INDETERMINATE


async def test_a_refusal_is_503_and_frees_the_key() -> None:
    shop = Shop(OPEN, 201)
    first, repeat = await shop.post(), await shop.post()
    assert (first.status, first.headers["retry-after"], repeat.status, shop.runs) == (503, "13", 201, 2)


async def test_a_refusal_after_something_was_sent_does_not_free_the_key() -> None:
    async def two_steps(scope: Scope, receive: Receive, send: Send) -> None:
        mark_sent()
        raise OPEN

    shop = Shop(two_steps)
    assert [((await shop.post()).status, shop.state()) for _ in range(2)] == [
        (500, KeyState.INDETERMINATE),
        (202, KeyState.INDETERMINATE),
    ]


async def test_a_decline_of_the_provider_is_402_and_replayed() -> None:
    shop = Shop(No(), problems=Problems(declined=(No,)))
    first, repeat = await shop.post(), await shop.post()
    assert (first.status, first.type, repeat.raw, shop.runs) == (402, "declined", first.raw, 1)
    assert shop.state() is KeyState.FAILED_FINAL


async def test_by_your_rules_an_error_that_moved_nothing_frees_the_key() -> None:
    shop = Shop(Down(), 201, classify=RULES)
    with pytest.raises(Down):
        await shop.post()
    assert (await shop.post()).status == 201


@pytest.mark.parametrize("error", [Lost(), No()], ids=repr)
async def test_by_your_rules_any_other_error_leaves_it_taken(error: Exception) -> None:
    shop = Shop(error, classify=RULES)
    with pytest.raises(type(error)):
        await shop.post()
    assert shop.state() is KeyState.INDETERMINATE


async def test_an_error_that_moved_nothing_itself_frees_no_key_if_an_earlier_step_moved_something() -> None:
    hold = Pipeline("ledger.hold", effect=Effect.UNSAFE, listeners=[])

    async def two_steps(scope: Scope, receive: Receive, send: Send) -> None:
        await hold.acall(_done)
        raise Down

    shop = Shop(two_steps, classify=RULES)
    with pytest.raises(Down):
        await shop.post()
    assert shop.state() is KeyState.INDETERMINATE


async def _done() -> None:
    return


async def test_a_provider_behind_an_open_circuit_is_tried_again_under_the_same_key() -> None:
    breaker = CircuitBreaker("acme", listeners=[])
    acme = Pipeline("acme.charge", breaker, classify=RULES, listeners=[])
    breaker.force_open()

    async def charges(scope: Scope, receive: Receive, send: Send) -> None:
        await acme.acall(_done)
        await say(send)

    shop = Shop(charges)
    assert (await shop.post()).status == 503
    breaker.reset()
    assert ((await shop.post()).status, shop.runs) == (201, 2)


async def test_an_application_that_answers_nothing_is_202() -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        return

    shop = Shop(silent)
    assert ((await shop.post()).status, shop.state()) == (202, KeyState.INDETERMINATE)


async def test_half_an_answer_is_no_answer() -> None:
    async def half(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": b"[1", "more_body": True})

    shop = Shop(half)
    assert ((await shop.post()).status, shop.state()) == (202, KeyState.INDETERMINATE)


# ---------------------------------------------------------------- answers that are too long


def stream(*parts: bytes, kind: bytes = b"application/json", then: Exception | None = None) -> Any:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", kind), (b"location", b"/payments/1")]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        if then is not None:
            raise then
        await send({"type": "http.response.body", "body": b""})

    return app


async def one_piece(scope: Scope, receive: Receive, send: Send) -> None:
    await say(send, 201, b"x" * 15, (b"location", b"/payments/1"))


LONG = {
    "in parts": stream(b"x" * 8, b"x" * 7),
    "at once": one_piece,
    "events": stream(b"data: 1\n\n", kind=b"text/event-stream; charset=utf-8"),
}


@pytest.mark.parametrize("app", LONG.values(), ids=LONG)
async def test_an_answer_that_is_too_long_is_given_once_and_a_repeat_hears_that_it_was_done(app: Any) -> None:
    shop = Shop(app, max_response=10)
    first, repeat = await shop.post(), await shop.post()
    assert (first.status, first.raw in {b"x" * 15, b"data: 1\n\n"}) == (201, True)
    assert (repeat.status, repeat.type, repeat.body["answered"], repeat.headers["location"]) == (409, "answer-not-kept", 201, "/payments/1")
    assert (shop.state(), shop.runs) == (KeyState.COMPLETED, 1)


async def test_an_answer_is_never_longer_than_what_the_store_takes() -> None:
    shop = Shop(201)
    shop.books._max_response = 30  # less than even the headers need
    assert [(await shop.post()).status for _ in range(2)] == [201, 409]
    assert shop.runs == 1


async def test_a_stream_that_breaks_off_ends_as_nobody_knows() -> None:
    shop = Shop(stream(b"x" * 15, then=OSError("broken")), max_response=10)
    with pytest.raises(OSError, match="broken"):
        await shop.post()
    assert ((await shop.post()).status, shop.runs) == (202, 1)


async def test_an_unending_stream_reaches_the_caller_as_it_comes() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) == 50:
            raise ConnectionError("hung up")

    shop = Shop(stream(*[b"x" * 4] * 100), max_response=10)
    with pytest.raises(ConnectionError):
        await shop.app(scope_of([(KEY, "k1")]), nothing_to_receive, send)
    assert read(sent).raw == b"x" * 12 + b"x" * 4 * 48
    assert shop.state() is KeyState.INDETERMINATE


# ---------------------------------------------------------------- cancellation


async def test_who_is_cancelled_in_the_middle_leaves_what_nobody_knows() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        cancel.cancel()
        await anyio.sleep_forever()

    shop = Shop(slow)
    with anyio.CancelScope() as cancel:
        await shop.post()
    assert (cancel.cancelled_caught, shop.state()) == (True, KeyState.INDETERMINATE)
    assert ((await shop.post()).status, shop.runs) == (202, 1)


async def test_who_is_cancelled_before_it_began_frees_the_key() -> None:
    shop = Shop()
    with anyio.CancelScope() as cancel:
        cancel.cancel()
        await shop.post()
    assert (shop.runs, len(shop)) == (0, 0)


async def test_an_answer_in_hand_survives_the_cancellation() -> None:
    async def cancelled(scope: Scope, receive: Receive, send: Send) -> None:
        cancel.cancel()
        await say(send)

    shop = Shop(cancelled)
    with anyio.CancelScope() as cancel:
        await shop.post()
    assert ((await shop.post()).status, shop.state(), shop.runs) == (201, KeyState.COMPLETED, 1)


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit])
async def test_who_is_told_to_exit_says_so_in_the_books_and_exits(signal: type[BaseException]) -> None:
    shop = Shop(signal())
    with pytest.raises(signal):
        await shop.post()
    assert shop.state() is KeyState.INDETERMINATE
