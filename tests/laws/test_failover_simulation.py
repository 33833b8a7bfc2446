"""Does traffic leave a provider that gets worse, and come back once it is well? Whole days of it, told to the core in virtual time."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import os
from heapq import heappop, heappush
from math import exp, inf
from random import Random
from typing import Any

import pytest

from finresilience.cores.health import Balance, Health, HealthSettings, RouteState, Turn
from finresilience.cores.pace import Baseline
from finresilience.cores.routing import Candidate, Routing
from tests.laws.sabotage import each_kill, kills

SEEDS = 1_000 if os.environ.get("FINRESILIENCE_DEEP") else 60
RATES = (*(2.0,) * 20, *(5.0,) * 14, *(10.0,) * 10, *(20.0,) * 6, *(50.0,) * 6, 100.0, 100.0, 200.0, 500.0)  # of sixty seeds
SHAPES = ((0.3, 0.0), (0.6, 0.02), (0.9, 0.01))  # of the latency: sigma of its logarithm, and how often a Pareto tail comes on top
MEDIAN = 0.1


class Day:
    """A day with two providers: acme is well, ill for a minute, and well again. What was seen of it."""

    def __init__(self, seed: int, ill: str, *, lasting: float = 60.0) -> None:
        self.random, self.ill = Random(seed), ill
        self.rate = RATES[seed % len(RATES)]
        self.sigma, self.tail = SHAPES[seed % len(SHAPES)]
        self.now, self.turns = 0.0, list[tuple[float, Turn]]()
        settings = HealthSettings(failure_rate=0.25, trickle=0.01, watch_every=2.0)
        self.healths = [Health(name, settings, lambda turn: self.turns.append((self.now, turn))) for name in ("acme", "globex")]
        self.routing = Routing([Candidate(health) for health in self.healths])
        self.onset = max(40.0, 300.0 / self.rate)
        self.recovery = self.onset + lasting
        self.usual = inf
        self.sent: list[float] = []  # when calls went to acme while it was ill
        self.run()

    def run(self) -> None:
        under_way: list[tuple[float, int, Any, bool]] = []
        number = 0
        while not self.over():
            arrives = self.now + self.random.expovariate(self.rate)
            while under_way and under_way[0][0] <= arrives:
                self.now, _, ticket, failed = heappop(under_way)
                self.routing.end(ticket, self.now, failed=failed)
            self.now = arrives
            chosen = self.routing.choose(self.now, self.random.random())
            assert isinstance(chosen, Candidate)
            took, failed = self.answer(ill=chosen.name == "acme" and self.onset <= self.now < self.recovery)
            number += 1
            heappush(under_way, (self.now + took, number, self.routing.begin(chosen, self.now), failed))

    def over(self) -> bool:
        back = self.back()
        return self.now > self.recovery + 90.0 or (back is not None and self.now > self.recovery + back + 20.0)

    def answer(self, *, ill: bool) -> tuple[float, bool]:
        chance = self.random
        took = MEDIAN * exp(chance.gauss(0.0, self.sigma))
        if chance.random() < self.tail:
            took += MEDIAN * chance.paretovariate(1.5)
        failed = chance.random() < 0.005
        if not ill:
            return took, failed
        if self.usual == inf:
            self.usual = self.routing.candidates[0].baseline.p95 or inf
        self.sent.append(self.now)
        took *= {"slow": 10.0, "hung": 1e9}.get(self.ill, 1.0)
        return took, {"failing": True, "brown": chance.random() < 0.3}.get(self.ill, failed)

    # --- what was seen ---------------------------------------------------------------------------------------------

    def of_acme(self, state: RouteState) -> list[float]:
        return [when for when, turn in self.turns if turn.route == "acme" and turn.after is state]

    def drained(self) -> float:
        return next((when for when in self.of_acme(RouteState.DRAINED) if when >= self.onset), inf)

    def back(self) -> float | None:
        """How long after its recovery acme had its traffic back."""
        return next((when - self.recovery for when in self.of_acme(RouteState.HEALTHY) if when >= self.recovery), None)

    def calls_before_the_drain(self) -> int:
        """Those sent to an ill acme that it could be judged by: sent at least one usual p95 before it was drained."""
        return sum(when <= self.drained() - self.usual for when in self.sent)

    def false_alarms(self) -> int:
        early = sum(when < self.onset for when in self.of_acme(RouteState.DRAINED))
        again = sum(when > self.recovery for when in self.of_acme(RouteState.DRAINED))
        return early + again + sum(turn.route == "globex" for _, turn in self.turns)

    def false_hopes(self) -> int:
        return sum(self.onset < when < self.recovery for when in self.of_acme(RouteState.HEALTHY))


def days(ill: str, seeds: int) -> list[Day]:
    return [Day(seed, ill) for seed in range(seeds)]


on_many_days = pytest.mark.parametrize("seeds", [SEEDS])


@on_many_days
@pytest.mark.parametrize("ill", ["slow", "failing"])
def test_a_provider_at_ten_times_its_p95_or_failing_is_drained_within_50_calls_and_back_within_60_s(ill: str, seeds: int) -> None:
    for seed, day in enumerate(days(ill, seeds)):
        assert day.calls_before_the_drain() <= 50, seed
        assert (day.false_alarms(), day.false_hopes()) == (0, 0), seed
        back = day.back()
        assert back is not None, seed
        assert back <= 60.0, (seed, back)


@on_many_days
def test_a_brown_out_of_30_percent_is_drained_and_it_does_not_flap(seeds: int) -> None:
    brown = days("brown", seeds)
    assert all(day.calls_before_the_drain() <= 150 for day in brown)
    assert all(day.false_alarms() == 0 for day in brown)
    assert sum(day.false_hopes() for day in brown) <= seeds / 100
    assert all(day.false_hopes() or (day.back() or inf) <= 60.0 for day in brown)


@on_many_days
def test_a_provider_that_never_answers_is_drained_though_none_of_its_calls_has_come_back(seeds: int) -> None:
    for day in days("hung", seeds // 3):
        assert day.drained() < day.onset + 12.0 / day.rate + 10.0
        assert day.calls_before_the_drain() <= 30


@on_many_days
def test_an_ill_provider_gets_a_trickle_and_no_more(seeds: int) -> None:
    for ill in ("slow", "failing"):
        for day in days(ill, seeds // 4):
            watching = [when for when in day.sent if when > day.drained() + 5.0]
            watched = day.recovery - day.drained() - 5.0
            assert len(watching) <= watched * max(0.55, 0.03 * day.rate)
            assert len(watching) >= watched / 12.0


def creeping(seed: int, minutes: float) -> Routing:
    """Six calls a second to acme, which gets ten times slower over so many minutes."""
    random, told = Random(seed), list[Turn]()
    settings = HealthSettings(failure_rate=0.25, trickle=0.01, watch_every=2.0)
    routing = Routing([Candidate(Health("acme", settings, told.append))])
    acme = routing.candidates[0]
    now = 0.0
    while now < 120.0 + 60.0 * minutes and not acme.health.drained:
        now += 1 / 6
        worse = 10.0 ** max(0.0, (now - 120.0) / (60.0 * minutes))
        took = MEDIAN * worse * exp(random.gauss(0.0, 0.4))
        routing.end(routing.begin(acme, now - took), now, failed=False)
    return routing


def test_a_provider_that_gets_worse_by_and_by_is_drained_all_the_same() -> None:
    for seed in range(5):
        assert creeping(seed, minutes=20).candidates[0].health.drained


# --- are the laws awake? -------------------------------------------------------------------------------------------


def the_degradation_is_learned(patch: pytest.MonkeyPatch) -> None:
    def learn(self: Baseline, took: float, now: float, *, suspicion: float) -> None:
        self._batch.append(took)
        if len(self._batch) >= 20:
            self.p95 = max(self._batch)
            self._batch.clear()

    end = Routing.end

    def credulous(self: Routing, ticket: Any, now: float, *, failed: bool | None, cut: bool = False) -> None:
        end(self, ticket, now, failed=failed, cut=cut)
        if failed is False:
            learn(ticket.candidate.baseline, now - ticket.began, now, suspicion=0.0)

    patch.setattr(Baseline, "learn", lambda *_, **__: None)
    patch.setattr(Baseline, "drop", lambda *_: None)
    patch.setattr(Routing, "end", credulous)


def the_baseline_grows_as_it_likes(patch: pytest.MonkeyPatch) -> None:
    def take_over(self: Baseline, found: float) -> None:
        self.p95 = found

    patch.setattr(Baseline, "_take_over", take_over)


def there_is_no_hysteresis(patch: pytest.MonkeyPatch) -> None:
    hear = Balance.hear

    def hasty(self: Balance, weight: float, now: float, dwell: float) -> None:
        if self.bad and weight < 0.0:
            self.bad, self.score = False, 0.0
            return
        hear(self, weight, now, dwell)

    patch.setattr(Balance, "hear", hasty)


def one_bad_call_drains(patch: pytest.MonkeyPatch) -> None:
    hear = Balance.hear
    patch.setattr(Balance, "hear", lambda self, weight, now, dwell: hear(self, 10 * weight if weight > 2 else weight, now, dwell))


def silence_is_health(patch: pytest.MonkeyPatch) -> None:
    begin = Routing.begin

    def unwatched(self: Routing, candidate: Candidate, now: float) -> Any:
        ticket = begin(self, candidate, now)
        candidate.waiting.pop()
        return ticket

    patch.setattr(Routing, "begin", unwatched)


def nobody_watches_a_drained_provider(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Health, "due", lambda *_: False)


def a_drained_provider_is_watched_by_every_call(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Health, "due", lambda *_: True)


LEAVE = test_a_provider_at_ten_times_its_p95_or_failing_is_drained_within_50_calls_and_back_within_60_s
BROWN = test_a_brown_out_of_30_percent_is_drained_and_it_does_not_flap
HUNG = test_a_provider_that_never_answers_is_drained_though_none_of_its_calls_has_come_back
TRICKLE = test_an_ill_provider_gets_a_trickle_and_no_more


@each_kill(
    (the_degradation_is_learned, LEAVE, "slow", 6),
    (the_baseline_grows_as_it_likes, test_a_provider_that_gets_worse_by_and_by_is_drained_all_the_same),
    (there_is_no_hysteresis, BROWN, 6),
    (one_bad_call_drains, LEAVE, "slow", 6),
    (silence_is_health, HUNG, 9),
    (nobody_watches_a_drained_provider, LEAVE, "failing", 3),
    (a_drained_provider_is_watched_by_every_call, TRICKLE, 20),
)
def test_a_saboteur_is_caught(row: tuple[Any, ...]) -> None:
    kills(*row)
