"""What limits a hedge, what ends it from outside, and what stands round it: nothing is sent unpaid, nothing outlives the call."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from finresilience import (
    CallAbandoned,
    Constant,
    Effect,
    Event,
    Failed,
    Found,
    MissingKeyError,
    Pipeline,
    RatioBudget,
    Retry,
    Timeout,
    TokenBudget,
    attempt_budget,
    mark_sent,
)
from finresilience.events import CallHedged
from finresilience.policies.fallback import Fallback
from finresilience.policies.hedge import Hedge, Quantile
from tests.laws.worlds import RULES, Down, Lost, both_loops, on
from tests.policies.racing import IDEMPOTENT, Arms, ended, hedged

# ---------------------------------------------------------------- what limits it


@both_loops
def test_an_arm_costs_what_a_retry_does_and_where_nobody_pays_there_is_none(backend: str) -> None:
    hedge = Hedge(3.0, budget=RatioBudget(0.01, at_least=0.1, window=10.0), name="reads")  # one in ten seconds
    heard: list[Event] = []
    pipeline = hedged(hedge, heard=heard)

    async def world() -> list[Any]:
        with attempt_budget(2):  # what the one does not pay for, the other need not
            return [await pipeline.acall(Arms((9.0, "a"), (1.0, "b")).read) for _ in range(4)]

    assert on(backend, world) == ["b", "a", "b", "a"]
    assert hedge.statistics() == {"hedged": 2, "won": 2, "denied": 2, "delay": 3.0}
    assert [event.after for event in heard if isinstance(event, CallHedged)] == [3.0, 3.0]


@both_loops
def test_a_budget_is_shared_with_the_retries_inside(backend: str) -> None:
    budget = TokenBudget(4)  # two to spend: more than half must be left
    pipeline = hedged(Hedge(3.0, budget=budget), Retry(attempts=9, backoff=Constant(0), budget=budget))
    arms = Arms((1.0, Down()), (9.0, "first"), (1.0, "second"))
    outcome, _ = ended(backend, pipeline, arms)
    assert (outcome.unwrap(), len(arms.began)) == ("first", 2)


@both_loops
def test_a_budget_hears_of_each_call_and_of_its_success_once(backend: str) -> None:
    class Heard:
        def __init__(self, *, on_success: bool) -> None:
            self.on_success, self.deposits = on_success, 0

        def deposit(self, now: float, /) -> None:
            self.deposits += 1

        def withdraw(self, now: float, /) -> bool:
            return True

    for on_success in (False, True):
        budget, other = Heard(on_success=on_success), Heard(on_success=on_success)
        ended(backend, hedged(Hedge(3.0, budget=budget), Retry(attempts=2, budget=other)), Arms((9.0, "a"), (1.0, "b")))
        assert budget.deposits == 1
        budget = Heard(on_success=on_success)
        ended(backend, hedged(Hedge(3.0, budget=budget)), Arms((9.0, Down()), (1.0, Down())))
        assert budget.deposits == (not on_success)
        budget = Heard(on_success=True)
        ended(backend, hedged(Hedge(3.0, budget=budget), Retry(attempts=2, budget=budget)), Arms((9.0, "a"), (1.0, "b")))
        assert budget.deposits == 1  # by the Retry of the arm that won


@both_loops
def test_an_arm_is_an_attempt_for_the_budget_of_the_whole_tree(backend: str) -> None:
    arms = Arms((9.0, "first"), (1.0, "second"))

    async def world() -> Any:
        with attempt_budget(0):
            return await hedged().acall(arms.read)

    assert (on(backend, world), len(arms.began)) == ("first", 1)


@both_loops
def test_no_arm_begins_once_the_deadline_is_past(backend: str) -> None:
    heard: list[Event] = []
    outcome, at = ended(backend, hedged(deadline=3.0, heard=heard), arms := Arms((9.0, "first"), (1.0, "second")))
    assert isinstance(outcome, Failed)
    assert heard == []
    assert (3.0 <= at <= 3.02, arms.began) == (True, [0.0])


# ---------------------------------------------------------------- by quantile


@both_loops
def test_by_quantile_no_call_is_hedged_before_enough_are_known(backend: str) -> None:
    hedge = Hedge(Quantile(0.5, minimum_calls=3))
    pipeline = hedged(hedge)
    known = [Arms((2.0, "a")), Arms((4.0, "a")), Arms((6.0, "a"))]
    last = Arms((99.0, "first"), (1.0, "second"))

    async def world() -> Any:
        delays = []
        for arms in known:
            delays.append(hedge.delay)
            await pipeline.acall(arms.read)
        began = anyio.current_time()
        return delays, await pipeline.acall(last.read), last.began[1] - began

    assert on(backend, world) == ([None, None, None], "second", 4.0)
    assert hedge.delay == 4.0  # the beaten arm is known to have taken 5 s at least


@both_loops
def test_by_quantile_a_failure_that_came_before_it_was_slow_teaches_nothing(backend: str) -> None:
    hedge = Hedge(Quantile(0.5, minimum_calls=1))
    ended(backend, hedged(hedge), Arms((1.0, Down())))
    assert hedge.delay is None


# ---------------------------------------------------------------- from outside


@both_loops
def test_a_limit_outside_ends_every_arm(backend: str) -> None:
    arms = Arms((9.0, "first"), (9.0, "second"))
    outer = Timeout(5.0, effect=Effect.READ, listeners=[])

    async def world() -> Any:
        outcome = await outer.aoutcome(hedged()(arms.read))
        return outcome, anyio.current_time(), arms.running

    outcome, at, running = on(backend, world)
    assert isinstance(outcome, Failed)
    assert (5.0 <= at <= 5.02, running, arms.ends) == (True, 0, {1: "cancelled", 2: "cancelled"})


@both_loops
def test_somebody_who_cancels_from_outside_is_obeyed_and_told_of_every_arm_that_may_have_been_sent(backend: str) -> None:
    heard: list[Event] = []
    arms = Arms((9.0, "first"), (9.0, "second"))

    async def world() -> Any:
        with anyio.move_on_after(5.0) as scope:
            await hedged(heard=heard, **IDEMPOTENT).acall(arms.read)
        return scope.cancelled_caught, arms.running

    assert on(backend, world) == (True, 0)
    told = [event for event in heard if isinstance(event, CallAbandoned)]
    assert len(told) == 2
    assert [event for event in heard if isinstance(event, CallHedged)] == [
        CallHedged(name="acme", arm=2, after=3.0, won=False, reference=None)
    ]


@both_loops
def test_an_arm_that_had_ended_unknown_is_not_forgotten_where_the_call_is_cancelled(backend: str) -> None:
    heard: list[Event] = []
    arms = Arms((1.0, Lost()), (9.0, "second"))

    async def send(*_: Any) -> Any:
        if not arms.began:  # the second arm is cancelled before it has sent anything
            mark_sent()
        return await arms.read()

    async def world() -> None:
        with anyio.move_on_after(4.0):
            await hedged(heard=heard, marks_sent=True, **IDEMPOTENT).acall(send)

    on(backend, world)
    told = [event for event in heard if isinstance(event, CallAbandoned)]
    assert told == [CallAbandoned(name="acme", attempt=2, ran=4.0, reference=None)]


@both_loops
def test_a_cancellation_cannot_take_away_an_answer_while_the_loser_cleans_up(backend: str) -> None:
    arms = Arms((9.0, "first"), (1.0, "second"), cleanup=5.0)

    async def world() -> Any:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:

                async def cancel() -> None:
                    await anyio.sleep(6.0)
                    scope.cancel()

                tasks.start_soon(cancel)
                return await hedged().acall(arms.read)

    assert on(backend, world) == "second"


def test_a_cancellation_that_comes_out_of_an_arm_is_passed_on() -> None:
    async def cancels_itself() -> Any:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async def world() -> None:
        with pytest.raises(asyncio.CancelledError):
            await hedged().acall(cancels_itself)
        assert anyio.current_time() == 0.0  # at once

    on("asyncio", world)


def test_asyncios_own_cancellation_is_passed_on_and_stops_every_arm() -> None:
    arms = Arms((9.0, "first"), (9.0, "second"))

    async def world() -> None:
        task = asyncio.ensure_future(hedged()(arms.read)())
        await anyio.sleep(5.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert (arms.running, arms.ends) == (0, {1: "cancelled", 2: "cancelled"})

    on("asyncio", world)


def test_asyncios_own_timeout_finds_its_cancellation_again() -> None:
    arms = Arms((9.0, "first"), (9.0, "second"))

    async def world() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5.0):
                await hedged()(arms.read)()
        task = asyncio.current_task()
        assert task is not None
        assert (arms.running, task.cancelling()) == (0, 0)

    on("asyncio", world)


# ---------------------------------------------------------------- with others round it


@both_loops
def test_a_fallback_outside_sees_the_join_of_the_arms(backend: str) -> None:
    stale = Fallback(value="made up")
    for script, wanted in ((((9.0, "a"), (1.0, "b")), "b"), (((1.0, Down()), (1.0, Down())), "made up")):
        pipeline = Pipeline("acme", stale, Hedge(3.0), classify=RULES, effect=Effect.READ, listeners=[])
        outcome, _ = ended(backend, pipeline, Arms(*script))
        assert outcome.unwrap() == wanted


@both_loops
def test_an_inquiry_is_asked_once_and_only_where_the_join_is_unknown(backend: str) -> None:
    asked: list[str] = []
    pipeline = hedged(**IDEMPOTENT)

    @pipeline.inquiry(schedule=(1,))
    async def find(payment: str) -> Any:
        asked.append(payment)
        return Found("found")

    outcome, _ = ended(backend, pipeline, Arms((1.0, Lost()), (1.0, "second")))
    assert (outcome.unwrap(), asked) == ("second", [])
    outcome, _ = ended(backend, pipeline, Arms((1.0, Lost()), (1.0, Lost())))
    assert (outcome.unwrap(), asked) == ("found", ["pay_1"])


@both_loops
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_exception_comes_out_as_itself_and_stops_the_other_arms(backend: str, error: type[BaseException]) -> None:
    arms = Arms((9.0, "first"), (1.0, error()))

    async def world() -> None:
        with pytest.raises(error):
            await hedged().acall(arms.read)
        assert (arms.running, arms.ends[1]) == (0, "cancelled")

    on(backend, world)


@both_loops
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_no_exception_comes_out_of_a_loser_too(backend: str, error: type[BaseException]) -> None:
    async def read() -> str:
        arms.append(1)
        if len(arms) == 2:
            return "second"
        try:
            await anyio.sleep(9.0)
        finally:
            raise error
        return "first"

    arms: list[int] = []

    async def world() -> None:
        with pytest.raises(error):
            await hedged().acall(read)

    on(backend, world)


@both_loops
def test_misuse_inside_comes_out_as_itself(backend: str) -> None:
    async def world() -> None:
        with pytest.raises(MissingKeyError):
            await hedged(effect=Effect.IDEMPOTENT).acall(Arms().read)

    on(backend, world)
