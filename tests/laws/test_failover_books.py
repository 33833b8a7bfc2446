"""Is a payment ever taken twice? The providers' own books say, not what the failover believes."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import os
from collections import Counter
from random import Random
from typing import Any

import pytest

from finresilience import Constant, Effect, Pipeline, Retry, current_key
from finresilience.cores.routing import Routing
from finresilience.policies import walk
from finresilience.policies.failover import Failover
from finresilience.policies.routes import Route
from finresilience.testing import ManualClock
from tests.laws.sabotage import each_kill, kills
from tests.laws.worlds import RULES, Down, Lost, No, on

CALLS = 1_000_000 if os.environ.get("FINRESILIENCE_DEEP") else 20_000
AMBIGUOUS = 0.2
EFFECTS = pytest.mark.parametrize("effect", [Effect.UNSAFE, Effect.IDEMPOTENT, Effect.IDEMPOTENT_BY_NATURE])


class Bank:
    """A provider that takes each key once, writes down what it took, and does not always say so."""

    def __init__(self, name: str, chance: Random, clock: ManualClock, *, by_nature: bool) -> None:
        self.name, self.chance, self.clock, self.by_nature = name, chance, clock, by_nature
        self.taken: Counter[str] = Counter()  # payments, by how often their money moved
        self.keys: set[str] = set()
        self.said: list[tuple[str, str]] = []  # what it said of each payment, in the order in which it was asked

    def charge(self, payment: str, region: str, pin: str | None) -> str:
        self.clock.advance(0.001)
        luck = self.chance.random()
        if luck < AMBIGUOUS:
            if self.chance.random() < 0.5:
                self.take(payment)
            self.said.append((payment, "lost"))
            raise Lost
        if luck < 0.35:
            self.said.append((payment, "down"))
            raise Down
        if luck < 0.4 and self.of(payment) not in self.keys:  # a bank does not say no to what it has taken
            self.said.append((payment, "no"))
            raise No("soft" if self.chance.random() < 0.5 else "hard")
        self.take(payment)
        self.said.append((payment, "ok"))
        return self.name

    async def acharge(self, payment: str, region: str, pin: str | None) -> str:
        return self.charge(payment, region, pin)

    def take(self, payment: str) -> None:
        key = self.of(payment)
        if key is None or key not in self.keys:
            self.taken[payment] += 1
            self.keys |= {key} if key else set()

    def of(self, payment: str) -> str | None:
        """By what the bank knows a payment again, if it does at all."""
        return payment if self.by_nature else current_key()


class Town:
    """Three banks behind one failover, and what became of every payment."""

    def __init__(self, seed: int, effect: Effect, *, guarded: bool, is_async: bool = False, **more: Any) -> None:
        self.chance, self.clock = Random(seed), ManualClock()
        self.banks = [
            Bank(name, self.chance, self.clock, by_nature=effect is Effect.IDEMPOTENT_BY_NATURE) for name in ("acme", "globex", "initech")
        ]
        keyed: Any = (lambda payment, *_: payment) if effect is Effect.IDEMPOTENT else None
        regions = (None, {"EU"}, {"EU", "US"})
        routes: list[Route[Any, Any]] = []
        for bank, allowed in zip(self.banks, regions, strict=True):
            fn: Any = bank.acharge if is_async else bank.charge
            if guarded:
                retry = Retry(attempts=2, backoff=Constant(0), listeners=[])
                fn = Pipeline(bank.name, retry, classify=RULES, effect=effect, clock=self.clock, listeners=[])(fn)
            routes.append(Route(bank.name, fn, regions=allowed))
        rules: dict[str, Any] = {} if guarded else {"effect": effect, "classify": RULES}
        self.router: Failover[..., Any] = Failover(
            routes,
            key=keyed,
            region=lambda _, region, pin: region,
            pin=lambda _, region, pin: pin,
            soft=lambda declined: str(declined.error) == "soft",
            clock=self.clock,
            chance=self.chance.random,
            listeners=[],
            **rules,
            **more,
        )
        self.routed: dict[str, Any] = {}

    def order(self, number: int) -> tuple[str, str, str | None]:
        pin = self.chance.choice(("acme", "globex", "initech", "nobody")) if self.chance.random() < 0.1 else None
        return f"pay_{number}", self.chance.choice(("EU", "US", "JP")), pin

    def check(self, payment: str, region: str, pin: str | None) -> None:
        """Compare what the failover says of a payment with the books."""
        routed = self.routed[payment]
        took = [bank.name for bank in self.banks if bank.taken[payment]]
        asked = [bank for bank in self.banks if any(of == payment for of, _ in bank.said[-3:])]
        assert len(took) <= 1, "two banks took it"
        assert all(bank.taken[payment] <= 1 for bank in self.banks), "one bank took it twice"
        kind = type(routed.outcome).__name__
        assert kind != "Ok" or took == [routed.outcome.value] == [routed.route], "an Ok is in the books of its route"
        assert kind not in {"Declined", "Failed", "Refused"} or not took, "what did not happen is in no book"
        assert kind != "Unknown" or set(took) <= {routed.route}, "a doubt is about one bank, and we know which"
        assert pin is None or {bank.name for bank in asked} <= {pin}, "a pinned payment was seen by its bank alone"
        abroad = {"JP": {"globex", "initech"}, "US": {"globex"}, "EU": set[str]()}[region]
        assert not {bank.name for bank in asked} & abroad, "nobody saw a payment of a region that is not his"


def no_payment_is_taken_twice(effect: Effect, calls: int, *, guarded: bool = False) -> None:
    town = Town(7, effect, guarded=guarded)
    for number in range(calls):
        order = town.order(number)
        town.routed[order[0]] = town.router.routed(*order)
        town.check(*order)
        del town.routed[order[0]]
        for bank in town.banks:
            bank.said, bank.taken = [], Counter()


@EFFECTS
@pytest.mark.parametrize("guarded", [False, True], ids=["bare", "guarded"])
def test_no_payment_is_taken_twice_though_a_fifth_of_the_answers_is_lost(effect: Effect, guarded: bool) -> None:
    no_payment_is_taken_twice(effect, CALLS // 6, guarded=guarded)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_nor_by_tasks(backend: str) -> None:
    town = Town(3, Effect.UNSAFE, guarded=True, is_async=True)

    async def pay() -> None:
        for number in range(CALLS // 40):
            order = town.order(number)
            town.routed[order[0]] = await town.router.arouted(*order)
            town.check(*order)

    on(backend, pay)


# --- are the laws awake? -------------------------------------------------------------------------------------------


def it_goes_past_an_unknown(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(walk, "passes", lambda end, *, soft: end.value != "ok")


def it_goes_past_an_unknown_where_the_effect_is_idempotent(patch: pytest.MonkeyPatch) -> None:
    """What a careless reading of the effect would do: the key of one provider means nothing to another."""
    take = walk.Walk._take

    def careless(self: walk.Walk, leg: Any, end: Any, outcome: Any) -> None:
        take(self, leg, end, outcome)
        if end.value == "unknown" and leg.plan.effect.repeatable:
            self._halt = None

    patch.setattr(walk.Walk, "_take", careless)
    patch.setattr(Failover, "_doubtful", lambda *_: None)  # or the memory of doubts would hold it back


def every_decline_is_soft(patch: pytest.MonkeyPatch) -> None:
    """Not a danger to money, so no law of the books may mind: but an Ok must then be in the books all the same."""
    patch.setattr(Failover, "_is_soft", lambda *_: True)


def residency_yields_when_nobody_is_left(patch: pytest.MonkeyPatch) -> None:
    choose = Routing.choose

    def lenient(self: Routing, now: float, u: float, **asked: Any) -> Any:
        chosen = choose(self, now, u, **asked)
        if chosen is None and asked["pin"] is None:
            return choose(self, now, u, region="EU", tried=asked["tried"])
        return chosen

    patch.setattr(Routing, "choose", lenient)


def a_pinned_call_fails_over(patch: pytest.MonkeyPatch) -> None:
    choose = Routing.choose

    def lenient(self: Routing, now: float, u: float, **asked: Any) -> Any:
        chosen = choose(self, now, u, **asked)
        if isinstance(chosen, str):  # nobody may: then anybody
            return choose(self, now, u, region=asked["region"], tried=asked["tried"])
        return chosen

    patch.setattr(Routing, "choose", lenient)


@each_kill(
    (it_goes_past_an_unknown, no_payment_is_taken_twice, Effect.UNSAFE, 2000),
    (it_goes_past_an_unknown_where_the_effect_is_idempotent, no_payment_is_taken_twice, Effect.IDEMPOTENT, 2000),
    (residency_yields_when_nobody_is_left, no_payment_is_taken_twice, Effect.UNSAFE, 2000),
    (a_pinned_call_fails_over, no_payment_is_taken_twice, Effect.UNSAFE, 2000),
)
def test_a_saboteur_is_caught(row: tuple[Any, ...]) -> None:
    kills(*row)


def test_a_decline_that_somebody_calls_soft_costs_nothing_in_the_books(monkeypatch: pytest.MonkeyPatch) -> None:
    every_decline_is_soft(monkeypatch)
    no_payment_is_taken_twice(Effect.UNSAFE, 2000)
