"""The laws of bounds: how much a relay has in hand, at once and unsettled, is never more than it was told to have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finresilience.context import remaining
from finresilience.testing.contracts._base import ask, law
from finresilience.testing.contracts._outbox_base import LEASE, event
from finresilience.testing.contracts._relay_base import Broker, Mortal, RelayBase
from finresilience.testing.contracts._relay_views import Watched
from finresilience.testing.stories import turn

if TYPE_CHECKING:
    from finresilience.durable.messages import OutboxRow


class BoundLaws(RelayBase):
    """What a crash repeats, what the broker bears, what the store was told."""

    async def repeated(self, store: Any, dies_at: int, *, before: Any = None, **numbers: Any) -> int:
        """Let a relay die once so many rows of one partition have arrived, and an heir go on; return how many arrived twice."""
        committed = [(key, n) for n, key in enumerate(self.housemates(store, 20))]
        await self.added(store, *[event(key, n) for key, n in committed])
        broker, mortal = Broker(), Mortal(store, 0)

        def send(row: OutboxRow) -> None:
            broker.send(row)
            if len(broker.arrived) >= dies_at:
                mortal.die()

        await self.survived(mortal, send, before=before, batch=20, **numbers)
        assert mortal.struck, f"a relay of 20 rows did not live to publish {dies_at} of them"
        await self.passes(store, LEASE + 1)
        await self.finished(store, broker.send)
        broker.must_hold(committed)
        return broker.doubled

    @law
    async def test_a_crash_repeats_no_more_than_may_wait_to_be_settled(self, store: Any) -> None:
        """Of a batch that is half published, a crash repeats `settle_every` rows, and those on their way, and no more."""
        repeated = await self.repeated(store, 14, settle_every=3)
        assert repeated <= 3 - 1 + 3, f"with settle_every=3, and 3 at once, a crash made {repeated} rows arrive twice"

    @law
    async def test_a_crash_repeats_nothing_that_is_older_than_may_wait(self, store: Any) -> None:
        """Where publishing is slow, what was published longer than `settle_within` ago is settled: a crash repeats what is younger."""

        async def slowly(_: OutboxRow) -> None:
            await self.passes(store, 2.5)

        repeated = await self.repeated(store, 8, before=slowly, settle_every=50, settle_within=2.0, concurrency=1)
        assert repeated <= 2, f"with settle_within=2, and a row every 2.5 s, a crash made {repeated} rows arrive twice"

    @law
    async def test_the_broker_is_given_no_more_at_once_than_was_said(self, store: Any) -> None:
        """No more than `concurrency` rows are on their way to the broker at any moment."""
        committed = await self.filled(store, keys=9, each=2)
        broker, under_way, most = Broker(), list[int](), list[int]()

        async def before(row: OutboxRow) -> None:
            under_way.append(row.seq)
            most.append(len(under_way))
            for _ in range(3 * self.is_async()):
                await turn()

        def send(row: OutboxRow) -> None:
            broker.send(row)
            under_way.remove(row.seq)

        await self.relayed(store, send, before=before, batch=20, concurrency=3)
        broker.must_hold(committed)
        assert max(most) <= 3, f"with concurrency=3, {max(most)} rows were on their way at once"

    @law
    async def test_a_relay_has_no_more_in_hand_than_it_told_the_store(self, store: Any) -> None:
        """A relay asks for as many rows as it told the store it may have: of a row beyond that, nobody would suspect that it killed it."""
        committed = await self.filled(store, keys=12, each=1)
        broker, window, hands = Broker(), list[int](), dict[int, set[int]]()

        def asked(name: str, call: Any) -> None:
            if name == "claim":
                window.append(call["terms"].window)
            elif name in {"settle", "retry", "bury"}:
                hands[call[0].part].difference_update(call[1] if name == "settle" else [call[1]])

        async def told(name: str, call: Any, answer: Any) -> None:
            if name == "fetch":
                hand = hands.setdefault(call[0].part, set())
                hand.update(row.seq for row in answer.rows)
                assert len(hand) <= min(window), (
                    f"a relay told the store that it has {min(window)} rows in hand at most, and has {len(hand)}"
                )

        await self.relayed(Watched(store, asked=asked, told=told), broker.send, batch=2)
        broker.must_hold(committed)
        assert set(window) == {2}, f"a relay with batch=2 told the store that it has {max(window)} rows in hand at most"

    @law
    async def test_a_relay_owns_no_more_partitions_than_was_said(self, store: Any) -> None:
        """With `partitions_at_most`, a relay leaves the rest to others, though there are none."""
        await self.filled(store, keys=12, each=1)
        broker, owned = Broker(), list[int]()

        async def before(_: OutboxRow) -> None:
            owned.append((await ask(store.statistics())).owned)

        await self.relayed(store, broker.send, before=before, partitions_at_most=1)
        assert max(owned, default=0) <= 1, f"with partitions_at_most=1, a relay owned {max(owned)} partitions"

    @law
    async def test_whoever_publishes_is_told_how_long_it_may_take(self, store: Any) -> None:
        """While a row is published, `remaining()` tells how much is left of `publish_timeout`."""
        await self.filled(store, keys=2, each=2)
        left: list[float | None] = []

        def send(_: OutboxRow) -> None:
            left.append(remaining())

        await self.relayed(store, send, publish_timeout=0.5)
        assert len(left) == 4
        assert all(seconds is not None and 0.0 < seconds <= 0.5 for seconds in left), (
            f"with publish_timeout=0.5, publishers were told {left}"
        )
