"""For how long is a marker kept, what does an event leave behind that was not handled, and who may see what is not committed?"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from finresilience.durable.errors import StoreBusyError
from finresilience.durable.seen import Duplicate, Fresh, Stale
from finresilience.testing.contracts._base import ask, law, race
from finresilience.testing.contracts._inbox_failures import FailureLaws
from finresilience.testing.contracts._keys import is_a

if TYPE_CHECKING:
    from finresilience.testing.contracts._runs import Caller

ENTITY: Final = "acct_1"


class KeepingLaws(FailureLaws):
    """Laws of retention, and of what leaves no trace."""

    @law
    async def test_a_marker_is_kept_for_so_long_to_the_moment(self, store: Any) -> None:
        """A marker, and a failure, that is as old as was said is forgotten, and none that is younger; a duplicate makes it no younger."""
        is_a(Fresh, await self.once(store))
        await self.failed(store, message_id="unlucky")
        await self.passes(store, 100.0)
        is_a(Duplicate, await self.once(store), "for what was handled")
        assert await ask(store.purge(older_than=101.0 + self.tolerance)) == 0, "a purge forgot what is not old enough"
        await self.passes(store, self.tolerance)
        assert await ask(store.purge(older_than=100.0)) == 2, "a purge kept a marker or a failure that is exactly that old"

    @law
    async def test_what_is_stale_or_handled_leaves_nothing_behind(self, store: Any) -> None:
        """A stale event changes nothing: it is stale again. A duplicate raises no mark, whatever position it comes with."""
        is_a(Fresh, await self.once(store, entity=ENTITY, position=5))
        for _ in range(2):
            is_a(Stale, await self.once(store, message_id="late", entity=ENTITY, position=4), "behind the mark")
        is_a(Duplicate, await self.once(store, entity=ENTITY, position=9), "for what was handled")
        told = await ask(store.high_water(group="ledger", entity=ENTITY))
        assert told == 5, f"events that were not handled moved the high-water mark to {told}"

    @law
    async def test_a_parked_message_ages_from_its_parking(self, store: Any) -> None:
        """A failure of what is parked already changes nothing: it waits for as long as it did."""
        await self.park(store)
        await self.passes(store, 30.0)
        await self.failed(store, reason="again")
        [told] = await self.parked(store)
        assert abs(told.idle - 30.0) <= self.tolerance, f"a message that was parked 30 s ago is said to wait for {told.idle:g} s"
        assert told.reason != "again", "a failure of what is parked already took the place of why it was parked"

    @race
    async def test_a_marker_that_is_not_committed_is_not_purged(self, store: Any) -> tuple[list[Caller], Caller]:
        """A purge finds no marker that may yet be rolled back: it would count, or take, what never was."""

        async def undecided() -> None:
            with suppress(StoreBusyError):
                async with self.taken_back(store) as mine:
                    for n in range(4):
                        await self.seen(store, mine, message_id=f"message {n}")

        async def purger() -> None:
            for _ in range(3):
                with suppress(StoreBusyError):
                    assert await ask(store.purge(older_than=0)) == 0, "a purge forgot a marker that was rolled back"

        async def check() -> None:
            is_a(Fresh, await self.once(store, message_id="message 0"), "after a rollback")

        return [undecided, purger], check
