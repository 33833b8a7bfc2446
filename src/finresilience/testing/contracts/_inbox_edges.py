"""Where do inboxes go wrong that keep the plain laws? Several messages in one transaction, and what is not committed yet."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from finresilience.durable.errors import StoreBusyError
from finresilience.durable.seen import Fresh, Stale, Underway
from finresilience.testing.contracts._base import ask, law, race
from finresilience.testing.contracts._inbox_failures import FailureLaws
from finresilience.testing.contracts._keys import is_a

if TYPE_CHECKING:
    from finresilience.testing.contracts._runs import Caller

ENTITY: Final = "acct_1"


class EdgeLaws(FailureLaws):
    """Laws of batches, of marks that may yet be rolled back, and of failures that go on."""

    @law
    async def test_a_transaction_sees_the_marks_that_it_raised(self, store: Any) -> None:
        """Of several events in one transaction, one behind another of them is stale."""
        async with self.within(store) as mine:
            is_a(Fresh, await self.seen(store, mine, message_id="second", entity=ENTITY, position=2))
            is_a(
                Stale, await self.seen(store, mine, message_id="first", entity=ENTITY, position=1), "behind an event of its own transaction"
            )
            is_a(Fresh, await self.seen(store, mine, message_id="third", entity=ENTITY, position=3))
        assert await ask(store.high_water(group="ledger", entity=ENTITY)) == 3

    @race
    async def test_a_mark_that_may_be_rolled_back_makes_nothing_stale(self, store: Any) -> tuple[list[Caller], Caller]:
        """Beside an event that may yet be rolled back, an earlier one waits or is under way: told stale, it would be lost."""

        async def undecided() -> None:
            with suppress(StoreBusyError):
                async with self.taken_back(store) as mine:
                    for position in (7, 8, 9):
                        await self.seen(store, mine, message_id=f"event {position}", entity=ENTITY, position=position)

        async def other() -> None:
            for _ in range(3):
                with suppress(StoreBusyError):
                    async with self.taken_back(store) as mine:
                        told = await self.seen(store, mine, message_id="event 1", entity=ENTITY, position=1)
                    assert isinstance(told, Fresh | Underway), f"{type(told).__name__} was told of an event behind one that was rolled back"

        async def reader() -> None:
            for _ in range(3):
                told = await ask(store.high_water(group="ledger", entity=ENTITY))
                assert told is None, f"high_water() told {told}, which was rolled back"

        async def check() -> None:
            async with self.within(store) as mine:
                is_a(Fresh, await self.seen(store, mine, message_id="event 1", entity=ENTITY, position=1), "once all had ended")

        return [undecided, other, reader], check

    @law
    async def test_failures_that_go_on_are_not_forgotten(self, store: Any) -> None:
        """A purge counts from the last failure: a message that fails now and then is parked in the end."""
        for _ in range(store.park_after - 1):
            await self.failed(store)
            await self.passes(store, 1000.0)
            assert await ask(store.purge(older_than=1500.0)) == 0, "a purge forgot a failure of late, by the age of the first"
        assert (await self.failed(store)).parked, "a message that fails now and then is never parked"

    @law
    async def test_who_lets_a_message_go_lets_no_other_go(self, store: Any) -> None:
        """To unpark or to forgive a message concerns one tenant, one group and one message."""
        others = ({"message_id": "another"}, {"group": "mailer"}, {"tenant": "another tenant"})
        for more in ({}, *others):
            await self.park(store, **more)
        await ask(store.forgiven(group="ledger", message_id="msg_1"))
        assert len(await self.parked(store)) == len(others), "other messages were forgiven with one"
        await self.failed(store)
        assert await ask(store.unpark(group="ledger", message_id="msg_1"))
        assert len(await self.parked(store)) == len(others), "other messages were let go with one"
