"""When is who killed? Told by the seed, in terms of how far the work has come: always in the middle of something."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random
from threading import Event, Thread
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

GLANCE = 0.003  # seconds between two looks


class When(StrEnum):
    """What has just happened when the kill comes."""

    TAKEN = "acme has the money, and has not answered"
    CLOSED = "the payment is committed, and its customer not told"
    POSTED = "the ledger has the event, and the relay does not know it"


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill `victim` as soon as so many have come as far as `when`."""

    victim: str
    when: When
    at: int


# Who, when, and after which share of the payments.
SCENES = (
    ("payments", When.TAKEN, 0.10),
    ("relay 1", When.POSTED, 0.20),
    ("payments", When.CLOSED, 0.30),
    ("relay 2", When.POSTED, 0.42),
    ("payments", When.TAKEN, 0.52),
    ("relay 1", When.POSTED, 0.62),
    ("payments", When.CLOSED, 0.72),
)


def scenes(seed: int, count: int) -> tuple[Kill, ...]:
    """Return the kills of a run, in order."""
    chance = Random(f"kills {seed}")
    return tuple(Kill(victim, when, max(1, int(count * (share + chance.uniform(-0.04, 0.04))))) for victim, when, share in SCENES)


class Killer:
    """Watches how far the work has come, and kills: `with Killer(...)`.

    Args:
        plan: whom and when, in order.
        progress: how many have come how far.
        kill: does it, and starts the victim again.
    """

    def __init__(self, plan: Sequence[Kill], progress: Mapping[When, Callable[[], int]], kill: Callable[[str], object]) -> None:
        self._plan = plan
        self._progress = progress
        self._kill = kill
        self._over = Event()
        self._thread = Thread(target=self._work, daemon=True)
        self.done: list[Kill] = []
        self.failed: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self.failed is not None:
            raise self.failed

    def _work(self) -> None:
        try:
            for kill in self._plan:
                while self._progress[kill.when]() < kill.at:
                    if self._over.wait(GLANCE):
                        return
                self._kill(kill.victim)
                self.done.append(kill)
        except BaseException as error:
            self.failed = error
