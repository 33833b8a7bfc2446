"""resilix: a breaker that counts consecutive failures and keeps no window of successes; everything else fused into one policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from benchmarks.peers.settings import AT_WORK, LONG, NEVER, tripped
from benchmarks.works import RECEIPT

if TYPE_CHECKING:
    from benchmarks.loops import Call


def closed(fn: Call) -> Call:
    from resilix import CircuitBreaker

    return CircuitBreaker(failures=5, reset_timeout=30.0, half_open_max=3)(fn)


def recording(fn: Call) -> Call:
    from resilix import CircuitBreaker

    return CircuitBreaker(failures=NEVER, reset_timeout=30.0, half_open_max=3)(fn)


def open_(fn: Call) -> Call:
    from resilix import CircuitBreaker

    breaker = CircuitBreaker(failures=1, reset_timeout=LONG)
    tripped(breaker)
    return breaker(fn)


def _policy(**limits: Any) -> Any:
    from resilix import Policy, Retry

    pacing = Retry(attempts=3, delay=0.1, backoff="exponential", jitter=True, max_delay=5.0)
    return Policy(on=ConnectionError, retry=pacing, **limits)


def retry(fn: Call) -> Call:
    return cast("Call", _policy()(fn))


def timeout(fn: Call) -> Call:
    from resilix import Policy

    return Policy(timeout=2.0)(fn)


def bulkhead(fn: Call) -> Call:
    from resilix import protect

    return protect.bulkhead(AT_WORK)(fn)  # it waits for ever, or not at all


def fallback(fn: Call) -> Call:
    from resilix import Policy

    return Policy(on=ConnectionError, return_="unknown")(fn)


def failover(fn: Call) -> Call:
    from resilix import Policy

    def other(_: str) -> str:
        return f"{RECEIPT} by the other"

    return Policy(on=ConnectionError, fallback=[other])(fn)


def pipeline(fn: Call) -> Call:
    return closed(retry(fn))


def cooperative_pipeline(fn: Call) -> Call:
    return closed(_policy(deadline=2.0)(fn))


def bulkhead_pipeline(fn: Call) -> Call:
    return closed(retry(bulkhead(fn)))  # stacked policies become one: the place is held round all attempts


def timeout_pipeline(fn: Call) -> Call:
    return closed(_policy(timeout=2.0)(fn))


def full_pipeline(fn: Call) -> Call:
    return closed(_policy(timeout=2.0)(bulkhead(fn)))
