"""One circuit used by threads, an asyncio loop and a trio loop at once: ten thousand mixes, each from one seed, and the books balance."""

from __future__ import annotations

import os
from collections import Counter
from hashlib import sha256
from math import inf
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from finresilience import (
    CircuitBreaker,
    CircuitChanged,
    CircuitState,
    ConsecutiveFailures,
    CountWindow,
    Event,
    FailureRate,
    LateResult,
    OpenFor,
    ProbeLost,
    TimeWindow,
)
from tests.concurrency.runners import ENDS, Runners
from tests.laws.sabotage import (
    a_cancelled_call_is_a_failure,
    a_cancelled_call_keeps_its_permit,
    a_success_closes_an_open_circuit,
    probes_are_unlimited,
    probes_have_no_lease,
    results_have_no_generation,
)
from tests.laws.worlds import RULES, still

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MIXES = 200_000 if os.environ.get("FINRESILIENCE_DEEP") else 10_000
LEASE = 3.0
BY_HAND = {"forced_open", "disabled", "metrics_only", "isolated", "closed", "open"}
BY_ITSELF = {("closed", "open"), ("open", "half_open"), ("half_open", "open"), ("half_open", "closed")}


class Inside:
    """A call that was let in: where it runs, in which generation, whether as a probe, and until when its permit is good."""

    def __init__(self, where: str, call: Any, generation: object, *, until: float) -> None:
        self.where, self.call, self.generation, self.until = where, call, generation, until
        self.probe = until < inf


class Mix:
    """One mix of calls, time and a person at the switches, with books of its own."""

    def __init__(self, seed: int, runners: dict[str, Any]) -> None:
        self.random, self.runners = Random(seed), runners
        self.clock, self.size = still(), self.random.randint(1, 3)
        self.heard: list[Event] = []
        self.policy = CircuitBreaker(
            "acme",
            window=self.random.choice((CountWindow(4), TimeWindow(6.0, buckets=6))),
            rules=self.random.choice(((ConsecutiveFailures(2),), (FailureRate(0.5, minimum_calls=2),))),
            open_for=OpenFor(4.0, jitter=0.0),
            half_open_calls=self.size,
            probe_lease=LEASE,
            classify=RULES,
            clock=self.clock,
            listeners=[self.heard.append],
        )
        self.inside: list[Inside] = []
        self.held: list[Any] = []
        self.books: Counter[str] = Counter()
        self.trail: list[str] = []

    def run(self) -> str:
        for _ in range(self.random.randint(3, 9)):
            deed = self.random.choice((self.begin, self.begin, self.begin, self.end, self.end, self.wait, self.wait, self.switch))
            deed()
            self.look()
        while self.inside:
            self.end()
        self.look()
        self.balance()
        return " ".join(self.trail)

    # --- what may happen -----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        where = self.random.choice(("thread", "asyncio", "trio"))
        runner = self.runners[where]
        if runner.full:
            return
        inside, call = runner.begin(self.policy, self.random.choice(("decorated", "outcome", "guard")))
        self.trail.append(f"{where}:{'in' if inside else 'refused'}")
        self.books["admitted" if inside else "refused"] += 1
        if inside:
            probing = self.policy.state is CircuitState.HALF_OPEN
            until = self.clock.monotonic() + LEASE if probing else inf
            self.inside.append(Inside(where, call, self.policy.statistics()["generation"], until=until))

    def end(self) -> None:
        if not self.inside:
            return
        one, how = self.inside.pop(self.random.randrange(len(self.inside))), self.random.choice(ENDS)
        book = {"ok": "good", "no": "good", "down": "bad"}.get(how, "released")
        before = self.policy.statistics()
        late = book != "released" and (one.generation != before["generation"] or self.clock.monotonic() >= one.until)
        assert self.runners[one.where].end(one.call, how) == how
        assert self.policy.statistics()["late"] == int(str(before["late"])) + late  # of another generation, or past its lease
        self.trail.append(f"{one.where}:{how}")
        self.books[book] += 1

    def wait(self) -> None:
        seconds = self.random.choice((1.0, 1.0, 3.0, 4.0, 9.0))
        self.clock.advance(seconds)
        self.trail.append(f"+{seconds:g}")

    def switch(self) -> None:
        deeds = ("trip", "trip", "reset", "reset", "isolate", "release", "force_open", "disable", "metrics_only")
        deed = self.random.choice(deeds)
        self.trail.append(deed)
        if deed == "isolate":
            self.held.append(self.policy.isolate())
        elif deed == "release":
            while self.held:
                self.held.pop().release()
        else:
            getattr(self.policy, deed)()

    # --- what must hold ------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """After every step: no more probes than places, and one story of legal changes."""
        stats, now = self.policy.statistics(), self.clock.monotonic()
        probes = [one for one in self.inside if one.probe and one.generation == stats["generation"] and now < one.until]
        assert len(probes) <= self.size
        before = "closed"
        for change in (event for event in self.heard if isinstance(event, CircuitChanged)):
            assert change.before == before != change.after
            assert (change.before, change.after) in BY_ITSELF or ("hand" in change.reason or "isolation" in change.reason)
            assert change.after in BY_HAND or (change.before, change.after) in BY_ITSELF
            before = change.after
        assert before == stats["state"]

    def balance(self) -> None:
        """At the end: admitted = settled + released, every result is counted once or told as late, and no place is lost."""
        books, stats = self.books, self.policy.statistics()
        late = Counter(event.succeeded for event in self.heard if isinstance(event, LateResult))
        assert books["admitted"] == books["good"] + books["bad"] + books["released"]
        assert (stats["succeeded"], stats["failed"]) == (books["good"] - late[True], books["bad"] - late[False])
        assert (stats["refused"], stats["late"]) == (books["refused"], late.total())
        for isolation in self.held:
            isolation.release()
        self.no_place_is_lost()

    def no_place_is_lost(self) -> None:
        """Nobody is inside: in half-open somebody may pass at once, or as many probes were lost as there are places."""
        if self.policy.state == "half_open":
            permit = self.policy.admit(self.clock.monotonic())
            lost = sum(isinstance(event, ProbeLost) for event in self.heard)
            assert permit is not None or (self.policy.state == "open" and lost >= self.size)


def explored(seeds: Iterable[int]) -> str:
    """Run the mixes and return one hash over all that happened."""
    digest = sha256()
    with Runners() as runners:
        for seed in seeds:
            try:
                digest.update(Mix(seed, runners).run().encode())
            except AssertionError as failure:
                replay = f"FINRESILIENCE_SEED={seed} python -m pytest {os.path.relpath(__file__)}"
                raise AssertionError(f"{failure}\nreplay: {replay}") from failure
    return digest.hexdigest()


def seeds() -> Iterable[int]:
    told = os.environ.get("FINRESILIENCE_SEED")
    return range(MIXES) if told is None else [int(told)]


def test_the_books_of_one_circuit_in_three_worlds_balance_after_every_mix() -> None:
    explored(seeds())


def test_the_same_seeds_make_the_same_mixes() -> None:
    assert explored(range(100)) == explored(range(100))


@pytest.mark.parametrize(
    "saboteur",
    [
        a_cancelled_call_is_a_failure,
        a_cancelled_call_keeps_its_permit,
        a_success_closes_an_open_circuit,
        probes_are_unlimited,
        probes_have_no_lease,
        results_have_no_generation,
    ],
)
def test_some_mix_catches_the_saboteur(saboteur: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    saboteur(monkeypatch)
    with pytest.raises(AssertionError, match="replay: FINRESILIENCE_SEED="):
        explored(range(1_000))
