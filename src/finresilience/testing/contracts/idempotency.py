"""The laws of idempotency stores: one key, one request, one effect, one answer."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from finresilience.durable.errors import StoreBusyError
from finresilience.durable.records import Claimed, InProgress, KeyState, Replay
from finresilience.testing.contracts._base import ask, law, machine, race
from finresilience.testing.contracts._key_claims import ClaimLaws
from finresilience.testing.contracts._key_edges import EdgeLaws
from finresilience.testing.contracts._key_ends import EndLaws
from finresilience.testing.contracts._key_keeping import KeepingLaws
from finresilience.testing.contracts._key_leases import LeaseLaws
from finresilience.testing.contracts._keys import LEASE, is_a

if TYPE_CHECKING:
    from finresilience.testing.contracts._runs import Caller


class IdempotencyStoreContract(ClaimLaws, EndLaws, LeaseLaws, KeepingLaws, EdgeLaws):
    """The laws of an `IdempotencyStore` or `AsyncIdempotencyStore`.

    class TestMyStore(contracts.IdempotencyStoreContract):
        def make_store(self):
            return MyStore(clock=self.clock)
    """

    # ------------------------------------------------------------ the caller's transaction

    @law(needs="transactions")
    async def test_a_rollback_unclaims(self, store: Any) -> None:
        """What was claimed, finished or released in a transaction that is rolled back never was."""
        async with self.taken_back(store) as mine:
            token = (await self.claimed(store, within=mine)).token
            await ask(store.complete(token, b"paid", within=mine))
            inside = await self.find(store, within=mine)
            assert inside is not None, "a transaction does not see its own claim"
            assert inside.state is KeyState.COMPLETED, "a transaction does not see what it completed"
        assert await self.find(store) is None, "a claim outlived its transaction's rollback"
        anew = await self.claimed(store)
        assert not anew.takeover, "whoever claimed after a rollback was told that it is an heir"
        async with self.taken_back(store) as mine:
            await ask(store.release(anew.token, within=mine))
        is_a(InProgress, await self.claim(store), "after a release that was rolled back")

    @law(needs="transactions")
    async def test_a_rollback_gives_back_what_was_before(self, store: Any) -> None:
        """Completing, failing, advancing or giving up in a transaction that is rolled back leaves the claim as it was."""
        mine = await self.claimed(store)
        deeds: tuple[tuple[Any, ...], ...] = (
            (store.complete, b"paid"),
            (store.fail, b"declined"),
            (store.advance, "sent"),
            (store.mark_indeterminate,),
        )
        for deed, *more in deeds:
            async with self.taken_back(store) as within:
                await ask(deed(mine.token, *more, within=within))
            record = await self.find(store)
            assert record is not None, "a rollback took a claim away that was committed before"
            assert (record.state, record.recovery_point) == (KeyState.IN_PROGRESS, None), "a rollback did not undo what was written"
        await ask(store.complete(mine.token, b"paid"))

    @law(needs="transactions")
    async def test_a_commit_makes_it_true_at_once(self, store: Any) -> None:
        """Claim and answer in one transaction: before the commit nobody sees either, afterwards everybody sees both."""
        async with self.within(store) as mine:
            token = (await self.claimed(store, within=mine)).token
            await ask(store.complete(token, b"paid", status="201", within=mine))
        told = is_a(Replay, await self.claim(store), "after the commit")
        assert (told.record.response, told.record.status) == (b"paid", "201")

    @law(needs="transactions")
    async def test_a_committed_claim_stays(self, store: Any) -> None:
        """A claim that was committed without an answer is in progress until its lease runs out, and then has an heir."""
        async with self.within(store) as mine:
            await self.claimed(store, within=mine)
        is_a(InProgress, await self.claim(store), "after a claim was committed")
        await self.passes(store, LEASE + 1)
        assert (await self.claimed(store)).takeover

    @law(needs="transactions")
    async def test_an_interruption_unclaims(self, store: Any) -> None:
        """A caller that is cancelled or interrupted in its transaction leaves nothing behind, and nobody waiting."""

        async def work(mine: Any) -> None:
            token = (await self.claimed(store, within=mine)).token
            await ask(store.complete(token, b"paid", within=mine))

        for _ in range(2):
            await self.interrupted(store, work)
            assert await self.find(store) is None, "a claim outlived the interruption of its transaction"
        assert not (await self.claimed(store)).takeover

    @race(needs="transactions")
    async def test_who_meets_an_open_transaction_waits_or_is_told(self, store: Any) -> tuple[list[Caller], Caller]:
        """While a transaction holds a claim nobody else is let in: a claimant waits for its end, or is told that it is in progress."""
        effects: list[str] = []

        async def owner(name: str) -> None:
            with suppress(StoreBusyError):
                async with self.within(store) as mine:
                    told = await self.claim(store, within=mine)
                    if isinstance(told, Claimed):
                        await ask(store.complete(told.token, name.encode(), within=mine))
                        effects.append(name)

        async def check() -> None:
            assert len(effects) == 1, f"{len(effects)} transactions committed an effect for one key"
            assert is_a(Replay, await self.claim(store)).record.response == effects[0].encode()

        return [lambda: owner("a"), lambda: owner("b"), lambda: owner("c")], check

    # ------------------------------------------------------------ a model

    @machine
    def test_it_agrees_with_a_model(self) -> None:
        """Whatever is done in whatever order, the store answers as a model of these laws does."""
        from finresilience.testing.contracts._key_machine import drive

        drive(self)
