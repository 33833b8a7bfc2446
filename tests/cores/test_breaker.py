"""May this call pass? The breaker against the same circuit said again and slowly, step by step and in every order."""

from __future__ import annotations

from itertools import permutations, product
from math import inf
from typing import Any

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from finresilience.cores.breaker import BreakerCore, CircuitState as S
from finresilience.cores.probes import Probe
from tests.cores.circuits import BASE, CAP, LEASE, Make, fresh, half_open, heard
from tests.cores.sabotage import (
    CancelIsFailure,
    CancelIsNothing,
    CancelIsSuccess,
    ForgetsLeases,
    ForgivesLateVotes,
    SlowIsFine,
    UnlimitedProbes,
)
from tests.laws.sabotage import SEARCH


class Card:
    """A permit, with its generation and its last moment written on it."""

    def __init__(self, generation: int, expires: float = inf) -> None:
        self.generation, self.expires, self.spent = generation, expires, False


class Model:
    """Everything that ever happened in this generation, in lists; every answer is counted anew from them."""

    def __init__(self, size: int = 3) -> None:
        self.size, self.need = size, -(-size // 2)  # half of the probes bad is enough: the rates are one half
        self.generation, self.openings, self.isolations, self.late = 0, 0, 0, 0
        self.state, self.until, self.told = S.CLOSED, 0.0, False
        self.failure: str | None = None
        self.news: list[tuple[S, S] | str] = []
        self.calls: list[tuple[bool, bool]] = []
        self.votes: list[bool] = []
        self.cards: list[Card] = []
        self.lost = 0

    def move(self, state: S) -> None:
        if state is not self.state:
            self.news.append((self.state, state))
        self.state, self.generation = state, self.generation + 1
        self.calls, self.votes, self.cards, self.lost = [], [], [], 0

    def open(self, now: float, hint: float | None = None) -> None:
        self.until = now + min(CAP, max(BASE * 2**self.openings, hint or 0.0))
        self.openings += 1
        self.move(S.OPEN)

    def close(self) -> None:
        self.openings = 0
        self.move(S.CLOSED)

    def admit(self, now: float) -> Card | None:
        if self.state in {S.CLOSED, S.DISABLED, S.METRICS_ONLY}:
            return Card(self.generation)
        if self.state is S.OPEN and now >= self.until:
            self.move(S.HALF_OPEN)
        if self.state is not S.HALF_OPEN:
            return None
        hung = [card for card in self.cards if now >= card.expires]
        self.news += ["probe_lost"] * len(hung)
        self.lost += len(hung)
        self.cards = [card for card in self.cards if card not in hung]
        if self.lost >= self.size:
            self.open(now)
            return None
        if len(self.cards) + len(self.votes) == self.size:
            return None
        self.cards.append(Card(self.generation, now + LEASE))
        return self.cards[-1]

    def settle(self, card: Card, now: float, *, failed: bool, slow: bool, hint: float | None = None) -> None:
        probe = card.expires < inf
        if card.generation != self.generation or (probe and (card not in self.cards or now >= card.expires)):
            self.late += 1
            self.news.append("late")
            return
        if failed:
            self.failure = "Boom"
        if probe:
            self.cards.remove(card)
            self.votes.append(failed or slow)
            if sum(self.votes) >= self.need:
                self.open(now, hint)
            elif self.votes.count(False) > self.size - self.need:
                self.close()
            return
        self.calls.append((failed, slow))
        last = self.calls[-6:]
        bad, slows = sum(call[0] for call in last), sum(call[1] for call in last)
        in_a_row = [call[0] for call in self.calls[-3:]] == [True] * 3
        if self.state is S.DISABLED or not (in_a_row or (len(last) >= 4 and 2 * max(bad, slows) >= len(last))):
            return
        if self.state is S.CLOSED:
            self.open(now, hint)
        elif not self.told:
            self.told = True
            self.news.append("threshold")

    def cancel(self, card: Card) -> None:
        if card in self.cards:
            self.cards.remove(card)

    def hold(self, state: S) -> None:
        if not self.isolations and state is not self.state:
            self.told = False
            self.move(state)


def compare(core: BreakerCore, model: Model, now: float) -> None:
    assert (core.state, core.generation, core.late) == (model.state, model.generation, model.late)
    assert core.last_failure == model.failure
    assert heard(core) == model.news
    model.news.clear()
    if model.state is S.OPEN:
        assert core.retry_after(now) == max(0.0, model.until - now)
        assert core.shut is not None
        assert core.shut[1] == model.until
    elif model.state in {S.FORCED_OPEN, S.ISOLATED}:
        assert core.retry_after(now) is None
        assert core.shut is not None
        assert core.shut[1] == inf
    else:
        assert core.shut is None
        full = model.state is S.HALF_OPEN and len(model.cards) + len(model.votes) == model.size
        assert core.retry_after(now) == (max(0.0, min(card.expires for card in model.cards) - now) if full else 0.0)


class Circuit(RuleBasedStateMachine):
    """Any calls, in any order, with any permits old and new, and a person at the switches."""

    make: Make = BreakerCore

    def __init__(self) -> None:
        super().__init__()
        self.core, self.now = fresh(self.make), 0.0
        self.model: Any = Model()
        self.held: list[tuple[Any, Any]] = []

    @rule(ticks=st.sampled_from([1, 2, 8]))
    def time_passes(self, ticks: int) -> None:
        self.now += ticks / 2

    @rule()
    def admit(self) -> None:
        before = self.core.refused
        permit, card = self.core.admit(self.now), self.model.admit(self.now)
        assert (permit is None) == (card is None)
        assert self.core.refused == before + (card is None)
        if permit is not None:
            assert isinstance(permit, Probe) == (card.expires < inf)
            self.held.append((permit, card))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), failed=st.booleans(), slow=st.booleans(), hint=st.sampled_from([None, 0.0, 20.0, 99.0]))
    def settle(self, data: st.DataObject, failed: bool, slow: bool, hint: float | None) -> None:
        permit, card = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.core.settle(permit, self.now, failed=failed, slow=slow, failure="Boom" if failed else None, hint=hint)
        self.model.settle(card, self.now, failed=failed, slow=slow, hint=hint)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def succeed_by_the_fast_lane_where_it_is_open(self, data: st.DataObject) -> None:
        permit, card = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        if not isinstance(permit, Probe) and self.now < permit.edge:
            permit.ok += 1
        else:
            self.core.settle(permit, self.now, failed=False)
        self.model.settle(card, self.now, failed=False, slow=False)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        permit, card = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.core.release(permit)
        self.model.cancel(card)

    @rule(failed=st.booleans(), slow=st.booleans())
    def call(self, failed: bool, slow: bool) -> None:
        permit, card = self.core.admit(self.now), self.model.admit(self.now)
        assert (permit is None) == (card is None)
        if permit is not None:
            self.core.settle(permit, self.now, failed=failed, slow=slow, failure="Boom" if failed else None)
            self.model.settle(card, self.now, failed=failed, slow=slow)

    @rule()
    def the_interval_ends(self) -> None:
        self.now = max(self.now, self.model.until)

    @rule(act=st.sampled_from([S.FORCED_OPEN, S.DISABLED, S.METRICS_ONLY, "reset", "reset", "trip", "trip", "isolate", "rejoin", "rejoin"]))
    def a_person_decides(self, act: S | str) -> None:
        core, model = self.core, self.model
        if isinstance(act, S):
            core.hold(act, self.now)
            model.hold(act)
        elif act == "reset":
            core.reset(self.now)
            model.openings = 0
            if not model.isolations:
                model.close()
        elif act == "trip":
            core.trip(self.now, None)
            if not model.isolations:
                model.open(self.now)
        elif act == "isolate":
            core.isolate()
            model.isolations += 1
            if model.isolations == 1:
                model.move(S.ISOLATED)
        else:
            core.rejoin(self.now)
            if model.isolations:
                model.isolations -= 1
                if not model.isolations:
                    model.close()

    @invariant()
    def the_two_agree(self) -> None:
        compare(self.core, self.model, self.now)

    @invariant()
    def no_more_probes_are_out_than_the_round_has_permits(self) -> None:
        assert self.core._round is None or len(self.core._round._live) <= 3


BOUNDS = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestEveryHistory = Circuit.TestCase
TestEveryHistory.settings = BOUNDS


# --- half-open, in every order -----------------------------------------------------------------------------------------

ORDERS = sorted(set(permutations((0, 0, 1, 1, 2, 2))))
ENDS = ("good", "bad", "cancelled", "hung", "late")


def every_order(make: Make, size: int) -> None:
    """Three clients, each of which asks and then reports: all 90 orders of their steps, all 125 ways to end."""
    for order, ends in product(ORDERS, product(ENDS, repeat=3)):
        core, model, now = half_open(make, size=size), Model(size), 8.0
        held: dict[int, tuple[Any, Any]] = {}
        model.open(0.0)
        model.news.clear()
        for client in order:
            if client not in held:
                held[client] = core.admit(now), model.admit(now)
                assert (held[client][0] is None) == (held[client][1] is None), (order, ends)
                continue
            permit, card = held[client]
            if permit is None:
                continue
            if ends[client] == "hung":
                now += LEASE
            elif ends[client] == "cancelled":
                core.release(permit)
                model.cancel(card)
            else:
                now += LEASE if ends[client] == "late" else 0.0
                failed = ends[client] == "bad"
                core.settle(permit, now, failed=failed, failure="Boom" if failed else None)
                model.settle(card, now, failed=failed, slow=False)
            assert (core.state, core.generation, core.late) == (model.state, model.generation, model.late), (order, ends)
        compare(core, model, now)
        for _ in range(8):  # and whatever happened, healthy probes bring it back
            now += 100.0
            permit = core.admit(now)
            if permit is not None:
                core.settle(permit, now, failed=False)
        assert core.state is S.CLOSED, (order, ends)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_three_clients_in_every_order_see_the_circuit_the_model_sees(size: int) -> None:
    assert len(ORDERS) == 90
    every_order(BreakerCore, size)


@pytest.mark.parametrize("saboteur", [ForgetsLeases, ForgivesLateVotes, UnlimitedProbes, CancelIsSuccess, CancelIsFailure, CancelIsNothing])
def test_some_order_catches_the_saboteur(saboteur: Make) -> None:
    with pytest.raises((AssertionError, KeyError)):
        every_order(saboteur, 1)


def test_the_state_machine_catches_a_saboteur_too() -> None:
    bad = type("Bad", (Circuit,), {"make": SlowIsFine})
    with pytest.raises(AssertionError):
        run_state_machine_as_test(bad, settings=settings(SEARCH, stateful_step_count=50))
