"""The laws of telling again and of forgetting: spans begin and end where they say, and what is told again is as it was."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from finresilience.testing.contracts._base import ask, law
from finresilience.testing.contracts._outbox_base import AFTER, BEFORE, FAILURE, OutboxLaws, event, numbers


class ReplayLaws(OutboxLaws):
    """What a replay and a cleanup find."""

    @law
    async def test_a_span_holds_its_first_moment_and_not_its_last(self, store: Any) -> None:
        """What was published at `since`, or later, is told again; what was published at `until`, or later, is not."""
        mine = await self.owned_all(store)
        await self.added(store, event("acc_1", 1))
        [row] = await self.published(store, mine)
        if not await self.keeps(store):
            return
        moment = row.created_at  # on a clock that stands still, it was published then; on any other, a little later
        hour = timedelta(hours=1)
        assert await ask(store.replay(since=moment - hour, until=moment)) == 0, "what was published at the end of a span was told again"
        assert await ask(store.replay(since=moment, until=moment + hour)) == 1, "what was published as a span began was not told again"

    @law
    async def test_a_span_without_a_time_zone_is_refused(self, store: Any) -> None:
        """A span of naive datetimes means another hour on each machine: it is refused, and nothing is told again."""
        mine = await self.owned_all(store)
        await self.added(store, event("acc_1", 1))
        await self.published(store, mine)
        for since, until in ((datetime(2000, 1, 1), AFTER), (BEFORE, datetime(2200, 1, 1))):  # noqa: DTZ001 - naive is the point
            try:
                await ask(store.replay(since=since, until=until))
            except ValueError:
                continue
            raise AssertionError("a replay took a datetime without a time zone")
        assert await self.published(store, mine) == []

    @law
    async def test_what_is_told_again_is_as_it_was_added(self, store: Any) -> None:
        """A row that is told again has its old place, before what its key has meanwhile, and no attempt, death or suspicion on it."""
        [made] = await self.added(store, event("acc_1", 1))
        home = self.home(store, await self.owned_all(store), "acc_1")
        await ask(store.retry(home, (await self.batch(store, home)).rows[0].seq, after=0.0, failure=FAILURE))
        await self.batch(store, home)
        heir = self.home(store, await self.after_death(store), "acc_1")
        suspect = (await self.in_hand(store, heir)).rows[0]
        assert (suspect.attempts, suspect.takeovers) == (1, 1)
        await ask(store.settle(heir, [suspect.seq]))
        await self.added(store, event("acc_1", 2))
        if not await self.keeps(store):
            return
        assert await ask(store.replay(since=BEFORE, until=AFTER)) == 1
        batch = await self.batch(store, heir)
        assert numbers(batch.rows) == [("acc_1", 1), ("acc_1", 2)], f"what was told again came as {numbers(batch.rows)}"
        again = batch.rows[0]
        assert (again.id, again.seq) == (made, suspect.seq), "what was told again has another id or place: consumers take it for new"
        assert (again.attempts, again.takeovers, batch.suspect) == (0, 0, False), "what was told again is blamed for what was before"

    @law
    async def test_cleanup_spares_what_is_as_old_and_takes_what_is_older(self, store: Any) -> None:
        """What was published exactly so long ago is kept, what was published longer ago is forgotten, and then its id is free."""
        told = event("acc_1", 1).with_id(UUID(int=7))
        mine = await self.owned_all(store)
        await self.added(store, told)
        await self.published(store, mine)
        if not await self.keeps(store):
            return
        await self.passes(store, 100.0 - self.tolerance)
        assert await ask(store.purge(older_than=100.0)) == 0, "a cleanup of what is older than 100 s forgot what is not"
        await self.passes(store, 1.0 + self.tolerance)
        assert await ask(store.purge(older_than=timedelta(seconds=100))) == 1, "a cleanup kept what was published longer ago"
        await self.added(store, told)  # it would raise if the outbox still knew of it
