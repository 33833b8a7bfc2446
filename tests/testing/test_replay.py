"""What a failed simulation says, how it is run again from a line or a file, and what says how to ask for one."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience.errors import ConfigurationError
from finresilience.policies.base import chance
from finresilience.testing import (
    CounterexampleError,
    DeadlockError,
    exhaust,
    explore,
    explore_threads,
    run_virtual,
    turn,
)
from finresilience.testing.faults import Fault, FaultKind
from finresilience.testing.simulation import replay, simulate
from tests.testing.service import TROUBLE, again, careful, counterexample, naive, races

if TYPE_CHECKING:
    from pathlib import Path

    from finresilience.testing.world import World


both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


# ---------------------------------------------------------------- what a failure says


@both
def test_the_last_line_tells_seed_backend_faults_and_schedule_and_replays_it(backend: Any) -> None:
    found = counterexample(naive, backend, faults=TROUBLE)
    line = str(found).splitlines()[-1]
    assert line.startswith(f"replay: simulate(nobody_pays_twice, seed={found.seed}, backend={backend!r}, faults=FaultPlan.from_json('")
    assert line.endswith("'), trace='')")
    assert str(again(line.removeprefix("replay: "), nobody_pays_twice=naive)) == str(found)


@both
def test_a_saved_failure_is_replayed_from_its_file(backend: Any, tmp_path: Path) -> None:
    found = counterexample(naive, backend, faults=TROUBLE)
    found.save(tmp_path / "found.json")
    with pytest.raises(CounterexampleError) as caught:
        replay(naive, tmp_path / "found.json")
    assert (str(caught.value), caught.value.schedule) == (str(found), found.schedule)


def test_what_was_mended_replays_without_failing(tmp_path: Path) -> None:
    counterexample(naive, "asyncio", faults=TROUBLE).save(tmp_path / "found.json")
    assert isinstance(replay(careful, tmp_path / "found.json"), tuple)


def test_exhausted_and_threaded_failures_are_saved_and_replayed_too(tmp_path: Path) -> None:
    def two_clients(many: int) -> Any:
        owners: list[int] = []

        async def claim(name: int) -> None:
            if not owners:
                await turn()
                owners.append(name)

        return [claim(number) for number in range(many)], lambda: len(owners) == 1

    def two_threads() -> Any:
        owners: list[int] = []

        def claim() -> None:
            if not owners:
                name = len(owners)
                owners.append(name)

        return [claim, claim], lambda: len(owners) == 1

    exhausted, threaded = partial(exhaust, two_clients, clients=3), partial(explore_threads, two_threads, opcodes=True)
    stories: list[tuple[Any, Any]] = [(two_clients, exhausted), (two_threads, threaded)]
    for number, (scenario, run) in enumerate(stories):
        with pytest.raises(CounterexampleError) as found:
            run()
        found.value.save(tmp_path / f"{number}.json")
        with pytest.raises(CounterexampleError) as caught:
            replay(scenario, tmp_path / f"{number}.json")
        assert (str(caught.value), caught.value.schedule) == (str(found.value), found.value.schedule)


@both
def test_a_deadlock_is_a_counterexample(backend: Any) -> None:
    with pytest.raises(CounterexampleError, match="virtual time stands still") as caught:
        simulate(anyio.sleep_forever, seed=1, backend=backend)
    assert isinstance(caught.value.__cause__, DeadlockError)


def test_a_deadlock_that_costs_real_time_is_not_run_again() -> None:
    runs: list[int] = []

    async def scenario(world: World) -> None:
        runs.append(1)
        with world.clock.hold():
            await asyncio.sleep(1)

    with pytest.raises(CounterexampleError, match="held"):
        simulate(scenario, seed=1, patience=0.001)
    assert runs == [1]


def test_a_failure_that_does_not_repeat_itself_says_so() -> None:
    runs: list[int] = []

    async def scenario() -> None:
        runs.append(1)
        assert len(runs) > 1

    with pytest.raises(CounterexampleError, match="not told by the seed") as caught:
        simulate(scenario, seed=4)
    assert str(caught.value).splitlines()[-1] == "replay: simulate(scenario, seed=4, backend='asyncio')"


@both
def test_to_fail_by_the_word_of_pytest_is_a_counterexample_too(backend: Any) -> None:
    async def scenario() -> None:
        pytest.fail("it is broken")

    with pytest.raises(CounterexampleError, match="Failed: it is broken"):
        simulate(scenario, seed=1, backend=backend)


@both
def test_an_interruption_is_no_counterexample(backend: Any) -> None:
    async def scenario() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(scenario, seed=1, backend=backend)


@both
def test_under_a_seed_run_virtual_repeats_the_jitter_too(backend: Any) -> None:
    async def draw() -> float:
        return chance()

    assert run_virtual(draw, backend=backend, seed=1) == run_virtual(draw, backend=backend, seed=1)
    assert run_virtual(draw, backend=backend) != run_virtual(draw, backend=backend)


@both
def test_a_failure_need_not_be_shrunk(backend: Any) -> None:
    found = counterexample(races(3), backend)
    with pytest.raises(CounterexampleError) as caught:
        simulate(races(3), seed=found.seed or 0, backend=backend, shrink=0)
    assert str(caught.value).splitlines()[-1] == f"replay: simulate(two_claims, seed={found.seed}, backend={backend!r})"


# ---------------------------------------------------------------- wrong use


async def of_three(one: int, two: int, three: int) -> None: ...


async def with_a_keyword(*, one: int) -> None: ...


def not_async() -> None: ...


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (of_three, "of_three needs one, two, three.*functools.partial"),
        (with_a_keyword, "needs one"),
        (not_async, "not_async is not an async function"),
        (7, "a int, no function.*async def scenario"),
        (None, "no function"),
    ],
    ids=["three", "keyword", "sync", "number", "nothing"],
)
def test_a_scenario_that_is_none_says_how_to_write_one(wrong: Any, told: str) -> None:
    for run in (partial(simulate, seed=1), partial(explore, seeds=1)):
        with pytest.raises(ConfigurationError, match=told):
            run(wrong)


def test_a_coroutine_is_no_scenario_and_is_closed() -> None:
    async def scenario() -> None: ...

    with pytest.raises(ConfigurationError, match="give the function itself"):
        simulate(scenario(), seed=1)  # type: ignore[call-overload, arg-type, unused-ignore]  # pyright: ignore[reportArgumentType, reportCallIssue] - the wrong use under test


@pytest.mark.parametrize("wrong", [[], [Fault(kind=FaultKind.HANG)], "hang", 0.2], ids=repr)
def test_faults_that_are_no_plan_say_how_to_write_one(wrong: Any) -> None:
    for run in (partial(simulate, careful, seed=1), partial(explore, careful, seeds=1)):
        with pytest.raises(ConfigurationError, match=r"faults.*FaultPlan\(\[Fault"):
            run(faults=wrong)


@pytest.mark.parametrize("wrong", [None, "1", 1.0, True])
def test_a_seed_is_a_whole_number(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="seed"):
        simulate(careful, seed=wrong)


@pytest.mark.parametrize("wrong", ["x", "1@", "1@2*0", "1@2*9999999", "-1@2*3", 7])
def test_a_trace_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="trace="):
        simulate(careful, seed=1, trace=wrong)


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "0"])
def test_the_bound_of_shrinking_is_checked(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="shrink"):
        simulate(careful, seed=1, shrink=wrong)


async def test_inside_a_running_loop_it_says_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match="plain `def`"):
        simulate(careful, seed=1)


def test_a_file_that_holds_no_counterexample_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wrong.json"
    with pytest.raises(ConfigurationError, match=r"wrong\.json cannot be read"):
        replay(careful, path)
    good = {"finresilience_counterexample": 1, "scenario": "nobody_pays_twice", "kind": "simulate", "seed": 1, "backend": "asyncio"}
    for text, told in [
        ("{", "cannot be read"),
        ("[]", "no counterexample of format 1"),
        (json.dumps({**good, "finresilience_counterexample": 2}), "no counterexample of format 1"),
        (json.dumps({**good, "kind": "dream"}), "does not tell its kind"),
        (json.dumps(good), "does not tell its faults, trace"),
        (json.dumps({**good, "faults": {}, "trace": ""}), "no fault plan"),
        (json.dumps({**good, "faults": None, "trace": "", "scenario": "another"}), "of another, not of nobody_pays_twice"),
    ]:
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=told):
            replay(careful, path)


def test_an_error_made_by_hand_has_nothing_to_save(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nothing to save"):
        CounterexampleError(ValueError(), "again", schedule="").save(tmp_path / "x.json")
    assert not list(tmp_path.iterdir())


def test_a_world_tells_what_it_is() -> None:
    async def scenario(world: World) -> str:
        await anyio.sleep(3)
        return repr(world)

    assert simulate(scenario, seed=9, backend="trio") == "<World of seed 9 on trio at 3 s>"
