"""One bulkhead in threads, asyncio loops and trio runs at once: calls hold, wait, time out and are cancelled, and loops die in mid-wait.

Real threads, loops and time: what happens when is nobody's choice. What must be true at the end is the same every time.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from contextlib import contextmanager, suppress
from functools import partial
from random import Random
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from finresilience import BulkheadFullError, deadline
from finresilience.clock import SystemClock
from finresilience.cores.bulkhead import BulkheadCore
from finresilience.policies.bulkhead import Bulkhead
from tests.laws.sabotage import kills

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

STAYS = 100_000 if os.environ.get("FINRESILIENCE_DEEP") else 10_000
LIMIT, QUEUE, MAX_WAIT, LEASE = 4, 12, 0.004, 0.01
AT_ONCE = 8  # tasks of one loop
BOUND = 240.0  # real seconds for a worker; never reached


def unmourned(task: Any) -> None:
    """Let nobody complain that the task was never ended: that is the test."""
    task._log_destroy_pending = False


class Mix:
    """Counts who is inside, apart from the bulkhead, and what became of everybody."""

    def __init__(self, stays: int) -> None:
        self.policy = Bulkhead(LIMIT, queue=QUEUE, max_wait=MAX_WAIT, lease=LEASE, clock=SystemClock(), listeners=[])
        self.stays = stays
        self._lock = Lock()
        self.inside = self.most = 0
        self.ends: dict[str, int] = {}
        self.failures: list[BaseException] = []

    @contextmanager
    def counted(self) -> Generator[None]:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            yield
        finally:
            with self._lock:
                self.inside -= 1

    def ended(self, how: str) -> None:
        with self._lock:
            self.ends[how] = self.ends.get(how, 0) + 1

    # --- threads ---------------------------------------------------------------------------------------------------

    def in_thread(self, seed: int, many: int) -> None:
        chance = Random(seed)
        for _ in range(many):
            how = chance.choice(("guard", "guard", "call", "take", "hasty", "interrupted"))
            try:
                self._stay_in_thread(how, chance.randrange(3))
                self.ended(how)
            except BulkheadFullError as refusal:
                self.ended("late" if refusal.waited else "full")
            except KeyboardInterrupt:
                self.ended("interrupted")

    def _stay_in_thread(self, how: str, turns: int) -> None:
        def work() -> None:
            with self.counted():
                for _ in range(turns * 50):
                    pass
                if how == "interrupted":
                    raise KeyboardInterrupt

        if how == "take":
            hold = self.policy.take()
            if hold is not None:
                with self.counted():
                    pass
                self.policy.leave(hold)
                self.policy.leave(hold)  # once too often
        elif how == "call":
            self.policy.call(work)
        elif how == "hasty":
            with suppress(Exception), deadline(0.0005), self.policy.guard():
                work()
        else:
            with self.policy.guard():
                work()

    # --- loops -----------------------------------------------------------------------------------------------------

    def in_its_loop(self, seed: int, many: int, backend: str) -> None:
        anyio.run(self.in_loop, seed, many, backend=backend)

    async def in_loop(self, seed: int, many: int) -> None:
        chance = Random(seed)
        for _ in range(0, many, AT_ONCE):
            async with anyio.create_task_group() as tasks:
                for _ in range(AT_ONCE):
                    tasks.start_soon(self._stay_in_task, chance.randrange(4), chance.choice((None, None, 0, 1, 2, 5)))

    async def _stay_in_task(self, turns: int, cancelled_after: int | None) -> None:
        scope = anyio.CancelScope()

        async def stay() -> None:
            with scope:
                try:
                    async with self.policy.guard():
                        with self.counted():
                            for _ in range(turns):
                                await anyio.lowlevel.checkpoint()
                    self.ended("stayed")
                except BulkheadFullError as refusal:
                    self.ended("late" if refusal.waited else "full")
            if scope.cancelled_caught:
                self.ended("cancelled")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stay)
            if cancelled_after is not None:
                for _ in range(cancelled_after):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()

    # --- loops that die --------------------------------------------------------------------------------------------

    def in_dying_loops(self, seed: int, many: int) -> None:
        """Tasks come, hold and wait; then their loop is stopped, and closed or left lying about. The collector does the rest."""
        chance = Random(seed)
        for _ in range(0, many, AT_ONCE):
            loop = asyncio.new_event_loop()
            tasks = [loop.create_task(self._hold(chance.randrange(3))) for _ in range(AT_ONCE)]
            for task in tasks:
                unmourned(task)
            for _ in range(chance.randrange(1, 6)):
                loop.call_soon(loop.stop)
                loop.run_forever()
            if chance.random() < 0.3:  # it goes on after all
                loop.run_until_complete(asyncio.gather(*tasks))
            loop.close()
            self.ended("died")

    async def _hold(self, turns: int) -> None:
        with suppress(BulkheadFullError):
            async with self.policy.guard():
                with self.counted():
                    for _ in range(turns):
                        await asyncio.sleep(0)

    # --- all of it -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        part = self.stays // 8
        deeds: list[Any] = [partial(self.in_thread, seed, part) for seed in range(3)]
        deeds += [partial(self.in_its_loop, seed, part, loop) for loop in ("asyncio", "trio") for seed in (10, 11)]
        deeds.append(partial(self.in_dying_loops, 20, part))
        threads = [Thread(target=self._noted, args=(deed,), daemon=True) for deed in deeds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(BOUND)
        assert not any(thread.is_alive() for thread in threads), "somebody waits for ever"
        for failure in self.failures:
            raise failure

    def _noted(self, deed: Callable[[], object]) -> None:
        try:
            deed()
        except BaseException as failure:
            self.failures.append(failure)

    def check(self) -> None:
        gc.collect()
        assert self.inside == 0
        assert self.most <= LIMIT, f"{self.most} were inside"
        holds = [self.policy.enter() for _ in range(LIMIT)]  # a grant to the dead may still have to lapse
        assert self.policy.take() is None
        told = self.policy.statistics()
        assert (told["at_work"], told["let_in"], told["waiting"]) == (LIMIT, 0, 0)
        for hold in holds:
            self.policy.leave(hold)
        assert self.policy.core.idle


@pytest.fixture(autouse=True)
def many_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def law_no_place_is_lost_and_none_is_given_twice(stays: int = STAYS) -> Mix:
    mix = Mix(stays)
    mix.run()
    mix.check()
    return mix


def test_no_place_is_lost_and_none_is_given_twice_in_three_worlds_with_dying_loops() -> None:
    mix = law_no_place_is_lost_and_none_is_given_twice()
    told = mix.policy.statistics()
    assert mix.most == LIMIT
    assert all(mix.ends.get(how) for how in ("stayed", "cancelled", "guard", "call", "take", "interrupted", "died")), mix.ends
    assert told["waited"]
    assert told["refused_full"] or told["refused_late"]


def a_cancelled_grant_is_kept(patch: pytest.MonkeyPatch) -> None:
    leave = BulkheadCore.leave

    def leaks(self: BulkheadCore, now: float, *holds: object) -> None:
        for hold in holds:
            if hold in self.granted:
                self.inside.add("a ghost")
        leave(self, now, *holds)

    patch.setattr(BulkheadCore, "leave", leaks)


def places_are_counted(patch: pytest.MonkeyPatch) -> None:
    leave = Bulkhead.leave

    def counts(self: Bulkhead, hold: Any) -> None:
        if hold not in self.core.inside and type(hold) is object:
            self.core.limit += 1
        leave(self, hold)

    patch.setattr(Bulkhead, "leave", counts)


@pytest.mark.parametrize("saboteur", [a_cancelled_grant_is_kept, places_are_counted])
def test_the_mix_finds_the_saboteur(saboteur: Callable[[pytest.MonkeyPatch], None]) -> None:
    kills(saboteur, law_no_place_is_lost_and_none_is_given_twice, 800)
