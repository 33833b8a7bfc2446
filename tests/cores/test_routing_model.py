"""The routing core against the same rules said again and slowly: every state is found anew from the whole history."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from math import inf, log
from typing import Any

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from finresilience.cores.health import Balance, Health, HealthSettings
from finresilience.cores.routing import Candidate, NoRoute, Routing
from tests.laws.sabotage import RED, SEARCH

NAMES = ("acme", "globex", "initech")
LISTS = {"acme": None, "globex": {"EU", "US"}, "initech": {"EU"}}
WEIGHTS = {"acme": 1.0, "globex": 2.0, "initech": 0.0}
SLOW = 1.0  # told, not learned
FAILED, SERVED = log(8.0), log(0.75 / 0.96875)
PACES = (log(0.60 / 0.95), log(5.0), log(20.0))


class Book:
    """One provider by its history. Nothing is remembered but what happened."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.evidence: list[tuple[float, str, float]] = []  # when, failing or slow, weight; or an operator's "restored"
        self.calls: list[dict[str, Any]] = []
        self.passed: list[tuple[float, float]] = []  # a call that went to another: when, and the trust at that time
        self.last_call = -inf
        self.holds: set[object] = set()
        self.paused = -inf
        self.changes: list[tuple[float, str]] = []
        self.read: Any = None

    def hears(self, now: float, about: str, weight: float) -> None:
        was, before = self.ill(), self.state()
        self.evidence.append((now, about, weight))
        if self.ill() and not was:
            self.last_call, self.passed = now, []
        if self.state() != before:
            self.changes.append((now, self.state()))

    def replay(self) -> tuple[dict[str, bool], dict[str, float], float]:
        """Read the history from its beginning: the suspicions, their scores, and when it last came back."""
        if self.read is not None and self.read[0] == len(self.evidence):  # nothing was added
            known: tuple[dict[str, bool], dict[str, float], float] = self.read[1]
            return known
        bad, score = {"failing": False, "slow": False}, {"failing": 0.0, "slow": 0.0}
        last, since = {"failing": -inf, "slow": -inf}, {"failing": -inf, "slow": -inf}
        back, dwell = -inf, 5.0
        for now, about, weight in self.evidence:
            if about == "restored":
                bad, score, back, dwell = dict.fromkeys(bad, False), dict.fromkeys(score, 0.0), -inf, 5.0
                continue
            was = any(bad.values())
            if not bad[about] and now - last[about] > 600.0:
                score[about] = 0.0
            last[about] = now
            since[about] = now if score[about] == 0.0 else since[about]
            limit = {"failing": (14.0, 6.5), "slow": (18.0, 7.0)}[about][bad[about]]
            score[about] = max(0.0, score[about] + (-weight if bad[about] else weight))
            if bad[about]:
                score[about] = min(score[about], limit)
            if score[about] >= limit and (not bad[about] or now - since[about] >= dwell):
                bad[about], score[about] = not bad[about], 0.0
            if any(bad.values()) and not was:
                dwell = min(30.0, dwell * 2) if now - back < 120.0 else 5.0
            if was and not any(bad.values()):
                back = now
        self.read = (len(self.evidence), (bad, score, back))
        return bad, score, back

    def ill(self) -> bool:
        return any(self.replay()[0].values())

    def state(self) -> str:
        return "held" if self.holds else "drained" if self.ill() else "healthy"

    def trust(self) -> float:
        bad, score, _ = self.replay()
        return min([score[about] / limit for about, limit in (("failing", 6.5), ("slow", 7.0)) if bad[about]], default=1.0)

    def due(self, now: float) -> bool:
        trust = self.trust()
        if len(self.passed) < (4 if trust == 0.0 else 1 if trust < 0.2 else 0):
            return False
        credit = 0.0
        for _, trusted in self.passed:
            credit = min(1.0, credit + (0.01 * (1 + 20.0 * trusted) if trusted else 0.0))
        changed = self.changes[-1][0] if self.changes else -inf
        wait = 2.0 * (min(3.0, 1 + (now - changed) / 30.0) if trust == 0.0 else 1 / (1 + 20.0 * trust))
        return credit >= 1.0 or now - self.last_call >= wait

    def looks(self, now: float) -> None:
        """Judge every call that can be judged, in the order in which they began; then those that have got worse."""
        for call in self.calls:
            if call["judged"]:
                continue
            age = (call["ended"] if call["ended"] is not None else now) - call["began"]
            if call["ended"] is None:
                if age <= SLOW:
                    break
                call["counted"] = 1
                self.hears(now, "slow", PACES[1])
            elif call["how"] == "ok" or (call["how"] == "cut" and age > SLOW):
                self.hears(now, "slow", PACES[0 if age <= SLOW else 1 if age <= 3 * SLOW else 2])
            call["judged"] = True
        for call in self.calls:
            if call["counted"] != 1:
                continue
            age = (call["ended"] if call["ended"] is not None else now) - call["began"]
            over = age > 3 * SLOW
            if call["ended"] is None and not over:
                break
            if over and (call["ended"] is None or call["how"] in {"ok", "cut"}):
                self.hears(now, "slow", PACES[2] - PACES[1])
            call["counted"] = 2


class RoutingMachine(RuleBasedStateMachine):
    """Any calls in any order, by any provider, and operators among them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.turns: list[Any] = []
        self.under_way: list[tuple[Any, Book, dict[str, Any]]] = []
        self.handles: list[tuple[Book, object]] = []

    @initialize(spread=st.booleans())
    def begin_day(self, spread: bool) -> None:
        rules = HealthSettings(failure_rate=0.25, trickle=0.01, watch_every=2.0)
        self.spread = spread
        self.healths = {name: Health(name, rules, self.turns.append) for name in NAMES}
        regions: dict[str, Any] = {name: None if allowed is None else frozenset(allowed) for name, allowed in LISTS.items()}
        self.routing = Routing(
            [Candidate(self.healths[name], weight=WEIGHTS[name], regions=regions[name], slow_after=SLOW) for name in NAMES],
            spread=spread,
        )
        self.books = {name: Book(name) for name in NAMES}

    # --- the choice, by the book -----------------------------------------------------------------------------------

    def by_the_book(self, u: float, region: str | None, pin: str | None, tried: list[str]) -> str | NoRoute | None:
        may = [name for name in NAMES if LISTS[name] is None or region in (LISTS[name] or ())]
        if pin is not None:
            if pin not in NAMES:
                return NoRoute.STRANGER
            return NoRoute.ABROAD if pin not in may else None if tried else pin
        if not may:
            return NoRoute.REGION
        left = [name for name in may if not self.books[name].holds and name not in tried]
        if not left:
            return None if tried else NoRoute.HELD
        for book in self.books.values():
            book.looks(self.now)
        chosen = self.best(left, u, first=not tried)
        for name in left:
            if not tried and name != chosen and self.books[name].ill():
                self.books[name].passed.append((self.now, self.books[name].trust()))
        return chosen

    def best(self, left: list[str], u: float, *, first: bool) -> str:
        ready = [name for name in left if self.books[name].paused <= self.now]
        if not ready:
            return min(left, key=lambda name: self.books[name].paused)
        ill = [name for name in ready if self.books[name].ill()]
        due = [name for name in ill if self.books[name].due(self.now)] if first and len(ready) > 1 else []
        if due:
            return min(due, key=lambda name: self.books[name].last_call)
        well = [name for name in ready if name not in ill]
        if not well:
            return min(ill, key=self.badness)
        shares = {name: min(1.0, max(0.1, (self.now - self.books[name].replay()[2]) / 10.0)) for name in well}
        if self.spread:
            weights = {name: WEIGHTS[name] * shares[name] for name in well}
            mark = u * sum(weights.values())
            below = [name for at, name in enumerate(well) if mark < sum(weights[other] for other in well[: at + 1])]
            return below[0] if below else well[0]
        for name in well:
            share = shares[name] if first else 1.0
            if u < share:
                return name
            u = (u - share) / (1.0 - share)
        return well[0]

    def badness(self, name: str) -> tuple[float, float]:
        book = self.books[name]
        bad = book.replay()[0]
        restored = max([at for at, (_, about, _) in enumerate(book.evidence) if about == "restored"], default=-1)
        calls = [item for item in book.evidence[restored + 1 :] if item[1] == "failing"][-50:]
        fresh = [item[2] > 0 for item in calls if self.now - item[0] <= 600.0]
        return (round(sum(fresh) / len(fresh) if fresh else float(bad["failing"]), 1), float(bad["slow"]))

    # --- what may happen -------------------------------------------------------------------------------------------

    @rule(
        u=st.sampled_from([0.0, 0.05, 0.3, 0.7, 0.99]),
        region=st.sampled_from([None, "EU", "EU", "EU", "US", "JP"]),
        pin=st.sampled_from([None] * 8 + ["initech", "acme", "nobody"]),
        how=st.sampled_from(["ok", "ok", "ok", "failed", "failed", "nothing", "cut", "late"]),
        took=st.sampled_from([0.1, 0.9, 1.5, 4.0]),
        times=st.sampled_from([1, 1, 3, 8, 30]),
    )
    def call(self, u: float, region: str | None, pin: str | None, how: str, took: float, times: int) -> None:
        for _ in range(times):
            chosen = self.routing.choose(self.now, u, region=region, pin=pin)
            expected = self.by_the_book(u, region, pin, [])
            if not isinstance(chosen, Candidate):
                assert chosen is expected
                return
            assert chosen.name == expected
            self.begins(chosen)
            if how != "late":
                self.now += took
                self.ends(-1, how)

    @rule(u=st.sampled_from([0.0, 0.5]), region=st.sampled_from(["EU", "US"]), pin=st.sampled_from([None, None, "initech"]))
    def walk(self, u: float, region: str, pin: str | None) -> None:
        """A call that goes on from one to the next, and fails with everybody."""
        tried: list[Any] = []
        while True:
            chosen = self.routing.choose(self.now, u, region=region, pin=pin, tried=tried)
            expected = self.by_the_book(u, region, pin, [one.name for one in tried])
            if not isinstance(chosen, Candidate):
                assert chosen is expected
                return
            assert chosen.name == expected
            tried.append(chosen)
            self.begins(chosen)
            self.ends(-1, "failed")

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 20), how=st.sampled_from(["ok", "failed", "nothing", "cut"]))
    def late_end(self, which: int, how: str) -> None:
        self.ends(which % len(self.under_way), how)

    def begins(self, chosen: Any) -> None:
        book = self.books[chosen.name]
        call = {"began": self.now, "ended": None, "how": "", "judged": False, "counted": 0}
        self.under_way.append((self.routing.begin(chosen, self.now), book, call))
        book.calls.append(call)
        book.last_call, book.passed = self.now, []

    def ends(self, which: int, how: str) -> None:
        ticket, book, call = self.under_way.pop(which)
        self.routing.end(ticket, self.now, failed={"ok": False, "failed": True}.get(how), cut=how == "cut")
        call["ended"], call["how"] = self.now, how
        if how in {"ok", "failed"}:
            book.hears(self.now, "failing", FAILED if how == "failed" else SERVED)
        book.looks(self.now)

    @rule(seconds=st.sampled_from([0.05, 0.5, 2.5, 7.0, 31.0, 601.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(name=st.sampled_from(NAMES), seconds=st.sampled_from([0.5, 10.0]))
    def pause(self, name: str, seconds: float) -> None:
        one = next(one for one in self.routing.candidates if one.name == name)
        self.routing.pause(one, self.now + seconds)
        self.books[name].paused = self.now + seconds

    @rule(name=st.sampled_from(NAMES))
    def hold(self, name: str) -> None:
        book, handle = self.books[name], object()
        self.healths[name].hold(handle, self.now)
        self.operated(book, lambda: book.holds.add(handle))
        self.handles.append((book, handle))

    @precondition(lambda self: self.handles)
    @rule(which=st.integers(0, 20))
    def let_go(self, which: int) -> None:
        book, handle = self.handles.pop(which % len(self.handles))
        self.healths[book.name].let_go(handle, self.now)
        self.operated(book, lambda: book.holds.discard(handle))

    @rule(name=st.sampled_from(NAMES))
    def restore(self, name: str) -> None:
        book = self.books[name]
        self.healths[name].restore(self.now)

        def deed() -> None:
            book.holds.clear()
            book.evidence.append((self.now, "restored", 0.0))

        self.operated(book, deed)

    def operated(self, book: Book, deed: Any) -> None:
        before = book.state()
        deed()
        if book.state() != before:
            book.changes.append((self.now, book.state()))

    # --- what must agree -------------------------------------------------------------------------------------------

    @invariant()
    def the_states_and_the_news_are_those_of_the_book(self) -> None:
        if not hasattr(self, "books"):
            return
        for name, book in self.books.items():
            health, (bad, score, _) = self.healths[name], book.replay()
            assert (health.failing.bad, health.slow.bad) == (bad["failing"], bad["slow"])
            assert (health.failing.score, health.slow.score) == pytest.approx((score["failing"], score["slow"]))
            assert [turn.after for turn in self.turns if turn.route == name] == [after for _, after in book.changes]


def explored(told: settings) -> None:
    run_state_machine_as_test(RoutingMachine, settings=told)


def test_the_core_is_what_the_book_says() -> None:
    explored(settings(stateful_step_count=60))


def no_return(patch: pytest.MonkeyPatch) -> None:
    hear = Balance.hear
    patch.setattr(Balance, "hear", lambda self, weight, now, dwell: hear(self, weight, now, inf))


def held_ones_serve(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Health, "held", False)


def lists_are_advice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Candidate, "serves", lambda *_: True)


def silence_is_gold(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Routing, "_judge_paces", lambda *_: None)


def pauses_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Routing, "pause", lambda *_: None)


@pytest.mark.parametrize("saboteur", [no_return, held_ones_serve, lists_are_advice, silence_is_gold, pauses_are_forgotten])
def test_a_saboteur_is_caught(saboteur: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    saboteur(monkeypatch)
    with pytest.raises(RED):
        explored(settings(SEARCH, stateful_step_count=60))
