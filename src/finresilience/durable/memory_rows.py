"""What does a memory outbox hold? Rows in their order, who owns which partition, and what one transaction adds. Internal."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Final, final

from finresilience.durable.messages import OutboxRow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from finresilience.durable.memory_outbox import MemoryOutbox
    from finresilience.durable.messages import OutboxMessage

NOBODY: Final = ""


@final
class Row:
    """One row, as the store changes it."""

    __slots__ = (
        "attempts",
        "born",
        "created_at",
        "due",
        "in_hand",
        "message",
        "part",
        "published",
        "published_at",
        "seq",
        "suspect",
        "takeovers",
    )

    def __init__(self, seq: int, part: int, message: OutboxMessage, *, now: float, created_at: datetime) -> None:
        self.seq: int = seq
        self.part: int = part
        self.message: OutboxMessage = message
        self.created_at: datetime = created_at
        self.born: float = now
        self.due: float = now
        self.attempts: int = 0
        self.takeovers: int = 0
        self.suspect: bool = False  # a relay died while this may have been in its hands
        self.in_hand: int = 0  # the epoch that was delivering it as a suspect; 0 for none
        self.published: float | None = None
        self.published_at: datetime | None = None

    @property
    def line(self) -> tuple[str | None, str]:
        """Whose order it keeps."""
        return (self.message.tenant, self.message.key)

    def begin_anew(self, now: float) -> None:
        """Be as if it had never been tried."""
        self.due = now
        self.attempts = self.takeovers = self.in_hand = 0
        self.published = self.published_at = None

    def told(self) -> OutboxRow:
        """Return what others may see of it."""
        return OutboxRow(
            seq=self.seq,
            part=self.part,
            message=self.message,
            attempts=self.attempts,
            takeovers=self.takeovers,
            created_at=self.created_at,
        )


@final
class Partition:
    """The pending rows of one partition in order, and its owner."""

    __slots__ = ("_order", "_rows", "epoch", "fetched", "number", "owner", "until", "window")

    def __init__(self, number: int) -> None:
        self.number: int = number
        self.owner: str = NOBODY
        self.epoch: int = 0
        self.until: float = 0.0
        self.window: int = 0  # how many rows the owner may have in hand
        self.fetched: bool = False  # whether it has had any
        self._order: list[int] = []
        self._rows: dict[int, Row] = {}

    def put(self, row: Row) -> None:
        """Let it wait here, in its place."""
        insort(self._order, row.seq)
        self._rows[row.seq] = row

    def take(self, seq: int) -> Row | None:
        """Let it wait no longer, and return it if it did."""
        row = self._rows.pop(seq, None)
        if row is not None:
            del self._order[bisect_left(self._order, seq)]
        return row

    def get(self, seq: int) -> Row | None:
        """Return the row, if it waits here."""
        return self._rows.get(seq)

    def __iter__(self) -> Iterator[Row]:
        return map(self._rows.__getitem__, self._order)

    def __len__(self) -> int:
        return len(self._order)


@final
class Added:
    """What one transaction has added, seen by nobody until it commits."""

    __slots__ = ("_store", "rows")

    def __init__(self, store: MemoryOutbox) -> None:
        self._store = store
        self.rows: list[Row] = []

    def prepare(self) -> None:
        """Nothing can be in the way: ids were reserved when the rows were added."""

    def commit(self) -> None:
        """Let everybody see what was added."""
        self._store.commit(self.rows)

    def rollback(self) -> None:
        """Forget what was added."""
        self._store.rollback(self.rows)
