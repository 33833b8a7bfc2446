"""Ways that once led to a second charge, or to a wrong word about one."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import wraps
from threading import Event
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finresilience import (
    UNKNOWN,
    AttemptOverError,
    CircuitBreaker,
    Constant,
    Custom,
    Declined,
    DecorationError,
    Effect,
    ErrorClassifier,
    Failed,
    MissingKeyError,
    NotFound,
    Ok,
    Pipeline,
    Retry,
    Timeout,
    Unknown,
    UnknownOutcomeError,
    deadline,
    idempotency_key,
    mark_sent,
)
from finresilience.context import current
from finresilience.testing import ManualClock, run_virtual
from tests.laws.worlds import both_loops, on

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


def retrying(name: str = "acme", *more: Any, **settings: Any) -> Pipeline:
    return Pipeline(name, Retry(attempts=3, backoff=Constant(0)), *more, listeners=[], **settings)


def test_a_wrapper_round_a_guarded_function_is_not_left_out() -> None:
    """`functools.wraps` copies our mark, and `call` took the wrapper for the function inside: its check for repeats was skipped."""
    pipeline, charged = retrying(), list[str]()

    def once(fn: Any) -> Any:
        @wraps(fn)
        def checked(payment: str) -> str:
            return "duplicate" if payment in charged else fn(payment)

        return checked

    def charge(payment: str) -> str:
        charged.append(payment)
        return "paid"

    guarded = once(pipeline(charge))
    assert [guarded("p1"), pipeline.call(guarded, "p1"), pipeline.outcome(guarded, "p1").unwrap()] == ["paid", "duplicate", "duplicate"]
    assert charged == ["p1"]


def test_a_refusal_further_in_says_nothing_of_what_was_sent_before_it() -> None:
    """The charge had left when the ledger's circuit refused, and the whole call was told as "nothing was sent"."""
    ledger = CircuitBreaker("ledger", listeners=[])
    ledger.trip()

    def charge() -> None:
        mark_sent()
        ledger.call(lambda: None)

    assert isinstance(retrying(marks_sent=True).outcome(charge), Unknown)


@pytest.mark.parametrize("wrapped", ["as cause", "in a group"])
def test_what_a_guarded_call_inside_may_have_sent_is_not_sent_again_for_want_of_a_mark(wrapped: str) -> None:
    """Wrapped into an error of the caller's own, an unknown outcome further in was judged as never sent, and charged again."""
    charged: list[int] = []

    def charge() -> None:
        charged.append(1)
        raise TimeoutError("read timed out")

    def pay() -> None:
        try:
            Pipeline("acme.charge", Timeout(2), listeners=[]).call(charge)
        except UnknownOutcomeError as error:
            if wrapped == "as cause":
                raise ValueError from error
            raise ExceptionGroup("", [error]) from None

    assert isinstance(retrying("flow", marks_sent=True).outcome(pay), Unknown)
    assert charged == [1]


def test_a_read_inside_sends_nothing_that_matters() -> None:
    tries: list[int] = []

    def look_up() -> None:
        tries.append(1)
        Pipeline("look", Retry(attempts=1), effect=Effect.READ, listeners=[]).call(lambda: "ok")
        raise ValueError

    assert isinstance(retrying("flow", marks_sent=True).outcome(look_up), Failed)
    assert len(tries) == 3


def test_an_error_beside_a_charge_does_not_repeat_the_charge() -> None:
    """A task group cancels the charge on its way when its neighbour fails; the neighbour's harmless error had it sent again."""
    charged: list[int] = []

    async def post() -> None:
        charged.append(1)
        await anyio.sleep(10)

    async def risk() -> None:
        await anyio.sleep(1)
        raise ConnectionRefusedError

    async def charge() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(post())
            group.create_task(risk())

    outcome = run_virtual(retrying().aoutcome, charge, backend="asyncio")
    assert isinstance(outcome, Unknown)
    assert charged == [1]


@both_loops
@pytest.mark.parametrize("form", ["decorated", "called"])
def test_what_the_clean_up_raises_after_an_expiry_does_not_repeat_the_call(form: str, backend: str) -> None:
    """The attempt had expired; that its lock could not be released was then taken for why it failed."""
    charged: list[int] = []

    async def charge() -> None:
        charged.append(1)
        try:
            await anyio.sleep(60)
        finally:
            raise ConnectionRefusedError("the lock service is gone")

    pipeline = retrying("acme", Timeout(0.5))
    guarded = pipeline(charge) if form == "decorated" else charge
    assert isinstance(on(backend, lambda: pipeline.aoutcome(guarded)), Unknown)
    assert charged == [1]


@both_loops
@pytest.mark.parametrize("form", ["decorated", "called"])
def test_a_cancelled_call_is_not_repeated_because_its_clean_up_failed(form: str, backend: str) -> None:
    """An error raised in place of a cancellation from outside made the cancelled call go on with its next attempt."""
    charged: list[int] = []

    async def charge() -> None:
        charged.append(1)
        try:
            await anyio.sleep(60)
        finally:
            raise ConnectionRefusedError("the lock service is gone")

    pipeline = retrying()
    call = pipeline(charge) if form == "decorated" else lambda: pipeline.acall(charge)

    async def world() -> None:
        with anyio.move_on_after(1):
            try:
                await call()
            except UnknownOutcomeError:
                pass

    on(backend, world)
    assert charged == [1]


def test_that_nobody_has_seen_it_proves_nothing_while_a_thread_may_still_send_it() -> None:
    clock, gate = ManualClock(), Event()
    pipeline = Pipeline("acme", Timeout(1.0, thread_limit=1), clock=clock, listeners=[])
    pipeline.inquiry(schedule=(0,))(lambda: NotFound())  # noqa: PLW0108 - a class is no function that asks

    def charge() -> None:
        clock.advance(2.0)
        gate.wait()

    outcome = pipeline.outcome(charge)
    gate.set()
    assert isinstance(outcome, Unknown)


class Answered(Exception):
    def __init__(self, status: int) -> None:
        self.status_code = status


@pytest.mark.parametrize(
    ("second", "end"),
    [
        (httpx.InvalidURL("x"), Unknown),
        (httpx.UnsupportedProtocol("x"), Unknown),
        (MissingKeyError("x"), Unknown),
        *[(Answered(status), Unknown) for status in (401, 403, 404, 413)],
        (Answered(402), Declined),
        (Answered(422), Declined),
    ],
    ids=repr,
)
def test_only_the_providers_word_on_the_payment_settles_a_doubt(second: Exception, end: type[object]) -> None:
    """After an answer was lost, "who are you?" from the gate was believed to mean that the first attempt had not been taken."""
    script = [httpx.ReadTimeout("lost"), second]

    def charge() -> None:
        raise script.pop(0)

    pipeline = retrying(effect=Effect.IDEMPOTENT, key=lambda: "pay_1")
    assert isinstance(pipeline.outcome(charge), end)


def test_a_gates_no_to_the_only_attempt_is_a_no() -> None:
    def charge() -> None:
        raise Answered(401)

    assert isinstance(retrying().outcome(charge), Declined)


@pytest.mark.parametrize("error", [ConnectionRefusedError("metrics"), httpx.ConnectError("metrics")])
def test_a_hook_that_fails_after_the_answer_does_not_repeat_the_charge(error: Exception) -> None:
    taken: list[int] = []

    def answer(_: httpx.Request) -> httpx.Response:
        taken.append(1)
        return httpx.Response(201)

    def hook(_: httpx.Response) -> None:
        raise error

    with httpx.Client(transport=httpx.MockTransport(answer), event_hooks={"response": [hook]}) as client:
        outcome = retrying().outcome(lambda: client.post("https://acme.test/charges"))
    assert isinstance(outcome, Unknown)
    assert taken == [1]


def test_two_clocks_on_one_loop_each_keep_their_deadlines() -> None:
    """The timers of one clock were set by the zero of the other, so that a timeout was never enforced."""

    class Shifted(ManualClock):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues] - a clock with another zero
        def monotonic(self) -> float:
            return anyio.current_time() + 1e6

    slow: list[float] = []

    async def hangs(policy: Timeout) -> None:
        started = anyio.current_time()
        with pytest.raises(UnknownOutcomeError):
            await policy.acall(anyio.sleep, 600)
        slow.append(anyio.current_time() - started)

    async def world() -> None:
        async with anyio.create_task_group() as group:
            for policy in (Timeout(2.0, listeners=[]), Timeout(3.0, clock=Shifted(), listeners=[]), Timeout(2.5, listeners=[])):
                group.start_soon(hangs, policy)

    run_virtual(world, backend="asyncio")
    assert slow == pytest.approx([2.0, 2.5, 3.0], abs=0.02)


def test_a_block_left_from_another_context_neither_raises_nor_rings_later() -> None:
    async def world() -> str:
        timeout = Timeout(1.0, listeners=[])

        async def steps() -> AsyncGenerator[int]:
            with idempotency_key("pay_1"), deadline(5.0):
                async with timeout.guard():
                    yield 1

        held = steps()
        await asyncio.create_task(anext(held))
        await asyncio.create_task(held.aclose())  # as the loop does with generators that nobody finishes
        await anyio.sleep(5)
        assert current.get() is None
        return "not cancelled"

    assert run_virtual(world, backend="asyncio") == "not cancelled"


def test_what_an_attempt_left_behind_cannot_send_any_more() -> None:
    """Judged as not sent and tried again, the first attempt's thread woke up and sent as well."""
    sent: list[str] = []
    left: list[Any] = []

    def charge() -> str:
        left.append(current.get())
        if len(left) == 1:
            raise TimeoutError
        token = current.set(left[0])
        with pytest.raises(AttemptOverError):
            mark_sent()
        current.reset(token)
        mark_sent()
        sent.append("second")
        return "paid"

    assert retrying(marks_sent=True).call(charge) == "paid"
    assert sent == ["second"]


def test_the_retry_of_a_call_that_marks_may_send() -> None:
    tries: list[int] = []

    def charge() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise OSError("no connection of the pool was free")
        mark_sent()
        return "paid"

    assert retrying(marks_sent=True).call(charge) == "paid"


@both_loops
def test_a_no_to_the_clean_up_is_no_answer_to_the_expired_call(backend: str) -> None:
    async def charge() -> None:
        try:
            await anyio.sleep(60)
        finally:
            raise Answered(404)  # the lock that was to be deleted is gone

    assert isinstance(on(backend, lambda: retrying("acme", Timeout(0.5)).aoutcome(charge)), Unknown)


def test_a_task_that_once_was_cancelled_still_retries() -> None:
    """Before Python 3.13 a task group leaves its count on the task; and a reversal may be made in the `finally` of a cancelled one."""
    tries: list[int] = []

    async def refund() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionRefusedError
        return "refunded"

    async def charge() -> None:
        try:
            await anyio.sleep(60)
        finally:
            await retrying().acall(refund)

    async def world() -> None:
        task = asyncio.create_task(charge())
        await anyio.sleep(1)
        task.cancel()
        await asyncio.wait([task])

    run_virtual(world, backend="asyncio")
    assert len(tries) == 2


@both_loops
def test_a_timeout_of_the_client_inside_is_no_clean_up(backend: str) -> None:
    breaker = CircuitBreaker("acme", consecutive_failures=1, listeners=[])

    async def charge() -> None:
        async with asyncio.timeout(1) if backend == "asyncio" else _trio_timeout():
            await anyio.sleep(60)

    assert isinstance(on(backend, lambda: Pipeline("acme", breaker, listeners=[]).aoutcome(charge)), Unknown)
    assert breaker.state == "open"


@asynccontextmanager
async def _trio_timeout() -> AsyncGenerator[None]:
    with anyio.fail_after(1):
        yield


def test_a_missing_key_further_in_is_no_providers_no() -> None:
    def charge() -> None:
        mark_sent()
        Pipeline("acme.notify", effect=Effect.IDEMPOTENT, listeners=[]).call(lambda: None)

    assert isinstance(retrying(marks_sent=True).outcome(charge), Unknown)


def test_a_key_that_nobody_hands_on_joins_nothing() -> None:
    script = [httpx.ReadTimeout("lost"), Answered(402)]

    def charge() -> None:
        raise script.pop(0)

    with idempotency_key("pay_1"):
        assert isinstance(retrying(effect=Effect.IDEMPOTENT_BY_NATURE).outcome(charge), Unknown)


class Lenient(Exception):
    """Whatever it is asked for, it has: nothing."""

    def __getattr__(self, name: str) -> None:
        if not name.startswith("__cause"):
            return


class Hostile(Exception):
    def __getattr__(self, name: str) -> None:
        raise KeyError(name)


class Frozen(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError("frozen")

    __notes__ = ("mine",)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType, reportIncompatibleVariableOverride] - as somebody may


@pytest.mark.parametrize("kind", [Lenient, Hostile, Frozen])
def test_an_error_that_cannot_be_touched_is_still_unknown(kind: type[Exception]) -> None:
    def charge() -> None:
        raise kind

    assert isinstance(retrying().outcome(charge), Unknown)


class HostileAnswer:
    def __getattr__(self, name: str) -> None:
        raise KeyError(name)


def test_an_answer_that_cannot_be_asked_is_still_the_answer() -> None:
    answer = HostileAnswer()
    assert retrying().call(lambda: answer) is answer


def test_a_rule_of_the_callers_own_that_raises_costs_nobody_a_result() -> None:
    class Broken:
        minimum_calls = 1

        def trips(self, _: object) -> str | None:
            raise ZeroDivisionError

    breaker = CircuitBreaker("acme", rules=[Broken()], listeners=[])
    assert breaker.call(lambda: {"paid": True}) == {"paid": True}


def test_an_outcome_as_a_value_is_judged_like_any_other() -> None:
    inner = Ok("receipt")
    assert retrying(classify=ErrorClassifier({Ok: UNKNOWN})).outcome(lambda: inner).__class__ is Unknown


def test_a_probe_that_never_left_does_not_close_the_circuit() -> None:
    clock = ManualClock()
    breaker = CircuitBreaker("acme", consecutive_failures=1, half_open_calls=1, open_for=1.0, clock=clock, listeners=[])
    breaker.trip()
    clock.advance(5.0)

    def mistyped() -> None:
        raise httpx.UnsupportedProtocol("htp://acme.test")

    Pipeline("acme", breaker, listeners=[]).outcome(mistyped)
    assert breaker.state == "half_open"


def test_a_circuit_used_inside_itself_can_close_again() -> None:
    """A guarded method that calls its parent's, guarded by the same breaker, was refused by its own probe, round after round."""
    clock = ManualClock()
    breaker = CircuitBreaker("acme", consecutive_failures=1, half_open_calls=1, open_for=1.0, clock=clock, listeners=[])
    inner = breaker(lambda: "paid")
    outer = breaker(lambda: inner())  # noqa: PLW0108 - one guarded function inside another is the point
    breaker.trip()
    clock.advance(5.0)
    assert outer() == "paid"
    assert breaker.state == "closed"


@both_loops
def test_an_inquiry_guarded_by_its_own_pipeline_does_not_ask_about_itself(backend: str) -> None:
    asked: list[int] = []
    acme = Pipeline("acme", Retry(attempts=1), listeners=[])

    @acme.inquiry(schedule=(1, 1))
    @acme
    async def find() -> NotFound:
        asked.append(1)
        raise TimeoutError

    async def charge() -> None:
        raise TimeoutError

    assert isinstance(on(backend, lambda: acme.aoutcome(charge)), Unknown)
    assert asked == [1, 1]


def test_a_plain_inquiry_does_not_ask_about_itself_either() -> None:
    asked: list[int] = []
    acme = Pipeline("acme", Retry(attempts=1), clock=ManualClock(), listeners=[])

    @acme.inquiry(schedule=(1, 1))
    @acme
    def find() -> NotFound:
        asked.append(1)
        raise TimeoutError

    def charge() -> None:
        raise TimeoutError

    assert isinstance(acme.outcome(charge), Unknown)
    assert asked == [1, 1]


@both_loops
def test_a_generator_is_no_call(backend: str) -> None:
    def steps() -> Any:
        yield 1

    async def asteps() -> AsyncGenerator[int]:
        yield 1

    for policy in (retrying(), CircuitBreaker("acme", listeners=[])):
        for call in (policy.call, policy.outcome):
            with pytest.raises(DecorationError, match="whose steps nobody would guard"):
                call(steps)
        for acall in (policy.acall, policy.aoutcome):
            with pytest.raises(DecorationError, match="whose steps nobody would guard"):
                on(backend, acall, asteps)


def law_no_success_is_invented(script: list[str]) -> None:
    given: list[object] = []

    def charge() -> object:
        line = script.pop(0)
        if line == "fail":
            raise ConnectionResetError
        if line == "no":
            raise Answered(402)
        given.append(object())
        return given[-1]

    pipeline = retrying("acme", effect=Effect.IDEMPOTENT, key=lambda: "pay_1")
    pipeline.inquiry(schedule=(0,))(lambda: NotFound())  # noqa: PLW0108 - a class is no function that asks
    outcome = pipeline.outcome(charge)
    assert isinstance(outcome, Ok) is bool(given)
    assert not isinstance(outcome, Ok) or outcome.value is given[0]


@pytest.mark.parametrize("script", [["fail", "ok"], ["ok"], ["fail", "fail", "fail"], ["fail", "no"]], ids=str)
def test_no_success_is_ever_invented(script: list[str]) -> None:
    """The seventh law, of what there is by now: an Ok holds what the function or the inquiry gave, itself, or there is no Ok."""
    law_no_success_is_invented(script)


def from_memory(*_: object) -> Ok[str]:
    return Ok("paid, as last time")


def test_the_seventh_law_catches_a_pipeline_that_answers_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finresilience.policies.ending.unfortunate", from_memory)
    with pytest.raises(AssertionError):
        law_no_success_is_invented(["fail", "fail", "fail"])


class Faceless(Exception):
    @property
    def __dict__(self) -> Any:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride] - as somebody may
        raise KeyError


def test_an_error_without_a_dict_to_look_into_is_still_unknown() -> None:
    def charge() -> None:
        raise Faceless

    assert isinstance(retrying().outcome(charge), Unknown)


def test_a_chain_of_errors_beyond_all_measure_ends_somewhere() -> None:
    error: Exception = ValueError()
    for _ in range(100):
        further = ValueError()
        further.__context__ = error
        error = further

    def charge() -> None:
        raise error

    assert isinstance(retrying().outcome(charge), Unknown)


def test_a_guarded_function_that_was_first_called_on_one_clock_keeps_time_on_the_next() -> None:
    slow: list[float] = []
    timeout = Timeout(2.0, listeners=[])
    guarded = timeout(anyio.sleep)

    async def world() -> None:
        for policy in (guarded, Timeout(1.0, clock=ManualClock(), listeners=[])(anyio.sleep), guarded):
            started = anyio.current_time()
            if policy is guarded:
                with pytest.raises(UnknownOutcomeError):
                    await policy(600)
                slow.append(anyio.current_time() - started)
            else:
                await policy(0)

    run_virtual(world, backend="asyncio")
    assert slow == pytest.approx([2.0, 2.0], abs=0.02)


def test_a_schedule_that_fails_does_not_take_the_place_of_the_unknown() -> None:
    """A schedule of the caller's own raised after the call was sent, and its IndexError was all that anybody heard."""

    def broken(_: int) -> float:
        raise IndexError

    def charge() -> None:
        raise ConnectionResetError

    retry = Retry(attempts=3, backoff=Custom(broken))
    outcome = Pipeline("acme", retry, effect=Effect.IDEMPOTENT_BY_NATURE, listeners=[]).outcome(charge)
    assert isinstance(outcome, Unknown)
    assert "the schedule of waits failed" in str(outcome.error)
