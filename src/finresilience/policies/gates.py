"""What a call passes through besides the breaker and the retries: gates before each attempt, stages round the whole call.

And what stands inside of everything: in tests, trouble made on purpose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finresilience.outcome import Outcome
    from finresilience.policies.plan import Plan


class Gate(Protocol):
    """Lets one attempt in at a time that it chooses.

    A place that it gave is given back by `leave`, exactly once. A limiter's slot is used up, so `leave` need not come for it.

    A gate is asked after the breaker and before the attempt's time limit starts, so that waiting is never taken for the provider's
    silence. It refuses by raising a `RefusedError`; interrupted in a wait, it has claimed nothing.
    """

    def take(self) -> object:
        """Let the attempt in at once and return what it holds, or return None, having claimed nothing, if it would have to wait."""
        ...

    def enter(self, deadline: float) -> object:
        """Wait for admission, never past `deadline` (monotonic, by the policy's clock, may be infinite), and return what it holds."""
        ...

    async def aenter(self, deadline: float) -> object:
        """Wait for admission as `enter` does, without blocking the thread."""
        ...

    def leave(self, hold: object) -> None:
        """Give back what the attempt held. Never raises, never waits long; called from any thread or loop."""
        ...


class Stage(Protocol):
    """Stands round a whole call and sees how it ended. `go` makes the call; a stage may call it never, once, or several times."""

    def around(self, plan: Plan, go: Callable[[], Outcome[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome[Any]:
        """Return how the call ended, seen from outside of this stage."""
        ...

    async def aaround(
        self, plan: Plan, go: Callable[[], Awaitable[Outcome[Any]]], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Outcome[Any]:
        """Return how the call ended, seen from outside of this stage."""
        ...


class Innermost(Protocol):
    """Stands round the function itself, inside of every policy, so that what it does looks to them as if the provider had done it."""

    def around_function(self, fn: Callable[..., Any], operation: str, *, awaits: bool) -> Callable[..., Any]:
        """Return what is called in place of `fn` for this operation, and awaited where `awaits`."""
        ...

    def warning(self) -> str:
        """Return what `explain` says of it."""
        ...
