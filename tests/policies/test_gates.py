"""What an attempt passes before it is made: asked after the breaker, left before any wait, never part of the attempt's time."""

from __future__ import annotations

from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any

import pytest

from finresilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpenError,
    Constant,
    DeadlineExceededError,
    Effect,
    ExpiredError,
    Failed,
    Fallback,
    Hedge,
    Ok,
    Pipeline,
    RateLimiter,
    Refused,
    RefusedError,
    Retry,
    Timeout,
    TokenBucket,
    Unknown,
    UnknownOutcomeError,
    remaining,
)
from finresilience.policies.gates import Gate, Stage
from finresilience.policies.guarding import Guarding
from finresilience.policies.plan import Plan
from finresilience.testing import instant
from tests.laws.sabotage import each_kill, kills, nothing
from tests.laws.worlds import RULES, Down, Lost, No, Provider, both_loops, on, still

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.testing import ManualClock


class Shut(RefusedError):
    """The turnstile's refusal."""


class Turnstile(Guarding):
    """A gate that is told what to do: each line is a wait in seconds (0 lets in at once) or what to raise; then it lets in at once."""

    role = "Bulkhead"

    def __init__(self, *script: float | BaseException, told: list[str] | None = None, name: str = "gate") -> None:
        super().__init__(name, listeners=[])
        self.script, self.inside, self.told = list(script), 0, [] if told is None else told
        self._own_plan = None

    def _planned(self) -> Plan:
        return Plan(self, bulkhead=self, speaks=False)

    def take(self) -> object:
        if self.script and self.script[0] != 0:
            return None
        return self._in(self.script.pop(0) if self.script else 0)

    def enter(self, deadline: float) -> object:
        wait = self._line(deadline)
        self._clock.sleep_sync(wait)
        return self._in(wait)

    async def aenter(self, deadline: float) -> object:
        wait = self._line(deadline)
        await self._clock.sleep(wait)
        return self._in(wait)

    def leave(self, hold: object) -> None:
        assert hold is self
        self.inside -= 1
        self.told.append(f"{self.name} left")

    def _line(self, deadline: float) -> float:
        line = self.script.pop(0) if self.script else 0
        if isinstance(line, BaseException):
            raise line
        return min(line, max(0.0, deadline - self._now()))

    def _in(self, _: object) -> object:
        self.inside += 1
        self.told.append(f"{self.name} entered")
        return self


class Quota(Turnstile):
    """The same in the other place."""

    role = "RateLimiter"


def piped(clock: ManualClock, *policies: Any, effect: Effect = Effect.IDEMPOTENT_BY_NATURE, **more: Any) -> Pipeline:
    return Pipeline("acme", *policies, classify=RULES, effect=effect, clock=clock, listeners=[], **more)


def breaker(clock: ManualClock, **more: Any) -> CircuitBreaker:
    return CircuitBreaker("acme", classify=RULES, clock=clock, listeners=[], **more)


def retry(attempts: int = 3) -> Retry:
    return Retry(attempts=attempts, backoff=Constant(1.0), listeners=[])


def each_way(pipeline: Pipeline, provider: Provider) -> list[tuple[str, Callable[[], Any]]]:
    return [("called", lambda: pipeline.call(provider.charge, "pay_1")), ("decorated", lambda: pipeline(provider.charge)("pay_1"))]


# --- where a gate stands -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [0, 1], ids=["called", "decorated"])
def test_each_attempt_enters_and_leaves_before_the_wait_for_the_next(way: int) -> None:
    clock, gate, provider = still(), Turnstile(), Provider(Down(), Down(), "ok")
    seen: list[str] = []
    sleep, charge = clock.sleep_sync, provider.charge

    def waits(seconds: float) -> None:
        seen.append(f"wait, {gate.inside}")
        sleep(seconds)

    def attempts(*args: Any) -> Any:
        seen.append(f"attempt, {gate.inside}")
        return charge(*args)

    clock.sleep_sync = waits  # type: ignore[method-assign]  # to listen in
    provider.charge = attempts  # type: ignore[method-assign]  # as above
    assert each_way(piped(clock, breaker(clock), retry(), gate), provider)[way][1]() == "ok"
    assert [line for line in seen if "attempt" in line] == ["attempt, 1"] * 3
    assert "wait, 1" not in seen
    assert gate.inside == 0


@both_loops
@pytest.mark.parametrize("way", ["called", "decorated"])
def test_an_async_attempt_enters_and_leaves_before_the_wait_for_the_next(backend: str, way: str) -> None:
    async def story() -> None:
        gate, provider, seen = Turnstile(), Provider(Down(), Down(), "ok"), []
        gate_free = Pipeline("acme", retry(), gate, Timeout(5.0), classify=RULES, effect=Effect.IDEMPOTENT_BY_NATURE, listeners=[])

        async def charge(_: str) -> Any:
            seen.append(gate.inside)
            return await provider.acharge()

        answer = await (gate_free.acall(charge, "pay_1") if way == "called" else gate_free(charge)("pay_1"))
        assert (answer, seen, gate.inside) == ("ok", [1, 1, 1], 0)

    on(backend, story)


def test_an_open_circuit_is_refused_before_anybody_stands_in_a_queue() -> None:
    clock, gate = still(), Turnstile()
    circuit = breaker(clock)
    circuit.trip(seconds=60)
    pipeline = piped(clock, circuit, gate)
    for _, call in each_way(pipeline, Provider()):
        with pytest.raises(CircuitOpenError):
            call()
    assert gate.told == []


def test_the_quota_is_asked_before_the_place() -> None:
    clock = still()
    told: list[str] = []
    quota, place = Quota(1.0, told=told, name="quota"), Turnstile(told=told, name="place")
    assert piped(clock, quota, place).call(Provider().charge, "pay_1") == "ok"
    assert told == ["quota entered", "place entered", "place left", "quota left"]


def test_a_place_that_was_free_is_given_back_where_the_quota_makes_the_call_wait() -> None:
    clock = still()
    told: list[str] = []
    quota, place = Quota(1.0, told=told, name="quota"), Turnstile(told=told, name="place")
    assert piped(clock, quota, place)(Provider().charge)("pay_1") == "ok"
    assert told[:2] == ["place entered", "place left"]
    assert (quota.inside, place.inside) == (0, 0)
    assert sum(clock.waits) == 1.0


def test_two_gates_that_are_free_are_passed_on_the_fast_lane() -> None:
    clock, provider = still(), Provider()
    quota, place = Quota(), Turnstile()
    assert piped(clock, breaker(clock), quota, place)(provider.charge)("pay_1") == "ok"
    assert place.told == ["gate entered", "gate left"]
    assert provider.attempts == 1


@both_loops
@pytest.mark.parametrize("limits", [(), (Timeout(5.0),)], ids=["light", "limited"])
def test_two_gates_that_are_free_are_passed_on_the_fast_async_lane(backend: str, limits: tuple[Any, ...]) -> None:
    async def story() -> None:
        provider, quota, place = Provider(), Quota(0, 1.0), Turnstile()
        circuit = CircuitBreaker("acme", classify=RULES, listeners=[])
        guarded = Pipeline("acme", circuit, quota, place, *limits, classify=RULES, listeners=[])(provider.acharge)
        assert [await guarded("pay_1"), await guarded("pay_2")] == ["ok", "ok"]  # the second waits for its slot
        assert (provider.attempts, place.inside) == (2, 0)

    on(backend, story)


@pytest.mark.parametrize("gate", [Bulkhead(1), RateLimiter(TokenBucket(1, per=1.0))], ids=lambda gate: type(gate).__name__)
def test_ours_have_all_that_a_gate_has(gate: Any) -> None:
    for method in ("take", "enter", "aenter", "leave"):
        assert signature(getattr(gate, method)).parameters.keys() <= {"deadline", "hold"} & {*signature(getattr(Gate, method)).parameters}


STAGES = (Fallback(value=1), RateLimiter(TokenBucket(1, per=1.0)), Hedge(1.0))


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: type(stage).__name__)
def test_ours_have_all_that_a_stage_has(stage: Any) -> None:
    for method in ("around", "aaround"):
        assert [*signature(getattr(stage, method)).parameters] == [*signature(getattr(Stage, method)).parameters][1:]


def test_a_family_is_asked_which_gate_it_is_before_anything_is_sent_and_once() -> None:
    """It was asked before each attempt: its key function failed at the second, and hid that the first may have happened."""
    clock, provider = still(), Provider(Lost(), Lost())

    def charge(request: dict[str, str]) -> Any:
        request.pop("tenant", None)
        return provider.charge()

    asked: list[str | None] = []

    def tenant(request: dict[str, str]) -> str:
        asked.append(request.get("tenant"))
        return "a"

    family = Bulkhead(1).per(tenant, at_most=5)
    assert isinstance(piped(clock, retry(2), family).outcome(charge, {"tenant": "a"}), Unknown)
    assert (asked, provider.attempts) == (["a"], 2)


# --- what a wait at a gate is not --------------------------------------------------------------------------------------


def test_a_wait_at_a_gate_is_not_the_providers_silence() -> None:
    clock, gate = still(), Turnstile(5.0)
    circuit = breaker(clock, slow_rate=0.5, slow_after=1.0)
    limits: list[float] = []

    def charge(_: str) -> str:
        limits.append(remaining() or 0.0)
        return "ok"

    assert piped(clock, circuit, gate, Timeout(2.0)).call(charge, "pay_1") == "ok"
    assert limits == [2.0]
    assert circuit.statistics()["slow"] == 0


def test_a_deadline_that_passes_at_a_gate_refuses_the_call_and_gives_everything_back() -> None:
    clock, gate = still(), Turnstile(5.0)
    circuit = breaker(clock, half_open_calls=1)
    circuit.trip(seconds=1)
    clock.advance(2)
    outcome = piped(clock, circuit, gate, deadline=3.0).outcome(Provider().charge, "pay_1")
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, DeadlineExceededError)
    assert gate.inside == 0
    assert piped(clock, circuit).call(Provider().charge, "pay_1") == "ok"  # the probe was given back


def test_a_wait_is_cut_to_the_deadline_of_whoever_calls() -> None:
    clock, gate = still(), Turnstile(5.0)
    gate.adopt(clock)
    outer = Pipeline("outer", clock=clock, deadline=1.0, listeners=[])
    assert isinstance(outer.outcome(lambda: piped(clock, gate).call(Provider().charge, "pay_1")), Refused)
    assert clock.waits == [1.0]


# --- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [0, 1], ids=["called", "decorated"])
def test_a_gates_refusal_is_nobodys_failure_and_is_not_tried_again(way: int) -> None:
    clock, gate, provider = still(), Turnstile(Shut()), Provider()
    circuit = breaker(clock)
    pipeline = piped(clock, circuit, retry(), gate)
    with pytest.raises(Shut):
        each_way(pipeline, provider)[way][1]()
    assert provider.attempts == 0
    assert (circuit.statistics()["failed"], pipeline.statistics()["refused"]) == (0, 1)
    assert clock.waits == []


def test_refused_on_the_second_attempt_a_call_ends_as_its_first_did() -> None:
    for first, end in ((Down(), Failed), (Lost(), Unknown)):
        clock, gate = still(), Turnstile(0, Shut())
        assert isinstance(piped(clock, retry(), gate).outcome(Provider(first).charge, "pay_1"), end)
        assert gate.inside == 0


def test_a_refused_probe_is_given_back() -> None:
    clock, gate = still(), Turnstile(Shut())
    circuit = breaker(clock, half_open_calls=1)
    circuit.trip(seconds=1)
    clock.advance(2)
    pipeline = piped(clock, circuit, gate)
    assert isinstance(pipeline.outcome(Provider().charge, "pay_1"), Refused)
    assert isinstance(pipeline.outcome(Provider().charge, "pay_1"), Ok)


# --- interruptions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit()], ids=repr)
@pytest.mark.parametrize("way", ["called", "decorated"])
def test_interrupted_at_the_second_gate_the_first_is_left(end: BaseException, way: str) -> None:
    clock = still()
    quota, place = Quota(1.0), Turnstile(0 if way == "decorated" else end, end)
    pipeline = piped(clock, breaker(clock), quota, place)
    with pytest.raises(type(end)):
        each_way(pipeline, Provider())[way == "decorated"][1]()
    assert (quota.inside, place.inside) == (0, 0)


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit()], ids=repr)
@pytest.mark.parametrize("way", [0, 1], ids=["called", "decorated"])
def test_interrupted_in_an_attempt_every_gate_is_left(end: BaseException, way: int) -> None:
    clock, gate = still(), Turnstile()
    with pytest.raises(type(end)):
        each_way(piped(clock, gate), Provider(end))[way][1]()
    assert gate.inside == 0


def test_abandoned_at_a_gate_with_its_deadline_past_a_probe_counts_nothing() -> None:
    """Nothing was sent: it must not count against the provider, however long the queue was."""
    clock = still()
    circuit = breaker(clock, half_open_calls=1, slow_rate=0.5, slow_after=0.1)
    circuit.trip(seconds=1)
    clock.advance(2)
    gate = Turnstile(5.0)
    sleep = clock.sleep_sync

    def interrupted(seconds: float) -> None:
        sleep(seconds)
        raise KeyboardInterrupt

    clock.sleep_sync = interrupted  # type: ignore[method-assign]  # somebody presses ^C in the queue
    with pytest.raises(KeyboardInterrupt):
        piped(clock, circuit, gate, deadline=3.0).call(Provider().charge, "pay_1")
    assert circuit.statistics()["failed"] == 0


# --- a gate alone ------------------------------------------------------------------------------------------------------


class Answer:
    """A 500, if anybody asked."""

    status_code = 500


@pytest.mark.parametrize("wait", [0, 1.0])
def test_a_gate_alone_judges_nothing(wait: float) -> None:
    answer = Answer()
    for end in (answer, Down(), Lost(), No()):
        for way in (0, 1):
            gate = Turnstile(wait)
            provider = Provider(end)
            try:
                with instant():
                    assert (gate(provider.charge)("pay_1") if way else gate.call(provider.charge, "pay_1")) is answer
            except (Down, Lost, No) as error:
                assert error is end
            assert gate.inside == 0


@both_loops
@pytest.mark.parametrize("wait", [0, 1.0])
def test_an_async_gate_alone_judges_nothing(backend: str, wait: float) -> None:
    async def story() -> None:
        answer = Answer()
        for end in (answer, Down(), Lost()):
            gate, provider = Turnstile(wait), Provider(end)
            try:
                assert await gate(provider.acharge)("pay_1") is answer
            except (Down, Lost) as error:
                assert error is end
            assert gate.inside == 0

    on(backend, story)


def test_a_gate_alone_refuses_once_the_deadline_of_whoever_calls_is_past() -> None:
    clock = still()
    outer, gate = Pipeline("outer", clock=clock, deadline=1.0, listeners=[]), Turnstile()
    gate.adopt(clock)

    def work() -> Any:
        clock.advance(2)
        return gate(Provider().charge)("pay_1")

    with pytest.raises(DeadlineExceededError):
        outer.call(work)
    assert gate.told == []


@both_loops
def test_an_expired_attempt_leaves_its_gate(backend: str) -> None:
    async def story() -> None:
        gate, provider = Turnstile(), Provider(9.0, 9.0)
        pipeline = Pipeline("acme", gate, Timeout(1.0), classify=RULES, listeners=[])
        for call in (pipeline(provider.acharge), partial(pipeline.acall, provider.acharge)):
            with pytest.raises(UnknownOutcomeError) as caught:
                await call("pay_1")
            assert isinstance(caught.value.__cause__, ExpiredError)
            assert gate.inside == 0

    on(backend, story)


@both_loops
@pytest.mark.parametrize("way", ["called", "decorated"])
def test_an_async_attempt_waits_is_refused_and_is_interrupted_at_its_gate_as_a_sync_one_is(backend: str, way: str) -> None:
    async def story() -> None:
        gate, provider = Turnstile(0, 1.0, Shut(), KeyboardInterrupt(), 5.0), Provider()
        circuit = CircuitBreaker("acme", half_open_calls=1, classify=RULES, listeners=[])
        pipeline = Pipeline("acme", circuit, gate, classify=RULES, deadline=3.0, listeners=[])
        work = pipeline(provider.acharge) if way == "decorated" else partial(pipeline.acall, provider.acharge)
        assert [await work("pay_1"), await work("pay_2")] == ["ok", "ok"]
        for refusal in (Shut, KeyboardInterrupt, DeadlineExceededError):
            with pytest.raises(refusal):
                await work("pay_1")
        circuit.trip(seconds=60)
        with pytest.raises(CircuitOpenError):
            await work("pay_1")
        assert (provider.attempts, gate.inside) == (2, 0)

    on(backend, story)


@both_loops
def test_an_async_gate_alone_refuses_once_the_deadline_of_whoever_calls_is_past(backend: str) -> None:
    async def story() -> None:
        gate, outer = Turnstile(), Pipeline("outer", deadline=1.0, listeners=[])

        async def work() -> Any:
            await gate._clock.sleep(0.5)
            return await gate(Provider().acharge)("pay_1")

        assert await outer.acall(work) == "ok"

    on(backend, story)


# --- saboteurs ---------------------------------------------------------------------------------------------------------


def gates_are_never_left(patch: pytest.MonkeyPatch) -> None:
    from finresilience.policies.call import Call

    patch.setattr(Call, "_leave_gates", nothing)


def a_family_is_asked_for_each_attempt(patch: pytest.MonkeyPatch) -> None:
    from finresilience.policies.call import Call

    gates = Call.gates

    def forgetful(self: Call) -> Any:
        self._gates = None
        return gates(self)

    patch.setattr(Call, "gates", forgetful)


def yes(*_: object) -> bool:
    return True


def an_attempt_begins_when_it_queues(patch: pytest.MonkeyPatch) -> None:
    from finresilience.policies.call import Call

    patch.setattr(Call, "let_in", yes)


@each_kill(
    (gates_are_never_left, test_interrupted_at_the_second_gate_the_first_is_left, KeyboardInterrupt(), "called"),
    (gates_are_never_left, test_refused_on_the_second_attempt_a_call_ends_as_its_first_did),
    (a_family_is_asked_for_each_attempt, test_a_family_is_asked_which_gate_it_is_before_anything_is_sent_and_once),
    (an_attempt_begins_when_it_queues, test_a_wait_at_a_gate_is_not_the_providers_silence),
    (an_attempt_begins_when_it_queues, test_a_deadline_that_passes_at_a_gate_refuses_the_call_and_gives_everything_back),
)
def test_its_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
