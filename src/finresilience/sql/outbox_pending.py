"""When is what a transaction adds written? Just before it commits, all at once; and what a savepoint takes back is taken back here too.

So adding needs no await, in an AsyncSession as in a Session, and the locks of the keys are held for as long as a commit takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, final
from weakref import WeakKeyDictionary

from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from finresilience._checks import refuse
from finresilience.durable.errors import StoreFullError
from finresilience.sql.links import carry_out, connection_link
from finresilience.sql.within import checked, open_connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Table

    from finresilience.durable.messages import OutboxMessage
    from finresilience.sql.statements import Deed

    Write: TypeAlias = "Callable[[str, list[OutboxMessage], list[OutboxMessage]], Deed[None]]"

AT_MOST: Final = 10_000  # messages of one transaction
_WANTED: Final = "a Session, an AsyncSession, a Connection or an AsyncConnection in its transaction"


@final
class Pending:
    """What open transactions have added to one outbox, and not written yet."""

    def __init__(self, table: Table, write: Write) -> None:
        self._table = table
        self._write = write
        self._by_session: WeakKeyDictionary[Session, _Waiting] = WeakKeyDictionary()
        self._by_connection: WeakKeyDictionary[Connection, _Waiting] = WeakKeyDictionary()

    def add(self, transaction: object, message: OutboxMessage, *, given: bool) -> None:
        """Write it when this transaction commits. `given` tells whether somebody else made its id."""
        if isinstance(transaction, scoped_session | async_scoped_session):
            transaction = cast("Any", transaction)()
        if isinstance(transaction, AsyncSession):
            transaction = transaction.sync_session
        if isinstance(transaction, AsyncConnection):
            if transaction.closed:
                refuse("transaction", "a connection that is closed", _WANTED)
            transaction = transaction.sync_connection
        if isinstance(transaction, Session):
            self._of_session(transaction).put(message, _chain(transaction), given=given)
        elif isinstance(transaction, Connection):
            self._of_connection(checked(transaction)).put(message, _savepoint(transaction), given=given)
        else:
            refuse("transaction", transaction, _WANTED)

    # --- sessions --------------------------------------------------------------------------------------------------------

    def _of_session(self, session: Session) -> _Waiting:
        if not session.is_active:
            refuse("transaction", "a session whose transaction is over", _WANTED)
        known = self._by_session.get(session)
        if known is None:
            known = self._by_session[session] = _Waiting()
            event.listen(session, "before_commit", self._before_commit)
            event.listen(session, "after_soft_rollback", self._after_soft_rollback)
        if not session.in_transaction():
            session.begin()
        return known

    def _before_commit(self, session: Session) -> None:
        waiting = self._by_session.get(session)
        if waiting and not session.in_nested_transaction():
            connection = open_connection(session, self._table)
            self._written(connection, waiting)

    def _after_soft_rollback(self, session: Session, over: Any) -> None:
        waiting = self._by_session.get(session)
        if waiting:
            waiting.keep(lambda chain: over not in chain)

    # --- connections -----------------------------------------------------------------------------------------------------

    def _of_connection(self, connection: Connection) -> _Waiting:
        known = self._by_connection.get(connection)
        if known is None:
            known = self._by_connection[connection] = _Waiting()
            event.listen(connection, "commit", self._commits)
            event.listen(connection, "rollback", self._rolls_back)
            event.listen(connection, "rollback_savepoint", self._rolls_back_to)
        if not connection.in_transaction():
            connection.begin()
        return known

    def _commits(self, connection: Connection) -> None:
        waiting = self._by_connection.get(connection)
        if waiting:
            self._written(connection, waiting)

    def _rolls_back(self, connection: Connection) -> None:
        waiting = self._by_connection.get(connection)
        if waiting:
            waiting.clear()

    def _rolls_back_to(self, connection: Connection, name: str, _: object) -> None:
        waiting = self._by_connection.get(connection)
        if waiting:
            number = _number(name)
            waiting.keep(lambda savepoint: savepoint < number)

    # --- both ------------------------------------------------------------------------------------------------------------

    def _written(self, connection: Connection, waiting: _Waiting) -> None:
        messages, given = waiting.taken()
        carry_out(self._write(connection.dialect.name, messages, given), connection_link(connection))


@final
class _Waiting:
    """Messages of one transaction in their order, each with the savepoints that it stands in."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: list[tuple[OutboxMessage, Any, bool]] = []

    def put(self, message: OutboxMessage, inside: Any, *, given: bool) -> None:
        if len(self._rows) >= AT_MOST:
            raise StoreFullError("messages of one transaction", AT_MOST)
        self._rows.append((message, inside, given))

    def keep(self, stays: Callable[[Any], bool]) -> None:
        self._rows = [row for row in self._rows if stays(row[1])]

    def clear(self) -> None:
        self._rows.clear()

    def taken(self) -> tuple[list[OutboxMessage], list[OutboxMessage]]:
        rows, self._rows = self._rows, []
        return [row[0] for row in rows], [row[0] for row in rows if row[2]]

    def __len__(self) -> int:
        return len(self._rows)


def _chain(session: Session) -> tuple[Any, ...]:
    """Return the transactions of a session that are open now, the innermost first."""
    found: list[Any] = []
    one: Any = session.get_nested_transaction() or session.get_transaction()
    while one is not None:
        found.append(one)
        one = one.parent
    return tuple(found)


def _savepoint(connection: Connection) -> int:
    """Return the number of the savepoint that is open now: those that are opened later, inside of it or after it, have higher ones."""
    nested = connection.get_nested_transaction()
    return 0 if nested is None else _number(nested._savepoint)  # noqa: SLF001 - SQLAlchemy tells a savepoint's name to its listeners alone


def _number(name: str) -> int:
    return int(name.rpartition("_")[2])
