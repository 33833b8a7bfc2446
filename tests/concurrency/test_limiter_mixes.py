"""One rate shared by threads, an asyncio loop and a trio loop: mixes of claims, cancels and late awakenings, each from one seed."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import os
from collections import Counter
from math import inf
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from finresilience.cores.limiter import LiveTokenBucket
from finresilience.policies.limiter import RateLimiter
from tests.concurrency.waiters import HeldClock, Waiter, places
from tests.cores.lines import RULES, TICKS, lawful, slack, soonest

if TYPE_CHECKING:
    from collections.abc import Iterator

MIXES = 20_000 if os.environ.get("FINRESILIENCE_DEEP") else 1_000


@pytest.fixture(scope="module")
def where() -> Iterator[dict[str, Any]]:
    """Threads and two loops that outlive the mixes."""
    everywhere = places()
    yield everywhere
    for place in everywhere.values():
        place.close()


class Mix:
    """Callers come anywhere, and their waits end as chance says: in time, late, or by being cancelled. The test keeps the books."""

    def __init__(self, seed: int, where: dict[str, Any], *, late: bool) -> None:
        self.chance, self.where, self.late = Random(seed), where, late
        self.rule = self.chance.choice(list(RULES.values()))
        self.clock, self.tick = HeldClock(), 0
        self.patience = self.chance.choice((1, 2, 4, 12, 40))
        self.policy = RateLimiter(self.rule, max_wait=self.patience / TICKS, clock=self.clock, listeners=[])
        self.passed: list[int] = []
        self.waiting: dict[Waiter, tuple[str, int]] = {}  # where it is, and for when it waits
        self.books: Counter[str] = Counter()

    def run(self) -> None:
        for _ in range(self.chance.randint(4, 14)):
            self.chance.choice((self.come, self.come, self.come, self.cancel, self.wait, self.wait))()
        self.late = False
        while self.waiting:
            self.wait()
        stats = self.policy.statistics()
        told = {name: stats[name] for name in ("passed", "refused", "cancelled", "waiting")}
        assert told == {"passed": len(self.passed), "refused": self.books["refused"], "cancelled": self.books["cancelled"], "waiting": 0}

    def come(self) -> None:
        name = self.chance.choice(sorted(self.where))
        left = self.chance.choice((inf, inf, 1, 3, 9))
        waiter = Waiter(self.policy, (self.tick + left) / TICKS)
        plan = [*self.passed, *(tick for _, tick in self.waiting.values())]
        told = self.where[name].begin(waiter)
        self.note(waiter, name, told)
        if not self.late:
            kind, wait = told[0], round(told[1] * TICKS)
            first = soonest(self.rule, self.tick, plan) - self.tick
            assert first <= wait <= first + slack(self.rule, self.policy.core, self.clock.now)
            assert kind == ("passed" if wait == 0 else "waits" if wait <= self.patience and wait < left else "refused")

    def cancel(self) -> None:
        if self.waiting:
            waiter = self.chance.choice(list(self.waiting))
            name, _ = self.waiting.pop(waiter)
            self.note(waiter, name, self.where[name].end(waiter, "cancel"))

    def wait(self) -> None:
        end = self.tick + self.chance.randint(1, 6)
        while due := [waiter for waiter, (_, tick) in self.waiting.items() if tick <= end and not self.sleeps_on()]:
            waiter = self.chance.choice(due) if self.late else min(due, key=lambda one: self.waiting[one][1])
            name, tick = self.waiting.pop(waiter)
            self.at(end if self.late else max(self.tick, tick))
            told = self.where[name].end(waiter, "wake")
            self.note(waiter, name, told)
            assert self.late or self.books["late"] or told[0] == "passed", "whoever comes in time passes"
        self.at(end)

    def sleeps_on(self) -> bool:
        return self.late and self.chance.random() < 0.4

    def at(self, tick: int) -> None:
        self.tick, self.clock.now = tick, tick / TICKS

    def note(self, waiter: Waiter, name: str, told: tuple[str, float]) -> None:
        kind, seconds = told
        self.books[kind] += 1
        self.books["late"] += self.late
        if kind == "waits":
            self.waiting[waiter] = (name, self.tick + round(seconds * TICKS))
        elif kind == "passed":
            self.passed.append(self.tick)
            assert lawful(self.rule, self.passed)


@pytest.mark.parametrize("late", [False, True], ids=["all in time", "some late"])
def test_one_rate_serves_threads_and_both_loops_and_the_books_balance(where: dict[str, Any], late: bool) -> None:
    books: Counter[str] = Counter()
    for seed in range(MIXES):
        mix = Mix(seed, where, late=late)
        try:
            mix.run()
        except AssertionError as failure:
            failure.add_note(f"seed {seed}")
            raise
        books += mix.books
    assert all(books[kind] > MIXES // 10 for kind in ("passed", "waits", "refused", "cancelled"))


def test_the_mixes_find_a_line_out_that_forgets_to_ask_again(where: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    step = LiveTokenBucket.step

    def trusting(self: Any, place: Any, now: float) -> float:
        if step(self, place, now) > 0.0:
            place.seat.index = -1
        return 0.0

    monkeypatch.setattr(LiveTokenBucket, "step", trusting)
    with pytest.raises(AssertionError):
        for seed in range(MIXES):
            Mix(seed, where, late=True).run()


def test_the_mixes_find_a_place_out_that_is_never_given_back(where: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LiveTokenBucket, "_tidy", lambda *_: None)
    with pytest.raises(AssertionError):
        for seed in range(MIXES):
            Mix(seed, where, late=False).run()
