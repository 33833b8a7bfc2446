"""What is left to chance in a policy, such as the jitter of a backoff? Under a seed, the seed decides."""

from __future__ import annotations

from contextlib import contextmanager
from random import Random
from threading import Lock
from typing import TYPE_CHECKING, Final

from finresilience.policies.base import chance
from finresilience.testing.errands import errand_here
from finresilience.testing.virtual import running

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from finresilience.testing.virtual import VirtualClock

_lock: Final = Lock()
_users: Final[dict[VirtualClock, Callable[[], float]]] = {}  # runs in several threads may overlap: the last one puts it back
_others: Final = Random().random


@contextmanager
def seeded_policies(clock: VirtualClock, seed: int) -> Generator[None]:
    """Let policies that were given no generator draw from `seed`, in the run that `clock` drives, as long as this block lasts."""
    with _lock:
        _users[clock] = Random(f"{seed}|policies").random
        chance._random = _drawn
    try:
        yield
    finally:
        with _lock:
            del _users[clock]
            if not _users:
                chance.renew()


def _drawn() -> float:
    errand = errand_here()
    clock = running.clock or (errand and errand.clock)
    return (_users.get(clock, _others) if clock else _others)()
