"""What does a circuit's core have to tell? Its changes and notes, as the events that listeners hear."""

from __future__ import annotations

from finresilience.cores.breaker import Change, Note
from finresilience.events import CircuitChanged, Event, LateResult, ProbeLost, ThresholdCrossed


def event_of(name: str, item: Change | Note) -> Event:
    """Return the event for one change or note of the circuit `name`."""
    if isinstance(item, Change):
        return CircuitChanged(
            name=name,
            before=item.before.value,
            after=item.after.value,
            generation=item.generation,
            reason=item.reason,
            open_for=item.open_for,
            last_failure=item.last_failure,
        )
    if item.kind == "late":
        return LateResult(name=name, source="circuit", succeeded=not item.failed, reference=None, value=None)
    if item.kind == "probe_lost":
        return ProbeLost(name=name, generation=item.generation)
    return ThresholdCrossed(name=name, generation=item.generation, reason=item.detail)
