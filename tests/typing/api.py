"""What a type checker must see of the public surface. Read by mypy --strict and pyright; never run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, assert_type

from finresilience import CircuitBreaker, Declined, Failed, Ok, Outcome, Pipeline, Refused, Retry, Timeout, Unknown

breaker = CircuitBreaker("acme")
pipeline = Pipeline("acme", breaker, Retry(attempts=2), Timeout(1.0))


@pipeline
def charge(amount: int, *, currency: str = "EUR") -> str:
    return currency


@pipeline()
def refund(amount: int) -> str:
    return "refunded"


@pipeline
async def acharge(amount: int) -> str:
    return "paid"


@breaker
def pages(first: int) -> Iterator[int]:
    yield first


@breaker
async def apages(first: int) -> AsyncIterator[int]:
    yield first


class Client:
    @pipeline
    def charge(self, amount: int) -> str:
        return "paid"

    @pipeline()
    async def acharge(self, amount: int) -> str:
        return "paid"


assert_type(charge(5, currency="USD"), str)
assert_type(refund(5), str)
coroutine: Coroutine[Any, Any, str] = acharge(5)
assert_type(pages(1), Iterator[int])
assert_type(apages(1), AsyncIterator[int])
assert_type(Client().charge(5), str)
of_method: Coroutine[Any, Any, str] = Client().acharge(5)
assert_type(pipeline.call(charge, 5, currency="USD"), str)
assert_type(pipeline.outcome(charge, 5), Outcome[str])


charge("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - the signature is kept, so this must be an error
charge(5, coin="USD")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue] - and this
Client().charge("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - and this
pipeline.call(charge, "5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - and this
Retry()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue] - what could hurt has no default


async def world() -> None:
    task = asyncio.create_task(acharge(5))
    assert_type(await task, str)
    assert_type(await pipeline.acall(acharge, 5), str)
    assert_type(await pipeline.aoutcome(acharge, 5), Outcome[str])


def told(outcome: Outcome[str]) -> str | None:
    match outcome:
        case Ok(value):
            assert_type(value, str)
            return value
        case Declined(error) | Failed(error) | Unknown(error):
            assert_type(error, Exception)
            return None
        case Refused():
            return None
