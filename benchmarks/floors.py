"""What must any guard cost? The least that a careful hand would write in its place; every ratio is to one of these."""

from __future__ import annotations

import asyncio
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Unsupported

if TYPE_CHECKING:
    from benchmarks.loops import Call


def counted(fn: Call) -> Call:
    """Count answers and errors: the floor of a closed breaker, of a retry with nothing to do, and of recording a failure."""
    answers = errors = 0

    def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal answers, errors
        try:
            answer = fn(*args, **kwargs)
        except Exception:
            errors += 1
            raise
        answers += 1
        return answer

    return guarded


def acounted(fn: Call) -> Call:
    """Do the same to an async function."""
    answers = errors = 0

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal answers, errors
        try:
            answer = await fn(*args, **kwargs)
        except Exception:
            errors += 1
            raise
        answers += 1
        return answer

    return guarded


class Rejected(Exception):  # noqa: N818 - not an error of the callee
    """A small exception: a message and when to come back."""

    __slots__ = ("message", "retry_after")

    def __init__(self, message: str, retry_after: float) -> None:
        self.message = message
        self.retry_after = retry_after


def rejected(fn: Call) -> Call:
    """Refuse at once, and count it: the floor of an open circuit. The caller's `except` is part of the price."""
    is_open, rejections = True, 0

    def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal rejections
        if is_open:
            rejections += 1
            raise Rejected("the circuit is open", 30.0)
        return fn(*args, **kwargs)

    return guarded


def arejected(fn: Call) -> Call:
    """Do the same before an async function."""
    is_open, rejections = True, 0

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal rejections
        if is_open:
            rejections += 1
            raise Rejected("the circuit is open", 30.0)
        return await fn(*args, **kwargs)

    return guarded


def asyncio_timeout(fn: Call) -> Call:
    """Bound the call as the standard library does."""

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        async with asyncio.timeout(2.0):
            return await fn(*args, **kwargs)

    return guarded


def trio_fail_after(fn: Call) -> Call:
    """Bound the call as trio does."""
    try:
        import trio
    except ImportError:
        raise Unsupported("trio is not installed") from None

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        with trio.fail_after(2.0):
            return await fn(*args, **kwargs)

    return guarded


# ---------------------------------------------------------------- a place, and a rate

LIMIT = 20
RATE, BURST = 1e6, 1e9  # calls a second, and at once: nobody waits, however fast the loop


def placed(fn: Call) -> Call:
    """Count who is at work, under a lock: the floor of a bulkhead that serves threads."""
    lock, at_work = Lock(), 0

    def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal at_work
        with lock:
            if at_work >= LIMIT:
                raise Rejected("no place is free", 0.0)
            at_work += 1
        try:
            return fn(*args, **kwargs)
        finally:
            with lock:
                at_work -= 1

    return guarded


def aplaced(fn: Call) -> Call:
    """Count who is at work: the floor of a bulkhead in one loop, which needs no lock."""
    at_work = 0

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal at_work
        if at_work >= LIMIT:
            raise Rejected("no place is free", 0.0)
        at_work += 1
        try:
            return await fn(*args, **kwargs)
        finally:
            at_work -= 1

    return guarded


def metered(fn: Call) -> Call:
    """Take a token from a bucket in floats, under a lock: the floor of a rate limiter."""
    lock, tokens, filled = Lock(), BURST, monotonic()

    def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal tokens, filled
        with lock:
            now = monotonic()
            tokens += (now - filled) * RATE
            filled = now
            if tokens > BURST:
                tokens = BURST
            if tokens < 1.0:
                raise Rejected("too early", (1.0 - tokens) / RATE)
            tokens -= 1.0
        return fn(*args, **kwargs)

    return guarded


def ametered(fn: Call) -> Call:
    """Do the same before an async function: the bucket is the provider's, for threads and loops at once."""
    lock, tokens, filled = Lock(), BURST, monotonic()

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal tokens, filled
        with lock:
            now = monotonic()
            tokens += (now - filled) * RATE
            filled = now
            if tokens > BURST:
                tokens = BURST
            if tokens < 1.0:
                raise Rejected("too early", (1.0 - tokens) / RATE)
            tokens -= 1.0
        return await fn(*args, **kwargs)

    return guarded


def counted_and_placed(fn: Call) -> Call:
    """Count answers, errors and who is at work: the floor of a breaker, a retry and a bulkhead together."""
    lock, at_work, answers, errors = Lock(), 0, 0, 0

    def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal at_work, answers, errors
        with lock:
            if at_work >= LIMIT:
                raise Rejected("no place is free", 0.0)
            at_work += 1
        try:
            answer = fn(*args, **kwargs)
        except Exception:
            errors += 1
            raise
        finally:
            with lock:
                at_work -= 1
        answers += 1
        return answer

    return guarded


# ---------------------------------------------------------------- round a call


def replaced(fn: Call) -> Call:
    """Answer in its place when it fails: the floor of a fallback."""

    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return fn(*args, **kwargs)
        except ConnectionError:
            return "unknown"

    return guarded


def routed(fn: Call) -> Call:
    """Ask one after the other: the floor of a failover."""
    routes = (fn, fn)

    def guarded(*args: Any, **kwargs: Any) -> Any:
        for route in routes:
            try:
                return route(*args, **kwargs)
            except ConnectionRefusedError:  # surely not sent
                continue
        raise Rejected("nobody is left", 0.0)

    return guarded


def hedged(fn: Call) -> Call:
    """Make a task of the call, wait a while, and send it again: the floor of a hedge under asyncio."""

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        arms = {asyncio.create_task(fn(*args, **kwargs))}
        done, late = await asyncio.wait(arms, timeout=1.0)
        if not done:
            arms.add(asyncio.create_task(fn(*args, **kwargs)))
            done, late = await asyncio.wait(arms, return_when=asyncio.FIRST_COMPLETED)
        for arm in late:
            arm.cancel()
        return done.pop().result()

    return guarded
