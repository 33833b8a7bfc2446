"""The laws of relays: what is committed is published, in order, at least once, whoever dies, fails or is cut off."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from finresilience.durable.messages import partition_of
from finresilience.durable.outbox import FencedError
from finresilience.errors import ConfigurationError
from finresilience.testing.contracts._base import ask, law, race
from finresilience.testing.contracts._outbox_base import LEASE, TERMS, event
from finresilience.testing.contracts._relay_base import Broker
from finresilience.testing.contracts._relay_bounds import BoundLaws
from finresilience.testing.contracts._relay_deaths import DyingLaws
from finresilience.testing.contracts._relay_failures import FailureLaws
from finresilience.testing.contracts._relay_leases import LeaseLaws
from finresilience.testing.contracts._relay_views import Distant
from finresilience.testing.contracts._relay_waits import WaitLaws

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.durable.messages import OutboxRow
    from finresilience.testing.contracts._runs import Caller


class RelayContract(LeaseLaws, DyingLaws, FailureLaws, WaitLaws, BoundLaws):
    """The laws of a relay over an outbox. Held against a store of yours, they prove that our `Relay` keeps its promises over it.

        class TestRelayOverMyOutbox(contracts.RelayContract):
            def make_store(self):
                return MyOutbox(clock=self.clock)

    To prove a relay of your own, override `make_relay(self, store, publisher, **numbers)` too. It returns one with `run(until_idle=)`, or
    `run_sync(until_idle=)` over a sync store, and `stop()`; the numbers are those of `RelaySettings`.
    """

    # ------------------------------------------------------------ all goes well

    @law
    async def test_what_is_committed_is_published_once_and_in_order(self, store: Any) -> None:
        """Where nobody fails, each committed row is published once, those of a key in order, and then none is pending."""
        committed = await self.filled(store, keys=5, each=4)
        async with self.taken_back(store) as transaction:
            store.add(transaction, event("acc_1", 99))
        broker = Broker()
        await self.relayed(store, broker.send)
        broker.must_hold(committed)
        assert broker.doubled == 0, "a row was published twice though nobody failed"
        assert (await ask(store.statistics())).pending == 0, "a row was published and not settled"

    @law
    async def test_a_relay_that_ends_gives_its_partitions_back(self, store: Any) -> None:
        """A relay that ends leaves nothing owned: the next one has all at once, and takes it for no dead relay's."""
        await self.filled(store)
        await self.relayed(store, Broker().send)
        assert (await ask(store.statistics())).owned == 0, "a relay that has ended still owns partitions"
        assert not any(lease.unclean for lease in (await self.owned_all(store, "relay-2")).values())

    @race
    async def test_of_many_relays_each_row_is_published_by_one(self, store: Any) -> tuple[list[Caller], Caller]:
        """However many relays run, each row is published once, and those of a key in order."""
        committed = await self.filled(store, keys=3, each=2)
        broker = Broker()

        async def relay() -> None:
            await self.relayed(store, broker.send)

        async def check() -> None:
            await self.finished(store, broker.send)
            broker.must_hold(committed)
            assert broker.doubled == 0, f"rows were published by two relays: {broker.arrived}"

        return [relay, relay, relay], check

    @race
    async def test_relays_and_producers_together_lose_nothing(self, store: Any) -> tuple[list[Caller], Caller]:
        """While producers commit out of order, roll back and go on, relays publish what is committed, in order of each key."""
        committed: list[tuple[str, int]] = []
        broker = Broker()

        async def producer(key: str) -> None:
            for n in range(2):
                async with self.within(store) as transaction:
                    store.add(transaction, event(key, n))
                committed.append((key, n))
                async with self.taken_back(store) as transaction:
                    store.add(transaction, event(key, 90 + n))

        async def relay() -> None:
            await self.relayed(store, broker.send)

        async def check() -> None:
            await self.finished(store, broker.send)
            broker.must_hold(committed)

        return [lambda: producer("acc_1"), lambda: producer("acc_2"), relay, relay], check

    # ------------------------------------------------------------ leases

    @law
    async def test_the_lease_is_looked_at_before_each_message(self, store: Any) -> None:
        """However slow the publisher is, nobody else can own the partition when a row is handed to it: the lease is renewed in between."""
        await self.intruded_upon(store, store, lambda: self.passes(store, LEASE * 0.4))

    @law
    async def test_a_lease_is_counted_from_when_it_was_asked_for(self, store: Any) -> None:
        """However late the store's answer comes, rows are published, and nobody else can own the partition when one is handed over."""
        neighbours = await self.owned_all(store, "neighbour")  # a relay that holds one partition renews one lease
        await ask(store.release(self.home(store, neighbours, "acc_1")))
        del neighbours[partition_of(None, "acc_1", store.partitions)]

        async def passes(seconds: float) -> None:
            await self.passes(store, seconds)
            for lease in neighbours.values():
                await ask(store.renew(lease))

        distant = Distant(store, lambda: passes(LEASE * 0.8))
        await self.intruded_upon(store, distant, lambda: passes(LEASE * 0.15))

    async def intruded_upon(self, store: Any, seen: Any, slowly: Callable[[], Any]) -> None:
        """Let a relay publish six rows of a partition over the store as it sees it, while another wants to own that before each row."""
        keys = self.housemates(store, 2)
        await self.added(store, *[event(keys[n % 2], n) for n in range(6)])
        broker, intruded = Broker(), list[int]()

        async def intrude(row: OutboxRow) -> None:
            claimed = await ask(store.claim("intruder", at_most=store.partitions, terms=TERMS))
            intruded.extend(lease.part for lease in claimed.leases if lease.part == row.part)
            for lease in claimed.leases:
                await ask(store.release(lease))
            await slowly()

        with suppress(FencedError):  # it is blamed for what led to this
            await self.relayed(seen, broker.send, before=intrude, concurrency=1)
        assert not intruded, "a partition was free to be taken while its rows were being published"
        assert (len(broker.arrived), broker.doubled) == (6, 0)

    @law
    async def test_a_relay_that_was_overtaken_stops_loudly(self, store: Any) -> None:
        """A relay that finds an heir in its place publishes no more, and ends by `FencedError`; the heir publishes what is left."""
        for key in self.housemates(store, 3):
            await self.added(store, event(key, 0), event(key, 1))
        broker, heirs = Broker(), dict[int, Any]()

        async def overtake(row: OutboxRow) -> None:
            if not heirs:
                await self.passes(store, LEASE * 2)
                heirs.update(await self.owned(store, "relay-2"))
                assert row.part in heirs, "a lease that had run out was not given to an heir"

        try:
            await self.relayed(store, broker.send, before=overtake)
        except FencedError:
            assert len(broker.arrived) <= 3, f"a relay went on for {len(broker.arrived)} rows after it was overtaken"
            await self.published(store, heirs)
            return
        raise AssertionError("a relay that was overtaken did not say so")

    @law
    async def test_a_batch_that_may_outlast_its_lease_is_refused(self, store: Any) -> None:
        """Numbers by which a batch may take longer than its lease are refused when the relay is made."""
        try:
            self.make_relay(store, Broker().send, batch=100, publish_timeout=1.0, lease=30.0)
        except ConfigurationError:
            return
        raise AssertionError("batch * publish_timeout > lease was taken: a lease that runs out under its batch publishes twice")
