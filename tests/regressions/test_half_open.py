"""What went wrong in half-open elsewhere: crowds, votes of the dead, and probes that never came back."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience import CircuitBreaker, CircuitOpenError, OpenFor
from finresilience.testing import explore_threads
from tests.laws.sabotage import (
    a_cancelled_call_is_a_success,
    a_cancelled_call_keeps_its_permit,
    a_success_closes_an_open_circuit,
    an_old_probe_frees_a_place_in_the_new_round,
    each_kill,
    kills,
    probes_are_unlimited,
    probes_have_no_lease,
    results_have_no_generation,
)
from tests.laws.worlds import RULES, Down, Held, Provider, both_loops, on, still

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

WAIT = 10.0


def breaker(**more: Any) -> CircuitBreaker:
    settings: dict[str, Any] = {"consecutive_failures": 1, "half_open_calls": 1, "open_for": OpenFor(WAIT, factor=1, jitter=0.0)} | more
    return CircuitBreaker("acme", classify=RULES, listeners=[], **settings)


async def fails(policy: CircuitBreaker) -> None:
    with pytest.raises(Down):
        await policy.acall(Provider(Down()).acharge)


async def open_and_wait(policy: CircuitBreaker) -> None:
    await fails(policy)
    await anyio.sleep(WAIT)


async def quietly(call: Callable[[], Awaitable[object]]) -> None:
    with suppress(CircuitOpenError, Down):
        await call()


async def pause() -> None:
    await anyio.sleep(0.001)  # virtual: until everybody who can go on has


@both_loops
def test_half_open_lets_no_more_tasks_through_than_it_was_told(backend: str) -> None:
    """Two hundred tasks that arrived together in half-open were all let through."""
    policy, inside = breaker(half_open_calls=3), 0

    async def work() -> None:
        nonlocal inside
        inside += 1
        await anyio.sleep(1)

    async def world() -> None:
        await open_and_wait(policy)
        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(quietly, partial(policy.acall, work))

    on(backend, world)
    assert inside == 3


def four_threads_at_a_half_open_circuit() -> tuple[list[Callable[[], None]], Callable[[], None]]:
    policy, passed = breaker(half_open_calls=2, clock=(clock := still())), []
    policy.trip(seconds=1)
    clock.advance(1)

    def caller() -> None:
        if policy.admit(clock.monotonic()) is not None:
            passed.append(1)

    def no_crowd() -> None:
        assert len(passed) == 2

    return [caller] * 4, no_crowd


def test_half_open_lets_no_more_threads_through_than_it_was_told() -> None:
    """Threads that looked before any of them was counted were all let through."""
    explore_threads(four_threads_at_a_half_open_circuit, seeds=150)


@both_loops
def test_a_success_from_before_it_opened_does_not_close_it_while_its_probe_runs(backend: str) -> None:
    """A call admitted while closed came back in half-open and its success was taken for the probe's."""
    policy, states = breaker(), []

    async def world() -> None:
        old, probe = Held(), Held()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(policy.acall, old.work)
            await old.begun.wait()
            await open_and_wait(policy)
            tasks.start_soon(policy.acall, probe.work)
            await probe.begun.wait()
            old.let_go.set()
            await pause()
            states.append(policy.state.value)
            probe.let_go.set()
        states.append(policy.state.value)

    on(backend, world)
    assert states == ["half_open", "closed"]


@both_loops
def test_a_success_that_comes_late_does_not_cut_the_open_time_short(backend: str) -> None:
    """A call that was under way when the circuit opened succeeded, and closed it at once."""
    policy = breaker()

    async def world() -> None:
        old = Held()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(policy.acall, old.work)
            await old.begun.wait()
            await fails(policy)
            old.let_go.set()
        with pytest.raises(CircuitOpenError):
            await policy.acall(Provider().acharge)

    on(backend, world)
    assert policy.state == "open"


async def second_round(policy: CircuitBreaker, tasks: Any, straggler: Held) -> tuple[Held, Held]:
    """Leave `straggler` behind from the first round, and fill the second."""
    await open_and_wait(policy)
    tasks.start_soon(quietly, partial(policy.acall, straggler.work))
    await straggler.begun.wait()
    await open_and_wait(policy)
    probes = Held(), Held()
    for probe in probes:
        tasks.start_soon(policy.acall, probe.work)
        await probe.begun.wait()
    return probes


@both_loops
def test_a_probe_of_the_last_round_makes_no_room_for_a_third_in_this_one(backend: str) -> None:
    """A straggler of the round before gave back a permit of the running round, so three probes ran where two were allowed."""
    policy, third = breaker(half_open_calls=2), Provider()

    async def world() -> None:
        straggler = Held()
        async with anyio.create_task_group() as tasks:
            probes = await second_round(policy, tasks, straggler)
            straggler.let_go.set()
            await pause()
            await quietly(partial(policy.acall, third.acharge))
            for probe in probes:
                probe.let_go.set()

    on(backend, world)
    assert third.attempts == 0


@both_loops
@pytest.mark.parametrize("end", ["ok", "down"])
def test_a_probe_of_the_last_round_has_no_vote_in_this_one(backend: str, end: str) -> None:
    """A straggler of the round before was counted in the running round, and decided it."""
    policy, states = breaker(half_open_calls=2), []

    async def world() -> None:
        straggler = Held(Down() if end == "down" else end)
        async with anyio.create_task_group() as tasks:
            first, second = await second_round(policy, tasks, straggler)
            for held in (straggler, first, second):
                held.let_go.set()
                await pause()
                states.append(policy.state.value)

    on(backend, world)
    assert states == ["half_open", "half_open", "closed"]


async def in_guard(policy: CircuitBreaker, work: Callable[[], Awaitable[object]]) -> None:
    async with policy.guard():
        await work()


FORMS: dict[str, Callable[[CircuitBreaker, Any], Awaitable[object]]] = {
    "acall": lambda policy, work: policy.acall(work),
    "decorator": lambda policy, work: policy(work)(),
    "guard": in_guard,
}
each_form = pytest.mark.parametrize("form", FORMS)


@both_loops
@each_form
def test_a_cancelled_probe_neither_closes_the_circuit_nor_keeps_its_place(backend: str, form: str) -> None:
    """A cancelled probe was taken for a success and closed the circuit; or kept its place for ever, and nobody could pass again."""
    policy, states = breaker(), []

    async def world() -> None:
        await open_and_wait(policy)
        with anyio.move_on_after(1):
            await FORMS[form](policy, Held().work)
        states.append(policy.state.value)
        await FORMS[form](policy, Provider().acharge)
        states.append(policy.state.value)

    on(backend, world)
    assert states == ["half_open", "closed"]


@both_loops
@each_form
def test_a_probe_that_fails_through_our_own_mistake_does_not_keep_its_place(backend: str, form: str) -> None:
    """A probe that raised an error which is not counted kept its place for ever, and nobody could pass again."""
    policy, states = breaker(), []

    async def world() -> None:
        await open_and_wait(policy)
        with pytest.raises(TypeError):
            await FORMS[form](policy, Provider(TypeError("our own")).acharge)
        states.append(policy.state.value)
        await FORMS[form](policy, Provider().acharge)
        states.append(policy.state.value)

    on(backend, world)
    assert states == ["half_open", "closed"]


@both_loops
def test_a_probe_that_hangs_for_ever_does_not_keep_the_circuit_shut_for_ever(backend: str) -> None:
    """One probe that never came back kept every later caller out until the process was restarted."""
    policy, hung, states = breaker(probe_lease=5.0), Held(Down()), []

    async def world() -> None:
        await open_and_wait(policy)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(quietly, partial(policy.acall, hung.work))
            await hung.begun.wait()
            await anyio.sleep(5.0)
            await quietly(partial(policy.acall, Provider().acharge))  # finds that nobody answers
            await anyio.sleep(WAIT)
            await quietly(partial(policy.acall, Provider().acharge))
            states.append(policy.state.value)
            hung.let_go.set()  # and when it comes back after all, with a failure, that is nobody's vote
        states.append(policy.state.value)

    on(backend, world)
    assert states == ["closed", "closed"]


CROWD, LOOPS = test_half_open_lets_no_more_tasks_through_than_it_was_told, ("asyncio", "trio")


@each_kill(
    (probes_are_unlimited, test_half_open_lets_no_more_threads_through_than_it_was_told),
    *(
        row
        for loop in LOOPS
        for row in (
            (probes_are_unlimited, CROWD, loop),
            (results_have_no_generation, test_a_success_from_before_it_opened_does_not_close_it_while_its_probe_runs, loop),
            (a_success_closes_an_open_circuit, test_a_success_that_comes_late_does_not_cut_the_open_time_short, loop),
            (an_old_probe_frees_a_place_in_the_new_round, test_a_probe_of_the_last_round_makes_no_room_for_a_third_in_this_one, loop),
            (results_have_no_generation, test_a_probe_of_the_last_round_has_no_vote_in_this_one, loop, "ok"),
            (results_have_no_generation, test_a_probe_of_the_last_round_has_no_vote_in_this_one, loop, "down"),
            (probes_have_no_lease, test_a_probe_that_hangs_for_ever_does_not_keep_the_circuit_shut_for_ever, loop),
            *(
                (saboteur, law, loop, form)
                for form in FORMS
                for saboteur, law in (
                    (a_cancelled_call_is_a_success, test_a_cancelled_probe_neither_closes_the_circuit_nor_keeps_its_place),
                    (a_cancelled_call_keeps_its_permit, test_a_cancelled_probe_neither_closes_the_circuit_nor_keeps_its_place),
                    (a_cancelled_call_keeps_its_permit, test_a_probe_that_fails_through_our_own_mistake_does_not_keep_its_place),
                )
            ),
        )
    ),
)
def test_its_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
