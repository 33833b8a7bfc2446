"""Circuits for stories of threads, and how many seeds a story is told for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from finresilience import CircuitBreaker, Event, OpenFor
from tests.laws.worlds import RULES, still

if TYPE_CHECKING:
    from finresilience.testing import ManualClock

SEEDS = 2_000 if os.environ.get("FINRESILIENCE_DEEP") else 60


def breaker(clock: ManualClock, heard: list[Event] | None = None, **more: Any) -> CircuitBreaker:
    settings: dict[str, Any] = {"consecutive_failures": 1, "open_for": OpenFor(10.0, jitter=0.0), "probe_lease": 5.0} | more
    return CircuitBreaker("acme", classify=RULES, clock=clock, listeners=[] if heard is None else [heard.append], **settings)


def half_open(size: int, heard: list[Event] | None = None) -> tuple[CircuitBreaker, ManualClock]:
    clock = still()
    policy = breaker(clock, heard, half_open_calls=size)
    policy.trip(seconds=1)
    clock.advance(1)
    return policy, clock


def places(policy: CircuitBreaker, clock: ManualClock) -> int:
    """Return how many may pass now, at most ten."""
    return sum(policy.admit(clock.monotonic()) is not None for _ in range(10))
