"""The peers, each set up as its own pages advise and as near to the others as its options allow; a module for each library.

Where they have the option: half of at least 20 calls in a window of 60 s opens, 30 s open, 3 probes; 3 attempts, exponential backoff with
jitter from 0.1 s to 5 s on connection errors; 2 s for a call; 20 at work at once and half a second to wait for a place; a rate and a burst
that nobody exceeds. `NEVER` keeps a circuit closed while it records failures.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from benchmarks.peers import breakers, habits, interlock, nopanic, resilix

if TYPE_CHECKING:
    from benchmarks.harness import Build

DISTRIBUTIONS = ("resilix", "nopanic", "interlock-cb", "pybreaker", "circuitbreaker", "purgatory", "tenacity", "stamina")


def versions() -> dict[str, str]:
    """Return what is installed here."""
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


# ---------------------------------------------------------------- who plays where

CLOSED: dict[str, Build] = {
    "resilix": resilix.closed,
    "nopanic": nopanic.closed,
    "interlock-cb": interlock.closed,
    "pybreaker": breakers.pybreaker_closed,
    "circuitbreaker": breakers.circuitbreaker_closed,
    "purgatory": breakers.purgatory_closed,
}
CLOSED_SLOW: dict[str, Build] = {"nopanic": nopanic.closed_slow, "interlock-cb": interlock.closed_slow}
OPEN: dict[str, Build] = {
    "resilix": resilix.open_,
    "nopanic": nopanic.open_,
    "interlock-cb": interlock.open_,
    "pybreaker": breakers.pybreaker_open,
    "circuitbreaker": breakers.circuitbreaker_open,
    "purgatory": breakers.purgatory_open,
}
RECORDING: dict[str, Build] = {
    "resilix": resilix.recording,
    "nopanic": nopanic.recording,
    "interlock-cb": interlock.recording,
    "pybreaker": breakers.pybreaker_recording,
    "circuitbreaker": breakers.circuitbreaker_recording,
    "purgatory": breakers.purgatory_recording,
}
RETRY: dict[str, Build] = {
    "resilix": resilix.retry,
    "nopanic": nopanic.retry,
    "tenacity": habits.tenacity_retry,
    "stamina": habits.stamina_retry,
}
TIMEOUT: dict[str, Build] = {"resilix": resilix.timeout, "nopanic": nopanic.timeout, "interlock-cb": interlock.timeout}
TRIO_TIMEOUT: dict[str, Build] = {"nopanic": nopanic.timeout}
BULKHEAD: dict[str, Build] = {
    "resilix": resilix.bulkhead,
    "nopanic": nopanic.bulkhead,
    "interlock-cb": interlock.bulkhead,
    "Semaphore": habits.semaphore,
}
LIMITER: dict[str, Build] = {"nopanic": nopanic.rate_limit}
FALLBACK: dict[str, Build] = {"resilix": resilix.fallback, "nopanic": nopanic.fallback, "interlock-cb": interlock.fallback}
HEDGE: dict[str, Build] = {"nopanic": nopanic.hedge}
FAILOVER: dict[str, Build] = {"resilix": resilix.failover, "nopanic": nopanic.failover}
PIPELINE: dict[str, Build] = {
    "resilix": resilix.pipeline,
    "nopanic": nopanic.pipeline,
    "interlock-cb": interlock.pipeline,
    "tenacity+pybreaker": habits.tenacity_pybreaker,
}
COOPERATIVE_PIPELINE: dict[str, Build] = {
    "resilix": resilix.cooperative_pipeline,
    "nopanic": nopanic.cooperative_pipeline,
    "tenacity+pybreaker": habits.tenacity_pybreaker_cooperative,
}
BULKHEAD_PIPELINE: dict[str, Build] = {
    "resilix": resilix.bulkhead_pipeline,
    "nopanic": nopanic.bulkhead_pipeline,
    "interlock-cb": interlock.bulkhead_pipeline,
    "tenacity+pybreaker": habits.tenacity_pybreaker_semaphore,
}
TIMEOUT_PIPELINE: dict[str, Build] = {
    "resilix": resilix.timeout_pipeline,
    "nopanic": nopanic.timeout_pipeline,
    "interlock-cb": interlock.timeout_pipeline,
    "tenacity+purgatory": habits.tenacity_purgatory_timeout,
}
FULL_PIPELINE: dict[str, Build] = {
    "resilix": resilix.full_pipeline,
    "nopanic": nopanic.full_pipeline,
    "interlock-cb": interlock.full_pipeline,
    "tenacity+purgatory": habits.tenacity_purgatory_semaphore_timeout,
}
