"""Providers for the tests of health and routing: well, ill, and what was heard of them."""

from __future__ import annotations

from typing import Any

from finresilience.cores.health import Health, HealthSettings, RouteState as S, Turn
from finresilience.cores.pace import EVIDENCE, Pace
from finresilience.cores.routing import Candidate, Routing

QUICK, SLOW, VERY_SLOW = (EVIDENCE[pace] for pace in Pace)


def provider(name: str = "acme", rules: HealthSettings | None = None) -> tuple[Any, list[Turn]]:
    told: list[Turn] = []
    return Health(name, rules or HealthSettings(failure_rate=0.25, trickle=0.01, watch_every=2.0), told.append), told


def candidate(name: str, **more: Any) -> Any:
    return Candidate(provider(name)[0], **more)


def routing(*candidates: Any, **more: Any) -> Any:
    return Routing(candidates, **more)


def fail(health: Any, now: float, times: int) -> None:
    for _ in range(times):
        health.hear(now, failed=True, took=0.1)


def serve(health: Any, now: float, times: int) -> None:
    for _ in range(times):
        health.hear(now, failed=False, took=0.1)


def fall_ill(health: Any, now: float = 0.0) -> None:
    fail(health, now, 7)
    assert health.state is S.DRAINED


def recover(health: Any, now: float) -> float:
    """Let it answer well, ten times a second, until it is back; return when that was."""
    for _ in range(1000):
        if not health.drained:
            return now
        now += 0.1
        serve(health, now, 1)
    raise AssertionError("it never comes back")
