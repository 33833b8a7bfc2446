"""Known-bad outboxes: who is suspected, who is counted, and what is kept of the dead and the published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from finresilience.durable.memory_outbox import MemoryOutbox
from finresilience.durable.outbox import Batch, DeadLetter, LeaseTerms, Reason
from finresilience.testing.saboteurs import saboteur

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from finresilience.durable.memory_rows import Partition, Row
    from finresilience.durable.outbox import Failure, PartitionLease

CONTRACT: Final = "OutboxStoreContract"

# ---------------------------------------------------------------- blame


@saboteur(CONTRACT, kills="test_what_the_dead_relay_had_in_hand_is_suspected_and_no_more")
class BlamesByTheHeirsWindow(MemoryOutbox):
    """Suspects as many rows as the heir may have in hand: where that is less, the killer goes unsuspected, batch after batch."""

    def _blame(self, part: Partition, terms: LeaseTerms, now: float) -> None:
        part.window = terms.window
        super()._blame(part, terms, now)


@saboteur(CONTRACT, kills="test_who_looked_and_found_nothing_had_nothing_in_hand")
class LookingIsHaving(MemoryOutbox):
    """Takes a relay that looked for one that had rows: whatever came later is suspected of its death, and crawls."""

    def fetch(self, lease: PartitionLease, /, *, limit: int) -> Batch:
        """Hand out rows, and note that it did, also where there were none."""
        batch = super().fetch(lease, limit=limit)
        self._parts[lease.part].fetched = True
        return batch


@saboteur(CONTRACT, kills="test_a_suspect_that_was_answered_tells_its_deaths_still")
class ForgivesTheAnswered(MemoryOutbox):
    """Takes the deaths back with an answer: a row that kills every second relay is never buried."""

    def retry(self, lease: PartitionLease, seq: int, /, *, after: float, failure: Failure, counted: bool = True) -> None:
        """Forget what it did."""
        super().retry(lease, seq, after=after, failure=failure, counted=counted)
        row = self._parts[lease.part].get(seq)
        if row is not None:
            row.takeovers = 0


@saboteur(CONTRACT, kills="test_a_suspect_that_was_answered_is_not_blamed_for_what_comes_later")
class KeepsTheMarkOfTheAnswered(MemoryOutbox):
    """Leaves the mark on a row that was answered: it is blamed for every death from then on, and buried."""

    def retry(self, lease: PartitionLease, seq: int, /, *, after: float, failure: Failure, counted: bool = True) -> None:
        """Hold it back, marked as it is."""
        row = self._parts[lease.part].get(seq)
        marked = 0 if row is None else row.in_hand
        super().retry(lease, seq, after=after, failure=failure, counted=counted)
        if row is not None:
            row.in_hand = marked


@saboteur(CONTRACT, kills="test_a_suspect_is_not_overtaken_by_its_own_key")
class SuspectsAreOvertaken(MemoryOutbox):
    """Leaves suspects out of a batch, and not what stands behind them in their keys: the order of a key is turned round."""

    def fetch(self, lease: PartitionLease, /, *, limit: int) -> Batch:
        """Hand out what nobody suspects."""
        first = super().fetch(lease, limit=limit)
        if first.suspect or not first.rows:
            return first
        rows = [row for row in self._due(self._parts[lease.part], self._time().monotonic()) if not row.suspect]
        return Batch(tuple(row.told() for row in rows[:limit]))


@saboteur(CONTRACT, kills="test_a_killer_that_is_revived_comes_alone")
class TrustsTheRevived(MemoryOutbox):
    """Takes a killer that was revived for any other row: its next victim takes a whole batch with it."""

    def revive(self, message_id: UUID, /) -> bool:
        """Put it back, and forget what it was."""
        _, row = self._dead.get(message_id, (None, None))
        revived = super().revive(message_id)
        if row is not None:
            row.suspect = False
        return revived


# ---------------------------------------------------------------- shares, leases, order


@saboteur(CONTRACT, kills="test_nobody_gets_more_than_a_fair_share")
class FirstComeAllServed(MemoryOutbox):
    """Tells a fair share, and gives whatever is asked for: the relay that starts first has everything."""

    def claim(self, owner: str, *, at_most: int, terms: LeaseTerms) -> Any:
        """Claim as if nobody else were there, and tell the share as if they were."""
        told = super().claim(owner, at_most=0, terms=terms).share
        living, self._owners = self._owners, {owner: self._owners[owner]}
        claimed = super().claim(owner, at_most=at_most, terms=terms)
        self._owners = living
        return type(claimed)(claimed.leases, told)


@saboteur(CONTRACT, kills="test_a_relay_that_renews_is_counted")
class CountsClaimsOnly(MemoryOutbox):
    """Counts a relay as living by its claims, and not by its renewals: others take the partitions that it gives back for theirs alone."""

    def renew(self, lease: PartitionLease, /) -> PartitionLease:
        """Renew the lease, and forget who did."""
        living = self._owners.copy()
        renewed = super().renew(lease)
        self._owners = living
        return renewed


@saboteur(CONTRACT, kills="test_a_lease_lasts_as_long_as_its_terms_say")
class OneLeaseForAll(MemoryOutbox):
    """Has one lease in its settings, and takes no notice of the terms: a slow relay is taken over in the middle of its batch."""

    def claim(self, owner: str, *, at_most: int, terms: LeaseTerms) -> Any:
        """Claim on terms of its own."""
        claimed = super().claim(owner, at_most=at_most, terms=terms)
        for lease in claimed.leases:
            self._parts[lease.part].until = self._time().monotonic() + 30.0
        return claimed


@saboteur(CONTRACT, kills="test_who_is_late_may_still_give_back")
class RefusesTheLate(MemoryOutbox):
    """Takes nothing back from a relay that is late: its rows are suspected, though it lives and had nothing in hand."""

    def release(self, lease: PartitionLease, /) -> None:
        """Take it back while its lease runs."""
        with self._lock:
            self._owned(lease, "releasing", alive_at=self._time().monotonic())
        super().release(lease)


@saboteur(CONTRACT, kills="test_a_clock_that_steps_back_turns_no_order_round")
class OrdersByTheClock(MemoryOutbox):
    """Orders rows by when they were added: where a clock steps back, a key is told in the wrong order."""

    def _due(self, part: Partition, now: float) -> Iterator[Row]:
        return iter(sorted(super()._due(part, now), key=lambda row: (row.created_at, row.seq)))


@saboteur(CONTRACT, kills="test_one_tenants_wait_holds_back_no_other")
class WaitsForOtherTenants(MemoryOutbox):
    """Holds back a key by its name, whoever's it is: one tenant's poison stops another's payments."""

    def _due(self, part: Partition, now: float) -> Iterator[Row]:
        waiting = {row.message.key for row in part if row.due > now}
        return (row for row in super()._due(part, now) if row.message.key not in waiting)


@saboteur(CONTRACT, kills="test_what_was_settled_before_hinders_nothing")
class SettlesAllOrNothing(MemoryOutbox):
    """Settles nothing where one row is settled already: a relay that asks again, since an answer was lost, asks for ever."""

    def settle(self, lease: PartitionLease, published: Sequence[int], /) -> int:
        """Settle these, if each of them waits."""
        with self._lock:
            part = self._owned(lease, "settling")
            unknown = [seq for seq in published if part.get(seq) is None]
        return 0 if unknown else super().settle(lease, published)


# ---------------------------------------------------------------- dead letters, replays, cleaning up


@saboteur(CONTRACT, kills="test_letters_come_in_the_order_of_their_burials")
class ListsByAge(MemoryOutbox):
    """Lists dead letters by the age of their rows: of a list that is cut off, those that have waited longest are never seen."""

    def dead_letters(self, *, limit: int = 100) -> Sequence[DeadLetter]:
        """Return the letters of the oldest rows."""
        return sorted(super().dead_letters(limit=10_000), key=lambda letter: letter.row.seq)[:limit]


@saboteur(CONTRACT, kills="test_a_key_is_parked_for_as_long_as_one_letter_parks_it")
class TheLastLetterDecides(MemoryOutbox):
    """Keeps for each key whether it is parked, and lets the last letter write it: a key goes on past an event that it must wait for."""

    def _due(self, part: Partition, now: float) -> Iterator[Row]:
        kept = self._dead
        last = {letter.row.message.key: told for told, (letter, _) in kept.items()}
        self._dead = {told: kept[told] for told in last.values()}
        rows = list(super()._due(part, now))
        self._dead = kept
        return iter(rows)


@saboteur(CONTRACT, kills="test_a_letter_keeps_its_id")
class TwoTablesTwoIds(MemoryOutbox):
    """Has a unique index on the pending rows, and dead letters in a table beside it: an id is given twice, and revived."""

    def _entomb(self, part: Partition, row: Row, reason: Reason, failure: Failure | None, *, parks: bool) -> None:
        super()._entomb(part, row, reason, failure, parks=parks)
        self._ids.discard(row.told().id)


@saboteur(CONTRACT, kills="test_a_span_holds_its_first_moment_and_not_its_last")
class SpansOverlap(MemoryOutbox):
    """Takes the end of a span in: whoever tells a day again, and then the next, tells midnight twice."""

    def replay(self, *, since: datetime, until: datetime, limit: int = 1000) -> int:
        """Tell one moment more."""
        return super().replay(since=since, until=until + until.resolution, limit=limit)


@saboteur(CONTRACT, kills="test_a_span_without_a_time_zone_is_refused")
class GuessesTheTimeZone(MemoryOutbox):
    """Takes a datetime without a time zone for the machine's own: the operator's span is hours away from what was meant."""

    def replay(self, *, since: datetime, until: datetime, limit: int = 1000) -> int:
        """Tell again what was published in some hours or other."""
        return super().replay(since=since.astimezone(), until=until.astimezone(), limit=limit)


@saboteur(CONTRACT, kills="test_what_is_told_again_is_as_it_was_added")
class TellsAgainAtTheEnd(MemoryOutbox):
    """Gives what is told again a new place: consumers that count places take it for news, and it comes after what followed it."""

    def replay(self, *, since: datetime, until: datetime, limit: int = 1000) -> int:
        """Add it anew."""
        waiting = {row.seq for part in self._parts for row in part}
        told = super().replay(since=since, until=until, limit=limit)
        for part in self._parts:
            for row in [row for row in part if row.seq not in waiting]:
                part.take(row.seq)
                row.seq = next(self._seqs)
                part.put(row)
        return told


@saboteur(CONTRACT, kills="test_what_is_told_again_is_as_it_was_added")
class TellsAgainWithItsPast(MemoryOutbox):
    """Keeps the attempts of what is told again: its first failure then is its last."""

    def replay(self, *, since: datetime, until: datetime, limit: int = 1000) -> int:
        """Tell it again, as it was published."""
        known = {row.seq: (row.attempts, row.takeovers) for row in self._published.values()}
        told = super().replay(since=since, until=until, limit=limit)
        for row in (row for part in self._parts for row in part if row.seq in known):
            row.attempts, row.takeovers = known[row.seq]
        return told


@saboteur(CONTRACT, kills="test_cleanup_spares_what_is_as_old_and_takes_what_is_older")
class CleansUpAMomentEarly(MemoryOutbox):
    """Compares ages by `<=` where `<` was promised: what is kept for a week is not there on the seventh day."""

    def purge(self, *, older_than: float | timedelta, limit: int = 1000) -> int:
        """Forget what is that old, too."""
        seconds = older_than if isinstance(older_than, int | float) else older_than.total_seconds()
        return super().purge(older_than=max(0.0, seconds - 1e-6) if seconds > 0 else seconds, limit=limit)
