"""A retry as a loop: each pass of the loop is one attempt. Every loop is a call of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from finresilience.context import current, leave
from finresilience.errors import ConfigurationError
from finresilience.policies.call import Call

if TYPE_CHECKING:
    from contextvars import Token
    from types import TracebackType

    from finresilience.context import CallContext
    from finresilience.policies.plan import Plan


def _nothing() -> None:
    """Stands in for the function: the loop's body is the call."""


@final
class _Done:
    """Stands in for the answer, which a loop does not see: no rule may look at it."""


@final
class Attempts:
    """The attempts of one call. Made by iterating over a `Retry`; never shared between loops.

    Raises:
        ConfigurationError: if the policy has a `retry_result`: it could never be asked.
    """

    __slots__ = ("_call", "_passes", "_plan", "_token")

    def __init__(self, plan: Plan) -> None:
        if plan.retry is not None and plan.retry.retry_result is not None:
            message = (
                "a retry loop does not see its answer, so retry_result cannot be asked: raise inside `with attempt`, or guard a function"
            )
            raise ConfigurationError(message)
        if _Done not in plan.plain:
            plan.plain |= {_Done}
        self._plan = plan
        self._call = Call(plan, _nothing, (), {}, plan.owner._now())
        self._passes = 0
        self._token: Token[CallContext | None] | None = None

    def __iter__(self) -> Attempts:
        return self

    def __aiter__(self) -> Attempts:
        return self

    def __next__(self) -> Attempts:
        wait = self._next_wait()
        if wait is None:
            raise StopIteration
        if wait > 0.0:
            try:
                self._plan.owner._clock.sleep_sync(wait)
            except BaseException:
                self._call.abandoned()
                raise
        return self._passed()

    async def __anext__(self) -> Attempts:
        wait = self._next_wait()
        if wait is None:
            raise StopAsyncIteration
        if wait > 0.0:
            try:
                await self._plan.owner._clock.sleep(wait)
            except BaseException:
                self._call.abandoned()
                raise
        return self._passed()

    def _next_wait(self) -> float | None:
        if self._call.running:
            message = "each pass of a retry loop needs `with attempt:` round its body, or its errors are not seen"
            raise ConfigurationError(message)
        return self._call.wait

    def _passed(self) -> Attempts:
        self._call.running = True
        self._passes += 1
        return self

    @property
    def number(self) -> int:
        """Which attempt this is, 1 for the first."""
        return self._passes

    def __enter__(self) -> Attempts:
        if self._token is not None or not self._call.running:
            message = "each pass of a retry loop makes one attempt: put the whole of it into one `with attempt:`"
            raise ConfigurationError(message)
        if not self._call.admit():
            self._call.running = False
            self._call.outcome().unwrap()
        self._token = current.set(self._call.enter())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> bool:
        assert self._token is not None  # noqa: S101 - nobody leaves what was not entered
        leave(self._token)
        self._token = None
        try:
            return self._judged(error)
        finally:
            del error, traceback

    def _judged(self, error: BaseException | None) -> bool:
        call = self._call
        if error is None:
            call.returned(_Done())
            call.outcome()
            return False
        if not isinstance(error, Exception):
            call.abandoned()
            return False
        call.failed(error)
        if call.wait is not None:
            return True
        end = call.outcome()
        try:
            if getattr(end, "error", None) is not error:
                end.unwrap()
            return False
        finally:
            del end, error
