"""Where do outboxes go wrong that keep the plain laws? What counts from when, whose row it is, and how far one looks."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from finresilience.durable.outbox import DuplicateMessageError
from finresilience.testing.contracts._base import ask, law
from finresilience.testing.contracts._outbox_base import FAILURE, LEASE, OutboxLaws, event, numbers

MANY: Final = 120  # rows behind one that waits: more than a batch


class EdgeLaws(OutboxLaws):
    """Laws of ages, of partitions, of ids and of long queues."""

    @law
    async def test_cleanup_counts_from_the_publishing(self, store: Any) -> None:
        """What is published is kept for so long from then on, however long it waited before: a replay still finds it."""
        await self.added(store, event("acc_1", 1))
        await self.passes(store, 1000.0)
        await self.published(store, await self.owned_all(store))
        if not await self.keeps(store):  # it forgets a row as soon as it is published
            return
        await self.passes(store, 10.0)
        assert await ask(store.purge(older_than=500.0)) == 0, "a cleanup forgot a row by when it was added"

    @law
    async def test_a_lease_settles_rows_of_its_own_partition_only(self, store: Any) -> None:
        """Who owns one partition can neither settle, put off nor bury a row of another."""
        await self.added(store, event("acc_1", 1))
        mine = await self.owned_all(store)
        home = self.home(store, mine, "acc_1")
        row = (await self.batch(store, home)).rows[0]
        for other in mine.values():
            if other.part != home.part:
                assert await ask(store.settle(other, [row.seq])) == 0, "a row was settled by the owner of another partition"
                await ask(store.retry(other, row.seq, after=60.0, failure=FAILURE))
                await self.buried(store, other, row.seq)
        assert not await ask(store.dead_letters()), "a row was buried by the owner of another partition"
        assert numbers((await self.batch(store, home)).rows) == [("acc_1", 1)], "a row was changed by the owner of another partition"

    @law
    async def test_an_id_is_taken_for_as_long_as_it_is_kept(self, store: Any) -> None:
        """An id that was published is still taken, as long as the outbox knows of it: consumers would drop the second event as seen."""
        told = event("acc_1", 1).with_id(UUID(int=7))
        await self.added(store, told)
        await self.published(store, await self.owned_all(store))
        if not await self.keeps(store):
            return
        try:
            await self.added(store, told)
        except DuplicateMessageError:
            return
        raise AssertionError("an id was taken for a second row while the first, published, is still kept")

    @law
    async def test_a_long_queue_behind_one_that_waits_holds_back_no_other(self, store: Any) -> None:
        """However many rows wait behind one that is put off, the rows of other keys behind them are handed out."""
        waits, goes = self.housemates(store, 2)
        await self.added(store, *[event(waits, n) for n in range(MANY)], event(goes, 1))
        home = self.home(store, await self.owned_all(store), "acc_1")
        await ask(store.retry(home, (await self.batch(store, home, 1)).rows[0].seq, after=5.0, failure=FAILURE))
        told = numbers((await self.batch(store, home)).rows)
        assert told == [(goes, 1)], f"behind {MANY} rows that wait, another key's row was not found: {told}"

    @law
    async def test_one_tenants_wait_holds_back_no_other(self, store: Any) -> None:
        """A row that waits holds back its key of its own tenant: the same key of another tenant, in the same partition, goes on."""
        tenant = self.neighbour(store, "acc_1")
        await self.added(store, event("acc_1", 1), event("acc_1", 2, tenant=tenant))
        home = self.home(store, await self.owned_all(store), "acc_1")
        await ask(store.retry(home, (await self.batch(store, home)).rows[0].seq, after=LEASE / 2, failure=FAILURE))
        assert numbers((await self.batch(store, home)).rows) == [("acc_1", 2)], "one tenant's row held back another's"

    @law
    async def test_a_clock_that_steps_back_turns_no_order_round(self, store: Any) -> None:
        """The order of a key is that of its commits, whatever the wall clock says meanwhile."""
        await self.added(store, event("acc_1", 1))
        self.clock.step_utc(-3600.0)
        await self.added(store, event("acc_1", 2))
        rows = await self.published(store, await self.owned_all(store))
        assert numbers(rows) == [("acc_1", 1), ("acc_1", 2)], "a step of the wall clock turned the order of a key round"

    @law
    async def test_what_was_settled_before_hinders_nothing(self, store: Any) -> None:
        """Who settles rows of which one is settled already, since an answer was lost, has settled the others."""
        await self.added(store, event("acc_1", 1), event("acc_1", 2))
        home = self.home(store, await self.owned_all(store), "acc_1")
        first, second = (row.seq for row in (await self.batch(store, home)).rows)
        await ask(store.settle(home, [first]))
        assert await ask(store.settle(home, [first, second])) == 1, "a row that was settled before kept another from being settled"
        assert (await self.batch(store, home)).rows == ()
