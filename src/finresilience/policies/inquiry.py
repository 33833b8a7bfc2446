"""Did it happen? Ask the provider by our own reference when a call ended unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from finresilience.context import CallContext, current
from finresilience.errors import ConfigurationError, UnknownOutcomeError
from finresilience.events import InquiryAnswered, OutcomeUnknown
from finresilience.outcome import Declined, Failed, Found, NotFound, Ok, Outcome, StillUnknown, Unknown
from finresilience.policies.limits import AsyncLimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.policies.call import Call
    from finresilience.policies.plan import Plan

_ANSWERS: Final[dict[type[object], str]] = {Found: "found", NotFound: "not_found", StillUnknown: "still_unknown"}


@final
class Inquiry:
    """Ask after each wait of the schedule until somebody knows.

    Found ends it with what the provider says. NotFound is believed at the last ask only: a provider's inquiry may lag behind its books. An
    ask that fails tells nothing. A call that nobody can tell about stays unknown.
    """

    __slots__ = ("fn", "is_async", "schedule")

    def __init__(self, fn: Callable[..., Any], schedule: tuple[float, ...], *, is_async: bool) -> None:
        self.fn = fn
        self.schedule: tuple[float, ...] = schedule
        self.is_async: bool = is_async

    def ask(self, plan: Plan, call: Call, outcome: Unknown) -> Outcome[Any]:
        """Return what the provider says, or the outcome as it was."""
        for number, wait in enumerate(self.schedule, start=1):
            if not _in_time(plan, wait):
                break
            plan.owner._clock.sleep_sync(wait)
            token = current.set(_context(plan, call))
            try:
                answer = self.fn(*call.args, **call.kwargs)
            except Exception:
                answer = None
            finally:
                current.reset(token)
            known = self._known(plan, call, outcome, answer, number)
            if known is not None:
                return known
        return _unanswered(plan, call, outcome)

    async def aask(self, plan: Plan, call: Call, outcome: Unknown) -> Outcome[Any]:
        """Return what the provider says, or the outcome as it was."""
        for number, wait in enumerate(self.schedule, start=1):
            if not _in_time(plan, wait):
                break
            await plan.owner._clock.sleep(wait)
            token = current.set(_context(plan, call))
            try:
                answer = await self._aanswer(plan, call)
            except Exception:
                answer = None
            finally:
                current.reset(token)
            known = self._known(plan, call, outcome, answer, number)
            if known is not None:
                return known
        return _unanswered(plan, call, outcome)

    async def _aanswer(self, plan: Plan, call: Call) -> object:
        if not self.is_async:
            return self.fn(*call.args, **call.kwargs)
        now, seconds = plan.owner._now(), float("inf") if plan.timeout is None else plan.timeout.seconds
        answer: object = None
        with AsyncLimit(plan.owner.name, limit=now + seconds, now=now, exact=False):
            answer = await self.fn(*call.args, **call.kwargs)
        return answer  # noqa: RET504 - a `with` that may swallow must not hold the only return

    def _known(self, plan: Plan, call: Call, outcome: Unknown, answer: object, number: int) -> Outcome[Any] | None:
        said = _ANSWERS.get(type(answer), "failed")
        owner = plan.owner
        owner._publish(InquiryAnswered(name=owner.name, ask=number, answer=said, reference=call.context.reference))
        if isinstance(answer, Found):
            plan.ends.resolved += 1
            value: Any = answer.value
            verdict = None if value.__class__ in plan.plain else plan.classifier.value(value)
            if verdict is None:
                return Ok(value)
            return Declined(None, value=value, name=owner.name) if not verdict.counts_against_provider else None
        if isinstance(answer, NotFound) and number == len(self.schedule):
            plan.ends.resolved += 1
            return Failed(_cause(outcome), name=owner.name)
        return None


def _cause(outcome: Unknown) -> Exception:
    error = outcome.error
    cause = error.__cause__ if isinstance(error, UnknownOutcomeError) else None
    return cause if isinstance(cause, Exception) else error


def _in_time(plan: Plan, wait: float) -> bool:
    """Return whether an ask after `wait` seconds would still begin before the deadline of whoever called us."""
    outer = current.get()
    return outer is None or outer.deadline is None or plan.owner._now() + wait < outer.deadline


def _context(plan: Plan, call: Call) -> CallContext:
    """An inquiry has its own time: the call's deadline is past already."""
    outer, own = current.get(), call.context
    seconds = float("inf") if plan.timeout is None else plan.timeout.seconds
    deadline = plan.owner._now() + seconds
    if outer is not None and outer.deadline is not None:
        deadline = min(deadline, outer.deadline)
    context = CallContext(None if deadline == float("inf") else deadline, own.clock)
    context.inherit(own)
    context.key = own.key
    return context


def _unanswered(plan: Plan, call: Call, outcome: Unknown) -> Unknown:
    error = outcome.error
    attempts = error.attempts if isinstance(error, UnknownOutcomeError) else 1
    name = type(_cause(outcome)).__name__
    plan.owner._publish(OutcomeUnknown(name=plan.owner.name, attempts=attempts, error_type=name, reference=call.context.reference))
    return outcome


def checked_schedule(schedule: Any) -> tuple[float, ...]:
    """Return the waits of a schedule in seconds; at least one, at most a hundred."""
    from finresilience._checks import refuse, seconds_of

    if not isinstance(schedule, tuple | list) or not 1 <= len(schedule) <= 100:
        refuse("schedule", schedule, "1 to 100 waits in seconds, such as (1, 5, 30)")
    waits: list[object] = list(schedule)
    return tuple(seconds_of(f"schedule[{at}]", wait, zero=True) for at, wait in enumerate(waits))


def refuse_mix(name: str) -> ConfigurationError:
    """Return the error for an async inquiry about sync calls."""
    return ConfigurationError(f"{name} guards plain functions, which cannot await an async inquiry: make the inquiry a plain function too")
