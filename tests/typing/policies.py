"""What a type checker must see of the policies that stand round and inside a call. Read by mypy --strict and pyright; never run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, assert_type

from finresilience import (
    Bulkhead,
    CircuitBreaker,
    Effect,
    Failover,
    Fallback,
    Hedge,
    LastGood,
    Ok,
    Outcome,
    Pipeline,
    Quantile,
    RateLimiter,
    Retry,
    Route,
    Routed,
    SlidingWindow,
    Stale,
    Timeout,
    TokenBucket,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine

bulkhead = Bulkhead(20, queue=50, max_wait=0.5)
limiter = RateLimiter(TokenBucket(100, per=1.0, burst=20), max_wait=0.25)
turns = RateLimiter(SlidingWindow(10, per=60.0)).per(str, at_most=1000)
hedge = Hedge(Quantile(0.95), effect=Effect.READ)
pipeline = Pipeline(
    "acme.balance",
    Fallback(last_good=LastGood(max_age=300.0, at_most=1000, key=str)),
    turns,
    hedge,
    CircuitBreaker("acme"),
    Retry(attempts=2),
    limiter,
    bulkhead,
    Timeout(1.0),
    effect=Effect.READ,
)


@bulkhead
def charge(amount: int, *, currency: str = "EUR") -> str:
    return currency


@limiter()
def refund(amount: int) -> str:
    return "refunded"


@hedge
async def balance(account: str) -> int:
    return 5


@pipeline
async def guarded(account: str) -> int:
    return 5


class Client:
    @limiter
    @bulkhead
    def charge(self, amount: int) -> str:
        return "paid"


assert_type(charge(5, currency="USD"), str)
assert_type(refund(5), str)
assert_type(Client().charge(5), str)
coroutine: Coroutine[Any, Any, int] = balance("a_1")
assert_type(bulkhead.call(charge, 5), str)
assert_type(limiter.outcome(refund, 5), Outcome[str])
charge("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - the signature is kept, so this must be an error
Bulkhead()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue] - what could hurt has no default
RateLimiter()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue] - and here


@Pipeline("acme.charge")
def by_acme(amount: int) -> str:
    return "acme"


@Pipeline("globex.charge")
def by_globex(amount: int) -> str:
    return "globex"


router = Failover([Route("acme", by_acme), Route("globex", by_globex)])
assert_type(router.call(5), str)
assert_type(router.outcome(5), Outcome[str])
assert_type(router.routed(5), Routed[str])
router.call("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - a failover has the signature of its routes
arouter = Failover([Route("acme", guarded)])


async def world() -> None:
    assert_type(await arouter.acall("a_1"), int)
    assert_type(await arouter.aoutcome("a_1"), Outcome[int])
    assert_type(await asyncio.create_task(guarded("a_1")), int)
    outcome = await pipeline.aoutcome(guarded, "a_1")
    if isinstance(outcome, Ok):
        assert_type(outcome.fallback, Stale | None)
    async with bulkhead.guard(), limiter.guard():
        pass
    with bulkhead.guard(), limiter.guard():
        pass
