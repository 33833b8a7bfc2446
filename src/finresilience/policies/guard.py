"""A breaker's permit for one block of code."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, final

from finresilience.errors import CircuitOpenError, ConfigurationError, ExpiredError
from finresilience.outcome import NON_RETRYABLE
from finresilience.policies.decorate import Kind

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.cores.breaker import Permit
    from finresilience.policies.breaker import CircuitBreaker


@final
class CircuitGuard:
    """One block, one permit. The same object serves `with` and `async with`, once."""

    __slots__ = ("_breaker", "_classifier", "_permit", "_started", "_used")

    def __init__(self, breaker: CircuitBreaker, classifier: ErrorClassifier) -> None:
        self._breaker = breaker
        self._classifier = classifier
        self._permit: Permit | None = None
        self._started = 0.0
        self._used = False

    def __enter__(self) -> CircuitGuard:
        if self._used:
            message = "this permit was used already: call guard() again for each block"
            raise ConfigurationError(message)
        self._used = True
        breaker = self._breaker
        self._started = breaker._now()
        answer = breaker.claim(self._started)
        if isinstance(answer, tuple):
            raise CircuitOpenError(*answer)
        self._permit = answer
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        permit, self._permit = self._permit, None
        if permit is None:
            return
        breaker = self._breaker
        now = breaker._now()
        slow = now - self._started > breaker.slow_after
        if error is None:
            breaker.settle(permit, now, failed=False, slow=slow)
            return
        verdict = self._classifier.error(error) if isinstance(error, Exception) else None
        if isinstance(error, ExpiredError) and error.cut and not slow:
            verdict = None  # a deadline left it too little to say anything about the provider (law 4)
        if verdict is not None and verdict.counts_against_provider:
            breaker.settle(permit, now, failed=True, slow=slow, failure=type(error).__name__, hint=verdict.retry_after)
        elif verdict is not None and verdict.classification is NON_RETRYABLE:
            breaker.settle(permit, now, failed=False, slow=slow)
        else:
            breaker.release(permit)

    async def __aenter__(self) -> CircuitGuard:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        self.__exit__(kind, error, traceback)


def guarded_generator(breaker: CircuitBreaker, fn: Callable[..., Any], kind: Kind) -> Callable[..., Any]:
    """Return `fn` with one permit for each generator, from its first step to its last."""
    if kind is Kind.GENERATOR:

        @wraps(fn)
        def steps(*args: Any, **kwargs: Any) -> Any:
            inner: Any = fn(*args, **kwargs)
            with breaker.guard():
                answer: Any = yield from inner
            return answer

        return steps

    @wraps(fn)
    async def asteps(*args: Any, **kwargs: Any) -> Any:
        from contextlib import aclosing

        async with breaker.guard(), aclosing(fn(*args, **kwargs)) as inner:
            async for item in inner:
                yield item

    return asteps
