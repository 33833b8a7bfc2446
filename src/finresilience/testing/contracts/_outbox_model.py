"""A model of an outbox: what its laws say, written as plainly as possible."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from finresilience.testing.contracts._outbox_base import LEASE, TERMS

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Event:
    """What the model knows of a row."""

    place: int
    key: str
    due: float
    attempts: int = 0
    takeovers: int = 0
    suspect: bool = False
    marked: bool = False
    crashed: bool = False


@dataclass
class Part:
    """What the model knows of a partition."""

    owner: str = ""
    epoch: int = 0
    until: float = 0.0
    fetched: bool = False
    rows: list[Event] = field(default_factory=list[Event])


class Model:
    """Rows in order, owners with leases, and dead letters."""

    def __init__(self, partitions: int) -> None:
        self.now = 0.0
        self.parts: list[Part] = [Part() for _ in range(partitions)]
        self.dead: list[tuple[Part, Event]] = []
        self.published = 0
        self.living: dict[str, float] = {}

    def due(self, part: Part, at: float) -> Iterator[Event]:
        """Yield what may be published at this time."""
        held = {row.key for _, row in self.dead}
        for row in sorted(part.rows, key=lambda row: row.place):
            if row.due > at:
                held.add(row.key)
            if row.key not in held:
                yield row

    def batch(self, part: Part, limit: int) -> list[Event]:
        """Return what a fetch hands out now: one suspect, or rows that nobody suspects."""
        rows: list[Event] = []
        held: set[str] = set()
        for row in self.due(part, self.now):
            if row.suspect and not rows:
                part.fetched = True
                return [row]
            if row.suspect:
                held.add(row.key)
            elif row.key not in held:
                rows.append(row)
        part.fetched = part.fetched or bool(rows)
        return rows[:limit]

    def free(self) -> list[int]:
        """Return the partitions that nobody holds."""
        return [number for number, part in enumerate(self.parts) if not part.owner or self.now >= part.until]

    def hear_of(self, owner: str) -> None:
        """Note that this relay lives."""
        self.living = {name: until for name, until in self.living.items() if self.now < until} | {owner: self.now + LEASE}

    def share(self) -> int:
        """Return how many partitions each living relay may have."""
        return -(-len(self.parts) // len(self.living))

    def owned_by(self, owner: str) -> int:
        """Return how many partitions it owns now."""
        return sum(part.owner == owner and self.now < part.until for part in self.parts)

    def give(self, number: int, owner: str, epoch: int) -> bool:
        """Let this owner have a partition, and return whether the one before died with it."""
        part = self.parts[number]
        unclean = bool(part.owner)
        if unclean:
            self._blame(part)
        part.owner, part.epoch, part.until, part.fetched = owner, epoch, self.now + LEASE, False
        return unclean

    def _blame(self, part: Part) -> None:
        marked = [row for row in part.rows if row.marked]
        for row in marked:
            row.marked, row.takeovers, row.due = False, row.takeovers + 1, self.now + LEASE
            if row.takeovers > TERMS.max_takeovers:
                row.crashed = True
                self.bury(part, row)
        if not marked and part.fetched:
            for row in [row for row in self.due(part, part.until) if not row.suspect][: TERMS.window]:
                row.suspect, row.takeovers = True, max(1, row.takeovers)

    def bury(self, part: Part, row: Event) -> None:
        """Move a row to the dead letters."""
        part.rows.remove(row)
        self.dead.append((part, row))

    def release(self, number: int) -> None:
        """Let a partition be free."""
        part = self.parts[number]
        owner, part.owner = part.owner, ""
        for row in part.rows:
            row.marked = False
        if all(other.owner != owner for other in self.parts):
            self.living.pop(owner, None)

    def revive(self, which: int) -> None:
        """Put a dead letter back."""
        part, row = self.dead.pop(which)
        row.due, row.attempts, row.takeovers, row.suspect, row.crashed = self.now, 0, 0, row.crashed, False
        part.rows.append(row)
