"""The laws of publishers that fail: a key keeps its order, a poison harms its own key alone, and everything has a bound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finresilience.durable.outbox import Exhausted, Reason
from finresilience.errors import BulkheadFullError
from finresilience.testing.contracts._base import ask, law
from finresilience.testing.contracts._outbox_base import event, numbers
from finresilience.testing.contracts._relay_base import Answer, Broker, Down, Lost, No, RelayBase

if TYPE_CHECKING:
    from finresilience.durable.messages import OutboxRow


class FailureLaws(RelayBase):
    """What becomes of a row that was not published, or may not have been."""

    @law
    async def test_a_failure_keeps_the_order_of_its_key_and_holds_back_no_other(self, store: Any) -> None:
        """Rows that fail, or may have arrived, come again before the later rows of their key; other keys go on meanwhile."""
        committed = await self.filled(store, keys=4, each=4)
        broker, tries = Broker(), dict[tuple[str, int], int]()

        def send(row: OutboxRow) -> None:
            what = (row.message.key, row.message.json()["n"])
            tries[what] = tries.get(what, 0) + 1
            if what == ("acc_1", 1) and tries[what] < 3:
                raise Down
            broker.send(row)
            if what == ("acc_2", 2) and tries[what] < 2:
                raise Lost

        await self.relayed(store, send)
        others = [row for row in committed if row[0] in {"acc_0", "acc_3"}]
        assert set(others) <= set(broker.arrived), "a key that fails held back another"
        await self.finished(store, send)
        broker.must_hold(committed)
        assert broker.doubled == 1, "the row that may have arrived comes once more, and no other"
        assert await ask(store.dead_letters()) == []

    @law
    async def test_a_poison_is_buried_and_its_neighbours_go_on(self, store: Any) -> None:
        """A row whose answer is no is buried at once with its payload and why; its key waits, and no other does."""
        committed = await self.filled(store)
        broker = Broker()

        def send(row: OutboxRow) -> None:
            if row.message.key == "acc_1":
                raise No
            broker.send(row)

        await self.relayed(store, send)
        broker.must_hold([row for row in committed if row[0] != "acc_1"])
        letter = await self.the_letter(store)
        assert (letter.reason, letter.row.attempts, numbers([letter.row])) == (Reason.REFUSED, 1, [("acc_1", 0)])
        assert letter.failure is not None
        assert letter.failure.kind.endswith("No"), f"a dead letter tells of a {letter.failure.kind}"
        assert (await ask(store.statistics())).parked_keys == 1

    @law
    async def test_what_can_never_be_published_is_tried_a_bounded_number_of_times(self, store: Any) -> None:
        """A row that fails for ever is buried after `max_attempts`, never before, and its key goes on where rows are skipped."""
        await self.added(store, event("acc_1", 1), event("acc_1", 2))
        broker, tries = Broker(), list[int]()

        def send(row: OutboxRow) -> None:
            if row.message.json() == {"n": 1}:
                tries.append(row.attempts)
                raise Lost
            broker.send(row)

        await self.finished(store, send, exhausted=Exhausted.SKIP_TO_DLQ)
        assert tries == [0, 1, 2, 3], f"a row that fails for ever was tried {len(tries)} times of at most 4"
        letter = await self.the_letter(store)
        assert (letter.reason, letter.row.attempts) == (Reason.EXHAUSTED, 4)
        assert broker.arrived == [("acc_1", 2)]

    @law
    async def test_a_refusal_of_our_own_costs_no_attempt(self, store: Any) -> None:
        """Where our own policy does not let a row through, nobody has failed: no attempt is counted, and nothing is buried."""
        committed = await self.filled(store)
        broker, refusals = Broker(), list[int]()

        def send(row: OutboxRow) -> None:
            if len(refusals) < 20:
                refusals.append(row.attempts)
                raise BulkheadFullError("broker", 1, 0.0)
            broker.send(row)

        await self.finished(store, send)
        assert refusals == [0] * 20, "a refusal was counted as an attempt"
        broker.must_hold(committed)
        assert await ask(store.dead_letters()) == []

    @law
    async def test_an_answer_may_be_a_failure(self, store: Any) -> None:
        """An answer that the rules judge, such as a status 503, is no success: the row is tried again, and its key keeps its order."""
        await self.added(store, event("acc_1", 1), event("acc_1", 2))
        broker, tries = Broker(), list[int]()

        def send(row: OutboxRow) -> Answer | None:
            tries.append(row.seq)
            if len(tries) < 3:
                return Answer(503)
            broker.send(row)
            return None

        await self.finished(store, send)
        broker.must_hold([("acc_1", 1), ("acc_1", 2)])
        assert len(tries) == 4, f"a row that was answered by 503 twice, and its successor, were tried {len(tries)} times"
