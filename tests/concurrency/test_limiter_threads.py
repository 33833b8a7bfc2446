"""One rate under threads, each of which may be stopped between any two lines."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import pytest

from finresilience import RateLimitedError
from finresilience.cores.limiter import SlidingWindow, TokenBucket
from finresilience.policies import base
from finresilience.policies.limiter import RateLimiter
from finresilience.testing import CounterexampleError, ManualClock, explore_threads
from tests.concurrency.circuits import SEEDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.testing.stories import ThreadStory


class Watched:
    """A rule that remembers when each call passed, by the time under the lock."""

    def __init__(self, rule: Any) -> None:
        self.rule, self.pace, self.per = rule, rule.pace, rule.per
        self.passed: list[float] = []

    def start(self, now: float) -> Any:
        passed: list[float] = self.passed
        kind: Any = type(self.rule.start(now))

        class Live(kind):  # type: ignore[misc] # pyright: ignore[reportUntypedBaseClass] # of the kind that the rule has
            def _pass(self, now: float) -> None:
                super()._pass(now)
                passed.append(now)

            def take(self, now: float) -> Any:
                before = len(passed)
                passes = super().take(now)
                if passes and len(passed) == before:
                    passed.append(now)
                return passes

        return Live(self.rule, now) if kind.__name__ == "LiveTokenBucket" else Live(self.rule)

    def keeps_to_it(self) -> None:
        limit = self.rule.limit if isinstance(self.rule, SlidingWindow) else self.rule.burst
        assert all(later - sooner >= 1.0 - 1e-9 for sooner, later in zip(self.passed, self.passed[limit:], strict=False))


Manual: Any = ManualClock  # final, but not for a test that is interrupted


class Nervous(Manual):  # type: ignore[misc] # of no type
    """Every second sleep is broken off."""

    count = 0

    def sleep_sync(self, seconds: float, /) -> None:
        self.count += 1
        if self.count % 2:
            raise KeyboardInterrupt
        super().sleep_sync(seconds)


def callers_who_will_not_wait(rule: Any) -> ThreadStory:
    """Four come at once where two may pass."""
    watched = Watched(rule)
    policy = RateLimiter(watched, clock=ManualClock(), listeners=[])
    ends: list[bool] = []

    def caller() -> None:
        with suppress(RateLimitedError):
            policy.enter()
            ends.append(True)

    def two_passed() -> None:
        assert len(ends) == len(watched.passed) == policy.statistics()["passed"] == 2
        assert policy.statistics()["refused"] == 2

    return [caller] * 4, two_passed


def callers_who_wait(rule: Any, clock: ManualClock | None = None) -> ThreadStory:
    """Each sleep moves the time for all, so that nearly everybody is late; some are interrupted in it."""
    watched = Watched(rule)
    policy = RateLimiter(watched, max_wait=60.0, clock=clock or ManualClock(), listeners=[])
    ends: list[str] = []

    def caller() -> None:
        for _ in range(2):
            try:
                policy.enter()
                ends.append("passed")
            except KeyboardInterrupt:
                ends.append("cancelled")

    def nobody_is_left_and_nobody_was_too_soon() -> None:
        stats = policy.statistics()
        assert (stats["passed"], stats["cancelled"]) == (ends.count("passed"), ends.count("cancelled"))
        assert (len(ends), stats["waiting"]) == (6, 0)
        watched.keeps_to_it()

    return [caller] * 3, nobody_is_left_and_nobody_was_too_soon


def a_rate_that_somebody_changes(rule: Any) -> ThreadStory:
    """Whatever the moment of the change, what passed before it counts."""
    policy = RateLimiter(rule, clock=ManualClock(), listeners=[])

    def owner() -> None:
        policy.change(type(rule)(3, per=1))

    def caller() -> None:
        for _ in range(2):
            policy.take()

    def as_if_one_after_the_other() -> None:
        window = isinstance(rule, SlidingWindow)
        assert policy.statistics()["passed"] in ({2, 3} if window else {1, 2})

    return [owner, caller, caller], as_if_one_after_the_other


def keys_that_make_room_for_each_other(rule: Any) -> ThreadStory:
    """One limiter is kept, and two keys come in turns: nobody gets a second one for its key while the first remembers a call."""
    family = RateLimiter(rule, clock=ManualClock(), listeners=[]).per(str, at_most=1)
    passed: list[str] = []

    def caller(key: str) -> Callable[[], None]:
        def come() -> None:
            for _ in range(2):
                with suppress(RateLimitedError):
                    family.of(key).enter()
                    passed.append(key)

        return come

    def nobody_had_two() -> None:
        assert max(passed.count("a"), passed.count("b")) <= 2

    return [caller("a"), caller("b"), caller("a")], nobody_had_two


BUCKET, WINDOW = TokenBucket(1, per=1, burst=2), SlidingWindow(2, per=1)
STORIES: dict[str, Callable[[], ThreadStory]] = {
    "callers who will not wait, a bucket": lambda: callers_who_will_not_wait(BUCKET),
    "callers who will not wait, a window": lambda: callers_who_will_not_wait(WINDOW),
    "callers who wait, a bucket": lambda: callers_who_wait(TokenBucket(1, per=1)),
    "callers who wait, a window": lambda: callers_who_wait(WINDOW),
    "callers who are interrupted, a bucket": lambda: callers_who_wait(TokenBucket(1, per=1), Nervous()),
    "callers who are interrupted, a window": lambda: callers_who_wait(WINDOW, Nervous()),
    "keys that make room for each other": lambda: keys_that_make_room_for_each_other(BUCKET),
    "a rate that somebody changes, a window": lambda: a_rate_that_somebody_changes(WINDOW),
    "a rate that somebody changes, a bucket": lambda: a_rate_that_somebody_changes(BUCKET),
}


@pytest.mark.parametrize("story", STORIES)
def test_nobody_passes_too_soon_and_nobody_is_left_behind_in(story: str) -> None:
    assert explore_threads(STORIES[story], seeds=SEEDS).distinct > SEEDS * 0.8


class NoLock:
    def acquire(self, *_: object, **__: object) -> Literal[True]:
        return True

    def release(self) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> Literal[False]:
        return False


@pytest.mark.parametrize("story", [story for story in STORIES if "changes, a bucket" not in story])
def test_without_its_lock_some_schedule_goes_wrong_in(story: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "Lock", NoLock)
    with pytest.raises(CounterexampleError):
        explore_threads(STORIES[story], seeds=20 * SEEDS)  # it ends at the first that fails
