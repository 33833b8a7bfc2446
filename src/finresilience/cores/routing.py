"""Which provider takes this call? The choice among those that may, by their health, and what becomes of the choice.

Also the two rules of the walk from one provider to the next: past which end a call may go on, and how the whole of it ended.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING, Final, final

from finresilience.cores.pace import EVIDENCE, VERY, WORSE, Baseline, Pace

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from finresilience.cores.health import Health

_TRACKED: Final = 10_000  # calls under way whose pace a route follows


@final
class RouteEnd(StrEnum):
    """How a call to one provider ended, in the order in which ends outweigh each other (the join, law 1)."""

    REFUSED = "refused"
    FAILED = "failed"
    DECLINED = "declined"
    UNKNOWN = "unknown"
    OK = "ok"


_WEIGHT: Final = {end: weight for weight, end in enumerate(RouteEnd)}


def passes(end: RouteEnd, *, soft: bool) -> bool:
    """Return whether a call that ended so at one provider may be given to another.

    Only what is surely not applied, and a no that the caller's own rule calls soft. Never an unknown one: another provider knows nothing
    of its key, so twice would be twice.
    """
    return end in {RouteEnd.REFUSED, RouteEnd.FAILED} or (end is RouteEnd.DECLINED and soft)


def outweighs(end: RouteEnd, kept: RouteEnd) -> bool:
    """Return whether a later end replaces the one kept so far: Ok, else Unknown, else Declined, else the last error, else Refused."""
    return _WEIGHT[end] >= _WEIGHT[kept]


@final
class NoRoute(StrEnum):
    """Why nobody may take a call, as a clause a person can read."""

    REGION = "no route may take calls of its region"
    HELD = "an operator has drained every route that may take it"
    STRANGER = "the provider it is pinned to is none of its routes"
    ABROAD = "the provider it is pinned to may not take calls of its region"


@final
class Halt(StrEnum):
    """Why a call was not given to another provider, as a clause a person can read."""

    ANSWERED = "a provider has answered"
    UNKNOWN = "an unknown outcome is never sent to another provider: it may have happened at this one"
    PINNED = "it is pinned to this provider"
    DOUBT = "an earlier call of its key may have happened at this provider"
    NOBODY = "no other may take it"
    AT_MOST = "it was sent to as many providers as it may be"
    BUDGET = "the retry budget is spent"
    DEADLINE = "its deadline has passed"


@final
class Ticket:
    """One call under way at one provider. Give it back by `Routing.end`, exactly once."""

    __slots__ = ("began", "candidate", "cut", "done", "took")

    def __init__(self, candidate: Candidate, began: float) -> None:
        self.candidate: Candidate = candidate
        self.began: float = began
        self.done: bool = False
        self.took: float | None = None  # once it is done, if that says anything about the provider's pace
        self.cut: bool  # likewise: whether that is how long somebody waited for nothing


@final
class Candidate:
    """A provider as one failover sees it: its health is shared, its pace and its pauses belong to this operation."""

    __slots__ = ("baseline", "health", "late", "life", "name", "paused", "regions", "under_way", "waiting", "weight")

    def __init__(
        self, health: Health, *, weight: float = 1.0, regions: frozenset[str] | None = None, slow_after: float | None = None
    ) -> None:
        self.name: str = health.name
        self.health: Health = health
        self.weight: float = weight
        self.regions: frozenset[str] | None = regions
        self.baseline: Baseline = Baseline(slow_after)
        self.life: int = health.life
        self.paused: float = -inf  # until when our own refusals keep it out of the choice
        self.under_way: int = 0
        self.waiting: deque[Ticket] = deque(maxlen=_TRACKED)  # not judged yet, in the order in which they began
        self.late: deque[Ticket] = deque(maxlen=_TRACKED)  # judged slow while they were under way

    def serves(self, region: str | None) -> bool:
        """Return whether calls of this region may go here; a call without a region goes only where no region is asked for."""
        return self.regions is None or region in self.regions


@final
class Routing:
    """Choose a provider for each call, and learn from what becomes of it.

    Residency is an allow-list that nothing overrides. A pinned call goes to its provider or to nobody. Of the rest: first a drained
    provider whose turn it is to be watched, then the healthy, then the least bad of the drained, then those that refuse at the moment.

    A core: told the time and its luck. Not thread-safe: the shell calls it under its lock.

    Args:
        candidates: in the order of preference.
        spread: share the traffic among the healthy by their weights; otherwise the first of them takes it all.
    """

    __slots__ = ("_by_name", "_spread", "candidates")

    def __init__(self, candidates: Sequence[Candidate], *, spread: bool = False) -> None:
        self.candidates: tuple[Candidate, ...] = tuple(candidates)
        self._spread = spread
        self._by_name = {candidate.name: candidate for candidate in candidates}

    # --- the choice ------------------------------------------------------------------------------------------------

    def choose(
        self, now: float, u: float, *, region: str | None = None, pin: str | None = None, tried: Collection[Candidate] = ()
    ) -> Candidate | NoRoute | None:
        """Return who takes the call next, or None once everybody who may was tried, or why nobody may at all.

        Args:
            now: the time.
            u: a chance in [0, 1).
            region: where the call belongs.
            pin: the provider it must go to.
            tried: who had it already.
        """
        if pin is not None:
            return self._pinned(pin, region, tried)
        allowed = [candidate for candidate in self.candidates if candidate.serves(region)]
        if not allowed:
            return NoRoute.REGION
        serving = [candidate for candidate in allowed if not candidate.health.held]
        left = [candidate for candidate in serving if candidate not in tried]
        if not left:
            return None if tried else NoRoute.HELD
        for candidate in self.candidates:
            self._judge_paces(candidate, now)
        chosen = self._best(left, now, u, first=not tried)
        if not tried:
            for candidate in left:
                if candidate is not chosen and candidate.health.drained:
                    candidate.health.pass_over()
        return chosen

    def _pinned(self, pin: str, region: str | None, tried: Collection[Candidate]) -> Candidate | NoRoute | None:
        candidate = self._by_name.get(pin)
        if candidate is None:
            return NoRoute.STRANGER
        if not candidate.serves(region):
            return NoRoute.ABROAD
        return None if tried else candidate

    def _best(self, left: list[Candidate], now: float, u: float, *, first: bool) -> Candidate:
        ready = [candidate for candidate in left if candidate.paused <= now]
        if not ready:
            return min(left, key=lambda candidate: candidate.paused)
        well = [candidate for candidate in ready if not candidate.health.drained]
        ill = [candidate for candidate in ready if candidate.health.drained]
        watched = [candidate for candidate in ill if candidate.health.due(now)] if first else []
        if watched:
            return min(watched, key=lambda candidate: candidate.health.watched)
        if not well:
            return min(ill, key=lambda candidate: candidate.health.badness(now))
        if self._spread:
            return self._by_weight(well, now, u)
        return self._in_order(well, now, u) if first else well[0]

    def _in_order(self, well: list[Candidate], now: float, u: float) -> Candidate:
        for candidate in well:
            share = candidate.health.share(now)
            if u < share:
                return candidate
            u = (u - share) / (1.0 - share)
        return well[0]

    def _by_weight(self, well: list[Candidate], now: float, u: float) -> Candidate:
        weights = [(candidate, candidate.weight * candidate.health.share(now)) for candidate in well]
        at = u * sum(weight for _, weight in weights)
        for candidate, weight in weights:
            if at < weight:
                return candidate
            at -= weight
        return well[0]  # nobody else has a weight

    # --- what becomes of it ----------------------------------------------------------------------------------------

    def begin(self, candidate: Candidate, now: float) -> Ticket:
        """Note that a call goes there now."""
        ticket = Ticket(candidate, now)
        candidate.under_way += 1
        candidate.waiting.append(ticket)
        candidate.health.called(now)
        return ticket

    def end(self, ticket: Ticket, now: float, *, failed: bool | None, cut: bool = False) -> None:
        """Take what became of a call.

        Args:
            ticket: the call.
            now: the time.
            failed: whether the provider failed it; None where the end says nothing about the provider.
            cut: somebody's deadline left it too little time: that it took as long as it did may still say something.
        """
        candidate, took = ticket.candidate, now - ticket.began
        ticket.done, ticket.cut = True, cut
        candidate.under_way = max(0, candidate.under_way - 1)  # a forked child has forgotten those of its parent
        health = candidate.health
        if failed is False or (cut and candidate.baseline.pace(took) is not Pace.QUICK):
            ticket.took = took
        if failed is not None:
            health.hear(now, failed=failed, took=took)
        if failed is False and not health.drained:
            candidate.baseline.learn(took, now, suspicion=health.slow.score)
        self._judge_paces(candidate, now)
        if health.drained:
            candidate.baseline.drop()

    def pause(self, candidate: Candidate, until: float) -> None:
        """Keep a provider whose calls we refuse ourselves out of the choice. It is not its failure (law 5)."""
        candidate.paused = until

    def _judge_paces(self, candidate: Candidate, now: float) -> None:
        """Judge the pace of the calls in the order in which they began, and those that are overdue at once.

        In the order in which they end, the quick ones of a provider that has just become slow would speak first, and loudest.
        """
        if candidate.life != candidate.health.life:
            candidate.life = candidate.health.life
            candidate.baseline.forget()
        p95, limit = candidate.baseline.p95, candidate.baseline.limit
        very = inf if p95 is None else VERY * p95
        waiting, late, health = candidate.waiting, candidate.late, candidate.health
        while waiting and (waiting[0].done or now - waiting[0].began > limit):
            ticket = waiting.popleft()
            if not ticket.done:
                late.append(ticket)
                health.hear_pace(now, EVIDENCE[Pace.SLOW], silent=True)
            elif ticket.took is not None and (pace := candidate.baseline.pace(ticket.took)) is not None:
                health.hear_pace(now, EVIDENCE[pace], silent=ticket.cut)
        while late and (late[0].done or now - late[0].began > very):
            ticket = late.popleft()
            if not ticket.done or (ticket.took is not None and ticket.took > very):
                health.hear_pace(now, WORSE)

    def forget_calls(self) -> None:
        """Forget the calls under way: in a forked child nobody will end them."""
        for candidate in self.candidates:
            candidate.under_way = 0
            candidate.waiting.clear()
            candidate.late.clear()

    def shift(self, seconds: float) -> None:
        """Move to a clock with another zero."""
        for candidate in self.candidates:
            candidate.paused += seconds
            candidate.baseline.shift(seconds)
            for ticket in (*candidate.waiting, *candidate.late):
                ticket.began += seconds
