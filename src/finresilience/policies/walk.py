"""One call on its way from provider to provider: the part that sync and async share.

It asks the core who is next, is told how each of them ended, and knows when to stop and how the whole of it ended. It never calls a
function; the failover does.
"""

from __future__ import annotations

from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, Final, final

from finresilience.cores.routing import Candidate, Halt, RouteEnd, outweighs, passes
from finresilience.errors import DeadlineExceededError, ExpiredError, NoRouteError, UnknownOutcomeError
from finresilience.events import CallRefused, CallRouted
from finresilience.outcome import Declined, Effect, Failed, Ok, Outcome, Refused, Unknown
from finresilience.policies.routes import Routed

if TYPE_CHECKING:
    from finresilience.context import CallContext
    from finresilience.cores.routing import NoRoute, Ticket
    from finresilience.outcome import Verdict
    from finresilience.policies.failover import Failover
    from finresilience.policies.plan import Plan
    from finresilience.policies.routes import Leg

_ENDS: Final[dict[type[object], RouteEnd]] = {
    Ok: RouteEnd.OK,
    Declined: RouteEnd.DECLINED,
    Failed: RouteEnd.FAILED,
    Unknown: RouteEnd.UNKNOWN,
    Refused: RouteEnd.REFUSED,
}


@final
class Walk:
    """What has become of one call so far. Made in the context of whoever calls; every provider is asked in `context`.

    Raises:
        Exception: whatever `key`, `reference`, `region` or `pin` raise or give that cannot be used; nothing was sent.
    """

    __slots__ = (
        "_asked",
        "_doubted",
        "_end",
        "_halt",
        "_leg",
        "_outcome",
        "_pin",
        "_region",
        "_route",
        "_sent",
        "_ticket",
        "_tried",
        "context",
        "router",
    )

    def __init__(self, router: Failover[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        now = router._now()
        self.router: Failover[..., Any] = router
        self.context: CallContext = router._plan.context(now, args, kwargs)
        if self.context.deadline == inf:
            self.context.deadline = None
        self._region: str | None = router._named("region", args, kwargs)
        self._pin: str | None = router._named("pin", args, kwargs)
        self._doubted: bool = False  # a call of the same key is under way somewhere, or may have happened there
        self._asked: list[Candidate] = []
        self._tried: list[tuple[str, str]] = []
        self._sent = 0
        self._halt: Halt | None = None
        self._leg: Leg | None = None
        self._ticket: Ticket | None = None
        self._outcome: Outcome[Any] | None = None
        self._end = RouteEnd.REFUSED
        self._route: str | None = None
        router._deposit(now, succeeded=False)

    # --- the next provider -----------------------------------------------------------------------------------------

    def next(self) -> Leg | None:
        """Return who shall be asked next, or None once the call has ended. Give every leg back by `ended` or `interrupted`."""
        if self._halt is not None:
            return None
        router, now = self.router, self.router._now()
        deadline = self.context.deadline
        if deadline is not None and now >= deadline:
            self._stop(Halt.DEADLINE, Refused(DeadlineExceededError, (router.name, now - deadline)))
            return None
        u = router._chance()
        with router._board._lock:
            if self._pin is None or self._doubted:
                self._pin = router._doubtful(self.context.base_key)
                self._doubted = self._pin is not None
            chosen = router._routing.choose(now, u, region=self._region, pin=self._pin, tried=self._asked)
            halt = Halt.NOBODY if not isinstance(chosen, Candidate) else self._too_much(now)
            if isinstance(chosen, Candidate) and halt is None:
                self._ticket = router._routing.begin(chosen, now)
                self._asked.append(chosen)
                router._depart(self.context.base_key, chosen.name)
            news = router._board.read()
        router._tell(news)
        if halt is not None or not isinstance(chosen, Candidate):
            self._stop(halt or Halt.NOBODY, None if isinstance(chosen, Candidate) else _nobody(router.name, chosen))
            return None
        self._leg = router._legs[chosen.name]
        self.context.sent = False  # nothing yet, by this one
        return self._leg

    def _too_much(self, now: float) -> Halt | None:
        """Return why the call must not be sent once more. A refusal reached nobody, and costs nothing."""
        if not self._sent:
            return None
        router, tree = self.router, self.context.budget
        if self._sent >= router._at_most:
            return Halt.AT_MOST
        if not router._withdraw(now) or (tree is not None and not tree.spend()):
            return Halt.BUDGET
        router._passed += 1
        return None

    def _stop(self, halt: Halt, refusal: Refused | None) -> None:
        self._halt = halt
        if self._outcome is None:
            self._outcome = refusal

    # --- how it ended there ----------------------------------------------------------------------------------------

    def ended(self, outcome: Outcome[Any]) -> None:
        """Take how the call ended at the provider that was asked last."""
        router, now, leg, ticket = self.router, self.router._now(), self._leg, self._ticket
        assert leg is not None and ticket is not None  # noqa: S101, PT018 - nobody ends what was not begun
        self._ticket = None
        failed, cut = _said(leg.plan, outcome)
        if cut and now - ticket.began >= min(leg.plan.threshold, router._plan.deadline) * (1.0 - 1e-9):
            failed, cut = True, False  # it had all the time that a call may take (law 4)
        # One key's refusal says nothing of the others.
        wait = outcome.error.retry_after if isinstance(outcome, Refused) and not _per_key(leg.plan) else None
        with router._board._lock:
            router._routing.end(ticket, now, failed=failed, cut=cut)
            if wait is not None:
                router._routing.pause(leg.candidate, now + wait)
            router._arrive(self.context.base_key)
            self._remember(leg, outcome)
            news = router._board.read()
        router._tell(news)
        self._take(leg, _ENDS[type(outcome)], outcome)

    def _remember(self, leg: Leg, outcome: Outcome[Any]) -> None:
        """Note where the call of this key has happened or may have; a no of the same provider under the same key settles it."""
        key, router = self.context.base_key, self.router
        happened = isinstance(outcome, Ok) and outcome.fallback is None and leg.plan.effect is not Effect.READ
        if happened or isinstance(outcome, Unknown):
            router._doubt(key, leg.name)
            return
        settled = isinstance(outcome, Declined) and leg.plan.effect is Effect.IDEMPOTENT and _final(outcome)
        if settled and key is not None and router._doubts.get(key) == leg.name:
            del router._doubts[key]

    def _take(self, leg: Leg, end: RouteEnd, outcome: Outcome[Any]) -> None:
        """Keep the outcome if it outweighs the one kept, and decide whether another provider may be asked."""
        self._tried.append((leg.name, end.value))
        self._sent += end is not RouteEnd.REFUSED
        if self._outcome is None or outweighs(end, self._end):
            self._outcome, self._end = outcome, end
            self._route = None if end is RouteEnd.REFUSED else leg.name
        soft = isinstance(outcome, Declined) and self.router._is_soft(outcome)
        if not passes(end, soft=soft):
            self._halt = Halt.UNKNOWN if end is RouteEnd.UNKNOWN else Halt.ANSWERED
        elif self._pin is not None:
            self._halt = Halt.DOUBT if self._doubted else Halt.PINNED

    def interrupted(self, error: BaseException) -> None:
        """Take note that the call was cancelled, or could not be made at all: it says nothing about the provider."""
        router, leg, ticket = self.router, self._leg, self._ticket
        if leg is None or ticket is None:
            return
        self._ticket = None
        cancelled = not isinstance(error, Exception)
        router._plan.ends.abandoned += cancelled
        with router._board._lock:
            router._routing.end(ticket, router._now(), failed=None)
            router._arrive(self.context.base_key)
            if cancelled and (self.context.sent or not leg.plan.speaks):
                router._doubt(self.context.base_key, leg.name)
            news = router._board.read()
        router._tell(news)

    # --- how it ended as a whole -----------------------------------------------------------------------------------

    def routed(self) -> Routed[Any]:
        """Return how the call ended and who took it; count it, note it on the error and tell the listeners."""
        router, outcome = self.router, self._outcome
        assert outcome is not None  # noqa: S101 - whoever stops says what became of the call
        self._outcome = None
        end = _ENDS[type(outcome)]
        setattr(router._plan.ends, end.value, getattr(router._plan.ends, end.value) + 1)
        if end is RouteEnd.OK:
            router._deposit(router._now(), succeeded=True)
        else:
            self._note(outcome)
        if router._publish.wants_all:
            tried = tuple(name for name, _ in self._tried)
            if not tried:
                reason = type(outcome.error).__name__ if isinstance(outcome, Refused) else end.value
                router._publish(CallRefused(name=router.name, reason=reason, reference=self.context.reference))
            router._publish(CallRouted(name=router.name, route=self._route, tried=tried, end=end.value, reference=self.context.reference))
        return Routed(outcome, self._route, tuple(self._tried))

    def _note(self, outcome: Outcome[Any]) -> None:
        """Leave on the error who was asked, and why nobody else was. One note, however often the same object is raised."""
        error = outcome.error if isinstance(outcome, Unknown) else outcome._error if isinstance(outcome, Declined | Failed) else None
        if error is None or self._halt is None:
            return
        with suppress(Exception):  # an error that takes no note is raised without one
            speaker = f"finresilience: {self.router.name}: tried "
            asked = ", ".join(f"{name} ({end})" for name, end in self._tried)
            notes = getattr(error, "__notes__", None)
            if notes:
                notes[:] = [old for old in notes if not old.startswith(speaker)]
            error.add_note(f"{speaker}{asked}; nobody else, because {self._halt.value}")


def _per_key(plan: Plan) -> bool:
    """Return whether a refusal may be that of one key among many."""
    family = plan.breaker is not None and plan.breaker.core is None
    return family or plan.chosen or any(hasattr(stage, "choose") for stage in plan.stages)


def _final(outcome: Declined[Any]) -> bool:
    """Return whether the no was said of the call itself: a gate's no, such as a 403, settles no doubt."""
    from finresilience.classify.evidence import speaks_of_the_call

    return speaks_of_the_call(outcome._value if outcome._error is None else outcome._error)


def _nobody(name: str, reason: NoRoute | None) -> Refused | None:
    return None if reason is None else Refused(NoRouteError, (name, reason.value))


def _said(plan: Plan, outcome: Outcome[Any]) -> tuple[bool | None, bool]:
    """Return whether the provider failed the call, None where the end says nothing of that, and whether a deadline cut it short."""
    if isinstance(outcome, Ok):
        return (False if outcome.fallback is None else None), False
    if isinstance(outcome, Refused):
        return None, False
    error, value = _subject(outcome)
    if isinstance(error, ExpiredError) and error.cut:
        return None, True
    verdict = _verdict(plan, error, value)
    if verdict is None or verdict.counts_against_provider:
        return True, False
    return (False if isinstance(outcome, Declined) else None), False


def _subject(outcome: Declined[Any] | Failed[Any] | Unknown) -> tuple[BaseException | None, object]:
    """Return the provider's error, or its answer where there is none."""
    if not isinstance(outcome, Unknown):
        return outcome._error, outcome._value
    error = outcome.error
    if not isinstance(error, UnknownOutcomeError):
        return error, None  # a lone breaker passes on what it saw
    return error.__cause__, error.value


def _verdict(plan: Plan, error: BaseException | None, value: object) -> Verdict | None:
    from finresilience.classify.evidence import instead_of_cancellation
    from finresilience.outcome import UNKNOWN, Verdict

    if error is None:
        return plan.classifier.value(value)
    if not isinstance(error, Exception) or instead_of_cancellation(error):
        return Verdict(UNKNOWN, counts_against_provider=False)
    return plan.classifier.error(error)
