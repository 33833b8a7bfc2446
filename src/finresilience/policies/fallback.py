"""Fallback: something sensible instead of an error, where that is no lie."""

from __future__ import annotations

from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, final

from finresilience.context import current, current_reference, leave, stood_in_inside
from finresilience.cores.last_good import Answers
from finresilience.errors import DecorationError, UnknownOutcomeError
from finresilience.events import CallAbandoned, FallbackUsed, OutcomeUnknown, log_event
from finresilience.outcome import UNKNOWN, Declined, Effect, Ok, Outcome, Refused, Stale, Unknown
from finresilience.policies.decorate import not_a_value
from finresilience.policies.guarding import Guarding, checked_rules
from finresilience.policies.last_good import LastGood, own_copy
from finresilience.policies.limits import AsyncLimit, after_expiry
from finresilience.policies.plan import Plan
from finresilience.policies.standing_in import (
    KINDS,
    UNSET,
    check,
    checked,
    ends_of,
    intent_may_be_recorded,
    note,
    one_of,
    own_time,
    stand_in,
    why_not,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterable

    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.clock import Clock
    from finresilience.events import Listener

__all__ = ["Fallback", "LastGood"]


@final
class Fallback(Guarding):
    """Answer in the place of a call that was refused or failed; never in the place of one that may have moved money.

    Exactly one of `value`, `function`, `last_good`, `translate` and `pending`. The first three make up an answer, so they are for a
    READ only. What they give is marked: `Ok.fallback` says how old it is and what it stands in for.

    Args:
        value: the answer itself. A list, dict or set is copied for each call.
        function: called with the outcome and the call's arguments; what it returns is the answer. Async where the call is, if you like.
        last_good: give the last good answer to the same question, see `LastGood`.
        translate: from the error to an exception of your own, a new one each time; None leaves the error as it is. The outcome stays
            what it was: an unknown may only become an exception that your rules still call UNKNOWN.
        pending: for a call that moves money and surely has not: called with the outcome and the arguments, it records the intent, durably,
            under `current_key()`, and returns what says "accepted, pending". Never asked where the outcome is unknown or a no.
        mark: from the answer and its `Stale` to the answer as the plain call returns it.
        on_declined: True to take a no for a failure as well.
        effect: what happens if the call is carried out twice, where the policy stands alone.
        classify: rules of your own, where the policy stands alone.
        name: shown in notes and errors.
        clock: tells the time.
        listeners: hear every event.

    Raises:
        ConfigurationError: if an argument cannot work, or would invent an answer about money; the message says why.
    """

    __slots__ = (
        "_answers",
        "_classify",
        "_effect",
        "_failures",
        "_give",
        "_is_async",
        "_last_good",
        "_mark",
        "_stands_for",
        "_used",
        "kind",
    )
    role = "Fallback"

    def __init__(
        self,
        *,
        value: Any = UNSET,
        function: Callable[..., Any] | None = None,
        last_good: LastGood | None = None,
        translate: Callable[[Exception], Exception | None] | None = None,
        pending: Callable[..., Any] | None = None,
        mark: Callable[[Any, Stale], Any] | None = None,
        on_declined: bool = False,
        effect: Effect | None = None,
        classify: ErrorClassifier | None = None,
        name: str = "fallback",
        clock: Clock | None = None,
        listeners: Iterable[Listener] = (log_event,),
    ) -> None:
        super().__init__(name, clock=clock, listeners=listeners)
        given: dict[str, Any] = dict(zip(KINDS, (value, function, last_good, translate, pending), strict=True))
        self.kind: str = one_of(given)
        self._give: Any = given[self.kind]
        self._mark: Callable[[Any, Stale], Any] | None = mark
        self._is_async: bool = checked(self.kind, self._give, mark)
        self._last_good: LastGood | None = last_good
        self._answers: Answers | None = None if last_good is None else Answers(max_age=last_good.max_age, at_most=last_good.at_most)
        self._stands_for: tuple[type[object], ...] = ends_of(self.kind, on_declined=on_declined)
        self._used = self._failures = 0
        self._effect = effect
        self._classify = checked_rules(classify)
        self._own_plan = None
        if effect is not None:
            self.check(effect)

    def check(self, effect: Effect) -> None:
        """Let a call of this effect have this fallback, or say why not. A `Pipeline` asks when it is made.

        Raises:
            ConfigurationError: if the answer would be invented, or there is no intent to record.
        """
        check(self.kind, effect)

    def _planned(self) -> Plan:
        effect = Effect.UNSAFE if self._effect is None else self._effect
        self.check(effect)
        return Plan(self, stages=(self,), classifier=self._classify, effect=effect)

    def _check_sync(self) -> None:
        if self._is_async:
            message = f"{self.kind}= of {self.name} is async and the guarded function is not, so nobody could await it: make it plain too"
            raise DecorationError(message)

    # --- round a call ----------------------------------------------------------------------------------------------

    def around(self, plan: Plan, go: Callable[[], Outcome[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome[Any]:
        """Return how the call ended, or what stands in for it."""
        self._check_sync()
        began, question = self._question(plan, args, kwargs)
        outcome = go()
        try:
            if not self._asked(outcome):
                return self._learned(plan, outcome, question, began)
            if not self._calls_out:
                return self._at_once(plan, outcome, question)
            token = current.set(own_time(plan))
            try:
                answer = self._give(outcome, *args, **kwargs)
                if hasattr(type(answer), "__await__"):
                    raise not_a_value(f"{self.kind}= of {self.name}", answer)
            except Exception as trouble:
                return self._no_answer(plan, outcome, trouble)
            except BaseException:
                self._abandoned(plan)
                raise
            finally:
                leave(token)
            return outcome if answer is outcome else self._stood_in(plan, outcome, answer, 0.0)
        finally:
            del outcome  # the error's traceback keeps this frame

    async def aaround(
        self, plan: Plan, go: Callable[[], Awaitable[Outcome[Any]]], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Outcome[Any]:
        """Return how the call ended, or what stands in for it."""
        began, question = self._question(plan, args, kwargs)
        answer: Any = None
        outcome = await go()
        try:
            if not self._asked(outcome):
                return self._learned(plan, outcome, question, began)
            if not self._calls_out:
                return self._at_once(plan, outcome, question)
            own, owner = own_time(plan), plan.owner
            limit = inf if own.deadline is None else own.deadline
            span = AsyncLimit(owner.name, clock=owner._clock, limit=limit, now=owner._now(), exact=False)
            token = current.set(own)
            try:
                with span:
                    answer = self._give(outcome, *args, **kwargs)
                    if hasattr(type(answer), "__await__"):
                        answer = await answer
            except Exception as trouble:
                return self._no_answer(plan, outcome, after_expiry(plan, trouble, span.expired()) if span.late else trouble)
            except BaseException:
                self._abandoned(plan)
                raise
            finally:
                leave(token)
            return outcome if answer is outcome else self._stood_in(plan, outcome, answer, 0.0)
        finally:
            del outcome  # the error's traceback keeps this frame

    @property
    def _calls_out(self) -> bool:
        return self.kind in {"function", "pending"}

    def _asked(self, outcome: Outcome[Any]) -> bool:
        """Return whether this end is one to stand in for."""
        return isinstance(outcome, self._stands_for) and (self.kind != "pending" or intent_may_be_recorded(outcome))

    def _at_once(self, plan: Plan, outcome: Any, question: Hashable | None) -> Outcome[Any]:
        if self.kind == "translate":
            return self._translated(plan, outcome)
        try:
            if self._answers is None:
                return self._stood_in(plan, outcome, own_copy(self._give), 0.0)
            with self._lock:
                found = None if question is None else self._answers.find(question, plan.owner._now())
            if found is not None:
                return self._stood_in(plan, outcome, own_copy(found[1]), found[0])
        except Exception as trouble:
            return self._no_answer(plan, outcome, trouble)
        why = "this question has no key" if question is None else "there is none that is young enough"
        note(outcome.error, self._speaker, f"no last good answer, {why}")
        return outcome  # type: ignore[no-any-return]  # as it came

    # --- the last good answers --------------------------------------------------------------------------------------

    def _question(self, plan: Plan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[float, Hashable | None]:
        """Return when the call began and what it asks: asked before the call, which may change its arguments."""
        if self._last_good is None:
            return 0.0, None
        asks = self._last_good.question(args, kwargs)
        return plan.owner._now(), None if asks is None else (plan.owner, asks)

    def _learned(self, plan: Plan, outcome: Outcome[Any], question: Hashable | None, began: float) -> Outcome[Any]:
        if self._answers is None or question is None:
            return outcome
        with suppress(Exception):  # an answer that cannot be copied, or found again, is an answer all the same
            if isinstance(outcome, Ok) and outcome.fallback is None:
                answer = own_copy(outcome.value)
                with self._lock:
                    self._answers.keep(question, answer, began=began, now=plan.owner._now())
            elif isinstance(outcome, Declined):
                with self._lock:
                    self._answers.forget(question, began=began)
        return outcome

    def clear(self) -> None:
        """Forget every last good answer."""
        if self._answers is not None:
            with self._lock:
                self._answers.clear()

    # --- how it ends -------------------------------------------------------------------------------------------------

    def _stood_in(self, plan: Plan, outcome: Any, answer: Any, age: float) -> Outcome[Any]:
        """Return the answer, marked, and tell of it; a mark that fails leaves the outcome as it was."""
        ok, stale = stand_in(answer, age, outcome)
        if self._mark is not None:
            try:
                ok.value = self._mark(answer, stale)
            except Exception as trouble:
                return self._no_answer(plan, outcome, trouble, argument="mark")
        self._used += 1
        if plan.effect is not Effect.READ:
            stood_in_inside()
        owner = plan.owner
        owner._publish(FallbackUsed(name=owner.name, kind=self.kind, age=age, instead_of=stale.reason, reference=current_reference()))
        return ok

    def _no_answer(self, plan: Plan, outcome: Any, trouble: Exception, *, argument: str | None = None) -> Outcome[Any]:
        """Let the outcome stand, with a note; but an intent that may have been recorded may still be carried out."""
        self._failures += 1
        try:
            if self.kind == "pending" and _may_be_recorded(plan, trouble, argument):
                return self._in_doubt(plan, outcome, trouble)
            note(outcome.error, self._speaker, f"{argument or self.kind}= raised {type(trouble).__name__}, so the outcome stands")
            return outcome  # type: ignore[no-any-return]  # as it came
        finally:
            del outcome, trouble

    def _in_doubt(self, plan: Plan, outcome: Any, trouble: Exception) -> Unknown:
        owner, tries = plan.owner, int(not isinstance(outcome, Refused))
        name, reference = type(trouble).__name__, current_reference()
        unknown = UnknownOutcomeError(
            owner.name,
            attempts=tries,
            happened=f"{name} while its intent was being recorded",
            held_back="The call itself surely did not happen, but if the intent was recorded, it will.",
            reference=reference,
        )
        unknown.__cause__ = trouble
        owner._publish(OutcomeUnknown(name=owner.name, attempts=tries, error_type=name, reference=reference))
        return Unknown(unknown)

    def _abandoned(self, plan: Plan) -> None:
        """Tell that somebody outside cancelled the recording of an intent (law 4). Nothing else here moves anything."""
        if self.kind == "pending":
            plan.owner._publish(CallAbandoned(name=plan.owner.name, attempt=1, ran=None, reference=current_reference()))

    def _translated(self, plan: Plan, outcome: Any) -> Outcome[Any]:
        error: Exception = outcome.error
        try:
            try:
                other = self._give(error)
            except Exception as trouble:
                return self._no_answer(plan, outcome, trouble)
            if other is None or other is error:
                return outcome  # type: ignore[no-any-return]  # as it came
            wrong = why_not(plan, outcome, error, other)
            if wrong is None:
                self._used += 1
                return type(outcome)(other)  # type: ignore[no-any-return]  # the same end, in other words
            self._failures += 1
            note(error, self._speaker, f"translate= {wrong}")
            return outcome  # type: ignore[no-any-return]  # as it came
        finally:
            del outcome, error

    @property
    def _speaker(self) -> str:
        return f"{self.name} ({self.kind}=)"

    def statistics(self) -> dict[str, int]:
        """Return how often it stood in, how often it could not, how many last good answers it keeps, and how its calls ended alone."""
        with self._lock:
            kept = 0 if self._answers is None else len(self._answers)
        ends = {} if self._own_plan is None else self._own_plan.ends.as_dict()
        return {**ends, "used": self._used, "failures": self._failures, "kept": kept}


def _may_be_recorded(plan: Plan, trouble: Exception, argument: str | None) -> bool:
    """Return whether the intent may stand in a book although its recording, or what came after it, went wrong."""
    from finresilience.classify.evidence import instead_of_cancellation

    return argument is not None or instead_of_cancellation(trouble) or plan.classifier.error(trouble).classification is UNKNOWN
