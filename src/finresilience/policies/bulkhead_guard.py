"""A place in a bulkhead for one block of code."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, final

from finresilience.context import current
from finresilience.errors import ConfigurationError, DeadlineExceededError

if TYPE_CHECKING:
    from types import TracebackType

    from finresilience.policies.gates import Gate
    from finresilience.policies.guarding import Guarding


@final
class BulkheadGuard:
    """One block, one place. The same object serves `with` and `async with`, once."""

    __slots__ = ("_gate", "_hold", "_policy", "_used")

    def __init__(self, policy: Guarding, gate: Gate) -> None:
        self._policy = policy
        self._gate = gate
        self._hold: object = None
        self._used = False

    def _deadline(self) -> float:
        if self._used:
            message = "this permit was used already: call guard() again for each block"
            raise ConfigurationError(message)
        self._used = True
        context = current.get()
        if context is None or context.deadline is None:
            return inf
        late = self._policy._now() - context.deadline
        if late >= 0.0:
            raise DeadlineExceededError(self._policy.name, late)
        return context.deadline

    def __enter__(self) -> BulkheadGuard:
        deadline = self._deadline()
        try:
            self._hold = self._gate.take()
            if self._hold is None:
                self._hold = self._gate.enter(deadline)
        except BaseException:  # interrupted, perhaps with the place in hand
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        hold, self._hold = self._hold, None
        if hold is not None:
            self._gate.leave(hold)

    async def __aenter__(self) -> BulkheadGuard:
        deadline = self._deadline()
        try:
            self._hold = self._gate.take()
            if self._hold is None:
                self._hold = await self._gate.aenter(deadline)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        self.__exit__(kind, error, traceback)
