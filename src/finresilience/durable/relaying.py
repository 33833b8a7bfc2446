"""What a relay is, whether it is awaited or not: its numbers, its counts, and how the core hears of what happened."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from finresilience._checks import name_of, refuse, seconds_of
from finresilience.classify.classifier import ErrorClassifier
from finresilience.crash_points import declare
from finresilience.durable.failures import failure_of, failure_told_by
from finresilience.durable.outbox import FencedError
from finresilience.durable.relay_core import RelayCore
from finresilience.durable.relay_events import (
    MessageBuried,
    OutboxStoreFailed,
    PartitionTakenOver,
    PublisherFailing,
    PublishFailed,
    RelayFenced,
    log_relay_event,
)
from finresilience.durable.relay_steps import Bury, Claim, Fetch, Mark, Postpone, RelayNumbers, RelaySettings, Release, Renew, Settle, Step
from finresilience.errors import ConfigurationError, RefusedError
from finresilience.policies.base import Policy, chance
from finresilience.policies.timeout import Timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from datetime import timedelta

    from typing_extensions import Unpack

    from finresilience.clock import Clock
    from finresilience.durable.messages import OutboxRow
    from finresilience.durable.outbox import AsyncOutboxStore, OutboxStore
    from finresilience.events import Listener
    from finresilience.outcome import Verdict
    from finresilience.policies.waiting import AsyncioWaiter, ThreadWaiter, TrioWaiter

# Mistakes in a store's code: to ask again would be to make them again, for ever and in silence.
_MISTAKES: Final = (TypeError, AttributeError, NameError, NotImplementedError, AssertionError, ConfigurationError)
_TELLING: Final = frozenset(10**n for n in range(12))
_COUNTED: Final = ("published", "settled", "failed", "refused", "buried", "fenced", "takeovers", "store_failures")

PUBLISHED: Final = declare("relay.published", "the broker has the row, and the store does not know it yet")
ASKING: Final = declare("relay.asking", "the store is about to be asked or told something, and has not heard it")
HEARD: Final = declare("relay.heard", "the store has done what it was asked, and the relay does not know it yet")


class Relaying(Policy):
    """The part of `Relay` that waits for nothing. Internal."""

    core: ClassVar[type[RelayCore]] = RelayCore  # what decides

    def __init__(
        self,
        store: OutboxStore[Any] | AsyncOutboxStore[Any],
        publisher: Callable[[OutboxRow], object],
        *,
        name: str = "relay",
        owner: str | None = None,
        classify: ErrorClassifier | None = None,
        drain_timeout: float | timedelta = 5.0,
        clock: Clock | None = None,
        chance: Callable[[], float] = chance,
        listeners: Iterable[Listener] = (log_relay_event,),
        **numbers: Unpack[RelayNumbers],
    ) -> None:
        super().__init__(name, clock=clock, chance=chance, listeners=listeners)
        if not callable(getattr(store, "claim", None)):
            refuse("store", store, "an OutboxStore or an AsyncOutboxStore")
        if not callable(publisher):
            refuse("publisher", publisher, "a function that takes one OutboxRow")
        if classify is not None and not isinstance(classify, ErrorClassifier):
            refuse("classify", classify, "an ErrorClassifier")
        self.settings: RelaySettings = RelaySettings(**numbers)
        self._store: Any = store
        self._publisher = publisher
        self._rules = ErrorClassifier() if classify is None else classify
        self._drain_timeout = seconds_of("drain_timeout", drain_timeout)
        self._timeout = Timeout(self.settings.publish_timeout, exact=True, name=name, clock=clock, listeners=())
        self._terms = self.settings.terms()
        self._name_of_owner = _made_up(name) if owner is None else name_of("owner", owner)
        self._owner = self._name_of_owner
        self._core: RelayCore | None = None
        self._waiter: ThreadWaiter | AsyncioWaiter | TrioWaiter | None = None
        self._stopping = self._woken = self._misused = False
        self._runs = 0
        self._unreached: dict[int, int] = {}
        self._in_a_row = 0  # failures since anything was published
        self._counts = dict.fromkeys(_COUNTED, 0)

    # --- what others may do ----------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Look for rows now. From any thread or task; call it after a commit, and the wait for the next look is cut short."""
        self._woken = True
        waiter = self._waiter
        if waiter is not None:
            waiter.wake()

    def stop(self) -> None:
        """Let the run end: what is being published is finished and settled, and partitions are given back. From any thread or task."""
        self._stopping = True
        self.wake()

    def statistics(self) -> dict[str, int]:
        """Return what it has done so far, and how many partitions it owns now."""
        core = self._core
        return {**self._counts, "held": 0 if core is None else len(core.held)}

    # --- how the core is asked and told -------------------------------------------------------------------------------------------------

    @contextmanager
    def _running(
        self, waiter: ThreadWaiter | AsyncioWaiter | TrioWaiter, *, until_idle: bool, concurrency: int | None = None
    ) -> Generator[RelayCore]:
        with self._lock:
            if self._core is not None:
                message = f"{self.name} runs already: make a Relay for each run that shall go on at the same time"
                raise ConfigurationError(message)
            self._runs += 1
            core = self._core = self.core(self.settings, until_idle=until_idle, concurrency=concurrency)
            core.unreached = self._unreached
        self._waiter = waiter
        self._owner = f"{self._name_of_owner}/{self._runs}"  # a lease that an earlier run left behind is not ours to renew
        try:
            yield core
            if core.fenced_by is not None:
                raise core.fenced_by
        finally:
            self._core = self._waiter = None
            self._stopping = self._woken = self._misused = False

    def _next(self, core: RelayCore) -> Step:
        if self._stopping and not core.leaving:
            core.leave()
        if self._woken:
            self._woken = False
            core.wake()
        return core.next(self._now(), self._chance())

    def _request(self, step: Step) -> Callable[[], object]:
        """Return what to ask the store."""
        store = self._store
        if isinstance(step, Claim):
            return partial(store.claim, self._owner, at_most=step.at_most, terms=self._terms)
        if isinstance(step, Fetch):
            return partial(store.fetch, step.lease, limit=step.limit)
        if isinstance(step, Settle):
            return partial(store.settle, step.lease, step.published)
        if isinstance(step, Postpone):
            return partial(store.retry, step.lease, step.seq, after=step.after, failure=step.failure, counted=step.counted)
        if isinstance(step, Bury):
            exhausted = self.settings.exhausted
            return partial(store.bury, step.lease, step.seq, reason=step.reason, failure=step.failure, exhausted=exhausted)
        if isinstance(step, Mark):
            return partial(store.mark, step.lease, step.seq)
        if isinstance(step, Renew):
            return partial(store.renew, step.lease)
        return partial(store.release, cast("Release", step).lease)

    def _told(self, core: RelayCore, step: Step, answer: Any, asked_at: float) -> None:
        """Hand the store's answer to the core."""
        if isinstance(step, Claim):
            core.claimed(answer, asked_at=asked_at, now=self._now(), u=self._chance())
            for lease in answer.leases:
                if lease.unclean:
                    self._counts["takeovers"] += 1
                    self._publish(PartitionTakenOver(name=self.name, part=lease.part, epoch=lease.epoch))
        elif isinstance(step, Fetch):
            core.fetched(step.lease, answer, now=self._now())
        elif isinstance(step, Settle):
            self._counts["settled"] += answer
            core.settled(step.lease, step.published)
        elif isinstance(step, Postpone | Bury):
            core.reported(step.lease)
        elif isinstance(step, Mark):
            core.marked(step.lease)
        elif isinstance(step, Renew):
            core.renewed(step.lease, asked_at=asked_at, now=self._now())
        else:
            core.released(cast("Release", step).lease)

    def _not_told(self, core: RelayCore, step: Step, error: Exception) -> None:
        """Go on without the store's answer: stop where it fenced us off, else ask again, and never believe that it heard."""
        lease = getattr(step, "lease", None)
        if isinstance(error, FencedError) and lease is not None:
            if core.fenced(lease, error, releasing=isinstance(step, Release)):
                self._counts["fenced"] += 1
                self._publish(RelayFenced(name=self.name, part=error.part, epoch=error.epoch, doing=error.doing))
            return
        self._counts["store_failures"] += 1
        if core.leaving:
            if lease is not None:
                core.forsake(lease)
            return
        if isinstance(error, _MISTAKES):
            raise error
        delay = core.store_failed(lease, now=self._now(), u=self._chance())
        self._publish(OutboxStoreFailed(name=self.name, doing=type(step).__name__.lower(), error_type=type(error).__name__, delay=delay))

    def _answered(self, core: RelayCore, row: OutboxRow, answer: object) -> bool:
        """Tell the core, and return whether the row was published."""
        verdict = self._rules.value(answer)
        if verdict is None:
            self._counts["published"] += 1
            self._in_a_row = 0
            core.published(row, now=self._now())
            return True
        self._judged(core, row, verdict, failure_told_by(answer))
        return False

    def _failed(self, core: RelayCore, row: OutboxRow, error: Exception) -> None:
        if isinstance(error, RefusedError):
            self._counts["refused"] += 1
            core.refused(row, error.retry_after, failure_of(error), now=self._now(), u=self._chance())
        else:
            self._judged(core, row, self._rules.error(error), failure_of(error))

    def _judged(self, core: RelayCore, row: OutboxRow, verdict: Verdict, failure: Any) -> None:
        self._counts["failed"] += 1
        step = core.failed(row, verdict, failure, u=self._chance())
        if isinstance(step, Bury):
            self._counts["buried"] += 1
            self._publish(
                MessageBuried(name=self.name, part=row.part, seq=row.seq, reason=str(step.reason), fingerprint=failure.fingerprint)
            )
        elif step is not None:
            kind = failure.kind.rpartition(".")[2]
            self._in_a_row += 1
            if self._in_a_row in _TELLING:
                self._publish(
                    PublisherFailing(name=self.name, in_a_row=self._in_a_row, classification=verdict.classification, error_type=kind)
                )
            self._publish(
                PublishFailed(
                    name=self.name,
                    part=row.part,
                    seq=row.seq,
                    classification=verdict.classification,
                    error_type=kind,
                    attempt=row.attempts + 1,
                    delay=step.after,
                )
            )


def _made_up(name: str) -> str:
    from secrets import token_hex  # not from a seed: two processes must never share one

    return f"{name[:150]}-{token_hex(6)}"
