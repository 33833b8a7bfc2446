"""When an attempt is given up, by whom, and what is left behind: nothing early, nothing of ours mistaken for somebody else's."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, strategies as st

from finresilience import (
    CircuitBreaker,
    DeadlineExceededError,
    Effect,
    ExpiredError,
    MissingKeyError,
    Pipeline,
    Refused,
    Timeout,
    Unknown,
    UnknownOutcomeError,
    deadline,
    idempotency_key,
    remaining,
)
from finresilience.clock import ruling_clock
from finresilience.testing import instant
from tests.laws.worlds import Lost, both_loops, on, still

if TYPE_CHECKING:
    from collections.abc import Callable

TICK = 0.01
ROUNDING = 2e-6


def timeout(seconds: float = 2.0, **more: Any) -> Timeout:
    settings: dict[str, Any] = {"listeners": [], "effect": Effect.READ} | more
    return Timeout(seconds, **settings)


async def hang() -> None:
    await anyio.sleep(10**9)


def lateness(backend: str, seconds: float, *, after: float = 0.0, exact: bool = False) -> float:
    """Return how long after its limit a hanging call was given up."""
    policy = timeout(seconds, exact=exact)

    async def world() -> float:
        await anyio.sleep(after)
        started = policy._now()
        with pytest.raises(ExpiredError):
            await policy.acall(hang)
        return policy._now() - started - seconds

    told: float = on(backend, world)
    return told


SECONDS = st.floats(1e-4, 300)


@given(st.sampled_from(["asyncio", "trio"]), SECONDS, st.floats(0, 100))
def test_no_attempt_is_given_up_early_nor_more_than_a_tick_late(backend: str, seconds: float, after: float) -> None:
    assert -1e-9 <= lateness(backend, seconds, after=after) <= TICK + ROUNDING


@given(st.sampled_from(["asyncio", "trio"]), SECONDS, st.floats(0, 100))
def test_an_exact_timeout_is_not_late_at_all(backend: str, seconds: float, after: float) -> None:
    assert -1e-9 <= lateness(backend, seconds, after=after, exact=True) <= ROUNDING


def test_a_wheel_that_rounds_down_would_be_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from finresilience.policies.wheel import Wheel

    slot = Wheel.slot
    monkeypatch.setattr(Wheel, "slot", lambda self, when, now: slot(self, when - TICK, now))
    assert lateness("asyncio", 1.005) < 0


@both_loops
def test_many_calls_share_few_timers_and_each_keeps_its_own_limit(backend: str) -> None:
    policies = [timeout(0.5 + number / 1000) for number in range(100)]
    ended: list[float] = []

    async def one(policy: Timeout) -> None:
        with pytest.raises(ExpiredError):
            await policy.acall(hang)
        ended.append(policy._now() - policy.seconds)

    async def world() -> None:
        async with anyio.create_task_group() as group:
            for policy in reversed(policies):
                group.start_soon(one, policy)

    on(backend, world)
    assert len(ended) == 100
    assert -1e-9 <= min(ended) <= max(ended) <= TICK + ROUNDING


def timers_of(world: Callable[[], Any]) -> int:
    """Return how many timers an asyncio loop was asked for."""
    made = 0

    async def counted() -> None:
        nonlocal made
        loop: Any = asyncio.get_running_loop()
        call_at = loop.call_at

        def counting(*args: Any, **kwargs: Any) -> Any:
            nonlocal made
            made += 1
            return call_at(*args, **kwargs)

        loop.call_at = counting
        await world()

    on("asyncio", counted)
    return made


def test_a_thousand_calls_in_one_tick_need_one_timer_and_exact_ones_a_thousand() -> None:
    async def answer() -> str:
        await asyncio.sleep(0)
        return "ok"

    async def many(policy: Timeout) -> None:
        guarded = policy(answer)
        await asyncio.gather(*[guarded() for _ in range(1000)])

    assert timers_of(lambda: many(timeout())) == 1
    assert timers_of(lambda: many(timeout(exact=True))) == 1000


def test_no_timer_is_left_once_the_calls_are_over() -> None:
    from finresilience.policies.wheel import wheel_of

    async def world() -> tuple[bool, bool]:
        wheel = wheel_of(asyncio.get_running_loop(), ruling_clock())
        await timeout().acall(asyncio.sleep, 0.05)
        armed = not wheel.idle
        await asyncio.sleep(3)
        return armed, wheel.idle

    assert on("asyncio", world) == (True, True)


def test_an_earlier_limit_that_comes_later_is_kept() -> None:
    ended: list[str] = []

    async def one(name: str, seconds: float) -> None:
        with pytest.raises(ExpiredError):
            await timeout(seconds).acall(hang)
        ended.append(name)

    async def world() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(one("long", 3.0))
            await asyncio.sleep(0.5)
            group.create_task(one("short", 0.5))
            group.create_task(one("middle", 1.5))

    on("asyncio", world)
    assert ended == ["short", "middle", "long"]


# --- whose expiry, whose cancellation ------------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("exact", [False, True])
def test_the_callees_own_timeout_error_is_the_callees(backend: str, exact: bool) -> None:
    error = TimeoutError("the provider's own")

    async def charge() -> None:
        raise error

    with pytest.raises(TimeoutError) as caught:
        on(backend, timeout(exact=exact).acall, charge)
    assert caught.value is error


@both_loops
def test_a_timeout_inside_the_callee_is_not_ours(backend: str) -> None:
    async def charge() -> str:
        with anyio.move_on_after(0.5):
            await hang()
        try:
            with anyio.fail_after(0.5):
                await hang()
        except TimeoutError:
            return "theirs, twice"
        return "never"

    assert on(backend, timeout().acall, charge) == "theirs, twice"


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("cut", [0.5, 1.0, 1.005, 1.01])
@both_loops
def test_a_cancellation_from_outside_stays_one_even_as_we_expire(backend: str, cut: float, exact: bool) -> None:
    async def world() -> str:
        with anyio.move_on_after(cut):
            try:
                await timeout(1.0, exact=exact).acall(hang)
            except ExpiredError:
                return "expired"
            return "ended"
        return "cancelled"

    told = on(backend, world)
    assert told == "cancelled" if cut < 1.0 else told in {"cancelled", "expired"}


@pytest.mark.parametrize("exact", [False, True])
def test_an_expired_task_is_not_left_cancelled(exact: bool) -> None:
    async def world() -> int:
        task: Any = asyncio.current_task()
        with pytest.raises(ExpiredError):
            await timeout(1.0, exact=exact).acall(hang)
        await asyncio.sleep(1)  # nothing of the expiry hits the next await
        left: int = task.cancelling()
        return left

    assert on("asyncio", world) == 0


def test_a_task_cancelled_while_it_expires_is_cancelled() -> None:
    async def stubborn() -> None:
        try:
            await hang()
        finally:
            await asyncio.sleep(1)  # so the expiry and the cancellation are both under way

    async def world() -> bool:
        task = asyncio.create_task(timeout(1.0).acall(stubborn))
        await asyncio.sleep(1.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return task.cancelled()

    assert on("asyncio", world)


@both_loops
def test_the_smallest_of_nested_limits_is_in_force(backend: str) -> None:
    async def left() -> float | None:
        return remaining()

    async def world() -> list[Any]:
        inner, outer, told = timeout(1.0), timeout(3.0), list[Any]()
        told.append(await outer.acall(inner(left)))
        told.append(await inner.acall(outer(left)))
        with deadline(0.5):
            told.append(await inner.acall(outer(left)))
        told.append(await Pipeline("acme", Timeout(3.0), deadline=2.0, listeners=[]).acall(left))
        return told

    assert on(backend, world) == [1.0, 1.0, 0.5, 2.0]


@both_loops
def test_a_deadline_of_the_caller_gives_up_the_attempt(backend: str) -> None:
    async def world() -> tuple[Any, float]:
        policy = timeout(60.0)
        with deadline(1.0):
            outcome = await policy.aoutcome(hang)
        return outcome, policy._now()

    outcome, now = on(backend, world)
    assert isinstance(outcome.error, ExpiredError)
    assert (outcome.error.limit, round(now, 1)) == (1.0, 1.0)


@both_loops
def test_once_the_deadline_is_over_the_call_is_not_made(backend: str) -> None:
    calls: list[int] = []

    async def charge() -> None:
        calls.append(1)

    async def world() -> Any:
        with deadline(1.0):
            await anyio.sleep(1.5)
            with pytest.raises(DeadlineExceededError):
                await timeout()(charge)()
            return await timeout().aoutcome(charge)

    outcome = on(backend, world)
    assert isinstance(outcome, Refused)
    assert calls == []


@both_loops
def test_a_value_in_hand_as_it_expires_is_returned(backend: str) -> None:
    async def charge() -> str:
        try:
            await hang()
        except anyio.get_cancelled_exc_class():
            return "receipt"
        return "never"

    for exact in (False, True):
        policy = timeout(1.0, exact=exact)
        assert on(backend, policy(charge)) == "receipt"
        assert on(backend, policy.acall, charge) == "receipt"


@pytest.mark.parametrize("exact", [False, True])
def test_a_result_that_arrives_in_the_very_turn_of_the_expiry_is_returned(exact: bool) -> None:
    async def world() -> str:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()
        policy = timeout(1.0, exact=exact)

        async def charge() -> str:
            return await answer

        loop.call_at(1.0 if exact else 1.01, answer.set_result, "receipt")
        return await policy(charge)()

    assert on("asyncio", world) == "receipt"


# --- sync calls are cooperative ------------------------------------------------------------------------------------


def test_a_plain_function_is_told_its_time_and_its_late_value_is_kept() -> None:
    clock = still()
    seen: list[float | None] = []

    def charge() -> str:
        seen.append(remaining())
        clock.advance(5.0)
        seen.append(remaining())
        return "receipt"

    assert timeout(clock=clock)(charge)() == "receipt"
    assert timeout(clock=clock).call(charge) == "receipt"
    assert seen == [2.0, 0.0] * 2


def test_a_late_value_counts_as_slow() -> None:
    clock = still()
    breaker = CircuitBreaker("acme", slow_rate=1.0, slow_after=60.0, minimum_calls=1, clock=clock, listeners=[])
    pipeline = Pipeline("acme", breaker, Timeout(2.0), clock=clock, listeners=[])
    assert pipeline(lambda: clock.advance(3.0))() is None
    assert breaker.statistics()["slow"] == 1


def test_an_error_that_comes_late_is_the_callers_own() -> None:
    clock = still()

    def charge() -> None:
        clock.advance(5.0)
        raise Lost

    with pytest.raises(Lost):
        timeout(clock=clock).call(charge)


# --- standing alone ------------------------------------------------------------------------------------------------


@both_loops
def test_an_expiry_is_unknown_for_what_moves_money_and_failed_for_a_read(backend: str) -> None:
    with pytest.raises(UnknownOutcomeError) as caught:
        on(backend, Timeout(2.0, listeners=[]).acall, hang)
    assert isinstance(caught.value.__cause__, ExpiredError)
    with pytest.raises(ExpiredError) as read:
        on(backend, timeout().acall, hang)
    assert (read.value.name, read.value.limit, read.value.left_running) == ("timeout", 2.0, False)
    assert issubclass(ExpiredError, TimeoutError)


def test_an_idempotent_timeout_needs_a_key() -> None:
    policy = timeout(effect=Effect.IDEMPOTENT, clock=still())
    with pytest.raises(MissingKeyError):
        policy.call(lambda: "ok")
    with idempotency_key("pay_1"):
        assert policy.call(lambda: "ok") == "ok"


@both_loops
def test_it_counts_how_its_calls_ended(backend: str) -> None:
    policy = Timeout(2.0, listeners=[])

    async def world() -> None:
        await policy.aoutcome(hang)
        await policy.aoutcome(anyio.sleep, 0)

    on(backend, world)
    told = policy.statistics()
    assert (told["unknown"], told["ok"]) == (1, 1)


def test_the_ruling_clock_tells_it_the_time() -> None:
    policy = timeout()
    with instant() as clock:

        def charge() -> float | None:
            clock.sleep_sync(1.5)
            return remaining()

        assert policy.call(charge) == 0.5


@both_loops
def test_a_call_that_nothing_bounds_is_never_given_up(backend: str) -> None:
    pipeline = Pipeline("acme", CircuitBreaker("acme", listeners=[]), reference=lambda: "ref_1", listeners=[])

    async def long() -> str:
        await anyio.sleep(10**6)
        return "ok"

    assert on(backend, pipeline(long)) == "ok"


@both_loops
def test_an_outcome_of_an_expired_call_is_unknown(backend: str) -> None:
    assert isinstance(on(backend, Timeout(0.05, listeners=[]).aoutcome, hang), Unknown)
