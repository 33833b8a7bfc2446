"""A request has the time its caller has left, never more than we grant, and everything inside knows it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, strategies as st

from finresilience import (
    ConfigurationError,
    Constant,
    DeadlineExceededError,
    Pipeline,
    Retry,
    Timeout,
    UnknownOutcomeError,
    deadline,
    outbound_headers,
    remaining,
)
from finresilience.context import current
from finresilience.integrations.asgi import DeadlineMiddleware
from finresilience.integrations.headers import HeaderError, incoming_timeout
from finresilience.integrations.problems import Problems
from finresilience.testing import ManualClock, instant, run_virtual
from tests.integrations.asgi_calls import JSON, Spy, asked, at_once, fine, nothing_to_receive, scope_of
from tests.laws.sabotage import kills
from tests.laws.worlds import RULES, Down, Provider

if TYPE_CHECKING:
    from collections.abc import Iterator

    from finresilience.integrations.asgi import Message, Receive, Scope, Send

MS = "Request-Timeout-Ms"


async def unsendable(message: Message) -> None:
    raise ConnectionError


@pytest.fixture
def clock() -> Iterator[ManualClock]:
    with instant() as ruling:
        yield ruling


# ---------------------------------------------------------------- no header gives more than at_most


def law_no_header_gives_more_than_at_most(header: str, text: bytes, at_most: float) -> None:
    spy = Spy(remaining)
    with instant():
        answer = at_once(asked(DeadlineMiddleware(spy, at_most=at_most, header=header), [(header, text)]))
    assert answer.status in {200, 400, 503}
    assert all(0 < left <= at_most for left in spy.saw)
    assert (answer.status == 200) == (len(spy.saw) == 1)


@pytest.mark.parametrize("header", [MS, "grpc-timeout", "x-envoy-expected-rq-timeout-ms"])
@given(
    text=st.one_of(st.binary(max_size=40), st.integers(-5, 10**19).map(lambda n: str(n).encode()), st.from_regex(rb"\d{1,9}[HMSmun]")),
    at_most=st.floats(0.01, 1e6),
)
def test_no_header_gives_more_than_at_most(header: str, text: bytes, at_most: float) -> None:
    law_no_header_gives_more_than_at_most(header, text, at_most)


def trusts_the_caller(patch: pytest.MonkeyPatch) -> None:
    """The saboteur: the caller's word stands where it gives one."""

    def granted(self: Any, scope: Any) -> float:
        asked_for = incoming_timeout(scope, self._headers[0])
        return self._at_most if asked_for is None else asked_for

    patch.setattr(DeadlineMiddleware, "_granted", granted)


def test_the_law_catches_a_middleware_that_trusts_its_caller() -> None:
    kills(trusts_the_caller, law_no_header_gives_more_than_at_most, MS, b"60000", 2.0)


async def test_a_caller_with_less_time_is_given_no_more_than_it_has(clock: ManualClock) -> None:
    spy = Spy(remaining)
    await asked(DeadlineMiddleware(spy, at_most=10), [(MS, "1500")])
    assert spy.saw == [1.5]


async def test_a_caller_that_says_nothing_has_at_most(clock: ManualClock) -> None:
    spy = Spy(remaining)
    await asked(DeadlineMiddleware(spy, at_most=10))
    assert spy.saw == [10]


async def test_of_several_headers_the_least_holds(clock: ManualClock) -> None:
    spy = Spy(remaining)
    app = DeadlineMiddleware(spy, at_most=10, header=(MS, "grpc-timeout", "x-envoy-expected-rq-timeout-ms"))
    await asked(app, [(MS, "3000"), ("grpc-timeout", "2S"), ("X-Envoy-Expected-Rq-Timeout-Ms", "2500")])
    assert spy.saw == [2]


async def test_a_header_that_was_not_asked_for_is_not_read(clock: ManualClock) -> None:
    spy = Spy(remaining)
    await asked(DeadlineMiddleware(spy, at_most=10), [("grpc-timeout", "nonsense")])
    assert spy.saw == [10]


async def test_an_outer_deadline_stays_in_force(clock: ManualClock) -> None:
    spy = Spy(remaining)
    with deadline(1):
        await asked(DeadlineMiddleware(spy, at_most=10))
    assert spy.saw == [1]


async def test_after_the_request_nothing_is_known_of_it(clock: ManualClock) -> None:
    await asked(DeadlineMiddleware(Spy(), at_most=10, retries=1))
    assert current.get() is None


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
async def test_what_is_no_http_request_passes_untouched(kind: str) -> None:
    spy = Spy(current.get)
    scope = scope_of([(MS, "nonsense")], type=kind)
    await DeadlineMiddleware(spy, at_most=10, retries=1)(scope, nothing_to_receive, unsendable)
    assert spy.saw == [None]
    assert spy.scopes[0] is scope


# ---------------------------------------------------------------- the calls inside


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_deadline_reaches_a_guarded_call_inside(backend: Any) -> None:
    provider = Provider(60.0)
    acme = Pipeline("acme.charge", Timeout(30.0), classify=RULES, listeners=[])
    took: list[float] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        started = anyio.current_time()
        with pytest.raises(UnknownOutcomeError):
            await acme.acall(provider.acharge)
        took.append(anyio.current_time() - started)
        await fine(send)

    run_virtual(partial(asked, DeadlineMiddleware(app, at_most=10), [(MS, "1500")]), backend=backend)
    assert took == [pytest.approx(1.5, abs=0.02)]  # a tick late at most
    assert provider.attempts == 1


async def test_a_pipeline_refuses_once_the_time_is_used_up_and_sends_nothing(clock: ManualClock) -> None:
    provider = Provider()
    acme = Pipeline("acme.charge", Timeout(30.0), listeners=[])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        clock.advance(2.0)
        with pytest.raises(DeadlineExceededError):
            await acme.acall(provider.acharge)
        await fine(send)

    await asked(DeadlineMiddleware(app, at_most=10), [(MS, "2000")])
    assert provider.attempts == 0


async def test_two_services_share_one_clock_of_the_request(clock: ManualClock) -> None:
    spy = Spy(remaining)
    inner = DeadlineMiddleware(spy, at_most=60)

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        clock.advance(1.25)
        await asked(inner, outbound_headers().items())
        await fine(send)

    await asked(DeadlineMiddleware(front, at_most=5))
    assert spy.saw == [3.75]


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("text", ["0", "000"])
async def test_a_caller_without_time_is_refused_before_anything_is_done(clock: ManualClock, text: str) -> None:
    spy = Spy()
    answer = await asked(DeadlineMiddleware(spy, at_most=10), [(MS, text)])
    assert (answer.status, answer.type, answer.headers["retry-after"]) == (503, "deadline-exceeded", "1")
    assert answer.headers["content-type"] == JSON
    assert spy.scopes == []


async def test_less_than_at_least_is_refused_and_at_least_is_not(clock: ManualClock) -> None:
    spy = Spy(remaining)
    app = DeadlineMiddleware(spy, at_most=10, at_least=0.25)
    assert [(await asked(app, [(MS, text)])).status for text in ("249", "250")] == [503, 200]
    assert spy.saw == [0.25]


async def test_a_bad_header_is_the_callers_mistake_and_nothing_is_done() -> None:
    spy = Spy()
    answer = await asked(DeadlineMiddleware(spy, at_most=10), [(MS, "soon, 4111111111111111")])
    assert (answer.status, answer.type, answer.body["header"]) == (400, "bad-header", MS)
    assert b"4111" not in answer.raw
    assert spy.scopes == []


async def test_a_refusal_has_the_type_that_the_service_publishes() -> None:
    app = DeadlineMiddleware(Spy(), at_most=10, problems=Problems(types="https://api.acme.test/problems/", retry_after=30))
    answer = await asked(app, [(MS, "0")])
    assert answer.body["type"] == "https://api.acme.test/problems/deadline-exceeded"
    assert answer.headers["retry-after"] == "30"


async def test_an_error_of_the_application_passes_through() -> None:
    """A HeaderError too: only our own reading of the headers is answered here."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise HeaderError("X-Other", "is wrong")

    with pytest.raises(HeaderError, match="X-Other"):
        await asked(DeadlineMiddleware(app, at_most=10))


# ---------------------------------------------------------------- after the answer


async def test_a_background_task_is_not_cut_short_by_a_caller_that_has_its_answer(clock: ManualClock) -> None:
    left: list[float | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await fine(send, b"a part")
        left.append(remaining())

    await asked(DeadlineMiddleware(app, at_most=10))
    assert left == [None]


async def test_while_the_answer_streams_the_deadline_holds(clock: ManualClock) -> None:
    left: list[float | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a part", "more_body": True})
        left.append(remaining())
        await send({"type": "http.response.body"})

    await asked(DeadlineMiddleware(app, at_most=10))
    assert left == [10]


async def test_after_the_answer_a_deadline_further_out_still_holds(clock: ManualClock) -> None:
    left: list[float | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await fine(send)
        left.append(remaining())

    with deadline(60):
        await asked(DeadlineMiddleware(DeadlineMiddleware(app, at_most=10), at_most=20))
    assert left == [60]


async def test_an_answer_sent_from_another_task_ends_the_deadline_as_well(clock: ManualClock) -> None:
    left: list[float | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fine, send)
        left.append(remaining())

    await asked(DeadlineMiddleware(app, at_most=10))
    assert left == [None]


async def test_an_answer_that_could_not_be_sent_ends_nothing(clock: ManualClock) -> None:
    left: list[float | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(ConnectionError):
            await send({"type": "http.response.body"})
        left.append(remaining())

    await DeadlineMiddleware(app, at_most=10)(scope_of(), nothing_to_receive, unsendable)
    assert left == [10]


# ---------------------------------------------------------------- the attempts of the caller


@pytest.mark.parametrize(("before", "attempts"), [(None, 3), ("0", 3), ("1", 2), ("2", 1), ("3", 1), ("999999", 1)])
async def test_each_attempt_of_the_caller_takes_one_retry_from_us(clock: ManualClock, before: str | None, attempts: int) -> None:
    provider = Provider(*[Down() for _ in range(9)])
    acme = Pipeline("acme.charge", Retry(attempts=9, backoff=Constant(0.0)), classify=RULES, listeners=[])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(Down):
            await acme.acall(provider.acharge)
        await fine(send)

    await asked(DeadlineMiddleware(app, at_most=10, retries=2), [] if before is None else [("Previous-Attempts", before)])
    assert provider.attempts == attempts


async def test_attempts_that_nobody_counts_are_not_read() -> None:
    spy = Spy()
    assert (await asked(DeadlineMiddleware(spy, at_most=10), [("Previous-Attempts", "nonsense")])).status == 200


async def test_attempts_that_are_no_count_are_refused() -> None:
    answer = await asked(DeadlineMiddleware(Spy(), at_most=10, retries=2), [("Previous-Attempts", "some")])
    assert (answer.status, answer.type, answer.body["header"]) == (400, "bad-header", "Previous-Attempts")


# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    "wrong",
    [
        {"at_most": 0},
        {"at_most": float("inf")},
        {"at_most": "10"},
        {"at_most": 10, "at_least": -1},
        {"at_most": 1, "at_least": 2},
        {"at_most": 10, "retries": -1},
        {"at_most": 10, "retries": True},
        {"at_most": 10, "header": ""},
        {"at_most": 10, "header": ()},
        {"at_most": 10, "header": ("A", "B C")},
        {"at_most": 10, "header": "A\r\nB"},
        {"at_most": 10, "header": None},
        {"at_most": 10, "problems": "https://api.acme.test/"},
    ],
    ids=repr,
)
def test_what_cannot_work_is_refused_at_once(wrong: Any) -> None:
    with pytest.raises(ConfigurationError):
        DeadlineMiddleware(Spy(), **wrong)


def test_there_is_no_default_for_the_bound() -> None:
    make: Any = DeadlineMiddleware
    with pytest.raises(TypeError, match="at_most"):
        make(Spy())
