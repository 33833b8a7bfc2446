"""The laws of relays that die, are cut off, or whose store fails: wherever it happens, nothing is lost or turned round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finresilience.durable.outbox import Reason
from finresilience.testing.contracts._base import ask, law, race
from finresilience.testing.contracts._outbox_base import LEASE, TERMS, numbers
from finresilience.testing.contracts._relay_base import STEPS, Broker, Mortal, RelayBase

if TYPE_CHECKING:
    from finresilience.durable.messages import OutboxRow
    from finresilience.testing.contracts._runs import Caller


class DyingLaws(RelayBase):
    """Every step at which a relay can end is tried."""

    @law
    async def test_a_crash_at_any_step_loses_nothing(self, store: Any) -> None:
        """Wherever a relay's process dies, its heirs publish the rest, in order; what was not settled, at most, twice."""
        del store
        for at in range(1, STEPS):
            own = await self.fresh()
            committed = await self.filled(own)
            broker, mortal = Broker(), Mortal(own, at)

            def send(row: OutboxRow, broker: Broker = broker, mortal: Mortal = mortal) -> None:
                mortal.step()
                broker.send(row)
                mortal.step()

            await self.survived(mortal, send)
            dead = mortal.struck
            await self.passes(own, LEASE + 1)
            await self.finished(own, broker.send)
            broker.must_hold(committed)
            assert broker.doubled <= 2 + 3, f"a crash at step {at} made {broker.doubled} rows arrive twice"
            assert await ask(own.dead_letters()) == [], f"a crash at step {at} buried a row"
            await self.closed(own)
            if not dead:
                return
        raise AssertionError("a relay never ends")

    @law
    async def test_an_interruption_at_any_step_loses_nothing(self, store: Any) -> None:
        """Wherever a relay is interrupted, it settles what was confirmed and gives its partitions back: the next one goes on at once."""
        del store
        for at in range(1, STEPS):
            own = await self.fresh()
            committed = await self.filled(own)
            broker, mortal = Broker(), Mortal(own, at, for_ever=False)

            def send(row: OutboxRow, broker: Broker = broker, mortal: Mortal = mortal) -> None:
                mortal.step()
                broker.send(row)
                mortal.step()

            await self.survived(mortal, send, batch=10, settle_every=50)
            cut = mortal.struck
            owned = (await ask(own.statistics())).owned
            assert owned == 0 or at <= 2, f"cut off at step {at}, a relay kept its partitions"  # the first two are its claim
            await self.passes(own, LEASE + 1)
            await self.finished(own, broker.send)
            broker.must_hold(committed)
            assert broker.doubled <= 3, f"cut off at step {at}, a relay let {broker.doubled} rows arrive twice, and 3 were on their way"
            assert (await ask(own.statistics())).suspects == 0
            await self.closed(own)
            if not cut:
                return
        raise AssertionError("a relay never ends")

    @law
    async def test_a_store_that_fails_at_any_step_is_asked_again(self, store: Any) -> None:
        """Wherever the store fails once, before or after it did what was asked, the relay goes on, and loses and turns round nothing."""
        del store
        for at in range(1, STEPS):
            own = await self.fresh()
            committed = await self.filled(own)
            broker, mortal = Broker(), Mortal(own, at, ConnectionError, for_ever=False)
            await self.relayed(mortal, broker.send)
            struck = mortal.struck
            await self.passes(own, LEASE + 1)  # a claim whose answer was lost is nobody's until then
            await self.finished(own, broker.send)
            broker.must_hold(committed)
            assert broker.doubled <= 2 + 3, f"a failure of the store at step {at} made {broker.doubled} rows arrive twice"
            await self.closed(own)
            if not struck:
                return
        raise AssertionError("a relay never ends")

    @race
    async def test_an_heir_of_a_dead_relay_goes_on_in_order(self, store: Any) -> tuple[list[Caller], Caller]:
        """While one relay dies, others run and one takes over: each row arrives, the first arrivals of a key in order."""
        committed = await self.filled(store, keys=2, each=3)
        broker, mortal = Broker(), Mortal(store, 9)

        def send(row: OutboxRow) -> None:
            mortal.step()
            broker.send(row)
            mortal.step()

        async def dies() -> None:
            await self.survived(mortal, send)

        async def lives() -> None:
            await self.relayed(store, broker.send)
            await self.passes(store, LEASE + 1)
            await self.relayed(store, broker.send)

        async def check() -> None:
            await self.passes(store, LEASE + 1)
            await self.finished(store, broker.send)
            broker.must_hold(committed)

        return [dies, lives], check

    @law
    async def test_a_payload_that_kills_its_relay_is_buried(self, store: Any) -> None:
        """A payload that kills every relay that touches it is buried after `1 + max_takeovers` deaths, and all others are published."""
        committed = await self.filled(store)
        broker, kills = Broker(), list[int]()
        for _ in range(20):
            mortal = Mortal(store, 0)

            def send(row: OutboxRow, mortal: Mortal = mortal) -> None:
                if (row.message.key, row.message.json()["n"]) == ("acc_1", 0):
                    kills.append(row.seq)
                    mortal._at = mortal.steps + 1
                    mortal.step()
                broker.send(row)

            await self.survived(mortal, send)
            await self.passes(store, LEASE + 1)
        assert len(kills) == 1 + TERMS.max_takeovers, f"one payload killed {len(kills)} relays"
        letter = await self.the_letter(store)
        assert (letter.reason, numbers([letter.row])) == (Reason.CRASHED, [("acc_1", 0)])
        broker.must_hold([row for row in committed if row[0] != "acc_1"])
