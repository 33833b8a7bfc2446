"""How is a call made many times? The loops that a caller would write, the runtimes that they run in, and what must come of each call."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import repeat
from types import FunctionType
from typing import Any, cast

from benchmarks.works import RECEIPT, REQUEST, acharge, charge

Call = Callable[..., Any]
CLOCK = "thread_time" if time.get_clock_info("thread_time").resolution <= 1e-6 else "perf_counter"
now: Callable[[], int] = time.thread_time_ns if CLOCK == "thread_time" else time.perf_counter_ns


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
