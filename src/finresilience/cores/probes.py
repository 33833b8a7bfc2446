"""Is the provider back? One round of half-open: a few leased probes, and a decision as soon as it is certain."""

from __future__ import annotations

from typing import final


@final
class Probe:
    """A permit for one attempt of one half-open round. It is worth nothing outside its round or after its lease."""

    __slots__ = ("expires",)

    def __init__(self, expires: float) -> None:
        self.expires: float = expires


@final
class Round:
    """Let `size` probes through and decide from their votes.

    It opens the circuit as soon as `bound` probes were bad, and closes it as soon as that has become impossible. A probe
    given back (cancelled, or refused further in) did not happen; one whose lease ran out is lost, and its permit goes
    to the next caller. When as many were lost as the round has permits, nobody is answering.

    A core: told the time. Not thread-safe: the shell calls it under its lock.
    """

    __slots__ = ("_bad", "_bound", "_good", "_lease", "_live", "_size", "lost")

    def __init__(self, *, size: int, bound: int, lease: float) -> None:
        self._size = size
        self._bound = bound
        self._lease = lease
        self._live: set[Probe] = set()
        self._good = self._bad = 0
        self.lost: int = 0

    @property
    def silent(self) -> bool:
        """Return whether as many probes were lost as the round has permits."""
        return self.lost >= self._size

    def expire(self, now: float) -> int:
        """Take back every permit whose lease has run out, and return how many."""
        gone = [probe for probe in self._live if now >= probe.expires]
        self._live.difference_update(gone)
        self.lost += len(gone)
        return len(gone)

    def claim(self, now: float) -> Probe | None:
        """Return a permit, or None if all are out or used."""
        if self._good + self._bad + len(self._live) >= self._size:
            return None
        probe = Probe(now + self._lease)
        self._live.add(probe)
        return probe

    def give_back(self, probe: Probe) -> bool:
        """Undo a claim, and return whether the permit was still good."""
        if probe not in self._live:
            return False
        self._live.remove(probe)
        return True

    def vote(self, probe: Probe, *, bad: bool) -> bool | None:
        """Count one probe's result; return True to open, False to close, None while undecided. The permit must be live."""
        self._live.remove(probe)
        if bad:
            self._bad += 1
        else:
            self._good += 1
        if self._bad >= self._bound:
            return True
        return False if self._good > self._size - self._bound else None

    def holds(self, probe: Probe, now: float) -> bool:
        """Return whether this probe's vote still counts."""
        return probe in self._live and now < probe.expires

    def shift(self, seconds: float) -> None:
        """Move every lease by `seconds`, for a clock with another zero."""
        for probe in self._live:
            probe.expires += seconds

    def next_lease(self) -> float | None:
        """Return when the first lease runs out, or None while a permit is free."""
        if self._good + self._bad + len(self._live) < self._size:
            return None
        return min((probe.expires for probe in self._live), default=None)
