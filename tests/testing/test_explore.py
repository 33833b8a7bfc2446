"""Many schedules of a real event loop, each from its seed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

import anyio
import pytest
from anyio import to_thread
from anyio.lowlevel import checkpoint

from finresilience.clock import ruling_clock
from finresilience.errors import ConfigurationError
from finresilience.testing import CounterexampleError, DeadlockError, VirtualClock, chance, explore, run_virtual, seeded
from finresilience.testing.simulation import simulate

both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


async def three_walkers() -> list[str]:
    """Three tasks of five steps each, and who took them."""
    trail: list[str] = []

    async def walk(name: str) -> None:
        for _ in range(5):
            await checkpoint()
            trail.append(name)

    async with anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(walk, name)
    return trail


def races(skew: int) -> Any:
    """Two tasks check, then act; the second meets the gap only if it is `skew` steps late."""

    async def two_claims() -> None:
        owners: list[str] = []

        async def claim(name: str, late: int) -> None:
            for _ in range(late):
                await checkpoint()
            if not owners:
                await checkpoint()  # the round trip to a database
                owners.append(name)

        async with anyio.create_task_group() as group:
            group.start_soon(claim, "a", skew)
            group.start_soon(claim, "b", 0)
        assert len(owners) == 1, owners

    return two_claims


def finds_the_race(backend: Any, skew: int = 3) -> None:
    with pytest.raises(CounterexampleError):
        explore(races(skew), seeds=300, backend=backend)


def seeds_repeat_themselves(backend: Any) -> None:
    for seed in range(30):
        assert run_virtual(three_walkers, backend=backend, seed=seed) == run_virtual(three_walkers, backend=backend, seed=seed)


def explorations_repeat_themselves(backend: Any) -> None:
    assert explore(three_walkers, seeds=50, backend=backend).digest == explore(three_walkers, seeds=50, backend=backend).digest


def most_seeds_are_another_schedule(backend: Any) -> None:
    assert explore(three_walkers, seeds=200, backend=backend).distinct > 150


@both
def test_a_race_that_needs_one_to_be_three_steps_late_is_found(backend: Any) -> None:
    finds_the_race(backend)


@both
def test_the_plain_order_never_shows_that_race(backend: Any) -> None:
    for _ in range(20):
        run_virtual(races(3), backend=backend)


@both
def test_one_seed_is_one_schedule(backend: Any) -> None:
    seeds_repeat_themselves(backend)


@both
def test_equal_explorations_have_equal_digests(backend: Any) -> None:
    explorations_repeat_themselves(backend)


@both
def test_nearly_every_seed_is_another_schedule(backend: Any) -> None:
    most_seeds_are_another_schedule(backend)


@both
def test_without_a_seed_there_is_one_schedule(backend: Any) -> None:
    assert {"".join(run_virtual(three_walkers, backend=backend)) for _ in range(20)} == {"abcabcabcabcabc"}


def test_each_seed_runs_on_both_backends() -> None:
    seen: list[str] = []

    async def scenario() -> None:
        seen.append(type(asyncio.current_task()).__name__ if asyncio._get_running_loop() else "trio")

    assert explore(scenario, seeds=2).schedules == 4
    assert seen == ["Task", "trio"] * 2


@both
def test_the_seeds_may_be_named(backend: Any) -> None:
    assert explore(three_walkers, seeds=[3, 1, 4], backend=backend).schedules == 3


def test_what_was_explored_is_told() -> None:
    explored = explore(three_walkers, seeds=[3, 3], backend="trio")
    assert repr(explored) == f"Explored(schedules=2, distinct=1, digest={explored.digest!r})"


@pytest.mark.parametrize("hashes", ["1", "2"])
def test_another_process_with_other_hashes_explores_the_same(hashes: str) -> None:
    program = "from tests.testing.test_explore import *; print(explore(three_walkers, seeds=20).digest, end='')"
    environment = {**os.environ, "PYTHONHASHSEED": hashes}
    told = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True, text=True)
    assert told.stdout == explore(three_walkers, seeds=20).digest


# ---------------------------------------------------------------- failures


@both
def test_the_last_line_of_a_failure_replays_it(backend: Any) -> None:
    two_claims = races(3)
    with pytest.raises(CounterexampleError) as caught:
        explore(two_claims, seeds=300, backend=backend)
    line = str(caught.value).splitlines()[-1]
    assert line.startswith(f"replay: simulate(two_claims, seed={caught.value.seed}, backend={backend!r}, trace='")
    for _ in range(20):
        with pytest.raises(CounterexampleError) as again:
            eval(line.removeprefix("replay: "), {"simulate": simulate, "two_claims": two_claims})
        assert (str(again.value), again.value.schedule) == (str(caught.value), caught.value.schedule)


@both
def test_the_failure_is_told_without_the_groups_around_it(backend: Any) -> None:
    async def fails() -> None:
        raise ValueError("broken")

    async def scenario() -> None:
        async with anyio.create_task_group() as outer, anyio.create_task_group() as inner:
            inner.start_soon(fails)
            outer.start_soon(anyio.sleep_forever)

    with pytest.raises(CounterexampleError, match=r"^ValueError: broken\n") as caught:
        explore(scenario, backend=backend)
    assert isinstance(caught.value.__cause__, ExceptionGroup)


@both
def test_a_deadlock_is_a_counterexample(backend: Any) -> None:
    with pytest.raises(CounterexampleError, match="virtual time stands still") as caught:
        explore(anyio.sleep_forever, backend=backend)
    assert isinstance(caught.value.__cause__, DeadlockError)


@both
def test_an_interruption_is_no_counterexample(backend: Any) -> None:
    async def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explore(interrupted, backend=backend)


@both
@pytest.mark.parametrize("seeds", [0, -1, True, [], ()], ids=str)
def test_an_exploration_of_nothing_is_refused(backend: Any, seeds: Any) -> None:
    with pytest.raises(ConfigurationError, match="seeds"):
        explore(three_walkers, seeds=seeds, backend=backend)


def test_wrong_use_is_no_counterexample() -> None:
    with pytest.raises(ConfigurationError, match="patience"):
        explore(three_walkers, patience=0)
    with pytest.raises(ConfigurationError, match="not an async function"):
        explore(lambda: None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - the wrong use under test


async def test_inside_a_running_loop_it_says_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match="plain `def`"):
        explore(three_walkers)


# ---------------------------------------------------------------- what a seed may not change


@both
def test_no_time_passes_while_a_task_is_kept_back(backend: Any) -> None:
    async def scenario() -> None:
        with anyio.fail_after(1):
            await three_walkers()
        assert ruling_clock().monotonic() == 0.0

    explore(scenario, seeds=100, backend=backend)


@both
def test_tasks_that_sleep_wake_at_their_time_whatever_the_seed(backend: Any) -> None:
    async def scenario() -> None:
        woken: list[float] = []

        async def sleeper(seconds: int) -> None:
            await anyio.sleep(seconds)
            woken.append(VirtualClock.current().monotonic())

        async with anyio.create_task_group() as group:
            for seconds in (3, 1, 2):
                group.start_soon(sleeper, seconds)
        assert woken == [1.0, 2.0, 3.0]

    explore(scenario, seeds=100, backend=backend)


@both
def test_threads_hold_the_time_under_every_seed(backend: Any) -> None:
    async def hop() -> None:
        await to_thread.run_sync(sum, range(20_000))

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            with anyio.fail_after(1):
                group.start_soon(hop)
                await hop()
        assert ruling_clock().monotonic() == 0.0

    explore(scenario, seeds=30, backend=backend)


def test_callbacks_of_asyncio_keep_their_order() -> None:
    async def scenario() -> None:
        seen: list[int] = []
        for number in range(10):
            asyncio.get_running_loop().call_soon(seen.append, number)
        while len(seen) < 10:
            await asyncio.sleep(0)
        assert seen == list(range(10))

    explore(scenario, seeds=50, backend="asyncio")


# ---------------------------------------------------------------- the saboteurs

Chance = chance.Chance


class Saboteur:
    """A chance that does as the real one, but for what its subclasses break."""

    def __init__(self, seed: int | None) -> None:
        self._real = Chance(seed)
        self.plain = False
        self.steps: list[int] | None = None

    def order(self, tasks: Any) -> Any:
        self._real.steps = self.steps
        return self._real.order(tasks)


class Shuffling(Saboteur):
    """It keeps nobody back: tasks march in lockstep."""

    def __init__(self, seed: int | None) -> None:
        super().__init__(seed)
        self._real._skip = self._real._nap = 0.0


class Unseeded(Saboteur):
    """It takes its luck from somewhere else."""

    luck = iter(range(1_000_000))

    def __init__(self, seed: int | None) -> None:
        super().__init__(next(self.luck))


class Constant(Saboteur):
    """Every seed is the same luck."""

    def __init__(self, seed: int | None) -> None:
        super().__init__(1)


@both
@pytest.mark.parametrize(
    ("law", "saboteur"),
    [
        (finds_the_race, Shuffling),
        (finds_the_race, Constant),
        (explorations_repeat_themselves, Unseeded),
        (seeds_repeat_themselves, Unseeded),
        (most_seeds_are_another_schedule, Constant),
    ],
    ids=["race-shuffling", "race-constant", "repeat-unseeded", "seeds-unseeded", "many-constant"],
)
def test_the_law_is_awake(backend: Any, law: Any, saboteur: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeded, "Chance", saboteur)
    monkeypatch.setattr(chance, "Chance", saboteur)
    with pytest.raises((AssertionError, pytest.fail.Exception)) as caught:
        law(backend)
    assert not isinstance(caught.value, CounterexampleError)
