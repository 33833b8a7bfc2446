"""After a call nothing of it is kept alive: no argument, no error, no traceback. Proved without the garbage collector's help."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import ref

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing

from finresilience import (
    CircuitBreaker,
    Constant,
    Effect,
    FinresilienceError,
    Pipeline,
    Retry,
    Timeout,
    Unknown,
    UnknownOutcomeError,
)
from finresilience.policies.call import Call
from tests.laws.sabotage import each_kill, kills
from tests.laws.worlds import RULES, Down, Lost, No, both_loops, on, still

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Card:
    """A secret that must not outlive its call."""


ENDS: dict[str, tuple[type[Exception] | None, ...]] = {
    "success": (None,),
    "declined": (No,),
    "failed": (Down, Down, Down),
    "unknown": (Lost, Lost, Lost),
    "retried": (Down, None),
    "retried twice": (Down, Lost, None),
    "unknown, then declined": (Lost, No),
}
every_end = pytest.mark.parametrize("end", [*ENDS, "refused"])


@pytest.fixture(autouse=True)
def without_the_collector() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def breaker(end: str) -> CircuitBreaker:
    made = CircuitBreaker("acme", classify=RULES, clock=still(), listeners=[])
    if end == "refused":
        made.force_open()
    return made


def retry() -> Retry:
    return Retry(attempts=3, backoff=Constant(0), listeners=[])


def lone(end: str) -> Any:
    return Retry(attempts=3, backoff=Constant(0), classify=RULES, effect=Effect.IDEMPOTENT_BY_NATURE, clock=still(), listeners=[])


def piped(*policies: Any, **more: Any) -> Pipeline:
    effect = more.pop("effect", Effect.IDEMPOTENT_BY_NATURE)
    return Pipeline("acme", *policies, classify=RULES, effect=effect, clock=still(), listeners=[], **more)


def always(answer: str) -> Callable[..., str]:
    return lambda *_: answer


POLICIES: dict[str, Callable[[str], Any]] = {
    "breaker": breaker,
    "slow breaker": lambda end: CircuitBreaker("acme", classify=RULES, clock=still(), listeners=[], slow_rate=0.5, slow_after=1.0),
    "per key": lambda end: breaker(end).per(always("a"), at_most=2),
    "retry": lone,
    "timeout": lambda end: Timeout(2.0, classify=RULES, clock=still(), listeners=[]),
    "breaker and retry": lambda end: piped(breaker(end), retry()),
    "everything": lambda end: piped(breaker(end), retry(), Timeout(2.0), key=always("pay_1"), reference=always("ref_1")),
    "everything, read": lambda end: piped(breaker(end), retry(), Timeout(2.0), effect=Effect.READ),
}
every_policy = pytest.mark.parametrize("which", POLICIES)


class Provider:
    """Raises a new error per attempt, and watches each of them and the arguments; holds none of them."""

    def __init__(self, script: tuple[type[Exception] | None, ...]) -> None:
        self.script = list(script)
        self.seen: list[ref[Any]] = []

    def line(self, card: Card) -> str:
        self.seen.append(ref(card))
        kind = self.script.pop(0) if self.script else None
        if kind is None:
            return "paid"
        error = kind("message")
        self.seen.append(ref(error))
        try:
            raise error
        finally:
            del error, card  # this frame must not be what closes the circle

    def alive(self) -> list[Any]:
        return [one for watched in self.seen if (one := watched()) is not None]


FORMS = ["decorated", "call", "outcome"]


def used(policy: Any, form: str, provider: Provider) -> None:
    card = Card()
    provider.seen.append(ref(card))

    def charge(card: Card) -> str:
        return provider.line(card)

    if form == "outcome":
        policy.outcome(charge, card)
        return
    with suppress(Down, Lost, No, FinresilienceError):
        policy(charge)(card) if form == "decorated" else policy.call(charge, card)


async def aused(policy: Any, form: str, provider: Provider) -> None:
    card = Card()
    provider.seen.append(ref(card))

    async def charge(card: Card) -> str:
        await anyio.lowlevel.checkpoint()
        return provider.line(card)

    if form == "outcome":
        await policy.aoutcome(charge, card)
        return
    with suppress(Down, Lost, No, FinresilienceError):
        await (policy(charge)(card) if form == "decorated" else policy.acall(charge, card))


@every_policy
@every_end
@pytest.mark.parametrize("form", FORMS)
def test_a_sync_call_leaves_nothing_behind(which: str, end: str, form: str) -> None:
    provider = Provider(ENDS.get(end, ()))
    policy = POLICIES[which](end)
    used(policy, form, provider)
    assert provider.seen
    assert provider.alive() == []


@every_policy
@every_end
@pytest.mark.parametrize("form", FORMS)
@both_loops
def test_an_async_call_leaves_nothing_behind_once_its_task_has_ended(which: str, end: str, form: str, backend: str) -> None:
    provider = Provider(ENDS.get(end, ()))
    policy = POLICIES[which](end)

    async def world() -> list[Any]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(aused, policy, form, provider)
        await anyio.lowlevel.checkpoint()
        return provider.alive()

    assert anyio.run(world, backend=backend) == []


@every_policy
@every_end
@both_loops
def test_an_async_call_leaves_nothing_behind_inside_its_task(which: str, end: str, backend: str) -> None:
    provider = Provider(ENDS.get(end, ()))
    policy = POLICIES[which](end)

    async def world() -> list[Any]:
        await aused(policy, "decorated", provider)
        await anyio.lowlevel.checkpoint()
        return provider.alive()

    assert anyio.run(world, backend=backend) == []


def test_an_outcome_keeps_its_error_for_as_long_as_it_is_kept() -> None:
    provider = Provider((Lost,))
    outcome = piped(Timeout(2.0), effect=Effect.UNSAFE).outcome(lambda: provider.line(Card()))
    assert isinstance(outcome, Unknown)
    assert provider.alive()
    del outcome
    assert provider.alive() == []


@both_loops
def test_an_expired_call_leaves_nothing_behind(backend: str) -> None:
    seen: list[ref[Any]] = []

    async def charge(card: Card) -> None:
        await anyio.sleep_forever()

    async def used_up() -> None:
        card = Card()
        seen.append(ref(card))
        with suppress(UnknownOutcomeError):
            await Pipeline("acme", Timeout(2.0), listeners=[])(charge)(card)

    async def world() -> list[Any]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(used_up)
        await anyio.lowlevel.checkpoint()
        return [one for watched in seen if (one := watched()) is not None]

    assert on(backend, world) == []


async def hung(seen: list[ref[Any]]) -> None:
    async def charge(card: Card) -> None:
        await anyio.sleep_forever()

    card = Card()
    seen.append(ref(card))
    await piped(breaker(""), retry(), Timeout(2.0))(charge)(card)


def test_a_call_whose_task_is_cancelled_leaves_nothing_behind_on_asyncio() -> None:
    seen: list[ref[Any]] = []

    async def world() -> list[Any]:
        task = asyncio.create_task(hung(seen))  # by itself: a cancelled task group of anyio's keeps frames on asyncio, guarded or not
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        del task
        await asyncio.sleep(0)
        return [one for watched in seen if (one := watched()) is not None]

    assert on("asyncio", world) == []


def test_a_call_whose_nursery_is_cancelled_leaves_nothing_behind_on_trio() -> None:
    seen: list[ref[Any]] = []

    async def world() -> list[Any]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hung, seen)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await trio.lowlevel.checkpoint()
        return [one for watched in seen if (one := watched()) is not None]

    assert on("trio", world) == []


def test_a_retry_loop_leaves_nothing_behind() -> None:
    provider = Provider((Down, Down, Down))

    def looped() -> None:
        card = Card()
        with suppress(Down):
            for attempt in lone(""):
                with attempt:
                    provider.line(card)

    looped()
    assert provider.alive() == []


def test_a_breakers_guard_leaves_nothing_behind() -> None:
    provider = Provider((Lost,))

    def guarded() -> None:
        with suppress(Lost), breaker("").guard():
            provider.line(Card())

    guarded()
    assert provider.alive() == []


def the_last_error_is_kept(patch: pytest.MonkeyPatch) -> None:
    failed, kept = Call.failed, list[Exception]()

    def keeping(self: Call, error: Exception) -> None:
        kept.append(error)
        failed(self, error)

    patch.setattr(Call, "failed", keeping)


@each_kill(
    (the_last_error_is_kept, test_a_sync_call_leaves_nothing_behind, "everything", "failed", "call"),
    (the_last_error_is_kept, test_an_async_call_leaves_nothing_behind_inside_its_task, "breaker", "unknown", "asyncio"),
    (the_last_error_is_kept, test_an_async_call_leaves_nothing_behind_inside_its_task, "breaker", "unknown", "trio"),
    (the_last_error_is_kept, test_a_retry_loop_leaves_nothing_behind),
)
def test_its_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
