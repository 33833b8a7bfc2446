"""A hold on a circuit that somebody must let go."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from types import TracebackType

    from finresilience.policies.breaker import CircuitBreaker


@final
class Isolation:
    """Keeps a circuit shut until `release`, or to the end of a `with` block. Releasing twice changes nothing."""

    __slots__ = ("_breaker",)

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker: CircuitBreaker | None = breaker

    def release(self) -> None:
        """Let go. The circuit begins closed and empty once nobody holds it."""
        breaker = self._breaker
        if breaker is None:
            return
        with breaker._lock:  # two threads may let go at once
            held, self._breaker = self._breaker is not None, None
        if held:
            breaker.rejoin()

    def __enter__(self) -> Isolation:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        self.release()
