"""Hedge: send a slow call a second time, where twice is once, and take whichever answer comes first."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, NoReturn, final

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.context import current, current_reference
from finresilience.cores.hedge import Latencies, Quantile, Race
from finresilience.cores.retry import may_repeat
from finresilience.errors import ConfigurationError, DecorationError, UnknownOutcomeError
from finresilience.events import CallAbandoned, CallHedged, log_event
from finresilience.outcome import Declined, Effect, Failed, Ok, Outcome, Unknown
from finresilience.policies.guarding import Guarding, checked_rules
from finresilience.policies.plan import Plan
from finresilience.policies.retry import deposit, withdraw

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from datetime import timedelta

    from anyio import Event
    from anyio.abc import TaskGroup

    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.clock import Clock
    from finresilience.cores.budget import Budget
    from finresilience.events import Listener

__all__ = ["Hedge", "Quantile"]


@final
class Hedge(Guarding):
    """Send another arm of a call that takes long, take the first answer, and stop the rest.

    For a READ or an IDEMPOTENT call: the arms carry one key. For async functions only: the loser of a race must be stopped, and a thread
    cannot be. Each arm is a whole call with its breaker, its retries and its limits, in a task of its own; no task outlives the call.
    An arm that fails does not end the call while another is under way, and lets the next one start at once.

    Args:
        after: how long an arm is waited for before the next one is sent: seconds, or a `Quantile` of the last calls. One Hedge is for one
            operation then: its calls take alike.
        extra: how many arms may follow the first.
        budget: a `TokenBudget` or `RatioBudget`: an arm costs what a retry does. Give it to `Retry` too, to share it.
        effect: what happens if the call is carried out twice, where the policy stands alone.
        classify: rules of your own, where the policy stands alone.
        name: shown in notes, errors and events.
        clock: tells the time.
        listeners: hear every event.

    Raises:
        ConfigurationError: if an argument cannot work, or twice is twice; the message says why.
    """

    __slots__ = ("_classify", "_denied", "_effect", "_hedged", "_latencies", "_won", "after", "budget", "extra")
    role = "Hedge"

    def __init__(
        self,
        after: float | timedelta | Quantile,
        *,
        extra: int = 1,
        budget: Budget | None = None,
        effect: Effect | None = None,
        classify: ErrorClassifier | None = None,
        name: str = "hedge",
        clock: Clock | None = None,
        listeners: Iterable[Listener] = (log_event,),
    ) -> None:
        super().__init__(name, clock=clock, listeners=listeners)
        self.after: float | Quantile = after if isinstance(after, Quantile) else seconds_of("after", after, zero=True)
        self.extra: int = positive_count("extra", extra, most=10)
        if budget is not None and not callable(getattr(budget, "withdraw", None)):
            refuse("budget", budget, "a TokenBudget or a RatioBudget")
        self.budget: Budget | None = budget
        self._latencies: Latencies | None = Latencies(after) if isinstance(after, Quantile) else None
        self._hedged = self._won = self._denied = 0
        self._effect = effect
        self._classify = checked_rules(classify)
        self._own_plan = None
        if effect is not None:
            self.check(effect)

    def check(self, effect: Effect) -> None:
        """Let a call of this effect be hedged, or say why not. A `Pipeline` asks when it is made.

        Raises:
            ConfigurationError: if the call is UNSAFE.
        """
        if not isinstance(effect, Effect):
            refuse("effect", effect, "an Effect, such as Effect.READ")
        if not effect.repeatable:
            message = (
                "a Hedge sends a call twice, and this one is UNSAFE: twice is twice, so it could move the money twice.\n"
                "  Declare effect=Effect.READ, or Effect.IDEMPOTENT with a key that the provider recognises; or leave the Hedge out."
            )
            raise ConfigurationError(message)

    def _planned(self) -> Plan:
        effect = Effect.UNSAFE if self._effect is None else self._effect
        self.check(effect)
        return Plan(self, hedge=self, classifier=self._classify, effect=effect)

    def _check_sync(self) -> None:
        raise self._no_sync()

    def _no_sync(self) -> DecorationError:
        return DecorationError(f"{self.name} hedges async functions only: the loser of a race must be stopped, and a thread cannot be")

    def around(
        self,
        plan: Plan,  # noqa: ARG002 - what a stage is told
        go: Callable[[], Outcome[Any]],  # noqa: ARG002 - as above
        args: tuple[Any, ...],  # noqa: ARG002 - as above
        kwargs: dict[str, Any],  # noqa: ARG002 - as above
    ) -> Outcome[Any]:
        """Refuse: a plain function cannot be hedged.

        Raises:
            DecorationError: always, before anything is sent.
        """
        raise self._no_sync()

    async def aaround(
        self,
        plan: Plan,
        go: Callable[[], Awaitable[Outcome[Any]]],
        args: tuple[Any, ...],  # noqa: ARG002 - what a stage is told
        kwargs: dict[str, Any],  # noqa: ARG002 - as above
    ) -> Outcome[Any]:
        """Return how the call ended: the join over its arms."""
        return await _Hedged(self, plan, go).run()

    # --- what the calls share ------------------------------------------------------------------------------------------

    @property
    def delay(self) -> float | None:
        """How long an arm is waited for now, in seconds; None while too few calls are known."""
        if self._latencies is None:
            assert not isinstance(self.after, Quantile)  # noqa: S101 - it would have latencies
            return self.after
        with self._lock:
            return self._latencies.delay

    def note(self, seconds: float) -> None:
        """Note how long a first arm took, at least."""
        if self._latencies is not None:
            with self._lock:
                self._latencies.note(seconds)

    def deposit(self, plan: Plan, now: float, *, succeeded: bool) -> None:
        """Note in the budget a call that begins or that succeeded, unless the Retry inside shares it and does so itself."""
        if plan.retry is None or plan.retry.budget is not self.budget:
            deposit(self.budget, now, succeeded=succeeded)

    def may_start(self, now: float) -> bool:
        """Pay for one more arm, or return False: the deadline is past, or a budget is spent."""
        context = current.get()
        if context is not None and context.deadline is not None and now >= context.deadline:
            return False
        paid = withdraw(self.budget, now)
        if paid and context is not None and context.budget is not None:
            paid = context.budget.spend()
        self._denied += not paid
        return paid

    def tell(self, plan: Plan, race: Race, winner: int | None) -> None:
        """Count and tell of every arm beyond the first."""
        owner, began, reference = plan.owner, race.starts[0] if race.starts else 0.0, current_reference()
        for number, start in enumerate(race.starts[1:], start=2):
            self._hedged += 1
            self._won += number == winner
            owner._publish(CallHedged(name=owner.name, arm=number, after=start - began, won=number == winner, reference=reference))

    def statistics(self) -> dict[str, float | None]:
        """Return how many further arms were sent, won and were denied by a budget, the delay now, and how its calls ended alone."""
        ends = {} if self._own_plan is None else self._own_plan.ends.as_dict()
        return {**ends, "hedged": self._hedged, "won": self._won, "denied": self._denied, "delay": self.delay}


@final
class _Hedged:
    """One call and its arms. It asks the race what to do, does it, and leaves no task behind."""

    __slots__ = ("_alarm", "_broken", "_cancelled", "_go", "_hedge", "_news", "_plan", "_race", "_settled", "_stray")

    def __init__(self, hedge: Hedge, plan: Plan, go: Callable[[], Awaitable[Outcome[Any]]]) -> None:
        context, now = current.get(), plan.owner._now()
        keyed = context is not None and context.key is not None and (plan.key_of is not None or plan.effect is Effect.IDEMPOTENT)
        self._hedge = hedge
        self._plan = plan
        self._go = go
        self._race = Race(began=now, after=hedge.delay, extra=hedge.extra, effect=plan.effect, keyed=keyed)
        self._news: Event | None = None
        self._alarm = inf  # when the alarm that was set last will ring
        self._broken: BaseException | None = None  # what an arm raised that is no outcome
        self._stray: BaseException | None = None  # a cancellation that came out of an arm, though nobody outside cancelled us
        self._settled = False  # whether the arms that still run were told to stop
        hedge.deposit(plan, now, succeeded=False)

    async def run(self) -> Outcome[Any]:
        """Run the race to its end, and keep nothing of it."""
        try:
            return await self._run()
        finally:
            self._race.forget()

    async def _run(self) -> Outcome[Any]:
        from anyio import create_task_group, get_cancelled_exc_class

        race, hedge, plan = self._race, self._hedge, self._plan
        self._cancelled = get_cancelled_exc_class()
        try:
            async with create_task_group() as arms:
                await self._watch(arms)
                self._settle(arms)
        except self._cancelled:
            self._abandoned()
            raise
        # With an answer in hand only what is no Exception may take its place.
        if (self._broken or self._stray) is not None and (race.winner is None or not isinstance(self._broken, Exception | None)):
            self._raise()
        winner, outcome = race.end()
        if isinstance(outcome, Ok):
            hedge.deposit(plan, plan.owner._now(), succeeded=True)
        hedge.tell(plan, race, winner)
        return outcome

    async def _watch(self, arms: TaskGroup) -> None:
        """Start arms when their time has come, until the race is over or something is broken."""
        from anyio import Event

        race, now = self._race, self._plan.owner._now
        while self._broken is None and self._stray is None and (wait := race.wait(now())) is not None:
            if wait > 0.0:
                self._news = Event()
                self._set_alarm(arms, wait)
                await self._news.wait()
            elif race.starts and not self._hedge.may_start(now()):
                race.no_more()
            else:
                arms.start_soon(self._arm, race.start(now()))

    def _set_alarm(self, arms: TaskGroup, wait: float) -> None:
        if wait < inf and self._alarm != self._race.due:
            self._alarm = self._race.due
            arms.start_soon(self._ring, wait)

    async def _ring(self, wait: float) -> None:
        try:
            await self._plan.owner._clock.sleep(wait)
        except Exception as error:  # a clock that cannot wait: the call ends by it, as it would in a retry
            self._broken = error
        self._alarm = inf
        self._wake()

    def _wake(self) -> None:
        assert self._news is not None  # noqa: S101 - nobody runs before the watch first waits
        self._news.set()

    async def _arm(self, number: int) -> None:
        try:
            self._ended(number, await self._go())  # in no variable of this frame, which the traceback of an error may hold
        except BaseException as error:
            if not isinstance(error, self._cancelled):
                self._broken = self._broken or error
                return
            if self._settled:  # stopped by us. Passed on, its traceback would keep the call's arguments until the collector comes
                return
            self._stray = self._stray or error
            raise
        finally:
            self._wake()

    def _ended(self, number: int, outcome: Outcome[Any]) -> None:
        race, now = self._race, self._plan.owner._now()
        race.ended(number, outcome, now, again=_again(self._plan, outcome), final=_final(outcome))
        if number == 1 and (isinstance(outcome, Ok | Declined) or len(race.starts) > 1):
            self._hedge.note(now - race.starts[0])  # one that failed before it was slow says nothing of how long an answer takes

    def _settle(self, arms: TaskGroup) -> None:
        """Stop whoever still runs. With an answer in hand they are beaten, not abandoned, and nobody can take it away any more."""
        race, context = self._race, current.get()
        if race.winner is not None:
            if race.running(1):
                self._hedge.note(self._plan.owner._now() - race.starts[0])
            assert context is not None  # noqa: S101 - a hedge stands inside the context of its whole call
            context.won = True
            arms.cancel_scope.shield = True
        self._settled = True
        arms.cancel_scope.cancel()

    def _abandoned(self) -> None:
        """Tell of arms that had ended in doubt when somebody outside cancelled the call; arms under way tell of themselves (law 4)."""
        plan, race = self._plan, self._race
        if race.in_doubt and plan.speaks:
            ran = plan.owner._now() - race.starts[0]
            plan.owner._publish(CallAbandoned(name=plan.owner.name, attempt=len(race.starts), ran=ran, reference=current_reference()))
        self._hedge.tell(plan, race, None)

    def _raise(self) -> NoReturn:
        """Raise what came out of an arm and is no outcome."""
        self._abandoned()
        error = self._broken or self._stray
        self._broken = self._stray = None
        assert error is not None  # noqa: S101 - asked by whoever saw one
        try:
            raise error
        finally:
            del error


def _again(plan: Plan, outcome: Outcome[Any]) -> bool:
    """Return whether another arm may help: not where our own code is at fault."""
    if not isinstance(outcome, Failed | Unknown):
        return False
    error = outcome.error
    cause = error.__cause__ if isinstance(error, UnknownOutcomeError) else error
    try:
        return not isinstance(cause, Exception) or may_repeat(plan.classifier.error(cause), plan.effect) is None
    finally:
        del error, cause


def _final(outcome: Outcome[Any]) -> bool:
    """Return whether a no is the provider's word on the call itself."""
    if not isinstance(outcome, Declined):
        return False
    from finresilience.classify.evidence import speaks_of_the_call

    return speaks_of_the_call(outcome.error if outcome.value is None else outcome.value)
