"""nopanic: a failure rate over ten buckets of time; a policy for each purpose, stacked as its pages stack them, the retry outermost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from benchmarks.peers.settings import AT_WORK, BURST, LONG, MAX_WAIT, NEVER, RATE, tripped
from benchmarks.works import RECEIPT

if TYPE_CHECKING:
    from benchmarks.loops import Call


def _breaker(**options: Any) -> Any:
    import nopanic

    settings: dict[str, Any] = {"failure_threshold": 0.5, "min_calls": 20, "window": 60.0, "reset_timeout": 30.0, "half_open_max_calls": 3}
    return nopanic.circuit_breaker(**settings | options)


def closed(fn: Call) -> Call:
    return cast("Call", _breaker()(fn))


def closed_slow(fn: Call) -> Call:
    return cast("Call", _breaker(slow_call_duration=2.0, slow_call_threshold=0.95)(fn))


def recording(fn: Call) -> Call:
    return cast("Call", _breaker(min_calls=NEVER)(fn))


def open_(fn: Call) -> Call:
    breaker = _breaker(min_calls=1, reset_timeout=LONG)
    tripped(breaker)
    return cast("Call", breaker(fn))


def _retry() -> Any:
    import nopanic

    return nopanic.retry(attempts=3, on=ConnectionError, backoff=nopanic.backoff.full_jitter(base=0.1, cap=5.0))


def retry(fn: Call) -> Call:
    return cast("Call", _retry()(fn))


def timeout(fn: Call) -> Call:
    import nopanic

    return nopanic.timeout(2.0)(fn)


def bulkhead(fn: Call) -> Call:
    import nopanic

    return nopanic.bulkhead(AT_WORK, max_wait=MAX_WAIT)(fn)


def rate_limit(fn: Call) -> Call:
    import nopanic

    return nopanic.rate_limit(RATE, per=1.0, burst=BURST, max_wait=0)(fn)


def fallback(fn: Call) -> Call:
    import nopanic

    return nopanic.fallback("unknown", on=ConnectionError)(fn)


def failover(fn: Call) -> Call:
    import nopanic

    def other(_: Exception) -> str:
        return f"{RECEIPT} by the other"

    return nopanic.fallback(other, on=ConnectionError)(fn)


def hedge(fn: Call) -> Call:
    import nopanic

    return nopanic.hedge(delay=1.0, max_hedges=1, on=ConnectionError)(fn)


def pipeline(fn: Call) -> Call:
    return cast("Call", _retry()(closed(fn)))


def cooperative_pipeline(fn: Call) -> Call:
    import nopanic

    return nopanic.deadline(2.0)(pipeline(fn))


def bulkhead_pipeline(fn: Call) -> Call:
    return pipeline(bulkhead(fn))


def timeout_pipeline(fn: Call) -> Call:
    return pipeline(timeout(fn))


def full_pipeline(fn: Call) -> Call:
    return pipeline(bulkhead(timeout(fn)))
