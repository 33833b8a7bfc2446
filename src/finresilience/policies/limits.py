"""How is one async attempt held to its limit? By the wheel on asyncio, by its own scopes on trio."""

from __future__ import annotations

import sys
from math import inf
from typing import TYPE_CHECKING, Any, Final, final

from finresilience.errors import ExpiredError
from finresilience.outcome import NON_RETRYABLE

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Callable
    from types import TracebackType

    from trio import CancelScope

    from finresilience.clock import Clock
    from finresilience.policies.plan import Plan
    from finresilience.policies.wheel import Alarm, Wheel


# What the wheel holds: fixed here, since a lane must know before asyncio is loaded.
RATE: Final = 100.0  # ticks a second
LEAST: Final = 0.1  # seconds; shorter waits get a timer of their own: a tick would be too coarse
MOST: Final = 60.0  # longer ones too: their slots would pile up


def asyncio_kit() -> tuple[Callable[[], Any], Callable[[Any], Task[Any] | None], Callable[[Any, Any], Wheel], type[Alarm]]:
    """Return what a lane needs of asyncio: the running loop, its task, its wheel, and alarms. Loaded at the first async call."""
    import asyncio

    from finresilience.policies.wheel import Alarm, wheel_of

    # Before 3.12 `current_task` is a Python function round a dict, and looks for the loop that we have already.
    old = sys.version_info < (3, 12)
    task_of: Callable[[Any], Task[Any] | None] = vars(asyncio.tasks)["_current_tasks"].get if old else asyncio.current_task
    return asyncio._get_running_loop, task_of, wheel_of, Alarm


def trio_kit() -> tuple[Callable[..., CancelScope], Callable[[], float]]:
    """Return what a lane needs of trio: its scopes and its time."""
    import trio

    return trio.CancelScope, trio.current_time


def asyncio_task() -> Task[Any] | None:
    """Return the running asyncio task, or None where another library runs this code."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:
        return None
    task: Task[Any] | None = asyncio.current_task()
    return task


def after_expiry(plan: Plan, error: Exception, expiry: ExpiredError) -> Exception:
    """Return what an attempt ended in that raised something else once it was cancelled by its limit.

    A provider's no that was in hand stays. Anything else may come from the code that cleaned up, and tells nothing of what was sent.
    """
    from finresilience.classify.evidence import instead_of_cancellation

    in_hand = plan.classifier.error(error).classification is NON_RETRYABLE and not instead_of_cancellation(error)
    if isinstance(error, ExpiredError) or in_hand:
        return error
    expiry.__cause__ = error
    return expiry


@final
class AsyncLimit:
    """Raise `ExpiredError` in the block once the monotonic time is `limit`; use it once.

    Its own expiry is told apart from a cancellation from outside, which passes through untouched. A block that finishes in
    spite of the expiry keeps its result; `late` tells.
    """

    __slots__ = ("_alarm", "_clock", "_cut", "_exact", "_limit", "_name", "_now", "_scope", "_wheel", "late")

    def __init__(self, name: str, *, clock: Clock, limit: float, now: float, exact: bool, cut: bool = False) -> None:
        self._name = name
        self._clock = clock
        self._limit = limit
        self._now = now
        self._exact = exact
        self._cut = cut
        self._alarm: Alarm | None = None
        self._scope: CancelScope | None = None
        self.late: bool = False

    def __enter__(self) -> AsyncLimit:
        if self._limit == inf:
            return self
        task = asyncio_task()
        if task is None:
            self._scope = trio_scope(self._limit - self._now)
            self._scope.__enter__()
        else:
            from finresilience.policies.wheel import Alarm, wheel_of

            self._wheel: Wheel = wheel_of(task.get_loop(), self._clock)
            self._alarm = Alarm()
            self._wheel.arm(self._alarm, task, when=self._limit, now=self._now, exact=self._exact)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> bool:
        if self._scope is not None:
            swallowed = bool(self._scope.__exit__(kind, error, traceback))
            self.late = self._scope.cancel_called
            if swallowed and self._scope.cancelled_caught:
                raise self.expired() from None
            return swallowed
        if self._alarm is not None:
            self.late = self._alarm.rung
            if self._wheel.disarm(self._alarm, error):
                raise self.expired() from None
        return False

    def expired(self) -> ExpiredError:
        """Return the error of an attempt that outlived this limit."""
        return ExpiredError(self._name, self._limit - self._now, cut=self._cut)


def trio_scope(seconds: float) -> CancelScope:
    """Return a trio scope that is cancelled in `seconds`."""
    import trio

    return trio.CancelScope(deadline=trio.current_time() + seconds)
