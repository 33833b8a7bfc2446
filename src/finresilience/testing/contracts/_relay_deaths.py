"""The laws of relays that die, are cut off, or whose store fails: wherever it happens, nothing is lost or turned round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finresilience.durable.messages import partition_of
from finresilience.durable.outbox import Reason
from finresilience.testing.contracts._base import ask, law, race
from finresilience.testing.contracts._outbox_base import LEASE, TERMS, event, numbers
from finresilience.testing.contracts._relay_base import Broker, Lost, Mortal, No, RelayBase
from finresilience.testing.contracts._relay_views import STEPS, Watched

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
            homes = len({partition_of(None, key, own.partitions) for key, _ in committed})
            most = homes * (2 - 1) + 3  # before the next wave of 3, each partition has settled as soon as it had 2
            assert broker.doubled <= most, f"a crash at step {at} made {broker.doubled} rows arrive twice"
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

            ended = await self.survived(mortal, send, batch=10, settle_every=50)
            cut = mortal.struck
            assert not (cut and ended), f"cut off at step {at}, a relay ended as if nothing had been: whoever cut it off is not told"
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
            assert broker.doubled == 0, f"nobody died, and a failure of the store at step {at} made {broker.doubled} rows arrive twice"
            await self.closed(own)
            if not struck:
                return
        raise AssertionError("a relay never ends")

    @law
    async def test_a_no_is_told_to_the_store_whatever_happens(self, store: Any) -> None:
        """A row whose answer is no is asked for once and buried, wherever the store fails meanwhile."""
        del store
        for at in range(1, STEPS):
            own = await self.fresh()
            await self.added(own, event("acc_1", 1), event("acc_2", 2))
            broker, mortal, noes = Broker(), Mortal(own, at, ConnectionError, for_ever=False), list[int]()

            def send(row: OutboxRow, broker: Broker = broker, noes: list[int] = noes) -> None:
                if row.message.key == "acc_1":
                    noes.append(row.seq)
                    raise No
                broker.send(row)

            await self.relayed(mortal, send)
            struck = mortal.struck
            await self.passes(own, LEASE + 1)
            await self.relayed(own, send)
            assert len(noes) == 1, f"the store failed at step {at}, and a row whose answer is no was tried {len(noes)} times"
            assert (await self.the_letter(own)).reason is Reason.REFUSED
            broker.must_hold([("acc_2", 2)])
            await self.closed(own)
            if not struck:
                return
        raise AssertionError("a relay never ends")

    @law
    async def test_a_relay_that_is_stopped_tells_what_it_was_answered(self, store: Any) -> None:
        """A relay that is stopped as a row fails counts the failure before it goes: stopped again and again, it cannot try for ever."""
        await self.added(store, event("acc_1", 1))
        for n in range(2):

            def send(_: OutboxRow, relay: Any) -> None:
                relay.stop()
                raise Lost

            await self.relayed(self.bounded(store), send, for_ever=True)
            assert (await ask(store.statistics())).attempts == n + 1, "a relay that was stopped kept a failed attempt to itself"
            await self.passes(store, LEASE + 1)

    @law
    async def test_a_suspect_is_delivered_alone(self, store: Any) -> None:
        """Between the mark of a suspect and its answer nothing else is published: if the relay dies then, it is this row's doing."""
        committed = await self.filled(store, keys=6, each=2)
        mine = await self.owned_all(store)
        for lease in mine.values():
            await self.batch(store, lease)
        await self.passes(store, LEASE + 1)
        broker, marked = Broker(), set[tuple[int, int]]()

        def asked(name: str, call: Any) -> None:
            if name == "mark":
                marked.add((call[0].part, call[1]))
            elif name in {"settle", "retry", "bury"}:
                seqs = call[1] if name == "settle" else [call[1]]
                marked.difference_update({(call[0].part, seq) for seq in seqs})

        def send(row: OutboxRow) -> None:
            alone = {(row.part, row.seq)}
            assert marked <= alone, f"row {row.seq} was published while another was marked: it would be blamed for what this one does"
            if row.takeovers:
                assert marked == alone, "a suspect was delivered without a mark"
            broker.send(row)

        await self.relayed(Watched(store, asked=asked), send)
        broker.must_hold(committed)

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
                    mortal.die()
                broker.send(row)

            await self.survived(mortal, send)
            await self.passes(store, LEASE + 1)
        assert len(kills) == 1 + TERMS.max_takeovers, f"one payload killed {len(kills)} relays"
        letter = await self.the_letter(store)
        assert (letter.reason, numbers([letter.row])) == (Reason.CRASHED, [("acc_1", 0)])
        broker.must_hold([row for row in committed if row[0] != "acc_1"])
