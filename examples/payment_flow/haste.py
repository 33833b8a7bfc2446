"""How does a minute pass in three seconds? By an event loop and a clock that run `SPEED` times as fast as the machine's.

Inside, everything is written and measured in the seconds of real life: timeouts, waits, open circuits. You would leave this file out.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selectors import SelectorKey

SPEED = 20


class HastySelector(selectors.DefaultSelector):
    """Waits a twentieth of what it is asked to."""

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Return what is ready, after `timeout` of the fast seconds at most."""
        return super().select(None if timeout is None else timeout / SPEED)


class HastyLoop(asyncio.SelectorEventLoop):
    """An event loop on which every timer, those of asyncio, anyio and httpx too, is in fast seconds."""

    def __init__(self) -> None:
        super().__init__(HastySelector())

    def time(self) -> float:
        """Return the fast time."""
        return super().time() * SPEED


class HastyClock:
    """The same time for finresilience, which asks a clock and not the loop."""

    def monotonic(self) -> float:
        """Return fast seconds from an arbitrary start."""
        return time.monotonic() * SPEED

    def utc(self) -> datetime:
        """Return the time of day, which nobody hurries."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float, /) -> None:
        """Wait on the fast loop."""
        await asyncio.sleep(seconds)

    def sleep_sync(self, seconds: float, /) -> None:
        """Block for so many fast seconds."""
        time.sleep(seconds / SPEED)


def journal_time() -> float:
    """Return the time of day in fast seconds: providers and callers are processes of one machine, and must agree on it."""
    return time.time() * SPEED
