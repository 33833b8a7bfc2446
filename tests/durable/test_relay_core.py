"""The core of the relay: whatever the store and the publisher say, and whenever, it takes no step that could harm."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from finresilience.durable.messages import OutboxRow
from finresilience.durable.outbox import Batch, Failure, FencedError, Leased, PartitionLease
from finresilience.durable.relay_core import RelayCore
from finresilience.durable.relay_steps import Bury, Claim, Fetch, Mark, Postpone, Publish, RelaySettings, Release, Renew, Settle, Stop, Wait
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Verdict
from finresilience.testing.saboteurs import relay as saboteurs
from tests.durable.relays import event

if TYPE_CHECKING:
    from finresilience.durable.relay import Relay

LEASE, PARTS = 30.0, 3
FAILURE = Failure("acme.Down")
MADE = datetime(2026, 1, 1, tzinfo=UTC)
CHOICE = st.integers(0, 99)


class Bench:
    """Drives a core with answers that are drawn, and watches every step."""

    def __init__(self, draws: list[int], *, concurrency: int, core: type[RelayCore] = RelayCore) -> None:
        self.draws = draws
        self.settings = RelaySettings(lease=LEASE, batch=6, publish_timeout=2.0, concurrency=concurrency, settle_every=3)
        self.core = core(self.settings)
        self.now, self.epoch, self.seq = 0.0, 0, 0
        self.until: dict[int, float] = {}
        self.in_hand: dict[int, list[OutboxRow]] = {}
        self.confirmed: set[int] = set()
        self.suspect: set[int] = set()
        self.marked: set[int] = set()

    def draw(self, many: int) -> int:
        return self.draws.pop() % many if self.draws else 0

    def row(self, part: int) -> OutboxRow:
        self.seq += 1
        message = event(f"p{part}_{self.draw(3)}", self.seq, id=UUID(int=self.seq))
        return OutboxRow(seq=self.seq, part=part, message=message, attempts=self.draw(12), takeovers=0, created_at=MADE)

    def run(self, steps: int) -> None:
        still = 0
        for _ in range(steps):
            if self.draw(40) == 39:
                self.core.leave()
            step = self.core.next(self.now, self.draw(100) / 100)
            still = still + 1 if not isinstance(step, Wait) else 0
            assert still < 400, "it takes step after step without a wait or an end"
            if isinstance(step, Stop):
                assert not self.core.held
                return
            asked_at, self.now = self.now, self.now + self.draw(8) / 4
            self.do(step, asked_at)

    def do(self, step: Any, asked_at: float) -> None:
        core = self.core
        if isinstance(step, Wait):
            assert 0.0 <= step.seconds <= max(self.settings.poll_most, LEASE / 3)
            self.now += step.seconds + self.draw(3) * 10.0
        elif isinstance(step, Publish):
            self.publish(step, asked_at)
        elif self.draw(30) == 29 and not isinstance(step, Claim):
            core.fenced(step.lease, FencedError(step.lease.part, step.lease.epoch, current=99, doing="test"), releasing=False)
        elif self.draw(12) == 11:
            if core.leaving:
                if not isinstance(step, Claim):
                    core.forsake(step.lease)
            else:
                core.store_failed(getattr(step, "lease", None), now=self.now, u=0.5)
        else:
            self.answer(step, asked_at)

    def answer(self, step: Any, asked_at: float) -> None:
        core = self.core
        if isinstance(step, Claim):
            free = [part for part in range(PARTS) if part not in core.held][: self.draw(PARTS + 1)]
            leases = []
            for part in free:
                self.epoch += 1
                leases.append(PartitionLease(part=part, owner="me", epoch=self.epoch, seconds=LEASE))
                self.until[part], self.in_hand[part] = asked_at + LEASE, []
            core.claimed(Leased(tuple(leases), 1 + self.draw(PARTS)), asked_at=asked_at, now=self.now, u=0.5)
        elif isinstance(step, Renew):
            self.until[step.lease.part] = asked_at + LEASE
            core.renewed(step.lease, asked_at=asked_at, now=self.now)
        elif isinstance(step, Fetch):
            part = step.lease.part
            assert not self.in_hand[part], "it fetched with rows in hand: they would come twice"
            assert asked_at < self.until[part], "it fetched with a lease that had run out"
            suspect = self.draw(4) == 3
            rows = [self.row(part) for _ in range(1 if suspect else self.draw(step.limit + 1))]
            self.in_hand[part] = list(rows)
            self.suspect |= {row.seq for row in rows if suspect}
            core.fetched(step.lease, Batch(tuple(rows), suspect=suspect), now=self.now)
        elif isinstance(step, Mark):
            assert step.seq in self.suspect
            self.marked.add(step.seq)
            core.marked(step.lease)
        elif isinstance(step, Settle):
            assert set(step.published) <= self.confirmed, "it settled a row that nobody had confirmed"
            self.forget(step.lease.part, set(step.published))
            core.settled(step.lease, step.published)
        elif isinstance(step, Postpone | Bury):
            assert step.seq not in self.confirmed, "it buried or put off a row that was published"
            part = step.lease.part
            failed = next(row for row in self.in_hand[part] if row.seq == step.seq)
            self.forget(part, {row.seq for row in self.in_hand[part] if row.line == failed.line and row.seq not in self.confirmed})
            core.reported(step.lease)
        elif isinstance(step, Release):
            if not core.leaving:
                assert not self.in_hand[step.lease.part], "it gave a partition back with rows in hand"
            core.released(step.lease)

    def forget(self, part: int, seqs: set[int]) -> None:
        self.in_hand[part] = [row for row in self.in_hand[part] if row.seq not in seqs]

    def publish(self, step: Publish, asked_at: float) -> None:
        """Be as many lanes as the wave may have at once, which go on by turns, at moments of their own."""
        keys = [{row.line for row in line} for line in step.lines]
        assert step.lines
        assert all(len(one) == 1 for one in keys), "it mixed two keys in one line"
        assert len(set.union(*keys)) == len(keys), "two rows of one key at once"
        assert step.at_once <= self.settings.concurrency
        self.now = asked_at
        waiting = list(step.lines)
        lanes = [list(waiting.pop(0)) for _ in range(min(step.at_once, len(waiting)))]
        while lanes:
            lane = lanes.pop(self.draw(len(lanes)))
            if not self.core.may_publish(lane[0], self.now):
                self.core.left(lane)
                continue
            self.hand_out(step, lane[0])
            if not self.lands(lane.pop(0)):
                self.core.dropped(lane)
                lane = []
            self.now += self.draw(3) * 0.1
            if lane or waiting:
                lanes.append(lane or list(waiting.pop(0)))
        for line in waiting:
            self.core.left(line)

    def hand_out(self, step: Publish, row: OutboxRow) -> None:
        assert row in self.in_hand[row.part], "it published a row that it must fetch again: one before it was put off"
        assert self.now + self.settings.publish_timeout <= self.until[row.part], "it published with a lease that might run out"
        before = [one for one in self.in_hand[row.part] if one.line == row.line and one.seq < row.seq]
        assert {one.seq for one in before} <= self.confirmed, "it published a row before an earlier one of its key was confirmed"
        if row.seq in self.suspect:
            assert len(step.rows) == 1, "it delivered a suspect in company"
            assert row.seq in self.marked, "it delivered a suspect that the store does not know of"

    def lands(self, row: OutboxRow) -> bool:
        luck = self.draw(10)
        if luck < 6:
            self.confirmed.add(row.seq)
            self.core.published(row, now=self.now)
        elif luck == 6:
            self.core.refused(row, None, FAILURE, now=self.now, u=0.5)
        else:
            self.core.failed(row, Verdict((RETRYABLE, UNKNOWN, NON_RETRYABLE)[luck - 7]), FAILURE, u=0.5)
        return luck < 6


@given(st.lists(CHOICE, max_size=600), st.integers(1, 4))
def test_no_step_could_lose_double_or_turn_round_anything(draws: list[int], concurrency: int) -> None:
    Bench(draws, concurrency=concurrency).run(400)


@pytest.mark.parametrize(
    "broken",
    [saboteurs.RetriesReorder, saboteurs.NeverRenews, saboteurs.MarksNoSuspect, saboteurs.DrainsByDropping, saboteurs.TakesSilenceForAYes],
)
def test_the_bench_notices_a_core_that_takes_a_harmful_step(broken: type[Relay]) -> None:
    for seed in range(300):
        chance = Random(seed)
        try:
            Bench([chance.randrange(100) for _ in range(400)], concurrency=3, core=broken.core).run(400)
        except AssertionError:
            return
    pytest.fail("it was harmed three hundred times and nobody noticed")


def test_left_alone_it_looks_renews_and_waits_for_ever_without_haste() -> None:
    core = RelayCore(RelaySettings(lease=LEASE, batch=10, poll=(0.1, 5.0)))
    now, steps, leases = 0.0, 0, [PartitionLease(part=0, owner="me", epoch=1, seconds=LEASE)]
    while now < 3600.0:
        step = core.next(now, 0.5)
        steps += 1
        if isinstance(step, Wait):
            now += step.seconds
        elif isinstance(step, Claim):
            core.claimed(Leased(tuple(leases), 1), asked_at=now, now=now, u=0.5)
            leases = []
        elif isinstance(step, Renew):
            core.renewed(step.lease, asked_at=now, now=now)
        elif isinstance(step, Fetch):
            core.fetched(step.lease, Batch(()), now=now)
    assert steps < 3600.0 * 2, "an idle relay asks its store more than twice a second"


def test_over_a_slow_line_it_publishes_between_two_renewals() -> None:
    """It renewed as soon as a third of its lease was over: where the answer took longer, it renewed again, and published nothing."""
    core = RelayCore(RelaySettings(lease=LEASE, batch=10), concurrency=1)
    now, rows = 0.0, [OutboxRow(seq=1, part=0, message=event(id=UUID(int=1)), attempts=0, takeovers=0, created_at=MADE)]
    for _ in range(5):
        asked_at, step = now, core.next(now, 0.5)
        if isinstance(step, Publish):
            return
        now += LEASE * 0.7
        if isinstance(step, Claim):
            core.claimed(Leased((PartitionLease(part=0, owner="me", epoch=1, seconds=LEASE),), 1), asked_at=asked_at, now=now, u=0.5)
        elif isinstance(step, Renew):
            core.renewed(step.lease, asked_at=asked_at, now=now)
        elif isinstance(step, Fetch):
            now = asked_at  # rows come at once
            core.fetched(step.lease, Batch(tuple(rows)), now=now)
    raise AssertionError("five answers of the store, and nothing was published")


def test_the_core_forgets_what_a_wave_was_told_of_a_partition_that_it_lost() -> None:
    core = RelayCore(RelaySettings(lease=LEASE, batch=10))
    lease = PartitionLease(part=0, owner="me", epoch=1, seconds=LEASE)
    row = OutboxRow(seq=1, part=0, message=event(id=UUID(int=1)), attempts=0, takeovers=0, created_at=MADE)
    assert isinstance(core.next(0.0, 0.5), Claim)
    core.claimed(Leased((lease,), 1), asked_at=0.0, now=0.0, u=0.5)
    core.fetched(lease, Batch((row,)), now=0.0)
    assert core.next(0.0, 0.5) == Publish(((row,),), 16)
    core.fenced(lease, FencedError(0, 1, current=2, doing="renewing"), releasing=False)
    core.published(row, now=0.0)
    assert core.failed(row, Verdict(UNKNOWN), FAILURE, u=0.5) is core.refused(row, None, FAILURE, now=0.0, u=0.5) is None
    assert core.next(0.0, 0.5) == Stop()
    assert core.fenced_by is not None
