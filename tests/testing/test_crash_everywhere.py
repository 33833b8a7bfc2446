"""Every crash point, every pass of it, every recovery: what is run, what is found, and what proves nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience import ConfigurationError
from finresilience.crash_points import crash_point
from finresilience.testing import BoundReachedError, CounterexampleError, VirtualClock, crash, recoveries
from finresilience.testing.crash import Crashed, NotReachedError
from finresilience.testing.simulation import replay
from tests.laws.sabotage import each_kill, kills, nothing
from tests.laws.worlds import both_loops
from tests.testing.relays import CLAIMED, ELSEWHERE, PUBLISHED, SETTLED, Relay, hasty, one_message, two_messages, world

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_every_point_is_died_at_on_each_pass_and_then_in_each_recovery() -> None:
    told = crash.everywhere(two_messages)
    # 1 run without a crash; then each of the 3 points of 2 messages; then each point that the recovery after it passes.
    recoveries_pass = [6, 6, 3, 3, 3, 0]
    assert told.runs == 1 + 6 + sum(recoveries_pass)
    assert told.reached == {CLAIMED: 2 + 7, PUBLISHED: 2 + 7, SETTLED: 2 + 7}


def test_to_die_once_only_is_enough_if_asked() -> None:
    assert crash.everywhere(two_messages, depth=1).runs == 1 + 6


def test_a_relay_that_settles_too_soon_is_found_and_replayed() -> None:
    with pytest.raises(CounterexampleError) as found:
        crash.everywhere(hasty)
    assert found.value.replay == "everywhere(hasty, replay='toy_relay.published:1')"
    with pytest.raises(CounterexampleError):
        crash.everywhere(hasty, replay="toy_relay.published:1")
    assert crash.everywhere(hasty, replay="toy_relay.settled:1").runs == 1


def test_a_counterexample_is_replayed_from_its_file(tmp_path: Path) -> None:
    with pytest.raises(CounterexampleError) as found:
        crash.everywhere(hasty)
    found.value.save(tmp_path / "file.json")
    with pytest.raises(CounterexampleError) as again:
        replay(hasty, tmp_path / "file.json")
    assert str(again.value) == str(found.value)


def test_a_recovery_that_cannot_be_repeated_is_found() -> None:
    def once_only() -> tuple[Callable[[], None], Callable[[], None]]:
        relay, _ = world("a")
        recoveries: list[str] = []

        def recover() -> None:
            recoveries.append("begun")
            relay.run()
            assert len(recoveries) == 1

        return relay.run, recover

    with pytest.raises(CounterexampleError, match=r"replay='toy_relay\.claimed:1 > toy_relay\.claimed:1'"):
        crash.everywhere(once_only)


def test_a_scenario_that_fails_without_a_crash_is_a_counterexample_too() -> None:
    def broken() -> tuple[Callable[[], None], Callable[[], bool]]:
        relay, _ = world("a")
        return relay.run, lambda: False

    with pytest.raises(CounterexampleError, match="replay='no crash'"):
        crash.everywhere(broken)
    with pytest.raises(CounterexampleError):
        crash.everywhere(broken, replay="no crash")


def test_a_scenario_that_passes_no_point_proves_nothing() -> None:
    with pytest.raises(NotReachedError, match="never came to any crash point"):
        crash.everywhere(lambda: (lambda: None, lambda: None))


def test_a_point_that_must_be_reached_and_is_not_is_an_error() -> None:
    with pytest.raises(NotReachedError, match=ELSEWHERE):
        crash.everywhere(one_message, must_reach=[CLAIMED, ELSEWHERE])
    assert crash.everywhere(one_message, must_reach=[CLAIMED, PUBLISHED]).reached[PUBLISHED] > 0


def test_more_runs_than_the_limit_prove_nothing() -> None:
    with pytest.raises(BoundReachedError, match="nothing is proven"):
        crash.everywhere(two_messages, limit=10)


def test_a_scenario_without_an_end_is_stopped() -> None:
    def endless() -> None:
        while True:
            crash_point(CLAIMED)

    with pytest.raises(BoundReachedError, match="let the scenario end"):
        crash.everywhere(lambda: (endless, lambda: None))


def test_a_scenario_that_does_something_else_each_time_is_refused() -> None:
    seen: list[int] = []

    def moody() -> tuple[Callable[[], None], Callable[[], None]]:
        seen.append(1)
        relay, recover = world(*(["a"] if len(seen) == 1 else []))
        return relay.run, recover

    with pytest.raises(ConfigurationError, match="does not do the same each time"):
        crash.everywhere(moody)


@both_loops
def test_async_scenarios_run_in_virtual_time_that_goes_on_after_the_crash(backend: Any) -> None:
    readings: list[float] = []

    def leased() -> tuple[Any, Any]:
        relay, check = world("a")

        async def act() -> None:
            await anyio.sleep(10)
            async with anyio.create_task_group() as group:
                group.start_soon(turn_of, relay)

        async def recover() -> None:
            readings.append(VirtualClock.current().monotonic())
            check()

        return act, recover

    async def turn_of(relay: Relay) -> None:
        relay.run()

    crash.everywhere(leased, backend=backend)
    assert min(readings) == 10.0
    assert set(readings) == {10.0}


def test_a_crash_of_the_scenarios_own_is_not_taken_for_one_of_ours() -> None:
    def act() -> None:
        with crash.at(SETTLED):
            crash_point(CLAIMED)
            crash_point(SETTLED)

    with pytest.raises(Crashed) as death:
        crash.everywhere(lambda: (act, lambda: None))
    assert death.value.point == SETTLED


def test_a_phase_that_nobody_awaits_is_refused() -> None:
    async def act() -> None:
        crash_point(CLAIMED)

    with pytest.raises(ConfigurationError, match="returned a coroutine, which nobody awaits"):
        crash.everywhere(lambda: (lambda: act(), lambda: None))  # noqa: PLW0108 - the lambda is the mistake


NOT_TYPED: Any = crash
WRONG: dict[str, Callable[[], object]] = {
    "depth": lambda: crash.everywhere(one_message, depth=0),
    "limit": lambda: crash.everywhere(one_message, limit=0),
    "replay without a pass": lambda: crash.everywhere(one_message, replay="toy_relay.claimed"),
    "replay of nowhere": lambda: crash.everywhere(one_message, replay="nowhere.at_all:1"),
    "must reach nowhere": lambda: crash.everywhere(one_message, must_reach=["nowhere.at_all"]),
    "no pair": lambda: NOT_TYPED.everywhere(lambda: None),
    "no functions": lambda: NOT_TYPED.everywhere(lambda: (1, 2)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_use_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigurationError):
        WRONG[wrong]()


# ---------------------------------------------------------------- saboteurs


def recoveries_are_never_stopped(patch: pytest.MonkeyPatch) -> None:
    run = recoveries._run

    def once(scenario: Any, deaths: Any, backend: Any) -> list[str]:
        return run(scenario, deaths[:1], backend)

    patch.setattr(recoveries, "_run", once)


def nobody_recovers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(recoveries, "judge", nothing)


def only_the_first_point_is_died_at(patch: pytest.MonkeyPatch) -> None:
    run = recoveries._run

    def short(*told: Any) -> list[str]:
        return run(*told)[:1]

    patch.setattr(recoveries, "_run", short)


@each_kill(
    (recoveries_are_never_stopped, test_a_recovery_that_cannot_be_repeated_is_found),
    (nobody_recovers, test_a_relay_that_settles_too_soon_is_found_and_replayed),
    (only_the_first_point_is_died_at, test_a_relay_that_settles_too_soon_is_found_and_replayed),
    (only_the_first_point_is_died_at, test_every_point_is_died_at_on_each_pass_and_then_in_each_recovery),
)
def test_the_laws_are_awake(row: tuple[Any, ...]) -> None:
    kills(*row)
