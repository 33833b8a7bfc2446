"""A hedge sends twice only what is once, ends by the join over its arms, and leaves nothing behind: at any timing, at any cancellation."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import gc
import os
from contextlib import suppress
from math import inf
from random import Random
from typing import Any
from weakref import ref

import anyio
import anyio.lowlevel
import pytest

from finresilience import (
    CallAbandoned,
    CircuitBreaker,
    ConfigurationError,
    Declined,
    Effect,
    Failed,
    FinresilienceError,
    Ok,
    Refused,
    Timeout,
    Unknown,
)
from finresilience.cores.hedge import Race
from finresilience.policies import staged
from finresilience.policies.hedge import Hedge, _Hedged
from tests.laws.sabotage import each_kill, kills
from tests.laws.worlds import Down, Lost, No, both_loops, on, still
from tests.policies.racing import Arms, hedged

AFTER, EXTRA = 3.0, 2
KIND_OF: dict[type[object], str] = {Ok: "ok", Declined: "no", Unknown: "lost", Failed: "down", Refused: "refused"}
ENDS: dict[str, Any] = {"ok": lambda: "paid", "no": No, "lost": Lost, "down": Down}
Script = list[tuple[float, str]]


def foreseen(script: Script, *, keyed: bool) -> tuple[str, float, int]:
    """Play a race by hand, one event after the other: return how it ends, when, and how many arms it had."""
    starts, ends = [0.0], list[tuple[float, str]]()
    due, no = AFTER, False
    while True:
        running = [(start + script[at][0], script[at][1]) for at, start in enumerate(starts)]
        running = [arm for arm in running if arm not in ends]
        end = min(running, default=(inf, ""))
        may_start = len(starts) <= EXTRA and not no
        if may_start and due < end[0]:
            starts.append(due)
            due += AFTER
            continue
        ends.append(end)
        now, kind = end
        if kind == "ok" or (kind == "no" and keyed):
            return kind, now, len(starts)
        no = no or kind == "no"
        due = now
        if len(running) == 1 and (len(starts) > EXTRA or no):
            kinds = {kind for _, kind in ends}
            return next(kind for kind in ("lost", "no", "down") if kind in kinds), now, len(starts)


def scripts() -> list[Script]:
    chance = Random(17)
    many = 2000 if os.environ.get("FINRESILIENCE_DEEP") else 60
    return [[(chance.random() * 8, chance.choice(list(ENDS))) for _ in range(EXTRA + 1)] for _ in range(many)]


def law_a_race_ends_as_played_by_hand(backend: str) -> None:
    async def world() -> None:
        for keyed in (False, True):
            ways: Any = {"effect": Effect.IDEMPOTENT, "key": lambda *_: "pay_1"} if keyed else {"effect": Effect.IDEMPOTENT_BY_NATURE}
            for script in scripts():
                arms = Arms(*((seconds, ENDS[kind]()) for seconds, kind in script))
                began = anyio.current_time()
                outcome = await hedged(Hedge(AFTER, extra=EXTRA), **ways).aoutcome(arms.read)
                took = anyio.current_time() - began
                kind, at, many = foreseen(script, keyed=keyed)
                assert (KIND_OF[type(outcome)], len(arms.began)) == (kind, many), script
                assert took == pytest.approx(at), script
                assert arms.running == 0

    on(backend, world)


def law_every_arm_of_a_call_carries_one_key(backend: str) -> None:
    asked: list[int] = []

    def key() -> str:
        asked.append(1)
        return f"pay_{len(asked)}"

    arms = Arms((9.0, "a"), (9.0, "b"), (9.0, "c"))
    on(backend, hedged(Hedge(AFTER, extra=EXTRA), effect=Effect.IDEMPOTENT, key=key).acall, arms.read)
    assert len(arms.keys) == 3
    assert len(set(arms.keys)) == 1


def law_what_is_twice_when_sent_twice_is_sent_once(backend: str) -> None:
    arms = Arms((9.0, "first"), (1.0, "second"))
    with suppress(ConfigurationError):
        on(backend, hedged(effect=Effect.UNSAFE).acall, arms.read)
    assert len(arms.began) < 2


LAWS = [law_a_race_ends_as_played_by_hand, law_every_arm_of_a_call_carries_one_key, law_what_is_twice_when_sent_twice_is_sent_once]


@both_loops
@pytest.mark.parametrize("law", LAWS)
def test_the_law_holds(backend: str, law: Any) -> None:
    law(backend)


# ---------------------------------------------------------------- cancelled anywhere


async def cut_at(step: int, script: tuple[Any, ...]) -> tuple[bool, int, bool, list[Any]]:
    """Cancel a hedged half-open call after so many turns.

    Return whether it had ended by itself, how many arms are left, whether the circuit still lets somebody pass, and what was told.
    """
    clock, lines, running, ended = still(), list(script), 0, False
    breaker = CircuitBreaker("acme", half_open_calls=1, clock=clock, listeners=[])
    breaker.trip(seconds=1)
    clock.advance(2)
    heard: list[Any] = []

    async def work() -> str:
        nonlocal running
        running += 1
        try:
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
            kind = lines.pop(0) if lines else None
            if kind is not None:
                raise kind
            return "ok"
        finally:
            running -= 1

    pipeline = hedged(Hedge(0.5, extra=2), breaker, Timeout(20.0), effect=Effect.IDEMPOTENT, key=lambda: "pay_1", clock=clock, heard=heard)

    async def call() -> None:
        nonlocal ended
        with suppress(Down, No, Lost, FinresilienceError):
            await pipeline.acall(work)
        ended = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        for _ in range(step):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    if breaker.state == "open":
        counts: Any = breaker.statistics()
        clock.advance(counts["retry_after"] + 1)
    return ended, running, breaker.admit(clock.monotonic()) is not None, heard


def law_no_arm_and_no_permit_is_left_whenever_the_call_is_cancelled(backend: str, script: tuple[Any, ...]) -> None:
    step = 0
    while True:
        ended, running, passes, _ = on(backend, cut_at, step, script)
        assert (running, passes) == (0, True), f"cancelled at step {step}"
        if ended:
            break
        step += 1
        assert step < 200
    assert step >= 3  # the sweep saw the inside of the call


SWEPT = {"works": (None,), "declines": (No,), "fails, then works": (Down, None), "is unknown": (Lost, Lost, Lost)}


@both_loops
@pytest.mark.parametrize("script", SWEPT)
def test_no_arm_and_no_permit_is_left_whenever_the_call_is_cancelled(backend: str, script: str) -> None:
    law_no_arm_and_no_permit_is_left_whenever_the_call_is_cancelled(backend, SWEPT[script])


@both_loops
@pytest.mark.parametrize("script", ["works", "declines", "is unknown"])  # not one that is known not to have been applied
def test_whoever_cancels_a_call_that_may_have_been_sent_is_told_so_at_every_step(backend: str, script: str) -> None:
    for step in range(200):
        ended, _, _, heard = on(backend, cut_at, step, SWEPT[script])
        if ended:
            break
        begun = any(isinstance(event, CallAbandoned) for event in heard)
        assert begun or step < 4  # before the first arm has begun, nothing was sent


# ---------------------------------------------------------------- nothing of a call is kept


class Card:
    """A secret that must not outlive its call."""


@both_loops
@pytest.mark.parametrize("script", [(None,), (Down, None), (Lost, Lost, Lost), (No,), (KeyboardInterrupt,)], ids=str)
def test_nothing_of_a_call_is_kept_alive(backend: str, script: tuple[Any, ...]) -> None:
    pipeline = hedged(Hedge(0.5, extra=2), effect=Effect.IDEMPOTENT_BY_NATURE)
    lines = list(script)

    async def work(_: Card) -> str:
        kind = lines.pop(0)
        await anyio.sleep(1.0)
        if kind is not None:
            raise kind
        return "ok"

    async def call() -> ref[Card]:
        card = Card()
        lines[:] = [*script, *script]
        with suppress(KeyboardInterrupt):
            await pipeline.aoutcome(work, card)
        return ref(card)

    async def world() -> bool:
        watched = await call()
        await anyio.lowlevel.checkpoint()
        return watched() is None

    gc.disable()
    try:
        assert on(backend, world)
    finally:
        gc.enable()


# ---------------------------------------------------------------- the saboteurs


def losers_go_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_Hedged, "_settle", lambda self, arms: None)


def an_unsafe_call_is_hedged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Hedge, "check", lambda self, effect: None)


def an_unknown_beats_an_ok(patch: pytest.MonkeyPatch) -> None:
    ended = Race.ended

    def hasty(self: Race, number: int, outcome: Any, now: float, **told: Any) -> None:
        ended(self, number, outcome, now, **told)
        if isinstance(outcome, Unknown):
            self.winner = number

    patch.setattr(Race, "ended", hasty)


def any_no_wins(patch: pytest.MonkeyPatch) -> None:
    ended = Race.ended

    def hasty(self: Race, number: int, outcome: Any, now: float, **told: Any) -> None:
        ended(self, number, outcome, now, **told)
        if isinstance(outcome, Declined):
            self.winner = number

    patch.setattr(Race, "ended", hasty)


def a_failure_ends_the_call(patch: pytest.MonkeyPatch) -> None:
    ended = Race.ended

    def hasty(self: Race, number: int, outcome: Any, now: float, **told: Any) -> None:
        ended(self, number, outcome, now, **told)
        if isinstance(outcome, Failed):
            self.winner = number

    patch.setattr(Race, "ended", hasty)


def a_failure_hurries_nobody(patch: pytest.MonkeyPatch) -> None:
    ended = Race.ended

    def calm(self: Race, number: int, outcome: Any, now: float, **told: Any) -> None:
        due = self.due
        ended(self, number, outcome, now, **told)
        self.due = due

    patch.setattr(Race, "ended", calm)


def each_arm_makes_a_key(patch: pytest.MonkeyPatch) -> None:
    arm = staged.Whole._arm

    def minting(self: staged.Whole) -> Any:
        self.context.key = self.plan.context(0.0, self.args, self.kwargs).key
        return arm(self)

    patch.setattr(staged.Whole, "_arm", minting)


def permits_stay_with_the_losers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CircuitBreaker, "release", lambda self, permit: None)


@each_kill(
    (losers_go_on, law_a_race_ends_as_played_by_hand, "asyncio"),
    (losers_go_on, law_a_race_ends_as_played_by_hand, "trio"),
    (an_unsafe_call_is_hedged, law_what_is_twice_when_sent_twice_is_sent_once, "asyncio"),
    (an_unknown_beats_an_ok, law_a_race_ends_as_played_by_hand, "asyncio"),
    (any_no_wins, law_a_race_ends_as_played_by_hand, "asyncio"),
    (a_failure_ends_the_call, law_a_race_ends_as_played_by_hand, "asyncio"),
    (a_failure_hurries_nobody, law_a_race_ends_as_played_by_hand, "asyncio"),
    (each_arm_makes_a_key, law_every_arm_of_a_call_carries_one_key, "asyncio"),
    (permits_stay_with_the_losers, law_no_arm_and_no_permit_is_left_whenever_the_call_is_cancelled, "asyncio", (None,)),
)
def test_a_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
