"""Ours, by the public names alone, as the README shows them."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from benchmarks.harness import Unsupported
from benchmarks.works import REQUEST, reset

if TYPE_CHECKING:
    from benchmarks.loops import Call

NEVER = 10**9
LONG = 3600.0


def _front_door(*names: str) -> Any:
    """Return `finresilience`, if it has these names by now."""
    try:
        fr = import_module("finresilience")
        for name in names:
            getattr(fr, name)
    except (ImportError, AttributeError) as missing:
        raise Unsupported(f"not there yet ({missing})") from None
    return fr


def _breaker(**changed: Any) -> Any:
    fr = _front_door("CircuitBreaker", "TimeWindow")
    settings = {"window": fr.TimeWindow(60), "failure_rate": 0.5, "minimum_calls": 20, "open_for": 30.0, "half_open_calls": 3}
    return fr.CircuitBreaker("bench", **settings | {"probe_lease": 10.0} | changed)


def _retry() -> Any:
    fr = _front_door("Retry", "FullJitter")
    return fr.Retry(attempts=3, backoff=fr.FullJitter(base=0.1, cap=5.0))


def _timeout() -> Any:
    return _front_door("Timeout").Timeout(2.0)


def _bulkhead() -> Any:
    return _front_door("Bulkhead").Bulkhead(20, queue=50, max_wait=0.5)


def _pipeline(*policies: Any) -> Any:
    fr = _front_door("Pipeline", "Effect")
    return fr.Pipeline("bench", *policies, effect=fr.Effect.IDEMPOTENT_BY_NATURE)


def closed(fn: Call) -> Call:
    return cast("Call", _breaker()(fn))


def closed_slow(fn: Call) -> Call:
    return cast("Call", _breaker(slow_rate=0.95, slow_after=2.0)(fn))


def recording(fn: Call) -> Call:
    return cast("Call", _breaker(minimum_calls=NEVER)(fn))


def _opened() -> Any:
    """Open it as a provider does; forcing it open could be cheaper than what users meet."""
    breaker = _breaker(minimum_calls=1, open_for=LONG)
    with suppress(Exception):
        breaker(reset)(REQUEST)
    return breaker


def open_(fn: Call) -> Call:
    return cast("Call", _opened()(fn))


def open_outcome(_: Call) -> Call:
    return cast("Call", _opened().outcome)  # the loop passes the function


def open_aoutcome(_: Call) -> Call:
    return cast("Call", _opened().aoutcome)


def retry(fn: Call) -> Call:
    return cast("Call", _retry()(fn))


def timeout(fn: Call) -> Call:
    return cast("Call", _timeout()(fn))


def bulkhead(fn: Call) -> Call:
    return cast("Call", _bulkhead()(fn))


def limiter(fn: Call) -> Call:
    fr = _front_door("RateLimiter", "TokenBucket")
    return cast("Call", fr.RateLimiter(fr.TokenBucket(1_000_000, per=1.0, burst=10**9))(fn))


def fallback(fn: Call) -> Call:
    fr = _front_door("Fallback", "Effect")
    return cast("Call", fr.Fallback(value="unknown", effect=fr.Effect.READ)(fn))


def failover(fn: Call) -> Call:
    fr = _front_door("Failover", "Route")
    return cast("Call", fr.Failover([fr.Route("acme", fn), fr.Route("globex", fn)]).call)


def hedge(fn: Call) -> Call:
    fr = _front_door("Hedge", "Effect")
    return cast("Call", fr.Hedge(1.0, effect=fr.Effect.READ)(fn))


def pipeline(fn: Call) -> Call:
    return cast("Call", _pipeline(_breaker(), _retry())(fn))


def bulkhead_pipeline(fn: Call) -> Call:
    return cast("Call", _pipeline(_breaker(), _retry(), _bulkhead())(fn))


def timeout_pipeline(fn: Call) -> Call:
    return cast("Call", _pipeline(_breaker(), _retry(), _timeout())(fn))


def full_pipeline(fn: Call) -> Call:
    return cast("Call", _pipeline(_breaker(), _retry(), _bulkhead(), _timeout())(fn))


def default_breaker(name: str, **clock: Any) -> Any:
    """Make one as a user does who says nothing but its name; a clock is given for the traffic of minutes."""
    return _front_door("CircuitBreaker").CircuitBreaker(name, **clock)
