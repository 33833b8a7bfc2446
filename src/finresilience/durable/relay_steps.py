"""What can a relay be told to do, and by which numbers does it live? Plain values, checked where they are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, TypedDict, final

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.cores.backoff import Backoff, FullJitter
from finresilience.durable.outbox import MOST_AT_ONCE, Exhausted, LeaseTerms
from finresilience.errors import ConfigurationError

if TYPE_CHECKING:
    from datetime import timedelta

    from finresilience.durable.messages import OutboxRow
    from finresilience.durable.outbox import Failure, PartitionLease, Reason

_MOST_PARTITIONS: Final = 1024


@final
@dataclass(frozen=True, slots=True)
class Claim:
    """Ask for up to `at_most` partitions, and for the share; 0 asks for the share alone."""

    at_most: int


@final
@dataclass(frozen=True, slots=True)
class Renew:
    """Let the lease run anew."""

    lease: PartitionLease


@final
@dataclass(frozen=True, slots=True)
class Fetch:
    """Get the next rows."""

    lease: PartitionLease
    limit: int


@final
@dataclass(frozen=True, slots=True)
class Mark:
    """Tell the store that a suspect is about to be delivered."""

    lease: PartitionLease
    seq: int


@final
@dataclass(frozen=True, slots=True)
class Publish:
    """Publish these lines, so many at once, and each of them in its order. Before each row the core is asked whether it may still go."""

    lines: tuple[tuple[OutboxRow, ...], ...]
    at_once: int = 1

    @property
    def rows(self) -> tuple[OutboxRow, ...]:
        """All rows of the wave."""
        return tuple(row for line in self.lines for row in line)


@final
@dataclass(frozen=True, slots=True)
class Settle:
    """Tell the store what was published."""

    lease: PartitionLease
    published: tuple[int, ...]


@final
@dataclass(frozen=True, slots=True)
class Postpone:
    """Tell the store to bring a row again later."""

    lease: PartitionLease
    seq: int
    after: float
    failure: Failure
    counted: bool


@final
@dataclass(frozen=True, slots=True)
class Bury:
    """Tell the store that a row is dead."""

    lease: PartitionLease
    seq: int
    reason: Reason
    failure: Failure


@final
@dataclass(frozen=True, slots=True)
class Release:
    """Give the partition back."""

    lease: PartitionLease


@final
@dataclass(frozen=True, slots=True)
class Wait:
    """Wait so many seconds, or until somebody wakes the relay."""

    seconds: float


@final
@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing is left to do."""


Step: TypeAlias = Claim | Renew | Fetch | Mark | Publish | Settle | Postpone | Bury | Release | Wait | Stop


class RelayNumbers(TypedDict, total=False):
    """What a `Relay` may be told beside its store and its publisher; `RelaySettings` says what each means."""

    batch: int
    concurrency: int
    lease: float | timedelta
    publish_timeout: float | timedelta
    settle_every: int
    settle_within: float | timedelta
    max_attempts: int
    backoff: Backoff | None
    max_retry_after: float | timedelta
    max_takeovers: int
    exhausted: Exhausted
    poll: tuple[float, float]
    partitions_at_most: int


@final
class RelaySettings:
    """The numbers of a relay, which must fit each other.

    Args:
        batch: how many rows of one partition it has in hand at most.
        concurrency: how many it publishes at once, all of different keys. A sync relay publishes one at a time.
        lease: how long it may be silent before another relay takes its partitions, in seconds. It renews at a third of that, or of
            what a slow answer left.
        publish_timeout: how long one publish may take. An async one is cut off; a sync one is told by `remaining()`.
        settle_every: how many published rows of a partition may wait to be settled: what a crash publishes twice.
        settle_within: how long they may wait.
        max_attempts: how often one row is tried before it is buried.
        backoff: how long a row waits between two attempts; `FullJitter(0.5, cap=60.0)` by default.
        max_retry_after: the longest `Retry-After` that is waited for.
        max_takeovers: how many relays may die with one row in hand; with one more it is buried.
        exhausted: what becomes of a key whose row is buried: `PARK_KEY` (its later rows wait for a person) or `SKIP_TO_DLQ`.
        poll: the shortest and the longest wait between two looks into an empty outbox, in seconds.
        partitions_at_most: how many partitions it owns at most.

    Raises:
        ConfigurationError: if one cannot work, or two of them cannot work together.
    """

    __slots__ = (
        "backoff",
        "batch",
        "concurrency",
        "exhausted",
        "lease",
        "max_attempts",
        "max_retry_after",
        "max_takeovers",
        "partitions_at_most",
        "poll_least",
        "poll_most",
        "publish_timeout",
        "settle_every",
        "settle_within",
        "store_backoff",
    )

    def __init__(
        self,
        *,
        batch: int = 200,
        concurrency: int = 16,
        lease: float | timedelta = 60.0,
        publish_timeout: float | timedelta = 0.25,
        settle_every: int = 50,
        settle_within: float | timedelta = 1.0,
        max_attempts: int = 10,
        backoff: Backoff | None = None,
        max_retry_after: float | timedelta = 60.0,
        max_takeovers: int = 3,
        exhausted: Exhausted = Exhausted.PARK_KEY,
        poll: tuple[float, float] = (0.05, 5.0),
        partitions_at_most: int = _MOST_PARTITIONS,
    ) -> None:
        self.batch: int = positive_count("batch", batch, most=MOST_AT_ONCE)
        self.concurrency: int = positive_count("concurrency", concurrency, most=MOST_AT_ONCE)
        self.lease: float = seconds_of("lease", lease)
        self.publish_timeout: float = seconds_of("publish_timeout", publish_timeout)
        self._refuse_overlong_batches()
        self.settle_every: int = positive_count("settle_every", settle_every, most=MOST_AT_ONCE)
        self.settle_within: float = seconds_of("settle_within", settle_within, zero=True)
        self.max_attempts: int = positive_count("max_attempts", max_attempts, most=100_000)
        if backoff is not None and not (callable(getattr(backoff, "wait", None)) and hasattr(backoff, "cap")):
            refuse("backoff", backoff, "a schedule with `wait` and `cap`, such as FullJitter(base=0.5, cap=60.0)")
        self.backoff: Backoff = FullJitter(0.5, cap=60.0) if backoff is None else backoff
        self.max_retry_after: float = seconds_of("max_retry_after", max_retry_after, zero=True)
        self.max_takeovers: int = max_takeovers
        self.exhausted: Exhausted = exhausted
        least, most = _poll(poll)
        self.poll_least: float = least
        self.poll_most: float = most
        self.partitions_at_most: int = positive_count("partitions_at_most", partitions_at_most, most=_MOST_PARTITIONS)
        self.store_backoff: Backoff = FullJitter(0.1, cap=min(5.0, self.lease / 6))
        self.terms()  # which checks the rest

    def _refuse_overlong_batches(self) -> None:
        longest = self.batch * self.publish_timeout
        if longest > self.lease:
            message = (
                f"batch={self.batch} and publish_timeout={self.publish_timeout:g} cannot work with lease={self.lease:g}: "
                f"one batch may take {longest:g} s, and its lease would run out under it, so that two relays published the same events. "
                f"Give batch <= {int(self.lease / self.publish_timeout)}, publish_timeout <= {self.lease / self.batch:g} "
                f"or lease >= {longest:g}"
            )
            raise ConfigurationError(message)
        if self.publish_timeout > self.lease / 2:
            refuse("publish_timeout", self.publish_timeout, f"at most half of the lease, {self.lease / 2:g} s: a lease outlasts a publish")

    def terms(self) -> LeaseTerms:
        """Return the terms on which partitions are claimed."""
        return LeaseTerms(lease=self.lease, window=self.batch, max_takeovers=self.max_takeovers, exhausted=self.exhausted)


def _poll(poll: object) -> tuple[float, float]:
    if not isinstance(poll, tuple) or len(poll) != 2:
        refuse("poll", poll, "the shortest and the longest wait between two looks, such as (0.05, 5.0)")
    least, most = seconds_of("poll[0]", poll[0]), seconds_of("poll[1]", poll[1])
    if least > most:
        refuse("poll", least, f"a shortest wait that is not longer than the longest ({most:g} s)")
    return least, most
