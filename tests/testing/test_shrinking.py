"""A failure is told with as little as it needs: no fault and no choice of the schedule that could be left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, strategies as st

from finresilience.errors import ConfigurationError
from finresilience.money import Money
from finresilience.testing import CounterexampleError, case, chance, explore, shrinking
from finresilience.testing.chance import Chance
from finresilience.testing.faults import Asked, Fault, FaultKind, FaultPlan
from finresilience.testing.history import Booking
from finresilience.testing.invariants import check
from finresilience.testing.shrinking import Shrinker
from finresilience.testing.simulation import simulate
from finresilience.testing.tape import KEPT, Tape
from finresilience.testing.violations import InvariantError
from tests.testing.service import races

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from finresilience.testing.world import World

both = pytest.mark.parametrize("backend", ["asyncio", "trio"])

units = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 3), st.integers(0, 9), st.just(KEPT), st.integers(1, 5)),
        st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 3), st.just(1)),
    ),
    max_size=8,
)
FAULTS = [Fault(kind=kind) for kind in list(FaultKind)[:8]]


# ---------------------------------------------------------------- tapes


@given(units)
def test_a_tape_is_read_as_it_was_written(told: list[Any]) -> None:
    tape = Tape.of(told)
    assert Tape.parse(str(tape)).choices == tape.choices
    assert Tape.of(tape.units()).choices == tape.choices


def test_to_be_kept_back_several_times_in_a_row_is_one_unit() -> None:
    assert str(Tape({(1, 4): KEPT, (1, 5): KEPT, (1, 6): KEPT, (1, 8): KEPT, (2, 7): 0})) == "1@4*3 1@8*1 2@7=0"
    assert repr(Tape({(1, 4): KEPT})) == "Tape.parse('1@4*1')"


class Task:
    """Stands for a task: something with an identity."""


def dealt(luck: Any, many: int, rounds: int) -> list[tuple[list[int], list[int]]]:
    """What a loop of so many tasks that are always ready would see: those kept back come first in the next round."""
    ready = [(Task(), number) for number in range(many)]
    keep, told = dict(enumerate(ready)), []
    order = list(range(many))
    for _ in range(rounds):
        now, later = luck.order([keep[number] for number in order])
        told.append((now, later))
        order = [*later, *now]
    return told


@given(st.integers(), st.integers(1, 6))
def test_a_recorded_schedule_is_dealt_again_by_its_tape(seed: int, many: int) -> None:
    luck = Chance(seed)
    luck.record = Tape({})
    first = dealt(luck, many, 40)
    assert dealt(Chance(seed, tape=luck.record), many, 40) == first
    assert dealt(Chance(None, tape=Tape.parse(str(luck.record))), many, 40) == first


@given(st.integers(), units)
def test_whatever_a_tape_says_nobody_is_lost_and_nobody_waits_alone(seed: int, told: list[Any]) -> None:
    for now, later in dealt(Chance(seed, tape=Tape.of(told)), 3, 30):
        assert sorted(now + later) == [0, 1, 2]
    assert dealt(Chance(seed, tape=Tape.of(told)), 1, 30) == [([0], [])] * 30


def test_to_write_a_tape_changes_nothing() -> None:
    for seed in range(50):
        luck = Chance(seed)
        luck.record = Tape({})
        assert dealt(luck, 4, 30) == dealt(Chance(seed), 4, 30)


# ---------------------------------------------------------------- the shrinker, alone


def shrunk(needs: Callable[[Sequence[Fault], Tape], bool], tape: Tape, most: int = 1_000) -> tuple[list[Fault], str, int]:
    """Return the least faults and the least tape that still have what is needed, and how many runs that took."""
    runs: list[int] = []

    def fails(faults: Sequence[Fault], tried: Tape) -> bool:
        runs.append(1)
        return needs(faults, tried)

    faults, least = Shrinker(fails, most).least(FAULTS, tape)
    return list(faults), str(least), len(runs)


FULL = Tape.parse("0@0*9 1@2=1 1@3*4 2@0=0 2@5*20 3@1*2 3@9=2 4@0*1")


def always(_faults: Sequence[Fault], _tape: Tape) -> bool:
    return True


def test_what_fails_by_itself_needs_nothing() -> None:
    assert shrunk(always, FULL)[:2] == ([], "")


def only_what_is_needed(culprits: set[int], kept: set[tuple[int, int]]) -> None:
    def needs(faults: Sequence[Fault], tape: Tape) -> bool:
        return all(FAULTS[number] in faults for number in culprits) and all(tape.choices.get(place) == KEPT for place in kept)

    faults, least, runs = shrunk(needs, FULL)
    assert faults == [FAULTS[number] for number in sorted(culprits)]
    units = Tape.parse(least).units()
    assert {unit[0] for unit in units} == {task for task, _ in kept}
    assert all(choice == KEPT for _, _, choice, _ in units)
    assert runs < 200


@given(st.sets(st.integers(0, 7), max_size=3), st.sets(st.sampled_from([(0, 5), (1, 5), (2, 12), (3, 1), (4, 0)]), max_size=3))
def test_only_what_is_needed_is_left(culprits: set[int], kept: set[tuple[int, int]]) -> None:
    only_what_is_needed(culprits, kept)


def test_a_task_is_kept_back_no_longer_than_needed() -> None:
    assert shrunk(lambda _, tape: all(tape.choices.get((2, 5 + more)) == KEPT for more in range(7)), FULL)[1] == "2@5*7"


def test_a_place_that_is_needed_stays() -> None:
    assert shrunk(lambda _, tape: tape.choices.get((3, 9)) == 2, FULL)[1] == "3@9=2"


@pytest.mark.parametrize("most", [0, 1, 5, 20])
def test_no_more_runs_are_made_than_allowed_and_what_is_told_still_fails(most: int) -> None:
    def needs(faults: Sequence[Fault], tape: Tape) -> bool:
        return FAULTS[3] in faults and tape.choices.get((2, 12)) == KEPT

    faults, least, runs = shrunk(needs, FULL, most)
    assert runs <= most
    assert needs(faults, Tape.parse(least))


def test_no_more_real_time_is_spent_than_allowed() -> None:
    assert Shrinker(always, 1_000, seconds=0.0).least(FAULTS, FULL)[0] == FAULTS


# ---------------------------------------------------------------- in a simulation


def told(scenario: Any, **more: Any) -> CounterexampleError:
    with pytest.raises(CounterexampleError) as caught:
        explore(scenario, **more)
    return caught.value


@both
@pytest.mark.parametrize("skew", [2, 3])
def test_a_race_is_told_by_the_few_choices_it_needs(backend: Any, skew: int) -> None:
    trace = told(races(skew), backend=backend).replay.partition("trace='")[2].removesuffix("')")
    assert 1 <= len(trace.split()) <= 4
    for word in trace.split():  # and not one of them can be left out
        fewer = " ".join(other for other in trace.split() if other != word)
        simulate(races(skew), seed=0, backend=backend, trace=fewer)


def one_fault_is_told(backend: Any) -> CounterexampleError:
    plan = FaultPlan([*FAULTS, Fault(kind=FaultKind.TOO_MANY, operation="refund")], seed=3)

    async def scenario(world: World) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(checkpoint)
        met = {fault.kind for fault in world.faults.faults}
        assert FaultKind.HANG not in met

    found = told(scenario, backend=backend, faults=plan)
    assert found.replay.endswith(
        """faults=FaultPlan.from_json('{"faults": [{"kind": "hang"}], """
        f""""finresilience_fault_plan": 1, "seed": {found.seed}}}'), trace='')"""
    )
    return found


@both
def test_only_the_fault_that_matters_is_told(backend: Any) -> None:
    one_fault_is_told(backend)


@both
def test_a_failure_is_not_mistaken_for_another_one(backend: Any) -> None:
    """With fewer faults it fails in another way, which is another story."""
    plan = FaultPlan([Fault(kind=FaultKind.HANG), Fault(kind=FaultKind.RESET)])

    async def scenario(world: World) -> None:
        met = {fault.kind for fault in world.faults.faults}
        if met == {FaultKind.HANG, FaultKind.RESET}:
            raise ValueError("both")
        if met:
            raise ValueError("one of them")

    for seed in range(50):
        with pytest.raises(CounterexampleError) as caught:
            simulate(scenario, seed=seed, backend=backend, faults=plan.swarm(0) if not plan.swarm(seed).faults else plan)
            raise CounterexampleError(ValueError("both"), "none", schedule="")  # nothing was in the mix
        assert ("one of them" in str(caught.value)) == (caught.value.replay.count('"kind"') == 1)


def moves(reference: str, key: str) -> Booking:
    return Booking("acme", reference, "charge", Money("10.00", "EUR"), key=key)


async def races_to_two_lies(world: World) -> None:
    """In one order pay_1 moves twice; in every other, pay_2 moves and nobody asked. One line of ours raises both."""
    order: list[str] = []

    async def comes(name: str, turns: int) -> None:
        for _ in range(turns):
            await checkpoint()
        order.append(name)

    async with anyio.create_task_group() as group:
        group.start_soon(comes, "slow", 2)
        group.start_soon(comes, "fast", 1)
    booked = [moves("pay_1", "a"), moves("pay_1", "b")] if order == ["slow", "fast"] else [moves("pay_2", "a")]
    check(world.history, booked)


def laws_told(seed: int, *, shrink: int) -> frozenset[str]:
    with pytest.raises(CounterexampleError) as caught:
        simulate(races_to_two_lies, seed=seed, shrink=shrink)
    assert isinstance(caught.value.__cause__, InvariantError)
    return caught.value.__cause__.invariants


def changed_their_story() -> list[int]:
    return [seed for seed in range(30) if laws_told(seed, shrink=0) != laws_told(seed, shrink=300)]


def test_a_double_effect_does_not_shrink_into_another_lie_about_the_money() -> None:
    assert "no_double_effect" in {law for seed in range(30) for law in laws_told(seed, shrink=0)}
    assert changed_their_story() == []


def test_a_shrinker_that_looks_at_the_line_alone_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case, "_sign_of", type)
    assert changed_their_story()


def both_fail(*kinds: type[Exception]) -> BaseException:
    return ExceptionGroup("two tasks", [kind() for kind in kinds])


def test_two_tasks_that_fail_are_known_by_both_failures() -> None:
    one, other = both_fail(KeyError, ValueError), both_fail(KeyError, OSError)
    assert case._sign_of(one) == case._sign_of(both_fail(ValueError, KeyError))
    assert case._sign_of(one) != case._sign_of(other)


def test_leaving_a_fault_out_does_not_change_the_luck_of_the_others() -> None:
    faults = [Fault(kind=kind, probability=0.5) for kind in (FaultKind.HANG, FaultKind.RESET, FaultKind.SLOW)]
    whole, fewer = FaultPlan(faults, seed=3), FaultPlan(faults[1:], seed=3)
    for number in range(100):
        met = whole.meets(Asked("charge", f"pay_{number}", 1))
        if met != faults[0]:
            assert fewer.meets(Asked("charge", f"pay_{number}", 1)) == met


def test_a_broken_trace_says_how_one_is_written() -> None:
    with pytest.raises(ConfigurationError, match=r"trace='1@4\*3 2@7=0'"):
        Tape.parse("1@4*3, 2@7=0")


# ---------------------------------------------------------------- the saboteurs


class Lazy(Shrinker):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues] - a saboteur may break what is final
    """It tells everything."""

    def least(self, faults: Any, tape: Any) -> Any:
        return faults, tape


class Reckless(Shrinker):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues] - a saboteur may break what is final
    """It leaves out what is needed."""

    def _try(self, faults: Any, tape: Any) -> bool:
        super()._try(faults, tape)
        return True


@pytest.mark.parametrize("saboteur", [Lazy, Reckless])
def test_a_shrinker_that_tells_too_much_or_too_little_is_caught(saboteur: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "Shrinker", saboteur)
    with pytest.raises(AssertionError):
        only_what_is_needed({3}, {(2, 12)})


def test_a_run_that_is_not_shrunk_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case, "Shrinker", Lazy)
    assert shrinking.Shrinker is Shrinker
    with pytest.raises(AssertionError) as caught:
        for seed in range(2):
            one_fault_is_told(("asyncio", "trio")[seed])
    assert not isinstance(caught.value, CounterexampleError)


def test_a_tape_that_forgets_is_caught() -> None:
    luck = chance.Chance(7)
    luck.record = Tape({})
    first = dealt(luck, 4, 40)
    forgetful = Tape({place: choice for place, choice in luck.record.choices.items() if choice != KEPT})
    assert dealt(Chance(7, tape=forgetful), 4, 40) != first
