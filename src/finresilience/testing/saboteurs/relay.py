"""Known-bad relays, each with the law of `RelayContract` that must kill it. Each is made as a `Relay` is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from finresilience.durable.relay import Relay
from finresilience.durable.relay_core import Held, RelayCore
from finresilience.durable.relay_steps import Bury, Postpone, Publish, Step, Stop, Wait
from finresilience.outcome import NON_RETRYABLE, UNKNOWN, Verdict
from finresilience.testing.saboteurs import saboteur

if TYPE_CHECKING:
    from collections.abc import Iterable

    from finresilience.durable.messages import OutboxRow
    from finresilience.durable.outbox import Failure, FencedError, PartitionLease

CONTRACT: Final = "RelayContract"


class _AcksFirst(RelayCore):
    """Settles a wave, then publishes it."""

    stash: Publish | None = None

    def _publish(self, now: float) -> Step | None:
        if self.stash is not None:
            step, self.stash = self.stash, None
            return step
        wave = super()._publish(now)
        if not isinstance(wave, Publish):
            return wave
        self.stash = wave
        for row in wave.rows:
            self._held[row.part].confirmed.append(row.seq)
            self._held[row.part].settle_at = now
        return Wait(0.0)

    def published(self, row: OutboxRow, *, now: float) -> None:
        """Forget it: it was settled before."""
        self._landed(row)


@saboteur(CONTRACT, kills="test_a_crash_at_any_step_loses_nothing")
class AcksBeforePublishing(Relay):
    """Settles a row, then publishes it: a crash between the two loses it."""

    core: ClassVar[type[RelayCore]] = _AcksFirst


class _KeepsTheLine(RelayCore):
    def _drop_line(self, held: Held, row: OutboxRow) -> None:
        """Go on with the later rows of the key."""

    def dropped(self, rows: Iterable[OutboxRow]) -> None:
        """Go on with the rows behind one that failed."""
        self.left(rows)


@saboteur(CONTRACT, kills="test_a_failure_keeps_the_order_of_its_key_and_holds_back_no_other")
class RetriesReorder(Relay):
    """Goes on with the later rows of a key whose row has failed: the retry comes after them."""

    core: ClassVar[type[RelayCore]] = _KeepsTheLine


class _NeverBuries(RelayCore):
    def failed(self, row: OutboxRow, verdict: Verdict, failure: Failure, *, u: float) -> Postpone | Bury | None:
        """Try again, whatever it was."""
        self._settings.max_attempts = 10**9
        return super().failed(row, Verdict(UNKNOWN) if verdict.classification is NON_RETRYABLE else verdict, failure, u=u)


@saboteur(CONTRACT, kills="test_a_poison_is_buried_and_its_neighbours_go_on")
class PoisonIsTriedForEver(Relay):
    """Tries a poison again for ever."""

    core: ClassVar[type[RelayCore]] = _NeverBuries


class _BuriesAtOnce(RelayCore):
    def failed(self, row: OutboxRow, verdict: Verdict, failure: Failure, *, u: float) -> Postpone | Bury | None:
        """Bury it, whatever it was."""
        return super().failed(row, Verdict(NON_RETRYABLE), failure, u=u)


@saboteur(CONTRACT, kills="test_what_can_never_be_published_is_tried_a_bounded_number_of_times")
class BuriesAtTheFirstFailure(Relay):
    """Buries a row at its first failure, though it might pass at the second."""

    core: ClassVar[type[RelayCore]] = _BuriesAtOnce


class _CountsRefusals(RelayCore):
    def refused(self, row: OutboxRow, retry_after: float | None, failure: Failure, *, now: float, u: float) -> Postpone | None:
        """Take it for a failure."""
        step = self.failed(row, Verdict(UNKNOWN, retry_after=retry_after), failure, u=u)
        return step if isinstance(step, Postpone) else None


@saboteur(CONTRACT, kills="test_a_refusal_of_our_own_costs_no_attempt")
class RefusalsCostAttempts(Relay):
    """Counts a refusal of its own circuit as a failed attempt: an outage buries the whole backlog."""

    core: ClassVar[type[RelayCore]] = _CountsRefusals


class _NeverRenews(RelayCore):
    def _renewal(self, now: float) -> Step | None:
        return None

    def _outlasts(self, held: Held, now: float) -> bool:
        return True


@saboteur(CONTRACT, kills="test_the_lease_is_looked_at_before_each_message")
class NeverRenews(Relay):
    """Claims once and believes in it for ever."""

    core: ClassVar[type[RelayCore]] = _NeverRenews


class _RenewsBetweenBatches(_NeverRenews):
    def _renewal(self, now: float) -> Step | None:
        if any(held.queue for held in self._held.values()):
            return None
        return RelayCore._renewal(self, now)


@saboteur(CONTRACT, kills="test_the_lease_is_looked_at_before_each_message")
class LooksOncePerBatch(Relay):
    """Looks at its lease when a batch begins, not before each message: a slow batch is published by two relays."""

    core: ClassVar[type[RelayCore]] = _RenewsBetweenBatches


@saboteur(CONTRACT, kills="test_a_lease_is_counted_from_when_it_was_asked_for")
class CountsItsLeaseFromTheAnswer(Relay):
    """Counts a lease from when the answer came: behind a slow line, it publishes what another relay owns."""

    def _told(self, core: RelayCore, step: Step, answer: Any, asked_at: float) -> None:
        super()._told(core, step, answer, self._now())


class _RenewsByTheThird(RelayCore):
    def renewed(self, lease: PartitionLease, *, asked_at: float, now: float) -> None:
        """Be due again a third of the lease after it was asked for, whenever the answer came."""
        del now
        super().renewed(lease, asked_at=asked_at, now=asked_at)


@saboteur(CONTRACT, kills="test_a_lease_is_counted_from_when_it_was_asked_for")
class RenewsForEver(Relay):
    """Renews a third of the lease after it last asked: where the answer takes longer, it does nothing else."""

    core: ClassVar[type[RelayCore]] = _RenewsByTheThird


class _IgnoresFences(RelayCore):
    def fenced(self, lease: PartitionLease, error: FencedError, *, releasing: bool) -> bool:
        """Forget the partition, and go on as if nothing had been."""
        self.forget(lease)
        return False

    def forget(self, lease: PartitionLease) -> None:
        """Drop what is in hand."""
        if self._of(lease) is not None:
            del self._held[lease.part]


@saboteur(CONTRACT, kills="test_a_relay_that_was_overtaken_stops_loudly")
class HidesThatItWasFenced(Relay):
    """Swallows the store's refusal of its epoch: nobody hears of it."""

    core: ClassVar[type[RelayCore]] = _IgnoresFences


class _DropsOnTheWayOut(RelayCore):
    def leave(self) -> None:
        """Settle all that is in hand, published or not."""
        for held in self._held.values():
            held.confirmed.extend(row.seq for row in held.queue)
        super().leave()


@saboteur(CONTRACT, kills="test_an_interruption_at_any_step_loses_nothing")
class DrainsByDropping(Relay):
    """Settles all that it has in hand when it is stopped, published or not."""

    core: ClassVar[type[RelayCore]] = _DropsOnTheWayOut


class _ForgetsOnTheWayOut(RelayCore):
    def leave(self) -> None:
        """Forget what was confirmed."""
        for held in self._held.values():
            held.confirmed.clear()
        super().leave()


@saboteur(CONTRACT, kills="test_an_interruption_at_any_step_loses_nothing")
class RollsTheBatchBack(Relay):
    """Forgets what was confirmed when it is cut off: the whole batch is published twice."""

    core: ClassVar[type[RelayCore]] = _ForgetsOnTheWayOut


class _KeepsPartitions(RelayCore):
    def _tidy(self) -> Step:
        step = super()._tidy()
        return Stop() if type(step).__name__ == "Release" else step


@saboteur(CONTRACT, kills="test_a_relay_that_ends_gives_its_partitions_back")
class KeepsItsPartitions(Relay):
    """Ends without giving its partitions back: the next relay waits for its leases, and takes it for dead."""

    core: ClassVar[type[RelayCore]] = _KeepsPartitions


class _BelievesInSilence(RelayCore):
    def failed(self, row: OutboxRow, verdict: Verdict, failure: Failure, *, u: float) -> Postpone | Bury | None:
        """Take a row of which nobody knows for published."""
        if verdict.classification is UNKNOWN:
            self.published(row, now=0.0)
            return None
        return super().failed(row, verdict, failure, u=u)


@saboteur(CONTRACT, kills="test_what_can_never_be_published_is_tried_a_bounded_number_of_times")
class TakesSilenceForAYes(Relay):
    """Settles a row that may have arrived: at least once becomes at most once."""

    core: ClassVar[type[RelayCore]] = _BelievesInSilence


class _MarksNothing(RelayCore):
    def _deliver(self, suspects: list[Held], now: float) -> Step:
        lines: dict[Any, list[OutboxRow]] = {}
        self._load(suspects[0], lines, 1)
        return Publish(tuple(map(tuple, lines.values())))


@saboteur(CONTRACT, kills="test_a_payload_that_kills_its_relay_is_buried")
class MarksNoSuspect(Relay):
    """Delivers a suspect without a mark: the payload that kills its relays is never found."""

    core: ClassVar[type[RelayCore]] = _MarksNothing
