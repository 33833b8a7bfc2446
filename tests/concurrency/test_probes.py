"""Probes of one circuit, asked for by threads and loops at once: each thread may be stopped between any two lines."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
import trio
import trio._core._run

from finresilience import CircuitOpenError, Event, LateResult
from finresilience.testing import CounterexampleError, explore_threads
from tests.concurrency.circuits import SEEDS, breaker, half_open, places
from tests.laws.sabotage import a_cancelled_call_keeps_its_permit, probes_are_unlimited
from tests.laws.worlds import Down, No, still

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from finresilience.testing.stories import ThreadStory

trio_run: Any = trio._core._run
LUCK = Random(1)


@pytest.fixture(autouse=True)
def _nothing_but_the_seed_decides(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
    monkeypatch.setattr(trio_run, "_r", LUCK)
    gc.collect()
    gc.disable()  # what it sweeps up tells our modules so, at a moment that no seed decides
    yield
    gc.enable()


def five_callers_at_two_places() -> ThreadStory:
    policy, _ = half_open(2)
    inside, most, passed = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, passed
        inside, passed = inside + 1, passed + 1
        most = max(most, inside)
        inside -= 1

    def caller() -> None:
        with suppress(CircuitOpenError):
            policy.call(work)

    def two_passed_and_it_closed() -> None:
        assert most <= 2
        assert policy.state == "closed"
        stats = policy.statistics()
        assert (stats["succeeded"], stats["refused"]) == (passed, 5 - passed)

    return [caller] * 5, two_passed_and_it_closed


def callers_that_go_away() -> ThreadStory:
    """Three probes are interrupted inside; whatever the order, both places are free again."""
    policy, clock = half_open(2)

    def work() -> None:
        raise KeyboardInterrupt

    def caller() -> None:
        with suppress(CircuitOpenError, KeyboardInterrupt):
            policy.call(work)

    def no_place_is_lost() -> None:
        assert policy.state == "half_open"
        assert places(policy, clock) == 2

    return [caller] * 3, no_place_is_lost


def calls_of_every_kind() -> ThreadStory:
    """Good, bad, declined and refused calls through the same guarded function; every one is counted, once."""
    heard: list[Event] = []
    clock = still()
    policy = breaker(clock, heard, consecutive_failures=2, half_open_calls=1)
    made: dict[str, int] = {"ok": 0, "down": 0, "no": 0, "refused": 0}

    @policy
    def work(kind: str) -> None:
        if kind == "down":
            raise Down
        if kind == "no":
            raise No

    def caller(*kinds: str) -> Callable[[], None]:
        def body() -> None:
            for kind in kinds:
                try:
                    work(kind)
                    end = "ok"
                except (Down, No):
                    end = kind
                except CircuitOpenError:
                    end = "refused"
                made[end] += 1
                clock.advance(4)

        return body

    def every_call_is_counted_once() -> None:
        stats = policy.statistics()
        late = [event.succeeded for event in heard if isinstance(event, LateResult)]
        assert stats["succeeded"] == made["ok"] + made["no"] - late.count(True)
        assert stats["failed"] == made["down"] - late.count(False)
        assert (stats["refused"], stats["late"]) == (made["refused"], len(late))

    return [caller("down", "ok", "down"), caller("down", "down"), caller("no", "ok", "ok")], every_call_is_counted_once


def three_kinds_of_callers() -> ThreadStory:
    """Two places; a thread, a loop of asyncio's and one of trio's ask for them, and some are cancelled inside."""
    LUCK.seed(1)
    policy, clock = half_open(2)
    inside, most = 0, 0

    async def work() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        try:
            await anyio.lowlevel.checkpoint()
        finally:
            inside -= 1

    async def cancelled_and_then_not() -> None:
        guarded = policy(work)
        with anyio.CancelScope() as scope:
            scope.cancel()
            with suppress(CircuitOpenError):
                await guarded()
        with suppress(CircuitOpenError):
            await guarded()

    def thread() -> None:
        with suppress(CircuitOpenError), policy.guard():
            pass

    def nothing_is_lost() -> None:
        assert most <= 2
        assert inside == 0
        if policy.state == "half_open":  # one voted, the other was cancelled: one place is free
            assert places(policy, clock) == 2 - int(str(policy.statistics()["succeeded"]))
        else:
            assert policy.state == "closed"

    return [thread, lambda: asyncio.run(cancelled_and_then_not()), lambda: trio.run(cancelled_and_then_not)], nothing_is_lost


STORIES: dict[str, Callable[[], ThreadStory]] = {
    "five callers at two places": five_callers_at_two_places,
    "callers that go away": callers_that_go_away,
    "calls of every kind": calls_of_every_kind,
    "three kinds of callers": three_kinds_of_callers,
}


@pytest.mark.parametrize("story", STORIES)
def test_every_permit_probe_and_count_stays_true_in(story: str) -> None:
    assert explore_threads(STORIES[story], seeds=SEEDS).distinct > SEEDS * 0.9  # or the seeds all told the same story


@pytest.mark.parametrize("story", STORIES)
def test_the_same_seeds_tell_again(story: str) -> None:
    assert explore_threads(STORIES[story], seeds=5).digest == explore_threads(STORIES[story], seeds=5).digest


@pytest.mark.parametrize(
    ("saboteur", "story"),
    [
        (probes_are_unlimited, "five callers at two places"),
        (a_cancelled_call_keeps_its_permit, "callers that go away"),
        (a_cancelled_call_keeps_its_permit, "three kinds of callers"),
    ],
)
def test_a_saboteur_is_found_out(monkeypatch: pytest.MonkeyPatch, saboteur: Callable[[pytest.MonkeyPatch], None], story: str) -> None:
    saboteur(monkeypatch)
    with pytest.raises(CounterexampleError) as caught:
        explore_threads(STORIES[story], seeds=SEEDS)
    assert isinstance(caught.value.__cause__, AssertionError)
