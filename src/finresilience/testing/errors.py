"""What the proof kit raises. It is never raised by a running service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from finresilience.errors import ConfigurationError, FinresilienceError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

FORMAT: Final = 1
NAME: Final = "finresilience_counterexample"


@final
class DeadlockError(FinresilienceError):
    """Under a virtual clock, nothing is ready, no timer is set and nothing is held: this run would hang for ever.

    Attributes:
        waited: whether real time was spent on waiting for news, as long as the run's patience.
        places: who waits on which line. It tells one deadlock from another.
    """

    def __init__(self, message: str, *, waited: bool = False, places: frozenset[str] = frozenset()) -> None:
        super().__init__(message)
        self.waited = waited
        self.places = places


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
        remark: what else to know of it, if anything.
    """

    def __init__(
        self,
        failure: BaseException,
        replay: str,
        *,
        schedule: str,
        seed: int | None = None,
        remark: str = "",
        record: Mapping[str, Any] | None = None,
    ) -> None:
        told = str(failure).strip()
        super().__init__(f"{type(failure).__name__}{': ' if told else ''}{told}\n{remark and remark + chr(10)}replay: {replay}")
        self.replay = replay
        self.schedule = schedule
        self.seed = seed
        self.remark = remark
        self._record = record

    def save(self, path: str | PathLike[str]) -> None:
        """Write all that replays this schedule to a file of JSON, for `replay(scenario, path)` in any process.

        Raises:
            ConfigurationError: if it was made by hand, from nothing that could be replayed.
        """
        if self._record is None:
            message = "there is nothing to save: only what simulate, explore, exhaust or explore_threads raised can be replayed"
            raise ConfigurationError(message)
        told = {NAME: FORMAT, **self._record, "failure": str(self).partition("\n")[0], "replay": self.replay}
        Path(path).write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")
