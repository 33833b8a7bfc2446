"""A call with something round the whole of it: a fallback, a limiter for fairness, a hedge, or a pipeline in an order of its owner's own.

The call's key and reference are found once, out here; every arm inside works under them.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, final

from finresilience.context import CallContext, current, leave
from finresilience.events import CallRefused
from finresilience.outcome import Declined, Failed, Ok, Outcome, Refused, Unknown
from finresilience.policies.call import Call
from finresilience.policies.shells import ago_on, go_on

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finresilience.policies.gates import Stage
    from finresilience.policies.plan import Plan


def run_staged(plan: Plan, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome[Any]:
    """Make the call from its beginning and return how it ended, seen from outside of every stage."""
    work = fn
    if plan.inside is not None:
        from finresilience.policies.lanes import sync_lane

        work = sync_lane(plan.inside, fn)
        if not plan.staged:
            return go_on(plan, Call(plan, work, args, kwargs, plan.owner._now()))
    whole = Whole(plan, work, args, kwargs)
    token = current.set(whole.context)
    try:
        go = whole.go
        for stage in reversed(plan.stages):
            go = _round(stage, whole, go)
        return whole.ended(go())
    except BaseException as error:
        whole.broken(error)
        raise
    finally:
        leave(token)


async def arun_staged(plan: Plan, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome[Any]:
    """Make the call from its beginning and return how it ended, seen from outside of every stage."""
    work = fn
    if plan.inside is not None:
        from finresilience.policies.alanes import async_lane

        work = async_lane(plan.inside, fn)
        if not plan.staged:
            return await ago_on(plan, Call(plan, work, args, kwargs, plan.owner._now()))
    whole = Whole(plan, work, args, kwargs)
    token = current.set(whole.context)
    try:
        go: Callable[[], Awaitable[Outcome[Any]]] = whole.ago if plan.hedge is None else whole.hedged
        for stage in reversed(plan.stages):
            go = _around(stage, whole, go)
        return whole.ended(await go())
    except BaseException as error:
        whole.broken(error)
        raise
    finally:
        leave(token)


def _round(stage: Stage, whole: Whole, go: Callable[[], Outcome[Any]]) -> Callable[[], Outcome[Any]]:
    return lambda: stage.around(whole.plan, go, whole.args, whole.kwargs)


def _around(stage: Stage, whole: Whole, go: Callable[[], Awaitable[Outcome[Any]]]) -> Callable[[], Awaitable[Outcome[Any]]]:
    return lambda: stage.aaround(whole.plan, go, whole.args, whole.kwargs)


@final
class Whole:
    """One call with its stages. Made in the context of whoever calls; everything inside runs in `context`."""

    __slots__ = ("_asked", "_inner", "_last", "args", "context", "fn", "kwargs", "plan")

    def __init__(self, plan: Plan, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.plan: Plan = plan
        self.fn: Callable[..., Any] = fn
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs
        self.context: CallContext = plan.context(plan.owner._now(), args, kwargs)
        if self.context.deadline == inf:
            self.context.deadline = None
        if plan.hedge is not None and plan.retry is not None:
            plan.retry.deposit(plan.owner._now(), succeeded=False)
        self._inner = plan.sibling(bare=True)
        self._last: Call | None = None
        self._asked = False

    def go(self) -> Outcome[Any]:
        """Make the call."""
        return go_on(self._inner, self._arm())

    async def ago(self) -> Outcome[Any]:
        """Make the call, or one arm of it."""
        return await ago_on(self._inner, self._arm())

    async def hedged(self) -> Outcome[Any]:
        """Make the call in several arms; ask the provider, once, where even their join is unknown."""
        plan, hedge = self.plan, self.plan.hedge
        assert hedge is not None  # noqa: S101 - chosen where there is one
        outcome = await hedge.aaround(plan, self.ago, self.args, self.kwargs)
        if not isinstance(outcome, Unknown) or self._last is None:
            return outcome
        if plan.inquiry is not None:
            return await plan.inquiry.aask(plan, self._last, outcome)
        from finresilience.policies.inquiry import unanswered

        return unanswered(plan, self._last, outcome)

    def _arm(self) -> Call:
        """Return a call under the key and the reference of the whole."""
        own = CallContext(self.context.deadline, self.context.clock)
        own.inherit(self.context)
        own.outer, own.key = self.context, self.context.key
        self._asked = True
        self._last = Call(self._inner, self.fn, self.args, self.kwargs, self.plan.owner._now(), context=own)
        return self._last

    def ended(self, outcome: Outcome[Any]) -> Outcome[Any]:
        """Count how the call ended, and tell if it was refused before anybody inside could."""
        plan = self.plan
        name = "unknown" if self._inner.ends.resolved else _COUNTED[type(outcome)]  # resolved ones are told beside
        setattr(plan.ends, name, getattr(plan.ends, name) + 1)
        self._took_over()
        untold = not self._asked or plan.hedge is not None
        if isinstance(outcome, Refused) and untold and plan.owner._publish.wants_all:
            reason = type(outcome.error).__name__
            plan.owner._publish(CallRefused(name=plan.owner.name, reason=reason, reference=self.context.reference))
        return outcome

    def broken(self, error: BaseException) -> None:
        """Count a call that somebody outside has cancelled. Whoever was inside has told of it."""
        self._took_over()
        self.plan.ends.abandoned += not isinstance(error, Exception)

    def _took_over(self) -> None:
        ends, inner = self.plan.ends, self._inner.ends
        ends.retried += inner.retried
        ends.resolved += inner.resolved


_COUNTED: dict[type[object], str] = {Ok: "ok", Declined: "declined", Failed: "failed", Unknown: "unknown", Refused: "refused"}
