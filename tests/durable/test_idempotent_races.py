"""Three callers of one key: between any two turns of a loop, and between any two lines of a thread, there is one effect and one answer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience.durable.amemory_idempotency import AsyncMemoryIdempotencyStore
from finresilience.durable.idempotent import AsyncIdempotent, SyncIdempotent
from finresilience.durable.idempotent_errors import KeyInProgressError
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.durable.records import Claimed, ClaimToken
from finresilience.testing import CounterexampleError, ManualClock, explore, explore_threads, turn
from tests.durable.idempotents import ASKS, LEASE, RULES, Payment as Answer, Request, paid

if TYPE_CHECKING:
    from finresilience.testing.stories import ThreadStory

SEEDS = 3_000 if os.environ.get("FINRESILIENCE_DEEP") else 60


class Book:
    def __init__(self) -> None:
        self.effects = 0
        self.answers: list[object] = []

    def one_effect_and_one_answer(self) -> None:
        assert self.effects == 1
        assert {answer for answer in self.answers if answer != "in progress"} == {paid(Request())}


def options(**more: Any) -> dict[str, Any]:
    from finresilience.durable.codecs import dataclass_codec

    return {
        **ASKS,
        "codec": dataclass_codec(Answer),
        "lease": LEASE,
        "deadline": LEASE / 2,
        "classify": RULES,
        "name": "pay",
        "listeners": (),
        **more,
    }


async def in_a_loop(kind: Any = AsyncIdempotent, **more: Any) -> None:
    book, shared = Book(), AsyncMemoryIdempotencyStore()

    async def body(req: Request) -> Any:
        book.effects += 1
        await turn()
        return paid(req)

    pay = kind(shared, **options(**more))(body)

    async def caller() -> None:
        try:
            book.answers.append(await pay(Request()))
        except KeyInProgressError:
            book.answers.append("in progress")

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(caller)
    book.one_effect_and_one_answer()


def in_threads(kind: Any = SyncIdempotent) -> ThreadStory:
    clock = ManualClock()
    book, shared = Book(), MemoryIdempotencyStore(clock=clock)

    def body(req: Request) -> Any:
        book.effects += 1
        return paid(req)

    pay = kind(shared, **options(clock=clock))(body)

    def caller() -> None:
        try:
            book.answers.append(pay(Request()))
        except KeyInProgressError:
            book.answers.append("in progress")

    return [caller] * 3, book.one_effect_and_one_answer


class AsyncFindsFirst(AsyncIdempotent[Any]):
    """Looks whether the key is free, and then believes it."""

    def asks(self, question: Any) -> Any:
        async def ask() -> Any:
            if await self.store.find(self.name, question.key) is None:
                told = await super(AsyncFindsFirst, self).asks(question)
                if not isinstance(told, Claimed):  # somebody was quicker: it was free when we looked
                    return Claimed(token=ClaimToken(self.name, question.key, 1), lease=LEASE)
                return told
            return await super(AsyncFindsFirst, self).asks(question)

        return ask()


class FindsFirst(SyncIdempotent[Any]):
    """Looks whether the key is free, and then believes it."""

    def asks(self, question: Any) -> Any:
        free = self.store.find(self.name, question.key) is None
        told = super().asks(question)
        return Claimed(token=ClaimToken(self.name, question.key, 1), lease=LEASE) if free else told


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("wait", [0.0, 30.0])
def test_three_callers_in_a_loop_have_one_effect(backend: Any, wait: float) -> None:
    assert explore(lambda: in_a_loop(wait=wait), seeds=SEEDS, backend=backend).schedules == SEEDS


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_who_looks_before_he_claims_is_caught_in_a_loop(backend: Any) -> None:
    with pytest.raises(CounterexampleError):
        explore(lambda: in_a_loop(AsyncFindsFirst), seeds=SEEDS, backend=backend)


def test_three_threads_have_one_effect() -> None:
    assert explore_threads(in_threads, seeds=SEEDS // 2).schedules == SEEDS // 2


def test_who_looks_before_he_claims_is_caught_in_threads() -> None:
    with pytest.raises(CounterexampleError):
        explore_threads(lambda: in_threads(FindsFirst), seeds=SEEDS * 5)
