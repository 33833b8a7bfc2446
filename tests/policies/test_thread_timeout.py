"""A sync call in a thread is given up at its limit, never lost sight of: its result is told when it comes, its place comes back."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from contextvars import ContextVar
from threading import Event as Signal, Thread, get_ident
from typing import TYPE_CHECKING, Any

import pytest

from finresilience import (
    CallAbandoned,
    CircuitBreaker,
    ConfigurationError,
    Constant,
    Effect,
    ExpiredError,
    Failed,
    LateResult,
    Ok,
    OutcomeUnknown,
    Pipeline,
    Refused,
    Retry,
    RetryScheduled,
    ThreadLimitError,
    Timeout,
    Unknown,
    UnknownOutcomeError,
    current_key,
    current_reference,
    mark_sent,
    remaining,
)
from finresilience.policies.threads import Threads, _Errand
from finresilience.testing import CounterexampleError, explore_threads
from tests.laws.worlds import Lost, both_loops, on, still

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience import Event

SOON = 20.0  # seconds of real time in which a thread that was let go surely ends; nothing waits this long unless it is broken


class Patience:
    """A manual clock on which a wait for a thread ends when the test says: with the thread, at its limit, or by an interrupt."""

    def __init__(self, ends: str = "with the thread") -> None:
        clock = still()
        self.monotonic, self.utc, self.sleep, self.sleep_sync, self.advance = (
            clock.monotonic,
            clock.utc,
            clock.sleep,
            clock.sleep_sync,
            clock.advance,
        )
        self.ends = ends
        self.asked: list[float] = []

    def wait_for(self, signal: Signal, seconds: float) -> bool:
        self.asked.append(seconds)
        if self.ends == "by an interrupt":
            raise KeyboardInterrupt
        if self.ends == "with the thread":
            return signal.wait(SOON)
        if self.ends == "together":
            signal.wait(SOON)
        self.advance(seconds)
        return False


class Work:
    """A call that goes on until it is let go, and then says its line."""

    def __init__(self, line: Any = "receipt") -> None:
        self.line = line
        self.go = Signal()
        self.calls = 0

    def __call__(self, *_: Any) -> Any:
        self.calls += 1
        self.go.wait(SOON)
        if isinstance(self.line, BaseException):
            raise self.line
        return self.line


class Ears:
    """Hear events, and wait for the one that a thread left behind sends."""

    def __init__(self) -> None:
        self.heard: list[Event] = []
        self.late = Signal()

    def __call__(self, event: Event) -> None:
        self.heard.append(event)
        if isinstance(event, LateResult):
            self.late.set()

    def late_result(self) -> LateResult:
        assert self.late.wait(SOON)
        (told,) = [event for event in self.heard if isinstance(event, LateResult)]
        return told


def limit(clock: Any, *, threads: int = 1, ears: Any = None) -> Timeout:
    return Timeout(2.0, thread_limit=threads, clock=clock, listeners=[ears] if ears else [], name="acme")


def test_a_value_in_time_is_returned_and_the_place_comes_back() -> None:
    policy, threads = limit(Patience()), set[int]()

    def add(a: int, b: int) -> int:
        threads.add(get_ident())
        return a + b

    assert [policy.call(add, number, b=2) for number in range(5)] == [2, 3, 4, 5, 6]
    assert get_ident() not in threads


def test_the_decorator_and_the_pipeline_run_it_in_a_thread_too() -> None:
    policy = limit(Patience())
    here = get_ident()
    assert policy(get_ident)() != here
    assert Pipeline("acme", policy, clock=Patience(), listeners=[])(get_ident)() != here


def test_an_error_in_time_is_the_callers_own() -> None:
    work = Work(ConnectionRefusedError())
    work.go.set()
    outcome = limit(Patience()).outcome(work)
    assert isinstance(outcome, Failed)
    assert outcome.error is work.line


def test_at_its_limit_it_is_unknown_and_says_that_the_work_goes_on() -> None:
    ears, clock, work = Ears(), Patience("at its limit"), Work()
    with pytest.raises(UnknownOutcomeError) as caught:
        limit(clock, ears=ears).call(work)
    cause = caught.value.__cause__
    assert isinstance(cause, ExpiredError)
    assert (cause.left_running, cause.limit, clock.asked) == (True, 2.0, [2.0])
    assert "still running" in str(cause)
    work.go.set()
    ears.late_result()


def test_a_clock_that_is_moved_while_somebody_begins_to_wait_is_not_waited_for_in_vain() -> None:
    """The wait began at the moved time, for as long as had been left before: nobody moved the clock again, and the call hung."""
    clock, work = still(), Work()
    timeout, monotonic = limit(clock), clock.monotonic
    readings = iter(range(100))

    def moved() -> float:
        if next(readings) == 3:  # by another thread, once the attempt has begun
            clock.advance(5.0)
        return monotonic()

    timeout._now = clock.monotonic = moved  # type: ignore[method-assign]  # to move it at that moment
    with pytest.raises(UnknownOutcomeError):
        timeout.call(work)
    work.go.set()


def test_what_comes_late_is_told_with_its_answer_and_reference() -> None:
    ears, work = Ears(), Work("receipt")
    clock = Patience("at its limit")
    pipeline = Pipeline("acme", limit(clock), clock=clock, listeners=[ears], reference=lambda pay: f"ref of {pay}")
    assert isinstance(pipeline.outcome(work, "pay_1"), Unknown)
    assert [type(event) for event in ears.heard] == [OutcomeUnknown]
    work.go.set()
    told = ears.late_result()
    assert (told.name, told.source, told.succeeded, told.reference, told.value) == ("acme", "thread", True, "ref of pay_1", "receipt")
    assert "receipt" not in repr(told)


@pytest.mark.parametrize("error", [Lost(), SystemExit(), KeyboardInterrupt()], ids=repr)
def test_what_fails_late_is_told_as_failed_and_kills_nobody(error: BaseException) -> None:
    ears, work = Ears(), Work(error)
    limit(Patience("at its limit"), ears=ears).outcome(work)
    work.go.set()
    assert (ears.late_result().succeeded, ears.late_result().value) == (False, None)


def test_a_result_that_meets_the_limit_wins_and_is_not_told_as_late() -> None:
    ears, work = Ears(), Work()
    work.go.set()
    assert limit(Patience("together"), ears=ears).call(work) == "receipt"
    assert ears.heard == []


def test_while_every_thread_is_busy_a_call_is_refused_and_not_made() -> None:
    ears, clock = Ears(), Patience("at its limit")
    breaker = CircuitBreaker("acme", consecutive_failures=1, clock=clock, listeners=[])
    retry = Retry(attempts=5, backoff=Constant(0))
    pipeline = Pipeline("acme", breaker, retry, limit(clock), clock=clock, listeners=[ears])
    left, refused = Work(), Work()
    pipeline.outcome(left)
    breaker.reset()
    outcome = pipeline.outcome(refused)
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, ThreadLimitError)
    assert "all 1 of its threads" in str(outcome.error)
    assert (refused.calls, breaker.state, breaker.statistics()["failed"]) == (0, "closed", 1)
    left.go.set()
    ears.late_result()


def test_the_place_of_a_call_left_behind_comes_back_when_it_ends() -> None:
    ears, clock, work = Ears(), Patience("at its limit"), Work()
    policy = limit(clock, ears=ears)
    policy.outcome(work)
    assert isinstance(policy.outcome(get_ident), Refused)
    work.go.set()
    ears.late_result()
    clock.ends = "with the thread"
    assert isinstance(policy.outcome(get_ident), Ok)


def test_as_many_calls_as_threads_may_be_left_behind_and_no_more() -> None:
    policy, works = limit(Patience("at its limit"), threads=3), [Work() for _ in range(5)]
    outcomes = [policy.outcome(work) for work in works]
    assert [type(outcome) for outcome in outcomes] == [Unknown, Unknown, Unknown, Refused, Refused]
    for work in works:
        work.go.set()


def test_a_thread_that_cannot_start_is_a_refusal_and_costs_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(_: Thread) -> None:
        raise RuntimeError

    policy = limit(Patience())
    with monkeypatch.context() as patched:
        patched.setattr(Thread, "start", cannot)
        for _ in range(3):
            outcome = policy.outcome(get_ident)
            assert isinstance(outcome, Refused)
            assert isinstance(outcome.error.__cause__, RuntimeError)
    assert isinstance(policy.outcome(get_ident), Ok)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_exception_comes_to_the_caller_and_costs_no_place(kind: type[BaseException]) -> None:
    work, policy = Work(kind()), limit(Patience())
    work.go.set()
    with pytest.raises(kind):
        policy.call(work)
    assert isinstance(policy.outcome(get_ident), Ok)


def test_a_caller_interrupted_while_it_waits_is_told_of_the_result_when_it_comes() -> None:
    ears, work = Ears(), Work()
    with pytest.raises(KeyboardInterrupt):
        limit(Patience("by an interrupt"), ears=ears).call(work)
    assert [type(event) for event in ears.heard] == [CallAbandoned]
    work.go.set()
    assert ears.late_result().value == "receipt"


def test_context_variables_reach_the_thread_and_its_changes_stay_there() -> None:
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
    tenant.set("bob")
    clock = Patience()
    pipeline = Pipeline(
        "acme", limit(clock), clock=clock, listeners=[], effect=Effect.IDEMPOTENT, key=lambda: "pay_1", reference=lambda: "ref_1"
    )

    @pipeline
    def look() -> Any:
        seen = (tenant.get(), current_key(), current_reference(), remaining())
        tenant.set("eve")
        return seen

    assert look() == ("bob", "pay_1:acme", "ref_1", 2.0)
    assert tenant.get() == "bob"


@pytest.mark.parametrize(("marks", "end"), [(True, Unknown), (False, Failed)])
def test_a_mark_made_in_the_thread_is_seen(marks: bool, end: type) -> None:
    def charge() -> None:
        if marks:
            mark_sent()
        raise OSError

    clock = Patience()
    outcome = Pipeline("acme", limit(clock), clock=clock, listeners=[], marks_sent=True).outcome(charge)
    assert isinstance(outcome, end)


def left_behind_unmarked() -> Any:
    ears, clock, work = Ears(), Patience("at its limit"), Work()
    outcome = Pipeline("acme", limit(clock), clock=clock, listeners=[ears], marks_sent=True).outcome(work)
    work.go.set()
    ears.late_result()
    return outcome


def test_a_call_left_behind_is_unknown_even_where_it_had_not_marked_itself_sent() -> None:
    assert isinstance(left_behind_unmarked(), Unknown)


def test_an_expiry_that_forgets_its_thread_would_be_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(name: str, seconds: float, *, left_running: bool) -> ExpiredError:
        return ExpiredError(name, seconds)

    monkeypatch.setattr("finresilience.policies.threads.ExpiredError", forgetful)
    assert isinstance(left_behind_unmarked(), Failed)  # which would be a lie: the thread may still send it


def test_what_may_be_repeated_is_tried_again_in_another_thread() -> None:
    ears, clock = Ears(), Patience("at its limit")
    work = Work()

    def second_time_lucky() -> Any:
        if work.calls:
            clock.ends = "with the thread"
            return "paid"
        return work()

    clock.sleep_sync = lambda seconds: setattr(clock, "ends", "with the thread")
    retry, effect = Retry(attempts=2, backoff=Constant(1)), Effect.IDEMPOTENT_BY_NATURE
    pipeline = Pipeline("acme", retry, limit(clock, threads=2), clock=clock, listeners=[ears], effect=effect)
    assert pipeline.call(second_time_lucky) == "paid"
    assert [type(event) for event in ears.heard] == [RetryScheduled]
    work.go.set()
    assert ears.late_result().succeeded


def test_the_deadline_of_the_call_bounds_the_wait() -> None:
    clock, work = Patience("at its limit"), Work()
    Pipeline("acme", limit(clock), clock=clock, listeners=[], deadline=0.5).outcome(work)
    assert clock.asked == [0.5]
    work.go.set()


@pytest.mark.parametrize("seconds", [1e10, 1e300])
def test_a_limit_longer_than_any_wait_is_a_long_wait(seconds: float) -> None:
    assert isinstance(Timeout(seconds, thread_limit=1, clock=still(), listeners=[]).outcome(get_ident), Ok)


@both_loops
def test_async_calls_need_no_thread(backend: str) -> None:
    async def where() -> int:
        return get_ident()

    policy = Timeout(2.0, thread_limit=1, listeners=[])
    assert on(backend, policy.acall, where) == get_ident()


def test_a_forked_child_has_every_place() -> None:
    policy, work = limit(Patience("at its limit")), Work()
    policy.outcome(work)
    policy.forked()  # in the child, the thread left behind does not exist
    assert isinstance(policy.outcome(work), Unknown)
    work.go.set()
    Timeout(1.0, listeners=[]).forked()  # one without threads has nothing to renew


@pytest.mark.parametrize("bad", [0, -1, True, 1.5, "2", 10_001, float("nan")], ids=repr)
def test_an_unusable_number_of_threads_is_refused_by_name(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^thread_limit="):
        Timeout(1.0, thread_limit=bad)


def giving_up_as_it_ends(give_up: Callable[[_Errand], bool]) -> Any:
    told, given_up = list[Any](), list[Any]()
    owner, errand, threads = Timeout(1.0, clock=still(), listeners=[told.append]), _Errand(), Threads(1)

    def caller() -> None:
        given_up.extend([1] * give_up(errand))

    def worker() -> None:
        threads._work(owner, lambda: "receipt", (), {}, errand)

    def nobody_loses_the_result() -> None:
        assert len(told) == len(given_up)

    return [caller, worker], nobody_loses_the_result


def test_whoever_gives_up_just_as_it_ends_gets_the_result_in_one_way_or_the_other() -> None:
    def as_it_ends() -> Any:
        return giving_up_as_it_ends(_Errand.give_up)

    assert explore_threads(as_it_ends, seeds=1000).distinct > 100


def test_giving_up_without_the_lock_would_be_found_out() -> None:
    def careless(errand: _Errand) -> bool:
        running = not errand.done.is_set()
        errand.given_up = running
        return running

    with pytest.raises(CounterexampleError):
        explore_threads(lambda: giving_up_as_it_ends(careless), seeds=3000)
