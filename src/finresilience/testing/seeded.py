"""Does it hold on many schedules of a real event loop? Each seed is another one, and the same one every time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finresilience._checks import seconds_of
from finresilience.errors import ConfigurationError
from finresilience.testing.chance import Chance
from finresilience.testing.errors import CounterexampleError
from finresilience.testing.stories import Tally, name_of, root_of, seeds_of
from finresilience.testing.virtual import VirtualClock, drive

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from finresilience.testing.stories import Explored
    from finresilience.testing.virtual import Backend


def explore(
    scenario: Callable[[], Awaitable[object]],
    *,
    seeds: Iterable[int] | int = 1000,
    backend: Backend | None = None,
    patience: float = 30.0,
) -> Explored:
    """Run an async scenario once per seed, in virtual time, its tasks reordered and postponed; return what was covered.

        async def two_tasks_charge_once():
            async with anyio.create_task_group() as group:
                group.start_soon(charge, "pay_1")
                group.start_soon(charge, "pay_1")
            assert len(book) == 1

        explore(two_tasks_charge_once, seeds=1000)

    Args:
        scenario: builds fresh state, runs, and asserts what must hold.
        seeds: which, or how many from 0.
        backend: `"asyncio"` or `"trio"`; both by default.
        patience: as for `run_virtual`.

    Raises:
        CounterexampleError: some seed fails. Its last line replays it.
        DeadlockError: never by itself: a deadlock is a counterexample.
    """
    seconds_of("patience", patience)
    tally = Tally()
    for seed in seeds_of(seeds):
        for name in ("asyncio", "trio") if backend is None else (backend,):
            chance = Chance(seed)
            chance.steps = []
            try:
                drive(scenario, backend=name, chance=chance, clock=VirtualClock(), patience=patience)
            except ConfigurationError:
                raise
            except Exception as failure:
                replay = f"explore({name_of(scenario)}, seeds=[{seed}], backend={name!r})"
                raise CounterexampleError(root_of(failure), replay, schedule=_written(chance), seed=seed) from failure
            tally.add(f"{name} {_written(chance)}")
    return tally.told()


def _written(chance: Chance) -> str:
    return " ".join(map(str, chance.steps or ()))
