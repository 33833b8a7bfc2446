"""How did the call end? What its caller gets, what a log line says, and what a person reads at three in the morning."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from finresilience.context import happenings
from finresilience.cores.join import End
from finresilience.cores.retry import Stop
from finresilience.errors import ExpiredError, FinresilienceError, UnknownOutcomeError
from finresilience.events import CallRefused, OutcomeUnknown, RetriesExhausted
from finresilience.outcome import Declined, Failed, Outcome, Refused, Unknown
from finresilience.policies.call import TRIES

if TYPE_CHECKING:
    from finresilience.policies.call import Call

# Reasons that a person wants to hear of: the error would have allowed another attempt.
_EXHAUSTED: Final = frozenset(
    {Stop.ATTEMPTS, Stop.ELAPSED, Stop.DEADLINE, Stop.BUDGET, Stop.TREE_BUDGET, Stop.NESTED, Stop.PROBE, Stop.CIRCUIT}
)


def unfortunate(call: Call, error: Exception | None, value: object) -> Outcome[Any]:
    """Return the outcome of a call that did not simply work, counted, told to the listeners and noted on the caller's own error."""
    plan, end = call.plan, call.join.end()
    try:
        if end is End.REFUSED and call.refusal is not None:
            plan.ends.refused += 1
            _tell_refusal(call, call.refusal)
            return call.refusal
        if error is not None and not isinstance(error, FinresilienceError):
            with suppress(Exception):  # an error that takes no note is raised without one
                _annotate(call, error)
        if plan.retry is not None and call.stop in _EXHAUSTED and call.join.sent:
            _tell_exhausted(call, error, value)
        if end is End.UNKNOWN:
            plan.ends.unknown += 1
            plan.happened(call.context)
            return Unknown(_unknown(call, error, value))
        if end is End.DECLINED:
            plan.ends.declined += 1
            return Declined(error, value=value, name=plan.owner.name)
        plan.ends.failed += 1
        return Failed(error, value=value, name=plan.owner.name)
    finally:
        del error, value


def _unknown(call: Call, error: Exception | None, value: object) -> Exception:
    plan = call.plan
    try:
        name = type(value if error is None else error).__name__
        if plan.speaks and plan.inquiry is None and not plan.hushed:  # with an inquiry, it tells if nobody knew
            plan.owner._publish(
                OutcomeUnknown(name=plan.owner.name, attempts=call.join.sent, error_type=name, reference=call.context.reference)
            )
        elif not plan.speaks and error is not None:
            return error  # a lone breaker passes on what it saw
        unknown = UnknownOutcomeError(
            plan.owner.name,
            attempts=call.join.sent,
            happened=_happened(error, name, sent=plan.marks_sent and call.context.sent),
            held_back=_held_back(call),
            reference=call.context.reference,
            value=value,
        )
        unknown.__cause__ = error
        _mark(call, unknown)
        return unknown
    finally:
        del error, value


def _happened(error: Exception | None, name: str, *, sent: bool) -> str:
    if isinstance(error, ExpiredError):
        return f"no answer within {error.limit:.3g} s{' after the request was sent' if sent else ''}"
    if error is None:
        return f"the answer, a {name}, tells nothing"
    return f"{name} after the request may have left"


def _held_back(call: Call) -> str:
    tried = "Nothing was retried" if call.join.sent <= 1 else "It was not tried again"
    return f"{tried}, because {call.stop.value}."


def _annotate(call: Call, error: Exception) -> None:
    """Leave a note on the caller's own error: attempts and waits. One note, however often the same object is raised."""
    _mark(call, error)
    if call.join.sent <= 1 and call.stop not in _EXHAUSTED:
        return
    waits = ", ".join(f"{wait:.3g}" for wait in call.waits)
    times = "1 attempt" if call.join.sent == 1 else f"{call.join.sent} attempts"
    note = f"finresilience: {call.plan.owner.name}: {times}, waits [{waits}] s; stopped because {call.stop.value}"
    notes = getattr(error, "__notes__", None)
    if notes:
        notes[:] = [old for old in notes if not old.startswith(f"finresilience: {call.plan.owner.name}: ")]
    error.add_note(note)


def _mark(call: Call, error: Exception) -> None:
    if call.plan.retry is not None:
        happenings.number += 1
        error.__dict__[TRIES] = (call.tries, happenings.number)


def _tell_refusal(call: Call, refusal: Refused) -> None:
    owner = call.plan.owner
    if owner._publish.wants_all and not call.plan.hushed:
        reason = type(refusal.error).__name__
        owner._publish(CallRefused(name=owner.name, reason=reason, reference=call.context.reference))


def _tell_exhausted(call: Call, error: Exception | None, value: object) -> None:
    owner = call.plan.owner
    name = type(value if error is None else error).__name__
    owner._publish(
        RetriesExhausted(
            name=owner.name,
            attempts=call.join.sent,
            error_type=name,
            reason=call.stop.value,
            reference=call.context.reference,
        )
    )
    del error, value
