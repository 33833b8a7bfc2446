"""Broken clocks and a broken explorer, each of which a law must catch. Those of the seeded explorers stand beside their laws."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from finresilience.clock import install
from finresilience.testing import DeadlockError, clock, exhaustive, on_trio, virtual, workers
from finresilience.testing.errands import Hold
from tests.testing import test_exhaust, test_holds, test_manual_clock, test_virtual_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RED = (AssertionError, DeadlockError, ExceptionGroup, TimeoutError, pytest.fail.Exception)


@pytest.fixture
def left_open() -> Iterator[list[Callable[[], None]]]:
    """What a saboteur did not put back."""
    undo: list[Callable[[], None]] = []
    yield undo
    for put_back in undo:
        put_back()


def none(*_: object) -> None:
    """It does nothing."""


def late(when: float) -> float:
    return when + 0.001


def cut_off(seconds: float) -> int:
    return int(seconds * 1e9)


def awake(law: Callable[[], object]) -> None:
    with pytest.raises(RED):
        law()


# ---------------------------------------------------------------- virtual clocks


def test_a_clock_that_no_worker_holds_is_caught_on_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hold, "take", none)
    awake(partial(test_holds.test_a_hundred_thread_hops_give_no_false_timeout, "asyncio"))
    with pytest.raises((*RED, RuntimeWarning)):  # 3.13 may also complain, in virtual time, that the executor's thread was not joined
        test_holds.test_the_executors_of_asyncio_hold_too()


def test_a_clock_that_no_worker_holds_is_caught_on_trio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_trio, "active_thread_count", lambda: 0)
    awake(partial(test_holds.test_a_hundred_thread_hops_give_no_false_timeout, "trio"))


def test_a_worker_that_holds_while_it_queues_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    async def greedy(gate: Any) -> None:
        gate._hold.take()
        await gate._limiter.__aenter__()

    monkeypatch.setattr(workers._Gate, "__aenter__", greedy)
    awake(partial(test_holds.queueing_holds_nothing, "asyncio", patience=0.1))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_clock_that_jumps_too_far_is_caught(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual, "settled", late)
    awake(test_virtual_clock.test_a_year_of_sleeps_is_over_before_the_test_is)
    awake(partial(test_virtual_clock.test_monotonic_and_utc_have_one_source, backend))


def test_a_clock_that_adds_differences_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def adding(driver: Any, when: float) -> None:
        while (left := when - driver.now()) > 0:
            driver.mock.jump(left)

    monkeypatch.setattr(on_trio.TrioDriver, "jump_to", adding)
    awake(test_virtual_clock.test_a_jump_lands_on_its_timer_to_the_last_bit)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_clock_that_keeps_ruling_is_caught(backend: Any, monkeypatch: pytest.MonkeyPatch, left_open: list[Callable[[], None]]) -> None:
    def for_ever(clock: Any) -> Callable[[], None]:
        left_open.append(install(clock))
        return lambda: None

    monkeypatch.setattr(virtual, "install", for_ever)
    awake(partial(test_virtual_clock.test_what_was_made_at_import_time_obeys, backend))


# ---------------------------------------------------------------- manual clocks


def test_a_clock_that_cuts_nanoseconds_off_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "nanoseconds", cut_off)
    awake(test_manual_clock.test_whole_nanoseconds_never_drift)


def test_an_instant_that_forgets_to_let_go_is_caught(monkeypatch: pytest.MonkeyPatch, left_open: list[Callable[[], None]]) -> None:
    def for_ever(clock: Any) -> Callable[[], None]:
        left_open.append(install(clock))
        return lambda: None

    monkeypatch.setattr(clock, "install", for_ever)
    awake(test_manual_clock.test_instant_rules_inside_its_block_only)
    awake(test_manual_clock.test_instant_lets_go_when_its_block_fails)


# ---------------------------------------------------------------- exhaustive exploration


def test_an_explorer_that_sees_one_schedule_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    choose = exhaustive._World._choose

    def blinkered(world: Any, *told: Any) -> int:
        number = choose(world, *told)
        world.widths[-1] = 1
        return number

    monkeypatch.setattr(exhaustive._World, "_choose", blinkered)
    awake(test_exhaust.test_the_number_for_any_is_the_multinomial)
    awake(test_exhaust.test_check_then_act_is_found)


def test_an_explorer_that_never_looks_at_the_last_client_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    choose = exhaustive._World._choose

    def forgetful(world: Any, *told: Any) -> int:
        number = choose(world, *told)
        world.widths[-1] = max(world.widths[-1] - 1, 1)
        return number

    monkeypatch.setattr(exhaustive._World, "_choose", forgetful)
    awake(test_exhaust.test_no_schedule_is_left_out_or_run_twice)


def test_an_explorer_that_lets_a_waiting_client_go_on_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    choose = exhaustive._World._choose

    def impatient(world: Any, *told: Any) -> int:
        world._waiting.clear()
        return choose(world, *told)

    monkeypatch.setattr(exhaustive._World, "_choose", impatient)
    awake(test_exhaust.test_a_client_that_waits_takes_no_step_before_its_time)
    awake(test_exhaust.test_a_deadlock_is_a_counterexample)
