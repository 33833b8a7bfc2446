"""What stands round a whole call, and a pipeline in an order of its owner's own."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from finresilience import (
    Bulkhead,
    CallAbandoned,
    CallRefused,
    CircuitBreaker,
    CircuitOpenError,
    ConfigurationError,
    Constant,
    DecorationError,
    Effect,
    Failed,
    Found,
    MissingKeyError,
    Ok,
    OutcomeUnknown,
    Pipeline,
    RateLimiter,
    Refused,
    RefusedError,
    Retry,
    StillUnknown,
    Timeout,
    TokenBucket,
    TokenBudget,
    Unknown,
    current_key,
    current_reference,
    remaining,
)
from finresilience.context import current
from finresilience.policies.guarding import Guarding
from finresilience.policies.plan import Plan
from tests.laws.worlds import RULES, Down, Lost, No, Provider, both_loops, on, still

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience import Event, Outcome
    from finresilience.testing import ManualClock


class Bystander(Guarding):
    """A stage that calls `go` so many times, and remembers what it saw."""

    role = "Fallback"

    def __init__(self, times: int = 1, *, refuses: bool = False) -> None:
        super().__init__("bystander", listeners=[])
        self.times, self.refuses, self.checked = times, refuses, None
        self.seen: list[Any] = []
        self._own_plan = None

    def _planned(self) -> Plan:
        return Plan(self, stages=(self,), classifier=RULES)

    def check(self, effect: Effect) -> None:
        if self.refuses:
            message = f"not round a call that is {effect}"
            raise ConfigurationError(message)

    def around(self, plan: Plan, go: Callable[[], Outcome[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome[Any]:
        self.seen.append((current_key(), current_reference(), remaining(), args, kwargs))
        outcome: Outcome[Any] = Refused(RefusedError())
        for _ in range(self.times):
            outcome = go()
        return outcome

    async def aaround(self, plan: Plan, go: Callable[[], Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome[Any]:
        self.seen.append((current_key(), current_reference(), remaining(), args, kwargs))
        outcome: Outcome[Any] = Refused(RefusedError())
        for _ in range(self.times):
            outcome = await go()
        return outcome


class Turn(Bystander):
    role = "RateLimiter"


class Arms(Bystander):
    role = "Hedge"


def piped(clock: ManualClock | None, *policies: Any, heard: list[Event] | None = None, **more: Any) -> Pipeline:
    listeners = [] if heard is None else [heard.append]
    settings: dict[str, Any] = {"classify": RULES, "effect": Effect.READ, "clock": clock, "listeners": listeners} | more
    return Pipeline("acme", *policies, **settings)


# --- what a stage sees and what the arms share -------------------------------------------------------------------------


def test_a_stage_sees_the_key_the_reference_and_the_time_that_is_left() -> None:
    stage = Bystander()
    pipeline = piped(still(), stage, deadline=8.0, effect=Effect.IDEMPOTENT, key=str, reference="ref of {}".format)
    assert pipeline.call(Provider().charge, "pay_1") == "ok"
    assert stage.seen == [("pay_1:acme", "ref of pay_1", 8.0, ("pay_1",), {})]


def test_the_key_is_asked_for_once_however_many_arms_there_are() -> None:
    """A key function may well mint a new key whenever it is asked: two arms of one call must not have two."""
    minted, keys = count(), []
    pipeline = piped(still(), Bystander(3), effect=Effect.IDEMPOTENT, key=lambda: f"pay_{next(minted)}")
    pipeline.call(lambda: keys.append(current_key()))
    assert keys == ["pay_0:acme"] * 3


def test_without_a_key_an_idempotent_call_goes_to_no_stage() -> None:
    stage = Bystander()
    with pytest.raises(MissingKeyError):
        piped(still(), stage, effect=Effect.IDEMPOTENT).call(Provider().charge)
    assert stage.seen == []


def test_stages_stand_in_their_order() -> None:
    outer, inner = Bystander(2), Turn(1)
    provider = Provider()
    assert piped(still(), outer, inner, CircuitBreaker("acme", listeners=[])).call(provider.charge) == "ok"
    assert (len(outer.seen), len(inner.seen), provider.attempts) == (1, 2, 2)


@both_loops
def test_async_calls_go_through_their_stages(backend: str) -> None:
    async def story() -> None:
        outer, inner, provider = Bystander(2), Turn(1), Provider()
        pipeline = piped(None, outer, inner, Retry(attempts=2))
        assert await pipeline(provider.acharge)() == "ok"
        assert (len(outer.seen), len(inner.seen), provider.attempts) == (1, 2, 2)

    on(backend, story)


def test_each_arm_is_held_to_the_deadline_of_the_whole() -> None:
    clock, lefts = still(), []

    def slow() -> None:
        lefts.append(remaining())
        clock.advance(3)

    outcome = piped(clock, Bystander(4), deadline=8.0).outcome(slow)
    assert lefts == [8.0, 5.0, 2.0]
    assert isinstance(outcome, Refused)


# --- what is counted and told ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "kind", "counted"),
    [("ok", Ok, "ok"), (Down(), Failed, "failed"), (Lost(), Unknown, "unknown"), (No(), None, "declined")],
    ids=["ok", "failed", "unknown", "declined"],
)
def test_a_call_is_counted_once_by_how_it_ended_outside(line: Any, kind: Any, counted: str) -> None:
    pipeline = piped(still(), Bystander(2), effect=Effect.UNSAFE)
    outcome = pipeline.outcome(Provider(line, line).charge)
    assert kind is None or isinstance(outcome, kind)
    told = pipeline.statistics()
    assert {name: told[name] for name in told if told[name]} == {counted: 1}


def test_the_retries_of_every_arm_are_counted() -> None:
    pipeline = piped(still(), Bystander(2), Retry(attempts=2, backoff=Constant(0)))
    pipeline.call(Provider(Down(), "ok", Down(), "ok").charge)
    assert pipeline.statistics()["retried"] == 2


def test_a_refusal_by_a_stage_is_told_and_counted() -> None:
    heard: list[Event] = []
    pipeline = piped(still(), Bystander(0), heard=heard, reference=lambda: "ref")
    with pytest.raises(RefusedError):
        pipeline.call(Provider().charge)
    assert [(event.reason, event.reference) for event in heard if isinstance(event, CallRefused)] == [("RefusedError", "ref")]
    assert pipeline.statistics()["refused"] == 1


def test_a_call_cancelled_inside_a_stage_is_counted_and_told_once() -> None:
    heard: list[Event] = []
    pipeline = piped(still(), Bystander(), heard=heard, effect=Effect.UNSAFE)
    with pytest.raises(KeyboardInterrupt):
        pipeline.call(Provider(KeyboardInterrupt()).charge)
    assert pipeline.statistics()["abandoned"] == 1
    assert [type(event) for event in heard] == [CallAbandoned]
    assert current.get() is None


@both_loops
def test_an_async_call_cancelled_inside_a_stage_is_counted_and_told_once(backend: str) -> None:
    async def story() -> None:
        heard: list[Event] = []
        pipeline = piped(None, Bystander(), heard=heard, effect=Effect.UNSAFE)
        with pytest.raises(KeyboardInterrupt):
            await pipeline.acall(Provider(KeyboardInterrupt()).acharge)
        assert pipeline.statistics()["abandoned"] == 1
        assert [type(event) for event in heard] == [CallAbandoned]
        assert current.get() is None

    on(backend, story)


def test_an_arm_that_another_has_beaten_is_not_told_as_abandoned() -> None:
    heard: list[Event] = []

    class Race(Bystander):
        def around(self, plan: Plan, go: Callable[[], Outcome[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome[Any]:
            outcome = go()
            whole = current.get()
            assert whole is not None
            whole.won = True
            with pytest.raises(KeyboardInterrupt):
                go()
            return outcome

    pipeline = piped(still(), Race(), heard=heard, effect=Effect.IDEMPOTENT_BY_NATURE)
    assert pipeline.call(Provider("ok", KeyboardInterrupt()).charge) == "ok"
    assert heard == []
    assert pipeline.statistics()["abandoned"] == 0


@both_loops
def test_a_hedged_call_asks_about_the_join_and_not_about_each_arm(backend: str) -> None:
    async def story() -> None:
        heard: list[Event] = []
        pipeline = piped(None, Arms(2), heard=heard, effect=Effect.IDEMPOTENT_BY_NATURE)
        assert isinstance(await pipeline.aoutcome(Provider(Lost(), Lost()).acharge), Unknown)
        assert [type(event) for event in heard] == [OutcomeUnknown]
        asked: list[int] = []

        @pipeline.inquiry(schedule=(1,))
        async def find() -> Any:
            asked.append(1)
            return Found("found") if len(asked) == 1 else StillUnknown()

        assert await pipeline(Provider(Lost(), Lost()).acharge)() == "found"
        assert asked == [1]
        assert isinstance(await pipeline.aoutcome(Provider("ok", Down()).acharge), Failed)

    on(backend, story)


def test_a_stage_may_refuse_an_effect_when_the_pipeline_is_made() -> None:
    with pytest.raises(ConfigurationError, match="not round a call that is unsafe"):
        piped(still(), Bystander(refuses=True), effect=Effect.UNSAFE)
    with pytest.raises(ConfigurationError, match="not round a call that is read"):
        piped(still(), Arms(refuses=True))


def test_a_hedge_is_refused_round_plain_functions() -> None:
    pipeline = piped(still(), Arms())
    for misuse in (
        lambda: pipeline(Provider().charge),
        lambda: pipeline.call(Provider().charge),
        lambda: pipeline.outcome(Provider().charge),
    ):
        with pytest.raises(DecorationError, match="the loser of a race must be stopped"):
            misuse()


# --- an order of one's own ---------------------------------------------------------------------------------------------


def test_in_an_order_of_its_own_a_retry_outside_the_circuit_asks_it_anew_for_each_attempt() -> None:
    clock = still()
    circuit = CircuitBreaker("acme", consecutive_failures=3, clock=clock, listeners=[])
    usual = piped(clock, CircuitBreaker("acme", consecutive_failures=3, clock=clock, listeners=[]), Retry(attempts=5, backoff=Constant(0)))
    own = piped(clock, Retry(attempts=5, backoff=Constant(0)), circuit, allow_order=True)
    for pipeline, guarded in ((usual, usual.call), (own, own.call)):
        provider = Provider(*[Down()] * 9)
        with pytest.raises((Down, CircuitOpenError)):
            guarded(provider.charge)
        assert provider.attempts == 3
        assert pipeline.statistics()["retried"] >= 2


@pytest.mark.parametrize("way", ["called", "decorated"])
def test_in_an_order_of_its_own_a_limit_outside_the_retry_holds_all_attempts_together(way: str) -> None:
    clock = still()
    pipeline = piped(clock, Timeout(2.0), Retry(attempts=3, backoff=Constant(0)), allow_order=True)
    lefts: list[Any] = []

    def work() -> str:
        lefts.append(remaining())
        clock.advance(1.5)
        if len(lefts) < 2:
            raise Down
        return "ok"

    assert (pipeline.call(work) if way == "called" else pipeline(work)()) == "ok"
    assert lefts == [2.0, 0.5]


def test_an_order_of_its_own_may_have_stages_round_it() -> None:
    stage = Bystander()
    pipeline = piped(still(), stage, Timeout(2.0), Retry(attempts=3, backoff=Constant(0)), allow_order=True)
    assert pipeline.call(Provider(Down(), "ok").charge) == "ok"
    assert len(stage.seen) == 1


@both_loops
def test_an_order_of_its_own_guards_async_functions_too(backend: str) -> None:
    async def story() -> None:
        for stages in ((), (Bystander(),)):
            pipeline = piped(None, *stages, Timeout(2.0), Retry(attempts=3, backoff=Constant(0)), allow_order=True)
            assert await pipeline.acall(Provider(Down(), "ok").acharge) == "ok"
            assert await pipeline(Provider(Down(), "ok").acharge)() == "ok"
            assert isinstance(await pipeline.aoutcome(Provider(9.0).acharge), Failed)

    on(backend, story)


def test_in_an_order_of_its_own_a_call_still_has_one_key() -> None:
    minted, keys = count(), []
    pipeline = piped(
        still(),
        Retry(attempts=3, backoff=Constant(0)),
        CircuitBreaker("acme", listeners=[]),
        allow_order=True,
        effect=Effect.IDEMPOTENT,
        key=lambda: f"pay_{next(minted)}",
    )

    def work() -> str:
        keys.append(current_key())
        if len(keys) < 3:
            raise Lost
        return "ok"

    assert pipeline.call(work) == "ok"
    assert keys == ["pay_0:acme"] * 3


@pytest.mark.parametrize("way", ["called", "decorated"])
def test_in_an_order_of_its_own_each_policy_is_asked_once_whatever_the_lane(way: str) -> None:
    """Decorated, what stood inside was put round the function twice, so an inner bulkhead of one place would refuse itself."""
    family, quota = Bulkhead(1).per(str, at_most=5), RateLimiter(TokenBucket(1, per=60.0, burst=9))
    for policies in ((family, quota), (Retry(attempts=1, budget=TokenBudget()), Bulkhead(1), CircuitBreaker("acme", listeners=[]), quota)):
        pipeline = piped(still(), *policies, allow_order=True)
        before: Any = quota.statistics()["passed"]
        assert (pipeline.call(Provider().charge, "pay_1") if way == "called" else pipeline(Provider().charge)("pay_1")) == "ok"
        assert quota.statistics()["passed"] == before + 1


# --- one pipeline, several effects -------------------------------------------------------------------------------------


def test_a_sibling_of_another_effect_shares_the_policies_and_the_counts() -> None:
    clock = still()
    circuit = CircuitBreaker("acme", consecutive_failures=2, clock=clock, listeners=[])
    unsafe = piped(clock, circuit, Retry(attempts=2, backoff=Constant(0)), effect=Effect.UNSAFE)
    read = unsafe._with_effect(Effect.READ)
    assert read is unsafe._with_effect(Effect.READ)
    assert unsafe._with_effect(Effect.UNSAFE) is unsafe
    assert read.call(Provider(Lost(), "ok").charge) == "ok"
    assert isinstance(unsafe.outcome(Provider(Lost(), "ok").charge), Unknown)
    assert (unsafe.statistics()["ok"], unsafe.statistics()["unknown"]) == (1, 1)
    circuit.trip(seconds=60)
    assert isinstance(read.outcome(Provider().charge), Refused)


def test_a_sibling_hears_of_an_inquiry_that_is_registered_later() -> None:
    pipeline = piped(still(), effect=Effect.READ)
    unsafe = pipeline._with_effect(Effect.UNSAFE)

    @pipeline.inquiry(schedule=(1,))
    def find() -> Found[str]:
        return Found("found")

    assert unsafe.call(Provider(Lost()).charge) == "found"


def test_a_sibling_is_refused_where_a_policy_must_not_stand_round_its_effect() -> None:
    stage = Bystander()
    pipeline = piped(still(), stage)
    stage.refuses = True
    with pytest.raises(ConfigurationError, match="not round a call that is unsafe"):
        pipeline._with_effect(Effect.UNSAFE)


def test_a_sibling_that_reads_needs_no_key() -> None:
    pipeline = piped(still(), effect=Effect.IDEMPOTENT, key=lambda request: request["id"])
    assert pipeline._with_effect(Effect.READ).call(lambda request: request, {}) == {}
