"""Is this provider well? Each call is evidence; enough of it drains the provider, and enough to the contrary brings it back."""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from math import inf, log
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Callable

DRAIN_FAILING: Final = 14.0  # nats of evidence: once in about a million calls by bad luck alone
DRAIN_SLOW: Final = 18.0
RETURN_FAILING: Final = 6.5  # 26 good answers in a row, at a limit of one in four
RETURN_SLOW: Final = 7.0  # 15 quick answers in a row
HEALTHY_SHARE: Final = 8.0  # a well provider fails an eighth as often as one that must be drained
MEMORY: Final = 600.0  # seconds after which a suspicion and old figures say nothing of today
DWELL: Final = 5.0  # seconds that the good news must last before it is believed
LONGEST_DWELL: Final = 30.0
STEADY: Final = 120.0  # a provider that is drained again sooner than this after its return is flapping
TIRED: Final = 30.0  # seconds by which the watching of a provider that only fails gets rarer, down to a third
EAGER: Final = 20.0  # how much oftener a provider is watched that is nearly back
RAMP: Final = 10.0  # seconds over which the traffic returns
RECENT: Final = 50  # calls that the figures are about


@final
class RouteState(StrEnum):
    """How a provider stands with its failover."""

    HEALTHY = "healthy"
    DRAINED = "drained"  # it gets a trickle, by which it is watched
    HELD = "held"  # an operator lets nothing pass but what is pinned to it


@final
class HealthSettings:
    """What the providers of a failover are judged by.

    Args:
        failure_rate: the share of failures that a provider must be drained at, above 0 to 0.9.
        trickle: the share of the traffic by which a drained provider is watched once it answers well again.
        watch_every: a drained provider gets one call in so many seconds at least, while there is traffic.
    """

    __slots__ = ("failed", "served", "trickle", "watch_every")

    def __init__(self, *, failure_rate: float, trickle: float, watch_every: float) -> None:
        self.trickle: float = trickle
        self.watch_every: float = watch_every
        well = failure_rate / HEALTHY_SHARE
        self.failed: float = log(failure_rate / well)
        self.served: float = log((1.0 - failure_rate) / (1.0 - well))


@final
class Balance:
    """A running balance of evidence for and against one suspicion (CUSUM; Page, Biometrika 1954).

    While the provider is not under it, evidence against the provider adds up and the balance never falls below zero; at `drain` it
    turns. From there on evidence in the provider's favour adds up, and it turns back at `back`, if that has lasted. So to turn back
    takes figures that are much better than those that turned it, not merely a little: that is the hysteresis.
    """

    __slots__ = ("_back", "_drain", "_last", "bad", "score", "since")

    def __init__(self, *, drain: float, back: float) -> None:
        self._drain = drain
        self._back = back
        self._last = -inf
        self.bad: bool = False
        self.score: float = 0.0
        self.since: float = -inf  # when the balance last left zero

    def hear(self, weight: float, now: float, dwell: float) -> None:
        """Add evidence, positive if it speaks against the provider. A suspicion older than `MEMORY` is forgotten."""
        if not self.bad and now - self._last > MEMORY:
            self.score = 0.0
        self._last = now
        if self.score == 0.0:
            self.since = now
        if not self.bad:
            self.score = max(0.0, self.score + weight)
            turns = self.score >= self._drain
        else:
            self.score = min(max(0.0, self.score - weight), self._back)
            turns = self.score >= self._back and now - self.since >= dwell
        if turns:
            self.bad, self.score = not self.bad, 0.0

    def trust(self) -> float:
        """Return how far it is on the way back: from 0 to 1, and 1 where there is no suspicion."""
        return self.score / self._back if self.bad else 1.0

    def forget(self) -> None:
        """Begin anew."""
        self.bad, self.score = False, 0.0

    def shift(self, seconds: float) -> None:
        """Move to a clock with another zero."""
        self._last += seconds
        self.since += seconds


@final
class Figures:
    """What the last calls looked like, of the last ten minutes. `p95` is of those that were answered, or None."""

    __slots__ = ("calls", "failures", "p95")

    def __init__(self, *, calls: int, failures: int, p95: float | None) -> None:
        self.calls: int = calls
        self.failures: int = failures
        self.p95: float | None = p95

    @property
    def success_rate(self) -> float | None:
        """The share that did not fail, or None without calls."""
        return 1.0 - self.failures / self.calls if self.calls else None


@final
class Turn:
    """A provider was drained, held, or came back. `reason` is a clause a person can read."""

    __slots__ = ("after", "before", "reason", "route")

    def __init__(self, route: str, before: RouteState, after: RouteState, reason: str) -> None:
        self.route: str = route
        self.before: RouteState = before
        self.after: RouteState = after
        self.reason: str = reason


@final
class Health:
    """What is known of one provider, by whatever operation it was called.

    Declines are healthy answers. Refusals of our own and calls that somebody cancelled are not told here at all.

    A core: told the time. Not thread-safe: the shell calls it under its lock.

    Args:
        name: the provider.
        settings: what it is judged by.
        tell: takes each `Turn`; called under the lock, so it only keeps it.
    """

    __slots__ = (
        "_credit",
        "_dwell",
        "_holds",
        "_recent",
        "_returned",
        "_silent",
        "_tell",
        "failing",
        "life",
        "name",
        "passed_over",
        "settings",
        "since",
        "slow",
        "watched",
    )

    def __init__(self, name: str, settings: HealthSettings, tell: Callable[[Turn], object]) -> None:
        self.name: str = name
        self.settings: HealthSettings = settings
        self.failing: Balance = Balance(drain=DRAIN_FAILING, back=RETURN_FAILING)
        self.slow: Balance = Balance(drain=DRAIN_SLOW, back=RETURN_SLOW)
        self.since: float = -inf  # when the state last changed
        self.life: int = 0  # an operator's word begins another one: all that was learned before is void
        self._tell = tell
        self._recent: deque[tuple[float, float | None, bool]] = deque(maxlen=RECENT)
        self._holds: set[object] = set()
        self._dwell = DWELL
        self._returned = -inf
        self._silent = 0  # calls in a row that were overdue or cut short
        self.called(-inf)

    @property
    def drained(self) -> bool:
        """Whether it is ill."""
        return self.failing.bad or self.slow.bad

    @property
    def held(self) -> bool:
        """Whether an operator keeps the traffic away."""
        return bool(self._holds)

    @property
    def state(self) -> RouteState:
        """How it stands."""
        return RouteState.HELD if self._holds else RouteState.DRAINED if self.drained else RouteState.HEALTHY

    # --- evidence --------------------------------------------------------------------------------------------------

    def hear(self, now: float, *, failed: bool, took: float) -> None:
        """Take the answer, or the failure, of one call that took so many seconds."""
        self._recent.append((now, None if failed else took, failed))
        self._silent = 0
        before, was = self.state, self.drained
        self.failing.hear(self.settings.failed if failed else self.settings.served, now, self._dwell)
        self._judge(before, now, was=was)

    def hear_pace(self, now: float, evidence: float, *, silent: bool = False) -> None:
        """Take the evidence of how long one call took, or has taken so far; `silent` where nobody has seen an answer."""
        self._silent += silent
        before, was = self.state, self.drained
        self.slow.hear(evidence, now, self._dwell)
        self._judge(before, now, was=was)

    def _judge(self, before: RouteState, now: float, *, was: bool) -> None:
        if self.drained and not was:
            self._dwell = min(LONGEST_DWELL, self._dwell * 2.0) if now - self._returned < STEADY else DWELL
            self.called(now)  # the next one is due as if it had just had one
            self._turned(before, now, f"{'failing' if self.failing.bad else 'slow'}: {self._shown(now)}")
        elif was and not self.drained:
            self._returned = now
            self._turned(before, now, f"it answers well again: {self._shown(now)}")

    def _shown(self, now: float) -> str:
        figures = self.figures(now)
        pace = "" if figures.p95 is None else f", p95 {figures.p95:.3g} s"
        silent = f", {self._silent} without an answer in time" if self._silent else ""
        return f"{figures.failures} of the last {figures.calls} calls failed{pace}{silent}"

    def _turned(self, before: RouteState, now: float, reason: str) -> None:
        after = self.state
        if after is not before:
            self.since = now
            self._tell(Turn(self.name, before, after, reason))

    def figures(self, now: float) -> Figures:
        """Return what the last calls looked like."""
        fresh = [call for call in self._recent if now - call[0] <= MEMORY]
        paces = sorted(took for _, took, _ in fresh if took is not None)
        p95 = paces[(len(paces) * 19 - 1) // 20] if paces else None
        return Figures(calls=len(fresh), failures=sum(failed for *_, failed in fresh), p95=p95)

    # --- how much traffic ------------------------------------------------------------------------------------------

    def share(self, now: float) -> float:
        """Return the share of its traffic that a provider takes: all of it, but for the first seconds after its return."""
        return min(1.0, max(0.1, (now - self._returned) / RAMP))

    def pass_over(self) -> None:
        """Note a call that this drained provider might have had, and went to another."""
        self.passed_over += 1
        trust = self._trust()
        if trust > 0.0:  # while it only fails, a larger share of payments would only suffer with it
            self._credit += self.settings.trickle * (1.0 + EAGER * trust)

    def due(self, now: float) -> bool:
        """Return whether a drained provider shall have the next call, so that its recovery is seen.

        The better it answers, the more it gets. Where there is little traffic it gets no more than one call in five before the first
        good answer, and every other one until it is a fifth of the way back.
        """
        trust = self._trust()
        if self.passed_over < (4 if trust == 0.0 else 1 if trust < 0.2 else 0):
            return False
        patience = min(3.0, 1.0 + (now - self.since) / TIRED) if trust == 0.0 else 1.0 / (1.0 + EAGER * trust)
        return self._credit >= 1.0 or now - self.watched >= self.settings.watch_every * patience

    def called(self, now: float) -> None:
        """Note that a call goes to it."""
        self.watched: float = now
        self.passed_over: int = 0  # calls that it might have had since, and others took
        self._credit = 0.0  # its share of those

    def _trust(self) -> float:
        return min(self.failing.trust(), self.slow.trust())

    def badness(self, now: float) -> tuple[float, float]:
        """Return what puts the least bad provider first, in coarse steps, so that luck does not send each call to another one."""
        figures = self.figures(now)
        share = figures.failures / figures.calls if figures.calls else float(self.failing.bad)
        return (round(share, 1), float(self.slow.bad))

    # --- an operator's word ----------------------------------------------------------------------------------------

    def hold(self, handle: object, now: float) -> None:
        """Keep all traffic away that is not pinned to it, until this handle is let go."""
        before = self.state
        self._holds.add(handle)
        self._turned(before, now, "an operator drained it")

    def let_go(self, handle: object, now: float) -> None:
        """End one hold. A handle that holds nothing changes nothing."""
        before = self.state
        self._holds.discard(handle)
        self._turned(before, now, "the last operator let it go")

    def restore(self, now: float) -> None:
        """End every hold and forget all that was learned: it is well until it proves otherwise, and its pace is learned anew."""
        before = self.state
        self._holds.clear()
        self.failing.forget()
        self.slow.forget()
        self._recent.clear()
        self._dwell, self._returned, self._silent = DWELL, -inf, 0
        self.life += 1
        self._turned(before, now, "an operator restored it")

    def shift(self, seconds: float) -> None:
        """Move to a clock with another zero."""
        self.failing.shift(seconds)
        self.slow.shift(seconds)
        self.since += seconds
        self._returned += seconds
        self.watched += seconds
        self._recent = deque(((at + seconds, took, failed) for at, took, failed in self._recent), maxlen=RECENT)
