"""The two loops round a call: ask, attempt, do what the core says. Sync and async differ by the awaits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finresilience.context import current, leave
from finresilience.errors import RefusedError
from finresilience.outcome import Outcome, Unknown
from finresilience.policies.call import Call
from finresilience.policies.limits import AsyncLimit, after_expiry

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.policies.plan import Plan


def run(plan: Plan, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome[Any]:
    """Make the call from its beginning and return how it ended."""
    if plan.inside is not None or plan.staged:
        from finresilience.policies.staged import run_staged

        return run_staged(plan, fn, args, kwargs)
    return go_on(plan, Call(plan, fn, args, kwargs, plan.owner._now()))


async def arun(plan: Plan, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome[Any]:
    """Make the call from its beginning and return how it ended."""
    if plan.inside is not None or plan.staged:
        from finresilience.policies.staged import arun_staged

        return await arun_staged(plan, fn, args, kwargs)
    return await ago_on(plan, Call(plan, fn, args, kwargs, plan.owner._now()))


def go_on(plan: Plan, call: Call) -> Outcome[Any]:
    """Make whatever attempts the call still needs, ask if the outcome stays unknown, and return how it ended."""
    while call.wait is not None:
        if call.wait > 0.0:
            try:
                plan.owner._clock.sleep_sync(call.wait)
            except BaseException:
                call.abandoned()
                raise
        if call.admit() and (not plan.gates or _pass(call)):
            _attempt(plan, call)
    outcome = call.outcome()
    try:
        if plan.inquiry is not None and isinstance(outcome, Unknown):
            outcome = plan.inquiry.ask(plan, call, outcome)
        return outcome
    finally:
        del outcome  # the error's traceback keeps this frame


async def ago_on(plan: Plan, call: Call) -> Outcome[Any]:
    """Make whatever attempts the call still needs, ask if the outcome stays unknown, and return how it ended."""
    while call.wait is not None:
        if call.wait > 0.0:
            try:
                await plan.owner._clock.sleep(call.wait)
            except BaseException:
                call.abandoned()
                raise
        if call.admit() and (not plan.gates or await _apass(call)):
            await _aattempt(plan, call)
    outcome = call.outcome()
    try:
        if plan.inquiry is not None and isinstance(outcome, Unknown):
            outcome = await plan.inquiry.aask(plan, call, outcome)
        return outcome
    finally:
        del outcome  # the error's traceback keeps this frame


def _pass(call: Call) -> bool:
    """Go through the gates, waiting where they say so, and return whether the attempt may be made."""
    try:
        for gate in call.gates():
            call.holds.append((gate, gate.enter(call.deadline)))
    except RefusedError as refusal:
        return call.turned_away(refusal)
    except BaseException:
        call.abandoned()
        raise
    return call.let_in()


async def _apass(call: Call) -> bool:
    """Go through the gates, waiting where they say so, and return whether the attempt may be made."""
    try:
        for gate in call.gates():
            call.holds.append((gate, await gate.aenter(call.deadline)))
    except RefusedError as refusal:
        return call.turned_away(refusal)
    except BaseException:
        call.abandoned()
        raise
    return call.let_in()


def _attempt(plan: Plan, call: Call) -> None:
    token = current.set(call.enter())
    threads = None if plan.timeout is None else plan.timeout.threads
    try:
        value = call.fn(*call.args, **call.kwargs) if threads is None else threads.run(plan.owner, call)
    except Exception as error:
        call.failed(error)
    except BaseException:
        call.abandoned()
        raise
    else:
        call.returned(value, late=call.limit <= plan.owner._now())
    finally:
        leave(token)


async def _aattempt(plan: Plan, call: Call) -> None:
    token = current.set(call.enter())
    exact = plan.timeout is not None and plan.timeout.exact
    value: Any = None
    limit = AsyncLimit(plan.owner.name, clock=plan.owner._clock, limit=call.limit, now=call.attempt_started, exact=exact, cut=call.cut)
    try:
        with limit:
            answer = call.fn(*call.args, **call.kwargs)
            # A plain function's value is in hand, and is never thrown away.
            value = await answer if hasattr(type(answer), "__await__") else answer
    except Exception as error:
        call.failed(after_expiry(plan, error, limit.expired()) if limit.late else error)
    except BaseException:
        call.abandoned()
        raise
    else:
        call.returned(value, late=limit.late)
    finally:
        leave(token)


def ended(plan: Plan, call: Call) -> Any:
    """Make whatever attempts the call still needs, and return or raise what the plain call does."""
    try:
        return settled(go_on(plan, call))
    finally:
        del call  # the error's traceback keeps this frame, and a call knows its refusal


async def aended(plan: Plan, call: Call) -> Any:
    """Make whatever attempts the call still needs, and return or raise what the plain call does."""
    try:
        return settled(await ago_on(plan, call))
    finally:
        del call


def handed(_: Plan, call: Call) -> Call:
    """Hand the call back as it is: whoever holds the gates of its first attempt leaves them before anything waits."""
    return call


async def ahanded(_: Plan, call: Call) -> Call:
    """Hand the call back as it is, see `handed`."""
    return call


def settled(outcome: Outcome[Any]) -> Any:
    """Return or raise what the plain call returns or raises, leaving nothing in this frame for the traceback to keep alive."""
    try:
        return outcome.unwrap()
    finally:
        del outcome
