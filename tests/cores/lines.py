"""Small worlds of callers at a rate limit, and what the rule allows there, told by counting and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finresilience.cores.limiter import SlidingWindow, TokenBucket
from finresilience.cores.line import LiveRule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

TICKS = 4  # in a second, so that every time told is exact

BUCKETS: dict[str, TokenBucket | SlidingWindow] = {f"a bucket of {burst}": TokenBucket(1, per=1, burst=burst) for burst in (1, 2, 3)}
WINDOWS: dict[str, TokenBucket | SlidingWindow] = {f"a window of {limit}": SlidingWindow(limit, per=1) for limit in (1, 2, 3)}
RULES = BUCKETS | WINDOWS
EVERY = RULES | {"a quick bucket": TokenBucket(2, per=1, burst=2), "a short window": SlidingWindow(2, per=0.5)}


def lawful(rule: TokenBucket | SlidingWindow, ticks: Iterable[int]) -> bool:
    """Count every window that begins and ends with a call: no other can hold more."""
    at = sorted(ticks)
    if isinstance(rule, SlidingWindow):
        return all(later - sooner >= TICKS * rule.per for sooner, later in zip(at, at[rule.limit :], strict=False))
    return all(
        (last - first + 1 - rule.burst) * TICKS * rule.per <= (at[last] - at[first]) * rule.limit
        for first in range(len(at))
        for last in range(first + rule.burst, len(at))
    )


def soonest(rule: TokenBucket | SlidingWindow, now: int, plan: Sequence[int]) -> int:
    """Return the first tick from now on at which one call more is lawful, beside all that have passed and all that were promised."""
    return next(tick for tick in range(now, now + TICKS * (len(plan) + 2)) if lawful(rule, [*plan, tick]))


class Caller:
    def __init__(self, place: Any, promised: int) -> None:
        self.place, self.promised = place, promised
        self.comes = promised  # when it looks again


class World:
    """Callers come, wait, pass and go away; the rule of the world says what must hold after each deed."""

    def __init__(self, rule: TokenBucket | SlidingWindow, core: Any = None) -> None:
        self.rule = rule
        self.core: Any = rule.start(0.0) if core is None else core
        self.now = 0
        self.passed: list[int] = []
        self.waiting: list[Caller] = []

    @property
    def nearest(self) -> int:
        """At which tick the next to come could pass."""
        wait = self.core.distance(self.now / TICKS)
        return self.now if wait <= 0.0 else self.now + round(wait * TICKS)

    @property
    def plan(self) -> list[int]:
        return [*self.passed, *(caller.promised for caller in self.waiting)]

    # --- what may happen -----------------------------------------------------------------------------------------------

    def take(self) -> bool:
        passes = bool(self.core.take(self.now / TICKS))
        if passes:
            self.passes()
        return passes

    def join(self, patience: float = 99.0) -> int | None:
        """Return at which tick the caller passes if all come in time, or None if that is too far."""
        place: Any = self.core.join(self.now / TICKS, patience / TICKS)
        if isinstance(place, float):
            assert place * TICKS > patience, "refused, though its time would have come soon enough"
            return None
        promised: int = self.now + round(place.wait * TICKS)
        if promised > self.now:
            self.waiting.append(Caller(place, promised))
        else:
            assert self.core.step(place, self.now / TICKS) == 0.0
            self.passes()
        return promised

    def cancel(self, number: int) -> None:
        if self.waiting:
            self.waiting.pop(number % len(self.waiting)).place.leave()

    def wait(self, ticks: int) -> None:
        """Let time go by, while everybody who waits comes when its time has come."""
        end = self.now + ticks
        while due := [caller for caller in self.waiting if caller.promised <= end]:
            caller = min(due, key=lambda one: one.promised)
            self.now = max(self.now, caller.promised)
            assert self.come(caller), "whoever comes in time passes"
        self.now = end

    def sleep(self, ticks: int, late: Callable[[Caller], bool]) -> None:
        """Let time go by, while some of those who wait come too late."""
        self.now += ticks
        for caller in [one for one in self.waiting if one.comes <= self.now and not late(one)]:
            self.come(caller)

    def come(self, caller: Caller) -> bool:
        """Let a caller look whether its time has come; return whether it passes."""
        left = self.core.step(caller.place, self.now / TICKS)
        if left > 0.0:
            caller.comes = self.now + round(left * TICKS)
            return False
        assert self.now >= caller.promised, "nobody passes before its time"
        self.waiting.remove(caller)
        self.passes()
        return True

    def passes(self) -> None:
        self.passed.append(self.now)
        assert lawful(self.rule, self.passed), f"too many at once: {self.passed}"


def slack(rule: TokenBucket | SlidingWindow, core: Any, now: float) -> int:
    """Return by how many ticks a slot may come later than it could: none, unless one that was given back has gone by unused."""
    if not isinstance(core, LiveRule) or core.busy(now) <= 0.0 or (core._unused == 0 and core._stale(now) == 0):
        return 0
    return round(TICKS * (rule.per / rule.limit if isinstance(rule, TokenBucket) else rule.per))


def capacity(world: World) -> int:
    """Return how many may pass at once after a pause."""
    return world.rule.burst if isinstance(world.rule, TokenBucket) else world.rule.limit
