"""Circuits and rounds that are wrong in one thing each: a law of the breaker must go red on them."""

from __future__ import annotations

from typing import Any

from finresilience.cores.breaker import BreakerCore
from finresilience.cores.probes import Probe, Round
from tests.cores.circuits import BASE

Core: Any = BreakerCore  # final, but not for a saboteur
Turn: Any = Round


class Timeless(Core):  # type: ignore[misc] # of no type
    """Ignores generations: whatever comes back is a vote for now."""

    def settle(self, permit: Any, now: float, **told: Any) -> None:
        if self._round is not None and not isinstance(permit, Probe):
            permit = next(iter(self._round._live), permit)
        super().settle(permit, now, **told)


class Crossed(Core):  # type: ignore[misc] # of no type
    """Lets a probe of any round vote in this one."""

    def settle(self, permit: Any, now: float, **told: Any) -> None:
        if isinstance(permit, Probe) and self._round is not None and self._round._live:
            permit = permit if permit in self._round._live else next(iter(self._round._live))
        super().settle(permit, now, **told)


class Leaseless(Turn):  # type: ignore[misc] # of no type
    def expire(self, now: float) -> int:
        return 0


class Forgiving(Turn):  # type: ignore[misc] # of no type
    def holds(self, probe: Probe, now: float) -> bool:
        return True

    def vote(self, probe: Probe, *, bad: bool) -> Any:
        self._live.add(probe)
        return super().vote(probe, bad=bad)


class Boundless(Turn):  # type: ignore[misc] # of no type
    def claim(self, now: float) -> Probe | None:
        probe = Probe(now + self._lease)
        self._live.add(probe)
        return probe


class Rounded(Core):  # type: ignore[misc] # of no type
    """A core whose rounds are of a worse kind."""

    kind: Any = Round

    def _enter_half_open(self, reason: str) -> None:
        super()._enter_half_open(reason)
        made = self.settings
        self._round = self.kind(size=made.half_open_calls, bound=made.half_open_bound, lease=made.probe_lease)


class ForgetsLeases(Rounded):
    kind = Leaseless


class ForgivesLateVotes(Rounded):
    kind = Forgiving


class UnlimitedProbes(Rounded):
    kind = Boundless


class CancelIsSuccess(Core):  # type: ignore[misc] # of no type
    def release(self, permit: Any) -> None:
        self.settle(permit, 8.0, failed=False)


class CancelIsFailure(Core):  # type: ignore[misc] # of no type
    def release(self, permit: Any) -> None:
        self.settle(permit, 8.0, failed=True)


class CancelIsNothing(Core):  # type: ignore[misc] # of no type
    def release(self, permit: Any) -> None: ...


class SlowIsFine(Core):  # type: ignore[misc] # of no type
    def settle(self, permit: Any, now: float, **told: Any) -> None:
        told["slow"] = False
        super().settle(permit, now, **told)


class Impatient(Core):  # type: ignore[misc] # of no type
    def admit(self, now: float) -> Any:
        return super().admit(now + 1.0)


class Ageless(Core):  # type: ignore[misc] # of no type
    def _enter_open(self, now: float, reason: str, hint: float | None, seconds: float | None = None) -> None:
        super()._enter_open(now, reason, hint, BASE)


class OneIsolation(Core):  # type: ignore[misc] # of no type
    def rejoin(self, now: float) -> None:
        self._isolations = 0
        self._enter_closed(now, "isolation ended")
