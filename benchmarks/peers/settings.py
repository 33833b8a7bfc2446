"""What is the same for all peers, so that none does more work than another; and how a provider opens their circuits."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from benchmarks.works import REQUEST, reset

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.loops import Call

NEVER = 10**9
LONG = 3600.0
AT_WORK, MAX_WAIT = 20, 0.5  # calls; seconds
RATE, BURST = 1_000_000, 10**9  # calls a second, and at once: nobody waits, however fast the loop


def tripped(breaker: Callable[[Call], Call]) -> None:
    """Open a circuit in the way that a provider does."""
    with suppress(Exception):
        breaker(reset)(REQUEST)
