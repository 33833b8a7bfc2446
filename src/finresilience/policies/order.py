"""In which order do policies stand, and why? A pipeline's list, sorted into the plan that guards a call."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from finresilience.errors import ConfigurationError
from finresilience.policies.guarding import Guarding
from finresilience.policies.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.outcome import Effect
    from finresilience.policies.base import Policy

# The places from outside to inside, with the reason why each stands outside the next.
_ORDER: Final = {
    "Fallback": "it answers for whatever goes wrong inside of it",
    "RateLimiter": "who must wait for a turn must not hold what others need",
    "Hedge": "each arm of a hedged call must ask the breaker",
    "CircuitBreaker": "an open circuit must not be retried against",
    "Retry": "each attempt needs a limit of its own",
    "quota": "a place at work must not be held while waiting for the provider's quota",
    "Bulkhead": "the time in a queue must not count as the provider's silence",
    "Timeout": "",
}
_INNERMOST: Final = "Chaos"  # trouble made on purpose, in tests: whatever it does must look to all of the above as if the provider had
_PLACES: Final = (*_ORDER, _INNERMOST)
_ROLES: Final = tuple(place for place in _ORDER if place != "quota")
_WHOLE: Final = frozenset({"Hedge", "CircuitBreaker", "Retry"})  # a limiter outside one of these is asked once for the whole call
Places: TypeAlias = "list[dict[str, Any]]"


def placed(policies: tuple[Policy, ...], *, allow_order: bool) -> Places:
    """Sort the policies into their places, or say why they do not fit.

    Returns:
        One mapping from place to policy; several, outermost first, where `allow_order` let them stand in an order of their own.

    Raises:
        ConfigurationError: if one is no policy, stands twice, or stands where it does harm.
    """
    roles = [_role(policy) for policy in policies]
    if _INNERMOST in roles[:-1]:
        message = (
            f"{_INNERMOST} stands innermost, next to the function, in every order: what it does must look as if the provider had done it"
        )
        raise ConfigurationError(message)
    places = ["quota" if role == "RateLimiter" and not _WHOLE & set(roles[at:]) else role for at, role in enumerate(roles)]
    for place in _PLACES:
        if places.count(place) > 1:
            name = "RateLimiter" if place == "quota" else place
            message = f"two of {name} in one pipeline: put the second into a pipeline of its own, round the first"
            raise ConfigurationError(message)
    segments: Places = [{}]
    for at, (place, policy) in enumerate(zip(places, policies, strict=True)):
        if at and _PLACES.index(places[at - 1]) > _PLACES.index(place):
            if not allow_order:
                raise _disorder(roles[at - 1], roles[at], place)
            segments.append({})
        segments[-1][place] = policy
    return segments


def _disorder(outer: str, inner: str, place: str) -> ConfigurationError:
    return ConfigurationError(f"{inner} belongs outside {outer}: {_ORDER[place]} (allow_order=True takes it so)")


def _role(policy: object) -> str:
    role = policy.role if isinstance(policy, Guarding) else ""
    if role not in _ROLES and role != _INNERMOST:
        message = f"a Pipeline takes policies ({', '.join(_ROLES)}), outermost first, not a {type(policy).__name__}"
        raise ConfigurationError(message)
    # A breaker keeps its rules for calls outside the pipeline; others would silently lose what they were told.
    own = getattr(policy, "_classify", None) is not None or getattr(policy, "_effect", None) is not None
    if own and role != "CircuitBreaker":
        message = f"{policy!r} has classify= or effect= of its own: give them to the Pipeline, once, and its policies inherit them"
        raise ConfigurationError(message)
    return role


def planned(
    places: Places,
    *,
    owner: Policy,
    effect: Effect,
    classifier: ErrorClassifier | None,
    marks_sent: bool,
    key_of: Callable[..., str | None] | None,
    reference_of: Callable[..., str | None] | None,
    deadline: float,
) -> Plan:
    """Return the plan of these places; what belongs to the whole call is the outermost one's."""
    plan: Plan | None = None
    innermost = places[-1].get(_INNERMOST)
    for number, at in reversed(list(enumerate(places))):
        outermost = number == 0
        plan = Plan(
            owner,
            breaker=at.get("CircuitBreaker"),
            retry=at.get("Retry"),
            timeout=at.get("Timeout"),
            bulkhead=at.get("Bulkhead"),
            limiter=at.get("quota"),
            stages=tuple(at[place] for place in ("Fallback", "RateLimiter") if place in at),
            hedge=at.get("Hedge"),
            inside=plan,
            innermost=innermost if outermost else None,
            classifier=classifier,
            effect=effect,
            key_of=key_of if outermost else None,
            reference_of=reference_of if outermost else None,
            deadline=deadline if outermost else inf,
            marks_sent=marks_sent,
        )
        check_effect(plan)
    assert plan is not None  # noqa: S101 - there is always one mapping, if an empty one
    return plan


def check_effect(plan: Plan) -> None:
    """Let whoever must not stand round a call of this effect say so, before any money moves."""
    for policy in (*plan.stages, plan.hedge):
        check: Any = getattr(policy, "check", None)
        if check is not None:
            check(plan.effect)
