"""What becomes of a message that cannot be handled? Its failures are counted where no rollback reaches, and have a bound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from finresilience.durable.seen import UNFINISHED, Counted, Duplicate, Fresh, Parked, ParkedMessage, Seen
from finresilience.testing.contracts._base import Contract, ContractError, ask, law, race
from finresilience.testing.contracts._keys import is_a

if TYPE_CHECKING:
    from finresilience.testing.contracts._runs import Caller


class FailureLaws(Contract):
    """Laws of failures and of what is parked."""

    probe: ClassVar[str] = "once"

    async def fresh(self) -> Any:
        """Return a new inbox that parks no message at its first failure."""
        store = await super().fresh()
        if store.park_after < 2:
            raise ContractError(
                f"{type(store).__name__} parks after {store.park_after} failures, so that the laws cannot tell a failure from its end: "
                f"let {type(self).__name__}.{self.factory}() give it a park_after of 2 or more"
            )
        return store

    # ------------------------------------------------------------ short words

    async def seen(self, store: Any, within: Any, **more: Any) -> Seen:
        """Ask for the one message, in a transaction."""
        told: Seen = await ask(store.once(within, **{"group": "ledger", "message_id": "msg_1", **more}))
        return told

    async def once(self, store: Any, **more: Any) -> Seen:
        """Ask for the one message, in a transaction that commits."""
        async with self.within(store) as mine:
            return await self.seen(store, mine, **more)
        raise AssertionError

    async def failed(self, store: Any, **more: Any) -> Counted:
        """Count a failure of the one message."""
        told: Counted = await ask(store.failed(**{"group": "ledger", "message_id": "msg_1", **more}))
        return told

    async def begun(self, store: Any, **more: Any) -> Counted:
        """Count a run of the one message before it is made."""
        told: Counted = await ask(store.begun(**{"group": "ledger", "message_id": "msg_1", **more}))
        return told

    async def park(self, store: Any, **more: Any) -> None:
        """Let the message fail until it is parked."""
        for _ in range(store.park_after):
            await self.failed(store, **more)

    async def parked(self, store: Any) -> list[ParkedMessage]:
        """Return what is parked."""
        return list(await ask(store.parked()))

    # ------------------------------------------------------------ laws

    @law
    async def test_a_failure_outlives_the_rollback_of_the_work(self, store: Any) -> None:
        """A failure that is counted stays counted, although the work was rolled back."""
        for failures in range(store.park_after):
            async with self.taken_back(store) as mine:
                told = is_a(Fresh, await self.seen(store, mine), f"after {failures} failures")
                assert told.failures == failures, f"after {failures} failures, {told.failures} were told"
            counted = await self.failed(store, reason="Boom")
            assert counted.failures == failures + 1, f"the failure of run {failures + 1} was counted as {counted.failures}"

    @law
    async def test_poison_is_parked_and_not_run_for_ever(self, store: Any) -> None:
        """After `park_after` failures, and not before, a message is parked: it is listed, and not handed out again."""
        for failures in range(1, store.park_after + 1):
            is_a(Fresh, await self.undone(store), f"after {failures - 1} failures of {store.park_after}")
            counted = await self.failed(store, reason=f"Boom {failures}", delivery_id=f"1-{failures}")
            assert counted.parked is (failures == store.park_after), f"failure {failures} of {store.park_after}: parked={counted.parked}"
        for _ in range(3):
            told = is_a(Parked, await self.once(store), f"after {store.park_after} failures")
            assert told.failures == store.park_after, f"a parked message told {told.failures} failures"
            await self.passes(store, 1000.0)
            again = await self.failed(store, reason="delivered again")
            assert again == Counted(store.park_after, parked=True), f"a failure of a parked message was counted as {again.failures}"
        listed = [(one.group, one.message_id, one.failures, one.reason, one.delivery_id) for one in await self.parked(store)]
        last = store.park_after
        assert listed == [("ledger", "msg_1", last, f"Boom {last}", f"1-{last}")], f"parked() listed {len(listed)}, or other facts"

    async def undone(self, store: Any, **more: Any) -> Seen:
        """Ask for the one message, and roll the work back."""
        told: list[Seen] = []
        async with self.taken_back(store) as mine:
            told.append(await self.seen(store, mine, **more))
        return told[0]

    @law
    async def test_poison_harms_nobody_else(self, store: Any) -> None:
        """Failures are those of one message, in one group, at one tenant."""
        await self.park(store)
        for more in ({"message_id": "another"}, {"group": "mailer"}, {"tenant": "another tenant"}):
            told = is_a(Fresh, await self.once(store, **more), "beside poison")
            assert told.failures == 0, f"{told.failures} failures of another message were told"

    @race
    async def test_failures_at_once_are_all_counted(self, store: Any) -> tuple[list[Caller], Caller]:
        """Failures that are counted at once are counted all."""

        async def consumer() -> None:
            await self.failed(store)

        async def check() -> None:
            counted = await self.failed(store)
            right = min(4, store.park_after)  # what is parked is not counted any further
            assert counted.failures == right, f"the failure after 3 at once was counted as {counted.failures}, and not as {right}"

        return [consumer] * 3, check

    @law
    async def test_what_was_handled_has_no_failures(self, store: Any) -> None:
        """A failure that is told after the message was handled counts nothing and parks nothing."""
        await self.failed(store)
        is_a(Fresh, await self.once(store))
        for _ in range(store.park_after + 1):
            counted = await self.failed(store)
            assert counted == Counted(0, parked=False), "a failure of a handled message was counted"
        is_a(Duplicate, await self.once(store), "for what was handled")
        assert not await self.parked(store), "a handled message was parked"

    @law
    async def test_a_failure_that_was_nobodys_is_taken_back(self, store: Any) -> None:
        """A failure can be forgiven, one at a time, and never more than there are."""
        where = {"group": "ledger", "message_id": "msg_1"}
        await self.park(store)
        told = await ask(store.forgiven(**where))
        assert told == Counted(store.park_after - 1, parked=False), (
            f"of {store.park_after} failures and one forgiven, {told.failures} are left"
        )
        for _ in range(store.park_after):
            told = await ask(store.forgiven(**where))
        assert told == Counted(0, parked=False), f"{told.failures} failures are left of none"
        assert is_a(Fresh, await self.once(store)).failures == 0
        assert (await ask(store.forgiven(**where))).failures == 0

    @law
    async def test_a_run_that_is_counted_before_it_is_made_is_made(self, store: Any) -> None:
        """A message that kills its consumer has `park_after` runs counted before they are made: then it is parked, and no sooner."""
        for run in range(1, store.park_after + 1):
            told = await self.begun(store, delivery_id=f"1-{run}")
            assert told == Counted(run, parked=False), f"for run {run} of {store.park_after}: {told}"
            is_a(Fresh, await self.undone(store), f"for run {run} of {store.park_after}, which was counted")
        assert not await self.parked(store), f"a message was parked whose run {store.park_after} may yet succeed"
        for _ in range(2):
            told = await self.begun(store, delivery_id="2-1")
            assert told == Counted(store.park_after, parked=True), f"after {store.park_after} runs that did not end: {told}"
            is_a(Parked, await self.once(store), f"after {store.park_after} runs that did not end")
        listed = [(one.failures, one.reason, one.delivery_id) for one in await self.parked(store)]
        assert listed == [(store.park_after, UNFINISHED, "2-1")], f"parked() listed {len(listed)}, or other facts"

    @law
    async def test_a_counted_run_that_fails_is_one_failure(self, store: Any) -> None:
        """A run that is counted before it is made, taken back when it ends, and failed, is one: poison has as many runs as any."""
        where = {"group": "ledger", "message_id": "msg_1"}
        for run in range(1, store.park_after + 1):
            assert not (await self.begun(store)).parked, f"parked before run {run} of {store.park_after}"
            assert (await ask(store.forgiven(**where))).failures == run - 1, f"run {run} could not be taken back"
            told = await self.failed(store, reason=f"Boom {run}")
            assert told == Counted(run, parked=run == store.park_after), f"run {run} of {store.park_after} that failed: {told}"
        assert [one.reason for one in await self.parked(store)] == [f"Boom {store.park_after}"], "parked for another reason than its last"

    @law
    async def test_a_run_of_what_was_handled_is_not_counted(self, store: Any) -> None:
        """A run that is counted before it is made counts nothing for a message that was handled, or that is parked."""
        is_a(Fresh, await self.once(store))
        for _ in range(store.park_after + 1):
            assert await self.begun(store) == Counted(0, parked=False), "a run of a handled message was counted"
        await self.park(store, message_id="poison")
        for _ in range(2):
            assert await self.begun(store, message_id="poison") == Counted(store.park_after, parked=True), "a parked message was counted"

    @law
    async def test_a_person_lets_go_what_is_parked(self, store: Any) -> None:
        """A parked message that is let go is handled when it comes again, with all its failures forgotten."""
        where = {"group": "ledger", "message_id": "msg_1"}
        assert not await ask(store.unpark(**where)), "a message was let go that nobody knows"
        await self.failed(store)
        assert not await ask(store.unpark(**where)), "a message was let go that is not parked"
        await self.park(store)
        assert await ask(store.unpark(**where)), "a parked message could not be let go"
        assert not await self.parked(store), "a message that was let go is still listed"
        assert is_a(Fresh, await self.once(store), "once it was let go").failures == 0

    @law
    async def test_the_longest_parked_come_first(self, store: Any) -> None:
        """Parked messages are listed in the order they were parked in, no more than were asked for, with their ages."""
        for number in range(3):
            await self.park(store, message_id=f"poison {number}")
            await self.passes(store, 10.0)
        listed = [one.message_id for one in await ask(store.parked(limit=2))]
        assert listed == ["poison 0", "poison 1"], f"parked(limit=2) listed {listed}"
        idle = (await self.parked(store))[0].idle
        assert abs(idle - 30.0) <= self.tolerance, f"idle={idle} of a message parked 30 s ago"
