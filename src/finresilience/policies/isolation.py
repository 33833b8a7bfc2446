"""A hold on a circuit that somebody must let go."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from types import TracebackType

    from finresilience.policies.breaker import CircuitBreaker


@final
class Isolation:
    """Keeps a circuit shut until `release`, or to the end of a `with` block. Releasing twice changes nothing."""

    __slots__ = ("_held",)

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._held: list[CircuitBreaker] = [breaker]

    def release(self) -> None:
        """Let go. The circuit begins closed and empty once nobody holds it."""
        try:
            breaker = self._held.pop()  # one step: of two threads that let go at once, one does
        except IndexError:
            return
        breaker.rejoin()

    def __enter__(self) -> Isolation:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        self.release()
