"""What may stand in for how a call ended? The rules of a `Fallback`, apart from the calling."""

from __future__ import annotations

from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, Final

from finresilience._checks import refuse
from finresilience.context import CallContext, current
from finresilience.errors import AttemptOverError, ConfigurationError
from finresilience.outcome import UNKNOWN, Declined, Effect, Failed, Ok, Outcome, Refused, Stale, Unknown
from finresilience.policies.call import TRIES
from finresilience.policies.decorate import Kind, kind_of
from finresilience.policies.last_good import LastGood

if TYPE_CHECKING:
    from finresilience.policies.plan import Plan

UNSET: Final = object()
KINDS: Final = ("value", "function", "last_good", "translate", "pending")
_INVENTED: Final = frozenset({"value", "function", "last_good"})  # they answer in the provider's place


# --- the set-up ----------------------------------------------------------------------------------------------------


def one_of(given: dict[str, Any]) -> str:
    """Return which of the kinds was given; there must be exactly one."""
    kinds = [kind for kind, what in given.items() if what is not UNSET and (kind == "value" or what is not None)]
    if len(kinds) != 1:
        found = f"{' and '.join(f'{kind}=' for kind in kinds)} at once" if kinds else "none of them"
        message = f"a Fallback takes one of {', '.join(f'{kind}=' for kind in KINDS)}; it was given {found}"
        raise ConfigurationError(message)
    return kinds[0]


def checked(kind: str, give: Any, mark: Any) -> bool:
    """Return whether what was given is an async function, after a look at whether it can serve at all."""
    if kind == "last_good" and not isinstance(give, LastGood):
        refuse("last_good", give, "a LastGood, such as LastGood(max_age=300.0, key=lambda req: req.account)")
    if mark is not None and (kind == "translate" or not callable(mark) or _flavour(mark) is not Kind.SYNC):
        refuse("mark", mark, "a plain function of the answer and its Stale, where there is an answer: translate= gives none")
    if kind in {"value", "last_good"}:
        return False
    if not callable(give):
        refuse(kind, give, "a function" + (" of the error" if kind == "translate" else " of the outcome and the call's arguments"))
    flavour = _flavour(give)
    if flavour in {Kind.GENERATOR, Kind.ASYNC_GENERATOR} or (kind == "translate" and flavour is not Kind.SYNC):
        message = (
            f"{kind}= was given {flavour.value}: give it a function that returns the {'exception' if kind == 'translate' else 'answer'}"
        )
        raise ConfigurationError(message)
    return flavour is Kind.ASYNC


def _flavour(function: Any) -> Kind:
    return Kind.SYNC if isinstance(function, type) else kind_of(function)


def ends_of(kind: str, *, on_declined: object) -> tuple[type[object], ...]:
    """Return the ends that this kind stands in for. What surely did not happen; and a no, where it is asked for."""
    if not isinstance(on_declined, bool):
        refuse("on_declined", on_declined, "True or False")
    if on_declined and kind == "pending":
        message = "on_declined=True cannot go with pending=: a no is an answer, and an intent to ask again would overrule it"
        raise ConfigurationError(message)
    ends = (Refused, Failed, Unknown) if kind == "translate" else (Refused, Failed)
    return (*ends, Declined) if on_declined else ends


def check(kind: str, effect: object) -> None:
    """Let a call of this effect have this kind of fallback, or say why not."""
    if not isinstance(effect, Effect):
        refuse("effect", effect, "an Effect, such as Effect.READ")
    if kind in _INVENTED and effect is not Effect.READ:
        message = (
            f"Fallback({kind}=...) makes up an answer, so it is for Effect.READ only, and this call is {effect.name}: "
            "its caller would take the answer for moved money.\n"
            "  Give translate= (an exception of your own) or pending= (record the intent, answer that it is accepted and pending), "
            "or find out what happened by Pipeline.inquiry."
        )
        raise ConfigurationError(message)
    if kind == "pending" and effect is Effect.READ:
        message = "Fallback(pending=...) records the intent to move money, and a READ has none: give value=, function= or last_good="
        raise ConfigurationError(message)


# --- the ends of one call --------------------------------------------------------------------------------------------


def stand_in(answer: Any, age: float, outcome: Outcome[Any]) -> tuple[Ok[Any], Stale]:
    """Return the answer as an end that says what it is, and that mark by itself."""
    ok, stale = Ok(answer), Stale(age, repr(outcome)[1:-1])
    ok.fallback = stale
    return ok, stale


def intent_may_be_recorded(outcome: Any) -> bool:
    """Return whether the intent behind this end may be recorded to be carried out later.

    Not by an attempt that was given up: it runs beside the one that took its place, and the money would move twice.
    """
    context = current.get()
    while context is not None and not context.over:
        context = context.outer
    return context is None and not isinstance(outcome.error, AttemptOverError)


def own_time(plan: Plan) -> CallContext:
    """Return the context in which a fallback's function runs.

    It has the call's key and reference, and its own time, as long as an attempt may take: the call's deadline may be past already.
    """
    call = current.get()
    seconds = plan.deadline if plan.timeout is None else min(plan.timeout.seconds, plan.deadline)
    limit = inf if seconds == inf else plan.owner._now() + seconds
    assert call is not None  # noqa: S101 - a stage stands inside the context of its whole call
    if call.outer is not None and call.outer.deadline is not None:
        limit = min(limit, call.outer.deadline)
    own = CallContext(None if limit == inf else limit, plan.owner._clock)
    own.inherit(call)
    own.key = call.key
    return own


def why_not(plan: Plan, outcome: Outcome[Any], error: Exception, other: Any) -> str | None:
    """Return why `other` cannot take the place of `error`, or None once it has `error` for its cause."""
    if not isinstance(other, Exception):
        return f"gave a {type(other).__name__}, which is no exception, so the error stands"
    ours, suppressed = other.__cause__ is None and not _leads_to(error, other), other.__suppress_context__
    if ours:
        other.__cause__ = error
    with suppress(Exception):  # how often it was tried is known to whoever would retry the whole, see Stop.NESTED
        other.__dict__[TRIES] = error.__dict__[TRIES]
    if not isinstance(outcome, Unknown):
        return None
    verdict = plan.judge(other, sent=True).classification
    if verdict is UNKNOWN:
        return None
    if ours:
        other.__cause__, other.__suppress_context__ = None, suppressed
    return f"gave a {type(other).__name__}, which the rules call {verdict.value}: this outcome is unknown, and stays so"


def _leads_to(error: BaseException | None, other: BaseException) -> bool:
    """Return whether `other` is in the chain of `error` already: a cause that goes in a circle is none."""
    for _ in range(100):
        if error is None or error is other:
            break
        error = error.__cause__ or error.__context__
    return error is other


def note(error: Exception, speaker: str, text: str) -> None:
    """Leave one note of this speaker, however often the same object is raised."""
    mine = f"finresilience: {speaker}: "
    with suppress(Exception):  # an error that takes no note is raised without one
        notes = getattr(error, "__notes__", None)
        if notes:
            notes[:] = [old for old in notes if not old.startswith(mine)]
        error.add_note(mine + text)
