"""A deadlock is known by who waits where: what is shrunk, or told of threads, is the one that was found and no other."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience.testing import CounterexampleError, DeadlockError, case, explore, explore_threads, run_virtual, turn

if TYPE_CHECKING:
    from finresilience.testing.stories import ThreadStory

both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


async def two_ways_to_hang() -> None:
    """Hang on the ledger where its turn comes late, which takes a schedule, and on the cash book in any other case."""
    ledger, cash, late = anyio.Event(), anyio.Event(), []

    async def slow() -> None:
        for _ in range(3):
            await turn()
        late.append("slow")

    async def book() -> None:
        for _ in range(3):
            await turn()
        if late:
            await ledger.wait()
        else:
            await cash.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(slow)
        group.start_soon(book)


def place_of(failure: BaseException) -> str:
    [line] = [line for line in str(failure).splitlines() if "Waiting: " in line]
    return line


def first_found(backend: Any, seed: int) -> str:
    with pytest.raises(CounterexampleError) as caught:
        explore(two_ways_to_hang, seeds=[seed], backend=backend)
    return place_of(caught.value)


def seen_before_it_is_shrunk(backend: Any, seed: int, monkeypatch: pytest.MonkeyPatch) -> str:
    with monkeypatch.context() as patch:
        patch.setattr(case, "_LONG", -1)  # a tape that is longer is not shrunk
        return first_found(backend, seed)


@both
def test_a_deadlock_that_is_shrunk_is_the_one_that_was_found(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {seed: seen_before_it_is_shrunk(backend, seed, monkeypatch) for seed in range(10)}
    assert len(set(found.values())) == 2  # both were met, so that one could be taken for the other
    assert {seed: first_found(backend, seed) for seed in found} == found


@both
def test_a_shrinker_that_takes_all_deadlocks_for_one_would_be_found_out(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {seed: seen_before_it_is_shrunk(backend, seed, monkeypatch) for seed in range(10)}
    sign_of: Any = case._sign_of

    def of_lines_alone(failure: BaseException) -> object:
        return sign_of(failure)[:3]

    monkeypatch.setattr(case, "_sign_of", of_lines_alone)
    assert {seed: first_found(backend, seed) for seed in found} != found


@both
def test_one_deadlock_met_twice_is_one(backend: Any) -> None:
    async def waits() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.Event().wait, name="the clerk")
            await anyio.Event().wait()

    told: list[frozenset[str]] = []
    for _ in range(2):
        with pytest.raises(DeadlockError) as caught:
            run_virtual(waits, backend=backend)
        told.append(caught.value.places)
    assert told[0] == told[1]
    assert any(place.startswith("the clerk at ") for place in told[0])


def crossed() -> ThreadStory:
    left, right = threading.Lock(), threading.Lock()

    def leftwards() -> None:
        with right, left:
            pass

    def rightwards() -> None:
        with left, right:
            pass

    return [leftwards, rightwards], lambda: None


def test_a_deadlock_of_threads_tells_where_each_stood() -> None:
    with pytest.raises(CounterexampleError, match="deadlock: thread 0 and thread 1") as caught:
        explore_threads(crossed)
    assert caught.match(r"thread 0 stood at test_deadlocks_apart.py:\d+ \(leftwards\); thread 1 stood at .*:\d+ \(rightwards\)")
