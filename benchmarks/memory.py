"""How many bytes does one breaker keep, new and after traffic? By tracemalloc, each library in its default configuration."""

from __future__ import annotations

import gc
import tracemalloc
from array import array
from collections.abc import Callable, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from benchmarks import ours
from benchmarks.harness import OURS, why
from benchmarks.loops import Call
from benchmarks.works import REQUEST, charge, reset

if TYPE_CHECKING:
    from collections.abc import Generator

LIMIT = 1024  # bytes
MADE, DRIVEN = 200, 4  # breakers: many, so that what they share weighs little; traffic through a few of them
STEP = 0.01  # seconds of fake time between calls: as many in a bucket as need an int of their own
WARM, HOT = 7_000, 13_000  # calls on each breaker: a full minute to fill its window, and one more to the same phase of its buckets


class FakeClock:
    """A clock that the traffic turns by hand, so that every bucket of a window of minutes is used in a second."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def utc(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    async def sleep(self, _: float) -> None:
        """Never asked: nothing waits here."""

    sleep_sync = sleep
    __call__ = monotonic


@dataclass(frozen=True, slots=True)
class Kept:
    """Bytes of one breaker: as made, once its window is full, and a minute of traffic later."""

    new: float
    warm: float
    hot: float


Make = Callable[..., Any]  # a name, and perhaps a clock
Guard = Callable[[Any, Call], Call]


def _decorated(breaker: Any, fn: Call) -> Call:
    return cast("Call", breaker(fn))


def kept(make: Make, guard: Guard) -> Kept:
    """Weigh new breakers; then drive traffic through others that have our clock, one call in ten failing, and weigh what they gain."""
    clock = FakeClock()
    for breaker in (make("first"), make("second", clock=clock)):  # whatever is made once for all of them
        _drive(clock, [_pair(breaker, guard)], calls=20)
    names = [f"provider-{i}" for i in range(MADE)]
    breakers: list[Any] = [None] * MADE
    with _scales() as (weigh, weights):
        for i, name in enumerate(names):
            breakers[i] = make(name)
        weigh()
        pairs = [_pair(make(f"driven {name}", clock=clock), guard) for name in names[:DRIVEN]]
        weigh()
        _drive(clock, pairs, calls=WARM)
        weigh()
        _drive(clock, pairs, calls=HOT - WARM)
        weigh()
    empty, made, idle, warm, hot = weights
    new = (made - empty) / MADE
    return Kept(new, new + (warm - idle) / DRIVEN, new + (hot - idle) / DRIVEN)


def _pair(breaker: Any, guard: Guard) -> tuple[Call, Call]:
    return guard(breaker, charge), guard(breaker, reset)


def _drive(clock: FakeClock, pairs: Iterable[tuple[Call, Call]], *, calls: int) -> None:
    for i in range(calls):
        clock.now += STEP
        for succeeds, fails in pairs:
            if i % 10 == 5:
                with suppress(ConnectionResetError):
                    fails(REQUEST)
            else:
                succeeds(REQUEST)


@contextmanager
def _scales() -> Generator[tuple[Callable[[], None], array[int]]]:
    """Yield a function that weighs, and where it writes; five weights, the first of them already there."""
    weights, place = array("q", [0] * 5), iter(range(5))  # no object is made for a weight: it would be in the next

    def weigh() -> None:
        gc.collect()
        weights[next(place)] = tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        weigh()
        yield weigh, weights
    finally:
        tracemalloc.stop()


# ---------------------------------------------------------------- the peers' default breakers


def _resilix() -> tuple[Make, Guard]:
    from resilix import CircuitBreaker

    return lambda _, **__: CircuitBreaker(), _decorated


def _nopanic() -> tuple[Make, Guard]:
    from nopanic import CircuitBreaker

    return lambda name, **clock: CircuitBreaker(name=name, **clock), _decorated


def _interlock() -> tuple[Make, Guard]:
    from interlock import CircuitBreaker

    return lambda name, **clock: CircuitBreaker(name=name, **clock), _decorated


def _pybreaker() -> tuple[Make, Guard]:
    from pybreaker import CircuitBreaker

    return lambda name, **_: CircuitBreaker(name=name), _decorated


def _circuitbreaker() -> tuple[Make, Guard]:
    from circuitbreaker import CircuitBreaker

    return lambda name, **_: CircuitBreaker(name=name), _decorated


def _purgatory() -> tuple[Make, Guard]:
    from purgatory import SyncCircuitBreakerFactory

    factory = SyncCircuitBreakerFactory()

    def guard(breaker: Any, fn: Call) -> Call:
        def guarded(*args: Any) -> Any:
            with breaker:
                return fn(*args)

        return guarded

    return lambda name, **_: factory.get_breaker(name), guard


LIBRARIES: dict[str, Callable[[], tuple[Make, Guard]]] = {
    OURS: lambda: (ours.default_breaker, _decorated),
    "resilix": _resilix,
    "nopanic": _nopanic,
    "interlock-cb": _interlock,
    "pybreaker": _pybreaker,
    "circuitbreaker": _circuitbreaker,
    "purgatory": _purgatory,
}


def weigh() -> tuple[dict[str, Kept], dict[str, str]]:
    """Return what each library's breaker keeps, and why some could not be weighed."""
    weighed, absent = {}, {}
    for name, library in LIBRARIES.items():
        try:
            weighed[name] = kept(*library())
        except Exception as error:
            absent[name] = why(error)
    return weighed, absent
