"""The laws of dead letters: they are listed as they died, and each holds what is its own for as long as it is kept."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from finresilience.durable.outbox import DuplicateMessageError, Exhausted
from finresilience.testing.contracts._base import ask, law
from finresilience.testing.contracts._outbox_base import LEASE, OutboxLaws, event, numbers


class LetterLaws(OutboxLaws):
    """What people see of the dead, and what the dead keep."""

    @law
    async def test_letters_come_in_the_order_of_their_burials(self, store: Any) -> None:
        """The letters that were buried first come first, as many as were asked for, and each tells when it was buried."""
        await self.added(store, *[event(key, n) for n, key in enumerate(self.housemates(store, 3))])
        home = self.home(store, await self.owned_all(store), "acc_1")
        rows = (await self.batch(store, home)).rows
        for n in (2, 0, 1):
            await self.passes(store, LEASE / 5)
            await self.buried(store, home, rows[n].seq)
        letters = await ask(store.dead_letters())
        told = [letter.row.message.json()["n"] for letter in letters]
        assert told == [2, 0, 1], f"letters that were buried in the order 2, 0, 1 were listed as {told}"
        assert len(await ask(store.dead_letters(limit=2))) == 2, "dead_letters(limit=2) listed more"
        lived = [(letter.died_at - letter.row.created_at).total_seconds() for letter in letters]
        expected = [LEASE / 5 * (n + 1) for n in range(3)]
        assert all(0 <= told - due <= 1 + self.tolerance for told, due in zip(lived, expected, strict=True)), (
            f"rows that were buried {expected} s after they were added tell {lived} s"
        )

    @law
    async def test_a_key_is_parked_for_as_long_as_one_letter_parks_it(self, store: Any) -> None:
        """A key of several letters waits while one of them parks it, whichever was buried last, and is one parked key."""
        made = await self.added(store, *[event("acc_1", n) for n in range(4)])
        home = self.home(store, await self.owned_all(store), "acc_1")
        rows = (await self.batch(store, home)).rows
        for row, exhausted in zip(rows, (Exhausted.PARK_KEY, Exhausted.SKIP_TO_DLQ, Exhausted.PARK_KEY), strict=False):
            await self.buried(store, home, row.seq, exhausted)
        told = await ask(store.statistics())
        assert (told.dead, told.parked_keys) == (3, 1), f"of three letters of one key, {told.parked_keys} parked keys were told"
        await ask(store.discard(made[2]))
        assert (await self.batch(store, home)).rows == (), "a key went on though a letter of it still parks it"
        await ask(store.discard(made[0]))
        assert numbers((await self.batch(store, home)).rows) == [("acc_1", 3)], "a key that nothing parks did not go on"

    @law
    async def test_a_letter_keeps_its_id(self, store: Any) -> None:
        """An id is taken while its row is a dead letter: revived, it would be two events with one id."""
        told = event("acc_1", 1).with_id(UUID(int=7))
        await self.added(store, told)
        home = self.home(store, await self.owned_all(store), "acc_1")
        await self.buried(store, home, (await self.batch(store, home)).rows[0].seq)
        try:
            await self.added(store, told)
        except DuplicateMessageError:
            assert len(await ask(store.dead_letters())) == 1
            return
        raise AssertionError("the id of a dead letter was taken for another row")
