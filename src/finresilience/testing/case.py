"""What is one run of a scenario under one seed, and what is left of it once all that does not matter is taken out?"""

from __future__ import annotations

import inspect
import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast, final

from finresilience._checks import refuse, seconds_of
from finresilience.errors import ConfigurationError
from finresilience.testing.chance import Chance
from finresilience.testing.errors import CounterexampleError, DeadlockError
from finresilience.testing.faults import FaultPlan
from finresilience.testing.luck import seeded_policies
from finresilience.testing.shrinking import Shrinker
from finresilience.testing.stories import name_of, root_of
from finresilience.testing.tape import Tape
from finresilience.testing.violations import InvariantError
from finresilience.testing.virtual import VirtualClock, drive
from finresilience.testing.world import World

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from finresilience.testing.faults import Fault
    from finresilience.testing.virtual import Backend

MOST: Final = 300  # runs to shrink a failure
_LONG: Final = 20_000  # choices: a longer tape is told by its seed alone
_STRANGE: Final = (
    "it did not fail again under the same seed: something in it is not told by the seed, such as a thread, a set's order or state "
    "that outlives a run"
)


def plan_of(faults: object) -> FaultPlan | None:
    """Return the plan, or raise a `ConfigurationError` that says how to write one. Internal."""
    if faults is not None and not isinstance(faults, FaultPlan):
        refuse("faults", faults, "a FaultPlan, such as FaultPlan([Fault(kind=FaultKind.TIMEOUT_AFTER, probability=0.2)])")
    return faults


@final
class Case:
    """One scenario under one seed on one backend. Internal."""

    def __init__(self, scenario: Callable[..., Any], *, seed: int, backend: Backend, patience: float) -> None:
        if isinstance(seed, bool) or not isinstance(cast("object", seed), int):
            refuse("seed", seed, "a whole number")
        self.scenario: Callable[..., Any] = scenario
        self.wants_world: bool = wants_world(scenario)
        self.name: str = name_of(scenario)
        self.seed: int = seed
        self.backend: Backend = backend
        self.patience: float = seconds_of("patience", patience)

    def once(self, chance: Chance, plan: FaultPlan | None) -> Any:
        """Run it once, and return or raise what it does."""
        clock = VirtualClock()
        world = World(self.seed, self.backend, clock, plan)
        function: Callable[[], Awaitable[Any]] = partial(self.scenario, world) if self.wants_world else self.scenario
        with seeded_policies(clock, self.seed):
            return drive(function, backend=self.backend, chance=chance, clock=clock, patience=self.patience)

    def run(self, chance: Chance, plan: FaultPlan | None, *, told: Tape | None = None, shrink: int = 0) -> Any:
        """Run it once; a failure is shrunk, unless it was `told`, and raised as a counterexample."""
        if chance.steps is None:
            chance.steps = []
        try:
            return self.once(chance, plan)
        except ConfigurationError:
            raise
        except BaseException as failure:
            if not _is_failure(failure):
                raise
            if told is not None or not shrink:
                raise self._counterexample(failure, chance, plan, told) from failure
            self._shrink(failure, chance, plan, shrink)

    def _shrink(self, failure: BaseException, chance: Chance, plan: FaultPlan | None, most: int) -> NoReturn:
        least = _Least(self, failure, plan)
        root = root_of(failure)
        if isinstance(root, DeadlockError) and root.waited:  # each further run would wait as long
            raise self._counterexample(failure, chance, plan, None) from failure
        tape, faults = least.recorded(), () if plan is None else plan.faults
        if tape is None:
            raise self._counterexample(failure, chance, plan, None, remark=_STRANGE) from failure
        if len(tape.choices) > _LONG or not least.fails(faults, tape):
            raise self._counterexample(failure, chance, plan, None) from failure
        Shrinker(least.fails, most).least(faults, tape)
        raise self._counterexample(least.failure, least.chance, least.plan, least.tape) from least.failure

    def failure(self, chance: Chance, plan: FaultPlan | None) -> BaseException | None:
        """Run it once, and return how it failed."""
        try:
            self.once(chance, plan)
        except BaseException as failure:
            if not _is_failure(failure):
                raise
            return failure
        return None

    def _counterexample(
        self, failure: BaseException, chance: Chance, plan: FaultPlan | None, tape: Tape | None, *, remark: str = ""
    ) -> CounterexampleError:
        trace = None if tape is None else str(tape)
        said = f"seed={self.seed}, backend={self.backend!r}"
        said += "" if plan is None else f", faults=FaultPlan.from_json({plan.to_json()!r})"
        said += "" if trace is None else f", trace={trace!r}"
        record = {
            "kind": "simulate",
            "scenario": self.name,
            "seed": self.seed,
            "backend": self.backend,
            "faults": None if plan is None else json.loads(plan.to_json()),
            "trace": trace,
        }
        line = f"simulate({self.name}, {said})"
        return CounterexampleError(root_of(failure), line, schedule=written(chance), seed=self.seed, remark=remark, record=record)


@final
class _Least:
    """The least that failed so far in the same way as the first time."""

    def __init__(self, case: Case, failure: BaseException, plan: FaultPlan | None) -> None:
        self._case = case
        self._sign = _sign_of(failure)
        self.failure: BaseException = failure
        self.plan: FaultPlan | None = plan
        self.chance: Chance = Chance(case.seed)
        self.tape: Tape | None = None

    def recorded(self) -> Tape | None:
        """Run the seed once more and return its choices, or None if it does not fail again."""
        chance = Chance(self._case.seed)
        chance.record = tape = Tape({})
        failure = self._case.failure(chance, self.plan)
        return tape if failure is not None and _sign_of(failure) == self._sign else None

    def fails(self, faults: Sequence[Fault], tape: Tape) -> bool:
        """Return whether it fails in the same way under these faults and choices; if so, they are the least."""
        chance = Chance(self._case.seed, tape=tape)
        chance.steps = []
        plan = None if self.plan is None else FaultPlan(faults, seed=self.plan.seed)
        failure = self._case.failure(chance, plan)
        if failure is None or _sign_of(failure) != self._sign:
            return False
        self.failure, self.chance, self.plan, self.tape = failure, chance, plan, tape
        return True


def _is_failure(failure: BaseException) -> bool:
    """Return whether it is the scenario that failed, also by `pytest.fail`, and not a person who interrupts."""
    root = root_of(failure)
    by_word = type(root).__name__ == "Failed" and any(kind.__name__ == "OutcomeException" for kind in type(root).__mro__)
    return isinstance(root, Exception) or by_word


def _sign_of(failure: BaseException) -> object:
    """Return what tells one way to fail from another: the kind, the line that raised it, the scenario's own last line, and what is broken.

    All invariants are raised by one line of ours, and so are all deadlocks: the line alone would take one for another.
    """
    failure = root_of(failure)
    if isinstance(failure, BaseExceptionGroup):
        return frozenset(map(_sign_of, cast("BaseExceptionGroup[BaseException]", failure).exceptions))
    last = own = None
    trace = failure.__traceback__
    while trace is not None:
        last = (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        if not str(trace.tb_frame.f_globals.get("__name__", "")).startswith("finresilience."):
            own = last
        trace = trace.tb_next
    broken = failure.invariants if isinstance(failure, InvariantError) else None
    return type(failure), last, own, failure.places if isinstance(failure, DeadlockError) else broken


def written(chance: Chance) -> str:
    """Return who ran, in order. Internal."""
    return " ".join(map(str, chance.steps or ()))


def wants_world(scenario: object) -> bool:
    """Return whether a scenario takes the `World`: it has one parameter without a default. Internal.

    Raises:
        ConfigurationError: if it is no function of none or one.
    """
    if not callable(scenario):
        what = f"a {type(scenario).__name__}, no function"
        if inspect.iscoroutine(scenario):
            scenario.close()
            what = "a coroutine, which runs once only: give the function itself, without calling it"
        raise ConfigurationError(f"this scenario is {what}. Write `async def scenario(world): ...` or `async def scenario(): ...`")
    try:
        parameters = inspect.signature(scenario).parameters.values()
    except (TypeError, ValueError):
        return False
    needed = [one for one in parameters if one.default is one.empty and one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}]
    if len(needed) > 1 or any(one.kind is one.KEYWORD_ONLY for one in needed):
        names = ", ".join(one.name for one in needed)
        message = f"{name_of(scenario)} needs {names}, and a scenario is given its World at most: bind the rest by functools.partial"
        raise ConfigurationError(message)
    return len(needed) == 1
