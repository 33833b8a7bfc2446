"""Is this really a breaker's snapshot? It may come from a file or a cache, so nothing in it is trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.cores.breaker import CircuitState

if TYPE_CHECKING:
    from collections.abc import Mapping


def checked_snapshot(snapshot: Mapping[str, object], *, cap: float) -> dict[str, Any]:
    """Return the arguments for `BreakerCore.load`.

    Args:
        snapshot: what is said to be one.
        cap: the longest that the restored breaker stays open, in seconds: a wait of years must not come out of a file.

    Raises:
        ConfigurationError: if anything is missing or impossible.
    """
    from collections.abc import Mapping

    shaped: object = snapshot
    if not isinstance(shaped, Mapping):
        refuse("snapshot", shaped, "what CircuitBreaker.snapshot() returned")
    state = snapshot.get("state")
    if not isinstance(state, str) or state not in set(CircuitState):
        refuse("snapshot['state']", state, "what CircuitBreaker.snapshot() returned")
    counts = {
        name: positive_count(f"snapshot[{name!r}]", snapshot.get(name), least=0, most=10**6) for name in ("calls", "failures", "slow")
    }
    if max(counts["failures"], counts["slow"]) > counts["calls"]:
        refuse("snapshot['failures']", counts["failures"], "no more failures or slow calls than calls")
    return {
        "state": CircuitState(str(state)),
        "generation": positive_count("snapshot['generation']", snapshot.get("generation"), least=0, most=10**18),
        "openings": positive_count("snapshot['openings']", snapshot.get("openings"), least=0),
        "open_for": min(cap, seconds_of("snapshot['open_for']", snapshot.get("open_for"), zero=True)),
        "last_failure": _class_name(snapshot.get("last_failure")),
        **counts,
    }


def _class_name(failure: object) -> str | None:
    if failure is not None and not (isinstance(failure, str) and failure.isidentifier() and len(failure) <= 200):
        refuse("snapshot['last_failure']", failure, "the name of an exception class, or null")
    return failure
