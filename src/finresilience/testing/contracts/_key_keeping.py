"""What is kept of a key, for how long, and who may see what is not committed?"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from finresilience.durable.errors import StoreBusyError
from finresilience.durable.records import MAX_REASON, MAX_TEXT, InProgress, KeyState, Mismatch, Replay
from finresilience.testing.contracts._base import ask, law, race
from finresilience.testing.contracts._keys import LEASE, Keys, is_a

if TYPE_CHECKING:
    from finresilience.testing.contracts._runs import Caller


class KeepingLaws(Keys):
    """Laws of long words, of retention, and of what people are shown."""

    @law
    async def test_the_longest_words_are_kept_whole(self, store: Any) -> None:
        """Every word is kept to its last character, as long as it may be: a fingerprint that is cut is that of another request too."""
        told, other = "\u00e4" * (MAX_TEXT - 1) + "1", "\u00e4" * (MAX_TEXT - 1) + "2"
        reason, evidence = "\u00e4" * (MAX_REASON - 1) + "3", "\u00e4" * (MAX_REASON - 1) + "4"
        mine = await self.claimed(store, fingerprint=told, owner=told)
        is_a(Mismatch, await self.claim(store, fingerprint=other), "with a fingerprint that differs in its last character")
        await ask(store.advance(mine.token, told, data=b"at acme"))
        await ask(store.mark_indeterminate(mine.token, reason=reason))
        await ask(store.resolve(await self.find(store), KeyState.COMPLETED, b"", status=told, evidence=evidence))
        record = await self.find(store)
        assert record is not None
        words = (record.fingerprint, record.owner, record.recovery_point, record.status, record.reason, record.evidence)
        assert words == (told, told, told, told, reason, evidence), "a word was cut, or changed"
        for deed in ("complete", "fail"):
            await ask(getattr(store, deed)((await self.claimed(store, key=deed)).token, b"", status=told))
            replayed = is_a(Replay, await self.claim(store, key=deed)).record.status
            assert replayed == told, f"the status of what was ended by {deed}() was cut, or changed"
        assert record.data == b"at acme", "with the resolution, what the recovery point said is gone"

    @law
    async def test_to_be_asked_again_keeps_nothing_longer(self, store: Any) -> None:
        """An answer is forgotten so long after it was given, to the moment: who asks for it, or gives it again, does not prolong that."""
        mine = await self.claimed(store)
        await ask(store.complete(mine.token, b"paid"))
        await self.passes(store, LEASE)
        is_a(Replay, await self.claim(store))
        await ask(store.complete(mine.token, b"paid"))
        assert await ask(store.purge(older_than=LEASE + 1 + self.tolerance)) == 0, "a purge forgot what is not old enough"
        await self.passes(store, self.tolerance)
        assert await ask(store.purge(older_than=LEASE)) == 1, "a purge kept what was finished exactly that long ago"

    @law
    async def test_a_lease_that_is_renewed_for_less_ends_sooner(self, store: Any) -> None:
        """A renewal counts from now: a holder that needs a moment more only says so, and an heir need not wait for the rest."""
        mine = await self.claimed(store)
        await ask(store.renew(mine.token, lease=LEASE / 10))
        told = is_a(InProgress, await self.claim(store), "within a renewed lease")
        assert told.retry_after <= LEASE / 10, f"a lease was renewed for {LEASE / 10:g} s, and runs for {told.retry_after:g} s"
        await self.passes(store, LEASE / 10 + self.tolerance)
        assert (await self.claimed(store)).takeover, "a lease that was renewed for less lasted longer"

    @race(needs="transactions")
    async def test_what_is_not_committed_is_neither_purged_nor_listed(self, store: Any) -> tuple[list[Caller], Caller]:
        """An end that may yet be rolled back is none to a purge, and a doubt that may yet be rolled back is not shown to people."""
        paid = (await self.claimed(store, key="paid")).token
        lost = (await self.claimed(store, key="lost")).token

        async def undecided() -> None:
            with suppress(StoreBusyError):
                async with self.taken_back(store) as mine:
                    await ask(store.complete(paid, b"paid", within=mine))
                    await ask(store.mark_indeterminate(lost, reason="timeout", within=mine))
                    for _ in range(3):
                        await self.find(store, key="paid", within=mine)

        async def purger() -> None:
            for _ in range(3):
                with suppress(StoreBusyError):
                    assert await ask(store.purge(older_than=0)) == 0, "a purge forgot an answer that was rolled back"

        async def reader() -> None:
            for _ in range(3):
                told = await ask(store.unsettled())
                assert not told, f"unsettled() listed {len(told)} keys whose doubt was rolled back"

        async def check() -> None:
            for key in ("paid", "lost"):
                is_a(InProgress, await self.claim(store, key=key), "after all was rolled back")

        return [undecided, purger, reader], check
