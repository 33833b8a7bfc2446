"""Rows of a memory store, some of them kept aside until the transaction that wrote them ends.

Isolation is read committed. A row that an open transaction has written is locked for everybody else; nothing waits for it:
whoever meets a locked row is told so. A transaction that is forgotten while it is open is as good as rolled back.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, final
from weakref import ReferenceType, WeakSet, ref

from finresilience._checks import refuse
from finresilience.durable.errors import StoreBusyError
from finresilience.durable.memory_transaction import MemoryTransaction, TransactionState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

K = TypeVar("K")
V = TypeVar("V")

GONE: Final = object()  # stands for a row that a transaction is about to delete


@final
class StoreLock:
    """A lock that a forked child finds free: the thread that held it there does not exist in the child."""

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = Lock()
        _locks.add(self)

    def renew(self) -> None:
        """Begin anew in a forked child."""
        self._lock = Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        self._lock.release()


_locks: Final[WeakSet[StoreLock]] = WeakSet()


def _after_in_child() -> None:
    for lock in list(_locks):
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child)


@final
class Table(Generic[K, V]):
    """Rows by key, of values that never change. Every method is called while the store holds `lock`.

    Args:
        lock: the store's; taken here when a transaction ends.
    """

    __slots__ = ("_lock", "_locked", "_rows")

    def __init__(self, lock: StoreLock) -> None:
        self._lock = lock
        self._rows: dict[K, V] = {}
        self._locked: dict[K, ReferenceType[_Aside[K, V]]] = {}  # weak: only its transaction keeps what is kept aside

    def get(self, key: K, within: MemoryTransaction | None = None) -> V | None:
        """Return the row as this transaction sees it, or as everybody does."""
        mine: Any = None if within is None else within.enlist(self, self._part).rows.get(key)
        if mine is not None:
            return None if mine is GONE else cast("V", mine)
        return self._rows.get(key)

    def is_held(self, key: K, within: MemoryTransaction | None = None) -> bool:
        """Return whether somebody else's open transaction has written this row."""
        known = self._locked.get(key)
        owner = None if known is None else known()
        if owner is None:
            self._locked.pop(key, None)  # its transaction was forgotten
            return False
        return within is None or owner is not within.enlist(self, self._part)

    def put(self, key: K, row: V | None, within: MemoryTransaction | None = None) -> None:
        """Write a row, or delete it with None.

        Raises:
            StoreBusyError: if somebody else's open transaction has written this row.
        """
        if self.is_held(key, within):
            raise StoreBusyError
        if within is not None:
            part = within.enlist(self, self._part)
            part.rows[key] = GONE if row is None else row
            self._locked[key] = ref(part)
        elif row is None:
            self._rows.pop(key, None)
        else:
            self._rows[key] = row

    def all(self) -> Iterator[tuple[K, V]]:
        """Yield the rows that everybody sees and nobody is changing; rows may be written meanwhile."""
        for key, row in list(self._rows.items()):
            if not self.is_held(key):
                yield key, row

    def __len__(self) -> int:
        """Return how many rows there are, counting those that open transactions are about to add."""
        for key in [key for key, known in self._locked.items() if known() is None]:
            del self._locked[key]  # its transaction was forgotten
        return len(self._rows) + sum(key not in self._rows for key in self._locked)

    def _part(self) -> _Aside[K, V]:
        return _Aside(self._lock, self._rows, self._locked)


@final
class _Aside(Generic[K, V]):
    """What one open transaction has written into a table."""

    __slots__ = ("__weakref__", "_lock", "_locked", "_table", "rows")

    def __init__(self, lock: StoreLock, table: dict[K, V], locked: dict[K, ReferenceType[_Aside[K, V]]]) -> None:
        self._lock = lock
        self._table = table
        self._locked = locked
        self.rows: dict[K, Any] = {}

    def prepare(self) -> None:
        """Nothing can be in the way: each row is locked since it was written."""

    def commit(self) -> None:
        """Let everybody see the rows."""
        with self._lock:
            for key, row in self.rows.items():
                if row is GONE:
                    self._table.pop(key, None)
                else:
                    self._table[key] = row
            self._unlock()

    def rollback(self) -> None:
        """Forget the rows."""
        with self._lock:
            self._unlock()

    def _unlock(self) -> None:
        for key in self.rows:
            self._locked.pop(key, None)
        self.rows = {}


def checked_transaction(within: object) -> MemoryTransaction | None:
    """Return `within` if a row can be written in it: an open `MemoryTransaction`, or None for a transaction of the store's own."""
    if within is None:
        return None
    if not isinstance(within, MemoryTransaction):
        refuse("within", within, "a MemoryTransaction, as store.transaction() opens one")
    if within.state is not TransactionState.OPEN:
        refuse("within", within, "a transaction that is open: this one is over")
    return within
