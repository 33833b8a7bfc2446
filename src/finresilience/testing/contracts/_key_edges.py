"""Where do stores go wrong that keep the plain laws? Who comes late at the same moment as an heir, and what counts from when."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from finresilience.durable.errors import FinishedOtherwiseError, StaleRecordError, StaleTokenError, StoreBusyError
from finresilience.durable.records import Claimed, Indeterminate, InProgress, KeyState, Replay
from finresilience.testing.contracts._base import ask, law, race
from finresilience.testing.contracts._keys import LEASE, Keys, is_a, loud

if TYPE_CHECKING:
    from finresilience.testing.contracts._runs import Caller

BETWEEN: Final = ("", ":", "|", "/", "-", "_", ".", "#", "\t")  # what joins two columns where somebody made one of them


class EdgeLaws(Keys):
    """Laws of names, of lengths of time, and of what two do at once."""

    # ------------------------------------------------------------ names

    @law
    async def test_where_a_scope_ends_its_key_begins(self, store: Any) -> None:
        """Two names that are spelt alike once scope and key are put together are two names."""
        for mark in BETWEEN:
            longer, shorter = (f"acme{mark}eu", "pay"), ("acme", f"eu{mark}pay")
            token = is_a(Claimed, await ask(store.claim(*longer, fingerprint="request", lease=LEASE)), "for a new name").token
            await ask(store.complete(token, b"acme's own"))
            is_a(Claimed, await ask(store.claim(*shorter, fingerprint="request", lease=LEASE)), f"for a name that differs by its {mark!r}")

    @law
    async def test_nobody_is_let_in_twice(self, store: Any) -> None:
        """While a claim runs it is in progress for everybody, also for whoever comes under the name that it was claimed by."""
        await self.claimed(store, owner="pod-1")
        for owner in ("pod-1", "pod-2", ""):
            is_a(InProgress, await self.claim(store, owner=owner), "while the claim of pod-1 ran")

    # ------------------------------------------------------------ lengths of time

    @law
    async def test_a_lease_lasts_as_long_as_was_asked(self, store: Any) -> None:
        """Each claim, heir and renewal has the lease that it asked for, in seconds or as a timedelta."""
        mine = await self.claimed(store, lease=LEASE / 4)
        await ask(store.renew(mine.token, lease=LEASE * 4))
        await self.passes(store, LEASE * 3)
        is_a(InProgress, await self.claim(store), "within a renewed lease that is longer than the first")
        await self.passes(store, LEASE + self.tolerance)
        heir = await self.claimed(store, lease=timedelta(days=1, seconds=10))
        assert heir.lease == timedelta(days=1, seconds=10).total_seconds(), f"lease={heir.lease} of a day and ten seconds"
        await self.passes(store, LEASE * 60)
        is_a(InProgress, await self.claim(store), "an hour after a claim for a day")
        await self.claimed(store, key="short", lease=LEASE / 4)
        await self.passes(store, LEASE / 4 + self.tolerance)
        assert (await self.claimed(store, key="short")).takeover, "a short lease lasted longer"

    @law
    async def test_a_purge_counts_from_the_end(self, store: Any) -> None:
        """What is finished is kept for so long from its end on, however long ago it was claimed, or lost."""
        slow, lost = await self.claimed(store, key="slow"), await self.claimed(store, key="lost")
        await ask(store.mark_indeterminate(lost.token, reason="timeout"))
        await self.passes(store, 10 * LEASE)
        await ask(store.complete(slow.token, b"paid"))
        seen = is_a(Indeterminate, await self.claim(store, key="lost")).record
        await ask(store.resolve(seen, KeyState.COMPLETED, b"found", evidence="inquiry"))
        await self.passes(store, LEASE)
        assert await ask(store.purge(older_than=5 * LEASE)) == 0, "a purge forgot an answer as old as its claim, and not as old as itself"
        for key in ("slow", "lost"):
            is_a(Replay, await self.claim(store, key=key), "for as long as answers are kept")
        await self.passes(store, 5 * LEASE)
        assert await ask(store.purge(older_than=5 * LEASE)) == 2, "a purge kept what had ended long enough ago"

    @law
    async def test_a_record_tells_who_since_when_and_why(self, store: Any) -> None:
        """Whoever looks a key up is told its last owner, its whole age, its status, and why it was INDETERMINATE."""
        await self.claimed(store, owner="pod-1")
        await self.passes(store, LEASE + 1)
        heir = await self.claimed(store, owner="pod-2")
        await self.passes(store, LEASE + 1)
        told = [(record.owner, record.takeovers) for record in await ask(store.unsettled())]
        assert told == [("pod-2", 1)], f"unsettled() told {told} of a claim that pod-2 took over, and that ran out"
        await ask(store.mark_indeterminate(heir.token, reason="timeout"))
        await ask(store.resolve(await self.find(store), KeyState.FAILED_FINAL, b"", status="402", evidence="inquiry"))
        record = await self.find(store)
        assert record is not None
        assert (record.owner, record.status, record.reason, record.evidence) == ("pod-2", "402", "timeout", "inquiry")
        assert abs(record.age - self.gone) <= self.tolerance, f"age={record.age} of a key first claimed {self.gone} s ago"

    # ------------------------------------------------------------ tokens and answers

    @law
    async def test_the_last_recovery_point_is_told_whole(self, store: Any) -> None:
        """A recovery point replaces the one before it with all that belonged to it: no data stay behind."""
        token = (await self.claimed(store)).token
        await ask(store.advance(token, "reserved", data=b"at acme"))
        await ask(store.advance(token, "sent"))
        await self.passes(store, LEASE + 1)
        heir = await self.claimed(store)
        assert (heir.recovery_point, heir.data) == ("sent", b""), "an heir was told the data of another recovery point"

    @law
    async def test_the_status_is_part_of_the_answer(self, store: Any) -> None:
        """The same bytes with another status are another answer, and are refused."""
        for deed in ("complete", "fail"):
            token = (await self.claimed(store, key=deed)).token
            await ask(getattr(store, deed)(token, b"", status="201"))
            with loud(FinishedOtherwiseError, f"{deed} was taken again with another status"):
                await ask(getattr(store, deed)(token, b"", status="409"))
            assert is_a(Replay, await self.claim(store, key=deed)).record.status == "201"

    @law
    async def test_evidence_about_an_earlier_claim_is_stale(self, store: Any) -> None:
        """A record that was read before an heir came settles nothing of the heir's."""
        await self.claimed(store)
        seen = await self.find(store)
        await self.passes(store, LEASE + 1)
        heir = (await self.claimed(store)).token
        await ask(store.mark_indeterminate(heir))
        with loud(StaleRecordError, "evidence about an earlier claim settled an heir's"):
            await ask(store.resolve(seen, KeyState.FAILED_FINAL, b"", evidence="inquiry"))
        is_a(Indeterminate, await self.claim(store), "after stale evidence")

    # ------------------------------------------------------------ at once

    @race
    async def test_a_late_release_and_an_heir_cannot_both_have_it(self, store: Any) -> tuple[list[Caller], Caller]:
        """Where a late release and an heir come at once, the heir still has what it was given."""
        return await self._late(store, store.release, both=True)

    @race
    async def test_a_late_renewal_and_an_heir_cannot_both_have_it(self, store: Any) -> tuple[list[Caller], Caller]:
        """Where a late renewal and an heir come at once, only one of the two goes on."""
        return await self._late(store, partial(store.renew, lease=LEASE))

    @race
    async def test_a_late_doubt_and_an_heir_cannot_both_have_it(self, store: Any) -> tuple[list[Caller], Caller]:
        """Where a late holder says INDETERMINATE as an heir comes, only one of the two is heard."""
        return await self._late(store, store.mark_indeterminate)

    async def _late(self, store: Any, deed: Any, *, both: bool = False) -> tuple[list[Caller], Caller]:
        """Let a late holder do something as an heir comes. `both`: whether both may be heard, the late one first."""
        told: dict[str, object] = {}
        late = (await self.claimed(store)).token
        await self.passes(store, LEASE + 1)

        async def holder() -> None:
            try:
                told["late"] = await ask(deed(late))
            except (StaleTokenError, StoreBusyError) as error:
                told["late"] = error

        async def heir() -> None:
            with suppress(StoreBusyError):
                told["heir"] = await self.claim(store)

        async def check() -> None:
            got = told.get("heir")
            if isinstance(got, Claimed):
                assert both or told["late"] is not None, "the late holder was heard, and the heir was let in"
                await ask(store.complete(got.token, b"the heir's"))
                assert is_a(Replay, await self.claim(store)).record.response == b"the heir's"

        return [holder, heir], check

    @race(needs="transactions")
    async def test_nobody_is_told_what_is_not_committed(self, store: Any) -> tuple[list[Caller], Caller]:
        """An answer that may yet be rolled back is replayed to nobody, and found by nobody."""
        token = (await self.claimed(store)).token

        async def undecided() -> None:
            async with self.taken_back(store) as mine:
                await ask(store.complete(token, b"paid", within=mine))
                for _ in range(3):
                    await self.find(store, within=mine)

        async def reader() -> None:
            for _ in range(3):
                record = await self.find(store)
                assert record is not None
                assert record.state is KeyState.IN_PROGRESS, f"find() told {record.state} of what was rolled back"

        async def claimant() -> None:
            for _ in range(3):
                with suppress(StoreBusyError):
                    is_a(InProgress, await self.claim(store), "beside an answer that was rolled back")

        async def check() -> None:
            is_a(InProgress, await self.claim(store), "after the rollback")

        return [undecided, reader, claimant], check

    @law(needs="transactions")
    async def test_evidence_and_release_are_taken_back_too(self, store: Any) -> None:
        """Evidence, and a release that leaves an heir, are undone by a rollback, and true after a commit."""
        await self.bring_to(store, KeyState.INDETERMINATE, key="lost")
        begun = (await self.claimed(store, key="begun")).token
        await ask(store.advance(begun, "sent"))
        for opened, state, answer in (
            (self.taken_back, KeyState.INDETERMINATE, InProgress),
            (self.within, KeyState.FAILED_FINAL, Claimed),
        ):
            async with opened(store) as mine:
                seen = await self.find(store, key="lost", within=mine)
                await ask(store.resolve(seen, KeyState.FAILED_FINAL, b"", status="402", evidence="inquiry", within=mine))
                await ask(store.release(begun, within=mine))
            record = await self.find(store, key="lost")
            assert record is not None
            assert record.state is state, f"after the transaction, what was resolved in it is {record.state}"
            assert record.status == ("402" if state is KeyState.FAILED_FINAL else ""), (
                f"after the transaction, its status is {record.status!r}"
            )
            is_a(answer, await self.claim(store, key="begun"), "after a transaction with a release")

    @law(needs="transactions")
    async def test_a_failure_keeps_its_status_in_a_transaction(self, store: Any) -> None:
        """A final failure that a transaction commits replays with its bytes and its status."""
        mine = (await self.claimed(store)).token
        async with self.within(store) as within:
            await ask(store.fail(mine, b"declined", status="402", within=within))
        told = is_a(Replay, await self.claim(store), "after the commit")
        assert (told.failed, told.record.response, told.record.status) == (True, b"declined", "402")
