"""The laws of handing out rows: in order for each key, and whoever must wait holds back nobody else."""

from __future__ import annotations

from typing import Any

from finresilience.durable.outbox import Exhausted, Reason
from finresilience.testing.contracts._base import ask, law
from finresilience.testing.contracts._outbox_base import FAILURE, LEASE, OutboxLaws, event, numbers


class RowLaws(OutboxLaws):
    """What an owner sees of its rows, and what it does to them."""

    @law
    async def test_a_settled_row_is_gone_for_good(self, store: Any) -> None:
        """A row that was settled is never handed out again, and settling it once more settles nothing."""
        await self.added(store, event("acc_1", 1), event("acc_1", 2))
        mine = self.home(store, await self.owned_all(store), "acc_1")
        rows = (await self.batch(store, mine)).rows
        assert await ask(store.settle(mine, [rows[0].seq])) == 1
        assert await ask(store.settle(mine, [rows[0].seq])) == 0, "a row was settled twice"
        assert numbers((await self.batch(store, mine)).rows) == [("acc_1", 2)], "settling one row did not leave exactly the other"
        heir = self.home(store, await self.after_death(store), "acc_1")
        assert numbers((await self.batch(store, heir)).rows) == [("acc_1", 2)]

    @law
    async def test_what_is_not_settled_comes_again(self, store: Any) -> None:
        """A row that was handed out and not settled is handed out again: nothing is taken for published that nobody confirmed."""
        await self.added(store, event("acc_1", 1))
        mine = self.home(store, await self.owned_all(store), "acc_1")
        for _ in range(3):
            assert numbers((await self.batch(store, mine)).rows) == [("acc_1", 1)], "a row that was not settled is gone"
        await ask(store.release(mine))
        assert numbers(await self.published(store, await self.owned(store, "relay-2"))) == [("acc_1", 1)], "a row went with its owner"

    @law
    async def test_a_batch_is_bounded_and_in_order(self, store: Any) -> None:
        """A batch is the first rows in order, as many as were asked for; the rest follow once these are settled."""
        keys = self.housemates(store, 2)
        expected = [(keys[n % 2], n) for n in range(7)]
        await self.added(store, *[event(key, n) for key, n in expected])
        mine = self.home(store, await self.owned_all(store), "acc_1")
        told: list[tuple[str, int]] = []
        for size in (3, 3, 1):
            rows = (await self.batch(store, mine, limit=3)).rows
            assert len(rows) == size, f"a batch of at most 3 held {len(rows)} rows where {size} were left"
            told += numbers(rows)
            await ask(store.settle(mine, [row.seq for row in rows]))
        assert told == expected, "batches are not in the order in which rows were committed"

    @law
    async def test_a_row_that_waits_holds_back_its_own_key_alone(self, store: Any) -> None:
        """A row to be tried later holds back the later rows of its key, and no other key of its partition."""
        ill, well = self.housemates(store, 2)
        await self.added(store, event(ill, 1), event(ill, 2), event(well, 1), event(well, 2))
        mine = self.home(store, await self.owned_all(store), "acc_1")
        seq = (await self.batch(store, mine)).rows[0].seq
        await ask(store.retry(mine, seq, after=LEASE / 2, failure=FAILURE))
        assert numbers((await self.batch(store, mine)).rows) == [(well, 1), (well, 2)], "a row that waits must hold back its own key alone"
        await self.passes(store, LEASE / 2 + 1)
        told = numbers((await self.batch(store, mine)).rows)
        assert told == [(ill, 1), (ill, 2), (well, 1), (well, 2)], "a row that has waited did not come back to its place"

    @law
    async def test_a_failed_attempt_is_counted(self, store: Any) -> None:
        """A row tells how often publishing it failed; a refusal of the relay's own policy is not such a failure."""
        await self.added(store, event("acc_1", 1))
        mine = self.home(store, await self.owned_all(store), "acc_1")
        for attempts, counted in ((0, True), (1, False), (1, True), (2, True)):
            row = (await self.batch(store, mine)).rows[0]
            assert row.attempts == attempts, f"a row tells of {row.attempts} failed attempts, and there were {attempts}"
            await ask(store.retry(mine, row.seq, after=0.0, failure=FAILURE, counted=counted))

    @law
    async def test_keys_of_other_tenants_are_other_keys(self, store: Any) -> None:
        """The same key of two tenants is two keys: the one is not held back by the other."""
        await self.added(store, event("acc_1", 1, tenant="acme"), event("acc_1", 2, tenant="globex"), event("acc_1", 3))
        mine = await self.owned_all(store)
        for lease in mine.values():
            for row in (await self.batch(store, lease)).rows:
                if row.message.tenant == "acme":
                    await self.buried(store, lease, row.seq)
        assert sorted(n for _, n in numbers(await self.published(store, mine))) == [2, 3], "one tenant's key held back another's"

    # ------------------------------------------------------------ dead letters

    @law
    async def test_a_dead_letter_keeps_payload_and_reason(self, store: Any) -> None:
        """A buried row is kept whole, with why it was buried and what went wrong; it is never handed out."""
        [made] = await self.added(store, event("acc_1", payload=b"\x00\xffmoney", tenant=None, headers={"a": "b"}))
        mine = self.home(store, await self.owned_all(store), "acc_1")
        row = (await self.batch(store, mine)).rows[0]
        await ask(store.bury(mine, row.seq, reason=Reason.EXHAUSTED, failure=FAILURE, exhausted=Exhausted.PARK_KEY))
        letter = await self.the_letter(store)
        assert letter.row.message == row.message, "a dead letter is not the message that was buried"
        assert (letter.row.id, letter.row.seq, letter.row.attempts) == (made, row.seq, 1), "a dead letter tells another id, place or count"
        assert (letter.reason, letter.failure, letter.parks) == (Reason.EXHAUSTED, FAILURE, True), "a dead letter does not tell why"
        assert (await self.batch(store, mine)).rows == (), "a buried row was handed out"

    @law
    async def test_a_parked_key_waits_and_no_other(self, store: Any) -> None:
        """Where a row was buried and its key parked, later rows of the key wait, those that come later too, and all other keys go on."""
        ill, well = self.housemates(store, 2)
        await self.added(store, event(ill, 1), event(ill, 2), event(well, 1))
        mine = await self.owned_all(store)
        home = self.home(store, mine, "acc_1")
        await self.buried(store, home, (await self.batch(store, home)).rows[0].seq)
        await self.added(store, event(ill, 3), event(well, 2))
        assert numbers(await self.published(store, mine)) == [(well, 1), (well, 2)], "a parked key must wait, and no other"
        heir = await self.after_death(store)
        assert await self.published(store, heir) == [], "a key was unparked by a takeover"

    @law
    async def test_a_revived_row_comes_back_to_its_place(self, store: Any) -> None:
        """A dead letter that was revived is published before the rows that waited for it, as if it had never failed."""
        [first, _] = await self.added(store, event("acc_1", 1), event("acc_1", 2))
        mine = await self.owned_all(store)
        home = self.home(store, mine, "acc_1")
        row = (await self.batch(store, home)).rows[0]
        await self.buried(store, home, row.seq)
        assert await ask(store.revive(first))
        assert not await ask(store.revive(first)), "a letter was revived twice"
        rows = await self.published(store, mine)
        assert numbers(rows) == [("acc_1", 1), ("acc_1", 2)], "a revived row did not come back to its place"
        assert (rows[0].seq, rows[0].attempts, rows[0].id) == (row.seq, 0, first)
        assert await ask(store.dead_letters()) == []

    @law
    async def test_a_discarded_letter_frees_its_key(self, store: Any) -> None:
        """A dead letter that was discarded is gone, and its key goes on without it; with two of them, after the second."""
        made = await self.added(store, event("acc_1", 1), event("acc_1", 2), event("acc_1", 3))
        mine = await self.owned_all(store)
        home = self.home(store, mine, "acc_1")
        for row in (await self.batch(store, home)).rows[:2]:
            await self.buried(store, home, row.seq)
        assert await ask(store.discard(made[0]))
        assert await self.published(store, mine) == [], "a key went on while a dead letter of it was left"
        assert await ask(store.discard(made[1]))
        assert not await ask(store.discard(made[1])), "a letter was discarded twice"
        assert numbers(await self.published(store, mine)) == [("acc_1", 3)], "a key did not go on after its dead letters were discarded"

    @law
    async def test_a_skipped_row_lets_its_key_go_on(self, store: Any) -> None:
        """Where rows are skipped to the dead letters, the key goes on, and the letter is kept all the same."""
        await self.added(store, event("acc_1", 1), event("acc_1", 2))
        mine = await self.owned_all(store)
        home = self.home(store, mine, "acc_1")
        await self.buried(store, home, (await self.batch(store, home)).rows[0].seq, Exhausted.SKIP_TO_DLQ)
        assert numbers(await self.published(store, mine)) == [("acc_1", 2)], "a key was parked that should go on"
        assert numbers(letter.row for letter in await ask(store.dead_letters())) == [("acc_1", 1)]
