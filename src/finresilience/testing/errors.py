"""What the proof kit raises. It is never raised by a running service."""

from __future__ import annotations

from typing import final

from finresilience.errors import FinresilienceError


@final
class DeadlockError(FinresilienceError):
    """Under a virtual clock, nothing is ready, no timer is set and nothing is held: this run would hang for ever."""


@final
class BoundReachedError(FinresilienceError):
    """An exploration met its bound before it was finished, so it has proven nothing."""


@final
class CounterexampleError(AssertionError):
    """A schedule on which the scenario fails. Its last line replays it; the failure itself is the `__cause__`.

    Attributes:
        replay: the one line of Python that runs this schedule again.
        schedule: who ran, in order, as far as the explorer decides it.
        seed: what the schedule was made from, or None where schedules are enumerated.
    """

    def __init__(self, failure: BaseException, replay: str, *, schedule: str, seed: int | None = None) -> None:
        told = str(failure).strip()
        super().__init__(f"{type(failure).__name__}{': ' if told else ''}{told}\nreplay: {replay}")
        self.replay = replay
        self.schedule = schedule
        self.seed = seed
