"""A whole service in one run from one seed, and the same run again wherever somebody asks for it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import to_thread

from finresilience import RETRYABLE, Effect, ErrorClassifier, Pipeline, Retry
from finresilience.clock import ruling_clock
from finresilience.policies.base import chance
from finresilience.testing import (
    CounterexampleError,
    VirtualClock,
    case,
    explore,
)
from finresilience.testing.chance import Chance
from finresilience.testing.faults import Fault, FaultKind, FaultPlan
from finresilience.testing.history import End
from finresilience.testing.provider import FakeProvider
from finresilience.testing.simulation import replay, simulate
from finresilience.testing.world import World
from tests.testing.service import FIVE, TROUBLE, again, careful, counterexample, naive, two_claims

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


both = pytest.mark.parametrize("backend", ["asyncio", "trio"])
MANY = 10_000 if os.environ.get("FINRESILIENCE_DEEP") else 200


# ---------------------------------------------------------------- the promise


def the_promise(backend: Any) -> None:
    found = counterexample(two_claims, backend)
    line = str(found).splitlines()[-1].removeprefix("replay: ")
    told = {(str(error), error.schedule) for error in (again(line, two_claims=two_claims) for _ in range(100))}
    assert told == {(str(found), found.schedule)}


@both
def test_a_race_that_needs_a_skew_of_two_steps_is_found_within_a_thousand_seeds_and_replays_every_time(backend: Any) -> None:
    the_promise(backend)


@pytest.mark.parametrize("hashes", ["0", "1", "2", "random"])
def test_other_processes_replay_it_whatever_their_hashes(hashes: str, tmp_path: Path) -> None:
    program = """
import sys
from tests.testing.service import *
from tests.testing.test_simulate import *
from finresilience.testing.simulation import replay
for name, scenario in (("two_claims", two_claims), ("nobody_pays_twice", naive)):
    for backend in ("asyncio", "trio"):
        try:
            replay(scenario, f"{sys.argv[1]}/{name}_{backend}.json")
        except CounterexampleError as error:
            print(error, error.schedule)
"""
    told = ""
    for backend in ("asyncio", "trio"):
        for name, scenario, faults in (("two_claims", two_claims, None), ("nobody_pays_twice", naive, TROUBLE)):
            counterexample(scenario, backend, faults=faults).save(tmp_path / f"{name}_{backend}.json")
    for name, scenario in (("two_claims", two_claims), ("nobody_pays_twice", naive)):
        for backend in ("asyncio", "trio"):
            with pytest.raises(CounterexampleError) as caught:
                replay(scenario, tmp_path / f"{name}_{backend}.json")
            told += f"{caught.value} {caught.value.schedule}\n"
    environment = {**os.environ, "PYTHONHASHSEED": hashes}
    ran = subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=environment, capture_output=True, check=True, text=True)
    assert ran.stdout == told


# ---------------------------------------------------------------- one seed


@both
def test_one_seed_is_one_run(backend: Any) -> None:
    for seed in range(20):
        assert simulate(careful, seed=seed, backend=backend, faults=TROUBLE) == simulate(
            careful, seed=seed, backend=backend, faults=TROUBLE
        )


@both
def test_another_seed_is_another_run(backend: Any) -> None:
    assert len({simulate(careful, seed=seed, backend=backend, faults=TROUBLE) for seed in range(50)}) == 50


def test_what_the_scenario_returns_is_returned() -> None:
    async def seven() -> int:
        return 7

    assert simulate(seven, seed=1) == 7


@both
def test_a_scenario_of_one_parameter_is_given_its_world(backend: Any) -> None:
    async def scenario(world: World) -> tuple[int, str, bool, bool]:
        await anyio.sleep(5)
        return world.seed, world.backend, world.clock is VirtualClock.current() is ruling_clock(), world.clock.monotonic() == 5.0

    assert simulate(scenario, seed=3, backend=backend) == (3, backend, True, True)


def test_a_scenario_whose_parameters_have_defaults_is_given_nothing() -> None:
    async def scenario(number: int = 4, *rest: int, **more: int) -> int:
        return number

    async def of_two(number: int, world: World) -> int:
        return number + world.seed

    assert simulate(scenario, seed=1) == 4
    assert simulate(partial(of_two, 10), seed=1) == 11


def test_names_and_chance_come_from_the_seed_and_do_not_meet() -> None:
    async def names(world: World) -> list[str]:
        return [world.id("pay") for _ in range(1_000)]

    async def names_between_draws(world: World) -> list[str]:
        told = []
        for _ in range(1_000):
            world.random.random()
            told.append(world.id("pay"))
        return told

    first = simulate(names, seed=1)
    assert len(set(first)) == 1_000
    unmoved = simulate(names_between_draws, seed=1) == first
    assert unmoved  # by itself: the difference of two such lists takes ten seconds to tell
    assert not set(simulate(names, seed=2)) & set(first)


@both
def test_the_jitter_of_a_policy_comes_from_the_seed(backend: Any) -> None:
    async def fails() -> None:
        raise ConnectionError

    async def waits(world: World) -> list[float]:
        guarded = Pipeline(
            "acme",
            Retry(attempts=5),
            classify=ErrorClassifier({ConnectionError: RETRYABLE}),
            effect=Effect.READ,
            deadline=None,
            listeners=[],
        )
        with pytest.raises(ConnectionError):
            await guarded.acall(fails)
        return world.clock.waits

    first = simulate(waits, seed=1, backend=backend)
    assert len(first) == 4
    assert simulate(waits, seed=1, backend=backend) == first
    assert simulate(waits, seed=2, backend=backend) != first


@both
def test_so_does_that_of_a_policy_in_a_worker(backend: Any) -> None:
    def fails() -> None:
        raise ConnectionError

    def wait() -> list[float]:
        Retry(attempts=4, classify=ErrorClassifier({ConnectionError: RETRYABLE}), listeners=[]).outcome(fails)
        return VirtualClock.current().waits

    async def scenario() -> list[float]:
        return await to_thread.run_sync(wait)

    assert simulate(scenario, seed=1, backend=backend) == simulate(scenario, seed=1, backend=backend)


def test_afterwards_policies_are_nobodys_again() -> None:
    async def draw() -> float:
        return chance()

    assert simulate(draw, seed=1) == simulate(draw, seed=1)
    assert chance() != chance()
    assert chance() != simulate(draw, seed=1)


@both
def test_the_history_is_written_by_the_virtual_clock(backend: Any) -> None:
    async def scenario(world: World) -> tuple[float, float | None, End | None]:
        await anyio.sleep(10)
        with world.history.call("charge", "pay_1") as entry:
            await anyio.sleep(2)
        return entry.began, entry.ended, entry.end

    assert simulate(scenario, seed=1, backend=backend) == (10.0, 12.0, End.OK)


# ---------------------------------------------------------------- faults


def test_each_seed_leaves_some_of_the_faults_out() -> None:
    async def mix(world: World) -> tuple[FaultKind, ...]:
        return tuple(fault.kind for fault in world.faults.faults)

    mixes = {simulate(mix, seed=seed, faults=TROUBLE) for seed in range(200)}
    assert len(mixes) == 2 ** len(TROUBLE.faults)


def test_without_faults_the_plan_is_empty() -> None:
    async def faults(world: World) -> FaultPlan:
        return world.faults

    assert simulate(faults, seed=5) == FaultPlan(seed=5)


@both
def test_a_healed_world_meets_no_fault_any_more(backend: Any) -> None:
    always = FaultPlan([Fault(kind=FaultKind.HANG)])

    async def scenario(world: World) -> list[object]:
        from finresilience.testing.faults import Asked

        call = Asked("charge", "pay_1", 1)
        before = world.faults.meets(call)
        world.heal()
        return [before is not None, world.faults.meets(call)]

    assert simulate(scenario, seed=0, backend=backend, faults=always, trace="") == [True, None]
    assert simulate(scenario, seed=0, backend=backend, faults=always, trace="") == [True, None]  # the next world falls ill anew


@both
def test_a_service_that_recovers_says_how_long_it_took(backend: Any) -> None:
    async def scenario(world: World) -> float:
        due = world.clock.monotonic() + 5.5
        return await world.converge(lambda: world.clock.monotonic() >= due, within=60)

    assert simulate(scenario, seed=0, backend=backend) == 6.0


@both
def test_a_service_that_does_not_recover_is_a_counterexample(backend: Any) -> None:
    async def scenario(world: World) -> None:
        await world.converge(lambda: False, within=60)

    with pytest.raises(CounterexampleError, match="60 s after the last fault"):
        simulate(scenario, seed=0, backend=backend)


@both
def test_a_fake_provider_of_the_world_fails_until_it_is_healed(backend: Any) -> None:
    async def scenario(world: World) -> tuple[int, float]:
        acme = FakeProvider("acme", world.faults, patience=5.0)
        reference, failed = world.id("pay"), 0
        for _ in range(3):
            try:
                await acme.acharge(reference, FIVE, key=reference)
            except Exception:
                failed += 1
        paid: list[str] = []

        async def pay() -> None:
            await anyio.sleep(6.5)
            await acme.acharge(reference, FIVE, key=reference)
            paid.append(reference)

        took: list[float] = []
        async with anyio.create_task_group() as group:
            group.start_soon(pay)
            took.append(await world.converge(lambda: bool(paid), within=60))
        assert len(acme.ledger) == 1
        return failed, took[0]

    sick = FaultPlan([Fault(kind=FaultKind.HANG)])
    assert simulate(scenario, seed=1, backend=backend, faults=sick, trace="") == (3, 7.0)


@both
def test_a_naive_flow_charges_twice_on_some_seed_and_a_careful_one_on_none(backend: Any) -> None:
    assert explore(careful, seeds=MANY, backend=backend, faults=TROUBLE).schedules == MANY
    found = counterexample(naive, backend, faults=TROUBLE)
    assert "AssertionError" in str(found)


# ---------------------------------------------------------------- the saboteurs


class Unseeded(World):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues] - a saboteur may break what is final
    """Its names and its chance come from nowhere."""

    def __init__(self, *told: Any) -> None:
        super().__init__(*told)
        self.random = self._ids = Random()


class Sick(World):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues] - a saboteur may break what is final
    """It never heals."""

    def heal(self) -> None: ...


class Contagious(World):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues] - a saboteur may break what is final
    """It hands out the plan itself: once healed, no later run meets a fault."""

    def __init__(self, seed: int, backend: Any, clock: VirtualClock, faults: FaultPlan | None = None) -> None:
        super().__init__(seed, backend, clock, faults)
        self.faults = FaultPlan() if faults is None else faults


class Luckless(Chance):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues] - a saboteur may break what is final
    """It takes another seed each time, and so no schedule twice."""

    seeds = iter(range(10**9))

    def __init__(self, seed: int | None, *, tape: Any = None) -> None:
        super().__init__(next(self.seeds))


@contextmanager
def unfed(*_: object) -> Generator[None]:
    """It leaves policies to their own chance."""
    yield


def everybody_meets_everything(plan: FaultPlan, seed: int) -> FaultPlan:
    """It swarms nothing."""
    return FaultPlan(plan.faults, seed=seed)


@pytest.mark.parametrize(
    ("law", "owner", "name", "saboteur"),
    [
        (test_names_and_chance_come_from_the_seed_and_do_not_meet, case, "World", Unseeded),
        (partial(test_one_seed_is_one_run, "asyncio"), case, "World", Unseeded),
        (partial(test_a_healed_world_meets_no_fault_any_more, "trio"), case, "World", Sick),
        (partial(test_a_healed_world_meets_no_fault_any_more, "trio"), case, "World", Contagious),
        (partial(test_the_jitter_of_a_policy_comes_from_the_seed, "asyncio"), case, "seeded_policies", unfed),
        (
            partial(test_a_race_that_needs_a_skew_of_two_steps_is_found_within_a_thousand_seeds_and_replays_every_time, "trio"),
            case,
            "Chance",
            Luckless,
        ),
        (test_each_seed_leaves_some_of_the_faults_out, FaultPlan, "swarm", everybody_meets_everything),
    ],
    ids=["names", "chance", "sick", "contagious", "unfed", "luckless", "swarmless"],
)
def test_the_law_is_awake(law: Any, owner: Any, name: str, saboteur: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, name, saboteur)
    with pytest.raises((AssertionError, pytest.fail.Exception)) as caught:
        law()
    assert not isinstance(caught.value, CounterexampleError)
