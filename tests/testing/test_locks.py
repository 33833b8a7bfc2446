"""Locks, and what is built on them, in explored threads: as ever, but nobody blocks with the baton in hand."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

import pytest

from finresilience.testing import CounterexampleError, explore_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.testing.stories import ThreadStory


pytestmark = pytest.mark.usefixtures("grain")


def nothing(*_: object) -> None: ...


def proven(scenario: Callable[[], ThreadStory], seeds: int = 60) -> None:
    assert explore_threads(scenario, seeds=seeds).schedules == seeds


@pytest.mark.parametrize("make", ["Lock", "RLock", "Semaphore", "Condition"])
def test_only_one_is_inside(make: str) -> None:
    def scenario() -> ThreadStory:
        lock, inside, most = getattr(threading, make)(), list[int](), [0]

        def enter(number: int) -> None:
            for _ in range(3):
                with lock:
                    inside.append(number)
                    most[0] = max(most[0], len(inside))
                    inside.remove(number)

        return [partial(enter, number) for number in range(3)], lambda: most == [1]

    proven(scenario)


def test_a_semaphore_of_two_lets_two_in() -> None:
    seen: set[int] = set()

    def scenario() -> ThreadStory:
        semaphore, other, inside = threading.Semaphore(2), threading.Lock(), [0]

        def enter() -> None:
            with semaphore:
                inside[0] += 1
                with other:
                    seen.add(inside[0])
                inside[0] -= 1

        return [enter] * 3, nothing

    proven(scenario)
    assert seen == {1, 2}


def test_an_rlock_may_be_taken_again_by_its_owner_only() -> None:
    def scenario() -> ThreadStory:
        lock, seen = threading.RLock(), list[int]()

        def nest(number: int) -> None:
            with lock, lock:
                assert lock._is_owned()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue] - Condition asks for it
                seen.extend((number, number))

        return [partial(nest, number) for number in range(3)], lambda: all(seen[n] == seen[n + 1] for n in (0, 2, 4))

    proven(scenario)


def test_what_nobody_owns_cannot_be_given_back() -> None:
    def scenario() -> ThreadStory:
        lock = threading.RLock()
        return [lock.release], nothing

    with pytest.raises(CounterexampleError, match="cannot release un-acquired lock"):
        explore_threads(scenario)


def test_to_try_a_lock_blocks_nobody() -> None:
    tries: set[bool] = set()

    def scenario() -> ThreadStory:
        lock, reentrant, other = threading.Lock(), threading.RLock(), threading.Lock()

        def attempt() -> None:
            for one in (lock, reentrant):
                got = one.acquire(blocking=False)
                tries.add(got)
                with other:  # here others may try
                    pass
                if got:
                    one.release()

        return [attempt] * 3, lambda: not lock.locked()

    proven(scenario)
    assert tries == {True, False}


def test_a_timed_wait_runs_out_on_the_runs_own_time() -> None:
    def scenario() -> ThreadStory:
        lock, waits = threading.Lock(), list[float]()
        lock.acquire()

        def wait(seconds: float) -> None:
            assert not lock.acquire(timeout=seconds)
            waits.append(seconds)

        return [partial(wait, 3600), partial(wait, 60), partial(wait, 600)], lambda: waits == [60, 600, 3600]

    proven(scenario)


def test_a_lock_taken_over_and_over_does_not_prolong_a_timed_wait() -> None:
    def scenario() -> ThreadStory:
        lock, never, at = threading.Lock(), threading.Event(), list[float]()

        def hog() -> None:
            for _ in range(10):
                with lock:
                    never.wait(7)  # the time of the run moves on by this

        def wait() -> None:
            if not lock.acquire(timeout=25):
                at.append(threading._time())  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue] - the run's time
            else:
                lock.release()

        return [hog, wait], lambda: at in ([], [25.0])

    proven(scenario, seeds=200)


def test_a_condition_wakes_who_waits() -> None:
    def scenario() -> ThreadStory:
        condition, items, taken = threading.Condition(), list[int](), list[int]()

        def take() -> None:
            with condition:
                condition.wait_for(lambda: items)
                taken.append(items.pop())

        def put() -> None:
            for number in range(2):
                with condition:
                    items.append(number)
                    condition.notify()

        return [take, take, put], lambda: sorted(taken) == [0, 1]

    proven(scenario)


def test_a_condition_waits_no_longer_than_it_is_told() -> None:
    def scenario() -> ThreadStory:
        condition, told = threading.Condition(), list[object]()

        def wait() -> None:
            with condition:
                told.append(condition.wait_for(lambda: False, timeout=3600))

        return [wait, wait], lambda: told == [False, False]

    proven(scenario)


def test_a_nested_rlock_is_given_up_whole_while_a_condition_waits() -> None:
    def scenario() -> ThreadStory:
        condition, ready = threading.Condition(), list[int]()

        def wait() -> None:
            with condition, condition:
                while not ready:
                    condition.wait()
                assert condition._is_owned()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue] - of Condition

        def wake() -> None:
            with condition:
                ready.append(1)
                condition.notify_all()

        return [wait, wake], nothing

    proven(scenario)


def test_an_event_lets_all_go_on() -> None:
    def scenario() -> ThreadStory:
        event, seen = threading.Event(), list[str]()

        def wait() -> None:
            assert event.wait()
            seen.append("waited")

        def tell() -> None:
            seen.append("told")
            event.set()

        return [wait, wait, tell], lambda: seen == ["told", "waited", "waited"]

    proven(scenario)


def test_a_queue_keeps_its_order_and_its_size() -> None:
    def scenario() -> ThreadStory:
        line, got = queue.Queue[int](maxsize=1), list[int]()

        def put() -> None:
            for number in range(4):
                line.put(number)

        def get() -> None:
            for _ in range(4):
                got.append(line.get())

        return [put, get], lambda: got == [0, 1, 2, 3]

    proven(scenario)


def test_an_empty_queue_is_waited_for_no_longer_than_told() -> None:
    def scenario() -> ThreadStory:
        line = queue.Queue[int]()

        def get() -> None:
            with pytest.raises(queue.Empty):
                line.get(timeout=3600)

        return [get, get], nothing

    proven(scenario)


def test_a_future_hands_its_result_over() -> None:
    def scenario() -> ThreadStory:
        future, got = Future[int](), list[int]()
        return [lambda: future.set_result(7), lambda: got.append(future.result())], lambda: got == [7]

    proven(scenario)


def test_locks_taken_crosswise_are_found_as_a_deadlock() -> None:
    def scenario() -> ThreadStory:
        one, other = threading.Lock(), threading.Lock()

        def both(first: threading.Lock, second: threading.Lock) -> None:
            with first, second:
                pass

        return [partial(both, one, other), partial(both, other, one)], nothing

    with pytest.raises(CounterexampleError, match="deadlock: thread 0 and thread 1 wait for locks that nobody will release"):
        explore_threads(scenario)


def test_when_one_fails_those_who_wait_are_let_go() -> None:
    before = set(threading.enumerate())  # threads of earlier tests may end meanwhile

    def scenario() -> ThreadStory:
        lock, event = threading.RLock(), threading.Event()

        def fail() -> None:
            with lock:
                event.set()
                raise ValueError("broken")

        def wait() -> None:
            event.wait()
            with lock:
                pass

        return [wait, fail, wait], nothing

    for seed in range(30):
        with pytest.raises(CounterexampleError, match="broken"):
            explore_threads(scenario, seeds=[seed])
    assert set(threading.enumerate()) <= before
