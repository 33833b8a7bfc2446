"""The pipeline: policies in an order that makes sense, analysed before the first call, fused into one guard."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, final

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.errors import ConfigurationError, DecorationError
from finresilience.events import log_event
from finresilience.outcome import Effect
from finresilience.policies.decorate import Kind, kind_of
from finresilience.policies.guarding import Guarding, checked_rules
from finresilience.policies.order import check_effect, placed, planned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta

    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.clock import Clock
    from finresilience.events import Listener
    from finresilience.policies.base import F, Policy
    from finresilience.policies.explain import Explanation
    from finresilience.policies.plan import Ends


@final
class Pipeline(Guarding):
    """Guard calls to one operation of one provider by several policies that know of each other.

    The breaker is told of each attempt and asked again before each retry; permits are settled before any wait; every
    attempt is held to the deadline; the call ends by the join over its attempts.

    Args:
        name: the operation, such as "acme.charge". Idempotency keys are derived from it: renaming it changes them.
        policies: outermost first: Fallback, RateLimiter (fairness), Hedge, CircuitBreaker, Retry, RateLimiter (the provider's
            quota, for each attempt), Bulkhead, Timeout, and in tests Chaos, innermost; each at most once in its place. One limiter
            with neither hedge, breaker nor retry inside of it is the quota.
        classify: what errors and answers mean; inherited by the policies. By default `payments_classifier()`.
        deadline: seconds for the whole call, waits included; an outer, earlier deadline stays in force.
        effect: what happens if the call is carried out twice.
        key: from the call's arguments to its idempotency key: stable for the intent, asked once per call.
        reference: from the call's arguments to your own reference of it, for events, logs and inquiries.
        marks_sent: True where the function calls `mark_sent()` before anything leaves: what fails earlier is known not applied.
        inner_attempts: how many attempts the client inside makes by itself; more than one is warned about.
        allow_order: True to take another order, with all that follows: the policies then nest plainly where they leave the order above,
            and those inside are no longer told what those outside do.
        clock: tells the time, to every policy that was given no clock of its own; by default the one that a policy was given.
        listeners: hear every event.

    Raises:
        ConfigurationError: if an argument cannot work, or the order is dangerous; the message says why.
    """

    __slots__ = ("_inner_attempts", "_siblings", "_sync_guarded", "policies")

    def __init__(
        self,
        name: str,
        /,
        *policies: Policy,
        classify: ErrorClassifier | None = None,
        deadline: float | timedelta | None = None,
        effect: Effect = Effect.UNSAFE,
        key: Callable[..., str | None] | None = None,
        reference: Callable[..., str | None] | None = None,
        marks_sent: bool = False,
        inner_attempts: int = 1,
        allow_order: bool = False,
        clock: Clock | None = None,
        listeners: Iterable[Listener] = (log_event,),
    ) -> None:
        if clock is None:  # one clock must rule the whole call
            clock = next((policy._clock for policy in policies if isinstance(policy, Guarding) and policy._own_clock), None)
        super().__init__(name, clock=clock, listeners=listeners)
        self.policies: tuple[Policy, ...] = policies
        self._inner_attempts = positive_count("inner_attempts", inner_attempts, most=1000)
        self._sync_guarded = False
        places = placed(policies, allow_order=allow_order)
        if not isinstance(effect, Effect):
            refuse("effect", effect, "an Effect, such as Effect.IDEMPOTENT")
        for argument, function in (("key", key), ("reference", reference)):
            if function is not None and not callable(function):
                refuse(argument, function, "a function of the call's arguments, such as lambda req: req.payment_id")
        for argument, flag in (("marks_sent", marks_sent), ("allow_order", allow_order)):
            if not isinstance(flag, bool):
                refuse(argument, flag, "True or False")
        if clock is not None:
            for policy in policies:
                policy.adopt(clock)
        self._siblings: dict[Effect, Sibling] = {}
        self._own_plan = planned(
            places,
            owner=self,
            effect=effect,
            classifier=checked_rules(classify),
            marks_sent=marks_sent,
            key_of=key,
            reference_of=reference,
            deadline=inf if deadline is None else seconds_of("deadline", deadline),
        )

    def _decorate(self, fn: F) -> F:
        lone = self._plan.breaker if len(self.policies) == 1 and self._plan.light else None
        if lone is not None and kind_of(fn) in {Kind.GENERATOR, Kind.ASYNC_GENERATOR}:
            return lone._decorate(fn)
        return super()._decorate(fn)

    def _check_sync(self) -> None:
        if self._plan.hedge is not None:
            message = (
                f"{self.name} has a Hedge, which guards async functions only: the loser of a race must be stopped, and a thread cannot be"
            )
            raise DecorationError(message)
        self._sync_guarded = True
        if self._plan.inquiry is not None and self._plan.inquiry.is_async:
            raise _mixed(self.name)

    def inquiry(self, *, schedule: Iterable[float | timedelta]) -> Callable[[F], F]:
        """Return a decorator for the function that asks the provider, by your own reference, when the outcome is unknown.

        It takes the call's arguments and returns `Found(answer)`, `NotFound()` or `StillUnknown()`. It runs outside the call's
        deadline, within the deadline of whoever called, and past the breaker: asking moves no money.

        Args:
            schedule: waits in seconds before each ask.

        Raises:
            ConfigurationError: for an unusable schedule, or a second inquiry.
        """
        from finresilience.policies.inquiry import Inquiry, checked_schedule

        waits = checked_schedule(schedule)

        def register(fn: F) -> F:
            if self._plan.inquiry is not None:
                message = f"{self.name} has an inquiry already: one function asks for one operation"
                raise ConfigurationError(message)
            is_async = kind_of(fn) is Kind.ASYNC
            if is_async and self._sync_guarded:
                raise _mixed(self.name)
            self._plan.inquiry = Inquiry(fn, waits, is_async=is_async)
            for sibling in self._siblings.values():
                sibling._plan.inquiry = self._plan.inquiry
            return fn

        return register

    def _with_effect(self, effect: Effect) -> Pipeline | Sibling:
        """Return what guards calls of another effect by these same policies. Internal: a client learns the effect from each request."""
        if effect is self._plan.effect:
            return self
        if effect not in self._siblings:
            self._siblings[effect] = Sibling(self, effect)
        return self._siblings[effect]

    def explain(self, *, workers: int = 1) -> Explanation:
        """Return what can happen at worst: latency, attempts, amplification, and what to worry about.

        Args:
            workers: how many processes run this pipeline.
        """
        from finresilience.policies.explain import explain

        plan = self._plan
        return explain(self.name, plan, inner_attempts=self._inner_attempts, workers=positive_count("workers", workers))

    def statistics(self) -> dict[str, int]:
        """Return how the calls of this pipeline ended, and how often a listener failed."""
        return {**self._plan.ends.as_dict(), "listener_failures": self._publish.failures}

    @property
    def ends(self) -> Ends:
        """How many calls ended how, live."""
        return self._plan.ends

    @classmethod
    def from_toml(cls, path: str, name: str, **rules: Any) -> Pipeline:
        """Return the pipeline that `[pipelines."name"]` of a TOML file describes; `rules` adds what data cannot say (key, classify...).

        Raises:
            ConfigurationError: if the file says anything unknown or unusable.
        """
        from finresilience.policies.config import PipelineConfig

        return PipelineConfig.from_toml(path, name).build(**rules)


@final
class Sibling(Guarding):
    """A pipeline's policies for calls of another effect: the same breaker, budgets and places, and the same counts."""

    __slots__ = ("_pipeline",)

    def __init__(self, pipeline: Pipeline, effect: Effect) -> None:
        super().__init__(pipeline.name, clock=pipeline._clock if pipeline._own_clock else None, listeners=pipeline._publish.listeners)
        self._pipeline = pipeline
        self._own_plan = pipeline._plan.sibling(effect=effect)
        check_effect(self._own_plan)

    def _check_sync(self) -> None:
        self._pipeline._check_sync()


def _mixed(name: str) -> ConfigurationError:
    return ConfigurationError(f"{name} guards plain functions, which cannot await an async inquiry: make the inquiry a plain function too")
