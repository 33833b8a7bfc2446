"""Who gets a key, what is a key, and what comes through the door?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from finresilience.durable.records import MAX_TEXT, Claimed, ClaimToken, InProgress, KeyState, Mismatch, Replay
from finresilience.errors import ConfigurationError
from finresilience.testing.contracts._base import ask, law, race
from finresilience.testing.contracts._keys import LEASE, Keys, is_a, loud

if TYPE_CHECKING:
    from finresilience.testing.contracts._runs import Caller

HOSTILE: Final = (  # each is a key of its own, whatever a column's collation thinks
    "pay_1",
    "PAY_1",
    "pay_1 ",
    " pay_1",
    "pay_1\n",
    "pay%1",
    "p\u00e4y",
    "pa\u0308y",
    "\U0001f4b6",
    "' OR 1=1 --",
    "\u202epay",
    "x" * MAX_TEXT,
)


class ClaimLaws(Keys):
    """Laws of claiming, and of what is printed."""

    @law
    async def test_a_key_that_nobody_claimed_is_absent(self, store: Any) -> None:
        """A new store knows of no key, and a claim makes exactly one known."""
        assert await self.find(store) is None, "find() told of a key that nobody claimed: does make_store return an empty store?"
        mine = await self.claimed(store)
        assert not mine.takeover, "the first claim was told that it is an heir"
        assert mine.recovery_point is None, "the first claim was given a recovery point"
        record = await self.find(store)
        assert record is not None, "find() knows nothing of a key that is claimed"
        assert record.state is KeyState.IN_PROGRESS, f"a claimed key is {record.state}"
        assert await self.find(store, key="another") is None, "another key is known too"

    @race
    async def test_of_any_number_of_claimants_one_wins(self, store: Any) -> tuple[list[Caller], Caller]:
        """Of any number of claimants that come at once, exactly one is let in, and all others are told that it is in progress."""
        answers: list[object] = []

        async def claimant() -> None:
            answers.append(await self.claim(store))

        async def check() -> None:
            winners = [answer for answer in answers if isinstance(answer, Claimed)]
            losers = [answer for answer in answers if isinstance(answer, InProgress)]
            assert len(winners) == 1, f"{len(winners)} claimants were let in"
            assert len(losers) == 2, f"the losers were told {[type(answer).__name__ for answer in answers]}"

        return [claimant] * 3, check

    @law
    async def test_a_loser_is_told_for_how_long_the_claim_runs(self, store: Any) -> None:
        """A loser is told for how many seconds the claim still runs."""
        await self.claimed(store)
        for gone in (0.0, 4.0, 3.0):
            await self.passes(store, gone)
            told = is_a(InProgress, await self.claim(store))
            left = LEASE - self.gone
            assert 0 < told.retry_after <= LEASE, f"retry_after={told.retry_after} of a lease of {LEASE} s"
            assert abs(told.retry_after - left) <= self.tolerance, f"retry_after={told.retry_after}, but {left} s are left"

    @law
    async def test_a_key_belongs_to_one_request(self, store: Any) -> None:
        """The same key with another fingerprint is a mismatch in every state, and never a replay."""
        for state in KeyState:
            await self.bring_to(store, state, key=state)
            told = is_a(Mismatch, await self.claim(store, key=state, fingerprint="another"), state)
            assert told.state is state, f"a mismatch with a key that is {state} told {told.state}"

    @law
    async def test_the_heir_of_an_expired_lease_must_bring_the_same_request(self, store: Any) -> None:
        """A claim whose lease ran out is taken over by the same request only."""
        await self.claimed(store)
        await self.passes(store, LEASE + 1)
        is_a(Mismatch, await self.claim(store, fingerprint="another"), "expired")
        assert (await self.claimed(store)).takeover, "the heir with the right request was not told that it is one"

    @law
    async def test_tenants_share_nothing(self, store: Any) -> None:
        """The same key in another scope is another key: neither its claim nor its answer is seen."""
        mine = await self.claimed(store)
        await ask(store.complete(mine.token, b"alice's answer"))
        theirs = is_a(Claimed, await self.claim(store, scope="another tenant", fingerprint="another"), "in another scope")
        await ask(store.fail(theirs.token, b"bob's answer"))
        assert is_a(Replay, await self.claim(store)).record.response == b"alice's answer", "a tenant got another tenant's answer"

    @law
    async def test_keys_are_compared_exactly(self, store: Any) -> None:
        """Keys and scopes that differ in case, in blanks or in how an umlaut is written are different ones."""
        for name in HOSTILE:
            is_a(Claimed, await self.claim(store, key=name), "for a key that nobody claimed")
            is_a(Claimed, await self.claim(store, scope=name), "for a scope that nobody claimed in")
        for name in HOSTILE:
            record = await self.find(store, key=name)
            assert record is not None, "a key with unusual characters was not found again"
            assert record.key == name, "a key came back changed"

    @law
    async def test_what_cannot_work_is_refused_at_the_door(self, store: Any) -> None:
        """Leases of zero, less or NaN, and keys that no column holds, are refused, and nothing is written."""
        for lease in (0, 0.0, -1.0, float("nan"), float("inf"), True, "60"):
            with loud(ConfigurationError, f"a lease of {lease!r} was taken"):
                await ask(store.claim("tenant", "pay_1", fingerprint="f", lease=lease))
        for bad in ("", "x" * (MAX_TEXT + 1), "a\0b", "\ud800", None, 7, b"pay_1"):
            for where in ("scope", "key", "fingerprint"):
                with loud(ConfigurationError, f"{where} was taken, which no database can hold"):
                    await self.claim(store, **{where: bad})
        assert await self.find(store) is None, "a claim that was refused was written all the same"
        mine = await self.claimed(store)
        for lease in (0.0, -1.0, float("nan")):
            with loud(ConfigurationError, f"renew took a lease of {lease!r}"):
                await ask(store.renew(mine.token, lease=lease))

    @law
    async def test_nothing_secret_is_printed(self, store: Any) -> None:
        """Keys, scopes, fingerprints and bodies are in no repr and in no error."""
        private = "4111-1111-1111-1111"
        where = {"scope": f"scope {private}", "key": f"key {private}", "fingerprint": f"digest {private}"}
        first = is_a(Claimed, await self.claim(store, **where))
        shown = [repr(first), repr(await self.claim(store, **where)), repr(await self.claim(store, **{**where, "fingerprint": "x"}))]
        await ask(store.advance(first.token, "sent", data=private.encode()))
        await ask(store.complete(first.token, private.encode()))
        shown += [repr(await self.claim(store, **where)), repr(await self.find(store, where["scope"], where["key"])), repr(store)]
        tries: tuple[Any, ...] = (
            lambda: store.complete(first.token, b"other"),
            lambda: store.renew(first.token, lease=1),
            lambda: store.release(ClaimToken(where["scope"], where["key"], first.token.fence + 1)),
            lambda: store.claim(private * 99, private, fingerprint=private, lease=1),
        )
        for deed in tries:
            try:
                await ask(deed())
            except Exception as error:
                shown += [str(error), repr(error)]
        assert not [text for text in shown if private in text], "a key, a scope, a fingerprint or a body was printed"
