"""The laws of adding to an outbox: committed means published, rolled back means never, and a key keeps its order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from finresilience.durable.messages import partition_of
from finresilience.testing.contracts._base import law, race
from finresilience.testing.contracts._outbox_base import OutboxLaws, event, numbers

if TYPE_CHECKING:
    from finresilience.testing.contracts._runs import Caller


class WriteLaws(OutboxLaws):
    """What a transaction adds."""

    @law
    async def test_a_row_is_seen_once_its_transaction_has_committed(self, store: Any) -> None:
        """A row is not seen before its transaction commits, and is afterwards."""
        mine = await self.owned_all(store)
        async with self.within(store) as transaction:
            store.add(transaction, event("acc_1", 1))
            assert await self.published(store, mine) == [], "a row was handed out before its transaction committed"
        assert numbers(await self.published(store, mine)) == [("acc_1", 1)], "a committed row was not handed out"

    @law
    async def test_what_is_rolled_back_is_never_published(self, store: Any) -> None:
        """A row whose transaction is rolled back never was: not published, not counted, its id free."""
        given = UUID("01890000-0000-7000-8000-000000000001")
        async with self.taken_back(store) as transaction:
            store.add(transaction, event("acc_1", 1, id=given))
        mine = await self.owned_all(store)
        assert await self.published(store, mine) == [], "a row of a transaction that was rolled back was handed out"
        await self.added(store, event("acc_1", 2, id=given))
        assert numbers(await self.published(store, mine)) == [("acc_1", 2)], "the id of a row that was rolled back is not free"

    @law
    async def test_a_message_keeps_every_word(self, store: Any) -> None:
        """What is read is what was added, to the byte, with the id that `add` returned."""
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        messages = [
            event(payload=bytes(range(256)), tenant="acme", headers={"tracestate": "a=b", "X-1": "ä%\u2028€".replace("\u2028", " ")}),
            event("acc-é€\U0001f4b6", payload={"amount": "50.00", "text": '€"\\'}, traceparent=trace, schema_version=7),
            event(payload=b"", content_type="application/avro", id=UUID("01890000-0000-7000-8000-00000000abcd")),
        ]
        ids = await self.added(store, *messages)
        mine = await self.owned_all(store)
        told = {row.id: row.message for row in await self.published(store, mine)}
        for made, message in zip(ids, messages, strict=True):
            assert told.get(made) == message.with_id(made), f"{message!r} was read as {told.get(made)!r}, or with other words"
        assert ids[2] == messages[2].id, "an id that was given was not kept"

    @law
    async def test_every_row_has_an_id_of_its_own(self, store: Any) -> None:
        """Each row has an id: the given one, or one made for it; and one id is never two rows."""
        message = event("acc_1", 1)
        ids = await self.added(store, message, message, message)
        assert len(set(ids)) == 3, "one id was made for two rows"
        try:
            await self.added(store, event("acc_2", 2, id=ids[0]))
        except Exception:
            mine = await self.owned_all(store)
            assert len(await self.published(store, mine)) == 3
            return
        raise AssertionError("an id that the outbox holds already was added again, and nothing was raised")

    @law
    async def test_a_key_has_its_partition_for_ever(self, store: Any) -> None:
        """A row is in the partition that `partition_of` names for its tenant and key, whatever the process, the version or the language."""
        keys = [f"acc_{n}" for n in range(20)]
        await self.added(store, *[event(key, tenant=tenant) for key in keys for tenant in (None, "acme")])
        mine = await self.owned_all(store)
        for row in await self.published(store, mine):
            assert row.part == partition_of(row.message.tenant, row.message.key, store.partitions), "a row is in another partition"

    @law
    async def test_rows_of_one_transaction_keep_their_order(self, store: Any) -> None:
        """What one transaction adds to a key is handed out in the order in which it was added."""
        await self.added(store, *[event("acc_1", n) for n in range(5)])
        await self.added(store, *[event("acc_1", n) for n in range(5, 10)])
        mine = await self.owned_all(store)
        assert numbers(await self.published(store, mine)) == [("acc_1", n) for n in range(10)]

    @law
    async def test_a_row_that_commits_late_is_not_skipped(self, store: Any) -> None:
        """A row added first and committed last is handed out, though later ones of its partition were published meanwhile."""
        early, late = self.housemates(store, 2)
        mine = await self.owned_all(store)
        async with self.within(store) as slow:
            store.add(slow, event(early, 1))
            await self.added(store, event(late, 2))
            assert numbers(await self.published(store, mine)) == [(late, 2)]
        assert numbers(await self.published(store, mine)) == [(early, 1)], "a row that committed late was skipped"

    @race
    async def test_transactions_on_one_key_come_one_after_another(self, store: Any) -> tuple[list[Caller], Caller]:
        """However transactions on one key overlap, their rows come as if one had followed the other."""
        mine = await self.owned_all(store)

        async def producer(n: int) -> None:
            async with self.within(store) as transaction:
                store.add(transaction, event("acc_1", n))
                store.add(transaction, event("acc_1", n + 1))

        async def check() -> None:
            told = numbers(await self.published(store, mine))
            assert len(told) == 6, f"rows were lost or doubled: {told}"
            for n in (10, 20, 30):
                where = told.index(("acc_1", n))
                assert told[where + 1] == ("acc_1", n + 1), f"rows of one transaction were torn apart or turned round: {told}"

        return [lambda: producer(10), lambda: producer(20), lambda: producer(30)], check

    @law
    async def test_of_two_open_transactions_the_first_to_commit_is_first(self, store: Any) -> None:
        """Of two transactions that add to one key at the same time, the one that commits first has the lower `seq`."""
        if self.adding_waits:
            return await self._first_to_commit_where_adding_waits(store)
        async with self.within(store) as slow:
            store.add(slow, event("acc_1", 1))
            await self.passes(store, 5.0)  # a store that orders by age would be found out
            await self.added(store, event("acc_1", 2))
        mine = await self.owned_all(store)
        rows = await self.published(store, mine)
        assert numbers(rows) == [("acc_1", 2), ("acc_1", 1)], "the order of a key is not the order of its commits"
        return None

    async def _first_to_commit_where_adding_waits(self, store: Any) -> None:
        await self.added(store, event("acc_1", 1))
        await self.added(store, event("acc_1", 2))
        mine = await self.owned_all(store)
        assert numbers(await self.published(store, mine)) == [("acc_1", 1), ("acc_1", 2)]
