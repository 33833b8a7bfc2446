"""The laws of owning partitions: one owner at a time, an epoch for each, and no deed with an old one."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from finresilience.durable.outbox import Exhausted, FencedError, LeaseTerms, Reason
from finresilience.testing.contracts._base import ask, law, race
from finresilience.testing.contracts._outbox_base import FAILURE, LEASE, TERMS, OutboxLaws, event, numbers

if TYPE_CHECKING:
    from finresilience.durable.outbox import PartitionLease
    from finresilience.testing.contracts._runs import Caller


class LeaseLaws(OutboxLaws):
    """Who owns what, and for how long."""

    @law
    async def test_a_partition_has_one_owner(self, store: Any) -> None:
        """As long as a lease runs, nobody else gets its partition, and neither does its owner a second time."""
        mine = await self.owned_all(store)
        assert await self.owned(store, "relay-2") == {}, "a partition was given to a second owner while the lease of the first ran"
        assert await self.owned(store, "relay-1") == {}, "a partition was given to its owner again"
        await self.passes(store, LEASE - 1)
        assert await self.owned(store, "relay-2") == {}, "a partition was given away before its lease ran out"
        for lease in mine.values():
            await ask(store.renew(lease))

    @race
    async def test_of_many_relays_one_gets_each_partition(self, store: Any) -> tuple[list[Caller], Caller]:
        """However many relays claim at once, each partition goes to one of them."""
        got: list[PartitionLease] = []

        async def relay(owner: str) -> None:
            got.extend((await self.owned(store, owner)).values())

        async def check() -> None:
            parts = [lease.part for lease in got]
            assert len(parts) == len(set(parts)), "a partition was given to two relays at once"

        return [lambda: relay("relay-1"), lambda: relay("relay-2"), lambda: relay("relay-3")], check

    @law
    async def test_each_owner_has_a_higher_epoch(self, store: Any) -> None:
        """The epoch of a partition grows with each owner, given back or taken over."""
        first = await self.owned_all(store)
        for lease in first.values():
            await ask(store.release(lease))
        second = await self.owned_all(store, "relay-2")
        third = await self.after_death(store)
        for part, lease in first.items():
            assert lease.epoch < second[part].epoch < third[part].epoch, f"the epoch of partition {part} did not grow with its owner"

    @law
    async def test_no_more_is_given_than_was_asked_for(self, store: Any) -> None:
        """A claim gives at most as many partitions as it asks for, and none where it asks for none."""
        claimed = await ask(store.claim("relay-1", at_most=0, terms=TERMS))
        assert claimed.leases == (), "a claim of nothing was given something"
        claimed = await ask(store.claim("relay-1", at_most=1, terms=TERMS))
        assert len(claimed.leases) == 1, f"a claim of one partition was given {len(claimed.leases)}"

    @law
    async def test_a_lease_that_is_renewed_goes_on(self, store: Any) -> None:
        """An owner that renews in time keeps its partitions for as long as it likes."""
        mine = await self.owned_all(store)
        for _ in range(3):
            await self.passes(store, LEASE - 1)
            for lease in mine.values():
                await ask(store.renew(lease))
        assert await self.owned(store, "relay-2") == {}, "a lease that was renewed ran out all the same"

    @law
    async def test_what_a_dead_relay_held_goes_to_another(self, store: Any) -> None:
        """Once its lease has run out, a partition goes to whoever claims it, as taken over; its rows come back."""
        await self.added(store, event("acc_1", 1), event("acc_2", 2))
        mine = await self.owned_all(store)
        for lease in mine.values():
            await self.batch(store, lease)
        heir = await self.after_death(store)
        assert all(lease.unclean for lease in heir.values()), "a partition whose owner had died was given away as if it had been given back"
        assert sorted(numbers(await self.published(store, heir))) == [("acc_1", 1), ("acc_2", 2)], "rows that a dead relay held are lost"

    @law
    async def test_a_partition_given_back_is_free_at_once(self, store: Any) -> None:
        """A partition that was given back is free at once, and nobody takes it for a dead relay's."""
        mine = await self.owned_all(store)
        for lease in mine.values():
            await ask(store.release(lease))
        assert not any(lease.unclean for lease in (await self.owned_all(store, "relay-2")).values()), (
            "a partition given back was called taken over"
        )

    @law
    async def test_relays_share_the_partitions(self, store: Any) -> None:
        """Whoever claims is told how many partitions each living relay may have, and gets no more."""
        mine = await self.owned_all(store)
        await self.owned(store, "relay-2")
        share = (await ask(store.claim("relay-1", at_most=0, terms=TERMS))).share
        assert share == -(-store.partitions // 2), f"each of two relays may have {share} of {store.partitions} partitions"
        for lease in list(mine.values())[share:]:
            await ask(store.release(lease))
        theirs = await self.owned(store, "relay-2")
        assert len(theirs) == store.partitions - share, "what one relay gave up for another, the other did not get"
        for lease in [*list(mine.values())[:share], *theirs.values()]:
            await ask(store.release(lease))
        assert len(await self.owned(store, "relay-3")) == store.partitions, "relays that have gone are still left a share"

    @law
    async def test_a_stale_epoch_is_refused_loudly(self, store: Any) -> None:
        """Whoever comes with the epoch of an owner before is refused by `FencedError`, whatever it does, and nothing is changed."""
        await self.added(store, event("acc_1", 1))
        old = self.home(store, await self.owned_all(store), "acc_1")
        seq = (await self.batch(store, old)).rows[0].seq
        heir = await self.after_death(store)
        for doing, deed in self.deeds(store, old, seq).items():
            await self.fenced(deed, doing)
        assert (await ask(store.dead_letters())) == [], "a stale epoch buried a row"
        assert numbers(await self.published(store, heir)) == [("acc_1", 1)], "a stale epoch took a row from its heir"

    @law
    async def test_a_stale_epoch_is_refused_though_the_owner_is_the_same(self, store: Any) -> None:
        """It is the epoch that counts: an owner that lost its lease and claimed again is refused with its old one."""
        await self.added(store, event("acc_1", 1))
        old = self.home(store, await self.owned_all(store), "acc_1")
        await ask(store.release(old))
        new = self.home(store, await self.owned(store), "acc_1")
        seq = (await self.batch(store, new)).rows[0].seq
        for doing, deed in self.deeds(store, old, seq).items():
            await self.fenced(deed, doing)
        assert await ask(store.settle(new, [seq])) == 1

    @law
    async def test_a_lease_given_back_is_over(self, store: Any) -> None:
        """Who has given a partition back can do nothing with it any more, though nobody else has claimed it."""
        await self.added(store, event("acc_1", 1))
        mine = self.home(store, await self.owned_all(store), "acc_1")
        seq = (await self.batch(store, mine)).rows[0].seq
        await ask(store.release(mine))
        for doing, deed in self.deeds(store, mine, seq).items():
            await self.fenced(deed, doing)

    @law
    async def test_a_lease_that_has_run_out_hands_out_nothing(self, store: Any) -> None:
        """Once a lease has run out its owner gets no rows, whether there is an heir or not; if there is none, it may renew."""
        await self.added(store, event("acc_1", 1))
        mine = self.home(store, await self.owned_all(store), "acc_1")
        await self.passes(store, LEASE + 1)
        await self.fenced(lambda: store.fetch(mine, limit=1), "fetch()")
        again = await ask(store.renew(mine))
        assert numbers((await self.batch(store, again)).rows) == [("acc_1", 1)]

    @law
    async def test_what_was_published_late_is_settled_if_there_is_no_heir(self, store: Any) -> None:
        """A settlement that comes after the lease ran out counts as long as nobody took over, so that nothing is published twice for it."""
        await self.added(store, event("acc_1", 1))
        mine = self.home(store, await self.owned_all(store), "acc_1")
        seq = (await self.batch(store, mine)).rows[0].seq
        await self.passes(store, LEASE + 1)
        assert await ask(store.settle(mine, [seq])) == 1, "a settlement with the epoch that holds did not count"
        assert await self.published(store, await self.owned_all(store, "relay-2")) == []

    @race
    async def test_a_settlement_and_a_takeover_never_both_win(self, store: Any) -> tuple[list[Caller], Caller]:
        """Of an old owner that settles and an heir that takes over, one is first: the row is settled by the one or left to the other."""
        await self.added(store, event("acc_1", 1))
        old = self.home(store, await self.owned_all(store), "acc_1")
        seq = (await self.batch(store, old)).rows[0].seq
        await self.passes(store, LEASE + 1)
        settled: list[int] = []
        seen: list[tuple[str, int]] = []

        async def settles() -> None:
            with suppress(FencedError):
                settled.append(await ask(store.settle(old, [seq])))

        async def takes_over() -> None:
            heir = await self.owned_all(store, "relay-2")
            seen.extend(numbers(await self.published(store, heir)))

        async def check() -> None:
            assert len(seen) + sum(settled) == 1, f"settled {settled}, and handed to the heir: {seen}"

        return [settles, takes_over], check

    @law
    async def test_terms_that_cannot_work_are_refused(self, store: Any) -> None:
        """A lease of nothing, a batch of nothing, a wait that is none: refused before anything is changed."""
        await self.added(store, event("acc_1", 1))
        mine = self.home(store, await self.owned_all(store), "acc_1")
        bad: tuple[Any, ...] = (
            lambda: LeaseTerms(lease=0.0),
            lambda: LeaseTerms(lease=float("nan")),
            lambda: store.claim("", at_most=1, terms=TERMS),
            lambda: store.claim("relay-2", at_most=-1, terms=TERMS),
            lambda: store.fetch(mine, limit=0),
            lambda: store.retry(mine, 1, after=-1.0, failure=FAILURE),
            lambda: store.retry(mine, 1, after=float("nan"), failure=FAILURE),
            lambda: store.bury(mine, 1, reason="no", failure=FAILURE, exhausted=Exhausted.PARK_KEY),
            lambda: store.bury(mine, 1, reason=Reason.REFUSED, failure=None, exhausted=Exhausted.PARK_KEY),
            lambda: store.purge(older_than=-1.0),
        )
        for number, deed in enumerate(bad):
            try:
                await ask(deed())
            except ValueError:
                continue
            raise AssertionError(f"argument {number} that cannot work was taken")
