"""When an inquiry may ask, how long it may take, and what is refused."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience import (
    CallAbandoned,
    ConfigurationError,
    Constant,
    Declined,
    Effect,
    Failed,
    Found,
    InquiryAnswered,
    Ok,
    Pipeline,
    Retry,
    StillUnknown,
    Timeout,
    Unknown,
    current_reference,
    deadline,
)
from tests.laws.worlds import Down, Lost, No, both_loops, on, still

if TYPE_CHECKING:
    from finresilience import Event

from tests.policies.asking import BOTH, VAGUE, aasked, acme, asked

# --- when it asks --------------------------------------------------------------------------------------------------


def test_every_wait_of_the_schedule_comes_before_its_ask() -> None:
    clock, times = still(), []
    pipeline = acme(clock=clock)

    @pipeline.inquiry(schedule=[0, 1.5, 30])
    def find() -> StillUnknown:
        times.append(clock.monotonic())
        return VAGUE

    def charge() -> None:
        raise Lost

    pipeline.outcome(charge)
    assert times == [0, 1.5, 31.5]


def test_it_does_not_ask_where_the_outcome_is_known() -> None:
    for error in (Down, No):
        outcome, asks = asked(acme(), VAGUE, error=error)
        assert (type(outcome), asks) == (Failed if error is Down else Declined, 0)


def test_it_asks_once_per_call_after_the_last_attempt() -> None:
    pipeline = acme(Retry(attempts=3, backoff=Constant(0)), effect=Effect.IDEMPOTENT_BY_NATURE)
    outcome, asks = asked(pipeline, Found("receipt"))
    assert (type(outcome), asks) == (Ok, 1)


def test_it_asks_past_the_calls_own_deadline() -> None:
    pipeline = acme(Timeout(2.0), deadline=2.0)
    outcome, asks = asked(pipeline, VAGUE, VAGUE, Found("receipt"), schedule=(10, 10, 10))
    assert (type(outcome), asks) == (Ok, 3)


@pytest.mark.parametrize(("seconds", "asks"), [(0.5, 0), (1.0, 0), (1.1, 1), (6.0, 1), (6.1, 2), (1000, 3)])
@BOTH
def test_no_ask_begins_at_or_after_the_deadline_of_the_caller(form: str, seconds: float, asks: int) -> None:
    pipeline = acme(clock=still() if form == "sync" else None)
    made: list[float] = []

    def ask() -> StillUnknown:
        made.append(1)
        return VAGUE

    async def aask() -> StillUnknown:
        return ask()

    pipeline.inquiry(schedule=(1, 5, 30))(ask if form == "sync" else aask)

    def charge() -> None:
        raise Lost

    def by_thread() -> Any:
        return pipeline.outcome(charge)

    async def acharge() -> None:
        raise Lost

    async def world() -> Any:
        with deadline(seconds):
            return await pipeline.aoutcome(acharge)

    if form == "sync":
        outer = Pipeline("outer", deadline=seconds, clock=pipeline._clock, listeners=[])
        outer.outcome(by_thread)
    else:
        assert isinstance(on(form, world), Unknown)
    assert len(made) == asks


@both_loops
def test_an_ask_that_hangs_is_given_up_at_the_timeout_and_the_next_one_is_made(backend: str) -> None:
    pipeline = acme(Timeout(2.0), clock=None)
    outcome, asks = aasked(pipeline, 3600.0, 3600.0, Found("receipt"), backend=backend)
    assert (type(outcome), asks) == (Ok, 3)


@both_loops
def test_an_ask_that_hangs_is_given_up_at_the_calls_deadline_where_there_is_no_timeout(backend: str) -> None:
    outcome, asks = aasked(acme(clock=None, deadline=4.0), 3600.0, 3600.0, 3600.0, backend=backend)
    assert (type(outcome), asks) == (Unknown, 3)


@both_loops
def test_an_ask_that_hangs_is_given_up_at_the_deadline_of_the_caller(backend: str) -> None:
    pipeline = acme(clock=None)

    @pipeline.inquiry(schedule=(1,))
    async def find() -> None:
        await anyio.sleep(3600)

    async def charge() -> None:
        raise Lost

    async def world() -> tuple[Any, float]:
        with deadline(5.0):
            outcome = await pipeline.aoutcome(charge)
        return outcome, pipeline._now()

    outcome, now = on(backend, world)
    assert isinstance(outcome, Unknown)
    assert 5.0 <= now <= 5.011


@both_loops
def test_a_plain_inquiry_serves_async_calls_and_an_awaitable_answer_is_awaited(backend: str) -> None:
    async def found() -> Found[str]:
        return Found("receipt")

    for find in (lambda: Found("receipt"), partial(hidden, found)):
        pipeline = acme(clock=None)
        pipeline.inquiry(schedule=(1,))(find)

        async def charge() -> None:
            raise Lost

        assert on(backend, pipeline(charge)) == "receipt"


# --- an inquiry that is interrupted --------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["wait", "ask"])
@both_loops
def test_an_inquiry_that_is_cancelled_says_that_the_call_was_abandoned(backend: str, where: str) -> None:
    heard: list[Event] = []
    pipeline = acme(heard=heard, clock=None, reference=lambda: "ref_1")

    @pipeline.inquiry(schedule=(5 if where == "wait" else 1,))
    async def find() -> None:
        await anyio.sleep(3600)

    async def charge() -> None:
        raise Lost

    async def world() -> bool:
        with anyio.move_on_after(3) as scope:
            await pipeline.acall(charge)
        assert current_reference() is None
        return scope.cancelled_caught

    assert on(backend, world)
    assert heard == [CallAbandoned(name="acme", attempt=1, ran=3.0, reference="ref_1")]


@pytest.mark.parametrize("where", ["wait", "ask"])
def test_an_inquiry_that_is_interrupted_says_that_the_call_was_abandoned(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Event] = []
    clock = still()
    pipeline = acme(heard=heard, clock=clock)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    pipeline.inquiry(schedule=(1,))(interrupted)

    def charge() -> None:
        raise Lost

    if where == "wait":
        monkeypatch.setattr(clock, "sleep_sync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipeline.call(charge)
    assert heard == [CallAbandoned(name="acme", attempt=1, ran=1.0 if where == "ask" else 0.0, reference=None)]


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schedule", [(), [], None, 5, "15", {1: 2}, (1,) * 101, (1, -1), (float("nan"),), (True,), ("1",), (1, float("inf"))], ids=repr
)
def test_an_unusable_schedule_is_refused_by_name(schedule: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^schedule"):
        acme().inquiry(schedule=schedule)


def test_a_hundred_asks_are_the_most() -> None:
    assert asked(acme(), *[VAGUE] * 100, schedule=(0.0,) * 100)[1] == 100


def test_a_second_inquiry_is_refused() -> None:
    pipeline = acme()
    pipeline.inquiry(schedule=(1,))(lambda: VAGUE)
    with pytest.raises(ConfigurationError, match="has an inquiry already"):
        pipeline.inquiry(schedule=(1,))(lambda: VAGUE)


def test_an_async_inquiry_about_plain_functions_is_refused_in_either_order() -> None:
    async def find() -> StillUnknown:
        return VAGUE

    first, second = acme(), acme()
    first.inquiry(schedule=(1,))(find)
    with pytest.raises(ConfigurationError, match="make the inquiry a plain function too"):
        first(lambda: "ok")
    second(lambda: "ok")
    with pytest.raises(ConfigurationError, match="make the inquiry a plain function too"):
        second.inquiry(schedule=(1,))(find)


def test_a_generator_is_refused_as_an_inquiry() -> None:
    def find() -> Any:
        yield VAGUE

    with pytest.raises(ConfigurationError, match="generator cannot be an inquiry"):
        acme().inquiry(schedule=(1,))(find)


def hidden(fn: Any) -> Any:
    return fn()


def test_a_hidden_coroutine_given_to_a_plain_call_is_closed_and_tells_nothing() -> None:
    async def found() -> Found[str]:
        return Found("receipt")

    heard: list[Event] = []
    pipeline = acme(heard=heard)
    pipeline.inquiry(schedule=(1,))(partial(hidden, found))

    def charge() -> None:
        raise Lost

    assert isinstance(pipeline.outcome(charge), Unknown)
    assert [event.answer for event in heard if isinstance(event, InquiryAnswered)] == ["failed"]


def test_the_inquiry_itself_can_still_be_called_as_it_is() -> None:
    def find() -> StillUnknown:
        return VAGUE

    assert acme().inquiry(schedule=(1,))(find) is find
