"""A machine that does at random to an outbox what it does to the model, and compares every answer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from finresilience.durable.messages import partition_of
from finresilience.durable.outbox import Exhausted, FencedError, PartitionLease, Reason
from finresilience.testing.contracts._base import Contract, ask
from finresilience.testing.contracts._drivers import drive_machine
from finresilience.testing.contracts._outbox_base import FAILURE, TERMS, event
from finresilience.testing.contracts._outbox_model import Event, Model, Part

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.testing.contracts._drivers import Driver

# No sum of these comes within a second of a lease or a wait, so that a store whose clock runs on meanwhile agrees too.
STEPS: Final = st.sampled_from((7.0, 31.0, 61.0))
WAIT: Final = 20.0
KEYS: Final = st.sampled_from(("acc_1", "acc_2", "acc_3"))
OWNERS: Final = st.sampled_from(("relay-1", "relay-1", "relay-2"))
DEEDS: Final = st.sampled_from(("nothing", "settle", "retry", "bury"))
LIMIT: Final = 3


class Machine(RuleBasedStateMachine):
    """Adds, claims, fetches, settles, fails, dies, waits."""

    def __init__(self, contract: Contract, driver: Driver) -> None:
        super().__init__()
        self.contract, self.driver = contract, driver
        self.store: Any = driver(contract.fresh)
        self.model = Model(self.store.partitions)
        self.leases: dict[str, list[PartitionLease]] = {}  # what each owner believes that it has
        self.places = 0

    def teardown(self) -> None:
        async def closed() -> None:
            end: Any = self.contract.close_store(self.store)
            await ask(end)

        self.driver(closed)

    async def told(self, asked: Callable[[], Any]) -> Any:
        """Return what the store says, or that it fenced us off."""
        try:
            return await ask(asked())
        except FencedError:
            return FencedError

    @initialize()
    def begin(self) -> None:
        """Begin where it is interesting: two rows of each key, and one owner."""

        async def work() -> None:
            for key in ("acc_1", "acc_2", "acc_3"):
                await self._add(key, 2, commits=True)
            await self._claim("relay-1")

        self.driver(work)

    @rule(key=KEYS, many=st.integers(1, 3), commits=st.booleans())
    def add(self, key: str, many: int, commits: bool) -> None:  # noqa: FBT001 - Hypothesis passes it by name
        """Add rows in a transaction, which commits or is rolled back."""
        self.driver(partial(self._add, key, many, commits=commits))

    @rule(owner=OWNERS)
    def claim(self, owner: str) -> None:
        """Claim whatever is to be had."""
        self.driver(partial(self._claim, owner))

    @rule(owner=OWNERS)
    def renew(self, owner: str) -> None:
        """Renew all that this owner believes to have."""
        self.driver(partial(self._renew, owner))

    @rule(owner=OWNERS)
    def release(self, owner: str) -> None:
        """Give the first one back."""
        self.driver(partial(self._release, owner))

    @rule(owner=OWNERS, deed=DEEDS, many=st.integers(1, LIMIT))
    def work(self, owner: str, deed: str, many: int) -> None:
        """Work on each partition that this owner believes to have."""
        self.driver(partial(self._work, owner, deed, many))

    @rule(deed=DEEDS)
    def die_and_be_followed(self, deed: str) -> None:
        """Let the owner fetch and fall silent, and another take over and work."""

        async def work() -> None:
            await self._work("relay-1", "nothing", 1)
            await self._wait(31.0)
            await self._claim("relay-1")
            await self._work("relay-1", deed, 1)

        self.driver(work)

    @rule(seconds=STEPS)
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.driver(partial(self._wait, seconds))

    @rule(keep=st.booleans())
    def decide(self, keep: bool) -> None:  # noqa: FBT001 - as above
        """Revive or discard the dead letter that was buried first."""
        self.driver(partial(self._decide, keep=keep))

    # ------------------------------------------------------------ what the rules do, each in one visit to the event loop

    async def _add(self, key: str, many: int, *, commits: bool) -> None:
        places = [self.places + n + 1 for n in range(many)]
        self.places += many
        opened = self.contract.within if commits else self.contract.taken_back
        async with opened(self.store) as mine:
            for place in places:
                self.store.add(mine, event(key, place))
        if commits:
            part = self.model.parts[partition_of(None, key, len(self.model.parts))]
            part.rows += [Event(place, key, self.model.now) for place in places]

    async def _claim(self, owner: str) -> None:
        model = self.model
        model.hear_of(owner)
        free = model.free()
        due = max(0, min(len(free), model.share() - model.owned_by(owner)))
        claimed = await self.told(lambda: self.store.claim(owner, at_most=self.store.partitions, terms=TERMS))
        assert claimed.share == model.share(), f"claim() told a share of {claimed.share}, and the model {model.share()}"
        assert len(claimed.leases) == due, f"claim() gave {len(claimed.leases)} partitions, and the model {due}"
        for lease in claimed.leases:
            assert lease.part in free, "claim() gave away a partition that has an owner"
            assert lease.epoch > model.parts[lease.part].epoch, "an epoch did not grow"
            unclean = model.give(lease.part, owner, lease.epoch)
            assert lease.unclean is unclean, f"a partition was given with unclean={lease.unclean}, and the model says {unclean}"
        self.leases.setdefault(owner, []).extend(claimed.leases)

    def _holds(self, lease: PartitionLease) -> Part | None:
        part = self.model.parts[lease.part]
        return part if (part.owner, part.epoch) == (lease.owner, lease.epoch) else None

    async def _renew(self, owner: str) -> None:
        for lease in self.leases.get(owner, ()):
            part = self._holds(lease)
            answer = await self.told(partial(self.store.renew, lease))
            assert (answer is FencedError) == (part is None), f"renew() told {answer}"
            if part is not None:
                part.until = self.model.now + lease.seconds
                self.model.hear_of(owner)

    async def _release(self, owner: str) -> None:
        leases = self.leases.get(owner, [])
        if leases:
            lease = leases.pop(0)
            holds = self._holds(lease) is not None
            answer = await self.told(lambda: self.store.release(lease))
            assert (answer is FencedError) != holds, f"release() told {answer}"
            if holds:
                self.model.release(lease.part)

    async def _work(self, owner: str, deed: str, many: int) -> None:
        for lease in self.leases.get(owner, ()):
            part = self._holds(lease)
            batch = await self.told(partial(self.store.fetch, lease, limit=LIMIT))
            if part is None or self.model.now >= part.until:
                assert batch is FencedError, "fetch() handed out rows to somebody whose lease is over"
                continue
            assert batch is not FencedError, "fetch() refused an owner whose lease runs"
            expected = self.model.batch(part, LIMIT)
            seen = [(row.message.json()["n"], row.attempts, row.takeovers) for row in batch.rows]
            model = [(row.place, row.attempts, row.takeovers) for row in expected]
            assert seen == model, f"fetch() told (number, attempts, takeovers) {seen}, and the model {model}"
            assert batch.suspect == any(row.suspect for row in expected)
            if batch.suspect:
                await self.told(partial(self.store.mark, lease, batch.rows[0].seq))
                expected[0].marked = True
            for row, known in zip(batch.rows[:many], expected, strict=False):
                await self._do(deed, lease, part, row.seq, known)

    async def _do(self, deed: str, lease: PartitionLease, part: Part, seq: int, row: Event) -> None:
        store = self.store
        if deed == "settle":
            assert await self.told(lambda: store.settle(lease, [seq])) == 1
            part.rows.remove(row)
            self.model.published += 1
        elif deed == "retry":
            await self.told(lambda: store.retry(lease, seq, after=WAIT, failure=FAILURE))
            row.attempts, row.due, row.suspect, row.marked = row.attempts + 1, self.model.now + WAIT, False, False
        elif deed == "bury":
            await self.told(lambda: store.bury(lease, seq, reason=Reason.REFUSED, failure=FAILURE, exhausted=Exhausted.PARK_KEY))
            row.attempts, row.suspect, row.marked = row.attempts + 1, False, False
            self.model.bury(part, row)

    async def _wait(self, seconds: float) -> None:
        await self.contract.passes(self.store, seconds)
        self.model.now += seconds

    async def _decide(self, *, keep: bool) -> None:
        letters = await self.told(self.store.dead_letters)
        if letters:
            told = [letter.row.message.json()["n"] for letter in letters]
            assert sorted(told) == sorted(row.place for _, row in self.model.dead)
            which = next(n for n, (_, row) in enumerate(self.model.dead) if row.place == told[0])
            deed = self.store.revive if keep else self.store.discard
            assert await self.told(lambda: deed(letters[0].row.id)) is True
            if keep:
                self.model.revive(which)
            else:
                self.model.dead.pop(which)

    @invariant()
    def the_numbers_are_as_the_model_says(self) -> None:
        """Count."""
        told = self.driver(partial(self.told, self.store.statistics))
        rows = [row for part in self.model.parts for row in part.rows]
        seen = (told.pending, told.dead, told.attempts, told.suspects)
        model = (len(rows), len(self.model.dead), sum(row.attempts for row in rows), sum(row.suspect for row in rows))
        assert seen == model, f"statistics() told (pending, dead, attempts, suspects) {seen}, and the model {model}"


def drive(contract: Contract) -> None:
    """Hold a contract's store against the model."""
    drive_machine(contract, Machine, steps=25)
