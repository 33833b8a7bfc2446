"""Cancelled at any await whatever, a call gives its probe back: swept over every step until the call ends by itself."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from finresilience import (
    NON_RETRYABLE,
    RETRYABLE,
    CircuitBreaker,
    Constant,
    Effect,
    ErrorClassifier,
    FinresilienceError,
    Pipeline,
    Retry,
    Timeout,
    Verdict,
)
from tests.laws.worlds import Down, Lost, No, both_loops, on, still

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.testing import ManualClock


class Busy(Exception):
    """Not the provider's doing, and not applied: tried again even in half-open."""


RULES = ErrorClassifier({Down: RETRYABLE, No: NON_RETRYABLE, Busy: Verdict(RETRYABLE, counts_against_provider=False)})
OURS = (Down, No, Lost, Busy, FinresilienceError)
SCRIPTS: dict[str, tuple[type[Exception] | None, ...]] = {
    "works": (None,),
    "declines": (No,),
    "fails": (Down,),
    "is unknown": (Lost,),
    "is busy, then works": (Busy, Busy, None),
    "is busy, then fails": (Busy, Down),
}


def half_open(clock: ManualClock) -> CircuitBreaker:
    breaker = CircuitBreaker("acme", half_open_calls=1, classify=RULES, clock=clock, listeners=[])
    breaker.trip(seconds=1)
    clock.advance(2)
    return breaker


def piped(clock: ManualClock, *policies: Any) -> Pipeline:
    return Pipeline("acme", *policies, classify=RULES, effect=Effect.IDEMPOTENT_BY_NATURE, clock=clock, listeners=[])


def retry() -> Retry:
    return Retry(attempts=4, backoff=Constant(1), listeners=[])


def timeout(clock: ManualClock, *, exact: bool) -> Timeout:
    return Timeout(20.0, exact=exact, clock=clock, listeners=[])


async def by_guard(breaker: CircuitBreaker, work: Callable[[], Any]) -> None:
    async with breaker.guard():
        await work()


async def by_generator(breaker: CircuitBreaker, work: Callable[[], Any]) -> None:
    @breaker
    async def pages() -> Any:
        await work()
        yield 1
        await anyio.lowlevel.checkpoint()

    steps = pages()
    try:
        async for _ in steps:
            await anyio.lowlevel.checkpoint()
    finally:
        with anyio.CancelScope(shield=True):
            await steps.aclose()


SHAPES: dict[str, Callable[[ManualClock, CircuitBreaker, Any], Any]] = {
    "decorator": lambda clock, breaker, work: breaker(work)(),
    "acall": lambda clock, breaker, work: breaker.acall(work),
    "guard": lambda clock, breaker, work: by_guard(breaker, work),
    "generator": lambda clock, breaker, work: by_generator(breaker, work),
    "breaker and retry": lambda clock, breaker, work: piped(clock, breaker, retry())(work)(),
    "everything": lambda clock, breaker, work: piped(clock, breaker, retry(), timeout(clock, exact=False))(work)(),
    "everything, exact": lambda clock, breaker, work: piped(clock, breaker, retry(), timeout(clock, exact=True)).aoutcome(work),
    "timeout inside": lambda clock, breaker, work: piped(clock, breaker)(timeout(clock, exact=False)(work))(),
    "retry outside": lambda clock, breaker, work: piped(clock, retry())(breaker(work))(),
}


async def cut_at(step: int, shape: str, script: tuple[type[Exception] | None, ...]) -> tuple[bool, CircuitBreaker, ManualClock]:
    """Cancel the call after `step` turns; return whether it had ended by itself, and the breaker."""
    clock = still()
    breaker, lines, ended = half_open(clock), list(script), False

    async def work() -> str:
        for _ in range(2):
            await anyio.lowlevel.checkpoint()
        kind = lines.pop(0) if lines else None
        if kind is not None:
            raise kind
        return "ok"

    async def call() -> None:
        nonlocal ended
        with suppress(*OURS):
            await SHAPES[shape](clock, breaker, work)
        ended = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        for _ in range(step):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    return ended, breaker, clock


def a_call_may_pass(breaker: CircuitBreaker, clock: ManualClock) -> bool:
    """Return whether somebody may pass now, or once an open circuit's time is over; no lease may be waited for."""
    if breaker.state == "open":
        clock.advance(breaker.statistics()["retry_after"] + 1)  # more than rounding
    return breaker.admit(clock.monotonic()) is not None


@both_loops
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("script", SCRIPTS)
def test_no_probe_is_lost_whenever_the_call_is_cancelled(backend: str, shape: str, script: str) -> None:
    step = 0
    while True:
        ended, breaker, clock = on(backend, cut_at, step, shape, SCRIPTS[script])
        assert a_call_may_pass(breaker, clock), f"cancelled at step {step}: {breaker.statistics()}"
        if ended:
            break
        step += 1
        assert step < 100
    assert step >= 2  # the sweep saw the inside of the call


@both_loops
def test_a_permit_that_is_never_given_back_would_be_found_out(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CircuitBreaker, "release", lambda self, permit: None)
    ended, breaker, clock = on(backend, cut_at, 2, "everything", SCRIPTS["works"])
    assert not ended
    assert not a_call_may_pass(breaker, clock)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("shape", ["call", "decorator", "guard", "pipeline"])
def test_no_probe_is_lost_when_a_sync_call_is_interrupted(error: type[BaseException], shape: str) -> None:
    clock = still()
    breaker = half_open(clock)

    def work() -> None:
        raise error

    def in_guard() -> None:
        with breaker.guard():
            work()

    forms: dict[str, Callable[[], Any]] = {
        "call": lambda: breaker.call(work),
        "decorator": breaker(work),
        "guard": in_guard,
        "pipeline": piped(clock, breaker, retry(), timeout(clock, exact=False))(work),
    }
    with pytest.raises(error):
        forms[shape]()
    assert a_call_may_pass(breaker, clock)


def test_no_probe_is_lost_when_the_wait_between_attempts_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = still()
    breaker = half_open(clock)

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    def work() -> None:
        raise Busy

    monkeypatch.setattr(clock, "sleep_sync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        piped(clock, breaker, retry()).call(work)
    assert a_call_may_pass(breaker, clock)
