"""What goes wrong inside an ASGI application is answered once, in full, and as it is; the rest passes through."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience import (
    NON_RETRYABLE,
    UNKNOWN,
    CircuitBreaker,
    CircuitOpenError,
    Effect,
    ErrorClassifier,
    ExpiredError,
    MissingKeyError,
    Pipeline,
    Retry,
    Timeout,
    UnknownOutcomeError,
    http_classifier,
    remaining,
)
from finresilience.context import current
from finresilience.integrations.asgi import DeadlineMiddleware, IdempotencyKeyMiddleware, ProblemMiddleware
from finresilience.testing import instant
from tests.integrations.asgi_calls import JSON, Spy, asked, fine, nothing_to_receive, scope_of
from tests.laws.sabotage import kills, nothing
from tests.laws.worlds import RULES, Lost, No, Provider

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from finresilience.integrations.asgi import App, Message, Receive, Scope, Send


def calling(*calls: Callable[[], Awaitable[object]]) -> App:
    """Return an application that makes these calls, one after the other, and then is fine."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for call in calls:
            await call()
        await fine(send)

    return app


def raising(error: BaseException) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    return app


def guarded(
    name: str, *script: Any, open_circuit: bool = False, effect: Effect = Effect.UNSAFE
) -> Callable[[], Coroutine[Any, Any, object]]:
    breaker = CircuitBreaker(name, listeners=[])
    pipeline = Pipeline(name, breaker, Retry(attempts=1), Timeout(5.0), classify=RULES, effect=effect, listeners=[])
    if open_circuit:
        breaker.force_open()
    provider = Provider(*script)
    return lambda: pipeline.acall(provider.acharge)


# ---------------------------------------------------------------- each end of a call


async def test_an_unknown_outcome_is_202_with_a_time_to_ask_again() -> None:
    answer = await asked(ProblemMiddleware(calling(guarded("acme.charge", Lost()))))
    assert (answer.status, answer.type, answer.headers["retry-after"]) == (202, "unknown-outcome", "5")
    assert answer.headers["content-type"] == JSON
    assert int(answer.headers["content-length"]) == len(answer.raw)


async def test_an_open_circuit_is_503_with_a_time_to_come_back() -> None:
    answer = await asked(ProblemMiddleware(calling(guarded("acme.charge", open_circuit=True))))
    assert (answer.status, answer.type, answer.headers["retry-after"]) == (503, "refused", "1")


async def test_a_decline_is_402() -> None:
    answer = await asked(ProblemMiddleware(calling(guarded("acme.charge", No())), declined=(No,)))
    assert (answer.status, answer.type) == (402, "declined")


async def test_a_decline_is_402_by_a_classifier_too() -> None:
    answer = await asked(ProblemMiddleware(calling(guarded("acme.charge", No())), classify=ErrorClassifier({No: NON_RETRYABLE})))
    assert (answer.status, answer.type) == (402, "declined")


async def test_a_missing_key_is_400() -> None:
    answer = await asked(ProblemMiddleware(calling(guarded("acme.charge", effect=Effect.IDEMPOTENT))))
    assert (answer.status, answer.type) == (400, "key-missing")


async def test_an_answer_that_works_is_left_alone() -> None:
    answer = await asked(ProblemMiddleware(calling(guarded("acme.charge"))))
    assert (answer.status, answer.raw) == (200, b"")


@pytest.mark.parametrize("error", [ValueError("a bug"), No()], ids=repr)
async def test_what_is_not_ours_passes_through(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        await asked(ProblemMiddleware(raising(error)))
    assert caught.value is error


async def test_a_cancellation_passes_through() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await anyio.sleep_forever()

    with anyio.CancelScope() as scope:
        scope.cancel()
        await asked(ProblemMiddleware(app))
    assert scope.cancelled_caught


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
async def test_what_is_no_http_request_passes_untouched(kind: str) -> None:
    async def unsendable(message: Message) -> None:
        raise ConnectionError

    with pytest.raises(ExpiredError):
        await ProblemMiddleware(raising(ExpiredError("acme", 2.0)))(scope_of(type=kind), nothing_to_receive, unsendable)


async def test_an_answer_that_has_begun_is_not_answered_twice() -> None:
    sent: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ExpiredError("acme", 2.0)

    async def send(message: Message) -> None:
        sent.append(message["type"])

    with pytest.raises(ExpiredError):
        await ProblemMiddleware(app)(scope_of(), nothing_to_receive, send)
    assert sent == ["http.response.start"]


# ---------------------------------------------------------------- a refusal after an earlier step


async def law_a_refused_second_step_is_not_called_nothing(app: App) -> None:
    answer = await asked(app)
    verdict = http_classifier().value(answer)
    assert verdict is not None
    assert verdict.classification is UNKNOWN
    assert answer.type == "incomplete"


def two_steps() -> App:
    return calling(guarded("ledger.hold"), guarded("acme.charge", open_circuit=True))


async def test_a_refused_second_step_is_not_called_nothing() -> None:
    await law_a_refused_second_step_is_not_called_nothing(ProblemMiddleware(two_steps()))


async def test_what_was_sent_is_known_through_the_other_middlewares() -> None:
    inner = ProblemMiddleware(IdempotencyKeyMiddleware(two_steps(), owner=lambda _: "m_1"))
    await law_a_refused_second_step_is_not_called_nothing(DeadlineMiddleware(inner, at_most=10))


async def test_what_was_sent_in_a_task_of_the_request_is_known() -> None:
    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(guarded("ledger.hold"))
        await guarded("acme.charge", open_circuit=True)()

    await law_a_refused_second_step_is_not_called_nothing(ProblemMiddleware(both))


def forgets_what_was_sent(patch: pytest.MonkeyPatch) -> None:
    """The saboteur: nobody notes that an attempt begins."""
    patch.setattr("finresilience.policies.plan.mark_outside", nothing)


def test_the_law_catches_a_request_that_forgets() -> None:
    kills(forgets_what_was_sent, lambda: anyio.run(law_a_refused_second_step_is_not_called_nothing, ProblemMiddleware(two_steps())))


async def test_a_read_before_it_moved_nothing() -> None:
    app = calling(guarded("acme.balance", effect=Effect.READ), guarded("acme.charge", open_circuit=True))
    assert (await asked(ProblemMiddleware(app))).type == "refused"


async def test_a_refusal_inside_of_a_call_that_only_holds_others_is_a_refusal() -> None:
    checkout = Pipeline("checkout", Timeout(5.0), marks_sent=True, listeners=[])
    inner = guarded("acme.charge", open_circuit=True)
    assert (await asked(ProblemMiddleware(calling(lambda: checkout.acall(inner))))).type == "refused"


async def test_what_one_request_sent_is_not_held_against_the_next() -> None:
    answers = [(await asked(app)).type for app in (ProblemMiddleware(two_steps()), ProblemMiddleware(raising(open_circuit())))]
    assert answers == ["incomplete", "refused"]


async def test_what_was_sent_before_the_request_is_not_of_the_request() -> None:
    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        await guarded("ledger.hold")()
        await ProblemMiddleware(raising(open_circuit()))(scope, receive, send)

    assert (await asked(DeadlineMiddleware(outer, at_most=10))).type == "refused"


def open_circuit() -> CircuitOpenError:
    return CircuitOpenError("acme", "open", 2.0, 1, None)


# ---------------------------------------------------------------- what is logged


@pytest.mark.parametrize(
    ("app", "line"),
    [
        (two_steps(), "answered 500 (incomplete): acme.charge was not called"),
        (raising(ExpiredError("acme", 2.0)), "answered 504 (expired): acme gave up after 2.000 s"),
        (
            raising(MissingKeyError("acme is IDEMPOTENT but this call has no idempotency key.\n  ...")),
            "answered 400 (key-missing): acme is",
        ),
    ],
    ids=["incomplete", "expired", "key-missing"],
)
async def test_what_a_person_should_look_at_is_logged_in_one_line(app: App, line: str, caplog: pytest.LogCaptureFixture) -> None:
    await asked(ProblemMiddleware(app))
    (record,) = caplog.records
    assert (record.name, record.levelno, record.exc_info) == ("finresilience", logging.WARNING, None)
    assert record.getMessage().startswith(line)
    assert "\n" not in record.getMessage()


@pytest.mark.parametrize("error", [open_circuit(), No(), UnknownOutcomeError("a", attempts=1, happened="", held_back="")], ids=str)
async def test_the_daily_bread_is_not_logged_here(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    await asked(ProblemMiddleware(raising(error), declined=(No,)))
    assert caplog.records == []


# ---------------------------------------------------------------- with a deadline


async def test_the_deadline_is_known_inside_and_ends_with_the_answer() -> None:
    left: list[float | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        left.append(remaining())
        await fine(send)
        left.append(remaining())

    with instant():
        await asked(DeadlineMiddleware(ProblemMiddleware(app), at_most=10))
    assert left == [10, None]


async def test_after_the_request_nothing_is_known_of_it() -> None:
    await asked(ProblemMiddleware(Spy()))
    await asked(ProblemMiddleware(raising(open_circuit())))
    assert current.get() is None


# ---------------------------------------------------------------- what it costs


def test_it_needs_no_framework_and_no_event_loop_and_nobody_needs_it() -> None:
    heavy = "{'starlette', 'fastapi', 'pydantic', 'anyio', 'asyncio', 'trio', 'json'} & set(sys.modules)"
    first = "import sys, finresilience; from finresilience import Pipeline; assert 'finresilience.integrations' not in sys.modules"
    then = f"import finresilience.integrations.asgi; assert not {heavy}, {heavy}"
    subprocess.run([sys.executable, "-I", "-c", f"{first}; {then}"], check=True)
