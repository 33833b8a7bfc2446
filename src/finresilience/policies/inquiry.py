"""Did it happen? Ask the provider by our own reference when a call ended unknown."""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar
from math import inf
from typing import TYPE_CHECKING, Any, Final, final

from finresilience.context import CallContext, current, leave
from finresilience.errors import ConfigurationError, UnknownOutcomeError
from finresilience.events import CallAbandoned, InquiryAnswered, OutcomeUnknown
from finresilience.outcome import NON_RETRYABLE, Declined, Failed, Found, NotFound, Ok, Outcome, StillUnknown, Unknown
from finresilience.policies.decorate import Kind, kind_of, not_a_value
from finresilience.policies.limits import AsyncLimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.policies.call import Call
    from finresilience.policies.plan import Plan

_ANSWERS: Final[dict[type[object], str]] = {Found: "found", NotFound: "not_found", StillUnknown: "still_unknown"}


# The inquiries under way: one that is guarded by its own pipeline, and hears nothing, would ask about itself for ever.
_asking: Final[ContextVar[tuple[Inquiry, ...]]] = ContextVar("finresilience.asking", default=())


@final
class Inquiry:
    """Ask after each wait of the schedule until somebody knows.

    Found ends it with what the provider says. NotFound is believed at the last ask only: a provider's inquiry may lag behind its books. An
    ask that fails tells nothing. A call that nobody can tell about stays unknown.
    """

    __slots__ = ("fn", "is_async", "schedule")

    def __init__(self, fn: Callable[..., Any], schedule: tuple[float, ...], *, is_async: bool) -> None:
        if kind_of(fn) in {Kind.GENERATOR, Kind.ASYNC_GENERATOR}:
            message = "a generator cannot be an inquiry: return Found(answer), NotFound() or StillUnknown()"
            raise ConfigurationError(message)
        self.fn: Callable[..., Any] = fn
        self.schedule: tuple[float, ...] = schedule
        self.is_async: bool = is_async

    def ask(self, plan: Plan, call: Call, outcome: Unknown) -> Outcome[Any]:
        """Return what the provider says, or the outcome as it was."""
        if self in _asking.get():
            return outcome
        try:
            for number, wait in enumerate(self.schedule, start=1):
                if not _in_time(plan, wait):
                    break
                plan.owner._clock.sleep_sync(wait)
                known = self._known(plan, call, outcome, self._answer(plan, call), number)
                if known is not None:
                    return known
        except BaseException:
            _abandoned(plan, call, outcome)
            raise
        return unanswered(plan, call, outcome)

    async def aask(self, plan: Plan, call: Call, outcome: Unknown) -> Outcome[Any]:
        """Return what the provider says, or the outcome as it was."""
        if self in _asking.get():
            return outcome
        try:
            for number, wait in enumerate(self.schedule, start=1):
                if not _in_time(plan, wait):
                    break
                await plan.owner._clock.sleep(wait)
                known = self._known(plan, call, outcome, await self._aanswer(plan, call), number)
                if known is not None:
                    return known
        except BaseException:
            _abandoned(plan, call, outcome)
            raise
        return unanswered(plan, call, outcome)

    def _answer(self, plan: Plan, call: Call) -> object:
        token, asking = current.set(_context(plan, call)), _asking.set((*_asking.get(), self))
        try:
            answer: object = self.fn(*call.args, **call.kwargs)
        except Exception:
            return None
        finally:
            leave(token)
            _asking.reset(asking)
        if hasattr(type(answer), "__await__"):  # nobody here can await it
            not_a_value(plan.owner.name, answer)
            return None
        return answer

    async def _aanswer(self, plan: Plan, call: Call) -> object:
        context, answer = _context(plan, call), None
        limit = inf if context.deadline is None else context.deadline
        token, asking = current.set(context), _asking.set((*_asking.get(), self))
        try:
            with AsyncLimit(plan.owner.name, clock=plan.owner._clock, limit=limit, now=plan.owner._now(), exact=False):
                answer = self.fn(*call.args, **call.kwargs)
                if hasattr(type(answer), "__await__"):
                    answer = await answer
        except Exception:
            return None
        finally:
            leave(token)
            with suppress(ValueError):  # as `leave` does
                _asking.reset(asking)
        return answer

    def _known(self, plan: Plan, call: Call, outcome: Unknown, answer: object, number: int) -> Outcome[Any] | None:
        said = _ANSWERS.get(type(answer), "failed")
        owner = plan.owner
        owner._publish(InquiryAnswered(name=owner.name, ask=number, answer=said, reference=call.context.reference))
        known: Outcome[Any] | None = None
        if isinstance(answer, Found):
            known = _found(plan, answer.value)
        elif isinstance(answer, NotFound) and number == len(self.schedule) and not _still_running(call):
            known = _never_applied(owner.name, outcome)
        plan.ends.resolved += known is not None
        return known


def _found(plan: Plan, value: Any) -> Outcome[Any] | None:
    """Judge what the provider has. An answer that is itself transient or tells nothing is no news of the call."""
    verdict = None if value.__class__ in plan.plain else plan.classifier.value(value)
    if verdict is None:
        return Ok(value)
    return Declined(None, value=value, name=plan.owner.name) if verdict.classification is NON_RETRYABLE else None


def _still_running(call: Call) -> bool:
    """Return whether a thread was left behind that may still send the call: then that nobody has seen it says nothing."""
    return call.left_running


def _never_applied(name: str, outcome: Unknown) -> Failed[Any]:
    """Return the end of a call that the provider has never seen: the caller's own error, or the answer that told nothing."""
    error = outcome.error
    cause = error.__cause__
    while isinstance(cause, UnknownOutcomeError) and cause.__cause__ is not None:  # of a guard further in: it is known now
        cause = cause.__cause__
    if isinstance(cause, Exception):
        return Failed(cause, name=name)
    return Failed(None, value=getattr(error, "value", None), name=name)


def _in_time(plan: Plan, wait: float) -> bool:
    """Return whether an ask after `wait` seconds would still begin before the deadline of whoever called us."""
    outer = current.get()
    return outer is None or outer.deadline is None or plan.owner._now() + wait < outer.deadline


def _context(plan: Plan, call: Call) -> CallContext:
    """An inquiry has its own time, as long as an attempt may take: the call's deadline may be past already."""
    outer, own = current.get(), call.context
    seconds = plan.deadline if plan.timeout is None else min(plan.timeout.seconds, plan.deadline)
    deadline = plan.owner._now() + seconds
    if outer is not None and outer.deadline is not None:
        deadline = min(deadline, outer.deadline)
    context = CallContext(None if deadline == inf else deadline, own.clock)
    context.inherit(own)
    context.key = own.key
    return context


def _attempts(outcome: Unknown) -> int:
    error = outcome.error
    return error.attempts if isinstance(error, UnknownOutcomeError) else 1


def unanswered(plan: Plan, call: Call, outcome: Unknown) -> Unknown:
    """Tell that nobody knows how the call ended, and return the outcome as it was."""
    error, owner = outcome.error, plan.owner
    last = type(error.__cause__ or getattr(error, "value", None)).__name__
    owner._publish(OutcomeUnknown(name=owner.name, attempts=_attempts(outcome), error_type=last, reference=call.context.reference))
    return outcome


def _abandoned(plan: Plan, call: Call, outcome: Unknown) -> None:
    """Tell that somebody outside ended the asking: the call stays unknown, and nobody else will say so (law 4)."""
    owner = plan.owner
    ran = owner._now() - call.attempt_started
    owner._publish(CallAbandoned(name=owner.name, attempt=_attempts(outcome), ran=ran, reference=call.context.reference))


def checked_schedule(schedule: Any) -> tuple[float, ...]:
    """Return the waits of a schedule in seconds; at least one, at most a hundred."""
    from finresilience._checks import refuse, seconds_of

    if not isinstance(schedule, tuple | list) or not 1 <= len(schedule) <= 100:
        refuse("schedule", schedule, "1 to 100 waits in seconds, such as (1, 5, 30)")
    waits: list[object] = list(schedule)
    return tuple(seconds_of(f"schedule[{at}]", wait, zero=True) for at, wait in enumerate(waits))
