"""Does it recover, wherever it dies? Each crash point on each pass, and each point of each recovery after that."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

from finresilience._checks import positive_count, refuse
from finresilience.errors import ConfigurationError
from finresilience.testing.dying import Crashed, Life, NotReachedError, at, here, known, leave_life
from finresilience.testing.errors import BoundReachedError, CounterexampleError
from finresilience.testing.stories import close, judge, name_of, root_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from finresilience.testing.virtual import Backend

_NEXT: Final = " > "
_NONE: Final = "no crash"
Step: TypeAlias = "tuple[str, int]"
Phase: TypeAlias = "Callable[[], object]"


@final
class Crashes:
    """What `everywhere` covered.

    Attributes:
        runs: how many runs there were, the one without a crash included.
        reached: how often the code died at each point.
    """

    __slots__ = ("reached", "runs")

    def __init__(self) -> None:
        self.runs: int = 0
        self.reached: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"Crashes(runs={self.runs}, reached={self.reached})"


def everywhere(
    scenario: Callable[[], tuple[Phase, Phase]],
    *,
    depth: int = 2,
    must_reach: Iterable[str] = (),
    limit: int = 10_000,
    backend: Backend = "asyncio",
    replay: str | None = None,
) -> Crashes:
    """Let a scenario die at each crash point it passes, on each pass, and recover each time; return what was covered.

    The scenario is called afresh for each run. It returns what to do, and how to recover:

        def one_message():
            store, broker = Store(), Broker()
            store.add("paid")

            def recover():
                Relay(store, broker).run_until_idle()
                assert broker.received("paid") >= 1

            return Relay(store, broker).run_until_idle, recover

        crash.everywhere(one_message, must_reach=["relay.after_publish"])

    What outlives a process belongs in the scenario's own state; what dies with it is made anew in `recover`, which asserts at its end.
    Both may be async functions: they then run in virtual time, on one clock.

    Args:
        scenario: makes fresh state; returns the two. It must do the same each time: seed its chance.
        depth: how often one run dies: 2 also stops the recovery at each of its points, and recovers again.
        must_reach: points that must be among those reached.
        limit: how many runs to make at most.
        backend: of async functions.
        replay: make this run only, as printed by a failure.

    Raises:
        CounterexampleError: some run fails. Its last line replays it.
        NotReachedError: the scenario passes none of its points, or not all of `must_reach`.
        BoundReachedError: there are more runs than `limit`, so nothing is proven.
        ConfigurationError: the scenario cannot be run, or does not do the same each time; the message says so.
    """
    positive_count("depth", depth, most=10)
    positive_count("limit", limit)
    wanted = [known(point) for point in must_reach]
    told = Crashes()
    todo: deque[tuple[Step, ...]] = deque([() if replay is None else _parsed(replay)])  # the fewest deaths first
    while todo:
        if told.runs >= limit:
            message = f"everywhere({name_of(scenario)}) made {limit:,} runs and more remain: nothing is proven. Make depth less"
            raise BoundReachedError(message)
        deaths = todo.popleft()
        passed = _run(scenario, deaths, backend)
        told.runs += 1
        for point, _ in deaths[-1:]:
            told.reached[point] = told.reached.get(point, 0) + 1
        if replay is None and len(deaths) < depth:
            todo += [(*deaths, (point, passed[: at + 1].count(point))) for at, point in enumerate(passed)]
    missing = [point for point in wanted if point not in told.reached]
    if replay is None and (missing or not told.reached):
        raise NotReachedError(f"{name_of(scenario)} never came to {', '.join(missing) or 'any crash point'}: it proves nothing of it")
    return told


def _run(scenario: Callable[[], tuple[Phase, Phase]], deaths: tuple[Step, ...], backend: Backend) -> list[str]:
    """Make one run that dies at each of `deaths` in turn and then comes through; return the points its last chance passed."""
    act, recover = _phases(scenario, backend)
    try:
        for number, (point, nth) in enumerate(deaths):
            _dies(act if number == 0 else recover, point, nth)
        passed = _listened(recover if deaths else act)
        if not deaths:
            judge(recover)
    except (BoundReachedError, ConfigurationError):
        raise
    except NotReachedError as failure:
        message = f"{name_of(scenario)} does not do the same each time ({failure}): build all its state in it, and seed its chance"
        raise ConfigurationError(message) from failure
    except Exception as failure:
        path = _NEXT.join(f"{point}:{nth}" for point, nth in deaths) or _NONE
        record = {"kind": "everywhere", "scenario": name_of(scenario), "backend": backend, "deaths": path}
        line = f"everywhere({name_of(scenario)}, replay={path!r})"
        raise CounterexampleError(root_of(failure), line, schedule=path, record=record) from failure
    return passed


def _dies(phase: Phase, point: str, nth: int) -> None:
    try:
        with at(point, nth=nth):
            phase()
    except Crashed as death:
        if (death.point, death.nth) != (point, nth):  # a crash.at(...) of the scenario's own
            raise


def _listened(phase: Phase) -> list[str]:
    """Go through a phase, which may assert, or return False; and return the points that it passed."""
    life = Life()
    token = here.set(life.begin(here.get()))
    try:
        judge(phase)
    finally:
        life.end()
        leave_life(token)
    return life.passed


def _phases(scenario: Callable[[], tuple[Phase, Phase]], backend: Backend) -> tuple[Phase, Phase]:
    made: Any = scenario()
    if not isinstance(made, tuple) or len(made) != 2 or not all(map(callable, made)):
        message = f"{name_of(scenario)} is not a scenario: build fresh state in it and return two functions, (act, recover)"
        raise ConfigurationError(message)
    act, recover = made
    return _in_time(act, recover, backend)


def _in_time(act: Phase, recover: Phase, backend: Backend) -> tuple[Phase, Phase]:
    """Return both phases as plain functions; async ones share a virtual clock, which goes on from one to the next."""
    from inspect import iscoroutinefunction

    from finresilience.testing.virtual import VirtualClock, run_virtual

    clock = VirtualClock()

    def plain(phase: Phase) -> Phase:
        if iscoroutinefunction(phase):
            return lambda: run_virtual(phase, backend=backend, clock=clock)
        return lambda: _done(phase)

    return plain(act), plain(recover)


def _done(phase: Phase) -> object:
    """Go through a plain phase; one that returns something to be awaited has done nothing yet, and would prove nothing."""
    told = phase()
    if hasattr(type(told), "__await__"):
        close(told)
        message = f"{name_of(phase)} returned a {type(told).__name__}, which nobody awaits: make it an `async def`"
        raise ConfigurationError(message)
    return told


def _parsed(replay: str) -> tuple[Step, ...]:
    if replay == _NONE:
        return ()
    steps: list[Step] = []
    for part in replay.split(_NEXT):
        point, _, nth = part.rpartition(":")
        if not nth.isdigit():
            refuse("replay", replay, "what a failure printed, such as 'relay.after_publish:1 > relay.claimed:2'")
        steps.append((known(point), positive_count("replay", int(nth))))
    return tuple(steps)
