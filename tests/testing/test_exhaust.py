"""All interleavings of small worlds."""

from __future__ import annotations

import asyncio
import gc
from functools import partial
from math import comb, factorial, prod
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, strategies as st

from finresilience.clock import ruling_clock
from finresilience.errors import ConfigurationError
from finresilience.testing import BoundReachedError, CounterexampleError, exhaust, instant, run_virtual, turn, until

if TYPE_CHECKING:
    from collections.abc import Generator

    from finresilience.testing import Story


def nothing() -> None: ...


def three_steps_each(clients: int) -> Story:
    return [[nothing] * 3 for _ in range(clients)], nothing


def coroutines_of_three_steps(clients: int) -> Story:
    async def client() -> None:
        await turn()
        await turn()

    return [client() for _ in range(clients)], nothing


def generators_of_three_steps(clients: int) -> Story:
    def client() -> Any:
        yield
        yield

    return [client() for _ in range(clients)], nothing


@pytest.mark.parametrize("scenario", [three_steps_each, coroutines_of_three_steps, generators_of_three_steps])
@pytest.mark.parametrize(("clients", "schedules"), [(1, 1), (2, 20), (3, 1680)])
def test_it_runs_every_interleaving_once(scenario: Any, clients: int, schedules: int) -> None:
    explored = exhaust(scenario, clients=clients)
    assert explored.schedules == explored.distinct == schedules


@given(st.integers(1, 5), st.integers(1, 5))
def test_the_number_for_two_is_the_binomial(a: int, b: int) -> None:
    assert exhaust(lambda: ([[nothing] * a, [nothing] * b], nothing)).schedules == comb(a + b, a)


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4).filter(lambda steps: sum(steps) < 9))
def test_the_number_for_any_is_the_multinomial(steps: list[int]) -> None:
    explored = exhaust(lambda: ([[nothing] * many for many in steps], nothing))
    assert explored.schedules == factorial(sum(steps)) / prod(map(factorial, steps))


def test_no_schedule_is_left_out_or_run_twice() -> None:
    runs: list[str] = []

    def scenario() -> Story:
        run: list[str] = []
        return [[lambda: run.append("a")] * 2, [lambda: run.append("b")] * 2], lambda: runs.append("".join(run))

    exhaust(scenario)
    assert sorted(runs) == ["aabb", "abab", "abba", "baab", "baba", "bbaa"]


class CheckThenAct:
    def __init__(self) -> None:
        self.owner: str | None = None

    async def claim(self, name: str) -> bool:
        if self.owner is None:
            await turn()  # the round trip to a database
            self.owner = name
            return True
        return False


class CompareAndSet(CheckThenAct):
    async def claim(self, name: str) -> bool:
        await turn()
        if self.owner is None:
            self.owner = name
            return True
        return False


def claims(store: type[CheckThenAct]) -> Any:
    def scenario(clients: int) -> Story:
        shared, winners = store(), list[str]()

        async def client(name: str) -> None:
            if await shared.claim(name):
                winners.append(name)

        def only_one_wins() -> None:
            assert len(winners) == 1, winners

        return [client(name) for name in "abcdef"[:clients]], only_one_wins

    return scenario


def test_check_then_act_is_found() -> None:
    with pytest.raises(CounterexampleError) as caught:
        exhaust(claims(CheckThenAct), clients=2)
    assert caught.value.schedule == "0 1 0 1"
    assert isinstance(caught.value.__cause__, AssertionError)


def test_compare_and_set_is_proven() -> None:
    assert exhaust(claims(CompareAndSet), clients=3).schedules == 90


def test_the_last_line_of_a_failure_replays_it() -> None:
    scenario = claims(CheckThenAct)
    with pytest.raises(CounterexampleError) as caught:
        exhaust(scenario, clients=3)
    line = str(caught.value).splitlines()[-1]
    assert line.startswith("replay: ")
    for _ in range(100):
        with pytest.raises(CounterexampleError) as again:
            eval(line.removeprefix("replay: "), {"exhaust": exhaust, "scenario": scenario})
        assert again.value.schedule == caught.value.schedule
        assert str(again.value) == str(caught.value)


def test_a_replay_of_a_good_schedule_runs_once_and_is_silent() -> None:
    assert exhaust(claims(CheckThenAct), clients=2, replay="0 0 1 1").schedules == 1


@pytest.mark.parametrize("error", [ValueError("broken"), KeyError("x")])
def test_a_client_that_raises_is_a_counterexample(error: Exception) -> None:
    def scenario() -> Story:
        def client() -> Any:
            yield
            raise error

        return [client()], nothing

    with pytest.raises(CounterexampleError, match=type(error).__name__) as caught:
        exhaust(scenario)
    assert caught.value.__cause__ is error


def test_a_check_may_return_false() -> None:
    with pytest.raises(CounterexampleError, match="returned False"):
        exhaust(lambda: ([[nothing]], lambda: False))


def test_a_client_that_waits_takes_no_step_before_its_time() -> None:
    def scenario() -> Story:
        seen: list[str] = []

        async def waiter() -> None:
            await until(lambda: "b" in seen)
            seen.append("a")

        async def other() -> None:
            await turn()
            seen.append("b")

        def in_order() -> None:
            assert seen == ["b", "a"]

        return [waiter(), other()], in_order

    assert exhaust(scenario).schedules == 3


def test_a_deadlock_is_a_counterexample() -> None:
    def scenario() -> Story:
        taken: set[str] = set()

        def is_free(lock: str) -> bool:
            return lock not in taken

        async def client(first: str, second: str) -> None:
            for lock in (first, second):
                await until(partial(is_free, lock))
                taken.add(lock)
            taken.clear()

        return [client("x", "y"), client("y", "x")], nothing

    with pytest.raises(CounterexampleError, match="deadlock: client 0 and client 1"):
        exhaust(scenario)


def test_sleeps_of_a_manual_clock_are_steps() -> None:
    def scenario() -> Story:
        async def client() -> None:
            await ruling_clock().sleep(60)
            await ruling_clock().sleep(60)

        return [client(), client()], nothing

    with instant():
        assert exhaust(scenario).schedules == 20


def test_turn_and_until_work_on_an_event_loop_too() -> None:
    async def scenario() -> list[str]:
        seen: list[str] = []

        async def waiter() -> None:
            await until(lambda: bool(seen))
            seen.append("waiter")

        async with anyio.create_task_group() as group:
            group.start_soon(waiter)
            for _ in range(5):
                await turn()
            seen.append("main")
        return seen

    assert run_virtual(scenario) == run_virtual(scenario, backend="trio") == ["main", "waiter"]


# ---------------------------------------------------------------- bounds and wrong use


def test_beyond_the_limit_it_says_that_nothing_is_proven() -> None:
    with pytest.raises(BoundReachedError, match="1,000 schedules and more remain: nothing is proven"):
        exhaust(three_steps_each, clients=3, limit=1000)
    assert exhaust(three_steps_each, clients=3, limit=1680).schedules == 1680


def test_a_client_that_polls_is_told_to_use_until() -> None:
    def scenario() -> Story:
        async def poll() -> None:
            while True:
                await turn()

        return [poll()], nothing

    with pytest.raises(BoundReachedError, match="until"):
        exhaust(scenario)


async def a_coroutine_function() -> None: ...


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (lambda: None, "returned nothing"),
        (lambda: 7, "returned a int"),
        (lambda: ([[nothing]],), "returned a tuple"),
        (lambda: (list[Any](), nothing), "non-empty list"),
        (lambda: (nothing, nothing), "non-empty list"),
        (lambda: ([a_coroutine_function()], None), "check"),
        (a_coroutine_function, "returned a coroutine"),
        (lambda: ([a_coroutine_function(), a_coroutine_function], nothing), "call it"),
        (lambda: ([list[Any]()], nothing), "a client must be"),
        (lambda: ([a_coroutine_function(), 7], nothing), "a client must be"),
    ],
    ids=range(10),
)
def test_what_is_not_a_scenario_is_refused_with_a_way_out(told: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        exhaust(told)
    gc.collect()  # and leaves no coroutine behind that complains


@pytest.mark.parametrize("wait", [partial(asyncio.sleep, 1), partial(anyio.sleep, 1), checkpoint], ids=["asyncio", "anyio", "checkpoint"])
def test_awaiting_an_event_loop_is_not_taken_for_a_step(wait: Any) -> None:
    def scenario() -> Story:
        async def client() -> None:
            await wait()

        return [client()], nothing

    with pytest.raises((ConfigurationError, CounterexampleError), match="loop"):
        exhaust(scenario)


class Foreign:
    """An awaitable of some other library."""

    def __await__(self) -> Generator[object, None, None]:
        yield self


def test_what_only_an_event_loop_understands_is_refused() -> None:
    async def client() -> None:
        await Foreign()

    with pytest.raises(ConfigurationError, match=r"client 0 of .* awaits a Foreign, which needs an event loop"):
        exhaust(lambda: ([client()], nothing))


def test_a_scenario_with_a_memory_is_noticed() -> None:
    calls: list[int] = []

    def scenario() -> Story:
        calls.append(1)
        return [[nothing] * 2] * (2 if len(calls) < 3 else 1), nothing

    with pytest.raises(ConfigurationError, match="afresh"):
        exhaust(scenario)


@pytest.mark.parametrize("replay", ["0 1 x", "0,1"])
def test_a_replay_that_is_no_schedule_is_refused(replay: str) -> None:
    with pytest.raises(ConfigurationError, match="replay="):
        exhaust(three_steps_each, clients=2, replay=replay)


def test_a_replay_of_another_world_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="step 0"):
        exhaust(three_steps_each, clients=2, replay="5")


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5])
def test_bounds_are_checked(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="limit"):
        exhaust(three_steps_each, clients=2, limit=wrong)
    with pytest.raises(ConfigurationError, match="clients"):
        exhaust(three_steps_each, clients=wrong)
