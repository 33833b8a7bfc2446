"""How is a cost measured on a noisy machine? In one interleaved race per scenario; a ratio is the median over its rounds.

In each round every contestant runs once, in a fresh order, for about as long as the others. Its ratio in that round is to the floor
of that round, so that a machine that slows down for a second slows both sides. Samples are in CPU time of the thread where the clock
is fine enough, so that a busy neighbour costs nothing, and with the garbage collector off.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.loops import Call, Loop, Runtime, answers

if TYPE_CHECKING:
    from collections.abc import Generator

Build = Callable[[Call], Call]  # a function in, the same function guarded out
FLOOR, OURS = "floor", "ours"
SAMPLE = 0.012  # seconds


class Unsupported(Exception):  # noqa: N818 - an answer, not an error
    """This contestant has no such thing; the message says why."""


# ---------------------------------------------------------------- a race


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One row of a table: who runs, on what, by which loop, and what we promise."""

    group: str
    name: str
    work: Call
    floor: Build
    ours: Build
    peers: Mapping[str, Build] = field(default_factory=dict)
    runtime: Runtime
    loop: Loop
    our_loop: Loop | None = None  # where ours is called in another way
    expect: Callable[[object], bool] = answers
    goal: float | None = None
    goal_to_fastest_peer: float | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to measure."""

    sample: float  # seconds for each
    rounds: int

    @classmethod
    def within(cls, seconds: float, scenarios: Sequence[Scenario]) -> Pace:
        """Fit the races into the time: first by fewer rounds, down to 7, then by shorter samples."""
        contestants = sum(len(scenario.peers) + 2 for scenario in scenarios)
        each = seconds / max(1, contestants) / 1.3  # the rest goes into warm-up, calibration and the turns of the loop
        rounds = max(7, min(15, int(each / SAMPLE)))
        return cls(max(0.001, min(SAMPLE, each / rounds)), rounds)


@dataclass(slots=True)
class Race:
    """Nanoseconds a call, by contestant and round; and who could not run, and why."""

    samples: dict[str, list[float]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def ns(self, name: str) -> float:
        return median(self.samples[name])

    def ratio(self, name: str, base: str = FLOOR) -> float:
        return median(own / floor for own, floor in zip(self.samples[name], self.samples[base], strict=True))

    def peers(self, base: str = FLOOR) -> dict[str, float]:
        """Return the peers' ratios, fastest first."""
        ratios = {name: self.ratio(name, base) for name in self.samples if name not in {FLOOR, OURS}}
        return dict(sorted(ratios.items(), key=lambda item: item[1]))


@dataclass(slots=True)
class _Contestant:
    call: Call
    loop: Loop
    runtime: Runtime
    expect: Callable[[object], bool]
    calls: int = 0
    body: Call = field(init=False)

    def __post_init__(self) -> None:
        self.body = self.loop.own()

    def proved(self) -> None:
        seen = self.runtime.once(self.call, *self.loop.arguments)
        if not self.expect(seen):
            raise RuntimeError(f"expected that the call {self.expect.__name__}, but saw {seen!r}")

    def sample(self) -> float:
        return self.runtime.sample(self.body, self.call, self.calls)

    def calibrate(self, seconds: float) -> None:
        """Find how many calls fill a sample."""
        self.calls = 20
        while (each := self.sample()) * self.calls < 5e5:  # half a millisecond
            self.calls *= 4
        self.calls = max(20, int(seconds * 1e9 / each))


def race(scenario: Scenario, pace: Pace) -> Race:
    """Run everybody that can run, in turns."""
    absent: dict[str, str] = {}
    running = _enrolled(scenario, pace, absent)
    if FLOOR not in running:
        return Race(absent=absent)
    samples: dict[str, list[float]] = {name: [] for name in running}
    order, shuffle = list(running), random.Random(pace.rounds).shuffle
    with _collector_off() as collect:
        for _ in range(pace.rounds):
            collect()
            shuffle(order)
            for name in order:
                with _or_absent(name, absent):
                    samples[name].append(running[name].sample())
    for name, contestant in running.items():
        with _or_absent(name, absent):
            contestant.proved()  # nobody changed state under way
    return Race({name: taken for name, taken in samples.items() if name not in absent}, absent)


def _enrolled(scenario: Scenario, pace: Pace, absent: dict[str, str]) -> dict[str, _Contestant]:
    """Build everybody, see that their calls do what they should, and find their pace."""
    enrolled = {}
    for name, build in {FLOOR: scenario.floor, OURS: scenario.ours, **scenario.peers}.items():
        loop = scenario.our_loop if name == OURS and scenario.our_loop is not None else scenario.loop
        with _or_absent(name, absent):
            contestant = _Contestant(build(scenario.work), loop, scenario.runtime, scenario.expect)
            contestant.proved()
            contestant.calibrate(pace.sample)
            enrolled[name] = contestant
    return enrolled


@contextmanager
def _or_absent(name: str, absent: dict[str, str]) -> Generator[None]:
    try:
        yield
    except Exception as error:
        absent[name] = why(error)


def why(error: Exception) -> str:
    """Say in a line why a contestant is absent."""
    if isinstance(error, Unsupported):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed"
    return f"broken: {type(error).__name__}: {error}"


@contextmanager
def _collector_off() -> Generator[Callable[[], object]]:
    """Keep the collector off; what is yielded sweeps between rounds, past whatever was there before."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield gc.collect
    finally:
        gc.enable()
        gc.unfreeze()
