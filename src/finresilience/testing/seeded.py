"""Does it hold on many schedules of a real event loop? Each seed is another one, and the same one every time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finresilience._checks import seconds_of
from finresilience.testing.case import MOST, Case, plan_of, written
from finresilience.testing.chance import Chance
from finresilience.testing.stories import Tally, seeds_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from finresilience.testing.faults import FaultPlan
    from finresilience.testing.stories import Explored
    from finresilience.testing.virtual import Backend
    from finresilience.testing.world import World


def explore(
    scenario: Callable[[World], Awaitable[Any]] | Callable[[], Awaitable[Any]],
    *,
    seeds: Iterable[int] | int = 1000,
    backend: Backend | None = None,
    faults: FaultPlan | None = None,
    patience: float = 30.0,
) -> Explored:
    """Run an async scenario once per seed, in virtual time, its tasks reordered and postponed; return what was covered.

        async def two_tasks_charge_once():
            async with anyio.create_task_group() as group:
                group.start_soon(charge, "pay_1")
                group.start_soon(charge, "pay_1")
            assert len(book) == 1

        explore(two_tasks_charge_once, seeds=1000)

    Each run is one of `simulate`, so the scenario may take a `World`, and a failure is shrunk.

    Args:
        scenario: builds fresh state, runs, and asserts what must hold.
        seeds: which, or how many from 0.
        backend: `"asyncio"` or `"trio"`; both by default.
        faults: what may go wrong; each seed leaves some of it out.
        patience: as for `run_virtual`.

    Raises:
        CounterexampleError: some seed fails. Its last line replays it.
        DeadlockError: never by itself: a deadlock is a counterexample.
        ConfigurationError: the scenario or the plan cannot be used; the message says how to write one.
    """
    seconds_of("patience", patience)
    plan = plan_of(faults)
    tally = Tally()
    for seed in seeds_of(seeds):
        for name in ("asyncio", "trio") if backend is None else (backend,):
            case, chance = Case(scenario, seed=seed, backend=name, patience=patience), Chance(seed)
            swarmed = None if plan is None else plan.swarm(seed)
            case.run(chance, swarmed, shrink=MOST)
            said = "" if swarmed is None else f" {swarmed.to_json()}"
            tally.add(f"{name} {written(chance)}{said}")
    return tally.told()
