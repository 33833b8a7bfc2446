"""Threads in an order that a seed decides."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from finresilience.clock import ruling_clock
from finresilience.errors import ConfigurationError
from finresilience.testing import BoundReachedError, CounterexampleError, ManualClock, baton, explore_threads, instant, threads

if TYPE_CHECKING:
    from pathlib import Path

    from finresilience.testing.stories import ThreadStory


def nothing() -> None: ...


def check_then_act() -> ThreadStory:
    owners: list[str] = []

    def claim(name: str) -> None:
        if not owners:
            owners.append(name)

    def only_one_wins() -> None:
        assert len(owners) == 1, owners

    return [partial(claim, "a"), partial(claim, "b")], only_one_wins


def check_then_act_under_a_lock() -> ThreadStory:
    owners: list[str] = []
    lock = threading.Lock()

    def claim(name: str) -> None:
        with lock:
            if not owners:
                owners.append(name)

    def only_one_wins() -> None:
        assert len(owners) == 1, owners

    return [partial(claim, "a"), partial(claim, "b")], only_one_wins


def count_in_one_line(many: int = 1) -> ThreadStory:
    total = [0]

    def count() -> None:
        for _ in range(many):
            total[0] += 1

    def none_is_lost() -> None:
        assert total == [2 * many]

    return [count, count], none_is_lost


def three_walkers() -> ThreadStory:
    trail: list[int] = []

    def walk(number: int) -> None:
        for _ in range(5):
            trail.insert(0, number)

    return [partial(walk, number) for number in range(3)], lambda: len(trail) == 15


# ---------------------------------------------------------------- laws


def finds_check_then_act() -> None:
    with pytest.raises(CounterexampleError):
        explore_threads(check_then_act, seeds=100)


def proves_nothing_wrong_of_a_lock() -> None:
    assert explore_threads(check_then_act_under_a_lock, seeds=100).schedules == 100


def repeats_itself() -> None:
    assert explore_threads(three_walkers, seeds=50).digest == explore_threads(three_walkers, seeds=50).digest


def sees_many_schedules() -> None:
    assert explore_threads(three_walkers, seeds=100).distinct > 90


def test_check_then_act_without_a_lock_is_found() -> None:
    finds_check_then_act()


def test_under_a_lock_the_same_lines_are_safe() -> None:
    proves_nothing_wrong_of_a_lock()


def test_one_seed_is_one_schedule() -> None:
    repeats_itself()


def test_nearly_every_seed_is_another_schedule() -> None:
    sees_many_schedules()


class Claims:
    """A scenario as an object."""

    def __call__(self) -> ThreadStory:
        return check_then_act()


@pytest.mark.parametrize(
    "scenario", [check_then_act, partial(check_then_act), Claims(), Claims().__call__], ids=["plain", "partial", "object", "method"]
)
def test_it_looks_into_the_file_of_the_scenario_however_that_is_called(scenario: Any) -> None:
    with pytest.raises(CounterexampleError):
        explore_threads(scenario, seeds=100)


def test_a_scenario_without_source_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not written in Python"):
        explore_threads(dict)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - the wrong use under test


def test_between_lines_a_line_is_one_step() -> None:
    assert explore_threads(count_in_one_line, seeds=200).schedules == 200


def test_between_bytecodes_it_is_not() -> None:
    with pytest.raises(CounterexampleError) as caught:
        explore_threads(count_in_one_line, seeds=200, opcodes=True)
    assert caught.value.replay == f"explore_threads(count_in_one_line, seeds=[{caught.value.seed}], opcodes=True)"


@pytest.mark.parametrize("opcodes", [False, True])
@pytest.mark.parametrize("hashes", ["1", "2"])
def test_another_process_with_other_hashes_explores_the_same(hashes: str, opcodes: bool) -> None:
    """Also with code that was traced before, here, and code that never was, there."""
    explore_threads(three_walkers, seeds=1, opcodes=opcodes)
    walk = f"explore_threads(three_walkers, seeds=20, opcodes={opcodes})"
    program = f"from tests.testing.test_explore_threads import *; print({walk}.digest, end='')"
    environment = {**os.environ, "PYTHONHASHSEED": hashes}
    told = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True, text=True)
    assert told.stdout == explore_threads(three_walkers, seeds=20, opcodes=opcodes).digest


@pytest.mark.parametrize("opcodes", [False, True])
def test_the_last_line_of_a_failure_replays_it(opcodes: bool) -> None:
    with pytest.raises(CounterexampleError) as caught:
        explore_threads(check_then_act, seeds=100, opcodes=opcodes)
    line = str(caught.value).splitlines()[-1]
    assert line.startswith("replay: ")
    for _ in range(20):
        with pytest.raises(CounterexampleError) as again:
            eval(line.removeprefix("replay: "), {"explore_threads": explore_threads, "check_then_act": check_then_act})
        assert (str(again.value), again.value.schedule) == (str(caught.value), caught.value.schedule)


def test_a_module_of_ones_own_is_explored_if_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.Lock
    module = ModuleType("ledger")
    module.__file__ = str(tmp_path / "ledger.py")
    program = """
        import threading
        from threading import Lock, RLock
        lock, reentrant, owners = threading.Lock(), threading.RLock(), []
        class Till:
            guard = threading.Lock()
        def claim(name):
            if not owners:
                owners.append(name)
        def claim_under_lock(name):
            with lock, reentrant, Till.guard, Lock(), RLock():
                claim(name)
    """
    exec(compile(textwrap.dedent(program), module.__file__, "exec"), vars(module))
    monkeypatch.setitem(sys.modules, "ledger", module)

    def scenario(claim: Any) -> ThreadStory:
        module.owners.clear()
        return [partial(claim, "a"), partial(claim, "b")], lambda: len(module.owners) == 1

    unlocked, locked = partial(scenario, module.claim), partial(scenario, module.claim_under_lock)
    assert explore_threads(unlocked, seeds=100).schedules == 100  # nobody looks into it
    with pytest.raises(CounterexampleError, match=r"modules=\[ledger\]\)"):
        explore_threads(unlocked, seeds=100, modules=[module])
    assert explore_threads(locked, seeds=100, modules=[module]).schedules == 100
    assert module.lock.acquire(blocking=False)  # the real ones are back
    assert module.Till.guard.acquire(blocking=False)
    assert module.Lock is before


def test_sleeps_of_a_manual_clock_pass_at_once() -> None:
    def scenario() -> ThreadStory:
        clock = ManualClock()
        return [partial(clock.sleep_sync, 5), partial(clock.sleep_sync, 7)], lambda: clock.monotonic() == 12.0

    assert explore_threads(scenario, seeds=20).schedules == 20


def test_the_ruling_clock_rules_in_explored_threads_too() -> None:
    def scenario() -> ThreadStory:
        return [lambda: ruling_clock().sleep_sync(3600)], nothing

    with instant() as clock:
        explore_threads(scenario, seeds=5)
    assert clock.waits == [3600.0] * 5


# ---------------------------------------------------------------- where a thread may be stopped


def traced(file: str, name: str = "claim", back: str = "body") -> bool:
    lines = threads._Lines(three_walkers, [], opcodes=True)
    frame: Any = SimpleNamespace(
        f_code=SimpleNamespace(co_filename=file, co_name=name), f_back=SimpleNamespace(f_code=SimpleNamespace(co_name=back))
    )
    return lines.on_call(frame, "call", None) is not None and frame.f_trace_opcodes


def test_it_stops_in_the_scenarios_file_and_in_the_house_only() -> None:
    assert traced(__file__)
    assert traced(str(baton.__file__).replace("testing", "policies"))
    assert not traced(str(baton.__file__))
    assert not traced(str(threading.__file__))


def test_it_does_not_stop_while_a_module_is_imported() -> None:
    assert not traced(__file__, name="<module>")
    assert not traced(__file__, back="<module>")


def test_lines_of_other_threads_are_nobodys_moment() -> None:
    trace: Any = threads._on_line
    assert trace(None, "line", None) is trace
    assert trace(None, "return", None) is trace


# ---------------------------------------------------------------- failures and wrong use


@pytest.mark.parametrize("error", [ValueError("broken"), KeyError("x"), SystemExit(3)], ids=repr)
def test_a_thread_that_raises_is_a_counterexample(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(CounterexampleError, match=type(error).__name__) as caught:
        explore_threads(lambda: ([fail, nothing, nothing], nothing))
    assert caught.value.__cause__ is error


def test_a_check_that_returns_false_is_a_counterexample() -> None:
    with pytest.raises(CounterexampleError, match="returned False"):
        explore_threads(lambda: ([nothing], lambda: False))


def test_after_a_failure_no_thread_is_left() -> None:
    before = set(threading.enumerate())  # threads of earlier tests may end meanwhile
    for _ in range(20):
        with pytest.raises(CounterexampleError):
            explore_threads(check_then_act)
    assert set(threading.enumerate()) <= before


def test_a_thread_that_stands_still_is_told_with_its_line() -> None:
    real = threading.Lock()  # made outside the scenario: it knows of no baton
    real.acquire()

    def scenario() -> ThreadStory:
        return [real.acquire], nothing

    def scenario_in_a_line() -> ThreadStory:
        def stands_still() -> None:
            real.acquire()

        return [stands_still], nothing

    with pytest.raises(BoundReachedError, match=r"thread 0 of scenario stood still for 0.01 real seconds at \?, seed 0"):
        explore_threads(scenario, patience=0.01)
    with pytest.raises(BoundReachedError, match=r"at test_explore_threads.py:\d+, seed 0. If it waits for a lock, make that lock inside"):
        explore_threads(scenario_in_a_line, patience=0.01)
    for thread in threading.enumerate():
        if thread.name.startswith("explored"):
            real.release()
            thread.join()
            real.acquire(blocking=False)


@pytest.mark.parametrize(
    ("scenario", "why"),
    [
        (lambda: None, "returned nothing"),
        (lambda: ([7], nothing), "a thread must be a function, not a int"),
        (lambda: ([nothing], None), "check"),
    ],
    ids=["nothing", "number", "check"],
)
def test_what_is_not_a_scenario_is_refused_with_a_way_out(scenario: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        explore_threads(scenario)


@pytest.mark.parametrize("wrong", [{"seeds": 0}, {"seeds": []}, {"patience": 0}, {"modules": ["ledger"]}, {"modules": [sys]}], ids=str)
def test_wrong_arguments_are_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        explore_threads(three_walkers, **wrong)


# ---------------------------------------------------------------- the saboteurs


class Lockstep(baton.Baton):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues] - a saboteur may break what is final
    """It runs each thread to its end."""

    def moment(self, number: int) -> None:
        self.moments += 1


class Unseeded(baton.Baton):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues] - a saboteur may break what is final
    """It takes its luck from somewhere else."""

    luck = iter(range(1_000_000))

    def __init__(self, seed: int, threads: int, most: int) -> None:
        super().__init__(next(self.luck), threads, most)


def never_blocks(lock: Any, *_: Any, **__: Any) -> bool:
    """It lets everybody through."""
    lock._inner.acquire(False)
    return True


@pytest.mark.parametrize(
    ("law", "owner", "name", "saboteur"),
    [
        (finds_check_then_act, threads, "Baton", Lockstep),
        (sees_many_schedules, threads, "Baton", Lockstep),
        (repeats_itself, threads, "Baton", Unseeded),
        (proves_nothing_wrong_of_a_lock, baton.CooperativeLock, "acquire", never_blocks),
    ],
    ids=["race", "many", "repeat", "lock"],
)
def test_the_law_is_awake(law: Any, owner: Any, name: str, saboteur: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, name, saboteur)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        law()
