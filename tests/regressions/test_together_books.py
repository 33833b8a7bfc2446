"""Random stacks of policies, random faults, and the banks' own books: whatever stands round what, money moves once, or the caller knows.

Each seed builds another world: a pipeline, one inside another, a failover over several, or a pipeline round that failover. Banks answer
late, lose answers, say no; some calls are refused, some are cancelled on the way, and a bank may carry out what was cancelled.
"""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import os
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience import (
    NON_RETRYABLE,
    Bulkhead,
    CircuitBreaker,
    Constant,
    Effect,
    ErrorClassifier,
    Failover,
    Fallback,
    Found,
    Hedge,
    NotFound,
    Pipeline,
    RateLimiter,
    Retry,
    Route,
    Timeout,
    TokenBucket,
    current_key,
)
from finresilience.context import current
from finresilience.cores import retry
from finresilience.cores.join import End, Join
from finresilience.policies import bulkhead, call as calls, fallback, staged, walk
from finresilience.testing import ManualClock
from tests.laws.sabotage import each_kill, kills, nothing
from tests.laws.worlds import RULES, Down, Lost, No, on

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience import Event

SEEDS = 2_000 if os.environ.get("FINRESILIENCE_DEEP") else 120
FORMS = ("sync", "asyncio", "trio")
ENDS = ("ok", "lost", "lost on the way", "down", "no", "gate")
TIMES = (0.0, 0.0, 0.05, 0.3, 1.5)
PROVIDERS = ("acme", "globex", "initech")


class Gate(Exception):
    """A no of a gate: it says nothing of what had passed it."""

    status_code = 403


JUDGED = ErrorClassifier({Gate: NON_RETRYABLE}) | RULES


class Bank:
    """Takes each key once, and says the same of it for ever; without keys it takes whatever it is sent."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.taken: Counter[str] = Counter()
        self.said: dict[str, str] = {}

    def line(self, payment: str) -> tuple[str | None, str, float, float]:
        """Return the key, the end, and the seconds before and after it is decided."""
        chance, effect = self.town.chance, self.town.effect
        key = payment if effect is Effect.IDEMPOTENT_BY_NATURE else current_key()
        end = chance.choices(ENDS, (6, 2, 1, 3, 1, 1))[0]
        return key, end, chance.choice(TIMES), chance.choice(TIMES)

    def decide(self, payment: str, key: str | None, end: str) -> type[Exception] | None:
        """Carry it out, or do not; return what is raised."""
        known = self.said.get(key) if key is not None else None
        if end in {"lost on the way", "down", "gate"}:
            return {"down": Down, "gate": Gate}.get(end, Lost)
        said = known or ("no" if end == "no" else "ok")
        if key is not None:
            self.said[key] = said
        self.taken[payment] += said == "ok" and known is None
        if said == "no":
            return No
        return Lost if end == "lost" else None

    def charge(self, payment: str) -> str:
        key, end, before, after = self.line(payment)
        self.town.advance(before)
        error = self.decide(payment, key, end)
        self.town.advance(after)
        if error is not None:
            raise error
        return "ok"

    async def acharge(self, payment: str) -> str:
        key, end, before, after = self.line(payment)
        try:
            await anyio.sleep(before)
        except BaseException:
            if self.town.chance.random() < 0.5:  # it was on its way already
                self.decide(payment, key, end)
            raise
        error = self.decide(payment, key, end)
        await anyio.sleep(after)
        if error is not None:
            raise error
        return "ok"


class Town:
    """One world of one seed: who guards whom, the banks, and what was heard."""

    def __init__(self, seed: int, form: str) -> None:
        self.chance = Random(seed)
        self.is_async, self.clock = form != "sync", ManualClock() if form == "sync" else None
        self.heard: list[Event] = []
        self.bulkheads: list[Bulkhead] = []
        self.limiters: list[RateLimiter] = []
        self.intents: Counter[str] = Counter()
        self.shape = self.chance.choice(("one", "nested", "failover", "round"))
        effects = [Effect.UNSAFE, Effect.IDEMPOTENT, Effect.IDEMPOTENT_BY_NATURE]
        # A retry round a failover needs a key: without one nobody remembers at which provider it may have happened.
        self.effect = self.chance.choice(effects[:2] if self.shape == "round" else effects)
        self.banks = {name: Bank(self) for name in PROVIDERS}
        self.top: Any = None
        self.call: Any = self._built()

    def advance(self, seconds: float) -> None:
        if self.clock is not None:
            self.clock.advance(seconds)

    def _built(self) -> Callable[..., Any]:
        if self.shape in {"one", "nested"}:
            charge: Any = self._bank("acme")
            if self.shape == "nested":
                charge = self.pipeline("acme", inside=True)(charge)
            return self._topped(charge)
        routes: list[Route[Any, Any]] = [Route(name, self.pipeline(name, inside=True)(self._bank(name))) for name in PROVIDERS]
        key: Any = lambda payment: payment  # noqa: E731 - for the arguments
        router: Any = Failover(
            routes, key=key, spread=self.chance.random() < 0.5, clock=self.clock, chance=self.chance.random, listeners=[self.heard.append]
        )
        if self.shape == "round":
            return self._topped(router.acall if self.is_async else router.call)
        self.top = router
        return router.aoutcome if self.is_async else router.outcome  # type: ignore[no-any-return]  # of a router of whatever

    def _bank(self, name: str) -> Any:
        return self.banks[name].acharge if self.is_async else self.banks[name].charge

    def _topped(self, charge: Any, *, hedged: bool = True) -> Callable[..., Any]:
        self.top = top = self.pipeline("outer", hedged=hedged, asks=self.shape == "one")
        return lambda payment: (top.aoutcome if self.is_async else top.outcome)(charge, payment)

    def pipeline(self, name: str, *, inside: bool = False, hedged: bool = True, asks: bool = False) -> Pipeline:
        chance, policies = self.chance, list[Any]()
        if not inside and chance.random() < 0.3:
            policies.append(Fallback(pending=self.record, listeners=[]))
        if chance.random() < 0.3:
            policies.append(self._limiter())
        if hedged and self.is_async and self.effect.repeatable and chance.random() < 0.35:
            policies.append(Hedge(chance.choice((0.0, 0.2, 1.0)), extra=2, listeners=[]))
        if chance.random() < 0.5:
            policies.append(
                CircuitBreaker(name, consecutive_failures=2, open_for=0.5, half_open_calls=1, chance=chance.random, listeners=[])
            )
        if chance.random() < 0.6:
            policies.append(Retry(attempts=3, backoff=Constant(chance.choice((0.0, 0.1))), listeners=[]))
        if chance.random() < 0.3 and any(isinstance(policy, Hedge | CircuitBreaker | Retry) for policy in policies):
            policies.append(self._limiter())
        if chance.random() < 0.4:
            self.bulkheads.append(Bulkhead(1, queue=2, max_wait=0.7, listeners=[]))
            policies.append(self.bulkheads[-1])
        if chance.random() < 0.6:
            policies.append(Timeout(chance.choice((0.06, 0.5, 2.0)), listeners=[]))
        keyed: Any = (lambda payment: payment) if self.effect is Effect.IDEMPOTENT else None
        limit = chance.choice((None, None, 0.5, 3.0))
        told: dict[str, Any] = {"deadline": limit, "clock": self.clock, "classify": JUDGED, "listeners": [self.heard.append]}
        pipeline = Pipeline(name, *policies, effect=self.effect, key=keyed, **told)
        if asks and chance.random() < 0.3:
            pipeline.inquiry(schedule=(0.1, 0.1))(lambda payment: Found("ok") if self.moved(payment) else NotFound())
        return pipeline

    def _limiter(self) -> RateLimiter:
        self.limiters.append(RateLimiter(TokenBucket(3, per=1.0, burst=2), max_wait=self.chance.choice((0.0, 0.5)), listeners=[]))
        return self.limiters[-1]

    def record(self, _outcome: object, payment: str) -> str:
        self.intents[payment] += 1
        return "pending"

    # --- what was seen ---------------------------------------------------------------------------------------------

    def moved(self, payment: str) -> int:
        return sum(bank.taken[payment] for bank in self.banks.values()) + self.intents[payment]

    def check(self, payment: str, outcome: Any) -> None:
        """Compare what the caller was told with the books."""
        kind, moved = type(outcome).__name__, self.moved(payment)
        assert moved <= 1, "it moved twice"
        assert kind != "Ok" or moved == 1, "an Ok is in the books, or an intent"
        assert kind not in {"Declined", "Failed", "Refused"} or moved == 0, "what did not happen is in no book"
        told = any(type(event).__name__ == "CallAbandoned" for event in self.heard)
        assert kind != "NoneType" or moved == 0 or told, "somebody cancelled it, it moved, and nobody was told"

    def at_rest(self, payments: int) -> None:
        """Nothing is held, and every call was counted once."""
        held = [(room["at_work"], room["waiting"], room["let_in"]) for room in (door.statistics() for door in self.bulkheads)]
        assert not any(map(any, held)), "a place was lost"
        assert not any(limiter.statistics()["waiting"] for limiter in self.limiters), "somebody stands in line for ever"
        assert current.get() is None
        counted: dict[str, int] = self.top.statistics()
        assert sum(counted[name] for name in ("ok", "declined", "failed", "unknown", "refused", "abandoned")) == payments


def of_one_seed(seed: int, form: str) -> None:
    town = Town(seed, form)
    payments = [f"pay_{number}" for number in range(4)]
    if form == "sync":
        for payment in payments:
            town.check(payment, town.call(payment))
            town.advance(town.chance.choice((0.0, 0.6)))
        town.at_rest(len(payments))
        return

    async def pay(payment: str) -> None:
        outcome: Any = None
        with anyio.move_on_after(town.chance.choice((60.0, 60.0, 60.0, 0.1, 0.4, 1.2))):
            outcome = await town.call(payment)
        town.check(payment, outcome)

    async def day() -> None:
        together = town.chance.random() < 0.5
        async with anyio.create_task_group() as group:
            for payment in payments:
                if together:
                    group.start_soon(pay, payment)
                else:
                    await pay(payment)
        town.at_rest(len(payments))

    on(form, day)


def the_books_agree(form: str, seeds: int = SEEDS) -> None:
    for seed in range(seeds):
        of_one_seed(seed, form)


@pytest.mark.parametrize("form", FORMS)
def test_whatever_stands_round_what_money_moves_once_or_the_caller_knows(form: str) -> None:
    the_books_agree(form)


# --- are the laws awake? -------------------------------------------------------------------------------------------


def an_unknown_is_a_failure(patch: pytest.MonkeyPatch) -> None:
    end = Join.end
    patch.setattr(Join, "end", lambda self: End.FAILED if end(self) is End.UNKNOWN else end(self))


def a_gates_no_speaks_for_every_attempt(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(calls, "_final", lambda _: True)


def what_is_unknown_is_sent_again_whatever_the_effect(patch: pytest.MonkeyPatch) -> None:
    may_repeat = retry.may_repeat
    patch.setattr(retry, "may_repeat", lambda verdict, _: may_repeat(verdict, Effect.READ))


def a_failover_goes_past_an_unknown(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(walk, "passes", lambda end, *, soft: end.value != "ok")
    patch.setattr(Failover, "_doubtful", lambda *_: None)  # or the memory of doubts would hold it back


def a_failover_forgets_its_doubts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Failover, "_doubt", nothing)


def an_intent_is_recorded_for_an_unknown(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fallback.Fallback, "_asked", lambda _self, outcome: type(outcome).__name__ != "Ok")


def the_arms_have_no_common_key(patch: pytest.MonkeyPatch) -> None:
    arm, numbers = staged.Whole._arm, iter(range(10**9))

    def alone(self: staged.Whole) -> Any:
        call = arm(self)
        call.context.key = call.context.key and f"{call.context.key} {next(numbers)}"
        return call

    patch.setattr(staged.Whole, "_arm", alone)


def places_are_not_given_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(bulkhead.Bulkhead, "leave", nothing)


def nobody_tells_of_what_was_cancelled(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(calls, "CallAbandoned", lambda **_: None)


def a_cancelled_whole_is_not_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(staged.Whole, "broken", nothing)


@each_kill(
    (an_unknown_is_a_failure, the_books_agree, "sync", 120),
    (a_gates_no_speaks_for_every_attempt, the_books_agree, "asyncio", 120),
    (what_is_unknown_is_sent_again_whatever_the_effect, the_books_agree, "sync", 120),
    (a_failover_goes_past_an_unknown, the_books_agree, "trio", 120),
    (a_failover_forgets_its_doubts, the_books_agree, "sync", 120),
    (an_intent_is_recorded_for_an_unknown, the_books_agree, "sync", 120),
    (the_arms_have_no_common_key, the_books_agree, "asyncio", 120),
    (places_are_not_given_back, the_books_agree, "trio", 120),
    (nobody_tells_of_what_was_cancelled, the_books_agree, "asyncio", 120),
    (a_cancelled_whole_is_not_counted, the_books_agree, "trio", 120),
)
def test_a_saboteur_is_caught(row: tuple[Any, ...]) -> None:
    kills(*row)
