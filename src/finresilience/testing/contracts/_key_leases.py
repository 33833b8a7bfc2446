"""What becomes of a claim whose holder is late, gone, or gives it back?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finresilience.durable.errors import StaleTokenError, StoreBusyError
from finresilience.durable.records import Claimed, InProgress, Mismatch, Replay
from finresilience.testing.contracts._base import ask, law, race
from finresilience.testing.contracts._keys import LEASE, Keys, is_a

if TYPE_CHECKING:
    from finresilience.testing.contracts._runs import Caller


class LeaseLaws(Keys):
    """Laws of leases, heirs and releases."""

    # ------------------------------------------------------------ leases and heirs

    @law
    async def test_a_lease_ends_when_it_ran_out_and_not_before(self, store: Any) -> None:
        """Until its lease has run out a claim is nobody else's, and from then on somebody else may have it."""
        await self.claimed(store)
        await self.passes(store, LEASE - 1)
        is_a(InProgress, await self.claim(store), "one second before the lease ran out")
        await self.passes(store, 1 + self.tolerance)
        heir = is_a(Claimed, await self.claim(store), "once the lease ran out: does make_store hand self.clock to the store?")
        assert heir.takeover, "the heir was not told that somebody had the claim before"

    @law
    async def test_a_step_of_the_wall_clock_ends_no_lease(self, store: Any) -> None:
        """Leases are measured by time that never goes back: when the wall clock steps, none ends early and none lasts longer."""
        for step in (3600.0, -7200.0):
            await self.claimed(store, key=str(step))
            self.clock.step_utc(step)
            is_a(InProgress, await self.claim(store, key=str(step)), f"after the wall clock stepped by {step} s")
            await self.passes(store, LEASE + self.tolerance)
            assert (await self.claimed(store, key=str(step))).takeover

    @race
    async def test_an_expired_lease_has_one_heir(self, store: Any) -> tuple[list[Caller], Caller]:
        """Of any number who come for a claim that ran out, exactly one inherits it."""
        answers: list[object] = []
        await self.claimed(store)
        await self.passes(store, LEASE + 1)

        async def heir() -> None:
            answers.append(await self.claim(store))

        async def check() -> None:
            told = sorted(type(answer).__name__ for answer in answers)
            assert told == ["Claimed", "InProgress", "InProgress"], f"three who came for one inheritance were told {', '.join(told)}"

        return [heir] * 3, check

    @law
    async def test_an_heir_sees_the_recovery_point(self, store: Any) -> None:
        """An heir is told the last recovery point, with its data, and how many had the claim before."""
        token = (await self.claimed(store)).token
        await ask(store.advance(token, "reserved", data=b"first"))
        await ask(store.advance(token, "sent", data=self.awkward))
        for before in (1, 2):
            await self.passes(store, LEASE + 1)
            heir = await self.claimed(store)
            assert heir.takeovers == before, f"takeovers={heir.takeovers}, but {before} had the claim before"
            assert (heir.recovery_point, heir.data) == ("sent", self.awkward), "the recovery point was lost on the way to the heir"

    @law
    async def test_a_late_finisher_cannot_overwrite_its_heir(self, store: Any) -> None:
        """Whoever comes late with the old token is refused loudly, whatever it wants, and changes nothing."""
        late = (await self.claimed(store)).token
        await self.passes(store, LEASE + 1)
        heir = (await self.claimed(store)).token
        await self.refuses_all(store, late, "under an heir's claim")
        await ask(store.complete(heir, b"the heir's"))
        await self.refuses_all(store, late, "after the heir completed")
        assert is_a(Replay, await self.claim(store)).record.response == b"the heir's", "the late finisher replaced the heir's answer"

    @law
    async def test_fences_only_grow(self, store: Any) -> None:
        """Each claim of a key has a higher fencing token than all before it, also past a release."""
        fences: list[int] = []
        for release in (False, False, True, False, True):
            token = (await self.claimed(store)).token
            fences.append(token.fence)
            if release:
                await ask(store.release(token))
            await self.passes(store, LEASE + 1)
        assert fences == sorted(set(fences)), f"the fencing tokens of one key came as {fences}"

    @law
    async def test_a_late_finisher_without_an_heir_may_finish(self, store: Any) -> None:
        """A result in hand is not thrown away: while nobody took over, a claim that ran out can be finished."""
        for deed in (store.complete, store.fail):
            mine = await self.claimed(store, key=deed.__name__)
            await self.passes(store, LEASE + 1)
            await ask(deed(mine.token, b"late"))
            assert is_a(Replay, await self.claim(store, key=deed.__name__)).record.response == b"late"

    @law
    async def test_a_renewal_runs_from_now(self, store: Any) -> None:
        """A renewed lease runs for as long as was asked, from the renewal on."""
        mine = await self.claimed(store)
        await self.passes(store, LEASE - 2)
        await ask(store.renew(mine.token, lease=LEASE))
        await self.passes(store, LEASE - 1)
        told = is_a(InProgress, await self.claim(store), "within a renewed lease")
        assert told.retry_after <= 1 + self.tolerance, f"{told.retry_after} s are said to be left of the last second"
        await self.passes(store, 1 + self.tolerance)
        assert (await self.claimed(store)).takeover

    @race
    async def test_a_finisher_and_an_heir_cannot_both_have_it(self, store: Any) -> tuple[list[Caller], Caller]:
        """Where a late finisher and an heir come at once, either the answer is stored and replayed, or the finisher is refused."""
        told: dict[str, object] = {}
        late = (await self.claimed(store)).token
        await self.passes(store, LEASE + 1)

        async def finisher() -> None:
            try:
                told["finisher"] = await ask(store.complete(late, b"late"))
            except (StaleTokenError, StoreBusyError) as error:
                told["finisher"] = error

        async def heir() -> None:
            told["heir"] = await self.claim(store)

        async def check() -> None:
            refused = told["finisher"] is not None
            assert isinstance(told["heir"], Claimed if refused else Replay), (
                f"the late finisher was {'refused' if refused else 'let finish'}, and the heir got a {type(told['heir']).__name__}"
            )

        return [finisher, heir], check

    # ------------------------------------------------------------ releasing

    @law
    async def test_a_released_key_can_be_claimed_anew(self, store: Any) -> None:
        """A key that was released is as if it had never been claimed: free at once, for any request, with nothing to inherit."""
        mine = await self.claimed(store)
        await ask(store.release(mine.token))
        assert await self.find(store) is None, "a released key is still known"
        anew = is_a(Claimed, await self.claim(store, fingerprint="another"), "after a release")
        assert not anew.takeover, "whoever claimed a released key was told that it is an heir"

    @law
    async def test_the_token_of_a_released_claim_is_dead(self, store: Any) -> None:
        """Who released has nothing left to finish with, also once somebody claimed the key anew."""
        old = (await self.claimed(store)).token
        await ask(store.release(old))
        await self.refuses_all(store, old, "after its own release")
        await self.claimed(store)
        await self.refuses_all(store, old, "on a key that was claimed anew")

    @law
    async def test_a_release_after_a_recovery_point_leaves_an_heir(self, store: Any) -> None:
        """Once a recovery point was noted something may have happened: a release then ends the lease and forgets nothing."""
        mine = await self.claimed(store)
        await ask(store.advance(mine.token, "sent", data=b"at acme"))
        await ask(store.release(mine.token))
        is_a(Mismatch, await self.claim(store, fingerprint="another"), "after work had begun")
        heir = is_a(Claimed, await self.claim(store), "after a release")
        assert heir.takeover, "after work had begun, a release made the key look new"
        assert (heir.recovery_point, heir.data) == ("sent", b"at acme"), "a release forgot the recovery point"

    @law
    async def test_an_heir_cannot_make_a_key_look_new(self, store: Any) -> None:
        """An heir knows only of itself that nothing happened: when it releases, the next one is an heir too."""
        await self.claimed(store)
        await self.passes(store, LEASE + 1)
        heir = await self.claimed(store)
        await ask(store.release(heir.token))
        again = is_a(Claimed, await self.claim(store), "after an heir's release")
        assert again.takeover, "an heir's release hid that somebody had the claim before and may have sent it"
        assert again.takeovers == heir.takeovers + 1
