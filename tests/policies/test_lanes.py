"""The fast lanes are only fast: a decorated call ends, counts and tells as the same call does by `call` or `acall`."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience import (
    NON_RETRYABLE,
    RETRYABLE,
    CallAbandoned,
    CallRefused,
    CircuitBreaker,
    Constant,
    DecorationError,
    Effect,
    ErrorClassifier,
    ExpiredError,
    FinresilienceError,
    Pipeline,
    Retry,
    Timeout,
    TokenBudget,
    UnknownOutcomeError,
    deadline,
)
from finresilience.policies.guarding import Guarding
from tests.laws.worlds import Down, Lost, No, Provider, both_loops, on, still

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience import Event


class Answer:
    def __init__(self, status: int) -> None:
        self.status = status


RULES = ErrorClassifier(
    {Down: RETRYABLE, No: NON_RETRYABLE},
    when=[
        (lambda answer: isinstance(answer, Answer) and answer.status == 402, NON_RETRYABLE),
        (lambda answer: isinstance(answer, Answer) and answer.status == 503, RETRYABLE),
    ],
)
SCRIPTS: dict[str, tuple[Any, ...]] = {
    "plain": ("ok",),
    "looked at": (Answer(200),),
    "declined": (Answer(402),),
    "refused, then plain": (Answer(503), "ok"),
    "down, then plain": (Down, "ok"),
    "down": (Down,) * 3,
    "lost": (Lost,) * 3,
    "no": (No,),
    "twice down, then looked at": (Down, Down, Answer(200)),
}


def breaker(clock: Any, **more: Any) -> CircuitBreaker:
    return CircuitBreaker("acme", minimum_calls=9, clock=clock, listeners=[], **more)


def retry(**more: Any) -> Retry:
    return Retry(attempts=3, backoff=Constant(1), listeners=[], **more)


SHAPES: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "nothing": lambda clock: (),
    "retry": lambda clock: (retry(),),
    "budget": lambda clock: (retry(budget=TokenBudget(1000)),),
    "breaker": lambda clock: (breaker(clock),),
    "slow breaker": lambda clock: (breaker(clock, slow_rate=0.9, slow_after=5.0),),
    "breaker and retry": lambda clock: (breaker(clock), retry()),
    "slow breaker and retry": lambda clock: (breaker(clock, slow_rate=0.9, slow_after=5.0), retry()),
    "timeout": lambda clock: (Timeout(2.0),),
    "exact timeout": lambda clock: (Timeout(2.0, exact=True),),
    "everything": lambda clock: (breaker(clock), retry(), Timeout(2.0)),
    "everything, slow": lambda clock: (breaker(clock, slow_rate=0.9, slow_after=5.0), retry(), Timeout(2.0)),
    "family": lambda clock: (breaker(clock).per(lambda: "acme", at_most=2), retry(), Timeout(2.0)),
}


def piped(shape: str, clock: Any, heard: list[Event]) -> Pipeline:
    effect = Effect.IDEMPOTENT_BY_NATURE
    return Pipeline("acme", *SHAPES[shape](clock), classify=RULES, effect=effect, clock=clock, listeners=[heard.append])


def seen(pipeline: Pipeline, heard: list[Event], answer: Any, provider: Provider) -> list[Any]:
    """Everything that two calls must have in common."""
    policies: tuple[Any, ...] = pipeline.policies
    circuits = [policy.statistics() for policy in policies if not isinstance(policy, Retry | Timeout)]
    return [answer, provider.attempts, pipeline.statistics(), circuits, [repr(event) for event in heard]]


def sync_end(shape: str, script: str, *, decorated: bool) -> list[Any]:
    heard: list[Event] = []
    pipeline, provider = piped(shape, still(), heard), Provider(*SCRIPTS[script])
    try:
        answer = pipeline(provider.charge)() if decorated else pipeline.call(provider.charge)
    except (Down, Lost, No, FinresilienceError) as error:
        answer = type(error)
    return seen(pipeline, heard, answer, provider)


def async_end(shape: str, script: str, backend: str, *, decorated: bool) -> list[Any]:
    heard: list[Event] = []

    async def world() -> list[Any]:
        pipeline, provider = piped(shape, None, heard), Provider(*SCRIPTS[script])
        try:
            answer = await (pipeline(provider.acharge)() if decorated else pipeline.acall(provider.acharge))
        except (Down, Lost, No, FinresilienceError) as error:
            answer = type(error)
        return seen(pipeline, heard, answer, provider)

    told: list[Any] = on(backend, world)
    return told


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_way_of_calling_ends_in_the_same_way(shape: str, script: str) -> None:
    expected = sync_end(shape, script, decorated=False)
    assert sync_end(shape, script, decorated=True) == expected
    for backend in ("asyncio", "trio"):
        for decorated in (False, True):
            assert async_end(shape, script, backend, decorated=decorated) == expected


@both_loops
@pytest.mark.parametrize("shape", SHAPES)
def test_one_guarded_function_serves_call_after_call_and_loop_after_loop(backend: str, shape: str) -> None:
    pipeline = piped(shape, None, [])
    charge = pipeline(Provider().acharge)

    async def world() -> list[Any]:
        return [await charge(), await charge()]

    for again in (backend, "asyncio", "trio"):
        assert on(again, world) == ["ok", "ok"]
    assert pipeline.ends.ok == 6


def test_a_lane_that_takes_every_value_for_a_success_would_be_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finresilience.policies.lanes.looked", lambda plan, fn, args, kwargs, value, *_, **__: _Gullible(value))
    assert sync_end("retry", "declined", decorated=True) != sync_end("retry", "declined", decorated=False)


class _Gullible:
    """A call that takes whatever came for an Ok."""

    wait = None

    def __init__(self, value: Any) -> None:
        self.value = value

    def outcome(self) -> _Gullible:
        return self

    def unwrap(self) -> Any:
        return self.value


# --- where a circuit is not closed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["breaker", "slow breaker", "everything", "family"])
@pytest.mark.parametrize("form", ["decorated", "call", "outcome"])
def test_a_refused_call_is_counted_and_told_once(shape: str, form: str) -> None:
    heard: list[Event] = []
    pipeline = piped(shape, still(), heard)
    circuit: Any = pipeline.policies[0]
    (circuit.of("acme") if shape == "family" else circuit).force_open()
    guarded: Callable[[], str] = pipeline(Provider().charge)
    if form == "outcome":
        pipeline.outcome(guarded)
    else:
        with pytest.raises(FinresilienceError, match="was not called"):
            guarded() if form == "decorated" else pipeline.call(guarded)
    assert pipeline.statistics()["refused"] == pipeline.ends.refused == 1
    # A lane that refuses at once tells it in the circuit's name, where somebody listens to the circuit.
    assert [event for event in heard if isinstance(event, CallRefused)] in (
        [CallRefused(name="acme", reason="CircuitOpenError", reference=None)],
        [],
    )


@both_loops
@pytest.mark.parametrize("form", ["call", "outcome"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_open_breaker_tells_its_listeners_of_each_refusal(backend: str, form: str, asynchronous: bool) -> None:
    heard: list[Event] = []
    policy = CircuitBreaker("acme", listeners=[heard.append])
    policy.trip()
    heard.clear()

    async def acharge() -> str:
        return "ok"

    async def world() -> None:
        if asynchronous:
            if form == "outcome":
                await policy.aoutcome(acharge)
            else:
                with pytest.raises(FinresilienceError):
                    await policy(acharge)()
        elif form == "outcome":
            policy.outcome(lambda: "ok")
        else:
            with pytest.raises(FinresilienceError):
                policy(lambda: "ok")()

    on(backend, world)
    assert heard == [CallRefused(name="acme", reason="CircuitOpenError", reference=None)]
    assert policy.statistics()["refused"] == 1


@both_loops
@pytest.mark.parametrize("shape", ["slow breaker", "slow breaker and retry", "everything, slow"])
def test_half_open_closes_through_every_lane(backend: str, shape: str) -> None:
    for asynchronous in (False, True):
        clock = still()
        pipeline = piped(shape, clock, [])
        circuit: Any = pipeline.policies[0]
        circuit.trip(seconds=1)
        clock.advance(2)
        for _ in range(3):
            charge = pipeline(Provider().acharge if asynchronous else Provider().charge)
            assert (on(backend, charge) if asynchronous else charge()) == "ok"
        assert circuit.state == "closed"


# --- cancelled, interrupted, expired from outside ------------------------------------------------------------------


@both_loops
def test_an_inherited_deadline_that_cuts_a_call_off_counts_against_a_provider_that_had_its_time(backend: str) -> None:
    policy = CircuitBreaker("acme", consecutive_failures=1, slow_rate=1.0, slow_after=1.0, listeners=[])

    async def hang() -> None:
        await anyio.sleep(3600)

    async def world(seconds: float) -> None:
        with pytest.raises(UnknownOutcomeError):
            await Timeout(seconds, listeners=[]).acall(policy(hang))

    on(backend, world, 0.5)
    assert policy.state == "closed"  # half a second says nothing about the provider
    on(backend, world, 2.0)
    assert policy.state == "open"


@pytest.mark.parametrize("shape", ["retry", "breaker and retry", "everything"])
def test_a_wait_that_is_interrupted_abandons_the_call(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Event] = []
    clock = still()
    pipeline = piped(shape, clock, heard)

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(clock, "sleep_sync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipeline(Provider(Lost()).charge)()
    assert [type(event) for event in heard][1:] == [CallAbandoned]
    assert pipeline.statistics()["abandoned"] == 1


@both_loops
def test_an_async_wait_that_is_cancelled_abandons_the_call(backend: str) -> None:
    heard: list[Event] = []
    pipeline = piped("everything", None, heard)

    async def world() -> bool:
        with anyio.move_on_after(0.5) as scope:
            await pipeline(Provider(Lost()).acharge)()
        return scope.cancelled_caught

    assert on(backend, world)
    assert [type(event) for event in heard][1:] == [CallAbandoned]


def test_of_two_limits_that_end_together_the_outer_one_wins_over_a_callee_that_lingers() -> None:
    async def lingering() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(60)

    async def world() -> tuple[Any, int]:
        inner, outer = (Timeout(1.0, name=name, effect=Effect.READ, listeners=[]) for name in ("inner", "outer"))
        with pytest.raises(ExpiredError) as caught:
            await outer(inner(lingering))()
        task: Any = asyncio.current_task()
        await asyncio.sleep(1)
        return caught.value.name, task.cancelling()

    assert on("asyncio", world) == ("outer", 0)


# --- what cannot be guarded ----------------------------------------------------------------------------------------


def test_something_to_be_awaited_that_is_no_coroutine_is_refused_too() -> None:
    class Later:
        closed = False

        def __await__(self) -> Any:
            yield

        def close(self) -> None:
            self.closed = True

    later = Later()
    guarded: Any = Timeout(2.0, clock=still(), listeners=[])(lambda: later)
    with pytest.raises(UnknownOutcomeError) as caught:
        guarded()
    assert isinstance(caught.value.__cause__, DecorationError)
    assert not later.closed  # it is not ours to close


def test_a_policy_that_says_no_plan_guards_nothing() -> None:
    policy = Guarding("mine")
    policy._own_plan = None
    with pytest.raises(NotImplementedError):
        policy.call(lambda: "ok")


@both_loops
def test_a_deadline_that_is_over_is_a_refusal_in_every_lane(backend: str) -> None:
    async def acharge() -> str:
        return "ok"

    async def world() -> list[bool]:
        pipelines = [piped(shape, None, []) for shape in ("timeout", "everything", "family")]
        with deadline(1.0):
            await anyio.sleep(2)
            for pipeline in pipelines:
                with pytest.raises(FinresilienceError, match="deadline passed"):
                    await pipeline(acharge)()
                with pytest.raises(FinresilienceError, match="deadline passed"):
                    pipeline(lambda: "ok")()
        return [pipeline.ends.refused == 2 for pipeline in pipelines]

    assert on(backend, world) == [True] * 3
