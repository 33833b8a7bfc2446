"""What other outboxes were measured to do wrong, each tried on ours: lost, doubled, reordered, stuck, tried for ever."""

from __future__ import annotations

from typing import Any

import pytest

from finresilience.durable.memory_outbox import MemoryOutbox
from finresilience.durable.messages import partition_of
from finresilience.durable.outbox import Failure, FencedError, LeaseTerms, Reason
from finresilience.testing import ManualClock
from tests.durable.relays import Down, Lost, committed, event, firsts, relay_of, told

TERMS = LeaseTerms(lease=30.0, window=10)
FAILURE = Failure("acme.Down")


class Killed(BaseException):
    """The process is gone: nothing tidies up."""


class World:
    """One store, one clock, and what arrived at the broker."""

    def __init__(self, partitions: int = 1) -> None:
        self.clock = ManualClock()
        self.store = MemoryOutbox(partitions=partitions, clock=self.clock)
        self.arrived: list[tuple[str, int]] = []

    def publish(self, row: Any) -> None:
        self.arrived.append(told(row))

    def run(self, publish: Any = None, **more: Any) -> None:
        relay_of(self.store, publish or self.publish, clock=self.clock, **more).run_sync(until_idle=True)

    def killed(self, deadly: Any) -> None:
        """Run a relay whose process is gone once `deadly(row)` holds: its store hears nothing more of it."""
        store = self.store

        class Gone(MemoryOutbox):
            def __init__(self) -> None:
                self.gone = False

            def __getattribute__(self, name: str) -> Any:
                if name in {"gone", "__class__"}:
                    return object.__getattribute__(self, name)
                if self.gone:
                    raise Killed
                return getattr(store, name)

        proxy = Gone()

        def publish(row: Any) -> None:
            if deadly(row):
                proxy.gone = True
                raise Killed
            self.publish(row)

        try:
            relay_of(proxy, publish, clock=self.clock).run_sync(until_idle=True)
        except Killed:
            self.clock.advance(31)

    def later(self, **more: Any) -> None:
        """Run relays until nothing waits."""
        for _ in range(100):
            self.run(**more)
            self.clock.advance(60)


def test_a_publisher_that_raises_costs_its_own_row_an_attempt_and_the_rest_of_the_batch_nothing() -> None:
    world = World()
    committed(world.store, *[event(f"acc_{n}", n) for n in range(10)])
    tries: list[int] = []

    def publish(row: Any) -> None:
        if row.message.key == "acc_0":
            tries.append(row.attempts)
            raise ValueError
        world.publish(row)

    world.run(publish)
    assert len(world.arrived) == 9
    world.later(publish=publish, max_attempts=3)
    assert tries == [0, 1, 2]
    assert [letter.reason for letter in world.store.dead_letters()] == [Reason.EXHAUSTED]


def test_a_stale_worker_cannot_turn_a_published_row_back_to_pending() -> None:
    world = World()
    committed(world.store, event())
    [old] = world.store.claim("old", at_most=1, terms=TERMS).leases
    [row] = world.store.fetch(old, limit=1).rows
    world.clock.advance(31)
    [new] = world.store.claim("new", at_most=1, terms=TERMS).leases
    world.store.settle(new, [row.seq])
    with pytest.raises(FencedError):
        world.store.retry(old, row.seq, after=0.0, failure=FAILURE)
    assert (world.store.statistics().pending, world.store.statistics().published) == (0, 1)


def test_clocks_that_disagree_turn_no_key_round() -> None:
    world = World()
    for n, skew in enumerate((0.0, 3600.0, -7200.0, 3600.0)):
        world.clock.step_utc(skew)  # as producers on machines whose clocks are hours apart
        committed(world.store, event(n=n))
    world.run()
    assert firsts(world.arrived, "acc_1") == [0, 1, 2, 3]


@pytest.mark.parametrize("failing", range(4))
@pytest.mark.parametrize("error", [Down, Lost])
def test_one_blip_turns_no_key_round(failing: int, error: type[Exception]) -> None:
    world = World()
    committed(world.store, *[event(n=n) for n in range(4)])
    blips: list[int] = []

    def publish(row: Any) -> None:
        if row.message.json()["n"] == failing and not blips:
            blips.append(1)
            raise error
        world.publish(row)

    world.run(publish)
    world.later(publish=publish)
    assert world.arrived == [("acc_1", n) for n in range(4)]


def test_cut_off_at_the_99th_of_100_it_doubles_none_of_the_98_before() -> None:
    world = World()
    committed(world.store, *[event(f"acc_{n}", n) for n in range(100)])

    def publish(row: Any) -> None:
        if len(world.arrived) == 98:
            raise KeyboardInterrupt
        world.publish(row)

    with pytest.raises(KeyboardInterrupt):
        world.run(publish, batch=100, publish_timeout=0.25, settle_every=100)
    assert world.store.statistics().published == 98
    world.run()
    assert sorted(n for _, n in world.arrived) == list(range(100))


def test_a_payload_that_kills_its_worker_is_buried_and_counted() -> None:
    world = World()
    committed(world.store, *[event(f"acc_{n}", n) for n in range(5)])
    deaths: list[int] = []

    def deadly(row: Any) -> bool:
        if row.message.key == "acc_2":
            deaths.append(row.takeovers)
            return True
        return False

    for _ in range(20):
        world.killed(deadly)
        world.clock.advance(31)
    assert deaths == [0, 1, 2, 3]
    [letter] = world.store.dead_letters()
    assert (told(letter.row), letter.reason, letter.row.takeovers) == (("acc_2", 2), Reason.CRASHED, 4)
    assert sorted({n for _, n in world.arrived}) == [0, 1, 3, 4]
    assert len(world.arrived) <= 4 + 2, "only what was not settled at the first death may come twice"


def test_a_lower_seq_that_commits_later_does_not_turn_its_key_round() -> None:
    world = World()
    slow, fast = world.store.transaction(), world.store.transaction()
    world.store.add(slow, event(n=2))  # the lower seq, for now
    world.store.add(fast, event(n=1))
    fast.commit()
    slow.commit()
    committed(world.store, event(n=3))
    world.run()
    assert world.arrived == [("acc_1", 1), ("acc_1", 2), ("acc_1", 3)]


def test_a_batch_that_outlives_its_lease_is_handled_once() -> None:
    world = World(partitions=1)
    committed(world.store, *[event(f"acc_{n}", n) for n in range(40)])
    rival = relay_of(world.store, world.publish, clock=world.clock)

    def slowly(row: Any) -> None:
        world.publish(row)
        world.clock.advance(1.5)  # forty times that is two leases
        rival.run_sync(until_idle=True)

    world.run(slowly, batch=10)
    assert sorted(n for _, n in world.arrived) == list(range(40)), "a row was handled twice"


@pytest.mark.parametrize("at", range(12))
def test_no_row_is_stranded_by_a_worker_that_was_killed(at: int) -> None:
    world = World()
    committed(world.store, *[event(f"acc_{n}", n) for n in range(12)])

    def deadly(row: Any) -> bool:
        return bool(row.message.json()["n"] == at)

    world.killed(deadly)
    world.run()
    assert sorted(set(world.arrived)) == sorted((f"acc_{n}", n) for n in range(12))
    assert world.store.dead_letters() == []


def test_a_row_that_waits_does_not_hold_back_the_ready_ones_of_other_keys() -> None:
    world = World()
    committed(world.store, event("acc_1", 1), event("acc_2", 2))

    def publish(row: Any) -> None:
        if row.message.key == "acc_1":
            raise Down
        world.publish(row)

    world.run(publish)
    committed(world.store, event("acc_1", 3), event("acc_2", 4))
    world.run()
    assert world.arrived == [("acc_2", 2), ("acc_2", 4)]
    world.later()
    assert world.arrived[2:] == [("acc_1", 1), ("acc_1", 3)]


def test_a_backlog_of_a_year_is_published_and_no_cleanup_takes_it() -> None:
    world = World()
    committed(world.store, event(n=1))
    world.clock.advance(366 * 86_400.0)
    assert world.store.purge(older_than=86_400.0) == 0
    world.run()
    assert world.arrived == [("acc_1", 1)]


def test_what_a_crashed_relay_had_claimed_comes_back() -> None:
    world = World(partitions=4)
    committed(world.store, *[event(f"acc_{n}", n) for n in range(20)])
    for lease in world.store.claim("crashed", at_most=4, terms=TERMS).leases:
        world.store.fetch(lease, limit=10)
    world.run()
    assert world.arrived == []
    world.clock.advance(31)
    world.run()
    assert len(world.arrived) == 20


def test_one_failing_row_does_not_restart_the_scan_for_ever() -> None:
    world = World()
    committed(world.store, *[event(f"acc_{n}", n) for n in range(30)])
    tries: list[str] = []

    def publish(row: Any) -> None:
        tries.append(row.message.key)
        if row.message.key == "acc_0":
            raise Down
        world.publish(row)

    world.run(publish)
    assert tries.count("acc_0") == 1
    assert len(world.arrived) == 29


def test_keys_of_one_partition_are_what_these_tests_are_about() -> None:
    assert {partition_of(None, f"acc_{n}", 1) for n in range(40)} == {0}
