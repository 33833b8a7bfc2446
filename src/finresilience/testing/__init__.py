"""The proof kit: clocks a test moves, explorers of schedules and faults, a provider that fails as told, contracts that a store must keep.

Nothing heavy is imported until a name is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finresilience.testing import contracts, crash, invariants, saboteurs, strategies
    from finresilience.testing.chaos import Chaos
    from finresilience.testing.clock import ManualClock, instant
    from finresilience.testing.errors import BoundReachedError, CounterexampleError, DeadlockError
    from finresilience.testing.exhaustive import exhaust
    from finresilience.testing.faults import Asked, Fault, FaultKind, FaultPlan
    from finresilience.testing.history import Booking, End, Entry, History
    from finresilience.testing.ledger import Ledger
    from finresilience.testing.permit import ChaosPermit
    from finresilience.testing.provider import FakeProvider
    from finresilience.testing.seeded import explore
    from finresilience.testing.simulation import replay, simulate
    from finresilience.testing.stories import Explored, Story, turn, until
    from finresilience.testing.strikes import ChaosError, Strike
    from finresilience.testing.threads import explore_threads
    from finresilience.testing.violations import InvariantError, Violation
    from finresilience.testing.virtual import VirtualClock, run_virtual
    from finresilience.testing.world import World

__all__ = [
    "Asked",
    "Booking",
    "BoundReachedError",
    "Chaos",
    "ChaosError",
    "ChaosPermit",
    "CounterexampleError",
    "DeadlockError",
    "End",
    "Entry",
    "Explored",
    "FakeProvider",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "History",
    "InvariantError",
    "Ledger",
    "ManualClock",
    "Story",
    "Strike",
    "Violation",
    "VirtualClock",
    "World",
    "contracts",
    "crash",
    "exhaust",
    "explore",
    "explore_threads",
    "instant",
    "invariants",
    "replay",
    "run_virtual",
    "saboteurs",
    "simulate",
    "strategies",
    "turn",
    "until",
]

_HOMES = {
    "Asked": "faults",
    "Booking": "history",
    "BoundReachedError": "errors",
    "Chaos": "chaos",
    "ChaosError": "strikes",
    "ChaosPermit": "permit",
    "CounterexampleError": "errors",
    "DeadlockError": "errors",
    "End": "history",
    "Entry": "history",
    "Explored": "stories",
    "FakeProvider": "provider",
    "Fault": "faults",
    "FaultKind": "faults",
    "FaultPlan": "faults",
    "History": "history",
    "InvariantError": "violations",
    "Ledger": "ledger",
    "ManualClock": "clock",
    "Story": "stories",
    "Strike": "strikes",
    "Violation": "violations",
    "VirtualClock": "virtual",
    "World": "world",
    "exhaust": "exhaustive",
    "explore": "seeded",
    "explore_threads": "threads",
    "instant": "clock",
    "replay": "simulation",
    "run_virtual": "virtual",
    "simulate": "simulation",
    "turn": "stories",
    "until": "stories",
}
_ROOMS = frozenset({"contracts", "crash", "invariants", "saboteurs", "strategies"})


def __getattr__(name: str) -> object:
    home = _HOMES.get(name, name if name in _ROOMS else None)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module

    module = import_module(f"{__name__}.{home}")
    value: object = module if name in _ROOMS else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
