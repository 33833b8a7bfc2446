"""The peers, each set up as its own pages advise and as near to the others as its options allow.

Where they have the option: half of at least 20 calls in a window of 60 s opens, 30 s open, 3 probes; 3 attempts, exponential backoff with
jitter from 0.1 s to 5 s on connection errors; 2 s for a call. `NEVER` keeps a circuit closed while it records failures.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, cast

from benchmarks.harness import Build, Call, Unsupported
from benchmarks.works import REQUEST, areset, reset

if TYPE_CHECKING:
    from collections.abc import Callable

DISTRIBUTIONS = ("resilix", "nopanic", "interlock-cb", "pybreaker", "circuitbreaker", "purgatory", "tenacity", "stamina")
NEVER = 10**9
LONG = 3600.0


def versions() -> dict[str, str]:
    """Return what is installed here."""
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _tripped(breaker: Callable[[Call], Call]) -> None:
    """Open a circuit in the way that a provider does."""
    with suppress(Exception):
        breaker(reset)(REQUEST)


# ---------------------------------------------------------------- resilix: counts consecutive failures, keeps no window of successes


def resilix_closed(fn: Call) -> Call:
    from resilix import CircuitBreaker

    return CircuitBreaker(failures=5, reset_timeout=30.0, half_open_max=3)(fn)


def resilix_recording(fn: Call) -> Call:
    from resilix import CircuitBreaker

    return CircuitBreaker(failures=NEVER, reset_timeout=30.0, half_open_max=3)(fn)


def resilix_open(fn: Call) -> Call:
    from resilix import CircuitBreaker

    breaker = CircuitBreaker(failures=1, reset_timeout=LONG)
    _tripped(breaker)
    return breaker(fn)


def _resilix_policy(**limits: Any) -> Any:
    from resilix import Policy, Retry

    pacing = Retry(attempts=3, delay=0.1, backoff="exponential", jitter=True, max_delay=5.0)
    return Policy(on=ConnectionError, retry=pacing, **limits)


def resilix_retry(fn: Call) -> Call:
    return cast("Call", _resilix_policy()(fn))


def resilix_timeout(fn: Call) -> Call:
    from resilix import Policy

    return Policy(timeout=2.0)(fn)


def resilix_pipeline(fn: Call) -> Call:
    return resilix_closed(resilix_retry(fn))


def resilix_full_pipeline(fn: Call) -> Call:
    return resilix_closed(_resilix_policy(timeout=2.0)(fn))


def resilix_cooperative_pipeline(fn: Call) -> Call:
    return resilix_closed(_resilix_policy(deadline=2.0)(fn))


# ---------------------------------------------------------------- nopanic: a failure rate over ten buckets of time


def nopanic_closed(fn: Call) -> Call:
    import nopanic

    return nopanic.circuit_breaker(failure_threshold=0.5, min_calls=20, window=60.0, reset_timeout=30.0, half_open_max_calls=3)(fn)


def nopanic_closed_slow(fn: Call) -> Call:
    import nopanic

    return nopanic.circuit_breaker(
        failure_threshold=0.5,
        min_calls=20,
        window=60.0,
        reset_timeout=30.0,
        half_open_max_calls=3,
        slow_call_duration=2.0,
        slow_call_threshold=0.95,
    )(fn)


def nopanic_recording(fn: Call) -> Call:
    import nopanic

    return nopanic.circuit_breaker(failure_threshold=0.5, min_calls=NEVER, window=60.0, reset_timeout=30.0)(fn)


def nopanic_open(fn: Call) -> Call:
    import nopanic

    breaker = nopanic.circuit_breaker(min_calls=1, window=60.0, reset_timeout=LONG)
    _tripped(breaker)
    return breaker(fn)


def _nopanic_retry() -> Any:
    import nopanic

    return nopanic.retry(attempts=3, on=ConnectionError, backoff=nopanic.backoff.full_jitter(base=0.1, cap=5.0))


def nopanic_retry(fn: Call) -> Call:
    return cast("Call", _nopanic_retry()(fn))


def nopanic_timeout(fn: Call) -> Call:
    import nopanic

    return nopanic.timeout(2.0)(fn)


def nopanic_pipeline(fn: Call) -> Call:
    return cast("Call", _nopanic_retry()(nopanic_closed(fn)))


def nopanic_full_pipeline(fn: Call) -> Call:
    return cast("Call", _nopanic_retry()(nopanic_closed(nopanic_timeout(fn))))


def nopanic_cooperative_pipeline(fn: Call) -> Call:
    import nopanic

    return nopanic.deadline(2.0)(nopanic_pipeline(fn))


# ---------------------------------------------------------------- interlock-cb: failure and slow-call rate over seconds; retry by tenacity


def _interlock_breaker(**options: Any) -> Any:
    import interlock

    settings: dict[str, Any] = {
        "failure_rate_threshold": 0.5,
        "minimum_number_of_calls": 20,
        "permitted_calls_in_half_open": 3,
        "wait_duration_in_open": 30.0,
        "window_type": interlock.WindowType.TIME_BASED,
        "window_size": 60,
    }
    return interlock.CircuitBreaker(name="bench", config=interlock.Config(**settings | options))


def interlock_closed(fn: Call) -> Call:
    return cast("Call", _interlock_breaker()(fn))


def interlock_closed_slow(fn: Call) -> Call:
    return cast("Call", _interlock_breaker(slow_call_duration_threshold=2.0, slow_call_rate_threshold=0.95)(fn))


def interlock_recording(fn: Call) -> Call:
    return cast("Call", _interlock_breaker(minimum_number_of_calls=NEVER)(fn))


def interlock_open(fn: Call) -> Call:
    breaker = _interlock_breaker(minimum_number_of_calls=1, wait_duration_in_open=LONG)
    _tripped(breaker)
    return cast("Call", breaker(fn))


def interlock_timeout(fn: Call) -> Call:
    import interlock

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        async with interlock.timeout(2.0):
            return await fn(*args, **kwargs)

    return guarded


def _interlock_builder() -> Any:
    import interlock
    from tenacity import wait_random_exponential

    waits = wait_random_exponential(multiplier=0.1, max=5.0)
    return interlock.Pipeline.builder().retry(attempts=3, wait=waits).circuit_breaker(_interlock_breaker())


def interlock_pipeline(fn: Call) -> Call:
    return cast("Call", _interlock_builder().build()(fn))


def interlock_full_pipeline(fn: Call) -> Call:
    return cast("Call", _interlock_builder().timeout(2.0).build()(fn))


# ---------------------------------------------------------------- pybreaker: counts consecutive failures, under one lock, sync only


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
    _tripped(breaker)
    return cast("Call", breaker(fn))


# ---------------------------------------------------------------- circuitbreaker: counts consecutive failures


def _circuitbreaker(failure_threshold: int, recovery_timeout: float = 30.0) -> Any:
    import circuitbreaker

    return circuitbreaker.CircuitBreaker(failure_threshold=failure_threshold, recovery_timeout=recovery_timeout)


def circuitbreaker_closed(fn: Call) -> Call:
    return cast("Call", _circuitbreaker(5)(fn))


def circuitbreaker_recording(fn: Call) -> Call:
    return cast("Call", _circuitbreaker(NEVER)(fn))


def circuitbreaker_open(fn: Call) -> Call:
    breaker = _circuitbreaker(1, LONG)
    _tripped(breaker)
    return cast("Call", breaker(fn))


# ---------------------------------------------------------------- purgatory: counts consecutive failures; a factory each for sync and async


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
        _tripped(breaker)
    return cast("Call", breaker(fn))


# ---------------------------------------------------------------- tenacity and stamina: retry, alone and with what people put beside it


def _tenacity(stop: Any = None) -> Any:
    import tenacity

    return tenacity.retry(
        stop=stop or tenacity.stop_after_attempt(3),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=5.0),
        retry=tenacity.retry_if_exception_type(ConnectionError),
        reraise=True,
    )


def tenacity_retry(fn: Call) -> Call:
    return cast("Call", _tenacity()(fn))


def stamina_retry(fn: Call) -> Call:
    import stamina

    return stamina.retry(on=ConnectionError, attempts=3, wait_initial=timedelta(seconds=0.1), wait_max=timedelta(seconds=5))(fn)


def tenacity_pybreaker(fn: Call) -> Call:
    return pybreaker_closed(tenacity_retry(fn))


def tenacity_pybreaker_cooperative(fn: Call) -> Call:
    import tenacity

    stop = tenacity.stop_any(tenacity.stop_after_attempt(3), tenacity.stop_after_delay(2.0))
    return pybreaker_closed(_tenacity(stop)(fn))


def tenacity_purgatory_timeout(fn: Call) -> Call:
    async def bounded(*args: Any, **kwargs: Any) -> Any:
        async with asyncio.timeout(2.0):
            return await fn(*args, **kwargs)

    return purgatory_closed(tenacity_retry(bounded))


# ---------------------------------------------------------------- who plays where

CLOSED: dict[str, Build] = {
    "resilix": resilix_closed,
    "nopanic": nopanic_closed,
    "interlock-cb": interlock_closed,
    "pybreaker": pybreaker_closed,
    "circuitbreaker": circuitbreaker_closed,
    "purgatory": purgatory_closed,
}
CLOSED_SLOW: dict[str, Build] = {"nopanic": nopanic_closed_slow, "interlock-cb": interlock_closed_slow}
OPEN: dict[str, Build] = {
    "resilix": resilix_open,
    "nopanic": nopanic_open,
    "interlock-cb": interlock_open,
    "pybreaker": pybreaker_open,
    "circuitbreaker": circuitbreaker_open,
    "purgatory": purgatory_open,
}
RECORDING: dict[str, Build] = {
    "resilix": resilix_recording,
    "nopanic": nopanic_recording,
    "interlock-cb": interlock_recording,
    "pybreaker": pybreaker_recording,
    "circuitbreaker": circuitbreaker_recording,
    "purgatory": purgatory_recording,
}
RETRY: dict[str, Build] = {"resilix": resilix_retry, "nopanic": nopanic_retry, "tenacity": tenacity_retry, "stamina": stamina_retry}
TIMEOUT: dict[str, Build] = {"resilix": resilix_timeout, "nopanic": nopanic_timeout, "interlock-cb": interlock_timeout}
TRIO_TIMEOUT: dict[str, Build] = {"nopanic": nopanic_timeout}
PIPELINE: dict[str, Build] = {
    "resilix": resilix_pipeline,
    "nopanic": nopanic_pipeline,
    "interlock-cb": interlock_pipeline,
    "tenacity+pybreaker": tenacity_pybreaker,
}
COOPERATIVE_PIPELINE: dict[str, Build] = {
    "resilix": resilix_cooperative_pipeline,
    "nopanic": nopanic_cooperative_pipeline,
    "tenacity+pybreaker": tenacity_pybreaker_cooperative,
}
FULL_PIPELINE: dict[str, Build] = {
    "resilix": resilix_full_pipeline,
    "nopanic": nopanic_full_pipeline,
    "interlock-cb": interlock_full_pipeline,
    "tenacity+purgatory": tenacity_purgatory_timeout,
}
