"""The fast lanes of async functions: those of `lanes`, with the awaits.

Where there is a limit, asyncio's wheel or trio's own scopes hold the call to it. Loaded when the first async function is guarded.
"""

from __future__ import annotations

import sys
from math import inf
from typing import TYPE_CHECKING, Any

from finresilience.context import current, leave
from finresilience.errors import ExpiredError
from finresilience.policies.call import Call, exhaustions
from finresilience.policies.lanes import breaker_of, core_of, deposits, first, looked, narrowed
from finresilience.policies.limits import LEAST, MOST, after_expiry, asyncio_kit, trio_kit
from finresilience.policies.shells import ago_on, arun, settled

if TYPE_CHECKING:
    from finresilience.cores.window import LiveWindow
    from finresilience.policies.lanes import Fn
    from finresilience.policies.plan import Plan


def async_lane(plan: Plan, fn: Fn) -> Fn:
    """Return the async function that makes a call under `plan`."""
    breaker = plan.breaker
    if (breaker is not None and breaker.core is None) or deposits(plan):
        return _aslow(plan, fn)
    if not plan.light or (breaker is None and plan.timed):
        return _afull(plan, fn, core_of(plan))
    return _aretry(plan, fn) if breaker is None else _abreaker(plan, fn, core_of(plan))


def _aslow(plan: Plan, fn: Fn) -> Fn:
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        return settled(await arun(plan, fn, args, kwargs))

    return guarded


def _aretry(plan: Plan, fn: Fn) -> Fn:
    plain, given_up, ends, inside = plan.plain, exhaustions, plan.ends, current.get
    within = _afull(plan, fn, core_of(plan))

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
        return settled(await ago_on(plan, call))

    return guarded


def _abreaker(plan: Plan, fn: Fn, core: Any) -> Fn:
    owner, plain, given_up, ends, breaker = plan.owner, plan.plain, exhaustions, plan.ends, breaker_of(plan)
    slow_after = plan.slow_after
    timed = plan.timed
    inside, within = current.get, _afull(plan, fn, core)

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        window = core.window
        if window is None:
            shut = core.shut
            if shut is not None and (left := shut[1] - owner._now()) > 0.0:
                raise breaker.refusal(plan, shut, left)
            return settled(await arun(plan, fn, args, kwargs))
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
        return settled(await ago_on(plan, call))

    return guarded


def _afull(plan: Plan, fn: Fn, core: Any) -> Fn:  # noqa: C901, PLR0915 - one lane, read from top to bottom
    owner, plain, given_up, slow_after, ends = plan.owner, plan.plain, exhaustions, plan.slow_after, plan.ends
    seconds, exact = (inf, False) if plan.timeout is None else (plan.timeout.seconds, plan.timeout.exact)
    span, alone = min(seconds, plan.deadline), plan.breaker is None
    wheeled = plan.simple and not exact and LEAST <= span <= MOST
    running_loop: Any = None
    task_of: Any = None
    wheel_of: Any = None
    new_alarm: Any = None
    elsewhere, inside, enter, reset = _elsewhere(plan, fn), current.get, current.set, current.reset

    async def guarded(*args: Any, **kwargs: Any) -> Any:  # noqa: C901, PLR0915 - as above
        nonlocal running_loop, task_of, wheel_of, new_alarm
        window, tell = core.window, owner._now
        started = tell()
        if running_loop is None:
            running_loop, task_of, wheel_of, new_alarm = asyncio_kit()
        loop = running_loop()
        task = None if loop is None else task_of(loop)
        if window is None or task is None:
            return await elsewhere(window, started, args, kwargs)
        alarm, clock = new_alarm(), owner._clock
        try:
            wheel = loop._finresilience_wheel  # pyright: ignore[reportOptionalMemberAccess]  # without a loop there is no task
        except AttributeError:
            wheel = wheel_of(loop, clock)
        if wheel.clock is not clock:
            wheel = wheel_of(loop, clock)
        if wheeled and inside() is None:  # as `wheel.arm` does, without the call
            alarm.deadline = limit = started + span
            alarm.clock = clock
            slot = wheel.near if wheel.near_from <= limit < wheel.near_to else wheel.slot(limit, started)
            alarm.task, alarm.slot, alarm.cancelling = task, slot, task.cancelling()
            alarm.rung = False
            slot[alarm] = None
        else:
            limit = narrowed(plan.context(started, args, kwargs, alarm), started + seconds)
            if limit <= started:
                return settled(await ago_on(plan, Call(plan, fn, args, kwargs, started, context=alarm)))
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
                if alone:
                    ends.ok += 1
                    return value
                now = tell()
                if now < window.edge and now - started <= slow_after:
                    window.ok += 1
                    ends.ok += 1
                    return value
            call = looked(plan, fn, args, kwargs, value, window, tried, started, alarm, limit, late=late)
        return settled(await ago_on(plan, call))

    return guarded


def _elsewhere(plan: Plan, fn: Fn) -> Fn:
    """Return the lane for trio, where its own scopes hold the limit, and for whatever else is not a task of asyncio."""
    owner, plain, given_up, slow_after, ends = plan.owner, plan.plain, exhaustions, plan.slow_after, plan.ends
    seconds = inf if plan.timeout is None else plan.timeout.seconds
    new_scope: Any = None
    time: Any = None

    async def guarded(window: LiveWindow | None, started: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        nonlocal new_scope, time
        context = plan.context(started, args, kwargs)
        limit = narrowed(context, started + seconds)
        if window is None or limit <= started:
            return settled(await ago_on(plan, Call(plan, fn, args, kwargs, started, context=context)))
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
                return value
            call = looked(plan, fn, args, kwargs, value, window, tried, started, context, limit, late=late)
        return settled(await ago_on(plan, call))

    return guarded
