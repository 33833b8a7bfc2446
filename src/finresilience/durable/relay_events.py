"""What a relay tells its listeners. Plain data: names, numbers and class names, never keys, payloads or messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from finresilience.events import Event

if TYPE_CHECKING:
    from finresilience.outcome import Classification


@final
class PartitionTakenOver(Event):
    """A relay died with this partition, and ours has it now."""

    __slots__ = ("epoch", "part")

    part: int
    epoch: int


@final
class RelayFenced(Event):
    """The store refused our epoch: another relay owns the partition. Ours tidies up and stops."""

    __slots__ = ("doing", "epoch", "part")

    part: int
    epoch: int
    doing: str


@final
class PublishFailed(Event):
    """A row was not published, or nobody knows. It comes again after `delay` seconds; `attempt` counts from 1."""

    __slots__ = ("attempt", "classification", "delay", "error_type", "part", "seq")

    part: int
    seq: int
    classification: Classification
    error_type: str
    attempt: int
    delay: float


@final
class PublisherFailing(Event):
    """Nothing was published since `in_a_row` failures: told at the 1st, the 10th, the 100th and so on, until something is published."""

    __slots__ = ("classification", "error_type", "in_a_row")

    in_a_row: int
    classification: Classification
    error_type: str


@final
class MessageBuried(Event):
    """A row was moved to the dead letters. `reason` is why, `fingerprint` what failures of one cause have in common."""

    __slots__ = ("fingerprint", "part", "reason", "seq")

    part: int
    seq: int
    reason: str
    fingerprint: str


@final
class OutboxStoreFailed(Event):
    """The store did not answer; the relay asks again after `delay` seconds."""

    __slots__ = ("delay", "doing", "error_type")

    doing: str
    error_type: str
    delay: float


_WARNED: Final = (PartitionTakenOver, RelayFenced, PublisherFailing, MessageBuried, OutboxStoreFailed)


def log_relay_event(event: Event, /) -> None:
    """Warn on the stdlib logger `finresilience` of what a person should know with no set-up at all."""
    if isinstance(event, _WARNED):
        import logging

        logging.getLogger("finresilience").warning("%s: %s", event.name, _sentence(event), extra={"finresilience_event": event})


def _sentence(event: PartitionTakenOver | RelayFenced | PublisherFailing | MessageBuried | OutboxStoreFailed) -> str:
    if isinstance(event, PartitionTakenOver):
        return f"took over partition {event.part} (epoch {event.epoch}): its relay died"
    if isinstance(event, RelayFenced):
        return f"{event.doing} of partition {event.part} was refused: epoch {event.epoch} is over; the relay stops"
    if isinstance(event, PublisherFailing):
        times = "once" if event.in_a_row == 1 else f"{event.in_a_row} times in a row"
        return f"publishing has failed {times} ({event.error_type}, {event.classification}); nothing is lost, and it is tried again"
    if isinstance(event, MessageBuried):
        return f"row {event.seq} of partition {event.part} is a dead letter: {event.reason}, {event.fingerprint}"
    return f"the outbox did not answer ({event.doing}: {event.error_type}); asking again in {event.delay:.2f} s"
