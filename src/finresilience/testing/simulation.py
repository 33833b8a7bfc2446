"""Does a whole service hold in one run from one seed: its schedule, its faults, its luck? And the same run again, for whoever asks."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from finresilience._checks import positive_count
from finresilience.errors import ConfigurationError
from finresilience.testing.case import MOST, Case, plan_of
from finresilience.testing.chance import Chance
from finresilience.testing.errors import FORMAT, NAME
from finresilience.testing.faults import FaultPlan
from finresilience.testing.stories import name_of
from finresilience.testing.tape import Tape

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from os import PathLike

    from finresilience.testing.virtual import Backend
    from finresilience.testing.world import World

T = TypeVar("T")

_NEEDED: Final = {  # what a file must tell of each kind of counterexample
    "simulate": {"backend", "faults", "seed", "trace"},
    "exhaust": {"clients", "schedule"},
    "explore_threads": {"modules", "opcodes", "seed"},
    "everywhere": {"backend", "deaths"},
}


def simulate(
    scenario: Callable[[World], Awaitable[T]] | Callable[[], Awaitable[T]],
    *,
    seed: int,
    backend: Backend = "asyncio",
    faults: FaultPlan | None = None,
    trace: str | None = None,
    patience: float = 30.0,
    shrink: int = MOST,
) -> T:
    """Run a whole service once, in virtual time, everything from one seed; return what the scenario returns.

    The seed orders and postpones the tasks, swarms the faults (each is left out with a chance of one half, so that rare mixes
    come up), feeds the jitter of policies, and makes the `World` that a scenario of one parameter is given.

        async def every_payment_is_booked_once(world: World) -> None:
            acme = FakeProvider("acme", world.faults)
            ...

        simulate(every_payment_is_booked_once, seed=7, faults=FaultPlan([Fault(kind=FaultKind.TIMEOUT_AFTER, probability=0.2)]))

    A failure is shrunk: faults, then choices of the schedule, are left out while it still fails in the same way.

    Args:
        scenario: builds fresh state, runs, and asserts what must hold.
        seed: of all that is left to chance.
        backend: `"asyncio"` or `"trio"`.
        faults: what may go wrong.
        trace: run this schedule, as a failure prints it, under exactly these faults, instead of the seed's.
        patience: as for `run_virtual`.
        shrink: how many runs to spend on making a failure smaller; 0 for none.

    Raises:
        CounterexampleError: it fails. The last line replays it; `save` writes it down for `replay`.
        ConfigurationError: the scenario or the plan cannot be used; the message says how to write one.
    """
    case = Case(scenario, seed=seed, backend=backend, patience=patience)
    plan = plan_of(faults)
    if not isinstance(shrink, int) or isinstance(shrink, bool) or shrink != 0:
        positive_count("shrink", shrink)
    if trace is not None:
        tape = Tape.parse(trace)
        return cast("T", case.run(Chance(case.seed, tape=tape), plan, told=tape))
    return cast("T", case.run(Chance(case.seed), None if plan is None else plan.swarm(case.seed), shrink=shrink))


def replay(scenario: Callable[..., Any], path: str | PathLike[str]) -> object:
    """Run again what `CounterexampleError.save` wrote to `path`, and return what `simulate`, `exhaust` or the like return if it holds now.

    Raises:
        CounterexampleError: it still fails.
        ConfigurationError: the file holds no counterexample, or one of another scenario.
    """
    told = _read(path)
    if told.get("scenario") != name_of(scenario):
        raise ConfigurationError(f"{Path(path).name} holds a counterexample of {told.get('scenario')}, not of {name_of(scenario)}")
    return _replayed(scenario, told)


def _read(path: str | PathLike[str]) -> dict[str, Any]:
    try:
        told = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{Path(path).name} cannot be read as a counterexample ({type(error).__name__}: {error})") from error
    if not isinstance(told, dict) or cast("dict[str, Any]", told).get(NAME) != FORMAT:
        message = f"{Path(path).name} holds no counterexample of format {FORMAT}: write one with CounterexampleError.save(path)"
        raise ConfigurationError(message)
    counterexample = cast("dict[str, Any]", told)
    missing = _NEEDED.get(str(counterexample.get("kind")), {"kind"}) - set(counterexample)
    if missing or counterexample.get("kind") not in _NEEDED:
        lacks = ", ".join(sorted(missing)) or "kind"
        raise ConfigurationError(f"{Path(path).name} does not tell its {lacks}: save the counterexample anew")
    return counterexample


def _replayed(scenario: Callable[..., Any], told: dict[str, Any]) -> object:
    if told["kind"] == "exhaust":
        from finresilience.testing.exhaustive import exhaust

        return exhaust(scenario, clients=told["clients"], replay=told["schedule"])
    if told["kind"] == "everywhere":
        from finresilience.testing.recoveries import everywhere

        return everywhere(scenario, backend=told["backend"], replay=told["deaths"])
    if told["kind"] == "explore_threads":
        from importlib import import_module

        from finresilience.testing.threads import explore_threads

        modules = [import_module(name) for name in told["modules"]]
        return explore_threads(scenario, seeds=[told["seed"]], opcodes=told["opcodes"], modules=modules)
    faults = None if told["faults"] is None else FaultPlan.from_json(json.dumps(told["faults"]))
    again: Any = partial(simulate, scenario, seed=told["seed"], backend=told["backend"], faults=faults)
    return again(shrink=0) if told["trace"] is None else again(trace=told["trace"])
