"""Retry in every form it has, against the same rules said again and slowly: any calls, in any order, on one clock and one budget."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import cycle, islice
from math import inf
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from finresilience import (
    NON_RETRYABLE,
    RETRYABLE,
    Constant,
    Declined,
    Effect,
    ErrorClassifier,
    Exponential,
    Failed,
    Ok,
    Refused,
    Retry,
    TokenBudget,
    Unknown,
    Verdict,
    attempt_budget,
    deadline,
    idempotency_key,
)
from finresilience.clock import install
from finresilience.cores.join import Join
from finresilience.cores.retry import RetrySettings
from tests.laws.sabotage import SEARCH, nothing
from tests.laws.worlds import Down, Lost, No, still

if TYPE_CHECKING:
    from collections.abc import Callable


class Asked(Down):
    """Not applied, and the provider says how long to wait."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


def asked(error: object) -> bool:
    return isinstance(error, Asked)


class Rules:
    """What each kind of end means, by the classifier of the test's own errors."""

    classifier = ErrorClassifier({Asked: Verdict(RETRYABLE), Down: RETRYABLE, No: NON_RETRYABLE})


ENDS = ("ok", "down", "down", "lost", "lost", "no", "typo", "stop")
ERRORS: dict[str, Callable[[], BaseException]] = {"down": Down, "lost": Lost, "no": No, "typo": TypeError, "stop": KeyboardInterrupt}
lines = st.lists(st.tuples(st.sampled_from(ENDS), st.sampled_from([0, 0, 1, 3])), min_size=1, max_size=7)
RATIO, TOKENS = 0.5, 6


class Story:
    """What a call must do, by the book: how many attempts, which waits, how it ends."""

    def __init__(self, world: Retries, script: list[tuple[str, int]], *, left: float, spare: float) -> None:
        self.waits: list[float] = []
        self.attempts, self.took, self.end = 0, 0.0, "refused"
        if left <= 0:
            return
        kind, doubt, keyed, read = "", False, world.effect is Effect.IDEMPOTENT, world.effect is Effect.READ
        for kind, cost in cycle(script):
            self.attempts, self.took = self.attempts + 1, self.took + cost
            doubt = doubt or kind in {"lost", "typo"}
            if kind in {"ok", "stop"}:
                self.end = kind
                world.tokens = min(world.tokens + RATIO, TOKENS) if kind == "ok" else world.tokens
                return
            wait = self.next_wait(world, kind, left)
            if wait is None or not self.paid(world, spare):
                break
            spare -= 1
            self.waits.append(wait)
            self.took += wait
        self.end = "declined" if kind == "no" and (keyed or read or not doubt) else "unknown" if doubt and not read else "failed"

    def next_wait(self, world: Retries, kind: str, left: float) -> float | None:
        """Return the wait before another attempt, or None where there must not be one."""
        forbidden = kind in {"no", "typo"} or (kind == "lost" and world.effect is Effect.UNSAFE)
        if forbidden or self.attempts >= world.attempts:
            return None
        wait = min(world.base * world.factor ** (self.attempts - 1), 4.0)
        return wait if self.took + wait < min(world.max_elapsed, left) else None

    def paid(self, world: Retries, spare: float) -> bool:
        """Pay one token where there is a budget, of which more than half must be left; then one of the tree's."""
        if world.budget is not None:
            world.tokens = max(world.tokens - 1, 0)
            if world.tokens <= TOKENS / 2:
                return False
        return spare >= 1


KINDS = {Ok: "ok", Declined: "declined", Failed: "failed", Unknown: "unknown", Refused: "refused"}


class Retries(RuleBasedStateMachine):
    """One Retry, one clock, one budget; calls of every form and every end."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = dict.fromkeys(("ok", "declined", "failed", "unknown", "refused", "retried", "abandoned"), 0)

    @initialize(
        attempts=st.integers(1, 5),
        base=st.sampled_from([0, 1]),
        factor=st.sampled_from([1, 2]),
        max_elapsed=st.sampled_from([inf, 5.0]),
        effect=st.sampled_from(Effect),
        frugal=st.booleans(),
    )
    def begin(self, attempts: int, base: int, factor: int, max_elapsed: float, effect: Effect, frugal: bool) -> None:
        self.attempts, self.base, self.factor, self.max_elapsed, self.effect = attempts, base, factor, max_elapsed, effect
        self.clock, self.tokens = still(), float(TOKENS)
        self.budget = TokenBudget(TOKENS, ratio=RATIO) if frugal else None
        self.policy = Retry(
            attempts=attempts,
            backoff=Constant(base) if factor == 1 else Exponential(base, factor=factor, cap=4.0),
            max_elapsed=None if max_elapsed == inf else max_elapsed,
            budget=self.budget,
            effect=effect,
            classify=Rules.classifier,
            clock=self.clock,
            listeners=[],
        )

    @rule(
        script=lines,
        form=st.sampled_from(["call", "decorated", "outcome", "loop", "acall", "adecorated", "aoutcome", "aloop"]),
        backend=st.sampled_from(["asyncio", "trio"]),
        left=st.sampled_from([inf, inf, 0.0, 2.0, 6.0]),
        spare=st.sampled_from([inf, inf, 0.0, 1.0]),
    )
    def call(self, script: list[tuple[str, int]], form: str, backend: str, left: float, spare: float) -> None:
        story = Story(self, script, left=left, spare=spare)
        before, slept, run = self.clock.monotonic(), len(self.clock.waits), Run(script, self.clock)
        with ExitStack() as stack:
            stack.callback(install(self.clock))
            stack.enter_context(idempotency_key("pay_1")) if self.effect is Effect.IDEMPOTENT else None
            stack.enter_context(attempt_budget(int(spare))) if spare < inf else None
            if left < inf:
                stack.enter_context(deadline(left or 1.0))
            self.clock.advance(0.0 if left else 1.0)  # a deadline of none has just passed
            end = run.made(self.policy, form, backend)
        assert (end, run.attempts) == (story.end, story.attempts)
        assert [wait for wait in self.clock.waits[slept:] if wait] == [wait for wait in story.waits if wait]
        assert self.clock.monotonic() - before == story.took + (left == 0.0)
        self.counts["abandoned" if end == "stop" else end] += 1
        self.counts["retried"] += len(story.waits)

    @rule(seconds=st.sampled_from([0.5, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def every_call_is_counted_once(self) -> None:
        if hasattr(self, "policy"):
            counted = self.policy.statistics()
            assert {name: counted[name] for name in self.counts} == self.counts

    @invariant()
    def the_budget_holds_what_the_book_says(self) -> None:
        if getattr(self, "budget", None) is not None:
            assert self.budget is not None
            assert self.budget._left == self.tokens


class Run:
    """Plays the script, whose lines come round again, through one form of the policy; looks at how it ended."""

    def __init__(self, script: list[tuple[str, int]], clock: Any) -> None:
        self.script, self.clock, self.attempts = cycle(script), clock, 0
        self.last: BaseException | None = None

    def work(self) -> str:
        ((kind, cost),) = islice(self.script, 1)
        self.attempts += 1
        self.clock.advance(cost)
        if kind == "ok":
            return "paid"
        self.last = ERRORS[kind]()
        raise self.last

    async def awork(self) -> str:
        return self.work()

    def made(self, policy: Retry, form: str, backend: str) -> str:
        try:
            return self.formed(policy, form, backend)
        except KeyboardInterrupt as stop:
            assert stop is self.last
            return "stop"
        except BaseException as error:
            return self.named(error)

    def formed(self, policy: Retry, form: str, backend: str) -> str:
        if form == "outcome":
            return KINDS[type(policy.outcome(self.work))]
        if form == "aoutcome":
            return KINDS[type(anyio.run(policy.aoutcome, self.awork, backend=backend))]
        if form.startswith("a"):
            ways: dict[str, Callable[[], Any]] = {
                "acall": lambda: policy.acall(self.awork),
                "adecorated": policy(self.awork),
                "aloop": lambda: self.aloop(policy),
            }
            return "ok" if anyio.run(ways[form], backend=backend) == "paid" else "?"
        if form == "loop":
            return "ok" if self.loop(policy) == "paid" else "?"
        return "ok" if (policy.call(self.work) if form == "call" else policy(self.work)()) == "paid" else "?"

    def loop(self, policy: Retry) -> str:
        for attempt in policy:
            with attempt:
                return self.work()
        return "neither"

    async def aloop(self, policy: Retry) -> str:
        async for attempt in policy:
            with attempt:
                return self.work()
        return "neither"

    def named(self, error: BaseException) -> str:
        """Law 2: an unknown end names the last error as its cause, every other raises it as it is, a refusal is ours."""
        kind = type(error).__name__
        if kind == "UnknownOutcomeError":
            assert error.__cause__ is self.last
            return "unknown"
        if kind == "DeadlineExceededError":
            return "refused"
        assert error is self.last
        return "declined" if isinstance(error, No) else "failed"


TestRetryByTheBook = Retries.TestCase
TestRetryByTheBook.settings = settings(stateful_step_count=20)


def run_short(machine: type[RuleBasedStateMachine]) -> None:
    run_state_machine_as_test(machine, settings=settings(SEARCH, stateful_step_count=10))


def the_last_attempt_is_not_counted(patch: pytest.MonkeyPatch) -> None:
    decide = RetrySettings.decide

    def generous(self: RetrySettings, *args: Any, attempt: int, spent: int, **told: Any) -> Any:
        return decide(self, *args, attempt=attempt - 1 or 1, spent=spent - 1 or 1, **told)

    patch.setattr(RetrySettings, "decide", generous)


def what_is_unsafe_is_sent_again(patch: pytest.MonkeyPatch) -> None:
    decide = RetrySettings.decide

    def careless(self: RetrySettings, *args: Any, effect: Effect, **told: Any) -> Any:
        return decide(self, *args, effect=Effect.READ, **told)

    patch.setattr(RetrySettings, "decide", careless)


def doubts_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    attempt = Join.attempt

    def forgetful(self: Join, verdict: Verdict) -> None:
        self._unknown = None
        attempt(self, verdict)

    patch.setattr(Join, "attempt", forgetful)


def budgets_are_free(patch: pytest.MonkeyPatch) -> None:
    def withdraw(self: TokenBudget, now: float, /) -> bool:
        return True

    patch.setattr(TokenBudget, "withdraw", withdraw)


def successes_bring_nothing_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TokenBudget, "deposit", nothing)


def it_begins_what_it_cannot_finish(patch: pytest.MonkeyPatch) -> None:
    decide = RetrySettings.decide

    def hopeful(self: RetrySettings, *args: Any, left: float, **told: Any) -> Any:
        return decide(self, *args, left=inf, **told)

    patch.setattr(RetrySettings, "decide", hopeful)


@pytest.mark.parametrize(
    "saboteur",
    [
        the_last_attempt_is_not_counted,
        what_is_unsafe_is_sent_again,
        doubts_are_forgotten,
        budgets_are_free,
        successes_bring_nothing_back,
        it_begins_what_it_cannot_finish,
    ],
)
def test_the_book_catches_the_saboteur(saboteur: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    saboteur(monkeypatch)
    with pytest.raises(AssertionError):
        run_short(Retries)
