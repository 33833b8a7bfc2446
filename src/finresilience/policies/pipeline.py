"""The pipeline: policies in an order that makes sense, analysed before the first call, fused into one guard."""

from __future__ import annotations

from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Any, Final, final

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.errors import ConfigurationError
from finresilience.events import log_event
from finresilience.outcome import Effect
from finresilience.policies.decorate import Kind, kind_of
from finresilience.policies.guarding import Guarding, checked_rules
from finresilience.policies.plan import Ends, Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta

    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.clock import Clock
    from finresilience.events import Listener
    from finresilience.policies.base import F, Policy
    from finresilience.policies.breaker import CircuitBreaker
    from finresilience.policies.explain import Explanation
    from finresilience.policies.per import PerKey
    from finresilience.policies.retry import Retry
    from finresilience.policies.timeout import Timeout

# The roles from outside to inside, with the reason why each stands outside the next.
_ORDER: Final = {
    "CircuitBreaker": "an open circuit must not be retried against",
    "Retry": "each attempt needs a limit of its own",
    "Timeout": "",
}
_ROLES: Final = tuple(_ORDER)


@final
class Pipeline(Guarding):
    """Guard calls to one operation of one provider by several policies that know of each other.

    The breaker is told of each attempt and asked again before each retry; permits are settled before any wait; every
    attempt is held to the deadline; the call ends by the join over its attempts.

    Args:
        name: the operation, such as "acme.charge". Idempotency keys are derived from it: renaming it changes them.
        policies: outermost first: CircuitBreaker, Retry, Timeout; each at most once.
        classify: what errors and answers mean; inherited by the policies. By default `payments_classifier()`.
        deadline: seconds for the whole call, waits included; an outer, earlier deadline stays in force.
        effect: what happens if the call is carried out twice.
        key: from the call's arguments to its idempotency key: stable for the intent, asked once per call.
        reference: from the call's arguments to your own reference of it, for events, logs and inquiries.
        marks_sent: True where the function calls `mark_sent()` before anything leaves: what fails earlier is known not applied.
        inner_attempts: how many attempts the client inside makes by itself; more than one is warned about.
        allow_order: True to take another order, with all that follows.
        clock: tells the time, to every policy that was given no clock of its own; by default the one that a policy was given.
        listeners: hear every event.

    Raises:
        ConfigurationError: if an argument cannot work, or the order is dangerous; the message says why.
    """

    __slots__ = ("_inner_attempts", "_sync_guarded", "policies")

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
        breaker, retry, timeout = _placed(policies, allow_order=allow_order)
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
        self._own_plan = Plan(
            self,
            breaker=breaker,
            retry=retry,
            timeout=timeout,
            classifier=checked_rules(classify),
            effect=effect,
            key_of=key,
            reference_of=reference,
            deadline=inf if deadline is None else seconds_of("deadline", deadline),
            marks_sent=marks_sent,
        )

    def _decorate(self, fn: F) -> F:
        lone = self._plan.breaker if len(self.policies) == 1 and self._plan.light else None
        if lone is not None and kind_of(fn) in {Kind.GENERATOR, Kind.ASYNC_GENERATOR}:
            return lone._decorate(fn)
        return super()._decorate(fn)

    def _check_sync(self) -> None:
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
            return fn

        return register

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


def _placed(policies: tuple[Policy, ...], *, allow_order: bool) -> tuple[CircuitBreaker | PerKey | None, Retry | None, Timeout | None]:
    """Sort the policies into their places, or say why they do not fit."""
    places = [_place(policy) for policy in policies]
    if len(set(places)) < len(places):
        twice = _ROLES[next(place for place in places if places.count(place) > 1)]
        message = f"two of {twice} in one pipeline: put the second into a pipeline of its own, round the first"
        raise ConfigurationError(message)
    for outer, inner in pairwise(places):
        if outer > inner and not allow_order:
            reason = _ORDER[_ROLES[inner]]
            message = f"{_ROLES[inner]} belongs outside {_ROLES[outer]}: {reason} (allow_order=True takes it so)"
            raise ConfigurationError(message)
    by_place: dict[int, Any] = dict(zip(places, policies, strict=True))
    return by_place.get(0), by_place.get(1), by_place.get(2)


def _place(policy: object) -> int:
    role = policy.role if isinstance(policy, Guarding) else ""
    if role not in _ORDER:
        message = f"a Pipeline takes policies ({', '.join(_ROLES)}), outermost first, not a {type(policy).__name__}"
        raise ConfigurationError(message)
    # A breaker keeps its rules for calls outside the pipeline; others would silently lose what they were told.
    own = getattr(policy, "_classify", None) is not None or getattr(policy, "_effect", None) is not None
    if own and role != "CircuitBreaker":
        message = f"{policy!r} has classify= or effect= of its own: give them to the Pipeline, once, and its policies inherit them"
        raise ConfigurationError(message)
    return _ROLES.index(role)


def _mixed(name: str) -> ConfigurationError:
    return ConfigurationError(f"{name} guards plain functions, which cannot await an async inquiry: make the inquiry a plain function too")
