"""How is one call made under its key? Claim first, run or ask, tell the store, answer. Only the async one renews its lease."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from finresilience.context import current_key, idempotency_key
from finresilience.crash_points import crash_point
from finresilience.durable.errors import FinishedOtherwiseError, StaleTokenError, StoreBusyError
from finresilience.durable.idempotent_core import Begin
from finresilience.durable.idempotent_run import ASKED, CLAIMED, DONE, INTERRUPTED, PARTING, PAUSES, STORED, Run
from finresilience.durable.records import Claimed, InProgress
from finresilience.errors import ConfigurationError
from finresilience.policies.decorate import not_a_value
from finresilience.policies.limits import AsyncLimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio import CancelScope

    from finresilience.durable.idempotent_operation import Idempotent
    from finresilience.durable.idempotent_question import Question
    from finresilience.durable.idempotent_run import Deed
    from finresilience.durable.records import Claim
    from finresilience.outcome import Outcome

_FINAL = (StaleTokenError, FinishedOtherwiseError, ConfigurationError)  # telling it again would change nothing

# ---------------------------------------------------------------- sync


def call(op: Idempotent[Any], fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Make the call once for its key, and return or raise what that gave, now or earlier."""
    question = op.question(args, kwargs)
    claim, asked_at = _claim(op, question)
    if not isinstance(claim, Claimed):
        return op.told(claim)
    with Run(op, claim, asked_at, args, kwargs) as run:
        try:
            crash_point(CLAIMED)
            outcome = op.worked(run, fn)
        except BaseException:
            crash_point(INTERRUPTED)
            tell(run, run.parting(), None)
            raise
    deed = run.deed(outcome)
    try:
        tell(run, deed, outcome)
    except BaseException:  # told to exit in the midst of it: once more, which changes nothing if it was heard
        crash_point(INTERRUPTED)
        tell(run, deed, outcome)
        raise
    crash_point(STORED)
    return run.result(deed, outcome)


def _claim(op: Idempotent[Any], question: Question) -> tuple[Claim, float]:
    waited, looks = 0.0, 0
    while True:
        asked_at = op.now()
        try:
            claim: Any = op.asks(question)
        except StoreBusyError as busy:
            claim = InProgress(busy.retry_after or 0.0)  # another open transaction has it: so somebody is at it
        if hasattr(type(claim), "__await__"):
            raise not_a_value(f"the store of {op.name}", claim)
        wait = op.patience(claim, waited, looks)
        if wait is None:
            return claim, asked_at
        op.clock.sleep_sync(wait)
        waited, looks = waited + wait, looks + 1


def work(run: Run, fn: Callable[..., Any]) -> Outcome[Any]:
    """Run the body, unless an heir must not; return how it ended."""
    op, answer = run.op, None
    if run.begin is Begin.ASK:
        answer = _ask(run)
        begin = run.asked(answer)
        crash_point(ASKED)
        if begin is Begin.RUN:
            try:
                op.store.renew(run.claimed.token, lease=op.core.terms.lease)  # the asking has used up some of it
            except Exception as error:
                run.begin, answer = Begin.LET_GO, error
    elif run.begin is Begin.LOOK:
        try:
            record = op.store.find(*run.at)
            run.looked(None if record is None else record.age)
        except Exception as error:
            run.asked(error)
            answer = error
    if run.begin is not Begin.RUN:
        return run.instead(answer)
    run.begins()
    return op.pipeline.outcome(_body, fn, run)


def _ask(run: Run) -> object:
    try:
        answer: object = run.op.recover(run.claimed, *run.args, **run.kwargs)
        if hasattr(type(answer), "__await__"):
            raise not_a_value(f"recover= of {run.op.name}", answer)
    except Exception as error:
        return error
    return answer


def _body(fn: Callable[..., Any], run: Run) -> Any:
    """Call the function under the operation's own key, from which the calls inside derive theirs."""
    with idempotency_key(current_key() or run.at[1]):
        return fn(*run.args, **run.kwargs)


def tell(run: Run, deed: Deed, outcome: Outcome[Any] | None) -> None:
    """Tell the store how it ended; a store that cannot be told is told of, and takes nothing from the caller."""
    crash_point(DONE)
    for pause in (*PAUSES, None):
        try:
            deed.write()
            return
        except Exception as error:
            if pause is None or isinstance(error, _FINAL):
                run.not_heard(deed, error, outcome)
                return
        run.op.clock.sleep_sync(pause)


# ---------------------------------------------------------------- async


async def acall(op: Idempotent[Any], fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Make the call once for its key, and return or raise what that gave, now or earlier."""
    question = op.question(args, kwargs)
    claim, asked_at = await _aclaim(op, question)
    if not isinstance(claim, Claimed):
        return op.told(claim)
    with Run(op, claim, asked_at, args, kwargs) as run:
        try:
            crash_point(CLAIMED)
            outcome = await _aheld(run, fn)
        except GeneratorExit:  # closed, and not cancelled: nothing can be awaited any more, so the lease will tell
            raise
        except BaseException:
            crash_point(INTERRUPTED)
            await atell(run, run.parting(), None)
            raise
    deed = run.deed(outcome)
    try:
        await atell(run, deed, outcome)
    except GeneratorExit:
        raise
    except BaseException:  # a cancellation that no shield holds off: once more, which changes nothing if it was heard
        crash_point(INTERRUPTED)
        await atell(run, deed, outcome)
        raise
    crash_point(STORED)
    return run.result(deed, outcome)


async def _aclaim(op: Idempotent[Any], question: Question) -> tuple[Claim, float]:
    waited, looks = 0.0, 0
    while True:
        asked_at = op.now()
        try:
            claim: Any = await op.asks(question)
        except StoreBusyError as busy:
            claim = InProgress(busy.retry_after or 0.0)
        wait = op.patience(claim, waited, looks)
        if wait is None:
            return claim, asked_at
        await op.clock.sleep(wait)
        waited, looks = waited + wait, looks + 1


async def _aheld(run: Run, fn: Callable[..., Any]) -> Outcome[Any]:
    """Run the body while its lease is renewed, until it ends or the claim is lost."""
    from anyio import CancelScope, create_task_group, get_cancelled_exc_class

    cancelled = get_cancelled_exc_class()
    outcome: Outcome[Any] | None = None
    stopped: BaseException | None = None
    async with create_task_group() as group:
        with CancelScope() as scope:
            group.start_soon(run.op.renewed, run, scope)
            try:
                outcome = await run.op.aworked(run, fn)
            except (cancelled, GeneratorExit):
                raise
            except BaseException as error:  # a task group would hand it on in a group of its own
                stopped = error
        group.cancel_scope.cancel()
    try:
        if stopped is not None:
            raise stopped
        return run.stopped() if outcome is None else outcome
    finally:
        del stopped


async def renew(run: Run, scope: CancelScope) -> None:
    """Renew the lease until cancelled. Once the claim is lost, let nothing more be sent, and stop the body if need be."""
    op, lease = run.op, run.lease
    from anyio import move_on_after

    while (wait := lease.next(op.now())) is not None:
        await op.clock.sleep(wait)
        asked_at = op.now()
        left = lease.left(asked_at)
        if left <= 0:
            break
        try:
            with move_on_after(left) as limit:
                await op.store.renew(run.claimed.token, lease=lease.seconds)
                lease.renewed(asked_at)
        except StaleTokenError as error:
            run.not_renewed(error)
            break
        except Exception as error:
            run.not_renewed(error)
            lease.failed()
        else:
            if limit.cancelled_caught:
                break
    if run.lose():
        scope.cancel()


async def awork(run: Run, fn: Callable[..., Any]) -> Outcome[Any]:
    """Run the body, unless an heir must not; return how it ended."""
    op, answer = run.op, None
    if run.begin is Begin.ASK:
        answer = await _aask(run)
        run.asked(answer)
        crash_point(ASKED)
    elif run.begin is Begin.LOOK:
        try:
            record = await op.store.find(*run.at)
            run.looked(None if record is None else record.age)
        except Exception as error:
            run.asked(error)
            answer = error
    if run.begin is not Begin.RUN:
        return run.instead(answer)
    run.begins()
    return await op.pipeline.aoutcome(_abody, fn, run)


async def _aask(run: Run) -> object:
    op, answer, now = run.op, None, run.op.now()
    span = inf if op.core.terms.deadline is None else op.core.terms.deadline
    try:
        with AsyncLimit(op.name, clock=op.clock, limit=now + span, now=now, exact=False):
            answer = op.recover(run.claimed, *run.args, **run.kwargs)
            if hasattr(type(answer), "__await__"):
                answer = await answer
    except Exception as error:
        return error
    return answer


async def _abody(fn: Callable[..., Any], run: Run) -> Any:
    """Await the function under the operation's own key, from which the calls inside derive theirs."""
    with idempotency_key(current_key() or run.at[1]):
        return await fn(*run.args, **run.kwargs)


async def atell(run: Run, deed: Deed, outcome: Outcome[Any] | None) -> None:
    """Tell the store how it ended, although we may be cancelled; for so long, lest a store that hangs holds up the shutdown."""
    from anyio import move_on_after

    crash_point(DONE)
    with move_on_after(PARTING, shield=True) as limit:
        for pause in (*PAUSES, None):
            try:
                await deed.write()
                return
            except Exception as error:
                if pause is None or isinstance(error, _FINAL):
                    run.not_heard(deed, error, outcome)
                    return
            await run.op.clock.sleep(pause)
    if limit.cancelled_caught:
        run.not_heard(deed, TimeoutError(), outcome)
