"""Who owns which partition, and what is a relay's death blamed on? Taken in one transaction: owner, epoch and blame change together."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, Final, final

from finresilience.durable.outbox import Exhausted, Leased, LeaseTerms, PartitionLease, Reason
from finresilience.errors import ConfigurationError
from finresilience.sql.dialects import at_most
from finresilience.sql.statements import Deed, Sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finresilience.sql.dialects import Dialect
    from finresilience.sql.outbox_deeds import OutboxDeeds

_MOST_DEAD: Final = 1000  # entries of relays that are gone, removed at once


@final
class OutboxClaims:
    """The statements that give partitions away."""

    def __init__(self, deeds: OutboxDeeds, relay: str, dialect: Dialect, *, partitions: int) -> None:
        self._deeds = deeds
        self._dialect = dialect
        self._partitions = partitions
        now, partition = dialect.now, deeds.partition
        self._standing = Sql(
            f"SELECT (SELECT count(*) FROM {partition}), "
            f"(SELECT count(*) FROM {relay} WHERE lease_until > {now}), "
            f"(SELECT count(*) FROM {relay} WHERE lease_until <= {now}), "
            f"(SELECT count(*) FROM {partition} WHERE owner = :owner AND lease_until > {now}), "
            f"(SELECT count(*) FROM {partition} WHERE owner = '' OR lease_until <= {now})"
        )
        many = " UNION ALL ".join(f"SELECT {n}" for n in range(partitions))
        self._made = Sql(f"INSERT INTO {partition} (part) SELECT * FROM ({many}) AS every WHERE true ON CONFLICT (part) DO NOTHING")
        self._buried = Sql(
            f"WITH chosen AS MATERIALIZED (SELECT owner FROM {relay} WHERE lease_until <= {now} LIMIT {_MOST_DEAD} {dialect.locking}) "
            f"DELETE FROM {relay} WHERE owner IN (SELECT owner FROM chosen)"
        )
        self._free = Sql(
            f"SELECT part, owner, held_rows, fetched FROM {partition} WHERE owner = '' OR lease_until <= {now} "
            f"ORDER BY part LIMIT :most {dialect.locking}"
        )
        self._give = Sql(
            f"UPDATE {partition} SET owner = :owner, epoch = epoch + 1, lease_until = {dialect.later(':seconds')}, "
            f"held_rows = :window, fetched = false WHERE {dialect.among('part', ':parts')} RETURNING part, epoch"
        )

    def claim(self, owner: str, at_most: int, terms: LeaseTerms) -> Deed[Leased]:
        """Take partitions that nobody holds, and no more than the fair share."""
        yield self._deeds.lives(owner, terms.lease)
        count, alive, gone, mine, free = (yield self._standing, {"owner": owner})[0]
        if count != self._partitions:
            yield from self._make(count)
            free += self._partitions - count
        if gone:
            yield self._buried, {}
        share = ceil(self._partitions / max(alive, 1))
        wanted = max(0, min(at_most, share - mine))
        if not wanted or not free:
            return Leased((), share)
        found = yield self._free, {"most": wanted}
        return Leased((yield from self._given(found, owner, terms)), share)

    def _make(self, count: int) -> Deed[None]:
        if count > self._partitions:
            raise ConfigurationError(
                f"the outbox has {count} partitions, and Tables(partitions={self._partitions}) says otherwise: they are fixed for the life "
                f"of the table. Give partitions={count}"
            )
        yield self._made, {}

    def _given(self, found: Sequence[Sequence[Any]], owner: str, terms: LeaseTerms) -> Deed[tuple[PartitionLease, ...]]:
        if not found:
            return ()
        unclean = {part for part, before, _, _ in found if before}
        for part, before, window, fetched in found:
            if before:
                yield from self._blame(part, window, terms, fetched=bool(fetched))
        told = {
            "owner": owner,
            "seconds": at_most(terms.lease),
            "window": terms.window,
            "parts": self._dialect.listed([row[0] for row in found]),
        }
        epochs: dict[int, int] = {row[0]: row[1] for row in (yield self._give, told)}
        return tuple(
            PartitionLease(part=part, owner=owner, epoch=epochs[part], seconds=terms.lease, unclean=part in unclean)
            for part in sorted(epochs)
        )

    def _blame(self, part: int, window: int, terms: LeaseTerms, *, fetched: bool) -> Deed[None]:
        """Note which rows the owner that died may have had in its hands."""
        marked = yield self._deeds.blame_marked, {"part": part, "lease": at_most(terms.lease)}
        if marked:  # it was delivering a suspect, and so nothing else
            parks = terms.exhausted is Exhausted.PARK_KEY
            for seq, takeovers in marked:
                if takeovers > terms.max_takeovers:
                    yield from self._deeds.entomb(part, seq, Reason.CRASHED, None, parks=parks, more=0)
        elif fetched:
            yield self._deeds.blame, {"part": part, "most": window}
