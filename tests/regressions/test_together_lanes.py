"""Decorated, by `call`, by `outcome`: one stack and one script, and every way of calling ends, counts, tells and charges alike.

A fast lane makes the first attempt by itself, so it has every rule a second time. Each seed is another stack and another script.
"""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience import (
    NON_RETRYABLE,
    RETRYABLE,
    Bulkhead,
    BulkheadFullError,
    CircuitBreaker,
    Constant,
    Effect,
    ErrorClassifier,
    Fallback,
    Found,
    NotFound,
    Pipeline,
    RateLimiter,
    Retry,
    Timeout,
    TokenBucket,
    current_key,
    current_reference,
    deadline,
    idempotency_key,
    mark_sent,
    remaining,
)
from finresilience.policies import alanes, call as calls, lanes, plan as plans
from finresilience.testing import ManualClock, instant
from tests.laws.sabotage import each_kill, kills, nothing
from tests.laws.worlds import RULES, Down, Lost, No, on

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finresilience import Event

SEEDS = 2_000 if os.environ.get("FINRESILIENCE_DEEP") else 100
FORMS = ("sync", "asyncio", "trio")
WAYS = ("decorated", "call", "outcome", "outcome of the decorated")
CALLS = 6
TIMES = (0.0, 0.0, 0.0234375, 0.265625, 1.140625)  # whole parts of two, here and below, so that sums are exact; none falls on a limit
ERRORS: dict[str, Callable[[], Exception]] = {
    "lost": Lost,
    "down": Down,
    "no": No,
    "bug": TypeError,
    "timeout": TimeoutError,
    "refused": partial(BulkheadFullError, "ledger", 1, 0.0),
}


class Pending(str):
    """An answer that says: not applied, ask again."""

    __slots__ = ()


class Rejected(str):
    """An answer that says no."""

    __slots__ = ()


JUDGED = ErrorClassifier({Pending: RETRYABLE, Rejected: NON_RETRYABLE}) | RULES
ANSWERS: dict[str, Any] = {"ok": "ok", "pending": Pending("pending"), "rejected": Rejected("rejected")}


class Script:
    """What a provider does, attempt by attempt; how each call is made; and the book of what it saw."""

    def __init__(self, seed: int) -> None:
        chance = Random(seed)
        ends = ("ok", "lost", "down", "no", "pending", "rejected", "bug", "timeout", "refused")
        self.lines = [(chance.choices(ends, (8, 2, 3, 1, 1, 1, 1, 1, 1))[0], chance.choice(TIMES)) for _ in range(40)]
        self.gaps = [chance.choice((0.0, 0.3125, 1.125, 5.0)) for _ in range(CALLS)]
        self.limits = [chance.choice((None, None, 0.5, 2.0)) for _ in range(CALLS)]
        self.book: list[tuple[object, ...]] = []

    def line(self, payment: str, now: float) -> tuple[str, float]:
        left = remaining()
        self.book.append((payment, round(now, 6), current_key(), current_reference(), None if left is None else round(left, 6)))
        return self.lines[len(self.book) % len(self.lines)]


def end_of(end: str) -> Any:
    make = ERRORS.get(end)
    if make is not None:
        raise make()
    return ANSWERS[end]


def stack(seed: int, heard: list[Event], clock: ManualClock | None) -> Pipeline:
    """Return one pipeline of random policies in their order."""
    chance, policies = Random(~seed), list[Any]()
    effect = chance.choice(list(Effect))
    if chance.random() < 0.3:
        policies.append(
            Fallback(value="stale", listeners=[]) if effect is Effect.READ else Fallback(pending=lambda *_: "soon", listeners=[])
        )
    if chance.random() < 0.2:
        policies.append(RateLimiter(TokenBucket(2, per=1.0, burst=1), max_wait=chance.choice((0.0, 3.0)), listeners=[]))
    if chance.random() < 0.6:
        slow: dict[str, Any] = {"slow_rate": 0.5, "slow_after": 1.0, "minimum_calls": 2} if chance.random() < 0.3 else {}
        policies.append(
            CircuitBreaker(
                "acme", consecutive_failures=2, open_for=0.5, half_open_calls=1, chance=lambda: 0.5, listeners=[heard.append], **slow
            )
        )
        if chance.random() < 0.2:
            policies[-1] = policies[-1].per(lambda payment: payment[-1], at_most=3)
    if chance.random() < 0.6:
        more: dict[str, Any] = chance.choice(({}, {}, {"max_elapsed": 1.0}, {"retry_result": lambda value: value == "rejected"}))
        policies.append(Retry(attempts=3, backoff=Constant(chance.choice((0.0, 0.125, 1.0))), listeners=[], **more))
    if chance.random() < 0.3 and any(isinstance(policy, CircuitBreaker | Retry) for policy in policies):
        policies.append(RateLimiter(TokenBucket(4, per=1.0, burst=2), max_wait=chance.choice((0.0, 0.5)), listeners=[]))
    if chance.random() < 0.4:
        policies.append(Bulkhead(1, queue=2, max_wait=0.75, listeners=[]))
        if chance.random() < 0.3:
            policies[-1] = policies[-1].per(lambda payment: payment[-1], at_most=2)
    if chance.random() < 0.6:
        policies.append(Timeout(chance.choice((0.0625, 0.5, 2.0)), exact=True, listeners=[]))
    named: Any = (lambda payment: f"my {payment}") if chance.random() < 0.3 else None
    limit, keyed = chance.choice((None, None, 0.75, 5.0)), chance.choice((None, None, lambda payment: payment))
    settings: dict[str, Any] = {"deadline": limit, "reference": named, "key": keyed, "marks_sent": chance.random() < 0.25}
    pipeline = Pipeline("acme", *policies, effect=effect, classify=JUDGED, clock=clock, listeners=[heard.append], **settings)
    if chance.random() < 0.2:
        pipeline.inquiry(schedule=(0.125,))(lambda payment: Found("found") if payment < "pay_3" else NotFound())
    return pipeline


def shown(act: Callable[[], Any]) -> tuple[str, ...]:
    """Return what the plain call gives, with the notes on its error."""
    try:
        return (repr(act()),)
    except Exception as error:
        return (type(error).__name__, *getattr(error, "__notes__", ()))


def same(answer: Any) -> Any:
    return answer


class Told:
    """All that one way of calling showed to anybody."""

    def __init__(self, seed: int, clock: ManualClock | None) -> None:
        self.script = Script(seed)
        self.heard: list[Event] = []
        self.pipeline = stack(seed, self.heard, clock)
        self.keyed_outside = Random(seed).random() < 0.7 or self.pipeline._plan.effect is Effect.IDEMPOTENT
        self.ends: list[tuple[str, ...]] = []

    def block(self, number: int) -> ExitStack:
        blocks, limit = ExitStack(), self.script.limits[number]
        if self.keyed_outside:
            blocks.enter_context(idempotency_key(f"key_{number}"))
        if limit is not None:
            blocks.enter_context(deadline(limit))
        return blocks

    def everything(self) -> tuple[object, ...]:
        policies: list[Any] = list(self.pipeline.policies)
        counts = [repr(policy.statistics()) for policy in policies if policy.role in {"CircuitBreaker", "RateLimiter", "Bulkhead"}]
        heard = [(type(event).__name__, repr(event).split("ran=")[0]) for event in self.heard]
        return self.ends, self.script.book, self.pipeline.statistics(), counts, heard


def sync_way(seed: int, way: str) -> tuple[object, ...]:
    clock = ManualClock()
    told = Told(seed, clock)
    script, pipeline = told.script, told.pipeline

    def charge(payment: str) -> Any:
        end, seconds = script.line(payment, clock.monotonic())
        mark_sent()
        clock.advance(seconds)
        return end_of(end)

    guarded = pipeline(charge)
    ways: dict[str, Callable[[str], Any]] = {
        "decorated": guarded,
        "call": lambda payment: pipeline.call(charge, payment),
        "outcome": lambda payment: pipeline.outcome(charge, payment).unwrap(),
        "outcome of the decorated": lambda payment: pipeline.outcome(guarded, payment).unwrap(),
    }
    with instant(clock):
        for number, gap in enumerate(script.gaps):
            with told.block(number):
                told.ends.append(shown(partial(ways[way], f"pay_{number}")))
            clock.advance(gap)
    return told.everything()


async def async_way(seed: int, way: str) -> tuple[object, ...]:
    told = Told(seed, None)
    script, pipeline = told.script, told.pipeline

    async def charge(payment: str) -> Any:
        end, seconds = script.line(payment, anyio.current_time())
        mark_sent()
        await anyio.sleep(seconds)
        return end_of(end)

    guarded = pipeline(charge)
    ways: dict[str, Callable[[str], Awaitable[Any]]] = {
        "decorated": guarded,
        "call": lambda payment: pipeline.acall(charge, payment),
        "outcome": lambda payment: pipeline.aoutcome(charge, payment),
        "outcome of the decorated": lambda payment: pipeline.aoutcome(guarded, payment),
    }
    for number, gap in enumerate(script.gaps):
        with told.block(number):
            try:
                answer = await ways[way](f"pay_{number}")
            except Exception as error:  # shown with its notes, as by the others
                told.ends.append((type(error).__name__, *getattr(error, "__notes__", ())))
            else:
                told.ends.append(shown(answer.unwrap if way.startswith("outcome") else partial(same, answer)))
        await anyio.sleep(gap)
    return told.everything()


def every_way_agrees(form: str, seeds: int = SEEDS) -> None:
    for seed in range(seeds):
        first, *others = [sync_way(seed, way) if form == "sync" else on(form, async_way, seed, way) for way in WAYS]
        for way, other in zip(WAYS[1:], others, strict=True):
            assert other == first, (seed, way)


@pytest.mark.parametrize("form", FORMS)
def test_every_way_of_calling_one_stack_ends_counts_tells_and_charges_alike(form: str) -> None:
    every_way_agrees(form)


# --- is the law awake? ---------------------------------------------------------------------------------------------


def a_lane_hands_no_permit_over(patch: pytest.MonkeyPatch) -> None:
    resume = calls.Call.resume
    patch.setattr(calls.Call, "resume", lambda self, permit, *more, **told: resume(self, None, *more, **told))


def a_lane_takes_every_answer_for_plain(patch: pytest.MonkeyPatch) -> None:
    for module in (lanes, alanes):
        patch.setattr(module, "looked", lambda plan, _fn, _args, _kwargs, value, *_, **__: taken_for_plain(plan, value))


def taken_for_plain(plan: Any, value: Any) -> Any:
    """End the call as if the answer had needed no second look."""
    call = calls.Call(plan, nothing, ("pay_0",), {}, 0.0)
    call._answer, call._ok, call.wait = value, True, None
    return call


def a_lane_forgets_its_circuit(patch: pytest.MonkeyPatch) -> None:
    for module in (lanes, alanes):
        patch.setattr(module, "core_of", lambda _: lanes._NoBreaker())


def a_lane_gives_no_quota(patch: pytest.MonkeyPatch) -> None:
    for module in (lanes, alanes):
        patch.setattr(module, "passed", lambda *_: True)


def a_lane_finds_no_key(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(plans.Plan, "light", property(lambda self: self.timeout is None and self.deadline == float("inf")))


@each_kill(
    (a_lane_hands_no_permit_over, every_way_agrees, "asyncio", 60),
    (a_lane_takes_every_answer_for_plain, every_way_agrees, "sync", 60),
    (a_lane_forgets_its_circuit, every_way_agrees, "trio", 60),
    (a_lane_gives_no_quota, every_way_agrees, "sync", 150),
    (a_lane_finds_no_key, every_way_agrees, "sync", 150),
)
def test_a_saboteur_is_caught(row: tuple[Any, ...]) -> None:
    kills(*row)
