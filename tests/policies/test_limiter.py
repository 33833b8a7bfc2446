"""A rate limiter round calls: who passes, who waits, who is refused, and what a wait that is broken off costs."""

from __future__ import annotations

from datetime import timedelta
from math import inf
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience import (
    CallRefused,
    CircuitBreaker,
    ConfigurationError,
    Constant,
    DeadlineExceededError,
    DecorationError,
    Effect,
    Ok,
    Pipeline,
    RateLimitedError,
    Refused,
    Retry,
    Timeout,
    deadline,
    remaining,
)
from finresilience.cores.limiter import SlidingWindow, TokenBucket
from finresilience.events import RateChanged, SlotAwaited
from finresilience.policies.limiter import RateLimiter
from finresilience.testing import ManualClock, VirtualClock, instant
from finresilience.testing.stories import give_way
from tests.laws.worlds import RULES, Down, Lost, Provider, both_loops, on, still

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience import Event


Manual: Any = ManualClock  # final, but not for a test that sleeps badly


class Parked(Manual):  # type: ignore[misc] # of no type
    async def sleep(self, seconds: float, /) -> None:
        await give_way()


def limiter(rule: Any = None, *, heard: list[Event] | None = None, **more: Any) -> RateLimiter:
    """One call a second, if nothing else is said."""
    settings: dict[str, Any] = {"clock": still(), "listeners": [] if heard is None else [heard.append]} | more
    return RateLimiter(TokenBucket(1, per=1) if rule is None else rule, **settings)


def clock_of(policy: RateLimiter) -> Any:
    return policy._clock


# --- who passes, who waits, who is refused -----------------------------------------------------------------------------


def test_by_default_nobody_waits() -> None:
    policy = limiter(name="acme quota")
    assert policy.call(lambda: "ok") == "ok"
    with pytest.raises(RateLimitedError, match=r"^acme quota .*: the next slot is 1 s away") as refused:
        policy.call(lambda: pytest.fail("it was made"))
    assert refused.value.retry_after == 1.0
    assert clock_of(policy).waits == []


def test_a_call_waits_for_its_slot_and_passes_at_its_time() -> None:
    policy = limiter(max_wait=timedelta(seconds=2))
    assert [policy.call(clock_of(policy).monotonic) for _ in range(4)] == [0.0, 1.0, 2.0, 3.0]
    assert clock_of(policy).waits == [1.0, 1.0, 1.0]


@both_loops
def test_as_many_wait_as_have_a_slot_within_the_longest_wait_and_the_others_are_refused_at_once(backend: str) -> None:
    async def world() -> list[Any]:
        clock = VirtualClock.current()
        policy = limiter(TokenBucket(2, per=1, burst=2), max_wait=1.0, clock=clock)
        ends: list[Any] = []

        async def caller() -> None:
            outcome = await policy.aoutcome(at)
            ends.append(outcome.value if isinstance(outcome, Ok) else clock.monotonic() + 1000)

        async def at() -> float:
            return clock.monotonic()

        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(caller)
        assert policy.statistics()["passed"] == 4
        return sorted(ends)

    assert on(backend, world) == [0.0, 0.0, 0.5, 1.0, 1000.0, 1000.0]


def test_a_refused_call_claims_nothing() -> None:
    policy = limiter(max_wait=0.5)
    assert policy.take()
    for _ in range(5):
        with pytest.raises(RateLimitedError):
            policy.enter()
    clock_of(policy).advance(0.5)
    assert policy.call(clock_of(policy).monotonic) == 1.0


def test_what_the_function_says_passes_through_untouched() -> None:
    policy = limiter(TokenBucket(100, per=1, burst=100))
    for error in (Down(), Lost(), ValueError("a bug")):
        with pytest.raises(type(error)) as caught:
            policy.call(Provider(error).charge)
        assert caught.value is error
    decorated = policy(Provider("a receipt").charge)
    assert decorated() == "a receipt"


@both_loops
def test_sync_and_async_calls_draw_on_the_same_rate(backend: str) -> None:
    async def world() -> None:
        policy = limiter(clock=VirtualClock.current())
        assert await policy.acall(Provider().acharge) == "ok"
        with pytest.raises(RateLimitedError):
            policy.call(Provider().charge)

    on(backend, world)


# --- the deadline ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "waits"), [(0.5, False), (1.0, False), (1.001, True), (inf, True)])
def test_nobody_waits_for_a_slot_that_comes_too_late_for_its_deadline(seconds: float, waits: bool) -> None:
    policy = limiter(max_wait=5.0)
    policy.take()
    if waits:
        assert policy.enter(seconds) is True
    else:
        with pytest.raises(RateLimitedError):
            policy.enter(seconds)
        assert clock_of(policy).waits == []
        assert policy.statistics()["waiting"] == 0


def test_after_its_deadline_a_call_takes_no_slot() -> None:
    policy = limiter()
    clock_of(policy).advance(2)
    with pytest.raises(DeadlineExceededError):
        policy.enter(1.5)
    assert policy.take()


def test_a_block_keeps_to_the_deadline_around_it() -> None:
    with instant() as clock:
        policy = RateLimiter(TokenBucket(1, per=1), max_wait=9.0)
        with policy.guard(), deadline(0.9), pytest.raises(RateLimitedError), policy.guard():
            pytest.fail("it was let in")
        with deadline(1.5), policy.guard():
            assert remaining() == 0.5
        assert clock.waits == [1.0]


def test_a_pipeline_that_has_no_time_to_wait_is_refused_and_sends_nothing() -> None:
    provider, clock = Provider(), still()
    acme = Pipeline("acme", Retry(attempts=2), limiter(max_wait=9.0, clock=None), Timeout(2.0), deadline=0.5, clock=clock, listeners=[])
    assert isinstance(acme.outcome(provider.charge), Ok)
    refused = acme.outcome(provider.charge)
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, RateLimitedError)
    assert (provider.attempts, clock.waits) == (1, [])


class Heavy(Manual):  # type: ignore[misc] # of no type
    """Oversleeps by as much as it is told."""

    over = 0.0

    def sleep_sync(self, seconds: float, /) -> None:
        super().sleep_sync(seconds + self.over)


@pytest.mark.parametrize("over", [0.0, 0.3, 7.0])
def test_who_oversleeps_passes_if_a_slot_is_free_however_long_it_slept(over: float) -> None:
    clock = Heavy()
    clock.over = over
    policy = limiter(max_wait=1.0, clock=clock)
    policy.take()
    assert policy.enter() is True
    assert clock.monotonic() == 1.0 + over
    assert not policy.take()  # the slot was used when it passed, not when it was promised
    clock.advance(1.0)
    assert policy.take()


def test_who_oversleeps_its_deadline_uses_up_no_slot() -> None:
    clock = Heavy()
    clock.over = 3.0
    policy = limiter(max_wait=9.0, clock=clock)
    policy.take()
    with pytest.raises(DeadlineExceededError):
        policy.enter(2.0)
    assert policy.take()
    assert policy.statistics()["refused"] == 1


@both_loops
def test_who_is_sent_back_into_the_line_for_too_long_is_refused(backend: str) -> None:
    """B should pass at 1 and C at 2, but the loop stands still from 0.5 to 2.5: then B passes, and C could at 3.5."""

    async def world() -> None:
        clock = VirtualClock.current()
        policy = limiter(max_wait=2.2, lease=9.0, clock=clock)
        policy.take()
        ends: list[Any] = []

        async def caller() -> None:
            try:
                await policy.aenter()
                ends.append(clock.monotonic())
            except RateLimitedError as refusal:
                ends.append(refusal.retry_after)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller)
            tasks.start_soon(caller)
            await anyio.sleep(0.5)
            clock.sleep_sync(2.0)
        assert ends == [2.5, 1.0]
        assert policy.statistics()["waiting"] == 0

    on(backend, world)


def test_someone_whose_loop_never_runs_again_holds_nobody_up_for_longer_than_the_lease() -> None:
    policy = limiter(max_wait=9.0, lease=2.0, clock=Parked())
    policy.take()
    waiting = policy.aenter()
    waiting.send(None)  # for the slot at 1
    clock_of(policy).advance(3.0)
    assert not policy.take()  # it may come yet
    clock_of(policy).advance(0.25)
    assert policy.take()
    stats = policy.statistics()
    assert (stats["waiting"], stats["lapsed"]) == (0, 1)

    clock_of(policy).advance(0.5)
    with pytest.raises(StopIteration) as ended:  # it came after all, and so finds its time, 9 s, not yet over
        for _ in range(2):
            clock_of(policy).advance(0.5)
            waiting.send(None)
    assert ended.value.value is True
    assert policy.statistics()["passed"] == 3


# --- a wait that is broken off -----------------------------------------------------------------------------------------


@both_loops
def test_someone_cancelled_in_the_wait_costs_nobody_else_anything(backend: str) -> None:
    async def world() -> None:
        clock = VirtualClock.current()
        policy = limiter(max_wait=9.0, clock=clock)
        passed: dict[str, float] = {}

        async def caller(name: str) -> None:
            await policy.aenter()
            passed[name] = clock.monotonic()

        async with anyio.create_task_group() as tasks, anyio.create_task_group() as doomed:
            policy.take()
            doomed.start_soon(caller, "b")
            await anyio.sleep(0.25)
            tasks.start_soon(caller, "c")
            await anyio.sleep(0.25)
            doomed.cancel_scope.cancel()
        assert passed == {"c": 2.0}
        assert policy.statistics()["cancelled"] == 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller, "d")
        assert passed["d"] == 3.0

    on(backend, world)


@both_loops
def test_the_slot_of_one_who_was_cancelled_goes_to_the_next_who_asks(backend: str) -> None:
    async def world() -> list[float]:
        clock = VirtualClock.current()
        policy = limiter(max_wait=9.0, clock=clock)
        passed: list[float] = []

        async def caller() -> None:
            await policy.aenter()
            passed.append(clock.monotonic())

        policy.take()
        async with anyio.create_task_group() as tasks:
            with anyio.move_on_after(0.5):
                async with anyio.create_task_group() as doomed:
                    doomed.start_soon(caller)  # B, for 1
                    await anyio.sleep(0.1)
                    tasks.start_soon(caller)  # C, for 2
            tasks.start_soon(caller)  # D, at 0.5
        return passed

    assert on(backend, world) == [1.0, 2.0]


class Interrupted(Manual):  # type: ignore[misc] # of no type
    def sleep_sync(self, seconds: float, /) -> None:
        raise KeyboardInterrupt


def test_a_thread_interrupted_in_the_wait_gives_its_place_back() -> None:
    policy = limiter(max_wait=9.0, clock=Interrupted())
    policy.take()
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            policy.call(lambda: pytest.fail("it was made"))
    clock_of(policy).advance(1.0)
    assert policy.take()
    stats = policy.statistics()
    assert (stats["cancelled"], stats["waiting"], stats["passed"]) == (3, 0, 2)


def test_a_coroutine_that_is_dropped_in_the_wait_gives_its_place_back_even_in_the_midst_of_a_decision() -> None:
    policy = limiter(max_wait=9.0, clock=Parked())
    policy.take()
    waiting = policy.aenter()
    waiting.send(None)
    with policy._lock:
        waiting.close()
    assert policy.statistics()["waiting"] == 0
    clock_of(policy).advance(1.0)
    assert policy.take()


# --- round each attempt, or round the whole call -----------------------------------------------------------------------


def attempts_and_slots(*policies: Any, at: int) -> tuple[int, object]:
    provider, clock = Provider(Down(), Down()), still()
    policy = limiter(TokenBucket(1, per=1, burst=9), clock=None)
    order = [*policies[:at], policy, *policies[at:]]
    acme = Pipeline("acme", *order, classify=RULES, effect=Effect.READ, clock=clock, listeners=[])
    assert isinstance(acme.outcome(provider.charge), Ok)
    return provider.attempts, policy.statistics()["passed"]


def test_inside_the_retries_each_attempt_takes_a_slot_and_outside_the_call_takes_one() -> None:
    assert attempts_and_slots(Retry(attempts=3, backoff=Constant(0)), Timeout(2.0), at=1) == (3, 3)
    assert attempts_and_slots(Retry(attempts=3, backoff=Constant(0)), Timeout(2.0), at=0) == (3, 1)


@pytest.mark.parametrize("form", ["sync", "asyncio", "trio"])
@pytest.mark.parametrize("at", [0, 1])
def test_a_call_that_finds_no_slot_ends_as_a_refusal_and_one_that_must_wait_waits(form: str, at: int) -> None:
    heard: list[Event] = []
    provider, policy = Provider(), limiter(max_wait=1.0, clock=None)
    order: list[Any] = [Retry(attempts=2, backoff=Constant(0))]
    order.insert(at, policy)

    def piped(clock: Any) -> Pipeline:
        return Pipeline("acme", *order, classify=RULES, clock=clock, listeners=[heard.append])

    async def world() -> list[Any]:
        clock = VirtualClock.current()
        acme = piped(clock)
        ends = [await acme.aoutcome(provider.acharge), await acme.aoutcome(provider.acharge)]
        policy.max_wait = 0.5
        return [*ends, await acme.aoutcome(provider.acharge), clock.waits]

    def plain() -> list[Any]:
        clock = still()
        acme = piped(clock)
        ends: list[Any] = [acme.outcome(provider.charge), acme.outcome(provider.charge)]
        policy.max_wait = 0.5
        return [*ends, acme.outcome(provider.charge), clock.waits]

    one, two, three, waits = plain() if form == "sync" else on(form, world)
    assert [type(one), type(two), type(three)] == [Ok, Ok, Refused]
    assert waits == [1.0]
    assert provider.attempts == 2
    assert [event for event in heard if isinstance(event, CallRefused)] == [
        CallRefused(name="acme", reason="RateLimitedError", reference=None)
    ]


@pytest.mark.parametrize("form", ["sync", "asyncio", "trio"])
@pytest.mark.parametrize("others", ["nothing", "a timeout", "a breaker", "retries and a timeout"])
@pytest.mark.parametrize("way", ["decorated", "called"])
def test_a_call_whose_deadline_is_past_uses_up_no_slot(form: str, others: str, way: str) -> None:
    provider, policy = Provider(), limiter(clock=None)
    order: dict[str, list[Any]] = {
        "nothing": [policy],
        "a timeout": [policy, Timeout(2.0)],
        "a breaker": [CircuitBreaker("acme"), policy],
        "retries and a timeout": [Retry(attempts=2), policy, Timeout(2.0)],
    }

    def piped(clock: Any) -> Pipeline:
        return Pipeline("acme", *order[others], classify=RULES, clock=clock, listeners=[])

    async def world() -> None:
        acme = piped(clock := VirtualClock.current())
        charge = acme(provider.acharge)
        with deadline(0.5):
            await clock.sleep(0.5)
            with pytest.raises(DeadlineExceededError):
                await (charge() if way == "decorated" else acme.acall(provider.acharge))

    if form == "sync":
        with instant() as clock:
            acme = piped(None)
            charge = acme(provider.charge)
            with deadline(0.5):
                clock.advance(0.5)
                with pytest.raises(DeadlineExceededError):
                    _ = charge() if way == "decorated" else acme.call(provider.charge)
    else:
        on(form, world)
    assert (provider.attempts, policy.statistics()["passed"]) == (0, 0)


def test_in_a_pipeline_it_goes_by_the_pipelines_clock() -> None:
    clock = ManualClock(1000.0)
    policy = RateLimiter(TokenBucket(1, per=1), max_wait=2.0)
    policy.take()
    acme = Pipeline("acme", policy, Timeout(1.0), clock=clock, listeners=[])
    assert acme.call(clock.monotonic) == pytest.approx(1001.0, abs=0.1)


def test_alone_it_tells_of_a_refusal_and_counts_it_in_every_form() -> None:
    heard: list[Event] = []
    policy = limiter(heard=heard)
    policy.take()
    assert isinstance(policy.outcome(Provider().charge), Refused)
    for form in ("call", "decorated"):
        with pytest.raises(RateLimitedError):
            SYNC[form](policy)
    assert heard == [CallRefused(name="rate limit", reason="RateLimitedError", reference=None)] * 3
    assert policy.statistics()["refused"] == policy._plan.ends.refused == 3


@both_loops
def test_alone_in_a_loop_it_does_the_same(backend: str) -> None:
    async def world() -> None:
        heard: list[Event] = []
        policy = limiter(heard=heard, clock=VirtualClock.current())
        assert isinstance(await policy.aoutcome(Provider().acharge), Ok)
        assert isinstance(await policy.aoutcome(Provider().acharge), Refused)
        with pytest.raises(RateLimitedError):
            await policy.acall(Provider().acharge)
        assert heard == [CallRefused(name="rate limit", reason="RateLimitedError", reference=None)] * 2

    on(backend, world)


def test_an_async_function_is_no_plain_one_even_where_it_would_be_refused() -> None:
    policy = limiter()
    policy.take()
    asynchronous: Any = Provider().acharge
    with pytest.raises(DecorationError):
        policy.call(asynchronous)


# --- one block ---------------------------------------------------------------------------------------------------------


@both_loops
def test_a_guard_is_a_turn_for_one_block(backend: str) -> None:
    async def world() -> None:
        clock = VirtualClock.current()
        policy = limiter(max_wait=2.0, clock=clock)
        for second in range(3):
            async with policy.guard():
                assert clock.monotonic() == second

    on(backend, world)
    policy = limiter(max_wait=2.0)
    for second in range(3):
        with policy.guard():
            assert clock_of(policy).monotonic() == second


def test_a_guard_passes_the_error_of_its_block_on() -> None:
    error = LookupError()
    with pytest.raises(LookupError) as caught, limiter().guard():
        raise error
    assert caught.value is error


def test_a_guard_serves_once() -> None:
    policy = limiter(TokenBucket(9, per=1, burst=9))
    guard = policy.guard()
    with guard:
        pass
    with pytest.raises(ConfigurationError, match=r"call guard\(\) again"), guard:
        pass
    with pytest.raises(ConfigurationError, match=r"write `with policy\.guard\(\):`"), policy:
        pass
    assert policy.statistics()["passed"] == 1


# --- for its owner -----------------------------------------------------------------------------------------------------


def test_statistics_tell_who_passed_waited_was_refused_and_waits() -> None:
    policy = limiter(TokenBucket(2, per=1, burst=2), max_wait=0.5, name="quota")
    policy.take()
    policy.take()
    policy.enter()
    policy.max_wait = 0.0
    policy.outcome(Provider().charge)
    assert policy.statistics() == {
        "name": "quota",
        "rule": "TokenBucket(2, per=1.0, burst=2)",
        "passed": 3,
        "waited": 1,
        "refused": 1,
        "cancelled": 0,
        "waiting": 0,
        "lapsed": 0,
        "listener_failures": 0,
    }


def test_listeners_hear_of_waits_and_of_changes() -> None:
    heard: list[Event] = []
    policy = limiter(max_wait=1.0, heard=heard)
    policy.take()
    policy.enter()
    policy.change(TokenBucket(5, per=1))
    policy.change(TokenBucket(5, per=1))  # the same again is no change
    assert heard == [
        SlotAwaited(name="rate limit", wait=1.0),
        RateChanged(name="rate limit", before="TokenBucket(1, per=1.0, burst=1)", after="TokenBucket(5, per=1.0, burst=1)"),
    ]


def test_a_rate_can_be_changed_while_calls_go_on() -> None:
    policy = limiter(max_wait=1.0)
    policy.take()
    policy.change(TokenBucket(4, per=1))
    assert [policy.call(clock_of(policy).monotonic) for _ in range(3)] == [0.25, 0.5, 0.75]
    assert policy.rule == TokenBucket(4, per=1)


def test_an_unusable_change_is_refused_and_changes_nothing() -> None:
    policy = limiter(max_wait=10.0)
    unusable: list[Any] = [SlidingWindow(1, per=1), "10/s", None]
    for bad in unusable:
        with pytest.raises(ConfigurationError, match=r"^rule="):
            policy.change(bad)
    with pytest.raises(ConfigurationError, match=r"^max_wait="):
        policy.change(TokenBucket(1_000_000, per=1))
    assert policy.rule == TokenBucket(1, per=1)


@pytest.mark.parametrize("bad", [None, 10, "10/s", TokenBucket], ids=repr)
def test_an_unusable_rule_is_refused_by_name(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^rule="):
        RateLimiter(bad)


@pytest.mark.parametrize("bad", [None, -1, "1", inf, True], ids=repr)
def test_an_unusable_wait_or_lease_is_refused_by_name(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^max_wait="):
        limiter(max_wait=bad)
    with pytest.raises(ConfigurationError, match=r"^lease="):
        limiter(lease=bad)


def test_no_more_than_a_million_may_ever_wait() -> None:
    limiter(TokenBucket(1000, per=1), max_wait=1000)
    with pytest.raises(ConfigurationError, match="at most 1000 seconds: no more than a million may wait at this rate"):
        limiter(TokenBucket(1000, per=1), max_wait=1001)


def test_a_generator_is_refused_rather_than_guarded_by_half() -> None:
    def pages() -> Any:
        yield 1

    with pytest.raises(DecorationError):
        limiter()(pages)


def test_in_a_forked_child_nobody_waits() -> None:
    policy = limiter(max_wait=9.0)
    policy.take()
    place = policy.core.join(0.0, 9.0)
    policy.forked()
    assert policy.statistics()["waiting"] == 0
    assert policy.call(clock_of(policy).monotonic) == 1.0
    del place


def test_it_follows_the_ruling_clock_and_takes_its_past_along() -> None:
    policy = RateLimiter(TokenBucket(1, per=100), listeners=[])
    policy.take()
    with instant() as clock:
        assert not policy.take()
        clock.advance(101)
        assert policy.take()


SYNC: dict[str, Callable[[RateLimiter], Any]] = {
    "take": lambda policy: policy.take(),
    "enter": lambda policy: policy.enter(),
    "call": lambda policy: policy.call(Provider().charge),
    "outcome": lambda policy: policy.outcome(Provider().charge).unwrap(),
    "decorated": lambda policy: policy(Provider().charge)(),
    "guard": lambda policy: policy.guard().__enter__(),
}


@pytest.mark.parametrize("form", SYNC)
def test_every_form_takes_one_slot(form: str) -> None:
    policy = limiter(SlidingWindow(3, per=1))
    for _ in range(3):
        assert SYNC[form](policy)
    assert policy.statistics()["passed"] == 3
    assert not policy.take()
