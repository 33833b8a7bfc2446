"""The laws of blame: who is suspected of a relay's death, for how long, and what is counted against whom."""

from __future__ import annotations

from typing import Any

from finresilience.durable.outbox import LeaseTerms, Reason
from finresilience.testing.contracts._base import ask, law
from finresilience.testing.contracts._outbox_base import FAILURE, LEASE, OutboxLaws, event, numbers


class BlameLaws(OutboxLaws):
    """Where blame ends."""

    @law
    async def test_what_the_dead_relay_had_in_hand_is_suspected_and_no_more(self, store: Any) -> None:
        """A dead relay had as much in hand as it had said it would, whatever its heir says: that is suspected, and nothing behind it."""
        await self.added(store, *[event(key, n) for n, key in enumerate(self.housemates(store, 8))])
        dead = await self.owned_all(store, "relay-1", LeaseTerms(lease=LEASE, window=5))
        await self.batch(store, self.home(store, dead, "acc_1"), limit=5)
        await self.passes(store, LEASE + 1)
        await self.owned_all(store, "relay-2", LeaseTerms(lease=LEASE, window=2))
        suspects = (await ask(store.statistics())).suspects
        assert suspects == 5, f"of a relay that may have had 5 of 8 rows in hand when it died, {suspects} are suspected"

    @law
    async def test_who_looked_and_found_nothing_had_nothing_in_hand(self, store: Any) -> None:
        """What came after a relay had looked, and before it died, was not in its hands: it is not suspected."""
        home = self.home(store, await self.owned_all(store), "acc_1")
        assert (await self.batch(store, home)).rows == ()
        await self.added(store, event("acc_1", 1))
        batch = await self.batch(store, self.home(store, await self.after_death(store), "acc_1"))
        assert (batch.suspect, batch.rows[0].takeovers) == (False, 0), "a row is suspected that no relay was ever given"

    @law
    async def test_a_suspect_that_was_answered_tells_its_deaths_still(self, store: Any) -> None:
        """To be answered clears a suspect, and takes no death back: whoever publishes it is told how many relays died near it."""
        await self.added(store, event("acc_1", 1))
        await self.batch(store, self.home(store, await self.owned_all(store), "acc_1"))
        heir = self.home(store, await self.after_death(store), "acc_1")
        await ask(store.retry(heir, (await self.batch(store, heir)).rows[0].seq, after=0.0, failure=FAILURE))
        row = (await self.batch(store, heir)).rows[0]
        assert row.takeovers == 1, f"a row in whose company one relay died tells of {row.takeovers}"

    @law
    async def test_a_suspect_that_was_answered_is_not_blamed_for_what_comes_later(self, store: Any) -> None:
        """A suspect that was delivered, and answered, did not kill that relay: if the relay dies later, it is not the culprit."""
        await self.added(store, event("acc_1", 1))
        await self.batch(store, self.home(store, await self.owned_all(store), "acc_1"))
        for _ in range(2):
            heir = self.home(store, await self.after_death(store), "acc_1")
            seq = (await self.in_hand(store, heir)).rows[0].seq
            await ask(store.retry(heir, seq, after=0.0, failure=FAILURE))
        row = (await self.batch(store, self.home(store, await self.after_death(store), "acc_1"))).rows[0]
        assert row.takeovers == 1, "a row was blamed for the death of a relay that had its answer"

    @law
    async def test_a_suspect_is_not_overtaken_by_its_own_key(self, store: Any) -> None:
        """While a suspect waits for its turn, what comes after it in its key waits too."""
        first, second = self.housemates(store, 2)
        await self.added(store, event(first, 1), event(second, 2))
        await self.batch(store, self.home(store, await self.owned_all(store), "acc_1"))
        heir = self.home(store, await self.after_death(store), "acc_1")
        await ask(store.retry(heir, (await self.batch(store, heir)).rows[0].seq, after=0.0, failure=FAILURE))  # it is cleared
        await self.added(store, event(second, 3))
        for expected in ((first, 1), (second, 2), (second, 3)):
            rows = (await self.batch(store, heir)).rows
            assert numbers(rows) == [expected], f"{expected} comes next, and {numbers(rows)} was handed out"
            await ask(store.settle(heir, [rows[0].seq]))

    @law
    async def test_a_killer_that_is_revived_comes_alone(self, store: Any) -> None:
        """A row that was buried as a killer, and revived, comes at once, with no attempt or death on it, and still alone."""
        terms = LeaseTerms(lease=LEASE, window=10, max_takeovers=1)
        [killer, _] = await self.added(store, event("acc_1", 1), event("acc_1", 2))
        for owner in ("relay-1", "relay-2"):
            await self.in_hand(store, self.home(store, await self.owned_all(store, owner, terms), "acc_1"))
            await self.passes(store, LEASE + 1)
        heir = self.home(store, await self.owned_all(store, "relay-3", terms), "acc_1")
        assert (await self.the_letter(store)).reason is Reason.CRASHED
        assert await ask(store.revive(killer))
        batch = await self.batch(store, heir)
        assert numbers(batch.rows) == [("acc_1", 1)], f"a killer was revived, and {numbers(batch.rows)} was handed out"
        assert batch.suspect, "a row that has killed its relays was revived, and is not suspected any more"
        assert (batch.rows[0].attempts, batch.rows[0].takeovers) == (0, 0), "a revived row is buried again for what it did before"
