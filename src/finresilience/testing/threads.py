"""Is sync code safe under threads? Its lines are run in an order that a seed decides, the same order every time.

Free-running threads prove next to nothing: on CPython they hardly ever meet between two lines. Here a thread may be
stopped before any line of our modules and of the scenario's own file.
"""

from __future__ import annotations

import threading
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, final

import finresilience
from finresilience._checks import seconds_of
from finresilience.errors import ConfigurationError
from finresilience.testing.baton import (
    Baton,
    here,
    real_lock,
    real_rlock,
)
from finresilience.testing.errors import BoundReachedError, CounterexampleError
from finresilience.testing.stories import Tally, judge, name_of, seeds_of, told_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

    from finresilience.testing.stories import Explored, ThreadStory

_MOST: Final = 1_000_000  # moments in one run
_HOUSE: Final = str(Path(finresilience.__path__[0])) + "/"
_KIT: Final = str(Path(__file__).parent) + "/"
_LOCK: Final = type(real_lock())
_RLOCK: Final = type(real_rlock())


def explore_threads(
    scenario: Callable[[], ThreadStory],
    *,
    seeds: Iterable[int] | int = 300,
    modules: Iterable[ModuleType] = (),
    opcodes: bool = False,
    patience: float = 10.0,
) -> Explored:
    """Run a scenario's threads once per seed, one at a time, handed over between lines; return what was covered.

    The scenario is called afresh for each seed. It returns functions, one for each thread, and a check for the end:

        def two_probes():
            breaker = CircuitBreaker(...)
            passed = []

            def probe():
                if breaker.admits():
                    passed.append(1)

            def one_probe_passes():
                assert len(passed) <= 1

            return [probe, probe], one_probe_passes

        explore_threads(two_probes, seeds=300)

    `threading` locks, and what is built on them (Condition, Event, Semaphore, Queue), work as ever, if they are made
    inside the scenario or belong to a module or class that is explored.

    Args:
        scenario: makes fresh state, functions and a check.
        seeds: which, or how many from 0.
        modules: further modules to stop in, beside finresilience and the file of the scenario.
        opcodes: stop between bytecodes too, so that one line such as `count += 1` is not taken for one step.
        patience: how many real seconds a run may stand still.

    Raises:
        CounterexampleError: some seed fails. Its last line replays it.
        BoundReachedError: a run did not end, so nothing is known of it.
        ConfigurationError: the scenario cannot be explored; the message says how to write it.
    """
    seconds_of("patience", patience)
    lines = _Lines(scenario, modules, opcodes=opcodes)
    tally = Tally()
    with _cooperative_locks(lines):
        for seed in seeds_of(seeds):
            tally.add(_Run(scenario, seed, lines, patience).told())
    return tally.told()


@final
class _Lines:
    """Where a thread may be stopped."""

    def __init__(self, scenario: Callable[..., object], modules: Iterable[ModuleType], *, opcodes: bool) -> None:
        self.files: dict[str, bool] = {_file_of(scenario): True}
        for module in modules:
            if not isinstance(module, ModuleType) or not module.__file__:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ConfigurationError(f"modules= takes imported Python modules, not {module!r}")
            self.files[module.__file__] = True
        self._opcodes = opcodes

    def __contains__(self, file: str) -> bool:
        known = self.files.get(file)
        if known is None:
            known = self.files[file] = file.startswith(_HOUSE) and not file.startswith(_KIT)
        return known

    def on_call(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any] | None:
        """Trace the lines of frames that are ours, except while a module is imported: that happens once, not in every run."""
        back = frame.f_back
        if frame.f_code.co_filename not in self or (back is not None and back.f_code.co_name == "<module>"):
            return None
        if frame.f_code.co_name == "<module>":
            return None
        frame.f_trace_opcodes = self._opcodes
        return _on_line


def _on_line(frame: FrameType, event: str, arg: object) -> Any:
    if event in {"line", "opcode"} and (baton := here.baton) is not None:
        baton.moment(here.number)
    return _on_line


@final
class _Run:
    """One seed's run."""

    def __init__(self, scenario: Callable[[], ThreadStory], seed: int, lines: _Lines, patience: float) -> None:
        self._scenario = scenario
        self._seed = seed
        self._lines = lines
        self._patience = patience
        here.building = True
        try:
            bodies, self._check = told_by(scenario, scenario())
        finally:
            here.building = False
        for body in bodies:
            if not callable(body):
                raise ConfigurationError(f"a thread must be a function, not a {type(body).__name__}; {name_of(scenario)} returned one")
        self._baton = Baton(seed, len(bodies), _MOST)
        self._threads = [
            threading.Thread(target=self._body, args=(number, body), daemon=True, name=f"explored {number}") for number, body in enumerate(bodies)
        ]

    def told(self) -> str:
        """Run, check, and return the schedule."""
        for thread in self._threads:
            thread.start()
        baton = self._baton
        baton.start()
        while not baton.over.acquire(timeout=self._patience):
            self._stuck()
        for thread in self._threads:
            thread.join(self._patience)
        schedule = " ".join(baton.trail)
        failure = baton.failure
        if isinstance(failure, OverflowError | ConfigurationError):
            raise BoundReachedError(f"{failure}: {name_of(self._scenario)} with seed {self._seed} proves nothing")
        if failure is None:
            try:
                judge(self._check)
            except Exception as broken:
                failure = broken
        if failure is not None:
            replay = f"explore_threads({name_of(self._scenario)}, seeds=[{self._seed}])"
            raise CounterexampleError(failure, replay, schedule=schedule, seed=self._seed) from failure
        return schedule
