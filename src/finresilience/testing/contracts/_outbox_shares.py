"""The laws of shares and of terms: who lives is counted, nobody gets more than is due, and a lease lasts as long as was said."""

from __future__ import annotations

from typing import Any

from finresilience.durable.outbox import LeaseTerms
from finresilience.testing.contracts._base import ask, law
from finresilience.testing.contracts._outbox_base import LEASE, TERMS, OutboxLaws


class ShareLaws(OutboxLaws):
    """How many partitions each relay gets, and for how long."""

    async def share(self, store: Any, owner: str) -> int:
        """Return how many partitions this owner may have; it asks for none."""
        share: int = (await ask(store.claim(owner, at_most=0, terms=TERMS))).share
        return share

    @law
    async def test_nobody_gets_more_than_a_fair_share(self, store: Any) -> None:
        """Of two relays that live, the first to ask for all gets its share, and leaves the rest to the other."""
        half = -(-store.partitions // 2)
        for owner in ("relay-1", "relay-2"):
            await self.share(store, owner)
        first = await self.owned(store, "relay-1")
        assert len(first) == half, f"one of two relays got {len(first)} of {store.partitions} partitions that nobody holds"
        assert len(await self.owned(store, "relay-2")) == store.partitions - half, "what one relay left, the other did not get"

    @law
    async def test_a_relay_that_renews_is_counted(self, store: Any) -> None:
        """A relay that renews its leases, and claims nothing, lives: it is left its share, and so is one that gives one of several back."""
        mine = await self.owned_all(store)
        for _ in range(2):
            await self.passes(store, LEASE * 0.6)
            for lease in mine.values():
                await ask(store.renew(lease))
        half = -(-store.partitions // 2)
        assert await self.share(store, "relay-2") == half, "a relay that renews its leases was taken for dead"
        if store.partitions > 1:
            await ask(store.release(next(iter(mine.values()))))
            assert await self.share(store, "relay-2") == half, "a relay that gave back one of its partitions was taken for gone"

    @law
    async def test_a_lease_lasts_as_long_as_its_terms_say(self, store: Any) -> None:
        """A lease is as long as its own terms say, not as those of others, and is renewed for as long again."""
        for owner, length in (("relay-1", LEASE * 4), ("relay-2", LEASE / 3)):
            mine = await self.owned_all(store, owner, LeaseTerms(lease=length, window=10))
            assert {lease.seconds for lease in mine.values()} == {length}, f"leases for {length} s were told otherwise"
            for _ in range(2):
                await self.passes(store, length - 2)
                assert await self.owned(store, "intruder") == {}, f"a lease for {length} s ended before"
                mine = {part: await ask(store.renew(lease)) for part, lease in mine.items()}
            await self.passes(store, length + 1)

    @law
    async def test_who_is_late_may_still_give_back(self, store: Any) -> None:
        """A relay whose lease has run out may give it back as long as nobody took over: then it is no dead relay's."""
        mine = await self.owned_all(store)
        await self.passes(store, LEASE + 1)
        for lease in mine.values():
            await ask(store.release(lease))
        heir = await self.owned_all(store, "relay-2")
        assert not any(lease.unclean for lease in heir.values()), "a partition that was given back late was called taken over"
