"""The laws of inboxes: each message is handled once by each group, however often it is delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finresilience.durable.errors import StoreBusyError
from finresilience.durable.seen import Duplicate, Fresh, Parked, Stale, Underway
from finresilience.errors import ConfigurationError
from finresilience.testing.contracts._base import ask, law, machine, race
from finresilience.testing.contracts._inbox_edges import EdgeLaws
from finresilience.testing.contracts._inbox_keeping import KeepingLaws
from finresilience.testing.contracts._key_claims import HOSTILE
from finresilience.testing.contracts._keys import is_a, loud

if TYPE_CHECKING:
    from finresilience.testing.contracts._runs import Caller

ACCOUNT = "acct_4111-1111"


class InboxContract(EdgeLaws, KeepingLaws):
    """The laws of an `InboxStore` or `AsyncInboxStore`.

    class TestMyInbox(contracts.InboxContract):
        def make_store(self):
            return MyInbox(clock=self.clock)
    """

    # ------------------------------------------------------------ once

    @law
    async def test_a_message_is_handled_once(self, store: Any) -> None:
        """The first delivery is fresh and every later one a duplicate, however late."""
        is_a(Fresh, await self.once(store), "for a message that nobody handled: does make_store return an empty inbox?")
        for _ in range(3):
            told = is_a(Duplicate, await self.once(store), "for a message that was handled")
            assert abs(told.age - self.gone) <= self.tolerance, f"age={told.age} of a marker that is {self.gone} s old"
            await self.passes(store, 1000.0)

    @law
    async def test_only_what_is_fresh_is_true(self, store: Any) -> None:
        """In an `if`, only a fresh message is true."""
        assert await self.once(store), "a fresh message is not true"
        assert not await self.once(store), "a duplicate is true"

    @race
    async def test_of_any_number_of_deliveries_one_is_handled(self, store: Any) -> tuple[list[Caller], Caller]:
        """Of any number of deliveries at once exactly one commits its effect."""
        effects: list[str] = []

        async def consumer() -> None:
            fresh = False
            try:
                async with self.within(store) as mine:
                    fresh = bool(await self.seen(store, mine))
            except StoreBusyError:
                return
            if fresh:
                effects.append("booked")

        async def check() -> None:
            assert len(effects) == 1, f"{len(effects)} effects of one message were committed"
            is_a(Duplicate, await self.once(store), "once it was handled")

        return [consumer] * 3, check

    @law
    async def test_effect_and_marker_are_one(self, store: Any) -> None:
        """A marker is rolled back with its effect: the message is fresh again, as often as that happens."""
        for _ in range(3):
            async with self.taken_back(store) as mine:
                is_a(Fresh, await self.seen(store, mine), "after the effect was rolled back")
                is_a(Duplicate, await self.seen(store, mine), "for the second time in one transaction")
        is_a(Fresh, await self.once(store), "after the effect was rolled back")

    @law
    async def test_an_interruption_takes_the_marker_back(self, store: Any) -> None:
        """A consumer that is cancelled or interrupted in its transaction leaves nothing behind: the message is fresh again."""

        async def work(mine: Any) -> None:
            is_a(Fresh, await self.seen(store, mine, entity=ACCOUNT, position=1), "after an interruption")

        for _ in range(2):
            await self.interrupted(store, work)
        assert await self.mark(store) is None, "a high-water mark outlived the interruption of its event"
        is_a(Fresh, await self.once(store), "after an interruption")

    @law
    async def test_a_marker_needs_the_callers_transaction(self, store: Any) -> None:
        """Without a transaction of the effect there is no marker: None is refused, and so is a transaction that is over."""
        with loud(ConfigurationError, "a marker was written without a transaction"):
            await self.seen(store, None)
        is_a(Fresh, await self.once(store), "after a refusal")

    @law
    async def test_groups_and_tenants_share_nothing(self, store: Any) -> None:
        """Each group handles each message, and the same id at another tenant is another message."""
        is_a(Fresh, await self.once(store))
        is_a(Fresh, await self.once(store, group="mailer"), "in another group")
        is_a(Fresh, await self.once(store, tenant="another tenant"), "at another tenant")
        for more in ({}, {"group": "mailer"}, {"tenant": "another tenant"}):
            is_a(Duplicate, await self.once(store, **more))

    @law
    async def test_the_delivery_does_not_matter(self, store: Any) -> None:
        """A message is known by its logical id: under another delivery id it is the same one, and another one under the same."""
        is_a(Fresh, await self.once(store, delivery_id="1-1"))
        is_a(Duplicate, await self.once(store, delivery_id="1-2"), "for a second delivery of one message")
        is_a(Fresh, await self.once(store, message_id="another", delivery_id="1-1"), "for another message under a used delivery id")

    @law
    async def test_ids_are_compared_exactly(self, store: Any) -> None:
        """Ids that differ in case, in blanks or in how an umlaut is written are different messages."""
        for name in HOSTILE:
            is_a(Fresh, await self.once(store, message_id=name), "for a message that nobody handled")
            is_a(Duplicate, await self.once(store, message_id=name), "for a message that was handled")

    @law
    async def test_what_cannot_work_is_refused_at_the_door(self, store: Any) -> None:
        """Ids that no column holds, and positions that are none, are refused, and nothing is written."""
        for bad in ("", "x" * 256, "a\0b", "\ud800", None, 7, b"msg_1"):
            for where in ("group", "message_id"):
                with loud(ConfigurationError, f"{where} was taken, which no database can hold"):
                    await self.once(store, **{where: bad})
                with loud(ConfigurationError, f"a failure was counted of a {where} which no database can hold"):
                    await self.failed(store, **{where: bad})
        for position in (-1, 2**63, 1.5, True, "7", None):
            with loud(ConfigurationError, f"position={position!r} was taken"):
                await self.once(store, entity=ACCOUNT, position=position)
        with loud(ConfigurationError, "a position without an entity was taken"):
            await self.once(store, position=7)
        is_a(Fresh, await self.once(store), "after refusals only")

    # ------------------------------------------------------------ what came too late

    @law
    async def test_an_event_behind_the_high_water_mark_is_stale(self, store: Any) -> None:
        """An event is stale once a later one of its entity was handled, and changes nothing; others are none of its business."""
        for message, position in (("first", 3), ("second", 7)):
            is_a(Fresh, await self.once(store, message_id=message, entity=ACCOUNT, position=position), "for an event that is new")
        for position in (0, 6, 7):
            told = is_a(Stale, await self.once(store, message_id=f"late {position}", entity=ACCOUNT, position=position), "behind the mark")
            assert told.high_water == 7, f"high_water={told.high_water}, and it is 7"
        assert await self.mark(store) == 7, "a stale event moved the high-water mark"
        is_a(Duplicate, await self.once(store, message_id="first", entity=ACCOUNT, position=3), "for what was handled")
        is_a(Fresh, await self.once(store, message_id="other", entity="acct_2", position=1), "for another entity")
        is_a(Fresh, await self.once(store, group="mailer", entity=ACCOUNT, position=1), "for another group")
        is_a(Fresh, await self.once(store, tenant="another tenant", entity=ACCOUNT, position=1), "for another tenant")
        is_a(Fresh, await self.once(store, message_id="next", entity=ACCOUNT, position=2**63 - 1), "for the last position there is")

    @law
    async def test_a_rollback_takes_the_high_water_mark_back(self, store: Any) -> None:
        """A mark rises with the effect alone: after a rollback an earlier event is not stale."""
        async with self.taken_back(store) as mine:
            is_a(Fresh, await self.seen(store, mine, message_id="later", entity=ACCOUNT, position=9))
        assert await self.mark(store) is None, "a high-water mark outlived the rollback of its event"
        is_a(Fresh, await self.once(store, entity=ACCOUNT, position=1), "after a later one was rolled back")

    @race
    async def test_events_of_one_entity_cannot_pass_each_other(self, store: Any) -> tuple[list[Caller], Caller]:
        """Of events handled at once, no earlier one commits after a later one of its entity."""
        committed: list[int] = []

        async def consumer(position: int) -> None:
            fresh = False
            try:
                async with self.within(store) as mine:
                    fresh = bool(await self.seen(store, mine, message_id=f"event {position}", entity=ACCOUNT, position=position))
                    if fresh:
                        committed.append(position)
            except StoreBusyError:
                return

        async def check() -> None:
            assert committed, "nobody was let in"
            assert committed == sorted(committed), f"events of one entity were handled in the order {committed}"
            assert await self.mark(store) == committed[-1], "the high-water mark is not that of the last event"

        return [lambda: consumer(1), lambda: consumer(2), lambda: consumer(3)], check

    async def mark(self, store: Any) -> int | None:
        """Return the high-water mark of the one account."""
        told: int | None = await ask(store.high_water(group="ledger", entity=ACCOUNT))
        return told

    # ------------------------------------------------------------ forgetting, and what is printed

    @law
    async def test_a_purge_forgets_old_markers_only(self, store: Any) -> None:
        """A purge forgets what is old enough, at most as many as it was told, and spares what is parked and every mark."""
        for number in range(3):
            await self.once(store, message_id=f"old {number}", entity=ACCOUNT, position=number)
        await self.park(store, message_id="poison")
        await self.failed(store, message_id="unlucky")
        await self.passes(store, 1000.0)
        await self.once(store, message_id="young")
        assert await ask(store.purge(older_than=2000)) == 0, "a purge forgot what is not old enough"
        told = [await ask(store.purge(older_than=500, limit=2)) for _ in range(3)]
        assert told == [2, 2, 0], f"three purges of 2 at most, of 3 markers and 1 failure, forgot {told}"
        is_a(Fresh, await self.once(store, message_id="old 0"), "for what was purged")
        is_a(Duplicate, await self.once(store, message_id="young"), "for what is young")
        is_a(Parked, await self.once(store, message_id="poison"), "for what is parked")
        assert await self.mark(store) == 2, "a purge forgot a high-water mark"
        for bad in ({"older_than": -1}, {"older_than": float("nan")}, {"older_than": 1, "limit": 0}):
            with loud(ConfigurationError, f"purge took {bad}"):
                await ask(store.purge(**bad))

    @law
    async def test_nothing_secret_is_printed(self, store: Any) -> None:
        """Message ids, tenants, entities and reasons are in no repr and in no error."""
        private = "4111-1111-1111-1111"
        where = {"message_id": f"msg {private}", "tenant": f"tenant {private}"}
        shown = [repr(await self.once(store, **where, entity=private, position=3)), repr(await self.once(store, **where)), repr(store)]
        shown.append(repr(await self.once(store, message_id="x", tenant=where["tenant"], entity=private, position=1)))
        await self.park(store, message_id=private, reason=private)
        shown.append(repr(await ask(store.parked())))
        for bad in ({"message_id": private * 99}, {"tenant": private * 99}, {"entity": private, "position": -1}, {"entity": private}):
            try:
                await self.once(store, **bad)
            except ConfigurationError as error:
                shown += [str(error), repr(error)]
        assert not [text for text in shown if private in text], "an id, a tenant, an entity or a reason was printed"

    @race
    async def test_who_meets_an_open_transaction_is_not_told_duplicate(self, store: Any) -> tuple[list[Caller], Caller]:
        """A marker that may yet be rolled back makes nothing a duplicate: whoever meets it waits, or is told that it is under way."""
        told: list[object] = []

        async def undecided() -> None:
            async with self.taken_back(store) as mine:
                await self.seen(store, mine)

        async def other() -> None:
            async with self.within(store) as mine:
                told.append(await self.seen(store, mine))

        async def check() -> None:
            kinds = {type(one) for one in told}
            assert kinds <= {Fresh, Underway}, f"beside a rolled back marker, {[kind.__name__ for kind in kinds]} were told"
            handled = any(isinstance(one, Fresh) for one in told)
            is_a(Duplicate if handled else Fresh, await self.once(store), "once all transactions had ended")

        return [undecided, other], check

    @machine
    def test_it_agrees_with_a_model(self) -> None:
        """Whatever is delivered in whatever order, the inbox answers as a model of these laws does."""
        from finresilience.testing.contracts._inbox_machine import drive

        drive(self)
