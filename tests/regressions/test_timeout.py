"""What time limits did elsewhere: claimed the provider's timeouts, queued calls for threads, called work still running failed."""

from __future__ import annotations

from datetime import UTC, datetime
from threading import Event as Signal
from typing import TYPE_CHECKING, Any

import pytest

from finresilience import (
    RETRYABLE,
    CircuitBreaker,
    Effect,
    ErrorClassifier,
    Event,
    ExpiredError,
    LateResult,
    Ok,
    Pipeline,
    Refused,
    Retry,
    ThreadLimitError,
    Timeout,
    Unknown,
    UnknownOutcomeError,
    Verdict,
)
from finresilience.policies.threads import Threads
from tests.laws.sabotage import each_kill, kills
from tests.laws.worlds import RULES, Provider, both_loops, on

if TYPE_CHECKING:
    from collections.abc import Callable

BOUND = 30.0  # real seconds after which a thread that should have come is given up; never reached


@both_loops
def test_the_providers_own_timeout_error_is_not_taken_for_our_expiry(backend: str) -> None:
    """A TimeoutError that the provider's client raised was reported as the policy's own limit."""
    error = TimeoutError("the client's own")
    policy = Timeout(60.0, effect=Effect.READ, listeners=[])

    async def world() -> None:
        with pytest.raises(TimeoutError) as caught:
            await policy.acall(Provider(error).acharge)
        assert caught.value is error

    on(backend, world)


def every_timeout_error_is_ours(patch: pytest.MonkeyPatch) -> None:
    acall = Timeout.acall

    async def claiming(self: Timeout, fn: Callable[..., Any]) -> Any:
        try:
            return await acall(self, fn)
        except TimeoutError:
            raise ExpiredError(self.name, self.seconds) from None

    patch.setattr(Timeout, "acall", claiming)


class Hurried:
    """A clock on which the time of a call is up as soon as somebody waits for its thread, unless the thread is told to come first."""

    def __init__(self) -> None:
        self.now, self.in_time = 0.0, False

    def monotonic(self) -> float:
        return self.now

    def utc(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    async def sleep(self, seconds: float, /) -> None:
        self.now += seconds

    def sleep_sync(self, seconds: float, /) -> None:
        self.now += seconds

    def wait_for(self, done: Signal, seconds: float) -> bool:
        if self.in_time:
            return done.wait(BOUND)
        self.now += seconds
        return False


class Slow:
    """A provider that takes the money when it is let, however long ago its caller gave up."""

    def __init__(self) -> None:
        self.asked, self.charged = 0, 0
        self.begun, self.let = Signal(), Signal()

    def charge(self) -> str:
        self.asked += 1
        self.begun.set()
        self.let.wait(BOUND)
        self.charged += 1
        return "paid"


def test_a_call_that_finds_no_thread_is_refused_and_not_expired() -> None:
    """Calls waited for a thread of the pool, and those that got none in time "timed out", though nothing had been sent."""
    slow, clock, told = Slow(), Hurried(), Signal()

    def hear(event: Event) -> None:
        late.append(event)
        if len(late) == 4:
            told.set()

    late: list[Event] = []
    policy = Timeout(0.3, thread_limit=4, clock=clock, listeners=[lambda event: hear(event) if isinstance(event, LateResult) else None])
    try:
        ends = [policy.outcome(slow.charge) for _ in range(12)]
        errors = [type(end.error) for end in ends if isinstance(end, Refused)]
        assert [type(end) for end in ends] == [Unknown] * 4 + [Refused] * 8
        assert errors == [ThreadLimitError] * 8
    finally:
        slow.let.set()
        told.wait(BOUND)
    assert slow.asked == 4
    clock.in_time = True
    assert isinstance(policy.outcome(slow.charge), Ok)  # and the threads that were left behind come back


def whoever_finds_no_thread_has_timed_out(patch: pytest.MonkeyPatch) -> None:
    run = Threads.run

    def waiting(self: Threads, owner: Any, call: Any) -> Any:
        try:
            return run(self, owner, call)
        except ThreadLimitError:
            raise ExpiredError(owner.name, 0.3) from None

    patch.setattr(Threads, "run", waiting)


def test_a_call_left_behind_in_its_thread_is_unknown_and_its_late_answer_is_told() -> None:
    """The caller was told that the call had failed, while the thread went on and took the money."""
    slow, clock, told, late = Slow(), Hurried(), Signal(), list[LateResult]()

    def hear(event: Event) -> None:
        if isinstance(event, LateResult):
            late.append(event)
            told.set()

    pipeline = Pipeline(
        "acme",
        CircuitBreaker("acme", listeners=[], clock=clock),
        Retry(attempts=3, listeners=[], clock=clock),
        Timeout(0.3, thread_limit=4, listeners=[], clock=clock),
        classify=RULES,
        effect=Effect.UNSAFE,
        clock=clock,
        listeners=[hear],
    )
    try:
        with pytest.raises(UnknownOutcomeError) as caught:
            pipeline.call(slow.charge)
        assert isinstance(caught.value.__cause__, ExpiredError)
        assert "still running" in str(caught.value.__cause__)
    finally:
        slow.begun.wait(BOUND)
        slow.let.set()
        told.wait(BOUND)
    assert (slow.asked, slow.charged) == (1, 1)
    assert [(event.source, event.succeeded, event.value) for event in late] == [("thread", True, "paid")]


def an_expired_call_is_a_failed_one(patch: pytest.MonkeyPatch) -> None:
    judged = ErrorClassifier.error

    def error(self: ErrorClassifier, error: BaseException) -> Verdict:
        return Verdict(RETRYABLE) if isinstance(error, ExpiredError) else judged(self, error)

    patch.setattr(ErrorClassifier, "error", error)


@each_kill(
    (every_timeout_error_is_ours, test_the_providers_own_timeout_error_is_not_taken_for_our_expiry, "asyncio"),
    (every_timeout_error_is_ours, test_the_providers_own_timeout_error_is_not_taken_for_our_expiry, "trio"),
    (whoever_finds_no_thread_has_timed_out, test_a_call_that_finds_no_thread_is_refused_and_not_expired),
    (an_expired_call_is_a_failed_one, test_a_call_left_behind_in_its_thread_is_unknown_and_its_late_answer_is_told),
)
def test_its_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
