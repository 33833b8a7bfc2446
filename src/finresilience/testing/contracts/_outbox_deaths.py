"""The laws of dying relays: the row that kills them is found and buried, and nobody is buried in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finresilience.durable.outbox import Exhausted, LeaseTerms, Reason
from finresilience.testing.contracts._base import ask, law
from finresilience.testing.contracts._outbox_base import FAILURE, LEASE, TERMS, OutboxLaws, event, numbers

if TYPE_CHECKING:
    from finresilience.durable.messages import OutboxRow
    from finresilience.durable.outbox import PartitionLease


class DeathLaws(OutboxLaws):
    """What becomes of rows whose relay dies with them in hand."""

    async def lived(self, store: Any, mine: dict[int, PartitionLease], poison: str) -> tuple[list[OutboxRow], bool]:
        """Publish as a relay does that dies of one key: return what it published, and whether it died."""
        told: list[OutboxRow] = []
        for lease in mine.values():
            while rows := (await self.in_hand(store, lease, limit=TERMS.window)).rows:
                for row in rows:
                    if row.message.key == poison:
                        return told, True
                    told.append(row)
                    assert await ask(store.settle(lease, [row.seq])) == 1
        return told, False

    @law
    async def test_after_a_death_suspects_come_one_at_a_time(self, store: Any) -> None:
        """What a dead relay may have had in hand comes alone, and says so; what is newer comes in batches once that is answered."""
        keys = self.housemates(store, 6)
        await self.added(store, *[event(key, n) for n, key in enumerate(keys[:3])])
        mine = self.home(store, await self.owned_all(store), "acc_1")
        assert not (await self.batch(store, mine)).suspect
        heir = self.home(store, await self.after_death(store), "acc_1")
        await self.added(store, *[event(key, n) for n, key in enumerate(keys[3:])])
        for n in range(3):
            batch = await self.batch(store, heir)
            assert batch.suspect, "a row that a relay may have died of was handed out as any other"
            assert numbers(batch.rows) == [(keys[n], n)], f"a suspect did not come alone and in its place: {numbers(batch.rows)}"
            assert batch.rows[0].takeovers == 1
            await ask(store.settle(heir, [batch.rows[0].seq]))
        batch = await self.batch(store, heir)
        assert not batch.suspect, "a row that no relay can have died of is suspected"
        assert len(batch.rows) == 3

    @law
    async def test_a_row_that_kills_its_relays_is_buried(self, store: Any) -> None:
        """A row that kills every relay that touches it is handed out 1 + `max_takeovers` times, then buried; all others are published."""
        keys = self.housemates(store, 5)
        poison = keys[1]
        ids = await self.added(store, *[event(key, n) for n, key in enumerate(keys)])
        told: list[OutboxRow] = []
        mine, deaths = await self.owned_all(store), 0
        for _ in range(10 * TERMS.max_takeovers):
            lived, died = await self.lived(store, mine, poison)
            told += lived
            if died:
                deaths += 1
                mine = await self.after_death(store)
            else:  # the killer waits, so that all others go first
                await self.passes(store, LEASE - 1)
                mine = {part: await ask(store.renew(lease)) for part, lease in mine.items()}
        assert deaths == 1 + TERMS.max_takeovers, f"a row that kills its relays killed {deaths} of them"
        assert sorted(row.message.key for row in told) == sorted(key for key in keys if key != poison), (
            "a neighbour of a poison was lost or doubled"
        )
        letter = await self.the_letter(store)
        assert (letter.row.id, letter.reason, letter.parks) == (ids[1], Reason.CRASHED, True)
        assert letter.row.message.json() == {"n": 1}

    @law
    async def test_a_known_suspect_lets_all_others_go_first(self, store: Any) -> None:
        """The row that a relay died of, alone in its hands, waits one lease: its neighbours need not wait for its next victim."""
        poison, *others = self.housemates(store, 4)
        await self.added(store, event(poison, 0), *[event(key, n) for n, key in enumerate(others)])
        heir = await self.owned_all(store)
        await self.batch(store, self.home(store, heir, "acc_1"))
        for _ in range(2):  # the second death is of this row alone
            heir = await self.after_death(store)
            batch = await self.in_hand(store, self.home(store, heir, "acc_1"))
            if batch.rows[0].message.key != poison:
                break
        assert sorted(n for _, n in numbers(await self.published(store, heir))) == [0, 1, 2], "neighbours of a poison waited for it"

    @law
    async def test_a_death_with_nothing_in_hand_blames_nobody(self, store: Any) -> None:
        """Of a relay that died before it had fetched anything, no row is suspected, however often it happens."""
        await self.added(store, event("acc_1", 1))
        heir = await self.owned_all(store)
        for _ in range(TERMS.max_takeovers + 2):
            heir = await self.after_death(store)
        batch = await self.batch(store, self.home(store, heir, "acc_1"))
        assert (batch.suspect, batch.rows[0].takeovers) == (False, 0), "a row is suspected that was in nobody's hands"

    @law
    async def test_deaths_of_many_bury_no_bystander(self, store: Any) -> None:
        """Rows that were merely near, in batch after batch of dying relays, are suspected once and never buried."""
        keys = self.housemates(store, 4)
        await self.added(store, *[event(key, n) for n, key in enumerate(keys)])
        mine = await self.owned_all(store)
        await self.batch(store, self.home(store, mine, "acc_1"))
        for _ in range(TERMS.max_takeovers + 2):  # relays that die before they look
            mine = await self.after_death(store)
        assert await ask(store.dead_letters()) == [], "a bystander was buried"
        rows = await self.published(store, mine)
        assert [row.takeovers for row in rows] == [1, 1, 1, 1], "bystanders were blamed for more than one death"

    @law
    async def test_a_relay_that_goes_in_order_blames_nobody(self, store: Any) -> None:
        """Of rows in the hands of a relay that gave its partitions back, none is suspected."""
        await self.added(store, event("acc_1", 1))
        mine = await self.owned_all(store)
        await self.batch(store, self.home(store, mine, "acc_1"))
        heir = await self.after_death(store)
        await self.in_hand(store, self.home(store, heir, "acc_1"))  # a suspect
        for lease in heir.values():
            await ask(store.release(lease))
        mine = await self.owned_all(store, "relay-9")
        await self.passes(store, LEASE + 1)
        heir = await self.owned_all(store, "relay-10")
        row = (await self.batch(store, self.home(store, heir, "acc_1"))).rows[0]
        assert row.takeovers == 1, "a relay that gave its partitions back was taken for a dead one"

    @law
    async def test_a_suspect_that_was_not_delivered_is_not_blamed(self, store: Any) -> None:
        """A suspect that its relay had fetched, and not begun to deliver, is not blamed for another row's deed."""
        await self.added(store, event("acc_1", 1))
        await self.batch(store, self.home(store, await self.owned_all(store), "acc_1"))
        for _ in range(TERMS.max_takeovers + 2):
            heir = await self.after_death(store)
            batch = await self.batch(store, self.home(store, heir, "acc_1"))
            assert batch.rows, "a row that was never delivered was buried"
            assert batch.rows[0].takeovers == 1, "a row was blamed that was not delivered"

    @law
    async def test_an_answered_suspect_is_cleared(self, store: Any) -> None:
        """A suspect that was answered, if only by a failure, has not killed its relay: it is as good as any other again."""
        await self.added(store, event("acc_1", 1))
        await self.batch(store, self.home(store, await self.owned_all(store), "acc_1"))
        heir = self.home(store, await self.after_death(store), "acc_1")
        suspect = await self.batch(store, heir)
        await ask(store.retry(heir, suspect.rows[0].seq, after=0.0, failure=FAILURE))
        again = await self.batch(store, heir)
        assert (suspect.suspect, again.suspect) == (True, False), "a row that did not kill its relay is suspected still"
        assert numbers(again.rows) == [("acc_1", 1)]

    @law
    async def test_the_terms_say_when_and_how_a_killer_is_buried(self, store: Any) -> None:
        """With other terms a killer is buried sooner, and its key goes on where rows are skipped."""
        terms = LeaseTerms(lease=LEASE, window=10, max_takeovers=1, exhausted=Exhausted.SKIP_TO_DLQ)
        await self.added(store, event("acc_1", 1), event("acc_1", 2))
        for owner in ("relay-1", "relay-2"):
            mine = await self.owned_all(store, owner, terms)
            assert (await self.in_hand(store, self.home(store, mine, "acc_1"))).rows[0].message.json() == {"n": 1}
            await self.passes(store, LEASE + 1)
        mine = await self.owned_all(store, "relay-3", terms)
        letter = await self.the_letter(store)
        assert (letter.reason, letter.parks) == (Reason.CRASHED, False)
        assert numbers(await self.published(store, mine)) == [("acc_1", 2)], "a key was parked that should go on"
