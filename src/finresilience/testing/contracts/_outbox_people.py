"""The laws of what operators do: retention spares what is not published, a replay tells it all again, and numbers tell the truth."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from finresilience.testing.contracts._base import ask, law
from finresilience.testing.contracts._outbox_base import FAILURE, LEASE, OutboxLaws, event, numbers


class OperatorLaws(OutboxLaws):
    """Cleaning up, telling again, counting."""

    @law
    async def test_cleanup_spares_the_unpublished(self, store: Any) -> None:
        """However old it is, what is not published stays: pending, waiting, parked or dead."""
        waiting, parked, pending = self.housemates(store, 3)
        await self.added(store, event(waiting, 1), event(parked, 2), event(parked, 3), event(pending, 4))
        mine = await self.owned_all(store)
        home = self.home(store, mine, "acc_1")
        rows = (await self.batch(store, home)).rows
        await ask(store.retry(home, rows[0].seq, after=5.0, failure=FAILURE))
        await self.buried(store, home, rows[1].seq)
        await self.passes(store, 10 * 86_400.0)
        assert await ask(store.purge(older_than=1.0)) == 0, "a cleanup forgot what was never published"
        heir = await self.owned_all(store, "relay-2")
        assert sorted(numbers(await self.published(store, heir))) == sorted([(waiting, 1), (pending, 4)]), "a cleanup lost a row"
        letter = await self.the_letter(store)
        assert await ask(store.revive(letter.row.id))
        assert numbers(await self.published(store, heir)) == [(parked, 2), (parked, 3)], "a cleanup lost a parked row"

    @law
    async def test_cleanup_forgets_what_was_published_long_ago(self, store: Any) -> None:
        """Published rows that are old enough are forgotten, at most `limit` at a time, and no younger ones."""
        mine = await self.owned_all(store)
        for n in range(2):
            await self.added(store, *[event("acc_1", n) for _ in range(3)])
            await self.published(store, mine)
            await self.passes(store, 20.0)
            mine = {part: await ask(store.renew(lease)) for part, lease in mine.items()}
        if not await self.keeps(store):  # a store that forgets a row as soon as it is published has nothing to clean up
            return
        kept = (await ask(store.statistics())).published
        assert [await ask(store.purge(older_than=30.0, limit=2)) for _ in range(3)] == [2, 1, 0]
        assert (await ask(store.statistics())).published == kept - 3, "a cleanup forgot a row that is too young"

    @law
    async def test_a_replay_publishes_again_what_was_published_then(self, store: Any) -> None:
        """What was published in a span of time is published again, with its id, in its order; nothing before, nothing after."""
        mine = await self.owned_all(store)
        spans: list[Any] = []
        for n in range(4):
            await self.added(store, event("acc_1", n), event("acc_2", n))
            spans.append(await self.published(store, mine))
            await self.passes(store, 5.0)
        if not await self.keeps(store):
            return
        since = min(row.created_at for row in spans[1]) - timedelta(seconds=1)
        until = since + timedelta(seconds=10)
        assert [await ask(store.replay(since=since, until=until, limit=3)) for _ in range(3)] == [3, 1, 0], (
            "a replay is not bounded, or ends never"
        )
        again = await self.published(store, mine)
        for key in ("acc_1", "acc_2"):
            assert [n for k, n in numbers(again) if k == key] == [1, 2], f"{key} was told again as {numbers(again)}"
        assert {row.id for row in again} == {row.id for row in [*spans[1], *spans[2]]}, (
            "a replay gave other ids: consumers will take them as new"
        )
        assert await ask(store.replay(since=since, until=until)) == 0, "what was told again is told for ever"

    @law
    async def test_statistics_tell_how_things_stand(self, store: Any) -> None:
        """Backlog by partition and tenant, the age of the oldest, attempts, suspects, dead, parked, fenced, takeovers."""
        empty = await ask(store.statistics())
        assert (empty.pending, empty.oldest_age, empty.dead, empty.owned) == (0, 0.0, 0, 0)
        await self.added(store, event("acc_1", 1))
        await self.passes(store, 10.0)
        await self.added(store, event("acc_1", 2), event("acc_2", 3, tenant="acme"), event("acc_2", 4, tenant="acme"))
        mine = await self.owned_all(store)
        home = self.home(store, mine, "acc_1")
        row = (await self.batch(store, home)).rows[0]
        await ask(store.retry(home, row.seq, after=0.0, failure=FAILURE))
        told = await ask(store.statistics())
        assert (told.pending, told.attempts, told.owned) == (4, 1, store.partitions)
        assert (sum(told.by_partition.values()), dict(told.by_tenant)) == (4, {None: 2, "acme": 2})
        assert 9.0 < told.oldest_age < 12.0, f"the oldest row waits for 10 s, and statistics() says {told.oldest_age:g} s"
        await self.buried(store, home, row.seq)
        heir = await self.after_death(store)
        await self.fenced(lambda: store.settle(home, [row.seq]), "settle()")
        told = await ask(store.statistics())
        assert (told.pending, told.dead, told.parked_keys, told.takeovers) == (3, 1, 1, store.partitions)
        assert told.fenced >= 1, "a fenced settlement was not counted"
        await self.published(store, heir)
        assert (await ask(store.statistics())).pending == 1
        await self.passes(store, LEASE + 1)
        assert (await ask(store.statistics())).owned == 0, "statistics() told of owners whose leases have run out"
