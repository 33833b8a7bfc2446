"""How is a cost measured on a noisy machine? In one interleaved race per scenario; a ratio is the median over its rounds.

In each round every contestant runs once, in a fresh order, for about as long as the others. Its ratio in that round is to the floor
of that round, so that a machine that slows down for a second slows both sides. Samples are in CPU time of the thread where the clock
is fine enough, so that a busy neighbour costs nothing, and with the garbage collector off.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from statistics import median
from types import FunctionType
from typing import TYPE_CHECKING, Any, cast

from benchmarks.works import RECEIPT, REQUEST, acharge, charge

if TYPE_CHECKING:
    from collections.abc import Iterator

CLOCK = "thread_time" if time.get_clock_info("thread_time").resolution <= 1e-6 else "perf_counter"
now: Callable[[], int] = time.thread_time_ns if CLOCK == "thread_time" else time.perf_counter_ns

Call = Callable[..., Any]
Build = Callable[[Call], Call]  # a function in, the same function guarded out
FLOOR, OURS = "floor", "ours"
SAMPLE = 0.012  # seconds


class Unsupported(Exception):  # noqa: N818 - an answer, not an error
    """This contestant has no such thing; the message says why."""


# ---------------------------------------------------------------- the loops: what a caller writes, n times


def returns(call: Call, n: int) -> None:
    for _ in repeat(None, n):
        call(REQUEST)


def raises(call: Call, n: int) -> None:
    for _ in repeat(None, n):
        try:  # noqa: SIM105 - suppress() would cost as much as the call
            call(REQUEST)
        except Exception:
            pass


def outcomes(call: Call, n: int) -> None:
    for _ in repeat(None, n):
        call(charge, REQUEST)


async def areturns(call: Call, n: int) -> None:
    for _ in repeat(None, n):
        await call(REQUEST)


async def araises(call: Call, n: int) -> None:
    for _ in repeat(None, n):
        try:  # noqa: SIM105 - suppress() would cost as much as the call
            await call(REQUEST)
        except Exception:
            pass


async def aoutcomes(call: Call, n: int) -> None:
    for _ in repeat(None, n):
        await call(acharge, REQUEST)


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop, and the arguments that it passes."""

    body: Call
    arguments: tuple[Any, ...] = (REQUEST,)

    def own(self) -> Call:
        """Return a copy of the body for one contestant alone: the interpreter's inline caches live in the code object."""
        return FunctionType(self.body.__code__.replace(), self.body.__globals__, self.body.__name__)


# ---------------------------------------------------------------- the runtimes


class Runtime(ABC):
    """Where the loops run."""

    @abstractmethod
    def once(self, call: Call, *args: Any) -> object:
        """Return the answer, or the exception, of one call."""

    @abstractmethod
    def sample(self, body: Call, call: Call, calls: int) -> float:
        """Return the nanoseconds of one call, over at least `calls` of them after a short warm-up."""


class Plain(Runtime):
    """No event loop."""

    def once(self, call: Call, *args: Any) -> object:
        try:
            return cast("object", call(*args))
        except Exception as error:
            return error

    def sample(self, body: Call, call: Call, calls: int) -> float:
        body(call, calls // 20 + 1)
        started = now()
        body(call, calls)
        return (now() - started) / calls


class Eventful(Runtime):
    """An event loop, which turns between chunks of calls, off the clock.

    Without the turns the cancelled timers of thousands of calls would pile up in its heap, as they never do in a service. The cost of
    clearing them away is counted for nobody; that favours the floor, which makes one timer a call.
    """

    chunk = 400

    @abstractmethod
    def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Run `work` to its end."""

    @abstractmethod
    def turn(self) -> Awaitable[None]:
        """Let the loop turn once."""

    def once(self, call: Call, *args: Any) -> object:
        async def work() -> object:
            try:
                return cast("object", await call(*args))
            except Exception as error:
                return error

        return cast("object", self.run(work))

    def sample(self, body: Call, call: Call, calls: int) -> float:
        async def work() -> float:
            await body(call, calls // 20 + 1)
            spent = done = 0
            while done < calls:
                await self.turn()
                chunk = min(self.chunk, calls - done)
                started = now()
                await body(call, chunk)
                spent += now() - started
                done += chunk
            await self.turn()
            return spent / done

        return cast("float", self.run(work))


class Asyncio(Eventful):
    """One loop for all."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            return await work()

        return self._runner.run(main())

    async def turn(self) -> None:
        await asyncio.sleep(0)


class Trio(Eventful):
    """A run for each sample."""

    def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        import trio

        return trio.run(work)

    async def turn(self) -> None:
        import trio

        await trio.lowlevel.checkpoint()


# ---------------------------------------------------------------- what must be true before and after a race


def answers(seen: object) -> bool:
    """The function ran and answered."""
    return seen == RECEIPT


def refuses(seen: object) -> bool:
    """The function did not run: it would have answered."""
    return isinstance(seen, Exception) or type(seen).__name__ == "Refused"


def fails(seen: object) -> bool:
    """The function ran and failed; a wrapper must lead to its error."""
    while isinstance(seen, BaseException):
        if isinstance(seen, ConnectionResetError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


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
def _or_absent(name: str, absent: dict[str, str]) -> Iterator[None]:
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
def _collector_off() -> Iterator[Callable[[], object]]:
    """Keep the collector off; what is yielded sweeps between rounds, past whatever was there before."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield gc.collect
    finally:
        gc.enable()
        gc.unfreeze()
