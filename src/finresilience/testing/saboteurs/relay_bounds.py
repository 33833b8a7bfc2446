"""Known-bad relays that break no promise of delivery at first sight: they take too much, ask too often, or keep to themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from finresilience.durable.relay import Relay
from finresilience.durable.relay_core import RelayCore
from finresilience.durable.relay_steps import Bury, Fetch, Postpone, Renew, Step
from finresilience.outcome import Verdict
from finresilience.policies.timeout import Timeout
from finresilience.testing.saboteurs import saboteur

if TYPE_CHECKING:
    from finresilience.durable.messages import OutboxRow
    from finresilience.durable.outbox import Failure, FencedError, Leased, PartitionLease

CONTRACT: Final = "RelayContract"

# ---------------------------------------------------------------- leases


class _GoesOn(RelayCore):
    def fenced(self, lease: PartitionLease, error: FencedError, *, releasing: bool) -> bool:
        """Forget this partition, and remember to say so at the end."""
        self._held.pop(lease.part, None)
        self.fenced_by = self.fenced_by or error
        return not releasing


@saboteur(CONTRACT, kills="test_a_relay_that_lost_one_partition_publishes_no_more_of_any")
class GoesOnWithItsOtherPartitions(Relay):
    """Loses one partition to an heir and goes on with the others: it was too slow for all of them, and says so when it ends, if ever."""

    core: ClassVar[type[RelayCore]] = _GoesOn


class _NeverSheds(RelayCore):
    def claimed(self, claimed: Leased, *, asked_at: float, now: float, u: float) -> None:
        """Claim once, and never ask for the share again."""
        super().claimed(claimed, asked_at=asked_at, now=now, u=u)
        self._claim_at = float("inf")


@saboteur(CONTRACT, kills="test_a_relay_that_works_leaves_others_their_share")
class KeepsWhatItGotFirst(Relay):
    """Never asks how many partitions are due to it: whoever starts first has all, and those started to help it have none."""

    core: ClassVar[type[RelayCore]] = _NeverSheds


class _RenewsTheFirst(RelayCore):
    def _renewal(self, now: float) -> Step | None:
        first = next(iter(self._held.values()), None)
        return Renew(first.lease) if first is not None and now >= first.renew_at else None


@saboteur(CONTRACT, kills="test_a_relay_that_lives_loses_nothing")
class RenewsOneOfItsLeases(Relay):
    """Renews the lease of one of its partitions: it is taken for dead in all others, and their rows are suspected of having killed it."""

    core: ClassVar[type[RelayCore]] = _RenewsTheFirst


class _UpToTheLast(RelayCore):
    def _outlasts(self, held: Any, now: float) -> bool:
        return bool(now < held.until)


@saboteur(CONTRACT, kills="test_a_row_is_handed_over_only_if_its_lease_outlasts_it")
class PublishesUpToTheLastMoment(Relay):
    """Looks whether its lease runs, not whether it runs for as long as a publish may take: the last row has two relays."""

    core: ClassVar[type[RelayCore]] = _UpToTheLast


# ---------------------------------------------------------------- bounds


class _SettlesAtTheEnd(RelayCore):
    def __init__(self, settings: Any, **more: Any) -> None:
        settings.settle_every = settings.settle_within = 10**9
        super().__init__(settings, **more)


@saboteur(CONTRACT, kills="test_a_crash_repeats_no_more_than_may_wait_to_be_settled")
class SettlesAtTheEndOfTheBatch(Relay):
    """Settles a batch once all of it is published: a crash publishes the whole batch twice."""

    core: ClassVar[type[RelayCore]] = _SettlesAtTheEnd


class _SettlesByCount(RelayCore):
    def __init__(self, settings: Any, **more: Any) -> None:
        settings.settle_within = 10**9
        super().__init__(settings, **more)


@saboteur(CONTRACT, kills="test_a_crash_repeats_nothing_that_is_older_than_may_wait")
class SettlesByTheCountAlone(Relay):
    """Settles every so many rows, however long they take: where publishing is slow, a crash repeats minutes of it."""

    core: ClassVar[type[RelayCore]] = _SettlesByCount


class _FetchesAll(RelayCore):
    def _fetch(self, now: float) -> Step | None:
        step = super()._fetch(now)
        return Fetch(step.lease, 10_000) if isinstance(step, Fetch) else step


@saboteur(CONTRACT, kills="test_a_relay_has_no_more_in_hand_than_it_told_the_store")
class TakesMoreThanItTold(Relay):
    """Fetches more rows than it told the store it may have in hand: the one that kills it may be one that nobody suspects."""

    core: ClassVar[type[RelayCore]] = _FetchesAll


class _OwnsAll(RelayCore):
    def __init__(self, settings: Any, **more: Any) -> None:
        settings.partitions_at_most = 1024
        super().__init__(settings, **more)


@saboteur(CONTRACT, kills="test_a_relay_owns_no_more_partitions_than_was_said")
class OwnsAllItGets(Relay):
    """Owns every partition that it is given, whatever it was told to own."""

    core: ClassVar[type[RelayCore]] = _OwnsAll


@saboteur(CONTRACT, kills="test_whoever_publishes_is_told_how_long_it_may_take")
class GivesPublishersAllTheTime(Relay):
    """Sets no limit to a publish: a broker that hangs takes the relay with it, and then its leases."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._timeout = Timeout(3600.0, exact=True, name=self.name, clock=self._clock, listeners=())


# ---------------------------------------------------------------- waits


class _AtOnce(RelayCore):
    def failed(self, row: OutboxRow, verdict: Verdict, failure: Failure, *, u: float) -> Postpone | Bury | None:
        """Let it wait for nothing."""
        step = super().failed(row, verdict, failure, u=u)
        if isinstance(step, Postpone):
            answers = self._held[row.part].answers
            answers[-1] = step = Postpone(step.lease, step.seq, 0.0, step.failure, counted=True)
        return step


@saboteur(CONTRACT, kills="test_a_row_that_failed_waits_before_it_is_tried_again")
class TriesAgainAtOnce(Relay):
    """Tries a row again as soon as it has failed: an outage of a second uses up every attempt, and buries the backlog."""

    core: ClassVar[type[RelayCore]] = _AtOnce


class _KnowsBetter(RelayCore):
    def failed(self, row: OutboxRow, verdict: Verdict, failure: Failure, *, u: float) -> Postpone | Bury | None:
        """Wait as ever."""
        return super().failed(row, Verdict(verdict.classification), failure, u=u)


@saboteur(CONTRACT, kills="test_a_broker_that_asks_for_time_is_given_it")
class IgnoresRetryAfter(Relay):
    """Comes again when it likes, though the broker said when."""

    core: ClassVar[type[RelayCore]] = _KnowsBetter


class _WaitsForEver(RelayCore):
    def __init__(self, settings: Any, **more: Any) -> None:
        settings.max_retry_after = 10**9
        super().__init__(settings, **more)


@saboteur(CONTRACT, kills="test_a_broker_that_asks_for_time_is_given_it")
class WaitsAsLongAsItIsTold(Relay):
    """Believes every `Retry-After`: one answer that says a month parks a key for a month."""

    core: ClassVar[type[RelayCore]] = _WaitsForEver


class _Knocks(RelayCore):
    def refused(self, row: OutboxRow, retry_after: float | None, failure: Failure, *, now: float, u: float) -> Postpone | None:
        """Go on with the next row."""
        step = super().refused(row, retry_after, failure, now=now, u=u)
        self._hold_until = float("-inf")
        return step


@saboteur(CONTRACT, kills="test_who_refuses_is_left_alone_for_a_while")
class KnocksOnAnOpenCircuit(Relay):
    """Is refused by an open circuit, and comes with the next row at once, and with the next: it runs the whole backlog against it."""

    core: ClassVar[type[RelayCore]] = _Knocks


class _Hammers(RelayCore):
    def store_failed(self, lease: PartitionLease | None, *, now: float, u: float) -> float:
        """Ask again now."""
        wait = super().store_failed(lease, now=now, u=u)
        self._quiet_until = now
        return wait


@saboteur(CONTRACT, kills="test_a_store_that_is_down_is_left_alone_for_a_while")
class HammersTheStore(Relay):
    """Asks a store that is down again and again, without a pause: a database that comes back is met by all relays at once."""

    core: ClassVar[type[RelayCore]] = _Hammers


class _LooksOnce(RelayCore):
    def _poll(self, now: float, u: float) -> None:
        self._poll_at = now + 1.0


@saboteur(CONTRACT, kills="test_a_relay_that_runs_on_looks_again_and_stops_when_told")
class LooksOnce(Relay):
    """Looks into its partitions until they are empty, and never again: what is committed later waits for a restart."""

    core: ClassVar[type[RelayCore]] = _LooksOnce


class _LooksAllTheTime(RelayCore):
    def _poll(self, now: float, u: float) -> None:
        super()._poll(now, u)
        self._poll_at = now


@saboteur(CONTRACT, kills="test_a_relay_that_runs_on_looks_again_and_stops_when_told")
class LooksAllTheTime(Relay):
    """Looks into an empty outbox without a pause: idle relays are what loads the database."""

    core: ClassVar[type[RelayCore]] = _LooksAllTheTime


# ---------------------------------------------------------------- what it keeps to itself


@saboteur(CONTRACT, kills="test_an_interruption_at_any_step_loses_nothing")
class SwallowsItsInterruption(Relay):
    """Tidies up when it is cut off, and ends as if nothing had been: a supervisor that cancelled it waits for ever."""

    async def run(self, *, until_idle: bool = False) -> None:
        """Run, and hide how it ended."""
        try:
            await super().run(until_idle=until_idle)
        except BaseException as end:
            if isinstance(end, Exception):
                raise

    def run_sync(self, *, until_idle: bool = False) -> None:
        """Run, and hide how it ended."""
        try:
            super().run_sync(until_idle=until_idle)
        except BaseException as end:
            if isinstance(end, Exception):
                raise
