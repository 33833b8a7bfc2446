"""What one caller at a rate limiter knows, and the turn of one block."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, final

from finresilience.context import current
from finresilience.errors import ConfigurationError

if TYPE_CHECKING:
    from types import TracebackType

    from finresilience.cores.line import Place
    from finresilience.outcome import Refused
    from finresilience.policies.limiter import RateLimiter


def deadline_here() -> float:
    """Return the deadline of the call or block around us, infinite where there is none."""
    context = current.get()
    return inf if context is None or context.deadline is None else context.deadline


@final
class Turn:
    """What one caller in the line knows: its place, until when it will wait, and what came of it."""

    __slots__ = ("deadline", "place", "refusal", "started", "stood", "until", "wait")

    def __init__(self, place: Place, started: float, until: float, deadline: float) -> None:
        self.place: Place = place
        self.wait: float = place.wait
        self.started: float = started
        self.until: float = until
        self.deadline: float = deadline
        self.stood: float = 0.0
        self.refusal: Refused | None = None


@final
class RateGuard:
    """One block, one turn. The same object serves `with` and `async with`, once."""

    __slots__ = ("_limiter", "_used")

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter
        self._used = False

    def _use(self) -> RateLimiter:
        if self._used:
            message = "this turn was used already: call guard() again for each block"
            raise ConfigurationError(message)
        self._used = True
        return self._limiter

    def __enter__(self) -> RateGuard:
        self._use().enter(deadline_here())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        """Do nothing: a turn is used up the moment it comes."""

    async def __aenter__(self) -> RateGuard:
        await self._use().aenter(deadline_here())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        """Do nothing, as above."""
