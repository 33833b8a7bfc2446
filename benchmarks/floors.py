"""What must any guard cost? The least that a careful hand would write in its place; every ratio is to one of these."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.harness import Call, Unsupported


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
