"""The baton at its edges: bounds, abandoned runs, and locks outside any exploration."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from finresilience.errors import ConfigurationError
from finresilience.testing import BoundReachedError, CounterexampleError, explore_threads, threads
from finresilience.testing.baton import Baton, CooperativeLock, CooperativeRLock, make_lock, make_rlock, told_time

if TYPE_CHECKING:
    from finresilience.testing.stories import ThreadStory

pytestmark = pytest.mark.usefixtures("grain")


def nothing() -> None: ...


def test_a_thread_that_never_ends_meets_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_MOST", 1_000)

    def scenario() -> ThreadStory:
        lock = threading.Lock()

        def poll() -> None:
            while True:
                with lock:
                    pass

        return [poll, nothing], nothing

    with pytest.raises(BoundReachedError, match=r"more than 1,000 moments: with seed 0, scenario proves nothing"):
        explore_threads(scenario)


def test_a_thread_of_a_threads_own_is_refused() -> None:
    def scenario() -> ThreadStory:
        return [lambda: threading.Thread(target=nothing).start()], nothing

    with pytest.raises(ConfigurationError, match="return all threads as functions"):
        explore_threads(scenario)


def test_each_line_is_a_moment() -> None:
    trace: Any = threads._on_line

    def scenario() -> ThreadStory:
        def lines() -> None:
            for event in ("line", "opcode", "return") * 5:
                trace(None, event, None)

        return [lines, lines], nothing

    assert explore_threads(scenario, seeds=60).distinct > 40


def test_a_run_is_abandoned_once() -> None:
    run, first = Baton(1, 3, 100), ValueError("first")
    run.start()
    run.abandon(first)
    run.abandon(ValueError("second"))
    assert run.failure is first
    assert not any(gate.locked() for gate in run._gates)


# ---------------------------------------------------------------- outside an exploration


@pytest.mark.parametrize("make", [CooperativeLock, CooperativeRLock])
def test_elsewhere_such_a_lock_is_a_plain_one(make: Any) -> None:
    lock, taken = make(), list[bool]()
    with lock:
        thread = threading.Thread(target=lambda: taken.append(lock.acquire(timeout=0.001)))
        thread.start()
        thread.join()
    assert taken == [False]
    lock._at_fork_reinit()
    assert lock.acquire(blocking=False)


@pytest.mark.parametrize("make", [CooperativeLock, CooperativeRLock])
def test_a_fork_renews_a_lock_that_was_taken(make: Any) -> None:
    lock, taken = make(), list[bool]()
    lock.acquire()
    lock._at_fork_reinit()
    thread = threading.Thread(target=lambda: taken.append(lock.acquire(blocking=False)))
    thread.start()
    thread.join()
    assert taken == [True]


def test_the_stand_ins_make_real_locks_for_everybody_else() -> None:
    assert type(make_lock()) is type(threading.Lock())
    assert type(make_rlock()) is type(threading.RLock())
    assert time.monotonic() <= told_time() <= time.monotonic()


def test_after_an_exploration_all_is_as_before() -> None:
    start = "_start_new_thread" if hasattr(threading, "_start_new_thread") else "_start_joinable_thread"  # since Python 3.13
    names = ("Lock", "RLock", "_allocate_lock", "_time", start)
    before = [vars(threading)[name] for name in names]
    with pytest.raises(CounterexampleError):
        explore_threads(lambda: ([threading.Lock().release], nothing))
    assert [vars(threading)[name] for name in names] == before
