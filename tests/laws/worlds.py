"""Small worlds for the laws: a provider that does what its script says, and a way to run on both event loops."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from finresilience import NON_RETRYABLE, RETRYABLE, CircuitBreaker, Constant, Effect, ErrorClassifier, Event, Pipeline, Retry, Timeout
from finresilience.testing import ManualClock, run_virtual


class Down(Exception):
    """Known not applied."""


class Lost(Exception):
    """Nobody knows."""


class No(Exception):
    """The answer is no."""


RULES = ErrorClassifier({Down: RETRYABLE, No: NON_RETRYABLE})
both_loops = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Provider:
    """Plays one line of its script per attempt: an error is raised, a number is slept, anything else is the answer."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.attempts = 0

    def _line(self) -> Any:
        self.attempts += 1
        return self.script.pop(0) if self.script else "ok"

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


def guarded(effect: Effect = Effect.IDEMPOTENT_BY_NATURE, *, heard: list[Event] | None = None, **more: Any) -> Pipeline:
    """A pipeline of all three policies that retries at once, on virtual time."""
    listeners = [] if heard is None else [heard.append]
    breaker = more.pop("breaker", None) or CircuitBreaker("acme", clock=more.get("clock"), listeners=listeners)
    policies = (breaker, Retry(attempts=more.pop("attempts", 3), backoff=Constant(0)), Timeout(more.pop("timeout", 2.0)))
    return Pipeline("acme", *policies, classify=RULES, effect=effect, listeners=listeners, **more)


def on(backend: str, function: Any, *args: Any) -> Any:
    """Run an async function on virtual time."""
    return run_virtual(function, *args, backend=backend)  # type: ignore[arg-type]  # parametrized by name


def still() -> ManualClock:
    return ManualClock()
