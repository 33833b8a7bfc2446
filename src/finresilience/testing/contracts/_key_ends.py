"""How does a claim end, who may say so, and what is kept of it?"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from finresilience.durable.errors import FinishedOtherwiseError, StaleRecordError, StaleTokenError
from finresilience.durable.records import Indeterminate, KeyState, Replay
from finresilience.errors import ConfigurationError
from finresilience.testing.contracts._base import ask, law
from finresilience.testing.contracts._keys import LEASE, Keys, is_a, loud


class EndLaws(Keys):
    """Laws of finishing, of what is INDETERMINATE, and of forgetting."""

    # ------------------------------------------------------------ finishing

    @law
    async def test_what_is_completed_replays_the_same_bytes(self, store: Any) -> None:
        """Once completed, every claim gets the same bytes and status, for ever and however late."""
        mine = await self.claimed(store)
        await ask(store.complete(mine.token, self.awkward, status="201"))
        for _ in range(3):
            told = is_a(Replay, await self.claim(store), "once completed")
            assert not told.failed, "a success was replayed as a failure"
            assert told.record.state is KeyState.COMPLETED, f"it replays as {told.record.state}"
            assert (told.record.response, told.record.status) == (self.awkward, "201"), "the answer was changed"
            await self.passes(store, 10 * LEASE)

    @law
    async def test_a_final_failure_replays_as_a_failure(self, store: Any) -> None:
        """A final failure replays as one, with its bytes, and is never run again."""
        mine = await self.claimed(store)
        await ask(store.fail(mine.token, b"declined", status="402"))
        await self.passes(store, 10 * LEASE)
        told = is_a(Replay, await self.claim(store), "after a final failure")
        assert told.failed, "a final failure was replayed as a success"
        assert (told.record.state, told.record.response, told.record.status) == (KeyState.FAILED_FINAL, b"declined", "402")

    @law
    async def test_an_answer_cannot_be_changed_afterwards(self, store: Any) -> None:
        """What the caller does to its buffer after the answer was stored changes nothing."""
        mine, buffer = await self.claimed(store), bytearray(b"paid")
        with suppress(ConfigurationError):  # to refuse what could change is as good as to copy it
            await ask(store.complete(mine.token, buffer))
            buffer[:] = b"void"
            told = is_a(Replay, await self.claim(store), "once completed")
            assert told.record.response == b"paid", "a stored answer changed with the caller's buffer"
            assert type(told.record.response) is bytes, f"an answer is a {type(told.record.response).__name__}, which can be changed"

    @law
    async def test_what_is_finished_cannot_be_finished_otherwise(self, store: Any) -> None:
        """A second answer is refused and the first one stays; the same answer again is no second one."""
        for first, second in (("complete", "fail"), ("fail", "complete")):
            mine = await self.claimed(store, key=first)
            await ask(getattr(store, first)(mine.token, b"first", status="1"))
            await ask(getattr(store, first)(mine.token, b"first", status="1"))  # whoever lost the commit's answer asks again
            for deed, body in ((first, b"second"), (second, b"first")):
                with loud(FinishedOtherwiseError, f"{deed} was taken after {first}"):
                    await ask(getattr(store, deed)(mine.token, body, status="1"))
            assert is_a(Replay, await self.claim(store, key=first)).record.response == b"first", "the first answer was replaced"

    @law
    async def test_what_is_finished_has_no_holder(self, store: Any) -> None:
        """A finished claim can be neither renewed nor advanced, released nor made indeterminate."""
        for state in (KeyState.COMPLETED, KeyState.FAILED_FINAL):
            token = await self.bring_to(store, state, key=state)
            await self.refuses_work(store, token, f"a key that is {state}")
            assert is_a(Replay, await self.claim(store, key=state)).record.state is state, "a refused deed changed what was finished"

    @law
    async def test_an_answer_that_is_too_long_is_refused_and_the_claim_stays(self, store: Any) -> None:
        """An answer past `max_response` is refused whole; the claim can still be finished with a shorter one."""
        mine = await self.claimed(store)
        for bad in (b"x" * (store.max_response + 1), "text", None):
            for deed in (store.complete, store.fail):
                with loud(ConfigurationError, "an answer was taken that is too long, or no bytes"):
                    await ask(deed(mine.token, bad))
        with loud(ConfigurationError, "data of a recovery point was taken that is too long"):
            await ask(store.advance(mine.token, "sent", data=b"x" * (store.max_response + 1)))
        await ask(store.complete(mine.token, b"x" * store.max_response))
        assert len(is_a(Replay, await self.claim(store)).record.response) == store.max_response, "the longest answer was cut"

    # ------------------------------------------------------------ indeterminate

    @law
    async def test_what_is_indeterminate_is_never_run_again(self, store: Any) -> None:
        """A key that is INDETERMINATE is neither claimed again nor taken over, however long it lasts."""
        mine = await self.claimed(store)
        await ask(store.advance(mine.token, "sent", data=b"at acme"))
        await ask(store.mark_indeterminate(mine.token, reason="timeout after sending"))
        for _ in range(3):
            told = is_a(Indeterminate, await self.claim(store), "although it may have happened")
            assert told.record.state is KeyState.INDETERMINATE
            assert (told.record.recovery_point, told.record.data) == ("sent", b"at acme"), "the recovery point was lost"
            assert told.record.reason == "timeout after sending", "the reason was lost"
            await self.passes(store, 1000 * LEASE)

    @law
    async def test_what_is_indeterminate_is_settled_by_evidence_alone(self, store: Any) -> None:
        """Nobody's token settles what is INDETERMINATE: not by finishing, renewing or releasing it."""
        token = await self.bring_to(store, KeyState.INDETERMINATE)
        await ask(store.mark_indeterminate(token, reason="again"))  # the same word twice is one
        for deed in (store.complete, store.fail):
            with loud(FinishedOtherwiseError, f"{deed.__name__} settled what is INDETERMINATE"):
                await ask(deed(token, b"guessed"))
        deeds: tuple[Any, ...] = (
            lambda: store.release(token),
            lambda: store.renew(token, lease=LEASE),
            lambda: store.advance(token, "sent"),
        )
        for deed in deeds:
            with loud(StaleTokenError, "a holder went on with what is INDETERMINATE"):
                await ask(deed())
        is_a(Indeterminate, await self.claim(store), "after its holder tried to go on")

    @law
    async def test_evidence_settles_it_once(self, store: Any) -> None:
        """Evidence makes an INDETERMINATE key COMPLETED or FAILED_FINAL, which replays; contradicting evidence is refused."""
        for to in (KeyState.COMPLETED, KeyState.FAILED_FINAL):
            other = KeyState.FAILED_FINAL if to is KeyState.COMPLETED else KeyState.COMPLETED
            await self.bring_to(store, KeyState.INDETERMINATE, key=to)
            seen = is_a(Indeterminate, await self.claim(store, key=to)).record
            await ask(store.resolve(seen, to, b"found", status="200", evidence="inquiry"))
            await ask(store.resolve(seen, to, b"found", status="200", evidence="inquiry"))
            for state, body in ((other, b"found"), (to, b"otherwise")):
                with loud(StaleRecordError, "a second resolution contradicted the first, and was taken"):
                    await ask(store.resolve(seen, state, body, status="200", evidence="somebody says so"))
            told = is_a(Replay, await self.claim(store, key=to), "once resolved").record
            assert (told.state, told.response, told.status) == (to, b"found", "200")
            assert told.evidence == "inquiry", "the evidence was lost"

    @law
    async def test_only_what_is_indeterminate_is_resolved(self, store: Any) -> None:
        """Evidence cannot settle what is under way or finished, nor settle it to anything but an end."""
        for state in (KeyState.IN_PROGRESS, KeyState.COMPLETED, KeyState.FAILED_FINAL):
            await self.bring_to(store, state, key=state)
            with loud(StaleRecordError, f"a key that is {state} was resolved"):
                await ask(store.resolve(await self.find(store, key=state), KeyState.COMPLETED, b"new", evidence="inquiry"))
        await self.bring_to(store, KeyState.INDETERMINATE)
        seen = await self.find(store)
        for bad in (KeyState.IN_PROGRESS, KeyState.INDETERMINATE):
            with loud(ConfigurationError, f"it was resolved to {bad}"):
                await ask(store.resolve(seen, bad, b"", evidence="inquiry"))
        with loud(ConfigurationError, "it was resolved without evidence"):
            await ask(store.resolve(seen, KeyState.COMPLETED, b"", evidence=""))

    # ------------------------------------------------------------ keeping and forgetting

    @law
    async def test_a_purge_spares_what_is_not_finished(self, store: Any) -> None:
        """A purge forgets what was finished long enough ago, and nothing that is under way, ran out, or is INDETERMINATE."""
        for state in KeyState:
            await self.bring_to(store, state, key=state)
        await self.passes(store, 10 * LEASE)
        await self.claimed(store, key="alive")
        await ask(store.complete((await self.claimed(store, key="young")).token, b""))
        assert await ask(store.purge(older_than=11 * LEASE)) == 0, "a purge forgot what is not old enough"
        gone = await ask(store.purge(older_than=5 * LEASE))
        left = [name for name in (*KeyState, "alive", "young") if await self.find(store, key=name) is not None]
        assert left == ["in_progress", "indeterminate", "alive", "young"], f"a purge left {', '.join(left) or 'nothing'}"
        assert gone == 2, f"a purge of 2 said {gone}"
        assert not (await self.claimed(store, key=KeyState.COMPLETED)).takeover, "a key that was purged is not new"

    @law
    async def test_a_purge_is_bounded_and_keeps_to_its_scope(self, store: Any) -> None:
        """A purge forgets at most as many as it was told, and only in the scope that it was told."""
        for number in range(5):
            await self.bring_to(store, KeyState.COMPLETED, key=f"pay_{number}")
        await self.bring_to(store, KeyState.COMPLETED, scope="another tenant")
        await self.passes(store, LEASE)
        told = [await ask(store.purge(older_than=1, scope=self.scope, limit=2)) for _ in range(4)]
        assert told == [2, 2, 1, 0], f"four purges of 2 at most, of 5 keys, forgot {told}"
        assert await self.find(store, scope="another tenant") is not None, "a purge of one scope forgot a key of another"
        for bad in ({"older_than": -1}, {"older_than": float("nan")}, {"older_than": 1, "limit": 0}):
            with loud(ConfigurationError, f"purge took {bad}"):
                await ask(store.purge(**bad))

    @law
    async def test_what_must_be_looked_after_is_listed(self, store: Any) -> None:
        """`unsettled` lists what is INDETERMINATE and what ran out, the longest idle first, and nothing else."""
        for state in KeyState:
            await self.bring_to(store, state, key=state)
            await self.passes(store, 1)
        assert [record.key for record in await ask(store.unsettled())] == ["indeterminate"], "a claim whose lease runs was listed"
        await self.passes(store, LEASE)
        told = [record.key for record in await ask(store.unsettled())]
        assert told == ["in_progress", "indeterminate"], f"unsettled() listed {told}"
        assert len(await ask(store.unsettled(limit=1))) == 1, "unsettled(limit=1) listed more"
