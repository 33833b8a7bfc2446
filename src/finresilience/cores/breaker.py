"""May this call pass? A circuit breaker whose permits belong to one generation, and whose probes are leased.

    CLOSED -> OPEN            a trip rule says so
    OPEN -> HALF_OPEN         the interval is over and somebody asks
    HALF_OPEN -> CLOSED       enough probes were good
    HALF_OPEN -> OPEN         enough were bad, or nobody answers any more
    any -> FORCED_OPEN, DISABLED, METRICS_ONLY, ISOLATED, and back, by a person

Every change begins a new generation. A permit of an older one is worth nothing: its result is counted as late and
changes nothing.
"""

from __future__ import annotations

from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias, final

from finresilience.cores.probes import Probe, Round
from finresilience.cores.window import BlindWindow, LiveWindow

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.cores.interval import OpenFor
    from finresilience.cores.trip import TripRule
    from finresilience.cores.window import Tally, Window

Permit: TypeAlias = LiveWindow | Probe


@final
class CircuitState(StrEnum):
    """Where a circuit stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"  # shut by a person until reset
    DISABLED = "disabled"  # lets everything pass and sees nothing
    METRICS_ONLY = "metrics_only"  # lets everything pass and says when it would have opened
    ISOLATED = "isolated"  # shut while anybody holds an isolation


_NEVER: Final = -inf
PASSING: Final = frozenset({CircuitState.CLOSED, CircuitState.DISABLED, CircuitState.METRICS_ONLY})


@final
class Change:
    """One transition, for whoever wants to hear of it after the lock is released."""

    __slots__ = ("after", "before", "generation", "last_failure", "open_for", "reason")

    def __init__(
        self,
        before: CircuitState,
        after: CircuitState,
        *,
        generation: int,
        reason: str,
        open_for: float | None,
        last_failure: str | None,
    ) -> None:
        self.before: CircuitState = before
        self.after: CircuitState = after
        self.generation: int = generation
        self.reason: str = reason
        self.open_for: float | None = open_for
        self.last_failure: str | None = last_failure


@final
class Note:
    """Something worth telling that is not a transition: `late`, `probe_lost` or `threshold`."""

    __slots__ = ("detail", "failed", "generation", "kind")

    def __init__(self, kind: str, generation: int, *, failed: bool = False, detail: str = "") -> None:
        self.kind: str = kind
        self.generation: int = generation
        self.failed: bool = failed
        self.detail: str = detail


@final
class BreakerSettings:
    """What a breaker was told when it was made. Shared by every breaker of a family."""

    __slots__ = ("half_open_bound", "half_open_calls", "minimum_calls", "open_for", "probe_lease", "rules", "slow_after", "window")

    def __init__(
        self,
        *,
        window: Window,
        rules: tuple[TripRule, ...],
        open_for: OpenFor,
        half_open_calls: int,
        probe_lease: float,
    ) -> None:
        self.window: Window = window
        self.rules: tuple[TripRule, ...] = rules
        self.open_for: OpenFor = open_for
        self.half_open_calls: int = half_open_calls
        self.probe_lease: float = probe_lease
        self.minimum_calls: int = max(rule.minimum_calls for rule in rules)
        self.slow_after: float = min(getattr(rule, "after", inf) for rule in rules)
        rates: list[float] = [rate for rule in rules if isinstance(rate := getattr(rule, "rate", None), float)]
        # With a rate, a round fails by that rate; with none, one bad probe is enough.
        self.half_open_bound: int = _bound(min(rates), half_open_calls) if rates else 1


def _bound(rate: float, size: int) -> int:
    """Return the least number of bad probes whose share of `size` reaches the rate, judged by division as the rules judge."""
    return next((bad for bad in range(1, size) if bad / size >= rate), size)  # 0.07 * 100 is a little more than 7


def _asked(rule: TripRule, tally: Tally) -> str | None:
    """Ask a rule, which may be the caller's own: where it raises, it has not tripped, and costs nobody a result."""
    try:
        return rule.trips(tally)
    except Exception:
        return None


@final
class BreakerCore:
    """Decide for each call whether it may pass, from what became of those before.

    A core: told the time by its caller and the chance by `chance`; never sleeps, never looks at a clock. Not thread-safe:
    the shell calls it under its lock. Two attributes may be read without it: `window`, the permit of every call while the
    circuit passes calls, and `shut`, while nobody passes: the state, until when, the generation and the last failure, of one moment.

    Args:
        settings: what it was told.
        now: the monotonic time.
        chance: returns a number in [0, 1), for jitter.
    """

    __slots__ = (
        "_chance",
        "_isolations",
        "_openings",
        "_round",
        "_told",
        "_until",
        "failed",
        "generation",
        "last_failure",
        "late",
        "news",
        "ok",
        "refused",
        "settings",
        "shut",
        "slow",
        "state",
        "window",
    )

    failed: int  # these three: of the windows that are gone
    ok: int
    slow: int
    generation: int
    last_failure: str | None
    late: int
    news: tuple[Change | Note, ...]
    refused: int
    shut: tuple[CircuitState, float, int, str | None] | None
    state: CircuitState
    window: LiveWindow | None

    def __init__(self, settings: BreakerSettings, now: float, chance: Callable[[], float]) -> None:
        self.settings: BreakerSettings = settings
        self._chance = chance
        self._isolations = 0
        self._openings = 0
        self._until = now
        self._round: Round | None = None
        self._told = False
        self.ok = self.failed = self.slow = self.late = 0
        self.generation = 0
        self.last_failure = None
        self.news = ()
        self.refused = 0
        self.shut = None
        self.state = CircuitState.CLOSED
        self.window = settings.window.start(now)

    # --- a call asks, and reports ---------------------------------------------------------------------------------

    def admit(self, now: float) -> Permit | None:
        """Return the permit of one attempt, or None if it must not be made."""
        if self.window is not None:
            return self.window
        if self.state is CircuitState.OPEN and now >= self._until:
            self._enter_half_open("the interval is over")
        probe = self._probe(now) if self._round is not None else None
        if probe is None:
            self.refused += 1
        return probe

    def settle(
        self, permit: Permit, now: float, *, failed: bool, slow: bool = False, failure: str | None = None, hint: float | None = None
    ) -> None:
        """Record what became of one attempt. A permit of another generation, or past its lease, changes nothing.

        Args:
            permit: what `admit` returned.
            now: the monotonic time.
            failed: whether it counts against the provider.
            slow: whether it took longer than `slow_after`.
            failure: the class name of the failure, kept to explain an open circuit.
            hint: seconds the provider asked us to wait.
        """
        if isinstance(permit, Probe):
            self._vote(permit, now, bad=failed or slow, failed=failed, failure=failure, hint=hint)
        elif permit is self.window:
            if failed:
                self.last_failure = failure
            self._judge(permit, permit.record(now, failed=failed, slow=slow), now, hint)
        else:
            self._late(failed=failed)

    def release(self, permit: Permit) -> None:
        """Take back the permit of an attempt that says nothing about the provider: cancelled, refused further in, declined by us."""
        if isinstance(permit, Probe) and self._round is not None:
            self._round.give_back(permit)

    def _judge(self, window: LiveWindow, tally: Tally, now: float, hint: float | None) -> None:
        settings = self.settings
        if self.state is not CircuitState.DISABLED:
            for rule in settings.rules:
                reason = _asked(rule, tally)
                if reason is not None:
                    self._threshold(reason, now, hint)
                    break
        if window is self.window:
            quiet = tally.streak == 0 and (tally.calls >= settings.minimum_calls or not (tally.failures or tally.slow))
            window.edge = window.lane() if quiet else _NEVER

    def _threshold(self, reason: str, now: float, hint: float | None) -> None:
        if self.state is CircuitState.CLOSED:
            self._enter_open(now, reason, hint)
        elif not self._told:
            self._told = True
            self.news += (Note("threshold", self.generation, detail=reason),)

    def _probe(self, now: float) -> Probe | None:
        assert self._round is not None  # noqa: S101 - the callers looked
        self.news += (Note("probe_lost", self.generation),) * self._round.expire(now)
        if self._round.silent:
            self._enter_open(now, "no probe came back within its lease", None)
            return None
        return self._round.claim(now)

    def _vote(self, probe: Probe, now: float, *, bad: bool, failed: bool, failure: str | None, hint: float | None) -> None:
        if self._round is None or not self._round.holds(probe, now):
            self._late(failed=failed)
            return
        if failed:
            self.last_failure = failure
        decision = self._round.vote(probe, bad=bad)
        self.failed += failed
        self.ok += not failed
        if decision is True:
            self._enter_open(now, "probes failed", hint)
        elif decision is False:
            self._enter_closed(now, "probes succeeded")

    def _late(self, *, failed: bool) -> None:
        self.late += 1
        self.news += (Note("late", self.generation, failed=failed),)

    # --- a person decides ------------------------------------------------------------------------------------------

    def reset(self, now: float) -> None:
        """Close the circuit and forget what it saw, whatever held it; isolations stay in force."""
        self._openings = 0
        if not self._isolations:
            self._enter_closed(now, "reset by hand")

    def trip(self, now: float, seconds: float | None) -> None:
        """Open the circuit, for `seconds` or for its own interval."""
        if not self._isolations:
            self._enter_open(now, "tripped by hand", None, seconds)

    def hold(self, state: CircuitState, now: float) -> None:
        """Put the circuit into a state that only a person ends: FORCED_OPEN, DISABLED or METRICS_ONLY."""
        if self._isolations or self.state is state:
            return
        self._told = False
        if state is CircuitState.FORCED_OPEN:
            self._change(state, None, "forced open by hand")
            self._shut(inf)
        elif state is CircuitState.DISABLED:
            self._change(state, BlindWindow(), "disabled by hand")
        else:
            self._change(state, self.settings.window.start(now), "metrics only, by hand")

    def isolate(self) -> None:
        """Shut the circuit until as many `rejoin` as `isolate` calls were made."""
        self._isolations += 1
        if self._isolations == 1:
            self._change(CircuitState.ISOLATED, None, "isolated by hand")
            self._shut(inf)

    def rejoin(self, now: float) -> None:
        """End one isolation; after the last, begin closed and empty. One too many does nothing."""
        if not self._isolations:
            return
        self._isolations -= 1
        if not self._isolations:
            self._enter_closed(now, "isolation ended")

    def rebase(self, was: float, now: float) -> None:
        """Go on by another clock, which tells `now` where the old one told `was`. Nothing is forgotten and nobody is told."""
        if self.state is CircuitState.OPEN:
            self._until += now - was
            self._shut(self._until)
        elif self._round is not None:
            self._round.shift(now - was)
        elif self.window is not None and self.state is not CircuitState.DISABLED:
            self._rebase_window(self.window, was, now)

    def _rebase_window(self, old: LiveWindow, was: float, now: float) -> None:
        self._retire()
        self.window = new = self.settings.window.start(now)
        if old.ok or old.failed:
            tally = old.tally(was)
            new.fill(calls=tally.calls, failures=tally.failures, slow=tally.slow)
            self.ok -= tally.calls - tally.failures  # they are counted in the new window
            self.failed -= tally.failures
            self.slow -= tally.slow
        new.edge = _NEVER  # the next call looks at it whole

    # --- transitions -----------------------------------------------------------------------------------------------

    def _enter_open(self, now: float, reason: str, hint: float | None, seconds: float | None = None) -> None:
        if seconds is None:
            seconds = self.settings.open_for.seconds(self._openings, self._chance(), hint)
        self._openings += 1
        self._change(CircuitState.OPEN, None, reason, seconds)
        self._until = now + seconds
        self._shut(self._until)

    def _enter_half_open(self, reason: str) -> None:
        settings = self.settings
        self._change(CircuitState.HALF_OPEN, None, reason)
        self._round = Round(size=settings.half_open_calls, bound=settings.half_open_bound, lease=settings.probe_lease)

    def _enter_closed(self, now: float, reason: str) -> None:
        self._openings = 0
        self._change(CircuitState.CLOSED, self.settings.window.start(now), reason)

    def _change(self, after: CircuitState, window: LiveWindow | None, reason: str, open_for: float | None = None) -> None:
        before = self.state
        self._retire()
        self.window = window
        self.state = after
        self.generation += 1
        self.shut = None
        self._round = None
        if after is not before:
            change = Change(before, after, generation=self.generation, reason=reason, open_for=open_for, last_failure=self.last_failure)
            self.news += (change,)

    def _retire(self) -> None:
        old = self.window
        if old is not None:  # whoever still holds it must leave the fast lane, and come to be counted as late
            old.edge = _NEVER
            self.ok, self.failed, self.slow = self.ok + old.ok, self.failed + old.failed, self.slow + old.slow

    def _shut(self, until: float) -> None:
        self.shut = (self.state, until, self.generation, self.last_failure)

    # --- what it knows ---------------------------------------------------------------------------------------------

    @property
    def probe_lease(self) -> float:
        """How long a probe may take to report, in seconds."""
        return self.settings.probe_lease

    def retry_after(self, now: float) -> float | None:
        """Return the seconds until somebody may pass, or None where a person decides."""
        if self.state is CircuitState.OPEN:
            return max(0.0, self._until - now)
        lease = self._round.next_lease() if self._round is not None else None
        if lease is not None:
            return max(0.0, lease - now)
        return 0.0 if self.state in PASSING or self.state is CircuitState.HALF_OPEN else None

    def save(self, now: float) -> dict[str, object]:
        """Return what a new process needs to go on from here: ages and counts, no times of this clock."""
        tally = self.window.tally(now) if self.window is not None else None
        return {
            "state": self.state.value,
            "generation": self.generation,
            "openings": self._openings,
            "open_for": max(0.0, self._until - now) if self.state is CircuitState.OPEN else 0.0,
            "calls": tally.calls if tally else 0,
            "failures": tally.failures if tally else 0,
            "slow": tally.slow if tally else 0,
            "last_failure": self.last_failure,
        }

    def load(
        self,
        now: float,
        *,
        state: CircuitState,
        generation: int,
        openings: int,
        open_for: float,
        calls: int,
        failures: int,
        slow: int,
        last_failure: str | None,
    ) -> None:
        """Go on from where another process was. A half-open circuit comes back open and ready to probe; an isolation does not come back."""
        if self._isolations:
            return  # somebody holds it shut: what was saved elsewhere must not let anybody pass
        self.last_failure = last_failure
        self.generation = max(self.generation, generation - 1)  # the change that follows adds one
        if state in {CircuitState.OPEN, CircuitState.HALF_OPEN}:
            self._openings = max(0, openings - 1)
            self._enter_open(now, "restored", None, open_for)
        elif state in {CircuitState.FORCED_OPEN, CircuitState.DISABLED, CircuitState.METRICS_ONLY}:
            self.hold(state, now)
        else:
            self._enter_closed(now, "restored")
        if self.window is not None:
            self.window.fill(calls=calls, failures=failures, slow=slow)
            self.window.edge = _NEVER  # the next call looks at it whole
