"""The rate limiter: one quota for threads, asyncio loops and trio runs at the same time."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final, final

from finresilience._checks import refuse, seconds_of
from finresilience.cores.line import TICK, Place
from finresilience.errors import DeadlineExceededError, RateLimitedError
from finresilience.events import CallRefused, RateChanged, SlotAwaited, log_event
from finresilience.outcome import Refused
from finresilience.policies.guarding import Guarding, P, R
from finresilience.policies.plan import Plan
from finresilience.policies.turns import RateGuard, Turn, deadline_here

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterable
    from datetime import timedelta

    from finresilience.clock import Clock
    from finresilience.cores.limiter import RateRule
    from finresilience.cores.line import LiveRule
    from finresilience.events import Listener
    from finresilience.outcome import Outcome
    from finresilience.policies.limiter_per import RatePerKey

_MOST: Final = 1_000_000  # who may wait at once
_LEAST: Final = 1e-6  # seconds: below, a loop would only spin


@final
class RateLimiter(Guarding):
    """Hold calls to a rate: as a guard of each attempt, of each call, or of one block.

    Whoever comes too early waits for a place in line, first come, first served, or is refused at once where the place would come
    after `max_wait` or after its deadline: nobody waits for what it cannot have. Someone cancelled in the wait gives the place
    back, and it costs nobody else anything. At most `max_wait` times the rate can be waiting, so that is all the line there is.

    The rate holds for all threads, asyncio loops and trio runs of this process together, at the moment in which each passes: a caller
    that wakes late makes those behind it later, never the rate higher. A forked child has the same rate once more.

    Args:
        rule: `TokenBucket(limit, per=, burst=)` or `SlidingWindow(limit, per=)`.
        max_wait: seconds to wait at most; by default nobody waits.
        name: shown in errors and events.
        lease: seconds after which someone in line who has not come for its slot loses it, since its loop may never run again. Longer
            than that loop is ever busy in one piece.
        clock: tells the time.
        listeners: hear every event.

    Raises:
        ConfigurationError: if an argument cannot work; the message names it and the way out.
    """

    __slots__ = ("_cancelled", "_refused", "_waited", "core", "lease", "max_wait", "rule")
    role = "RateLimiter"

    def __init__(
        self,
        rule: RateRule,
        *,
        max_wait: float | timedelta = 0.0,
        name: str = "rate limit",
        lease: float | timedelta = 1.0,
        clock: Clock | None = None,
        listeners: Iterable[Listener] = (log_event,),
    ) -> None:
        super().__init__(name, clock=clock, listeners=listeners)
        if isinstance(rule, type) or not callable(getattr(rule, "start", None)) or not hasattr(rule, "pace"):
            refuse("rule", rule, "a TokenBucket or a SlidingWindow")
        self.max_wait: float = _checked_wait(seconds_of("max_wait", max_wait, zero=True), rule)
        self.lease: float = seconds_of("lease", lease)
        self._begin(rule)

    def _begin(self, rule: RateRule) -> None:
        self._own_plan = None
        self.rule: RateRule = rule
        self.core: LiveRule = rule.start(self._now())
        self.core.lease = self.lease
        self._waited = self._refused = self._cancelled = 0

    def sibling(self, name: str) -> RateLimiter:
        """Return an unused limiter of the same settings. Internal: for families."""
        other = RateLimiter.__new__(RateLimiter)
        Guarding.__init__(other, name, clock=self._clock if self._own_clock else None, listeners=self._publish.listeners)
        other.max_wait, other.lease = self.max_wait, self.lease
        other._begin(self.rule)
        return other

    def _planned(self) -> Plan:
        return Plan(self, limiter=self, speaks=False)

    def forked(self) -> None:
        """Begin anew in a forked child, where none of those who wait exists."""
        self.core.begin_anew()

    def _hear(self, clock: Clock) -> None:
        core: LiveRule | None = getattr(self, "core", None)
        if core is None or clock is self._clock:
            super()._hear(clock)
            return
        with self._lock:
            was = self._now()
            super()._hear(clock)
            core.rebase(self._now() - was)

    # --- the gate: used by calls and guards ------------------------------------------------------------------------

    def take(self) -> object:
        """Let the caller pass at once and return True, or return None, having claimed nothing, if it would have to wait."""
        with self._lock:
            return self.core.take(self._now())

    def enter(self, deadline: float = inf) -> object:
        """Wait for a turn, never longer than `max_wait` and never past `deadline` (monotonic).

        Raises:
            RateLimitedError: if none comes in time, at once; nothing was claimed.
            DeadlineExceededError: if the deadline has passed.
        """
        refusal = self._enter(deadline)
        return True if refusal is None else refusal.unwrap()

    async def aenter(self, deadline: float = inf) -> object:
        """Wait for a turn as `enter` does, without blocking the thread. Cancelled, the caller has claimed nothing."""
        refusal = await self._aenter(deadline)
        return True if refusal is None else refusal.unwrap()

    def leave(self, hold: object) -> None:
        """Do nothing: a turn is used up the moment it comes."""

    def _enter(self, deadline: float) -> Refused | None:
        turn = self._turn(deadline)
        if not isinstance(turn, Turn):
            return turn
        try:
            while turn.wait > 0.0:
                self._clock.sleep_sync(max(turn.wait, _LEAST))
                self._ask(turn)
        except BaseException:
            self._give_up(turn)
            raise
        return self._answer(turn)

    async def _aenter(self, deadline: float) -> Refused | None:
        turn = self._turn(deadline)
        if not isinstance(turn, Turn):
            return turn
        try:
            while turn.wait > 0.0:
                await self._clock.sleep(max(turn.wait, _LEAST))
                self._ask(turn)
        except BaseException:
            self._give_up(turn)
            raise
        return self._answer(turn)

    def _turn(self, deadline: float) -> Turn | Refused | None:
        """Return None if the caller may pass now, its turn if it must wait, or the refusal."""
        with self._lock:
            now = self._now()
            left = deadline - now
            if left > 0.0:
                place = self.core.join(now, self.max_wait, left)
                if isinstance(place, Place):
                    if place.wait == 0.0:
                        place.wait = self.core.step(place, now)
                    return None if place.wait == 0.0 else Turn(place, now, now + self.max_wait, deadline)
                self._refused += 1
                return Refused(RateLimitedError, (self.name, place))
            self._refused += 1
            return Refused(DeadlineExceededError, (self.name, -left))

    def _ask(self, turn: Turn) -> None:
        """Let the turn's holder pass, or say how long it must still wait; refuse it if that has become too long."""
        with self._lock:
            now = self._now()
            if now < turn.deadline:
                turn.wait = self.core.step(turn.place, now)
                if turn.wait == 0.0:
                    self._waited += 1
                    turn.stood = now - turn.started
                    return
                until = now + turn.wait
                if until <= turn.until + TICK and until < turn.deadline:
                    return
                turn.refusal = Refused(RateLimitedError, (self.name, turn.wait))
            else:
                turn.refusal = Refused(DeadlineExceededError, (self.name, now - turn.deadline))
            turn.wait = 0.0
            turn.place.leave()
            self._refused += 1

    def _give_up(self, turn: Turn) -> None:
        """Give the place back. Takes no lock: it is called wherever a wait was cancelled, and by the collector anywhere."""
        turn.place.leave()
        self._cancelled += 1

    def _answer(self, turn: Turn) -> Refused | None:
        if turn.refusal is None and self._publish.wants_all:
            self._publish(SlotAwaited(name=self.name, wait=turn.stood))
        return turn.refusal

    # --- a refusal must stay cheap: it is what callers get who are too many ------------------------------------------

    def outcome(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Outcome[R]:
        """Call `fn` guarded and return how it ended, cheaply where it is refused."""
        return self._refused_at_once() or super().outcome(fn, *args, **kwargs)

    async def aoutcome(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> Outcome[R]:
        """Await `fn` guarded and return how it ended, cheaply where it is refused."""
        return self._refused_at_once() or await super().aoutcome(fn, *args, **kwargs)

    def _refused_at_once(self) -> Refused | None:
        """Return the refusal if the nearest place is too far for everybody, whatever the deadline."""
        with self._lock:
            wait = self.core.distance(self._now())
            if wait <= self.max_wait + TICK:
                return None
            self._refused += 1
        self._plan.ends.refused += 1
        if self._publish.wants_all:
            self._publish(CallRefused(name=self.name, reason="RateLimitedError", reference=None))
        return Refused(RateLimitedError, (self.name, wait))

    # --- the stage: round a whole call -----------------------------------------------------------------------------

    def around(
        self,
        plan: Plan,  # noqa: ARG002 - a family would choose by these
        go: Callable[[], Outcome[Any]],
        args: tuple[Any, ...],  # noqa: ARG002
        kwargs: dict[str, Any],  # noqa: ARG002
    ) -> Outcome[Any]:
        """Make the call once its turn has come, or refuse it."""
        refusal = self._enter(deadline_here())
        return go() if refusal is None else refusal

    async def aaround(
        self,
        plan: Plan,  # noqa: ARG002 - as above
        go: Callable[[], Awaitable[Outcome[Any]]],
        args: tuple[Any, ...],  # noqa: ARG002
        kwargs: dict[str, Any],  # noqa: ARG002
    ) -> Outcome[Any]:
        """Make the call once its turn has come, or refuse it."""
        refusal = await self._aenter(deadline_here())
        return await go() if refusal is None else refusal

    # --- for its owner ---------------------------------------------------------------------------------------------

    def guard(self) -> RateGuard:
        """Return a turn for one block: `with limiter.guard():` or `async with limiter.guard():`. It keeps to the deadline around it."""
        return RateGuard(self)

    def per(self, key: Callable[..., Hashable], *, at_most: int) -> RatePerKey:
        """Return a policy that keeps one such limiter for each `key(*args, **kwargs)` of its calls.

        Args:
            key: from the call's arguments to whoever shall have a rate of its own, such as the tenant.
            at_most: how many limiters are kept. One that still remembers a call is never forgotten, or its key could exceed the
                rate; where all do, calls of a new key are refused.
        """
        from finresilience.policies.limiter_per import RatePerKey

        return RatePerKey(self, key, at_most=at_most)

    def change(self, rule: RateRule) -> None:
        """Go by another rate from now on; whoever waits already keeps its place, and the time it was told, or a later one.

        What passed before the change counts. Buckets: no stretch of time holds more calls than the laxer of the two allows, and the
        burst is earned anew. Windows: every window that ends after the change holds what the new rule allows.

        Raises:
            ConfigurationError: if the rule is of another kind, or would let more than a million wait; nothing was changed.
        """
        if type(rule) is not type(self.rule):
            refuse("rule", rule, f"a {type(self.rule).__name__} as before, or make another limiter: two kinds do not count alike")
        _checked_wait(self.max_wait, rule)
        with self._lock:
            before = self.rule
            if rule == before:
                return
            self.core.change(rule, self._now())
            self.rule = rule
        self._publish(RateChanged(name=self.name, before=repr(before), after=repr(rule)))

    def busy(self) -> float:
        """Return for how many seconds more it will remember anybody; zero or less if it is as good as new. Internal: families ask."""
        with self._lock:
            return self.core.busy(self._now())

    def statistics(self) -> dict[str, object]:
        """Return how many passed, how many of those after a wait, how many were refused or cancelled, wait now, or lost their place."""
        with self._lock:
            waiting = self.core.waiting(self._now())
            return {
                "name": self.name,
                "rule": repr(self.rule),
                "passed": self.core.passed,
                "waited": self._waited,
                "refused": self._refused,
                "cancelled": self._cancelled,
                "waiting": waiting,
                "lapsed": self.core.lapsed,
                "listener_failures": self._publish.failures,
            }


def _checked_wait(max_wait: float, rule: RateRule) -> float:
    if max_wait * rule.pace > _MOST:
        refuse("max_wait", max_wait, f"at most {_MOST / rule.pace:g} seconds: no more than a million may wait at this rate")
    return max_wait
