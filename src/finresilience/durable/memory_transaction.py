"""What does a caller own when there is no database? A transaction over memory stores: all of its writes are seen, or none.

One transaction may span several stores, so that an effect, its idempotency key and its event are written together.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeVar, final

from finresilience.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Participant(Protocol):
    """What one store keeps of one transaction until its end."""

    def prepare(self) -> None:
        """Raise if this store cannot commit; afterwards `commit` must not fail."""
        ...

    def commit(self) -> None:
        """Let everybody see what was written."""
        ...

    def rollback(self) -> None:
        """Forget what was written."""
        ...


P = TypeVar("P", bound=Participant)


@final
class TransactionState(StrEnum):
    """Where a transaction stands."""

    OPEN = "open"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"


@final
class MemoryTransaction:
    """The caller's own transaction over memory stores. A block that ends well commits; one that raises rolls back.

        with MemoryTransaction() as transaction:
            outbox.add(transaction, message)

    Works in `with` and in `async with`; nothing in it waits. It belongs to one thread or task at a time.
    """

    __slots__ = ("_parts", "state")

    def __init__(self) -> None:
        self._parts: dict[object, Participant] = {}
        self.state: TransactionState = TransactionState.OPEN

    def enlist(self, store: object, make: Callable[[], P]) -> P:
        """Return what `store` keeps of this transaction, made by `make` the first time.

        Raises:
            ConfigurationError: if the transaction is over.
        """
        self._must_be_open()
        part = self._parts.get(store)
        if part is None:
            part = self._parts[store] = make()
        return part  # type: ignore[return-value]  # a store enlists one kind of part  # pyright: ignore[reportReturnType]

    def commit(self) -> None:
        """Let all that was written be seen; if a store refuses, nothing is.

        Raises:
            ConfigurationError: if the transaction is over.
        """
        self._must_be_open()
        try:
            for part in self._parts.values():
                part.prepare()
        except BaseException:
            self.rollback()
            raise
        self.state = TransactionState.COMMITTED
        for part in self._parts.values():
            part.commit()

    def rollback(self) -> None:
        """Forget all that was written. A transaction that was rolled back before may be told again."""
        if self.state is TransactionState.COMMITTED:
            self._must_be_open()
        if self.state is TransactionState.OPEN:
            self.state = TransactionState.ROLLED_BACK
            for part in self._parts.values():
                part.rollback()

    def _must_be_open(self) -> None:
        if self.state is not TransactionState.OPEN:
            message = f"this MemoryTransaction is over ({self.state}): begin a new one for each unit of work"
            raise ConfigurationError(message)

    def _end(self, error: BaseException | None) -> None:
        if self.state is not TransactionState.OPEN:
            return  # the block ended it by itself
        if error is None:
            self.commit()
        else:
            self.rollback()

    def __enter__(self) -> MemoryTransaction:
        self._must_be_open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        self._end(error)

    async def __aenter__(self) -> MemoryTransaction:
        self._must_be_open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        self._end(error)

    def __repr__(self) -> str:
        """Show the state, and nothing that was written."""
        return f"<MemoryTransaction {self.state}>"
