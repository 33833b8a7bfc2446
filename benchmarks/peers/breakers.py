"""The plain breakers: pybreaker, circuitbreaker and purgatory. Each counts consecutive failures."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, cast

from benchmarks.harness import Unsupported
from benchmarks.peers.settings import LONG, NEVER, tripped
from benchmarks.works import REQUEST, areset

if TYPE_CHECKING:
    from benchmarks.loops import Call


# ---------------------------------------------------------------- pybreaker: under one lock, sync only


def _pybreaker(fail_max: int, reset_timeout: float = 30.0) -> Any:
    import pybreaker

    return pybreaker.CircuitBreaker(fail_max=fail_max, reset_timeout=reset_timeout, success_threshold=3)


def _sync_only(fn: Call) -> None:
    if iscoroutinefunction(fn):
        raise Unsupported("async by Tornado only")


def pybreaker_closed(fn: Call) -> Call:
    _sync_only(fn)
    return cast("Call", _pybreaker(5)(fn))


def pybreaker_recording(fn: Call) -> Call:
    _sync_only(fn)
    return cast("Call", _pybreaker(NEVER)(fn))


def pybreaker_open(fn: Call) -> Call:
    _sync_only(fn)
    breaker = _pybreaker(1, LONG)
    tripped(breaker)
    return cast("Call", breaker(fn))


# ---------------------------------------------------------------- circuitbreaker: as plain as they come


def _circuitbreaker(failure_threshold: int, recovery_timeout: float = 30.0) -> Any:
    import circuitbreaker

    return circuitbreaker.CircuitBreaker(failure_threshold=failure_threshold, recovery_timeout=recovery_timeout)


def circuitbreaker_closed(fn: Call) -> Call:
    return cast("Call", _circuitbreaker(5)(fn))


def circuitbreaker_recording(fn: Call) -> Call:
    return cast("Call", _circuitbreaker(NEVER)(fn))


def circuitbreaker_open(fn: Call) -> Call:
    breaker = _circuitbreaker(1, LONG)
    tripped(breaker)
    return cast("Call", breaker(fn))


# ---------------------------------------------------------------- purgatory: a factory each for sync and async


def _purgatory(fn: Call, threshold: int, ttl: float = 30.0) -> Any:
    import purgatory

    factory = purgatory.AsyncCircuitBreakerFactory if iscoroutinefunction(fn) else purgatory.SyncCircuitBreakerFactory
    return factory(default_threshold=threshold, default_ttl=ttl)("bench")


def purgatory_closed(fn: Call) -> Call:
    return cast("Call", _purgatory(fn, 5)(fn))


def purgatory_recording(fn: Call) -> Call:
    return cast("Call", _purgatory(fn, NEVER)(fn))


def purgatory_open(fn: Call) -> Call:
    breaker = _purgatory(fn, 1, LONG)
    if iscoroutinefunction(fn):
        with suppress(ConnectionResetError):
            asyncio.run(breaker(areset)(REQUEST))
    else:
        tripped(breaker)
    return cast("Call", breaker(fn))
