"""Was this call slow? Each is told from what the same calls take while all is well, which is learned, but never from a degradation."""

from __future__ import annotations

from enum import IntEnum
from math import exp, inf, log
from typing import Final, final

VERY: Final = 3.0
_BATCH: Final = 100  # calls that a percentile is read from
_APART: Final = 0.1  # seconds between two of them at least: the first to be answered after a beginning are the quick ones
_BATCHES: Final = 10  # that the baseline remembers
_GROWTH: Final = 0.015  # the most that a settled baseline grows by a batch: it must not follow a provider that gets worse by and by
_CALM: Final = 2.0  # evidence beyond which nothing is learned: at most one slow call of late
_MARGIN: Final = 1.5  # times the median: where all calls take alike, the slowest twentieth takes no longer, and is not slow
_LEAST: Final = 0.01  # seconds; nobody should move money because 2 ms became 5


@final
class Pace(IntEnum):
    """How long a call took, against the 95th percentile of this route's calls while all is well."""

    QUICK = 0
    SLOW = 1  # above it: one call in twenty, while all is well
    VERY_SLOW = 2  # above three times that (`VERY`)


# How much likelier each pace is of a slow provider than of a well one. Well: 95, 4 and 1 in a hundred; slow: 60, 20 and 20, which lies
# between a provider all of whose calls take longer and one of whose nodes a few are ill.
EVIDENCE: Final = (log(0.60 / 0.95), log(0.20 / 0.04), log(0.20 / 0.01))
WORSE: Final = EVIDENCE[Pace.VERY_SLOW] - EVIDENCE[Pace.SLOW]  # what a call adds that is late already and becomes very late


@final
class Baseline:
    """How long do calls by this route take while all is well? Their 95th percentile, learned in batches, or given.

    It is told only of good answers of a provider that is not drained, and a batch that ends under suspicion is thrown away: so a
    degradation is never taken for the habit. Once settled it grows slowly, and falls as it likes.

    A core: told the time. Not thread-safe.
    """

    __slots__ = ("_batch", "_batches", "_given", "_median", "_taken", "p95")

    def __init__(self, given: float | None = None) -> None:
        self._given = given
        self._batch: list[float] = []
        self._batches = 0
        self._taken = -inf
        self._median = 0.0  # of the last batch
        self.p95: float | None = given

    @property
    def limit(self) -> float:
        """What a quick call takes at most; infinite while too little is known. A limit that was given is taken at its word.

        The median is of one batch, and grows as fast as the provider gets worse: it is believed no further than the settled p95.
        """
        return inf if self.p95 is None else max(self.p95, _MARGIN * min(self._median, self.p95))

    def pace(self, took: float) -> Pace | None:
        """Return the pace of a call, or None while too little is known."""
        if self.p95 is None:
            return None
        return Pace.QUICK if took <= self.limit else Pace.SLOW if took <= VERY * self.p95 else Pace.VERY_SLOW

    def learn(self, took: float, now: float, *, suspicion: float) -> None:
        """Take one good answer of a provider that is well; `suspicion` is the evidence against its pace at this moment."""
        if self._given is not None:
            return
        if now - self._taken < _APART:
            return
        self._taken = now
        self._batch.append(took)
        if len(self._batch) < _BATCH:
            return
        if suspicion < _CALM:  # a single batch may err by half: until there is a second, take the 98th percentile
            self._batch.sort()
            self._median = self._batch[_BATCH // 2]
            self._take_over(max(_LEAST, self._batch[95 if self._batches else 97]))
        self._batch.clear()

    def _take_over(self, found: float) -> None:
        self._batches = min(self._batches + 1, _BATCHES)
        if self.p95 is None:
            self.p95 = found
            return
        step = log(found / self.p95) / self._batches
        self.p95 *= exp(min(step, _GROWTH) if self._batches == _BATCHES else step)

    def drop(self) -> None:
        """Throw away what was not taken over yet."""
        self._batch.clear()

    def forget(self) -> None:
        """Learn it all anew."""
        self._batch.clear()
        self._batches, self._median, self.p95 = 0, 0.0, self._given

    def shift(self, seconds: float) -> None:
        """Move to a clock with another zero."""
        self._taken += seconds
