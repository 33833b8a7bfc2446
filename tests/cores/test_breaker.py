"""May this call pass? The breaker against the same circuit said again and slowly, step by step and in every order."""

from __future__ import annotations

from itertools import permutations, product
from math import inf

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from finresilience.cores.breaker import BreakerCore, BreakerSettings, Change, CircuitState, Note
from finresilience.cores.interval import OpenFor
from finresilience.cores.probes import Probe, Round
from finresilience.cores.trip import ConsecutiveFailures, FailureCount, FailureRate, SlowRate
from finresilience.cores.window import CountWindow, TimeWindow

S = CircuitState
LEASE, BASE, CAP = 4.0, 8.0, 32.0


def told(*, size: int = 3, rules: tuple = (), window=None) -> BreakerSettings:
    return BreakerSettings(
        window=window or CountWindow(6),
        rules=rules or (FailureRate(0.5, minimum_calls=4), SlowRate(0.5, after=1.0, minimum_calls=4), ConsecutiveFailures(3)),
        open_for=OpenFor(BASE, factor=2.0, cap=CAP, jitter=0.0),
        half_open_calls=size,
        probe_lease=LEASE,
    )


def fresh(make=BreakerCore, **kwargs) -> BreakerCore:
    return make(told(**kwargs), 0.0, lambda: 0.0)


def half_open(make=BreakerCore, **kwargs) -> BreakerCore:
    """Return a core whose interval is over at 8: the next to ask is its first probe."""
    core = fresh(make, **kwargs)
    core.trip(0.0, BASE)
    core.news = ()
    return core


# --- the circuit, said again and slowly ---------------------------------------------------------------------------------


class Card:
    """A permit, with its generation and its last moment written on it."""

    def __init__(self, generation: int, expires: float = inf) -> None:
        self.generation, self.expires, self.spent = generation, expires, False


class Model:
    """Everything that ever happened in this generation, in lists; every answer is counted anew from them."""

    def __init__(self, size: int = 3) -> None:
        self.size, self.need = size, -(-size // 2)  # half of the probes bad is enough: the rates are one half
        self.generation, self.openings, self.isolations, self.late = 0, 0, 0, 0
        self.state, self.until, self.told, self.failure = S.CLOSED, 0.0, False, None
        self.news: list[tuple] = []
        self.calls: list[tuple[bool, bool]] = []
        self.votes: list[bool] = []
        self.cards: list[Card] = []
        self.lost = 0

    def move(self, state: CircuitState) -> None:
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

    def hold(self, state: CircuitState) -> None:
        if not self.isolations and state is not self.state:
            self.told = False
            self.move(state)


def heard(core: BreakerCore) -> list:
    news = [(item.before, item.after) if isinstance(item, Change) else item.kind for item in core.news]
    core.news = ()
    return news


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

    make = BreakerCore

    def __init__(self) -> None:
        super().__init__()
        self.core, self.model, self.now = fresh(self.make), Model(), 0.0
        self.held: list[tuple] = []

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
    def settle(self, data, failed: bool, slow: bool, hint: float | None) -> None:
        permit, card = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.core.settle(permit, self.now, failed=failed, slow=slow, failure="Boom" if failed else None, hint=hint)
        self.model.settle(card, self.now, failed=failed, slow=slow, hint=hint)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def succeed_by_the_fast_lane_where_it_is_open(self, data) -> None:
        permit, card = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        if not isinstance(permit, Probe) and self.now < permit.edge:
            permit.ok += 1
        else:
            self.core.settle(permit, self.now, failed=False)
        self.model.settle(card, self.now, failed=False, slow=False)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def cancel(self, data) -> None:
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
    def a_person_decides(self, act: str) -> None:
        core, model = self.core, self.model
        if isinstance(act, CircuitState):
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


# --- laws, each a function of the core, so that a saboteur may be put in its place --------------------------------------


def law_a_result_of_an_older_generation_changes_nothing(make) -> None:
    for failed in (False, True):
        core = half_open(make, size=1)
        core.reset(0.0)
        old = core.admit(0.0)
        core.trip(0.0, BASE)
        probe = core.admit(8.0)
        core.settle(old, 9.0, failed=failed, failure="Old")
        assert core.state is S.HALF_OPEN
        assert core.last_failure is None
        assert core.late == 1
        core.settle(probe, 9.0, failed=False)
        assert core.state is S.CLOSED


def law_a_probe_of_an_older_round_neither_votes_nor_frees_a_place(make) -> None:
    core = half_open(make, size=2)
    first, second = core.admit(8.0), core.admit(8.0)
    core.settle(first, 8.0, failed=True)
    assert core.state is S.OPEN
    assert core.admit(24.0) is not None
    assert core.admit(24.0) is not None
    core.release(second)
    core.settle(second, 24.0, failed=True)
    assert core.state is S.HALF_OPEN
    assert core.admit(24.0) is None


def law_probes_never_outnumber_the_round(make) -> None:
    for size in (1, 2, 5):
        core = half_open(make, size=size)
        assert sum(core.admit(8.0) is not None for _ in range(200)) == size


def law_a_hung_probe_cannot_wedge_the_circuit(make) -> None:
    core = half_open(make, size=2)
    assert core.admit(8.0) is not None
    assert core.admit(8.0) is not None
    assert core.admit(11.9) is None
    assert core.retry_after(11.0) == 1.0
    core.admit(12.0)  # both were lost at once: nobody answers
    assert core.state is S.OPEN
    assert core.admit(12.0 + 2 * BASE) is not None


def law_one_lost_probe_hands_its_permit_on(make) -> None:
    core = half_open(make, size=2)
    hung = core.admit(8.0)
    core.settle(core.admit(9.0), 9.0, failed=False)
    heir = core.admit(12.0)
    assert heir is not None
    core.settle(hung, 12.5, failed=True)
    assert core.state is S.HALF_OPEN
    core.settle(heir, 12.5, failed=False)
    assert core.state is S.CLOSED


def law_a_vote_after_the_lease_is_late_even_if_nobody_asked_meanwhile(make) -> None:
    core = half_open(make, size=1)
    probe = core.admit(8.0)
    core.settle(probe, 12.0, failed=False)
    assert core.state is S.HALF_OPEN
    assert core.late == 1


def law_a_cancelled_probe_gives_its_permit_back_and_votes_for_nobody(make) -> None:
    core = half_open(make, size=1)
    for _ in range(10):
        probe = core.admit(8.0)
        assert probe is not None
        assert core.admit(8.0) is None
        core.release(probe)
        assert core.state is S.HALF_OPEN
    core.settle(core.admit(8.0), 8.0, failed=True)
    assert core.state is S.OPEN


def law_a_slow_probe_is_a_bad_one(make) -> None:
    core = half_open(make, size=1)
    core.settle(core.admit(8.0), 9.0, failed=False, slow=True)
    assert core.state is S.OPEN


def law_nobody_passes_before_the_interval_is_over(make) -> None:
    core = half_open(make)
    assert core.admit(7.999) is None
    assert core.refused == 1
    assert core.admit(8.0) is not None


def law_each_opening_in_a_row_stays_open_longer_until_it_has_closed(make) -> None:
    core, now, seen = half_open(make, size=1), 8.0, []
    for _ in range(4):
        core.settle(core.admit(now), now, failed=True)
        seen.append(core.retry_after(now))
        now += seen[-1]
    assert seen == [16.0, 32.0, 32.0, 32.0]
    core.settle(core.admit(now), now, failed=False)
    core.trip(now, None)
    assert core.retry_after(now) == BASE


def law_one_isolation_too_few_keeps_it_shut_and_one_rejoin_too_many_breaks_nothing(make) -> None:
    core = fresh(make)
    core.rejoin(0.0)
    core.isolate()
    core.isolate()
    core.rejoin(0.0)
    assert core.admit(1e9) is None
    core.reset(0.0)
    core.trip(0.0, 1.0)
    core.hold(S.DISABLED, 0.0)
    assert core.state is S.ISOLATED
    core.rejoin(0.0)
    assert core.state is S.CLOSED


class Timeless(BreakerCore):
    """Ignores generations: whatever comes back is a vote for now."""

    def settle(self, permit, now, *, failed, slow=False, failure=None, hint=None) -> None:
        if self._round is not None and not isinstance(permit, Probe):
            permit = next(iter(self._round._live), permit)
        super().settle(permit, now, failed=failed, slow=slow, failure=failure, hint=hint)


class Crossed(BreakerCore):
    """Lets a probe of any round vote in this one."""

    def settle(self, permit, now, *, failed, slow=False, failure=None, hint=None) -> None:
        if isinstance(permit, Probe) and self._round is not None and self._round._live:
            permit = permit if permit in self._round._live else next(iter(self._round._live))
        super().settle(permit, now, failed=failed, slow=slow, failure=failure, hint=hint)


class Leaseless(Round):
    def expire(self, now: float) -> int:
        return 0


class Forgiving(Round):
    def holds(self, probe: Probe, now: float) -> bool:
        return True

    def vote(self, probe: Probe, *, bad: bool) -> bool | None:
        self._live.add(probe)
        return super().vote(probe, bad=bad)


class Boundless(Round):
    def claim(self, now: float) -> Probe | None:
        probe = Probe(now + self._lease)
        self._live.add(probe)
        return probe


class Rounded(BreakerCore):
    """A core whose rounds are of a worse kind."""

    kind = Round

    def _enter_half_open(self, reason: str) -> None:
        super()._enter_half_open(reason)
        made = self.settings
        self._round = self.kind(size=made.half_open_calls, bound=made.half_open_bound, lease=made.probe_lease)


class ForgetsLeases(Rounded):
    kind = Leaseless


class ForgivesLateVotes(Rounded):
    kind = Forgiving


class UnlimitedProbes(Rounded):
    kind = Boundless


class CancelIsSuccess(BreakerCore):
    def release(self, permit) -> None:
        self.settle(permit, 8.0, failed=False)


class CancelIsFailure(BreakerCore):
    def release(self, permit) -> None:
        self.settle(permit, 8.0, failed=True)


class CancelIsNothing(BreakerCore):
    def release(self, permit) -> None: ...


class SlowIsFine(BreakerCore):
    def settle(self, permit, now, *, failed, slow=False, failure=None, hint=None) -> None:
        super().settle(permit, now, failed=failed, failure=failure, hint=hint)


class Impatient(BreakerCore):
    def admit(self, now: float):
        return super().admit(now + 1.0)


class Ageless(BreakerCore):
    def _enter_open(self, now, reason, hint, seconds=None) -> None:
        super()._enter_open(now, reason, hint, BASE)


class OneIsolation(BreakerCore):
    def rejoin(self, now: float) -> None:
        self._isolations = 0
        self._enter_closed(now, "isolation ended")


LAWS = {name: value for name, value in list(globals().items()) if name.startswith("law_")}
SABOTEURS = [
    (law_a_result_of_an_older_generation_changes_nothing, Timeless),
    (law_a_probe_of_an_older_round_neither_votes_nor_frees_a_place, Crossed),
    (law_a_probe_of_an_older_round_neither_votes_nor_frees_a_place, ForgivesLateVotes),
    (law_probes_never_outnumber_the_round, UnlimitedProbes),
    (law_a_hung_probe_cannot_wedge_the_circuit, ForgetsLeases),
    (law_one_lost_probe_hands_its_permit_on, ForgetsLeases),
    (law_a_vote_after_the_lease_is_late_even_if_nobody_asked_meanwhile, ForgivesLateVotes),
    (law_a_cancelled_probe_gives_its_permit_back_and_votes_for_nobody, CancelIsSuccess),
    (law_a_cancelled_probe_gives_its_permit_back_and_votes_for_nobody, CancelIsFailure),
    (law_a_cancelled_probe_gives_its_permit_back_and_votes_for_nobody, CancelIsNothing),
    (law_a_slow_probe_is_a_bad_one, SlowIsFine),
    (law_nobody_passes_before_the_interval_is_over, Impatient),
    (law_each_opening_in_a_row_stays_open_longer_until_it_has_closed, Ageless),
    (law_one_isolation_too_few_keeps_it_shut_and_one_rejoin_too_many_breaks_nothing, OneIsolation),
]


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_the_breaker_keeps(law) -> None:
    law(BreakerCore)


@pytest.mark.parametrize(("law", "saboteur"), SABOTEURS, ids=[f"{law.__name__}-{saboteur.__name__}" for law, saboteur in SABOTEURS])
def test_the_law_catches_the_saboteur(law, saboteur) -> None:
    with pytest.raises(AssertionError):
        law(saboteur)


def test_every_law_of_the_breaker_has_a_saboteur() -> None:
    assert {law for law, _ in SABOTEURS} == set(LAWS.values())


# --- half-open, in every order -----------------------------------------------------------------------------------------

ORDERS = sorted(set(permutations((0, 0, 1, 1, 2, 2))))
ENDS = ("good", "bad", "cancelled", "hung", "late")


def every_order(make, size: int) -> None:
    """Three clients, each of which asks and then reports: all 90 orders of their steps, all 125 ways to end."""
    for order, ends in product(ORDERS, product(ENDS, repeat=3)):
        core, model, held, now = half_open(make, size=size), Model(size), {}, 8.0
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
def test_some_order_catches_the_saboteur(saboteur) -> None:
    with pytest.raises((AssertionError, KeyError)):
        every_order(saboteur, 1)


def test_the_state_machine_catches_a_saboteur_too() -> None:
    bad = type("Bad", (Circuit,), {"make": SlowIsFine})
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            bad, settings=settings(BOUNDS, max_examples=400, derandomize=True, database=None, report_multiple_bugs=False)
        )


# --- the rest of its word ----------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans(), st.booleans()), max_size=60), st.booleans())
def test_the_fast_lane_changes_no_decision(steps: list[tuple[int, bool, bool]], by_time: bool) -> None:
    window = TimeWindow(2.0, buckets=4) if by_time else CountWindow(6)
    one, two, now = fresh(window=window), fresh(window=window), 0.0
    for ticks, failed, slow in steps:
        now += ticks / 16
        a, b = one.admit(now), two.admit(now)
        assert (a is None) == (b is None)
        if a is not None:
            one.settle(a, now, failed=failed, slow=slow)
            if not failed and not slow and not isinstance(b, Probe) and now < b.edge:
                b.ok += 1
            else:
                two.settle(b, now, failed=failed, slow=slow)
        assert (one.state, one.generation, one.retry_after(now)) == (two.state, two.generation, two.retry_after(now))


@given(st.lists(st.tuples(st.floats(-9, 9), st.sampled_from(["admit", "good", "bad", "cancel"])), max_size=60))
def test_a_time_told_out_of_order_neither_raises_nor_crowds_the_round(steps: list[tuple[float, str]]) -> None:
    core, now, held = fresh(size=2, window=TimeWindow(4.0)), 100.0, []
    for ahead, action in steps:
        now = max(0.0, now + ahead)
        if action == "admit":
            permit = core.admit(now)
            held += [permit] if permit is not None else []
        elif held:
            permit = held.pop(0)
            if action == "cancel":
                core.release(permit)
            else:
                core.settle(permit, now, failed=action == "bad")
        assert core._round is None or len(core._round._live) <= 2
        assert (core.retry_after(now) or 0.0) >= 0.0


@given(st.integers(1, 100), st.integers(1, 100))
def test_a_round_fails_at_the_first_count_whose_share_reaches_the_rate(size: int, hundredths: int) -> None:
    rate = hundredths / 100
    bound = told(size=size, rules=(FailureRate(rate),)).half_open_bound
    assert bound == next(bad for bad in range(1, size + 1) if bad / size >= rate)


def test_seven_in_a_hundred_reach_seven_per_cent() -> None:
    assert told(size=100, rules=(FailureRate(0.07),)).half_open_bound == 7


def test_without_a_rate_one_bad_probe_is_enough_and_odd_rules_of_ones_own_do_not_turn_a_round_round() -> None:
    class Odd:
        minimum_calls, rate = 3, 70.0  # a rate of its own kind: calls a second

        def trips(self, tally) -> str | None:
            return None

    assert told(size=5, rules=(FailureCount(3),)).half_open_bound == 1
    assert told(size=5, rules=(Odd(),)).half_open_bound == 5
    assert told(rules=(FailureCount(3),)).slow_after == inf
    assert told().slow_after == 1.0
    assert told().minimum_calls == 4


def test_a_round_nobody_answers_opens_the_circuit_again_for_longer() -> None:
    core = half_open(size=1)
    core.admit(8.0)
    assert core.admit(12.0) is None
    assert heard(core) == [(S.OPEN, S.HALF_OPEN), "probe_lost", (S.HALF_OPEN, S.OPEN)]
    assert core.retry_after(12.0) == 2 * BASE


def test_while_a_place_is_free_nobody_is_told_to_wait() -> None:
    core = half_open(size=2)
    core.admit(8.0)
    assert core.retry_after(8.0) == 0.0
    core.admit(9.0)
    assert core.retry_after(9.0) == 3.0


def test_metrics_only_says_once_when_it_would_have_opened_and_lets_everything_pass() -> None:
    core = fresh()
    core.hold(S.METRICS_ONLY, 0.0)
    for _ in range(9):
        core.settle(core.admit(0.0), 0.0, failed=True)
    notes = [item for item in core.news if isinstance(item, Note)]
    assert [(note.kind, note.detail, note.failed) for note in notes] == [("threshold", "3 calls in a row failed", False)]
    assert core.state is S.METRICS_ONLY


def test_the_totals_survive_every_window() -> None:
    core = fresh()
    for failed in (False, True, True, True):
        core.settle(core.admit(0.0), 0.0, failed=failed, slow=failed)
    assert (core.state, core.ok, core.failed, core.slow) == (S.OPEN, 1, 3, 3)


def test_the_lease_it_was_told_is_the_lease_it_gives() -> None:
    core = half_open()
    assert core.probe_lease == LEASE == core.admit(8.0).expires - 8.0


def test_a_change_says_why_and_for_how_long() -> None:
    core = fresh()
    core.trip(0.0, 5.0)
    change = core.news[0]
    assert (change.reason, change.open_for, change.generation) == ("tripped by hand", 5.0, 1)


def restored(core: BreakerCore, now: float, **change) -> BreakerCore:
    saved = core.save(now) | change
    other = fresh()
    other.load(1000.0, **saved | {"state": S(saved["state"])})
    return other


def test_a_restored_circuit_goes_on_counting_where_it_was() -> None:
    core = fresh()
    for failed in (True, False, False, False, True):
        core.settle(core.admit(0.0), 0.0, failed=failed, failure="Boom")
    assert core.save(0.0)["last_failure"] == "Boom"
    other = restored(core, 0.0)
    assert other.save(1000.0) | {"generation": 0} == core.save(0.0)
    other.settle(other.admit(1000.0), 1000.0, failed=True)
    assert other.state is S.OPEN


def test_a_restored_open_circuit_waits_out_the_rest_and_remembers_its_openings() -> None:
    core = half_open(size=1)
    core.settle(core.admit(8.0), 8.0, failed=True)
    other = restored(core, 14.0)
    assert other.retry_after(1000.0) == 10.0
    assert other.generation == core.generation
    assert other.save(1000.0)["openings"] == 2


def test_a_saved_circuit_that_lets_nobody_pass_has_no_calls_to_save() -> None:
    core = half_open()
    assert core.save(3.0) == {
        "state": "open",
        "generation": 1,
        "openings": 1,
        "open_for": 5.0,
        "calls": 0,
        "failures": 0,
        "slow": 0,
        "last_failure": None,
    }


def test_a_restored_half_open_circuit_is_ready_to_probe() -> None:
    core = half_open()
    core.admit(8.0)
    other = restored(core, 8.0)
    assert other.state is S.OPEN
    assert isinstance(other.admit(1000.0), Probe)


@pytest.mark.parametrize("state", [S.FORCED_OPEN, S.DISABLED, S.METRICS_ONLY])
def test_what_a_person_decided_is_restored(state: CircuitState) -> None:
    core = fresh()
    core.hold(state, 0.0)
    assert restored(core, 0.0).state is state


def test_an_isolation_does_not_come_back_with_a_new_process() -> None:
    core = fresh()
    core.isolate()
    assert restored(core, 0.0).state is S.CLOSED


@given(st.floats(-1e6, 1e6))
def test_another_clock_changes_nothing_but_the_numbers(shift: float) -> None:
    shift = float(round(shift * 1024)) / 1024  # exact in sums
    closed, opened, probing = fresh(), fresh(), half_open(size=1)
    for failed in (True, False, False):
        closed.settle(closed.admit(0.0), 0.0, failed=failed)
    opened.trip(0.0, 5.0)
    probing.admit(8.0)
    for core in (closed, opened, probing):
        heard(core)
    was = [core.save(9.0) for core in (closed, probing)], opened.retry_after(1.0), probing.retry_after(9.0)
    closed.rebase(9.0, 9.0 + shift)
    opened.rebase(1.0, 1.0 + shift)
    probing.rebase(9.0, 9.0 + shift)
    assert (
        [core.save(9.0 + shift) for core in (closed, probing)],
        opened.retry_after(1.0 + shift),
        probing.retry_after(9.0 + shift),
    ) == was
    assert not any(heard(core) for core in (closed, opened, probing))


def test_another_clock_leaves_alone_what_a_person_decided_and_loses_no_total() -> None:
    for state in (S.FORCED_OPEN, S.DISABLED, S.METRICS_ONLY):
        core = fresh()
        core.settle(core.admit(0.0), 0.0, failed=True, slow=True)
        core.hold(state, 0.0)
        before = (core.state, core.shut, core.ok, core.failed, core.slow)
        core.rebase(0.0, 500.0)
        assert (core.state, core.shut, core.ok, core.failed, core.slow) == before
