"""The fast lanes: what a guarded function does while all is well.

A lane makes the first attempt itself. If the attempt simply works, nothing was allocated, locked or decided that need not be;
whatever else happens, a `Call` takes over. There is a lane for each amount of work, and for sync and async each:

    retry alone            nothing but the call
    breaker (and retry)    the closed window and one look at the clock
    everything             a context, a limit, a window; also for a call inside a call, or in a block with a deadline or a key
    gates                  a place in the bulkhead or a slot of the quota, round the first attempt of one of the above

The repetition is deliberate: a shared body would cost more than the guarding itself. The lanes of async functions are in `alanes`.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from finresilience.context import CallContext, current, happenings, leave
from finresilience.cores.window import BlindWindow
from finresilience.policies.call import Call
from finresilience.policies.shells import ended, handed, run, settled

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.cores.breaker import BreakerCore, Permit
    from finresilience.policies.breaker import CircuitBreaker
    from finresilience.policies.gates import Gate
    from finresilience.policies.plan import Plan

Fn: TypeAlias = "Callable[..., Any]"
Finish: TypeAlias = "Callable[[Plan, Call], Any]"  # what a lane does with a call that its first attempt did not end


def sync_lane(plan: Plan, fn: Fn) -> Fn:
    """Return the function that makes a sync call under `plan`."""
    threads = None if plan.timeout is None else plan.timeout.threads
    if threads is not None or not direct(plan):
        return _slow(plan, fn)
    if plan.inside is not None:
        fn = sync_lane(plan.inside, fn)
    return _gated(plan, fn) if plan.gates else _first(plan, fn, ended)


def direct(plan: Plan) -> bool:
    """Return whether a lane may make the first attempt itself: nothing stands round the call, and nothing depends on its arguments."""
    whole = not plan.staged and not plan.chosen
    return whole and (plan.breaker is None or plan.breaker.core is not None) and not deposits(plan)


def _first(plan: Plan, fn: Fn, finish: Finish) -> Fn:
    """Return the lane that does no more than this plan needs."""
    if not plan.light or (plan.breaker is None and plan.timed):
        return _full(plan, fn, core_of(plan), finish)
    return _retry(plan, fn, finish) if plan.breaker is None else _breaker(plan, fn, core_of(plan), finish)


def deposits(plan: Plan) -> bool:
    """Return whether a budget wants to hear of every call."""
    return plan.retry is not None and plan.retry.budget is not None


class _NoBreaker:
    """Stands in for the core of a breaker that is not there: always passing, never looking."""

    __slots__ = ("window",)

    def __init__(self) -> None:
        self.window = BlindWindow()


def core_of(plan: Plan) -> Any:
    """Return the core of the plan's breaker, or what stands in for one."""
    core: BreakerCore | None = None if plan.breaker is None else plan.breaker.core
    return _NoBreaker() if core is None else core


def breaker_of(plan: Plan) -> CircuitBreaker:
    """Return the plan's breaker, for a lane that is chosen where there is one, and not a family."""
    return cast("CircuitBreaker", plan.breaker)


# --- anything at all -----------------------------------------------------------------------------------------------


def _slow(plan: Plan, fn: Fn) -> Fn:
    def guarded(*args: Any, **kwargs: Any) -> Any:
        return settled(run(plan, fn, args, kwargs))

    return guarded


# --- retry alone ---------------------------------------------------------------------------------------------------


def _retry(plan: Plan, fn: Fn, finish: Finish) -> Fn:
    plain, given_up, ends, inside = plan.plain, happenings, plan.ends, current.get
    within = _full(plan, fn, core_of(plan), finish)

    def guarded(*args: Any, **kwargs: Any) -> Any:
        if inside() is not None:
            return within(*args, **kwargs)
        tried = given_up.number
        try:
            value = fn(*args, **kwargs)
        except BaseException as error:
            call = first(plan, fn, args, kwargs, error, tried=tried)
        else:
            if value.__class__ in plain:
                ends.ok += 1
                return value
            call = looked(plan, fn, args, kwargs, value, tried=tried)
        return finish(plan, call)

    return guarded


# --- a breaker, perhaps with retry ---------------------------------------------------------------------------------


def _breaker(plan: Plan, fn: Fn, core: Any, finish: Finish) -> Fn:
    if plan.timed:
        return _timed_breaker(plan, fn, core, finish)
    owner, plain, given_up, ends, breaker = plan.owner, plan.plain, happenings, plan.ends, breaker_of(plan)
    inside, within = current.get, _full(plan, fn, core, finish)

    def guarded(*args: Any, **kwargs: Any) -> Any:
        window = core.window
        if window is None:
            shut = core.shut
            if shut is not None and (left := shut[1] - owner._now()) > 0.0:
                raise breaker.refusal(plan, shut, left)
            return finish(plan, Call(plan, fn, args, kwargs, owner._now()))
        if inside() is not None:
            return within(*args, **kwargs)
        tried = given_up.number
        try:
            value = fn(*args, **kwargs)
        except BaseException as error:
            call = first(plan, fn, args, kwargs, error, permit=window, tried=tried)
        else:
            if value.__class__ in plain and owner._now() < window.edge:
                window.ok += 1
                ends.ok += 1
                return value
            call = looked(plan, fn, args, kwargs, value, permit=window, tried=tried)
        return finish(plan, call)

    return guarded


def _timed_breaker(plan: Plan, fn: Fn, core: Any, finish: Finish) -> Fn:
    owner, plain, given_up, ends, breaker = plan.owner, plan.plain, happenings, plan.ends, breaker_of(plan)
    slow_after = plan.slow_after
    inside, within = current.get, _full(plan, fn, core, finish)

    def guarded(*args: Any, **kwargs: Any) -> Any:
        window = core.window
        if window is None:
            shut = core.shut
            if shut is not None and (left := shut[1] - owner._now()) > 0.0:
                raise breaker.refusal(plan, shut, left)
            return finish(plan, Call(plan, fn, args, kwargs, owner._now()))
        if inside() is not None:
            return within(*args, **kwargs)
        tried, started = given_up.number, owner._now()
        try:
            value = fn(*args, **kwargs)
        except BaseException as error:
            call = first(plan, fn, args, kwargs, error, permit=window, tried=tried, started=started)
        else:
            now = owner._now()
            if value.__class__ in plain and now < window.edge and now - started <= slow_after:
                window.ok += 1
                ends.ok += 1
                return value
            call = looked(plan, fn, args, kwargs, value, permit=window, tried=tried, started=started)
        return finish(plan, call)

    return guarded


# --- everything ----------------------------------------------------------------------------------------------------


def _full(plan: Plan, fn: Fn, core: Any, finish: Finish) -> Fn:
    owner, plain, given_up, slow_after, ends = plan.owner, plan.plain, happenings, plan.slow_after, plan.ends
    seconds = inf if plan.timeout is None else plan.timeout.seconds
    span = min(seconds, plan.deadline)
    simple = plan.simple and span < inf

    def guarded(*args: Any, **kwargs: Any) -> Any:
        window, started = core.window, owner._now()
        alone = simple and current.get() is None
        if alone:
            limit = started + span
            context = CallContext(limit, owner._clock)
        else:
            context = plan.context(started, args, kwargs)
            limit = narrowed(context, started + seconds)
        if window is None or limit <= started:
            return finish(plan, Call(plan, fn, args, kwargs, started, context=context))
        if not alone:
            plan.begins(context)
        tried, token = given_up.number, current.set(context)
        try:
            value = fn(*args, **kwargs)
        except BaseException as error:
            leave(token)
            call = first(plan, fn, args, kwargs, error, window, tried, started, context, limit)
        else:
            current.reset(token)
            now = owner._now()
            if value.__class__ in plain and now < window.edge and now < limit and now - started <= slow_after:
                window.ok += 1
                ends.ok += 1
                if not alone:
                    plan.happened(context)
                return value
            call = looked(plan, fn, args, kwargs, value, window, tried, started, context, limit, late=now >= limit)
        return finish(plan, call)

    return guarded


def narrowed(context: CallContext, limit: float) -> float:
    """Give the attempt its limit, within the call's deadline, and return it."""
    deadline = context.deadline
    if deadline is None or limit < deadline:
        context.deadline = limit
        return limit
    if deadline == inf:
        context.deadline = None
    return deadline


# --- gates ---------------------------------------------------------------------------------------------------------


def _gated(plan: Plan, fn: Fn) -> Fn:
    if plan.lone:
        return _lone_gate(plan, fn)
    core, half, one, two = core_of(plan), _first(plan, fn, handed), *pair(plan.gates)
    take, leave_one, inside = one.take, one.leave, current.get

    def guarded(*args: Any, **kwargs: Any) -> Any:
        hold: object = None
        if core.window is None or ((outer := inside()) is not None and past(plan, outer)):
            value = half(*args, **kwargs)  # which refuses
        elif (hold := take()) is None or (two is not None and not passed(two, one, hold)):
            value = Call(plan, fn, args, kwargs, plan.owner._now())
        else:
            try:
                value = half(*args, **kwargs)
            finally:
                leave_one(hold)
        if value.__class__ is not Call:
            return value
        try:
            return ended(plan, value)
        finally:
            del value

    return guarded


def _lone_gate(plan: Plan, fn: Fn) -> Fn:
    """Return the lane of a gate that stands alone: it judges nothing, so whatever comes out of the function passes as it is."""
    gate, inside = plan.gates[0], current.get
    take, leave = gate.take, gate.leave

    def guarded(*args: Any, **kwargs: Any) -> Any:
        hold = take() if inside() is None else None
        if hold is None:
            return settled(run(plan, fn, args, kwargs))
        try:
            return fn(*args, **kwargs)
        finally:
            leave(hold)

    return guarded


def pair(gates: tuple[Gate, ...]) -> tuple[Gate, Gate | None]:
    """Return the gate that gives a place, and the one to ask once it is held: where neither waits, nobody sees their order."""
    return gates[-1], gates[0] if len(gates) > 1 else None


def past(plan: Plan, outer: CallContext) -> bool:
    """Return whether the deadline that a call inherits is past: it shall not use up a slot of a quota in order to be refused."""
    return outer.deadline is not None and outer.deadline <= plan.owner._now()


def passed(quota: Gate, place: Gate, hold: object) -> bool:
    """Return whether the quota has a slot now; if not, the place is given back."""
    if quota.take() is not None:
        return True
    place.leave(hold)
    return False


# --- handing over --------------------------------------------------------------------------------------------------


def first(
    plan: Plan,
    fn: Fn,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    error: BaseException,
    permit: Permit | None = None,
    tried: int = 0,
    started: float | None = None,
    context: CallContext | None = None,
    limit: float = inf,
) -> Call:
    """Return the call whose first attempt ended in `error`; raise it again if it is no Exception."""
    call = Call(plan, fn, args, kwargs, plan.owner._now() if started is None else started, context=context)
    call.resume(permit, limit, tried, timed=started is not None)
    if isinstance(error, Exception):
        call.failed(error)
        return call
    call.abandoned()
    try:
        raise error
    finally:
        del error


def looked(
    plan: Plan,
    fn: Fn,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    value: Any,
    permit: Permit | None = None,
    tried: int = 0,
    started: float | None = None,
    context: CallContext | None = None,
    limit: float = inf,
    *,
    late: bool = False,
) -> Call:
    """Return the call whose first attempt ended in a value that needs a second look."""
    call = Call(plan, fn, args, kwargs, plan.owner._now() if started is None else started, context=context)
    call.resume(permit, limit, tried, timed=started is not None)
    call.returned(value, late=late)
    return call
