"""Small worlds for the laws: a provider that does what its script says, and a way to run on both event loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from finresilience import NON_RETRYABLE, RETRYABLE, CircuitBreaker, Constant, Effect, ErrorClassifier, Event, Pipeline, Retry, Timeout
from finresilience.testing import ManualClock, run_virtual

if TYPE_CHECKING:
    from finresilience.testing.virtual import Backend


class Down(Exception):
    """Known not applied."""


class Lost(Exception):
    """Nobody knows."""


class No(Exception):
    """The answer is no."""


RULES = ErrorClassifier({Down: RETRYABLE, No: NON_RETRYABLE})
both_loops = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Provider:
    """Plays one line of its script per attempt: an error is raised, a number is slept, anything else is the answer.

    Scripts that outlive a test name classes of errors: an error that is kept keeps all that it was raised through.
    """

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.attempts = 0

    def _line(self) -> Any:
        self.attempts += 1
        line = self.script.pop(0) if self.script else "ok"
        return line() if isinstance(line, type) else line

    def charge(self, *_: Any) -> Any:
        line = self._line()
        if isinstance(line, BaseException):
            raise line
        return line

    async def acharge(self, *_: Any) -> Any:
        line = self._line()
        if isinstance(line, BaseException):
            raise line
        if isinstance(line, float):
            await anyio.sleep(line)
            return "late"
        return line


class Held:
    """Work that says when it has begun and goes on until it is let go; then it raises, or answers."""

    def __init__(self, end: Any = "ok") -> None:
        self._end = end
        self.begun, self.let_go = anyio.Event(), anyio.Event()

    async def work(self, *_: Any) -> Any:
        self.begun.set()
        await self.let_go.wait()
        if isinstance(self._end, BaseException):
            raise self._end
        return self._end


def guarded(effect: Effect = Effect.IDEMPOTENT_BY_NATURE, *, heard: list[Event] | None = None, **more: Any) -> Pipeline:
    """A pipeline of all three policies that retries at once, on virtual time."""
    listeners = [] if heard is None else [heard.append]
    breaker = more.pop("breaker", None) or CircuitBreaker("acme", clock=more.get("clock"), listeners=listeners)
    policies = (breaker, Retry(attempts=more.pop("attempts", 3), backoff=Constant(0)), Timeout(more.pop("timeout", 2.0)))
    return Pipeline("acme", *policies, classify=RULES, effect=effect, listeners=listeners, **more)


def on(backend: str, function: Any, *args: Any) -> Any:
    """Run an async function on virtual time."""
    return run_virtual(function, *args, backend=cast("Backend", backend))


def still() -> ManualClock:
    return ManualClock()
