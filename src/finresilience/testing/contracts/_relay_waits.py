"""The laws of waiting: a relay leaves alone what failed, what refuses and what is empty, for a while, and comes again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finresilience.cores.backoff import FullJitter
from finresilience.errors import BulkheadFullError
from finresilience.testing.contracts._base import ask, law
from finresilience.testing.contracts._outbox_base import LEASE, event
from finresilience.testing.contracts._relay_base import Broker, Busy, Lost, RelayBase
from finresilience.testing.contracts._relay_views import Watched

if TYPE_CHECKING:
    from finresilience.durable.messages import OutboxRow


class WaitLaws(RelayBase):
    """How long a relay waits, and that it does."""

    @law
    async def test_a_row_that_failed_waits_before_it_is_tried_again(self, store: Any) -> None:
        """A row that failed is left alone for its backoff: a relay that has nothing else to do does not use up all attempts at once."""
        await self.added(store, event("acc_1", 1))
        tries: list[int] = []

        def send(row: OutboxRow) -> None:
            tries.append(row.attempts)
            raise Lost

        slow = FullJitter(2 * LEASE, cap=2 * LEASE)
        for expected in (1, 2):
            await self.relayed(store, send, backoff=slow)
            assert len(tries) == expected, f"a row that fails, and is to wait {LEASE:g} s, was tried {len(tries)} times, not {expected}"
            await self.passes(store, 2 * LEASE + 1)

    @law
    async def test_a_broker_that_asks_for_time_is_given_it(self, store: Any) -> None:
        """A row comes again when the broker's `Retry-After` is over and not before, and never later than `max_retry_after`."""
        for number, (asked, most) in enumerate(((20, 60.0), (1_000_000, 20.0))):
            await self.added(store, event(f"acc_{number}", 1))
            tries: list[int] = []

            def send(row: OutboxRow, tries: list[int] = tries, asked: int = asked) -> None:
                tries.append(row.seq)
                if len(tries) < 2:
                    raise Busy(asked)

            for wait, expected in ((0.0, 1), (15.0, 1), (6.0, 2)):
                await self.passes(store, wait)
                await self.relayed(store, send, max_retry_after=most)
                assert len(tries) == expected, (
                    f"{self.gone:g} s in, with Retry-After: {asked} and max_retry_after={most:g}, a row was tried {len(tries)} times"
                )

    @law
    async def test_who_refuses_is_left_alone_for_a_while(self, store: Any) -> None:
        """Where our own policy refuses a row, as an open circuit does, the next one is not handed over in the same moment."""
        committed = await self.filled(store, keys=6, each=1)
        broker, moments = Broker(), list[float]()

        def send(row: OutboxRow) -> None:
            if len(moments) < 20:
                moments.append(self.clock.monotonic())
                raise BulkheadFullError("broker", 1, 0.0)
            broker.send(row)

        await self.finished(store, send, concurrency=1)
        broker.must_hold(committed)
        assert len(set(moments)) == len(moments), f"of {len(moments)} rows that were refused, some came in the same moment as one before"

    @law
    async def test_a_store_that_is_down_is_left_alone_for_a_while(self, store: Any) -> None:
        """A store that does not answer is not asked again in the same moment; once it answers, the relay goes on."""
        committed = await self.filled(store)
        broker, moments = Broker(), list[float]()

        def asked(_: str, __: Any) -> None:
            if len(moments) < 10:
                moments.append(self.clock.monotonic())
                raise ConnectionError

        await self.relayed(Watched(store, asked=asked), broker.send)
        broker.must_hold(committed)
        assert len(set(moments)) == len(moments), "a store that is down was asked again and again in the same moment"

    @law
    async def test_a_relay_that_runs_on_looks_again_and_stops_when_told(self, store: Any) -> None:
        """What is committed while a relay waits is published; it does not look all the time; and told to stop, it ends and owns nothing."""
        broker, looks, later = Broker(), dict[int, float](), [("acc_1", n) for n in range(3)]
        committed = list(later)

        async def told(name: str, call: Any, answer: Any) -> None:
            if name != "fetch" or answer.rows:
                return
            now, part = self.clock.monotonic(), call[0].part
            assert looks.get(part) != now, "a relay looks again and again, in the same moment, for rows that are not there"
            looks[part] = now
            if later:
                await self.added(store, event(*later.pop(0)))

        def send(row: OutboxRow, relay: Any) -> None:
            broker.send(row)
            if len(broker.arrived) == len(committed):
                relay.stop()

        await self.relayed(self.bounded(store, told), send, for_ever=True)
        broker.must_hold(committed)
        assert (await ask(store.statistics())).owned == 0, "a relay that was stopped still owns partitions"
