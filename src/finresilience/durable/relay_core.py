"""What shall a relay do next? A core: it is told the time, its luck and what happened, and answers with one step."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias, final

from finresilience.durable.outbox import MOST_AT_ONCE, Reason
from finresilience.durable.relay_steps import (
    Bury,
    Claim,
    Fetch,
    Mark,
    Postpone,
    Publish,
    Release,
    Renew,
    Settle,
    Step,
    Stop,
    Wait,
)
from finresilience.outcome import NON_RETRYABLE, RETRYABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from finresilience.durable.messages import OutboxRow
    from finresilience.durable.outbox import Batch, Failure, FencedError, Leased, PartitionLease
    from finresilience.durable.relay_steps import RelaySettings
    from finresilience.outcome import Verdict

Line: TypeAlias = tuple[str | None, str]  # a tenant and a key, whose rows keep their order

_PATIENCE: Final = 3  # how often the store is asked on the way out


@final
class Held:
    """One partition that the relay owns, and what it has in hand of it."""

    __slots__ = (
        "answers",
        "confirmed",
        "flying",
        "lease",
        "look",
        "marked",
        "queue",
        "renew_at",
        "settle_at",
        "suspect",
        "unheard",
        "until",
    )

    def __init__(self, lease: PartitionLease, *, asked_at: float, now: float) -> None:
        self.lease: PartitionLease = lease
        self.look: bool = True  # whether to look for rows
        self.queue: deque[OutboxRow] = deque()
        self.flying: int = 0  # rows that are being published
        self.confirmed: list[int] = []  # published, and not settled yet
        self.settle_at: float = 0.0
        self.suspect: bool = False  # whether the row in the queue is one that a relay may have died of
        self.marked: bool = False  # whether the store knows that it is about to be delivered
        self.unheard: int = 0
        self.answers: deque[Postpone | Bury] = deque()  # what the store must still be told
        self.granted(asked_at=asked_at, now=now)

    def granted(self, *, asked_at: float, now: float) -> None:
        """Believe in the lease from when it was asked for: never longer than the store does."""
        self.until: float = asked_at + self.lease.seconds
        # A third of the lease, or of what the answer left of it: over a slow line it would renew for ever, and publish nothing.
        self.renew_at: float = max(asked_at + self.lease.seconds / 3, now + (self.until - now) / 3)

    @property
    def idle(self) -> bool:
        """Whether nothing of it is in hand."""
        return not (self.queue or self.flying or self.confirmed or self.answers)


class RelayCore:
    """Decide a relay's steps, so that rows of a key are published in order, each at least once, by whoever holds the partition.

    A core: it never waits and never looks at a clock. Not thread-safe: one shell drives it. Each step that `next` returns is done by the
    shell, which then tells how it ended, before it asks again.
    """

    def __init__(self, settings: RelaySettings, *, until_idle: bool = False, concurrency: int | None = None) -> None:
        self._settings = settings
        self._width = settings.concurrency if concurrency is None else concurrency
        self._until_idle = until_idle
        self._held: dict[int, Held] = {}
        self._share = 0
        self._claim_at = float("-inf")
        self._poll_at = float("-inf")
        self._empty_looks = 0
        self._quiet_until = float("-inf")  # no store call before: the store failed
        self._store_failures = 0
        self._hold_until = float("-inf")  # no publishing before: the publisher refused
        self._refusals = 0
        self.unreached: dict[int, int] = {}  # how often each row did not reach the broker, by seq; the shell keeps it from run to run
        self._leaving = False
        self._pressing = False  # the wave is to end: the store must be told something, or the publisher left alone
        self._press_at = float("inf")  # or then
        self._turn = 0
        self.fenced_by: FencedError | None = None

    @property
    def held(self) -> tuple[int, ...]:
        """The partitions that the relay owns."""
        return tuple(self._held)

    @property
    def leaving(self) -> bool:
        """Whether it only tidies up from now on."""
        return self._leaving

    def leave(self) -> None:
        """Publish no more: settle what is confirmed, give everything back, and stop."""
        self._leaving = True
        for held in self._held.values():
            held.queue.clear()
            held.flying = 0
        self._quiet_until = float("-inf")

    def wake(self) -> None:
        """Look for rows now."""
        self._empty_looks = 0
        self._poll_at = float("-inf")

    # --- the next step ---------------------------------------------------------------------------------------------------

    def next(self, now: float, u: float) -> Step:
        """Return what to do now. `u` is a chance in [0, 1)."""
        if self._leaving:
            return self._tidy()
        if now < self._quiet_until:
            return Wait(self._quiet_until - now)
        if self._poll_at <= now and not self._until_idle:
            self._poll(now, u)
        step = self._renewal(now) or self._report(now) or self._claim(now) or self._shed() or self._fetch(now) or self._publish(now)
        if step is not None:
            return step
        if self._until_idle and self._share and all(held.idle and not held.look for held in self._held.values()):
            self.leave()
            return self._tidy()
        return Wait(max(0.0, min(self._alarms(now)) - now))

    def _alarms(self, now: float) -> Iterator[float]:
        """Yield when there may be something to do."""
        yield self._claim_at
        if not self._until_idle:
            yield self._poll_at
        if self._hold_until > now:
            yield self._hold_until
        for held in self._held.values():
            yield held.renew_at
            if held.confirmed:
                yield held.settle_at

    def _poll(self, now: float, u: float) -> None:
        """Look into every partition, and then again after a while that grows as long as there is nothing."""
        for held in self._held.values():
            held.look = True
        settings = self._settings
        wait = min(settings.poll_most, settings.poll_least * 2.0 ** min(self._empty_looks, 30))
        self._empty_looks += 1
        self._poll_at = now + wait * (0.5 + 0.5 * u)

    def _renewal(self, now: float) -> Step | None:
        return next((Renew(held.lease) for held in self._held.values() if now >= held.renew_at), None)

    def _report(self, now: float) -> Step | None:
        """Tell the store what it must know: failures at once; what is confirmed, by the count, by age, or at the end of a batch."""
        for held in self._held.values():
            if held.answers:
                return held.answers[0]
            done = not held.queue and not held.flying
            if held.confirmed and (done or len(held.confirmed) >= self._settings.settle_every or now >= held.settle_at):
                return Settle(held.lease, tuple(held.confirmed))
        return None

    def _claim(self, now: float) -> Step | None:
        if now < self._claim_at:
            return None
        return Claim(max(0, self._settings.partitions_at_most - len(self._held)))

    def _shed(self) -> Step | None:
        """Give back a partition with nothing in hand, if another relay should have it."""
        if len(self._held) <= max(1, self._share):
            return None
        return next((Release(held.lease) for held in self._held.values() if held.idle), None)

    def _fetch(self, now: float) -> Step | None:
        for held in self._held.values():
            if held.look and held.idle and now < held.until:
                return Fetch(held.lease, self._settings.batch)
        return None

    def _publish(self, now: float) -> Step | None:
        """Take a wave of rows, by their keys, whose lease outlasts the time that a publish may take; or one suspect."""
        if now < self._hold_until:
            return None
        self._turn += 1
        loaded = [held for held in self._held.values() if held.queue]
        plain = [held for held in loaded if not held.suspect]
        if len(plain) < len(loaded) and (not plain or self._turn % 2):
            return self._deliver([held for held in loaded if held.suspect], now)
        lines: dict[Line, list[OutboxRow]] = {}
        room = self._settings.batch
        for n in range(len(plain)):
            held = plain[(self._turn + n) % len(plain)]
            if not room:
                break
            if not self._outlasts(held, now):
                return self._wave(lines, now) if lines else Renew(held.lease)
            room -= self._load(held, lines, room)
        return self._wave(lines, now) if lines else None

    def _wave(self, lines: dict[Line, list[OutboxRow]], now: float) -> Publish:
        self._pressing = False
        self._press_at = min((moment for moment in self._alarms(now) if moment > now), default=float("inf"))
        return Publish(tuple(map(tuple, lines.values())), self._width)

    def may_publish(self, row: OutboxRow, now: float) -> bool:
        """Return whether the next row of a wave may be handed to the publisher now. If not, it is `left`, and all behind it."""
        if self._pressing or self._leaving or now >= self._press_at:
            return False
        held = self._held.get(row.part)
        return held is not None and self._outlasts(held, now)

    def left(self, rows: Iterable[OutboxRow]) -> None:
        """Take back the rows of a wave that were not handed out: something else is to be done first."""
        for row in reversed(tuple(rows)):
            held = self._landed(row)
            if held is not None and not self._leaving:
                held.queue.appendleft(row)

    def dropped(self, rows: Iterable[OutboxRow]) -> None:
        """Let go of the rows behind one that failed: they come again, in order, with the next batch."""
        for row in rows:
            self._landed(row)

    def _deliver(self, suspects: list[Held], now: float) -> Step:
        """Deliver one suspect alone, marked, with all else settled: if it kills us, it alone is blamed, and little comes twice."""
        for held in self._held.values():
            if held.confirmed:
                return Settle(held.lease, tuple(held.confirmed))
        held = next((one for one in suspects if one.marked), suspects[self._turn % len(suspects)])
        if not self._outlasts(held, now):
            return Renew(held.lease)
        if not held.marked:
            return Mark(held.lease, held.queue[0].seq)
        lines: dict[Line, list[OutboxRow]] = {}
        self._load(held, lines, 1)
        held.marked = False
        return self._wave(lines, now)

    def _outlasts(self, held: Held, now: float) -> bool:
        return now + self._settings.publish_timeout <= held.until

    def _load(self, held: Held, lines: dict[Line, list[OutboxRow]], room: int) -> int:
        taken = min(room, len(held.queue))
        for _ in range(taken):
            row = held.queue.popleft()
            lines.setdefault(row.line, []).append(row)
        held.flying += taken
        return taken

    def _tidy(self) -> Step:
        for held in self._held.values():
            if held.answers:
                return held.answers[0]
            if held.confirmed:
                return Settle(held.lease, tuple(held.confirmed))
            return Release(held.lease)
        return Stop()

    # --- what the store said ---------------------------------------------------------------------------------------------

    def claimed(self, claimed: Leased, *, asked_at: float, now: float, u: float) -> None:
        """Own these partitions from now on."""
        self._store_failures = 0
        for lease in claimed.leases:
            self._held[lease.part] = Held(lease, asked_at=asked_at, now=now)
        self._share = claimed.share
        pause = self._settings.lease / 3
        self._claim_at = now + min(pause, self._settings.poll_most) * (0.5 + 0.5 * u)

    def renewed(self, lease: PartitionLease, *, asked_at: float, now: float) -> None:
        """Believe in the lease anew."""
        held = self._heard(lease)
        if held is not None:
            held.granted(asked_at=asked_at, now=now)

    def fetched(self, lease: PartitionLease, batch: Batch, *, now: float) -> None:
        """Have these rows in hand."""
        held = self._heard(lease)
        if held is None or self._leaving:
            return
        held.queue.extend(batch.rows)
        held.suspect, held.marked = batch.suspect, False
        held.look = bool(batch.rows)
        if batch.rows:
            self._empty_looks = 0
            self._poll_at = min(self._poll_at, now + self._settings.poll_least)

    def marked(self, lease: PartitionLease) -> None:
        """Deliver the suspect now: the store knows of it."""
        held = self._heard(lease)
        if held is not None:
            held.marked = True

    def settled(self, lease: PartitionLease, published: tuple[int, ...]) -> None:
        """Forget what the store has noted as published."""
        held = self._heard(lease)
        if held is not None:
            gone = set(published)
            held.confirmed = [seq for seq in held.confirmed if seq not in gone]

    def reported(self, lease: PartitionLease) -> None:
        """Forget the failure that the store has noted."""
        held = self._heard(lease)
        if held is not None and held.answers:
            held.answers.popleft()

    def released(self, lease: PartitionLease) -> None:
        """Own this partition no more."""
        if self._heard(lease) is not None:
            del self._held[lease.part]

    def fenced(self, lease: PartitionLease, error: FencedError, *, releasing: bool) -> bool:
        """Another relay owns it: leave the partition as it is, tidy up the others, and stop. Return False if we had given it back.

        A partition is given back with nothing in hand; if the store did so and its answer was lost, we are told so now.
        """
        held = self._held.pop(lease.part) if self._of(lease) is not None else None
        if releasing and held is not None and held.unheard:
            return False
        if self.fenced_by is None:
            self.fenced_by = error
        self.leave()
        return True

    def store_failed(self, lease: PartitionLease | None, *, now: float, u: float) -> float:
        """Leave the store alone for a while, and return how long. Nothing is forgotten: each step may be done twice."""
        held = None if lease is None else self._of(lease)
        if held is not None:
            held.unheard += 1
        wait, _ = self._settings.store_backoff.wait(min(self._store_failures, 64), u, 0.0)
        self._store_failures += 1
        self._quiet_until = now + wait
        return wait

    def forsake(self, lease: PartitionLease) -> None:
        """On the way out, the store could not be told: ask it a few times more, then leave the partition to run out."""
        held = self._of(lease)
        if held is not None:
            held.unheard += 1
            if held.unheard >= _PATIENCE:
                del self._held[lease.part]

    def _heard(self, lease: PartitionLease) -> Held | None:
        self._store_failures = 0
        held = self._of(lease)
        if held is not None:
            held.unheard = 0
        return held

    def _of(self, lease: PartitionLease) -> Held | None:
        held = self._held.get(lease.part)
        return held if held is not None and held.lease.epoch == lease.epoch else None

    # --- what the publisher said -----------------------------------------------------------------------------------------

    def published(self, row: OutboxRow, *, now: float) -> None:
        """The broker has it."""
        self._refusals = 0
        if self.unreached:
            self.unreached.pop(row.seq, None)
        held = self._landed(row)
        if held is not None:
            if not held.confirmed:
                held.settle_at = now + self._settings.settle_within
                self._press_at = min(self._press_at, held.settle_at)
            held.confirmed.append(row.seq)
            if len(held.confirmed) >= self._settings.settle_every:
                self._pressing = True

    def failed(self, row: OutboxRow, verdict: Verdict, failure: Failure, *, u: float) -> Postpone | Bury | None:
        """It was not published, or nobody knows: bury it if the answer is no or every attempt is used up, else try again later."""
        self._refusals = 0
        held = self._landed(row)
        if held is None:
            return None
        self._drop_line(held, row)
        settings = self._settings
        answer: Postpone | Bury
        counted = verdict.classification is not RETRYABLE  # else the broker never had it: an outage must bury nothing
        if verdict.classification is NON_RETRYABLE or (counted and row.attempts + 1 >= settings.max_attempts):
            reason = Reason.REFUSED if verdict.classification is NON_RETRYABLE else Reason.EXHAUSTED
            answer = Bury(held.lease, row.seq, reason, failure)
        else:
            wait, _ = settings.backoff.wait(row.attempts + self._not_reached(row.seq, counted=counted), u, 0.0)
            if verdict.retry_after is not None:
                wait = min(verdict.retry_after, settings.max_retry_after)
            answer = Postpone(held.lease, row.seq, wait, failure, counted=counted)
        held.answers.append(answer)
        self._pressing = True
        return answer

    def _not_reached(self, seq: int, *, counted: bool) -> int:
        """Return how often this row did not reach the broker before, as far as this relay remembers, so that it waits longer each time."""
        before = self.unreached.pop(seq, 0)
        if counted:
            return 0
        if len(self.unreached) >= MOST_AT_ONCE:
            self.unreached.clear()
        self.unreached[seq] = before + 1
        return before

    def refused(self, row: OutboxRow, retry_after: float | None, failure: Failure, *, now: float, u: float) -> Postpone | None:
        """Our own policy did not send it: nobody's failure, so no attempt is counted, and the publisher is left alone for a while."""
        held = self._landed(row)
        if held is None:
            return None
        self._drop_line(held, row)
        settings = self._settings
        wait = min(settings.poll_most if retry_after is None else retry_after, settings.max_retry_after)
        pause = min(settings.poll_most, settings.poll_least * 2.0 ** min(self._refusals, 30)) * (0.5 + 0.5 * u)
        self._refusals += 1
        self._hold_until = max(self._hold_until, now + pause)
        answer = Postpone(held.lease, row.seq, max(wait, pause), failure, counted=False)
        held.answers.append(answer)
        self._pressing = True
        return answer

    def _landed(self, row: OutboxRow) -> Held | None:
        held = self._held.get(row.part)
        if held is not None and held.flying:
            held.flying -= 1
        return held

    def _drop_line(self, held: Held, row: OutboxRow) -> None:
        """Later rows of the key must not overtake it: they come again, in order, with the next batch."""
        held.queue = deque(other for other in held.queue if other.line != row.line)
