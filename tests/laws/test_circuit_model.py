"""The breaker's shell in every form it has, against the same circuit said again and slowly, its lists counted anew each time."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from finresilience import (
    CircuitBreaker,
    CircuitChanged,
    CircuitOpenError,
    Event,
    LateResult,
    OpenFor,
    ProbeLost,
    ThresholdCrossed,
    TimeWindow,
)
from tests.laws.sabotage import (
    RED,
    SEARCH,
    a_cancelled_call_is_a_failure,
    a_cancelled_call_is_a_success,
    a_cancelled_call_keeps_its_permit,
    a_success_closes_an_open_circuit,
    probes_are_unlimited,
    probes_have_no_lease,
    results_have_no_generation,
)
from tests.laws.worlds import RULES, Down, Lost, No, still

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.policies.guard import CircuitGuard

WINDOW, MINIMUM, SLOW, LEASE, OPEN, CAP = 10, 3, 2.0, 4.0, 6.0, 24.0
ENDS = ("ok", "ok", "down", "lost", "no", "typo", "gone")
ERRORS: dict[str, type[BaseException]] = {"down": Down, "lost": Lost, "no": No, "typo": TypeError, "gone": KeyboardInterrupt}
FORMS = ("call", "decorated", "outcome", "guard", "generator", "acall", "adecorated", "aguard", "aoutcome")


class Book:
    """The circuit by the book. Half of the last ten seconds' calls bad or slow opens it, once there are three."""

    def __init__(self, size: int) -> None:
        self.size, self.state, self.life, self.openings, self.until = size, "closed", 0, 0, 0.0
        self.told: list[str] = []
        self.good = self.bad = self.slow = self.late = self.refused = 0
        self.warned = False
        self.shut_by: list[object] = []
        self.begin_life()

    def begin_life(self) -> None:
        self.calls: list[tuple[float, bool, bool]] = []
        self.votes: list[bool] = []
        self.probes: list[Card] = []
        self.lost = 0

    def move(self, state: str) -> None:
        if state != self.state:
            self.told.append(f"{self.state} > {state}")
        self.state, self.life = state, self.life + 1
        self.begin_life()

    def opens(self, now: float) -> None:
        self.until = now + min(OPEN * 2**self.openings, CAP)
        self.openings += 1
        self.move("open")

    def closes(self) -> None:
        self.openings = 0
        self.move("closed")

    def admits(self, now: float) -> Card | None:
        if self.state in {"closed", "disabled", "metrics_only"}:
            return Card(self.life, inf)
        if self.state == "open" and now >= self.until:
            self.move("half_open")
        if self.state == "half_open":
            hung = [card for card in self.probes if now >= card.until]
            self.told += ["lost"] * len(hung)
            self.lost += len(hung)
            self.probes = [card for card in self.probes if card not in hung]
            if self.lost >= self.size:
                self.opens(now)
            elif len(self.probes) + len(self.votes) < self.size:
                self.probes.append(Card(self.life, now + LEASE))
                return self.probes[-1]
        self.refused += 1
        return None

    def hears(self, card: Card, now: float, how: str, *, slow: bool) -> None:
        """Take note of one result: a decline is a good one, our own mistakes and interruptions are none."""
        if how in {"typo", "gone"}:
            self.probes = [probe for probe in self.probes if probe is not card]
            return
        failed = how in {"down", "lost"}
        if card.life != self.life or (card.until < inf and (card not in self.probes or now >= card.until)):
            self.late += 1
            self.told.append("late")
            return
        self.good, self.bad = self.good + (not failed), self.bad + failed
        if card.until < inf:
            self.votes_on(card, now, bad=failed or slow)
            return
        self.slow += slow
        self.calls.append((now, failed, slow))
        self.judges(now)

    def votes_on(self, card: Card, now: float, *, bad: bool) -> None:
        self.probes.remove(card)
        self.votes.append(bad)
        enough = -(-self.size // 2)  # half of them
        if self.votes.count(True) >= enough:
            self.opens(now)
        elif self.votes.count(False) > self.size - enough:
            self.closes()

    def judges(self, now: float) -> None:
        if self.state == "disabled":
            return
        bad, slow, calls = self.standing(now)
        if calls >= MINIMUM and 2 * max(bad, slow) >= calls:
            if self.state == "closed":
                self.opens(now)
            elif not self.warned:
                self.warned = True
                self.told.append("threshold")

    def standing(self, now: float) -> tuple[int, int, int]:
        last = [call for call in self.calls if now - call[0] < WINDOW]
        return sum(bad for _, bad, _ in last), sum(slow for *_, slow in last), len(last)


class Card:
    """A permit: of which life of the circuit, and good until when."""

    def __init__(self, life: int, until: float) -> None:
        self.life, self.until = life, until


def told(event: Event) -> str:
    if isinstance(event, CircuitChanged):
        return f"{event.before} > {event.after}"
    names: dict[type[Event], str] = {LateResult: "late", ProbeLost: "lost", ThresholdCrossed: "threshold"}
    return names.get(type(event), "")


class Circuit(RuleBasedStateMachine):
    """One breaker, one clock of whole seconds; calls of every form, blocks left open meanwhile, and a person."""

    @initialize(size=st.integers(1, 3))
    def begin(self, size: int) -> None:
        self.clock, self.heard, self.book = still(), list[Event](), Book(size)
        self.open_blocks: list[tuple[CircuitGuard, Card, float]] = []
        self.policy = CircuitBreaker(
            "acme",
            window=TimeWindow(WINDOW, buckets=WINDOW),
            failure_rate=0.5,
            minimum_calls=MINIMUM,
            slow_rate=0.5,
            slow_after=SLOW,
            open_for=OpenFor(OPEN, cap=CAP, jitter=0.0),
            half_open_calls=size,
            probe_lease=LEASE,
            classify=RULES,
            clock=self.clock,
            listeners=[self.heard.append],
        )

    @rule(
        form=st.sampled_from(FORMS),
        how=st.sampled_from(ENDS),
        took=st.sampled_from([0, 0, 0, 1, 3, 5]),
        loop=st.sampled_from(["asyncio", "trio"]),
    )
    def call(self, form: str, how: str, took: int, loop: str) -> None:
        now, book = self.clock.monotonic(), self.book
        card, ran = book.admits(now), list[str]()

        def work() -> None:
            ran.append(how)
            self.clock.advance(took)
            if how != "ok":
                raise ERRORS[how]

        try:
            made(self.policy, form, work, loop)
            ended = "ok"
        except CircuitOpenError:
            ended = "refused"
        except tuple(ERRORS.values()) as error:
            ended = next(name for name, kind in ERRORS.items() if type(error) is kind)
        assert (ended, ran) == ((how, [how]) if card is not None else ("refused", []))
        if card is not None:
            book.hears(card, now + took, how, slow=took > SLOW)

    @rule()
    def enter_a_block(self) -> None:
        now, guard = self.clock.monotonic(), self.policy.guard()
        card = self.book.admits(now)
        if card is None:
            with pytest.raises(CircuitOpenError):
                guard.__enter__()
        else:
            guard.__enter__()
            self.open_blocks.append((guard, card, now))

    @precondition(lambda self: self.open_blocks)
    @rule(data=st.data(), how=st.sampled_from(ENDS))
    def leave_a_block(self, data: st.DataObject, how: str) -> None:
        guard, card, since = self.open_blocks.pop(data.draw(st.integers(0, len(self.open_blocks) - 1)))
        now, error = self.clock.monotonic(), None if how == "ok" else ERRORS[how]()
        guard.__exit__(None if error is None else type(error), error, None)
        self.book.hears(card, now, how, slow=now - since > SLOW)

    @rule(seconds=st.sampled_from([1, 1, 3, 6, 12, 30]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @precondition(lambda self: self.book.state == "open")
    @rule()
    def its_time_is_over_and_a_probe_goes_in(self) -> None:
        self.clock.advance(max(0.0, self.book.until - self.clock.monotonic()))
        self.enter_a_block()

    @precondition(lambda self: self.book.state == "closed")
    @rule()
    def a_call_is_still_inside_when_the_probes_go_in(self) -> None:
        self.enter_a_block()
        self.a_person_decides("trip")
        self.its_time_is_over_and_a_probe_goes_in()

    @rule(deed=st.sampled_from(["trip", "trip", "reset", "force_open", "disable", "metrics_only"]))
    def a_person_decides(self, deed: str) -> None:
        book, state = self.book, {"force_open": "forced_open", "disable": "disabled"}.get(deed, deed)
        getattr(self.policy, deed)()
        if deed == "reset":
            book.openings = 0
        if book.shut_by or book.state == state:
            return
        if deed == "trip":
            book.opens(self.clock.monotonic())
        elif deed == "reset":
            book.closes()
        else:
            book.warned = False
            book.move(state)

    @rule()
    def somebody_isolates_it(self) -> None:
        self.book.shut_by.append(self.policy.isolate())
        if len(self.book.shut_by) == 1:
            self.book.move("isolated")

    @precondition(lambda self: self.book.shut_by)
    @rule()
    def somebody_lets_go(self) -> None:
        held: Any = self.book.shut_by.pop()
        held.release()
        held.release()  # twice is once
        if not self.book.shut_by:
            self.book.closes()

    @invariant()
    def the_circuit_is_as_the_book_says(self) -> None:
        book, stats, now = self.book, self.policy.statistics(), self.clock.monotonic()
        assert (stats["state"], stats["generation"]) == (book.state, book.life)
        assert (stats["succeeded"], stats["failed"]) == (book.good, book.bad)
        assert (stats["refused"], stats["late"]) == (book.refused, book.late)
        if book.state in {"closed", "metrics_only"}:
            bad, slow, calls = book.standing(now)
            assert stats["window"] == {"calls": calls, "failures": bad, "slow": slow}
        if book.state == "open":
            assert stats["retry_after"] == max(0.0, book.until - now)

    @invariant()
    def what_was_told_is_what_happened(self) -> None:
        assert [said for event in self.heard if (said := told(event))] == self.book.told


def made(policy: CircuitBreaker, form: str, work: Callable[[], None], loop: str) -> None:
    """Make one call through one form of the breaker."""

    async def awork() -> None:
        work()

    async def in_block() -> None:
        async with policy.guard():
            work()

    async def outcome() -> None:
        (await policy.aoutcome(awork)).unwrap()

    async def acall() -> None:
        await policy.acall(awork)

    if form == "guard":
        with policy.guard():
            work()
    elif form == "generator":

        @policy
        def steps() -> Any:
            yield 1
            work()

        list(steps())
    elif form == "outcome":
        policy.outcome(work).unwrap()
    elif form in {"call", "decorated"}:
        policy.call(work) if form == "call" else policy(work)()
    else:
        anyio.run({"acall": acall, "adecorated": policy(awork), "aguard": in_block, "aoutcome": outcome}[form], backend=loop)


TestCircuitByTheBook = Circuit.TestCase
TestCircuitByTheBook.settings = settings(stateful_step_count=40)


@pytest.mark.parametrize(
    "saboteur",
    [
        a_cancelled_call_is_a_failure,
        a_cancelled_call_is_a_success,
        a_cancelled_call_keeps_its_permit,
        a_success_closes_an_open_circuit,
        probes_are_unlimited,
        probes_have_no_lease,
        results_have_no_generation,
    ],
)
def test_the_book_catches_the_saboteur(saboteur: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    saboteur(monkeypatch)
    with pytest.raises(RED):
        run_state_machine_as_test(Circuit, settings=settings(SEARCH, stateful_step_count=40))
