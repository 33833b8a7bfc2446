"""The laws of a relay among others: it keeps what it owns, leaves them their share, and stops where it was overtaken."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from finresilience.durable.outbox import FencedError
from finresilience.testing.contracts._base import ask, law
from finresilience.testing.contracts._outbox_base import LEASE, TERMS, event
from finresilience.testing.contracts._relay_base import Broker, RelayBase
from finresilience.testing.contracts._relay_views import Watched

if TYPE_CHECKING:
    from finresilience.durable.messages import OutboxRow
    from finresilience.durable.outbox import PartitionLease


class LeaseLaws(RelayBase):
    """What a relay does with the partitions that it has, and with those that it has no more."""

    @law
    async def test_a_relay_that_lost_one_partition_publishes_no_more_of_any(self, store: Any) -> None:
        """A relay that finds an heir in one of its partitions was too slow for all: it stops, and does not go on with the others."""
        committed = await self.filled(store, keys=12, each=2)
        broker, slow = Broker(), [LEASE * 2]
        heirs: list[PartitionLease] = []

        async def overtake(_: OutboxRow) -> None:
            if slow:  # the first row of a wave is
                await self.passes(store, slow.pop())
                heirs.extend((await ask(store.claim("relay-2", at_most=1, terms=TERMS))).leases)

        try:
            await self.relayed(store, broker.send, before=overtake)
        except FencedError:
            arrived = len(broker.arrived)
            assert arrived <= 3, f"a relay was overtaken in one partition, and published {arrived} rows before it stopped"
        else:
            raise AssertionError("a relay that was overtaken did not say so")
        for lease in heirs:
            await ask(store.release(lease))
        await self.passes(store, LEASE + 1)
        await self.finished(store, broker.send)
        broker.must_hold(committed)

    @law
    async def test_a_relay_that_works_leaves_others_their_share(self, store: Any) -> None:
        """A relay that came first, and has work, gives partitions to one that comes later, until each has its share."""
        await self.added(store, *[event(key, 0) for key in self.housemates(store, 12)])
        broker = Broker()
        theirs: dict[int, PartitionLease] = {}

        async def come_later(_: OutboxRow) -> None:
            await self.passes(store, LEASE / 6)
            for lease in theirs.values():
                await ask(store.renew(lease))
            claimed = await ask(store.claim("late-comer", at_most=store.partitions, terms=TERMS))
            theirs.update({lease.part: lease for lease in claimed.leases})

        await self.relayed(store, broker.send, before=come_later, concurrency=1)
        due = store.partitions // 2
        assert len(theirs) >= due, f"of {store.partitions} partitions a relay that works left {len(theirs)} to another, which is due {due}"
        assert broker.doubled == 0

    @law
    async def test_a_relay_that_lives_loses_nothing(self, store: Any) -> None:
        """However slow the publisher is, a relay keeps each partition that it owns, also those with nothing in them: none is taken over."""
        committed = await self.filled(store, keys=6, each=1)

        async def slowly(_: OutboxRow) -> None:
            await self.passes(store, LEASE * 0.4)

        broker = Broker()
        await self.relayed(store, broker.send, before=slowly, concurrency=1)
        broker.must_hold(committed)
        told = await ask(store.statistics())
        assert (told.takeovers, told.suspects) == (0, 0), f"a relay that lives was taken for dead in {told.takeovers} partitions"

    @law
    async def test_a_row_is_handed_over_only_if_its_lease_outlasts_it(self, store: Any) -> None:
        """Where an answer came so late that a publish may outlast the lease, it is renewed first: nobody can take over meanwhile."""
        committed = [("acc_1", n) for n in range(3)]
        await self.added(store, *[event(key, n) for key, n in committed])
        late, broker, intruded = [LEASE - 0.6], Broker(), list[int]()

        async def told(name: str, _: Any, __: Any) -> None:
            if name == "renew" and late:
                await self.passes(store, late.pop())

        async def before(row: OutboxRow) -> None:
            await self.passes(store, LEASE * 0.4 if late else 0.9)  # a publish may take 1 s
            claimed = await ask(store.claim("intruder", at_most=store.partitions, terms=TERMS))
            intruded.extend(lease.part for lease in claimed.leases if lease.part == row.part)
            for lease in claimed.leases:
                await ask(store.release(lease))

        with suppress(FencedError):  # it is blamed for what led to this
            await self.relayed(Watched(store, told=told), broker.send, before=before, publish_timeout=1.0)
        assert not intruded, "a row was handed over 0.6 s before its lease ran out, though to publish it may take 1 s"
        broker.must_hold(committed)
