"""interlock-cb: failure and slow-call rate over seconds; a pipeline of strategies, its retry by tenacity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from benchmarks.peers.settings import AT_WORK, LONG, MAX_WAIT, NEVER, tripped

if TYPE_CHECKING:
    from benchmarks.loops import Call


def _breaker(**options: Any) -> Any:
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


def closed(fn: Call) -> Call:
    return cast("Call", _breaker()(fn))


def closed_slow(fn: Call) -> Call:
    return cast("Call", _breaker(slow_call_duration_threshold=2.0, slow_call_rate_threshold=0.95)(fn))


def recording(fn: Call) -> Call:
    return cast("Call", _breaker(minimum_number_of_calls=NEVER)(fn))


def open_(fn: Call) -> Call:
    breaker = _breaker(minimum_number_of_calls=1, wait_duration_in_open=LONG)
    tripped(breaker)
    return cast("Call", breaker(fn))


def timeout(fn: Call) -> Call:
    import interlock

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        async with interlock.timeout(2.0):
            return await fn(*args, **kwargs)

    return guarded


def _builder() -> Any:
    import interlock

    return interlock.Pipeline.builder()


def bulkhead(fn: Call) -> Call:
    return cast("Call", _builder().bulkhead(AT_WORK, max_wait=MAX_WAIT).build()(fn))


def fallback(fn: Call) -> Call:
    def other(_: Exception) -> str:
        return "unknown"

    return cast("Call", _builder().fallback(other, on=(ConnectionError,)).build()(fn))


def _retried_breaker() -> Any:
    from tenacity import wait_random_exponential

    waits = wait_random_exponential(multiplier=0.1, max=5.0)
    return _builder().retry(attempts=3, wait=waits).circuit_breaker(_breaker())


def pipeline(fn: Call) -> Call:
    return cast("Call", _retried_breaker().build()(fn))


def bulkhead_pipeline(fn: Call) -> Call:
    return cast("Call", _retried_breaker().bulkhead(AT_WORK, max_wait=MAX_WAIT).build()(fn))


def timeout_pipeline(fn: Call) -> Call:
    return cast("Call", _retried_breaker().timeout(2.0).build()(fn))


def full_pipeline(fn: Call) -> Call:
    return cast("Call", _retried_breaker().bulkhead(AT_WORK, max_wait=MAX_WAIT).timeout(2.0).build()(fn))
