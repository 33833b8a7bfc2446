"""What do the two databases spell differently? Their clock, their lists, and the types that one of them lacks.

Instants are `timestamptz` in PostgreSQL and whole microseconds since 1970 in SQLite; ids are `uuid` there and 32 hex digits here, as
SQLAlchemy's own `Uuid` writes them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, final
from uuid import UUID

LONGEST: Final = 3_000_000_000.0  # seconds, most of a century: what is longer is as good as for ever, and no database counts it

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)


def at_most(seconds: float) -> float:
    """Return the seconds as a database can count them from now, either way."""
    return max(-LONGEST, min(LONGEST, seconds))


class Dialect(Protocol):
    """How one database spells what stores need."""

    @property
    def name(self) -> str:
        """What SQLAlchemy calls it."""
        ...

    @property
    def now(self) -> str:
        """The database's own clock, as it is when it is read."""
        ...

    def later(self, seconds: str, since: str | None = None) -> str:
        """`seconds` after an instant; after now by default."""
        ...

    def seconds(self, until: str, since: str) -> str:
        """How many seconds lie between two instants."""
        ...

    def among(self, column: str, parameter: str) -> str:
        """Whether a column is in a list of whole numbers."""
        ...

    def listed(self, numbers: list[int]) -> object:
        """A list of whole numbers, as a parameter."""
        ...

    def moment(self, value: Any) -> datetime:
        """An instant, as it was read."""
        ...

    def instant(self, moment: datetime) -> object:
        """An instant, as a parameter."""
        ...

    def id(self, value: Any) -> UUID:
        """An id, as it was read."""
        ...

    def parameter(self, value: UUID) -> object:
        """An id, as a parameter."""
        ...

    @property
    def locking(self) -> str:
        """Ends a SELECT whose rows are to be changed: rows that others hold are passed over."""
        ...


@final
@dataclass(frozen=True, slots=True)
class PostgreSQL:
    """PostgreSQL, from 13."""

    now: str = "clock_timestamp()"
    name: str = "postgresql"
    locking: str = "FOR UPDATE SKIP LOCKED"

    def later(self, seconds: str, since: str | None = None) -> str:
        return f"({since or self.now} + make_interval(secs => CAST({seconds} AS double precision)))"

    def seconds(self, until: str, since: str) -> str:
        return f"CAST(extract(epoch FROM {until} - {since}) AS double precision)"

    def among(self, column: str, parameter: str) -> str:
        return f"{column} = ANY(CAST({parameter} AS bigint[]))"

    def listed(self, numbers: list[int]) -> object:
        return numbers

    def moment(self, value: Any) -> datetime:
        told: datetime = value
        return told if told.tzinfo is UTC else told.astimezone(UTC)

    def instant(self, moment: datetime) -> object:
        return moment

    def id(self, value: Any) -> UUID:
        told: UUID = value
        return told

    def parameter(self, value: UUID) -> object:
        return value


@final
@dataclass(frozen=True, slots=True)
class SQLite:
    """SQLite, from 3.35, which returns what it wrote."""

    now: str = "CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000"
    name: str = "sqlite"
    locking: str = ""  # there is one writer, and it is we

    def later(self, seconds: str, since: str | None = None) -> str:
        return f"({since or self.now} + CAST({seconds} * 1000000 AS INTEGER))"

    def seconds(self, until: str, since: str) -> str:
        return f"(({until} - {since}) / 1000000.0)"

    def among(self, column: str, parameter: str) -> str:
        return f"{column} IN (SELECT value FROM json_each({parameter}))"

    def listed(self, numbers: list[int]) -> object:
        return json.dumps(numbers)

    def moment(self, value: Any) -> datetime:
        return EPOCH + timedelta(microseconds=value)

    def instant(self, moment: datetime) -> object:
        return (moment - EPOCH) // MICROSECOND

    def id(self, value: Any) -> UUID:
        return UUID(hex=value)

    def parameter(self, value: UUID) -> object:
        return value.hex


DIALECTS: Final[dict[str, Dialect]] = {"postgresql": PostgreSQL(), "sqlite": SQLite()}
