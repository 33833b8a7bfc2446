"""How are two ways to do a job compared on a noisy machine with a server on it? In interleaved rounds; a ratio is the median over them.

As in `benchmarks.harness`, each contestant runs once a round, in a fresh order, and its ratio in that round is to the others of that
round. Here it is wall time that counts, for half of the work is the server's, and rates are told: more is better. Beside them stands
what the client's process spent, which says the same on a busy machine as on an idle one. Every run is checked afterwards: whoever did
not do the whole job is reported as broken, not as fast.
"""

from __future__ import annotations

import gc
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks.harness import why

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PROOF: Final = 200  # rows of the run before the first round, which warms up, proves and tells the pace


class Contestant:
    """One way to do a job of so many rows or calls. Only `run` is on the clock."""

    async def open(self) -> None:
        """Connect, and make tables."""

    async def fill(self, n: int) -> None:
        """Lay out what `run` will work on."""

    async def run(self, n: int) -> float | None:
        """Do it; return when it was done, by `time.perf_counter`, if that was before this returns."""
        raise NotImplementedError

    async def check(self, n: int) -> None:
        """Raise unless it was done."""

    async def close(self) -> None:
        """Leave."""


@dataclass(frozen=True, slots=True)
class Goal:
    """That a contestant's rate is at least so many times another's, or that of the fastest of several."""

    who: str
    to: tuple[str, ...]
    least: float
    named: str = ""  # what to call several

    @property
    def base(self) -> str:
        return self.named or self.to[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """One table: who does the job, and what we promise."""

    name: str
    base: str  # whose rate is 1.00
    contestants: Mapping[str, Callable[[], Contestant]]
    goals: Sequence[Goal] = ()
    rows: int | None = None  # of a run; None for as many as fill a sample
    fewer: Mapping[str, int] = field(default_factory=dict[str, int])  # rows of those that are slow


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to measure one contest."""

    seconds: float
    least: int = 3
    most: int = 31
    sample: float = 0.15  # seconds of one run, where the contest does not say how many rows


@dataclass(slots=True)
class Result:
    """Rates by contestant and round; and who could not run, and why."""

    rates: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    absent: dict[str, str] = field(default_factory=dict[str, str])
    spent: dict[str, float] = field(default_factory=dict[str, float])  # microseconds of the client's processor for a row: the least seen

    def rate(self, name: str) -> float:
        return median(self.rates[name])

    def ratio(self, name: str, base: str) -> float:
        return median(own / other for own, other in zip(self.rates[name], self.rates[base], strict=True))

    def kept(self, goal: Goal) -> tuple[str, float] | None:
        """Return whom the contestant was compared with, and the ratio; None if one of them was not there."""
        there = [name for name in goal.to if name in self.rates]
        if not there or goal.who not in self.rates:
            return None
        fastest = max(there, key=self.rate)
        return fastest, self.ratio(goal.who, fastest)


@dataclass(slots=True)
class _Running:
    contestant: Contestant
    rows: int = PROOF
    rates: list[float] = field(default_factory=list[float])
    spent: float = float("inf")

    async def once(self, clock: Callable[[], float]) -> float:
        """Return the rows a second of one run, which is then checked."""
        await self.contestant.fill(self.rows)
        gc.collect()
        busy, started = time.process_time(), clock()
        done = await self.contestant.run(self.rows)
        took = (clock() if done is None else done) - started
        self.spent = min(self.spent, (time.process_time() - busy) / self.rows * 1e6)
        await self.contestant.check(self.rows)
        return self.rows / took


async def race(contest: Contest, pace: Pace, clock: Callable[[], float] = time.perf_counter) -> Result:
    """Run everybody that can run, in turns, for about so long."""
    result = Result()
    running: dict[str, _Running] = {}
    try:
        for name, build in contest.contestants.items():
            await _enrolled(name, build, contest, pace, running, result, clock)
        await _rounds(running, pace, result, clock)
    finally:
        for each in running.values():
            with suppress(Exception):  # who could not open may not be able to close
                await each.contestant.close()
    result.rates = {name: each.rates for name, each in running.items() if name not in result.absent}
    result.spent = {name: running[name].spent for name in result.rates}
    return result


async def _enrolled(
    name: str,
    build: Callable[[], Contestant],
    contest: Contest,
    pace: Pace,
    running: dict[str, _Running],
    result: Result,
    clock: Callable[[], float],
) -> None:
    """See that it does what it should, and find its pace."""
    try:
        each = _Running(build())
        running[name] = each
        await each.contestant.open()
        await each.once(clock)  # which connects
        rate = await each.once(clock)
        each.spent = float("inf")
        each.rows = contest.fewer.get(name, contest.rows or max(PROOF, int(rate * pace.sample)))
    except Exception as error:
        result.absent[name] = why(error)


async def _rounds(running: Mapping[str, _Running], pace: Pace, result: Result, clock: Callable[[], float]) -> None:
    order, shuffle = list(running), random.Random(len(running)).shuffle
    until, done = clock() + pace.seconds, 0
    while done < pace.least or (done < pace.most and clock() < until):
        done += 1
        shuffle(order)
        for name in order:
            if name not in result.absent:
                try:
                    running[name].rates.append(await running[name].once(clock))
                except Exception as error:
                    result.absent[name] = why(error)
