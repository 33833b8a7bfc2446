"""The proof kit: clocks a test moves, and explorers that find the schedule on which code breaks.

Nothing heavy is imported until a name is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finresilience.testing.clock import ManualClock, instant
    from finresilience.testing.errors import BoundReachedError, CounterexampleError, DeadlockError
    from finresilience.testing.exhaustive import exhaust
    from finresilience.testing.seeded import explore
    from finresilience.testing.stories import Explored, Story, turn, until
    from finresilience.testing.threads import explore_threads
    from finresilience.testing.virtual import VirtualClock, run_virtual

__all__ = [
    "BoundReachedError",
    "CounterexampleError",
    "DeadlockError",
    "Explored",
    "ManualClock",
    "Story",
    "VirtualClock",
    "exhaust",
    "explore",
    "explore_threads",
    "instant",
    "run_virtual",
    "turn",
    "until",
]

_HOMES = {
    "BoundReachedError": "errors",
    "CounterexampleError": "errors",
    "DeadlockError": "errors",
    "Explored": "stories",
    "ManualClock": "clock",
    "Story": "stories",
    "VirtualClock": "virtual",
    "exhaust": "exhaustive",
    "explore": "seeded",
    "explore_threads": "threads",
    "instant": "clock",
    "run_virtual": "virtual",
    "turn": "stories",
    "until": "stories",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
