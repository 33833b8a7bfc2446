"""The fast lanes of async functions: those of `lanes`, with the awaits.

Where there is a limit, asyncio's wheel or trio's own scopes hold the call to it. Loaded when the first async function is guarded.
"""

from __future__ import annotations

import sys
from math import inf
from typing import TYPE_CHECKING, Any

from finresilience.context import current, happenings, leave
from finresilience.errors import ExpiredError
from finresilience.policies.call import Call
from finresilience.policies.lanes import breaker_of, core_of, direct, first, looked, narrowed, pair, passed, past
from finresilience.policies.limits import LEAST, MOST, after_expiry, asyncio_kit, trio_kit
from finresilience.policies.shells import aended, ahanded, arun, settled

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.cores.window import LiveWindow
    from finresilience.policies.lanes import Finish, Fn
    from finresilience.policies.plan import Plan


def async_lane(plan: Plan, fn: Fn) -> Fn:
    """Return the async function that makes a call under `plan`."""
    if not direct(plan):
        return _aslow(plan, fn)
    if plan.inside is not None:
        fn = async_lane(plan.inside, fn)
    return _agated(plan, fn) if plan.gates else _afirst(plan, fn, aended)


def _afirst(plan: Plan, fn: Fn, finish: Finish) -> Fn:
    """Return the lane that does no more than this plan needs."""
    if not plan.light or (plan.breaker is None and plan.timed):
        return _afull(plan, fn, core_of(plan), finish)
    return _aretry(plan, fn, finish) if plan.breaker is None else _abreaker(plan, fn, core_of(plan), finish)


def _aslow(plan: Plan, fn: Fn) -> Fn:
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        return settled(await arun(plan, fn, args, kwargs))

    return guarded


def _aretry(plan: Plan, fn: Fn, finish: Finish) -> Fn:
    plain, given_up, ends, inside = plan.plain, happenings, plan.ends, current.get
    within = _afull(plan, fn, core_of(plan), finish)

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        if inside() is not None:
            return await within(*args, **kwargs)
        tried = given_up.number
        try:
            value = await fn(*args, **kwargs)
        except BaseException as error:
            call = first(plan, fn, args, kwargs, error, tried=tried)
        else:
            if value.__class__ in plain:
                ends.ok += 1
                return value
            call = looked(plan, fn, args, kwargs, value, tried=tried)
        return await finish(plan, call)

    return guarded


def _abreaker(plan: Plan, fn: Fn, core: Any, finish: Finish) -> Fn:
    owner, plain, given_up, ends, breaker = plan.owner, plan.plain, happenings, plan.ends, breaker_of(plan)
    slow_after = plan.slow_after
    timed = plan.timed
    inside, within = current.get, _afull(plan, fn, core, finish)

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        window = core.window
        if window is None:
            shut = core.shut
            if shut is not None and (left := shut[1] - owner._now()) > 0.0:
                raise breaker.refusal(plan, shut, left)
            return await finish(plan, Call(plan, fn, args, kwargs, owner._now()))
        if inside() is not None:
            return await within(*args, **kwargs)
        tried, started = given_up.number, owner._now() if timed else None
        try:
            value = await fn(*args, **kwargs)
        except BaseException as error:
            call = first(plan, fn, args, kwargs, error, permit=window, tried=tried, started=started)
        else:
            now = owner._now()
            if value.__class__ in plain and now < window.edge and (started is None or now - started <= slow_after):
                window.ok += 1
                ends.ok += 1
                return value
            call = looked(plan, fn, args, kwargs, value, permit=window, tried=tried, started=started)
        return await finish(plan, call)

    return guarded


def _afull(plan: Plan, fn: Fn, core: Any, finish: Finish, apart: Fn | None = None) -> Fn:  # noqa: C901, PLR0915 - one lane, read from top to bottom
    owner, plain, given_up, slow_after, ends = plan.owner, plan.plain, happenings, plan.slow_after, plan.ends
    seconds, exact = (inf, False) if plan.timeout is None else (plan.timeout.seconds, plan.timeout.exact)
    span, alone = min(seconds, plan.deadline), plan.breaker is None
    wheeled = plan.simple and not exact and LEAST <= span <= MOST
    running_loop: Any = None
    task_of: Any = None
    wheel_of: Any = None
    new_alarm: Any = None
    elsewhere, inside, enter, reset = _elsewhere(plan, fn, finish), current.get, current.set, current.reset
    take: Callable[[], object] | None = None
    leave_place: Callable[[object], None] | None = None
    if apart is not None:
        take, leave_place = _place(plan)

    async def guarded(*args: Any, **kwargs: Any) -> Any:  # noqa: C901, PLR0912, PLR0915 - as above
        nonlocal running_loop, task_of, wheel_of, new_alarm
        window, tell = core.window, owner._now
        if running_loop is None:
            running_loop, task_of, wheel_of, new_alarm = asyncio_kit()
        loop = running_loop()
        task = None if loop is None else task_of(loop)
        if window is None or task is None:
            return await (elsewhere(window, tell(), args, kwargs) if apart is None else apart(*args, **kwargs))
        hold, outer = None, inside()
        if take is not None and ((outer is not None and past(plan, outer)) or (hold := take()) is None):
            return await finish(plan, Call(plan, fn, args, kwargs, tell()))
        try:
            started = tell()
            alarm, clock = new_alarm(), owner._clock
            try:
                wheel = loop._finresilience_wheel  # pyright: ignore[reportOptionalMemberAccess]  # without a loop there is no task
            except AttributeError:
                wheel = wheel_of(loop, clock)
            if wheel.clock is not clock:
                wheel = wheel_of(loop, clock)
            if wheeled and outer is None:  # as `wheel.arm` does, without the call
                alarm.deadline = limit = started + span
                alarm.clock = clock
                slot = wheel.near if wheel.near_from <= limit < wheel.near_to else wheel.slot(limit, started)
                alarm.task, alarm.slot, alarm.cancelling = task, slot, task.cancelling()
                alarm.rung = nested = False
                slot[alarm] = None
            else:
                nested = True
                limit = narrowed(plan.context(started, args, kwargs, alarm), started + seconds)
                if limit <= started:
                    return await finish(plan, Call(plan, fn, args, kwargs, started, context=alarm))
                plan.begins(alarm)
                slot = wheel.arm(alarm, task, when=limit, now=started, exact=exact)
            tried, token = given_up.number, enter(alarm)
            try:
                value = await fn(*args, **kwargs)
            except BaseException as error:
                leave(token)
                expired, rung = wheel.disarm(alarm, error), alarm.rung
                if expired or (rung and isinstance(error, Exception)):
                    expiry = ExpiredError(owner.name, limit - started, cut=limit < started + seconds)
                    error = after_expiry(plan, error, expiry) if isinstance(error, Exception) else expiry
                call = first(plan, fn, args, kwargs, error, window, tried, started, alarm, limit)
            else:
                reset(token)
                try:
                    del slot[alarm]  # as `wheel.disarm` does; it is there unless its time has come
                    alarm.task, late = None, False
                except KeyError:
                    wheel.disarm(alarm, None)
                    late = alarm.rung
                if value.__class__ in plain and not late:
                    if nested:
                        plan.happened(alarm)
                    if alone:
                        ends.ok += 1
                        return value
                    now = tell()
                    if now < window.edge and now - started <= slow_after:
                        window.ok += 1
                        ends.ok += 1
                        return value
                call = looked(plan, fn, args, kwargs, value, window, tried, started, alarm, limit, late=late)
        finally:
            if leave_place is not None and hold is not None:
                leave_place(hold)
        return await finish(plan, call)

    return guarded


def _elsewhere(plan: Plan, fn: Fn, finish: Finish) -> Fn:  # noqa: C901 - as above
    """Return the lane for trio, where its own scopes hold the limit, and for whatever else is not a task of asyncio."""
    owner, plain, given_up, slow_after, ends = plan.owner, plan.plain, happenings, plan.slow_after, plan.ends
    seconds = inf if plan.timeout is None else plan.timeout.seconds
    new_scope: Any = None
    time: Any = None

    async def guarded(window: LiveWindow | None, started: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: C901
        nonlocal new_scope, time
        nested = current.get() is not None
        context = plan.context(started, args, kwargs)
        limit = narrowed(context, started + seconds)
        if window is None or limit <= started:
            return await finish(plan, Call(plan, fn, args, kwargs, started, context=context))
        if nested:
            plan.begins(context)
        if new_scope is None and "trio" in sys.modules:
            new_scope, time = trio_kit()
        scope = None if new_scope is None or limit == inf else new_scope(deadline=time() + limit - started)
        value: Any = None
        tried, token = given_up.number, current.set(context)
        try:
            if scope is None:
                value = await fn(*args, **kwargs)
            else:
                with scope:
                    value = await fn(*args, **kwargs)
                if scope.cancelled_caught:
                    raise ExpiredError(owner.name, limit - started, cut=limit < started + seconds)
        except BaseException as error:
            leave(token)
            if scope is not None and scope.cancel_called and isinstance(error, Exception):
                error = after_expiry(plan, error, ExpiredError(owner.name, limit - started, cut=limit < started + seconds))
            call = first(plan, fn, args, kwargs, error, window, tried, started, context, limit)
        else:
            current.reset(token)
            late, now = scope is not None and scope.cancel_called, owner._now()
            if value.__class__ in plain and now < window.edge and not late and now - started <= slow_after:
                window.ok += 1
                ends.ok += 1
                if nested:
                    plan.happened(context)
                return value
            call = looked(plan, fn, args, kwargs, value, window, tried, started, context, limit, late=late)
        return await finish(plan, call)

    return guarded


# --- gates ---------------------------------------------------------------------------------------------------------


def _agated(plan: Plan, fn: Fn) -> Fn:
    if plan.lone:
        return _alone_gate(plan, fn)
    apart = _in_two_steps(plan, fn)
    if not plan.light or (plan.breaker is None and plan.timed):
        return _afull(plan, fn, core_of(plan), aended, apart)
    return apart


def _place(plan: Plan) -> tuple[Callable[[], object], Callable[[object], None]]:
    """Return what takes a place, and a slot with it, and what leaves the place."""
    one, two = pair(plan.gates)
    if two is None:
        return one.take, one.leave

    def take() -> object:
        hold = one.take()
        return hold if hold is not None and passed(two, one, hold) else None

    return take, one.leave


def _in_two_steps(plan: Plan, fn: Fn) -> Fn:
    core, half, inside = core_of(plan), _afirst(plan, fn, ahanded), current.get
    take, leave_one = _place(plan)

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        hold: object = None
        if core.window is None or ((outer := inside()) is not None and past(plan, outer)):
            value = await half(*args, **kwargs)
        elif (hold := take()) is None:
            value = Call(plan, fn, args, kwargs, plan.owner._now())
        else:
            try:
                value = await half(*args, **kwargs)
            finally:
                leave_one(hold)
        if value.__class__ is not Call:
            return value
        try:
            return await aended(plan, value)
        finally:
            del value

    return guarded


def _alone_gate(plan: Plan, fn: Fn) -> Fn:
    gate, inside = plan.gates[0], current.get
    take, leave_gate = gate.take, gate.leave

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        hold = take() if inside() is None else None
        if hold is None:
            return settled(await arun(plan, fn, args, kwargs))
        try:
            return await fn(*args, **kwargs)
        finally:
            leave_gate(hold)

    return guarded
