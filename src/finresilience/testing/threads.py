"""Is sync code safe under threads? Its lines are run in an order that a seed decides, the same order every time.

Free-running threads prove next to nothing: on CPython they hardly ever meet between two lines. Here a thread may be
stopped before any line of our modules and of the scenario's own file.
"""

from __future__ import annotations

import _thread
import gc
import queue
import sys
import threading
from contextlib import contextmanager
from functools import partial
from inspect import unwrap
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, final

import finresilience
from finresilience._checks import seconds_of
from finresilience.errors import ConfigurationError
from finresilience.testing.baton import (
    Abandoned,
    Baton,
    CooperativeLock,
    CooperativeRLock,
    here,
    make_lock,
    make_rlock,
    told_time,
)
from finresilience.testing.errors import BoundReachedError, CounterexampleError
from finresilience.testing.one_core import one_core
from finresilience.testing.stories import Tally, judge, name_of, seeds_of, told_by

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from types import FrameType

    from finresilience.testing.stories import Explored, ThreadStory

_MOST: Final = 1_000_000  # moments in one run
_RUNS_A_COLLECTION: Final = 100  # what the runs leave behind must not fill the memory
_HOUSE: Final = str(Path(finresilience.__path__[0])) + "/"
_KIT: Final = str(Path(__file__).parent) + "/"
_LOCK: Final = type(threading.Lock())
_RLOCK: Final = type(threading.RLock())


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
    with _cooperative_locks(lines), one_core(), _no_collection() as between:
        for seed in seeds_of(seeds):
            tally.add(_Run(scenario, seed, lines, patience).told())
            between()
    return tally.told()


@contextmanager
def _no_collection() -> Generator[Callable[[], None]]:
    """Keep the garbage collector out of the runs, and yield what lets it in between two: it runs whenever it likes, in no seed's order."""
    was_on, runs = gc.isenabled(), count(1)
    gc.disable()

    def between() -> None:
        if was_on and next(runs) % _RUNS_A_COLLECTION == 0:
            gc.collect()

    try:
        yield between
    finally:
        if was_on:
            gc.enable()


@final
class _Lines:
    """Where a thread may be stopped."""

    def __init__(self, scenario: Callable[..., object], modules: Iterable[ModuleType], *, opcodes: bool) -> None:
        self.files: dict[str, bool] = {_file_of(scenario): True}
        self.told = ", opcodes=True" if opcodes else ""  # for the line that replays
        modules = list(modules)
        self.record = {"opcodes": opcodes, "modules": [getattr(module, "__name__", "?") for module in modules]}
        if modules:
            self.told += f", modules=[{', '.join(getattr(module, '__name__', '?') for module in modules)}]"
        for module in modules:
            file = getattr(module, "__file__", None)
            if not isinstance(module, ModuleType) or not file:
                raise ConfigurationError(f"modules= takes imported Python modules, not {module!r}")
            self.files[file] = True
        self._opcodes = opcodes
        if opcodes:
            sys._getframe().f_trace_opcodes = True  # 3.12 tells of opcodes only where somebody asked for them before the trace was set

    def __contains__(self, file: str) -> bool:
        known = self.files.get(file)
        if known is None:
            known = self.files[file] = file.startswith(_HOUSE) and not file.startswith(_KIT)
        return known

    def on_call(self, frame: FrameType, _event: str, _arg: object) -> Callable[..., Any] | None:
        """Trace the lines of frames that are ours, except while a module is imported: that happens once, not in every run."""
        back = frame.f_back
        if frame.f_code.co_filename not in self or (back is not None and back.f_code.co_name == "<module>"):
            return None
        if frame.f_code.co_name == "<module>":
            return None
        if self._opcodes:
            frame.f_trace = _on_line  # before the next line: from 3.13 on, it counts for frames that are traced already
            frame.f_trace_opcodes = True
        return _on_line


def _on_line(_frame: FrameType, event: str, _arg: object) -> Any:
    if event in {"line", "opcode"} and (baton := here.baton) is not None:
        baton.moment(here.number)
    return _on_line


def _file_of(scenario: Any) -> str:
    while isinstance(scenario, partial):
        scenario = scenario.func
    function = unwrap(scenario)
    code = getattr(function, "__code__", None)
    if code is None and callable(function):
        code = getattr(type(function).__call__, "__code__", None)
    if code is None:
        raise ConfigurationError(f"{name_of(scenario)} is no scenario to stop in: it is not written in Python. Give a function")
    return str(code.co_filename)


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
        self._stood: dict[int, str] = {}  # where each thread stood that was ended with its run
        self._threads = [
            threading.Thread(target=self._body, args=(number, body), daemon=True, name=f"explored {number}")
            for number, body in enumerate(bodies)
        ]

    def told(self) -> str:
        """Run, check, and return the schedule."""
        for thread in self._threads:
            thread.start()
        baton = self._baton
        try:
            baton.start()
            self._wait()
        except BaseException as interruption:
            baton.abandon(interruption)
            raise
        schedule = " ".join(baton.trail)
        failure = baton.failure
        if isinstance(failure, OverflowError):
            raise BoundReachedError(f"{failure}: with seed {self._seed}, {name_of(self._scenario)} proves nothing")
        if failure is None:
            try:
                judge(self._check)
            except Exception as broken:
                failure = broken
        if isinstance(failure, ConfigurationError):
            raise failure
        if failure is not None:
            replay = f"explore_threads({name_of(self._scenario)}, seeds=[{self._seed}]{self._lines.told})"
            record = {"kind": "explore_threads", "scenario": name_of(self._scenario), "seed": self._seed, **self._lines.record}
            stuck = isinstance(failure, AssertionError) and str(failure).startswith("deadlock: ")
            remark = f"  {'; '.join(self._stood[number] for number in sorted(self._stood))}." if stuck else ""
            raise CounterexampleError(failure, replay, schedule=schedule, seed=self._seed, remark=remark, record=record) from failure
        return schedule

    def _wait(self) -> None:
        seen = -1
        while not self._baton.over.acquire(timeout=self._patience):
            if self._baton.moments == seen:
                raise BoundReachedError(self._stuck())
            seen = self._baton.moments
        for thread in self._threads:
            thread.join(self._patience)

    def _stuck(self) -> str:
        number = self._baton.holder
        frame = sys._current_frames().get(self._threads[number].ident or -1)
        while frame is not None and frame.f_code.co_filename not in self._lines:
            frame = frame.f_back
        where = "?" if frame is None else f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        return (
            f"thread {number} of {name_of(self._scenario)} stood still for {self._patience:g} real seconds at {where}, seed {self._seed}. "
            "If it waits for a lock, make that lock inside the scenario; if it sleeps, let it sleep on a ManualClock"
        )

    def _place(self, end: BaseException) -> str:
        """Return the innermost line of ours that a thread was on."""
        told, trace = "its beginning", end.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            if code.co_filename in self._lines:
                told = f"{Path(code.co_filename).name}:{trace.tb_lineno} ({code.co_name})"
            trace = trace.tb_next
        return told

    def _body(self, number: int, body: Callable[[], object]) -> None:
        failure: BaseException | None = None
        try:
            self._baton.wait_for_it(number)
            here.baton, here.number = self._baton, number
            sys.settrace(self._lines.on_call)
            try:
                body()
            finally:
                sys.settrace(None)
        except Abandoned as end:
            self._stood[number] = f"thread {number} stood at {self._place(end)}"
        except BaseException as error:
            failure = error
        finally:
            here.baton = None
            self._baton.end(number, failure)


_one_at_a_time: Final = threading.Lock()
_MAKERS: Final[dict[int, Any]] = {  # by identity: what a module holds need not be hashable
    id(threading.Lock): make_lock,
    id(_thread.allocate_lock): make_lock,
    id(threading.RLock): make_rlock,
    id(_thread.RLock): make_rlock,
}


@contextmanager
def _cooperative_locks(lines: _Lines) -> Generator[None]:
    """Let `threading`, and the modules that are explored, make and use locks that know of the baton."""
    with _one_at_a_time:
        undo: list[Callable[[], None]] = []
        try:
            for owner, name, stand_in in list(_stand_ins(lines)):
                undo.append(partial(setattr, owner, name, getattr(owner, name)))
                setattr(owner, name, stand_in)
            yield
        finally:
            for put_back in reversed(undo):
                put_back()


def _stand_ins(lines: _Lines) -> Iterator[tuple[Any, str, Any]]:
    yield threading, "Lock", make_lock
    yield threading, "RLock", make_rlock
    yield threading, "_allocate_lock", make_lock  # what Condition.wait, and so Event and Queue, wait on
    yield threading, "_time", told_time
    for name in ("_start_new_thread", "_start_joinable_thread"):  # the second since Python 3.13
        if hasattr(threading, name):
            yield threading, name, partial(_start, getattr(threading, name))
    yield queue, "time", told_time
    for module in list(sys.modules.values()):
        if (getattr(module, "__file__", None) or "?") in lines:
            yield from _locks_of(module)
            for thing in list(vars(module).values()):
                if isinstance(thing, type) and thing.__module__ == module.__name__:
                    yield from _locks_of(thing)


def _start(real: Callable[..., Any], *args: Any, **more: Any) -> Any:
    """Start a thread, but not from within an explored one: nobody could say when it runs."""
    if here.baton is not None:
        message = "an explored thread started one of its own, which no seed can order: return all threads as functions"
        raise ConfigurationError(message)
    return real(*args, **more)


def _locks_of(owner: Any) -> Iterator[tuple[Any, str, Any]]:
    everything: dict[str, Any] = dict(vars(owner))
    for name, value in everything.items():
        if type(value) is _LOCK:
            yield owner, name, CooperativeLock()
        elif type(value) is _RLOCK:
            yield owner, name, CooperativeRLock()
        elif (maker := _MAKERS.get(id(value))) is not None:
            yield owner, name, maker
