"""The circuit breaker: one object for threads, asyncio and trio at once."""

from __future__ import annotations

from sys import intern
from typing import TYPE_CHECKING, Any, final

from finresilience._checks import seconds_of
from finresilience.cores.breaker import BreakerCore, Change, CircuitState, Note
from finresilience.errors import CircuitOpenError
from finresilience.events import CallRefused, log_event
from finresilience.outcome import Outcome, Refused
from finresilience.policies.base import chance
from finresilience.policies.guarding import Guarding, P, R, checked_rules
from finresilience.policies.plan import Plan
from finresilience.policies.settings import breaker_settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
    from datetime import timedelta

    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.clock import Clock
    from finresilience.cores.breaker import BreakerSettings, Permit
    from finresilience.cores.interval import OpenFor
    from finresilience.cores.trip import TripRule
    from finresilience.cores.window import Window
    from finresilience.events import Listener
    from finresilience.policies.decorate import Kind
    from finresilience.policies.guard import CircuitGuard
    from finresilience.policies.isolation import Isolation
    from finresilience.policies.per import PerKey


@final
class CircuitBreaker(Guarding):
    """Stop calling a provider that is failing, and find out safely when it is back.

    Every permit belongs to one attempt and one generation: a result that comes after the circuit has moved on is reported
    and changes nothing. Half-open probes are leased: a hung, cancelled or late one can neither wedge nor close the circuit.
    Declines are a healthy provider saying no; they never open it.

    Args:
        name: shown in errors, events and logs.
        window: `TimeWindow(seconds)` or `CountWindow(calls)`; the last 60 s by default.
        failure_rate: open at this share of failures; 0.5 where no rule at all is given.
        minimum_calls: how many calls the rates need before they may open it.
        failure_count: open at this many failures in the window.
        consecutive_failures: open at this many failures in a row.
        slow_rate: open at this share of slow calls; needs `slow_after`.
        slow_after: seconds after which a call is slow.
        rules: rules of your own (`TripRule`).
        open_for: seconds, or an `OpenFor`: grows with each opening in a row.
        half_open_calls: how many probes decide whether the provider is back.
        probe_lease: seconds after which a probe that has not reported gives its permit to the next caller. Longer than the call's
            timeout, or slow probes never count.
        classify: rules of your own, where the breaker stands alone; a Pipeline gives it the pipeline's.
        clock: tells the time.
        chance: numbers in [0, 1) for jitter.
        listeners: hear every event; by default changes are logged.

    Raises:
        ConfigurationError: if an argument cannot work; the message names it and the way out.
    """

    __slots__ = ("_classify", "core")
    role = "CircuitBreaker"

    def __init__(
        self,
        name: str,
        *,
        window: Window | None = None,
        failure_rate: float | None = None,
        minimum_calls: int = 20,
        failure_count: int | None = None,
        consecutive_failures: int | None = None,
        slow_rate: float | None = None,
        slow_after: float | timedelta | None = None,
        rules: Iterable[TripRule] = (),
        open_for: float | timedelta | OpenFor = 30.0,
        half_open_calls: int = 3,
        probe_lease: float | timedelta = 30.0,
        classify: ErrorClassifier | None = None,
        clock: Clock | None = None,
        chance: Callable[[], float] = chance,
        listeners: Iterable[Listener] = (log_event,),
    ) -> None:
        super().__init__(name, clock=clock, chance=chance, listeners=listeners)
        settings = breaker_settings(
            window=window,
            failure_rate=failure_rate,
            minimum_calls=minimum_calls,
            failure_count=failure_count,
            consecutive_failures=consecutive_failures,
            slow_rate=slow_rate,
            slow_after=slow_after,
            rules=tuple(rules),
            open_for=open_for,
            half_open_calls=half_open_calls,
            probe_lease=probe_lease,
        )
        self._start(settings, checked_rules(classify))

    def _start(self, settings: BreakerSettings, classify: ErrorClassifier | None) -> None:
        self._classify = classify
        self._own_plan = None
        self.core: BreakerCore = BreakerCore(settings, self._now(), self._chance)

    def _sibling(self, name: str) -> CircuitBreaker:
        """Return a closed breaker of the same settings."""
        other = CircuitBreaker.__new__(CircuitBreaker)
        clock = self._clock if self._own_clock else None
        Guarding.__init__(other, name, clock=clock, chance=self._chance, listeners=self._publish.listeners)
        other._start(self.core.settings, self._classify)
        return other

    def _hear(self, clock: Clock) -> None:
        core: BreakerCore | None = getattr(self, "core", None)
        if core is None or clock is self._clock:
            super()._hear(clock)
            return
        with self._lock:
            was = self._now()
            super()._hear(clock)
            core.rebase(was, self._now())

    def _planned(self) -> Plan:
        return Plan(self, breaker=self, classifier=self._classify, speaks=False)

    @property
    def slow_after(self) -> float:
        """The seconds after which a call is slow; infinite where no rule asks."""
        return self.core.settings.slow_after

    # --- used by calls and guards ----------------------------------------------------------------------------------

    def choose(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CircuitBreaker:  # noqa: ARG002 - a family would choose by them
        """Return the breaker for a call of these arguments: this one."""
        return self

    def claim(self, now: float) -> Permit | tuple[object, ...]:
        """Return the permit of one attempt, or what a `CircuitOpenError` is built from. Settle or release every permit."""
        with self._lock:
            permit = self.core.admit(now)
            answer = self._facts(now) if permit is None else permit  # of the moment of the refusal, not of a later one
            news = self._news()
        self._tell(news)
        return answer

    def admit(self, now: float) -> Permit | None:
        """Return the permit of one attempt, or None if it must not be made."""
        answer = self.claim(now)
        return None if isinstance(answer, tuple) else answer

    def settle(
        self, permit: Permit, now: float, *, failed: bool, slow: bool = False, failure: str | None = None, hint: float | None = None
    ) -> None:
        """Record what became of one attempt, and tell the listeners once the lock is released."""
        with self._lock:
            # A builtin class makes its name anew each time it is asked; a thousand breakers keep the same one.
            self.core.settle(permit, now, failed=failed, slow=slow, failure=failure and intern(failure), hint=hint)
            news = self._news()
        self._tell(news)

    def release(self, permit: Permit) -> None:
        """Take back a permit whose attempt says nothing about the provider."""
        with self._lock:
            self.core.release(permit)

    def _facts(self, now: float) -> tuple[object, ...]:
        core = self.core
        return (self.name, core.state.value, core.retry_after(now), core.generation, core.last_failure)

    def refusal(self, plan: Plan, shut: tuple[CircuitState, float, int, str | None], left: float) -> CircuitOpenError:
        """Return the error for a caller whom nobody lets pass for `left` seconds more, and count it.

        Takes no lock: this is the path that callers of a dead provider take.
        """
        plan.ends.refused += 1
        self.core.refused += 1
        if plan.owner._publish.wants_all:
            plan.owner._publish(CallRefused(name=plan.owner.name, reason="CircuitOpenError", reference=None))
        return CircuitOpenError(self.name, shut[0], left, shut[2], shut[3])

    def outcome(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Outcome[R]:
        """Call `fn` guarded and return how it ended, cheaply where the circuit is open."""
        core = self.core
        shut = core.shut
        if shut is not None and (left := shut[1] - self._now()) > 0.0:
            core.refused += 1
            if self._publish.wants_all:
                self._publish(CallRefused(name=self.name, reason="CircuitOpenError", reference=None))
            refused = Refused.__new__(Refused)  # `__init__` would make the whole refusal a tenth dearer
            refused._type, refused._facts = CircuitOpenError, (self.name, shut[0], left, shut[2], shut[3])
            return refused
        return super().outcome(fn, *args, **kwargs)

    async def aoutcome(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> Outcome[R]:
        """Await `fn` guarded and return how it ended, cheaply where the circuit is open."""
        core = self.core
        shut = core.shut
        if shut is not None and (left := shut[1] - self._now()) > 0.0:
            core.refused += 1
            if self._publish.wants_all:
                self._publish(CallRefused(name=self.name, reason="CircuitOpenError", reference=None))
            refused = Refused.__new__(Refused)  # `__init__` would make the whole refusal a tenth dearer
            refused._type, refused._facts = CircuitOpenError, (self.name, shut[0], left, shut[2], shut[3])
            return refused
        return await super().aoutcome(fn, *args, **kwargs)

    def guard(self) -> CircuitGuard:
        """Return a permit for one block: `with breaker.guard():` or `async with breaker.guard():`.

        The block's error is judged and passed on as it is. Entering raises `CircuitOpenError` where the circuit is open.
        """
        from finresilience.policies.guard import CircuitGuard

        return CircuitGuard(self, self._plan.classifier)

    def _generator(self, fn: Callable[..., Any], kind: Kind) -> Callable[..., Any]:
        from finresilience.policies.guard import guarded_generator

        return guarded_generator(self, fn, kind)

    # --- a person decides ------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Close the circuit and forget what it saw; isolations stay in force."""
        self._act(lambda core, now: core.reset(now))

    def trip(self, *, seconds: float | timedelta | None = None) -> None:
        """Open the circuit for `seconds`, or for as long as it would choose itself."""
        wait = None if seconds is None else seconds_of("seconds", seconds)
        self._act(lambda core, now: core.trip(now, wait))

    def force_open(self) -> None:
        """Let nobody pass until `reset`."""
        self._act(lambda core, now: core.hold(CircuitState.FORCED_OPEN, now))

    def disable(self) -> None:
        """Let everybody pass and look at nothing until `reset`."""
        self._act(lambda core, now: core.hold(CircuitState.DISABLED, now))

    def metrics_only(self) -> None:
        """Let everybody pass, keep counting, and tell once when the circuit would have opened; until `reset`."""
        self._act(lambda core, now: core.hold(CircuitState.METRICS_ONLY, now))

    def isolate(self) -> Isolation:
        """Shut the circuit until the returned handle is released; with several handles, until the last one is."""
        from finresilience.policies.isolation import Isolation

        self._act(lambda core, _: core.isolate())
        return Isolation(self)

    def rejoin(self) -> None:
        """End one isolation. Internal: handles call it, once each."""
        self._act(lambda core, now: core.rejoin(now))

    def _act(self, deed: Callable[[BreakerCore, float], None]) -> None:
        with self._lock:
            deed(self.core, self._now())
            news = self._news()
        self._tell(news)

    # --- what it knows ---------------------------------------------------------------------------------------------

    @property
    def state(self) -> CircuitState:
        """The state now. Looking changes nothing: an open circuit whose time is over is open until somebody asks to pass."""
        return self.core.state

    def statistics(self) -> dict[str, object]:
        """Return what stands in the window and what has been since the start."""
        with self._lock:
            now, core = self._now(), self.core
            window = core.window
            tally = window.tally(now) if window is not None else None
            live = (window.ok, window.failed, window.slow) if window is not None else (0, 0, 0)
            return {
                "name": self.name,
                "state": core.state.value,
                "generation": core.generation,
                "retry_after": core.retry_after(now),
                "window": {"calls": tally.calls, "failures": tally.failures, "slow": tally.slow} if tally else None,
                "succeeded": core.ok + live[0],
                "failed": core.failed + live[1],
                "slow": core.slow + live[2],
                "refused": core.refused,
                "late": core.late,
                "listener_failures": self._publish.failures,
            }

    def snapshot(self) -> dict[str, object]:
        """Return what another process needs to go on from here, as JSON-ready data: ages and counts, and the UTC time taken."""
        with self._lock:
            saved = self.core.save(self._now())
        return {"name": self.name, "taken": self._clock.utc().isoformat(), **saved}

    def restore(self, snapshot: Mapping[str, object]) -> None:
        """Go on from where `snapshot` was taken. A half-open circuit comes back open and ready to probe.

        An open one waits out the rest, and no longer than its own `OpenFor.cap`: what shall hold for longer is `force_open`.

        Raises:
            ConfigurationError: if it is not a snapshot; the circuit is left as it was.
        """
        from finresilience.policies.snapshot import checked_snapshot

        saved = checked_snapshot(snapshot, cap=self.core.settings.open_for.cap)
        self._act(lambda core, now: core.load(now, **saved))

    def per(self, key: Callable[..., Hashable], *, at_most: int) -> PerKey:
        """Return a policy that keeps one such breaker for each `key(*args, **kwargs)` of its calls.

        Args:
            key: from the call's arguments to what names the circuit, such as the provider.
            at_most: how many breakers are kept; the least recently used closed one makes room.
        """
        from finresilience.policies.per import PerKey

        return PerKey(self, key, at_most=at_most)

    def _news(self) -> tuple[Change | Note, ...]:
        news = self.core.news
        if news:
            self.core.news = ()
        return news

    def _tell(self, news: tuple[Change | Note, ...]) -> None:
        if news:
            from finresilience.policies.news import event_of

            for item in news:
                self._publish(event_of(self.name, item))
