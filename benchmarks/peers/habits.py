"""What people put together by hand: tenacity or stamina, with a plain breaker, a semaphore and `asyncio.timeout` beside it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from inspect import iscoroutinefunction
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any, cast

from benchmarks.peers.breakers import purgatory_closed, pybreaker_closed
from benchmarks.peers.settings import AT_WORK

if TYPE_CHECKING:
    from benchmarks.loops import Call


def _tenacity(stop: Any = None) -> Any:
    import tenacity

    return tenacity.retry(
        stop=stop or tenacity.stop_after_attempt(3),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=5.0),
        retry=tenacity.retry_if_exception_type(ConnectionError),
        reraise=True,
    )


def tenacity_retry(fn: Call) -> Call:
    return cast("Call", _tenacity()(fn))


def stamina_retry(fn: Call) -> Call:
    import stamina

    return stamina.retry(on=ConnectionError, attempts=3, wait_initial=timedelta(seconds=0.1), wait_max=timedelta(seconds=5))(fn)


def semaphore(fn: Call) -> Call:
    """Hold a semaphore of the standard library, which waits for ever: asyncio's for an async function, a thread's for a plain one."""
    if iscoroutinefunction(fn):
        places = asyncio.Semaphore(AT_WORK)

        async def within(*args: Any, **kwargs: Any) -> Any:
            async with places:
                return await fn(*args, **kwargs)

        return within
    slots = BoundedSemaphore(AT_WORK)

    def inside(*args: Any, **kwargs: Any) -> Any:
        with slots:
            return fn(*args, **kwargs)

    return inside


def _bounded(fn: Call) -> Call:
    async def bounded(*args: Any, **kwargs: Any) -> Any:
        async with asyncio.timeout(2.0):
            return await fn(*args, **kwargs)

    return bounded


def tenacity_pybreaker(fn: Call) -> Call:
    return pybreaker_closed(tenacity_retry(fn))


def tenacity_pybreaker_cooperative(fn: Call) -> Call:
    import tenacity

    stop = tenacity.stop_any(tenacity.stop_after_attempt(3), tenacity.stop_after_delay(2.0))
    return pybreaker_closed(_tenacity(stop)(fn))


def tenacity_pybreaker_semaphore(fn: Call) -> Call:
    return tenacity_pybreaker(semaphore(fn))


def tenacity_purgatory_timeout(fn: Call) -> Call:
    return purgatory_closed(tenacity_retry(_bounded(fn)))


def tenacity_purgatory_semaphore_timeout(fn: Call) -> Call:
    return purgatory_closed(tenacity_retry(semaphore(_bounded(fn))))
