"""What is measured, beside whom, and what we promise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmarks import floors, loops, ours, peers, works
from benchmarks.harness import Build, Scenario
from benchmarks.loops import Asyncio, Call, Loop, Plain, Runtime, Trio

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BREAKER, RETRY, TIMEOUT, BULKHEAD, LIMITER = "circuit breaker", "retry", "timeout", "bulkhead", "rate limiter"
ROUND, PIPELINE = "round a call", "pipeline"


@dataclass(frozen=True, slots=True)
class Way:
    """How a row is run: on which function, where, by which loop, and what each call must come to."""

    work: Call
    runtime: Runtime
    loop: Loop
    expect: Callable[[object], bool] = loops.answers

    def row(
        self,
        group: str,
        name: str,
        *,
        floor: Build,
        ours: Build,
        peers: Mapping[str, Build] | None = None,
        our_loop: Loop | None = None,
        goal: float | None = None,
        goal_to_fastest_peer: float | None = None,
    ) -> Scenario:
        return Scenario(
            group=group,
            name=name,
            work=self.work,
            floor=floor,
            ours=ours,
            peers=peers or {},
            runtime=self.runtime,
            loop=self.loop,
            our_loop=our_loop,
            expect=self.expect,
            goal=goal,
            goal_to_fastest_peer=goal_to_fastest_peer,
        )


_LOOP = Asyncio()
_OUTCOMES = Loop(loops.outcomes, (works.charge, works.REQUEST))
_AOUTCOMES = Loop(loops.aoutcomes, (works.acharge, works.REQUEST))

PLAIN = Way(works.charge, Plain(), Loop(loops.returns))
AWAITED = Way(works.acharge, _LOOP, Loop(loops.areturns))
ON_TRIO = replace(AWAITED, runtime=Trio())
REFUSED = replace(PLAIN, loop=Loop(loops.raises), expect=loops.refuses)
AREFUSED = replace(AWAITED, loop=Loop(loops.araises), expect=loops.refuses)
FAILED = replace(PLAIN, work=works.reset, loop=Loop(loops.raises), expect=loops.fails)
AFAILED = replace(AWAITED, work=works.areset, loop=Loop(loops.araises), expect=loops.fails)


def scenarios() -> list[Scenario]:
    """Return every race, in the order of the tables."""
    return [*_breakers(), *_attempts(), *_gates(), *_round_a_call(), *_pipelines()]


def _breakers() -> list[Scenario]:
    slow, asked = "closed with slow-call rate", "open, outcome"
    return [
        PLAIN.row(BREAKER, "closed, sync", floor=floors.counted, ours=ours.closed, peers=peers.CLOSED, goal=2.5),
        PLAIN.row(BREAKER, f"{slow}, sync", floor=floors.counted, ours=ours.closed_slow, peers=peers.CLOSED_SLOW, goal=3.0),
        AWAITED.row(BREAKER, "closed, async", floor=floors.acounted, ours=ours.closed, peers=peers.CLOSED, goal=2.0),
        AWAITED.row(BREAKER, f"{slow}, async", floor=floors.acounted, ours=ours.closed_slow, peers=peers.CLOSED_SLOW),
        REFUSED.row(BREAKER, "open, raising, sync", floor=floors.rejected, ours=ours.open_, peers=peers.OPEN, goal=1.6),
        REFUSED.row(BREAKER, f"{asked}, sync", floor=floors.rejected, ours=ours.open_outcome, our_loop=_OUTCOMES, goal=0.9),
        AREFUSED.row(BREAKER, "open, raising, async", floor=floors.arejected, ours=ours.open_, peers=peers.OPEN, goal=1.6),
        AREFUSED.row(BREAKER, f"{asked}, async", floor=floors.arejected, ours=ours.open_aoutcome, our_loop=_AOUTCOMES, goal=0.9),
        FAILED.row(BREAKER, "recording a failure, sync", floor=floors.counted, ours=ours.recording, peers=peers.RECORDING),
        AFAILED.row(BREAKER, "recording a failure, async", floor=floors.acounted, ours=ours.recording, peers=peers.RECORDING),
    ]


def _attempts() -> list[Scenario]:
    over = "asyncio, to asyncio.timeout"
    return [
        PLAIN.row(RETRY, "no failure, sync", floor=floors.counted, ours=ours.retry, peers=peers.RETRY, goal=1.4),
        AWAITED.row(RETRY, "no failure, async", floor=floors.acounted, ours=ours.retry, peers=peers.RETRY, goal=1.4),
        AWAITED.row(TIMEOUT, over, floor=floors.asyncio_timeout, ours=ours.timeout, peers=peers.TIMEOUT, goal=0.35),
        ON_TRIO.row(
            TIMEOUT, "trio, to trio.fail_after", floor=floors.trio_fail_after, ours=ours.timeout, peers=peers.TRIO_TIMEOUT, goal=1.2
        ),
    ]


def _gates() -> list[Scenario]:
    return [
        PLAIN.row(BULKHEAD, "a place is free, sync", floor=floors.placed, ours=ours.bulkhead, peers=peers.BULKHEAD, goal=2.0),
        AWAITED.row(BULKHEAD, "a place is free, async", floor=floors.aplaced, ours=ours.bulkhead, peers=peers.BULKHEAD, goal=3.0),
        PLAIN.row(LIMITER, "within the rate, sync", floor=floors.metered, ours=ours.limiter, peers=peers.LIMITER, goal=1.8),
        AWAITED.row(LIMITER, "within the rate, async", floor=floors.ametered, ours=ours.limiter, peers=peers.LIMITER, goal=1.8),
    ]


def _round_a_call() -> list[Scenario]:
    """Return what is promised nothing, but should surprise nobody: the price of what is not needed while all is well."""
    return [
        PLAIN.row(ROUND, "fallback not needed, sync", floor=floors.replaced, ours=ours.fallback, peers=peers.FALLBACK),
        PLAIN.row(ROUND, "failover, primary healthy, sync", floor=floors.routed, ours=ours.failover, peers=peers.FAILOVER),
        AWAITED.row(ROUND, "hedge not needed, async", floor=floors.hedged, ours=ours.hedge, peers=peers.HEDGE),
    ]


def _pipelines() -> list[Scenario]:
    stack, timed, full = "breaker + retry", "breaker + retry + timeout", "breaker + retry + bulkhead + timeout"
    cooperative, to = "breaker + retry + cooperative timeout", "to asyncio.timeout"
    return [
        PLAIN.row(PIPELINE, f"{stack}, sync", floor=floors.counted, ours=ours.pipeline, peers=peers.PIPELINE),
        PLAIN.row(PIPELINE, f"{cooperative}, sync", floor=floors.counted, ours=ours.timeout_pipeline, peers=peers.COOPERATIVE_PIPELINE),
        PLAIN.row(
            PIPELINE,
            f"{stack} + bulkhead, sync",
            floor=floors.counted_and_placed,
            ours=ours.bulkhead_pipeline,
            peers=peers.BULKHEAD_PIPELINE,
            goal=2.5,
        ),
        AWAITED.row(
            PIPELINE,
            f"{timed}, {to}",
            floor=floors.asyncio_timeout,
            ours=ours.timeout_pipeline,
            peers=peers.TIMEOUT_PIPELINE,
            goal=1.0,
            goal_to_fastest_peer=1 / 3,
        ),
        AWAITED.row(
            PIPELINE,
            f"{full}, {to}",
            floor=floors.asyncio_timeout,
            ours=ours.full_pipeline,
            peers=peers.FULL_PIPELINE,
            goal=1.0,
            goal_to_fastest_peer=0.25,
        ),
    ]
