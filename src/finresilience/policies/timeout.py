"""Timeout: no attempt lasts for ever, and one that was given up is unknown, not failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.context import CallContext, current, leave
from finresilience.errors import ConfigurationError, DeadlineExceededError
from finresilience.events import log_event
from finresilience.outcome import Effect
from finresilience.policies.guarding import Guarding, checked_rules
from finresilience.policies.limits import AsyncLimit
from finresilience.policies.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextvars import Token
    from datetime import timedelta
    from types import TracebackType

    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.clock import Clock
    from finresilience.events import Listener
    from finresilience.policies.threads import Threads


@final
class Timeout(Guarding):
    """Give each attempt at most `seconds`, and never more than the deadline leaves.

    Async calls are cancelled. Sync calls are cooperative: `remaining()` tells the code inside what to hand to its client, and a
    value that comes late is still a value. With `thread_limit`, sync calls run in threads and are given up at the limit;
    the thread goes on, so the outcome is unknown, and its late result comes as a `LateResult` event.

    Args:
        seconds: how long an attempt may take.
        exact: give each async attempt a timer of its own. Otherwise limits of 0.1 to 60 s share one, and are up to 10 ms late,
            never early.
        thread_limit: run sync calls in at most this many threads.
        effect: what happens if the call is carried out twice, where the policy stands alone.
        classify: rules of your own, where the policy stands alone.
        name: shown in errors and events.
        clock: tells the time.
        listeners: hear every event.

    Raises:
        ConfigurationError: if an argument cannot work; the message names it and the way out.
    """

    __slots__ = ("_classify", "_effect", "exact", "seconds", "threads")
    role = "Timeout"

    def __init__(
        self,
        seconds: float | timedelta,
        *,
        exact: bool = False,
        thread_limit: int | None = None,
        effect: Effect | None = None,
        classify: ErrorClassifier | None = None,
        name: str = "timeout",
        clock: Clock | None = None,
        listeners: Iterable[Listener] = (log_event,),
    ) -> None:
        super().__init__(name, clock=clock, listeners=listeners)
        self.seconds: float = seconds_of("seconds", seconds)
        if not isinstance(exact, bool):
            refuse("exact", exact, "True or False")
        if effect is not None and not isinstance(effect, Effect):
            refuse("effect", effect, "an Effect")
        self.exact: bool = exact
        self.threads: Threads | None = None if thread_limit is None else _threads(thread_limit)
        self._effect = effect
        self._classify = checked_rules(classify)
        self._own_plan = None

    def _planned(self) -> Plan:
        return Plan(self, timeout=self, classifier=self._classify, effect=self._effect or Effect.UNSAFE)

    def forked(self) -> None:
        """Begin anew in a forked child."""
        if self.threads is not None:
            self.threads.forked()

    def guard(self) -> TimeoutGuard:
        """Return a limit for one block: `with timeout.guard():` (cooperative) or `async with timeout.guard():` (cancels)."""
        return TimeoutGuard(self)

    def statistics(self) -> dict[str, int]:
        """Return how the calls of this policy standing alone ended."""
        return self._plan.ends.as_dict()


def _threads(limit: int) -> Threads:
    from finresilience.policies.threads import Threads

    return Threads(positive_count("thread_limit", limit, most=10_000))


@final
class TimeoutGuard:
    """One block with a limit. Use it once. The async form raises `ExpiredError` in the block."""

    __slots__ = ("_limit", "_timeout", "_token")

    def __init__(self, timeout: Timeout) -> None:
        self._timeout = timeout
        self._limit: AsyncLimit | None = None
        self._token: Token[CallContext | None] | None = None

    def __enter__(self) -> TimeoutGuard:
        self._begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        if self._token is not None:
            leave(self._token)
            self._token = None

    async def __aenter__(self) -> TimeoutGuard:
        limit, now = self._begin()
        cut = limit < now + self._timeout.seconds
        self._limit = AsyncLimit(self._timeout.name, clock=self._timeout._clock, limit=limit, now=now, exact=self._timeout.exact, cut=cut)
        self._limit.__enter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> bool:
        self.__exit__(kind, error, traceback)
        return self._limit is not None and self._limit.__exit__(kind, error, traceback)

    def _begin(self) -> tuple[float, float]:
        if self._token is not None:
            message = "this block is open already: call guard() again for each block"
            raise ConfigurationError(message)
        timeout = self._timeout
        now = timeout._now()
        context = timeout._plan.context(now, (), {})
        deadline = context.deadline if context.deadline is not None else now + timeout.seconds
        if deadline <= now:
            raise DeadlineExceededError(timeout.name, now - deadline)
        context.deadline = min(deadline, now + timeout.seconds)
        self._token = current.set(context)
        return context.deadline, now
