"""What the laws of outboxes are written with: events, a relay's hands without a relay, and what an outbox holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final

from finresilience.durable.messages import OutboxMessage, partition_of
from finresilience.durable.outbox import Exhausted, Failure, FencedError, LeaseTerms, Reason
from finresilience.testing.contracts._base import Contract, ask

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from uuid import UUID

    from finresilience.durable.messages import OutboxRow
    from finresilience.durable.outbox import Batch, DeadLetter, PartitionLease

LEASE: Final = 30.0
TERMS: Final = LeaseTerms(lease=LEASE, window=10, max_takeovers=3)
BEFORE: Final = datetime(2000, 1, 1, tzinfo=UTC)  # earlier than anything in a law
AFTER: Final = datetime(2200, 1, 1, tzinfo=UTC)
FAILURE: Final = Failure("acme.Down", "publisher.py:send")


def event(key: str = "acc_1", n: int = 0, **more: Any) -> OutboxMessage:
    """Return an event of a key, told apart by its number."""
    plain: dict[str, Any] = {"topic": "payments", "key": key, "type": "Paid", "payload": {"n": n}}
    return OutboxMessage(**plain | more)


def numbers(rows: Iterable[OutboxRow]) -> list[tuple[str, int]]:
    """Return key and number of each row."""
    return [(row.message.key, row.message.json()["n"]) for row in rows]


class OutboxLaws(Contract):
    """The base of the laws of outboxes.

    Attributes:
        adding_waits: whether a transaction that adds to a key waits for an open one that did so before, as a database's lock makes it do.
    """

    probe = "settle"
    adding_waits: ClassVar[bool] = False

    async def added(self, store: Any, *messages: OutboxMessage) -> list[UUID]:
        """Add these in one transaction, which commits."""
        async with self.within(store) as mine:
            return [store.add(mine, message) for message in messages]

    async def owned(self, store: Any, owner: str = "relay-1", terms: LeaseTerms = TERMS) -> dict[int, PartitionLease]:
        """Claim all that this owner can get."""
        claimed = await ask(store.claim(owner, at_most=store.partitions, terms=terms))
        return {lease.part: lease for lease in claimed.leases}

    async def owned_all(self, store: Any, owner: str = "relay-1", terms: LeaseTerms = TERMS) -> dict[int, PartitionLease]:
        """Claim every partition."""
        mine = await self.owned(store, owner, terms)
        assert len(mine) == store.partitions, f"a lone relay got {len(mine)} of {store.partitions} partitions that nobody holds"
        return mine

    async def batch(self, store: Any, lease: PartitionLease, limit: int = 10) -> Batch:
        """Fetch the next rows of a partition."""
        batch: Batch = await ask(store.fetch(lease, limit=limit))
        assert len(batch.rows) <= limit, f"fetch(limit={limit}) handed out {len(batch.rows)} rows"
        assert [row.seq for row in batch.rows] == sorted(row.seq for row in batch.rows), "a batch is not in the order of its seq"
        assert all(row.part == lease.part for row in batch.rows), "a batch holds rows of another partition"
        return batch

    async def in_hand(self, store: Any, lease: PartitionLease, limit: int = 10) -> Batch:
        """Fetch rows and deliver them, as a relay does: a suspect is marked before."""
        batch = await self.batch(store, lease, limit)
        if batch.suspect:
            await ask(store.mark(lease, batch.rows[0].seq))
        return batch

    async def published(self, store: Any, mine: dict[int, PartitionLease]) -> list[OutboxRow]:
        """Publish and settle all that is due, and return it, in the order of each partition."""
        told: list[OutboxRow] = []
        for lease in mine.values():
            while rows := (await self.batch(store, lease)).rows:
                told += rows
                assert await ask(store.settle(lease, [row.seq for row in rows])) == len(rows), (
                    "settle() settled fewer rows than it was told"
                )
        return told

    def home(self, store: Any, lease_of: dict[int, PartitionLease], key: str) -> PartitionLease:
        """Return the lease of a key's partition."""
        return lease_of[partition_of(None, key, store.partitions)]

    def neighbour(self, store: Any, key: str) -> str:
        """Return a tenant whose key of this name shares the partition of everybody's."""
        wanted = partition_of(None, key, store.partitions)
        return next(tenant for n in range(100_000) if partition_of(tenant := f"tenant_{n}", key, store.partitions) == wanted)

    def housemates(self, store: Any, many: int) -> list[str]:
        """Return keys that share a partition."""
        wanted = partition_of(None, "acc_1", store.partitions)
        every = (f"acc_{n}" for n in range(1, 100_000))
        return [key for key, _ in zip((k for k in every if partition_of(None, k, store.partitions) == wanted), range(many), strict=False)]

    async def after_death(self, store: Any) -> dict[int, PartitionLease]:
        """Let every lease run out, and return what the heir gets."""
        await self.passes(store, LEASE + 1)
        self.heirs: int = getattr(self, "heirs", 1) + 1
        return await self.owned_all(store, f"relay-{self.heirs}")

    async def fenced(self, asked: Callable[[], Any], doing: str) -> None:
        """Check that a deed is refused by `FencedError`."""
        try:
            answer: Awaitable[object] | object = asked()
            await ask(answer)
        except FencedError:
            return
        raise AssertionError(f"{doing} with an epoch that is over was not refused by FencedError")

    async def keeps(self, store: Any) -> bool:
        """Return whether the store keeps what was published. One that says it keeps nothing must have nothing to tell again."""
        if (await ask(store.statistics())).published:
            return True
        assert await ask(store.replay(since=BEFORE, until=AFTER)) == 0, "statistics() told of no row that is kept, and a replay found some"
        return False

    def deeds(self, store: Any, lease: PartitionLease, seq: int) -> dict[str, Callable[[], Any]]:
        """Return everything that an owner may do to a row and its partition."""
        exhausted = Exhausted.PARK_KEY
        return {
            "settle()": lambda: store.settle(lease, [seq]),
            "mark()": lambda: store.mark(lease, seq),
            "retry()": lambda: store.retry(lease, seq, after=60.0, failure=FAILURE),
            "bury()": lambda: store.bury(lease, seq, reason=Reason.REFUSED, failure=FAILURE, exhausted=exhausted),
            "fetch()": lambda: store.fetch(lease, limit=1),
            "renew()": lambda: store.renew(lease),
            "release()": lambda: store.release(lease),
        }

    async def the_letter(self, store: Any) -> DeadLetter:
        """Return the only dead letter that there is."""
        letters: Sequence[DeadLetter] = await ask(store.dead_letters())
        assert len(letters) == 1, f"there are {len(letters)} dead letters, and there should be one"
        return letters[0]

    async def buried(self, store: Any, lease: PartitionLease, seq: int, exhausted: Exhausted = Exhausted.PARK_KEY) -> None:
        """Bury a row."""
        await ask(store.bury(lease, seq, reason=Reason.REFUSED, failure=FAILURE, exhausted=exhausted))
