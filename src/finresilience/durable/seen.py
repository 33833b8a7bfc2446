"""What is known of a message that is delivered, perhaps not for the first time? Values that are true only if it is to be handled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, final

UNFINISHED: Final = "its last run did not end: the consumer may have died of this message"


@final
@dataclass(frozen=True, slots=True)
class Fresh:
    """Handle it now, in the same transaction: its marker is written, and true if and only if that transaction commits.

    Args:
        failures: how often it was handled before, and failed.
    """

    failures: int = 0

    def __bool__(self) -> Literal[True]:
        return True


@final
@dataclass(frozen=True, slots=True)
class Duplicate:
    """It was handled before: acknowledge it, and do nothing.

    Args:
        age: seconds since then.
    """

    age: float

    def __bool__(self) -> Literal[False]:
        return False


@final
@dataclass(frozen=True, slots=True)
class Underway:
    """Somebody else is handling it, or its entity, now: do not acknowledge it, and let it be delivered again.

    Args:
        retry_after: in seconds.
    """

    retry_after: float

    def __bool__(self) -> Literal[False]:
        return False


@final
@dataclass(frozen=True, slots=True)
class Stale:
    """A later event of the same entity was handled before: acknowledge it, and do nothing.

    Args:
        high_water: the highest position that was handled.
    """

    high_water: int

    def __bool__(self) -> Literal[False]:
        return False


@final
@dataclass(frozen=True, slots=True)
class Parked:
    """It failed too often, and waits for a person: acknowledge it, and do nothing.

    Args:
        failures: how often.
    """

    failures: int

    def __bool__(self) -> Literal[False]:
        return False


Seen: TypeAlias = Fresh | Duplicate | Underway | Stale | Parked


@final
@dataclass(frozen=True, slots=True)
class Counted:
    """How often a message has failed, and whether it is parked now."""

    failures: int
    parked: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedMessage:
    """A message that failed too often.

    Args:
        tenant: whose it is.
        group: which consumers.
        message_id: of the message.
        delivery_id: of the last delivery that failed, as the broker calls it.
        failures: how often it failed.
        reason: of the last failure, such as the class of the error.
        age: seconds since the first failure.
        idle: seconds since the last.
    """

    tenant: str = field(repr=False)
    group: str
    message_id: str = field(repr=False)
    delivery_id: str = ""
    failures: int = 0
    reason: str = field(default="", repr=False)
    age: float = 0.0
    idle: float = 0.0
