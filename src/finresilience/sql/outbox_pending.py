"""When is what a transaction adds written? Just before it commits, all at once; what a savepoint takes back is taken back too.

So adding needs no await, in an AsyncSession as in a Session, the locks of the keys are held for as long as a commit takes, and what a flush
listener adds while the commit is under way is written with the rest. Where writing fails, the whole transaction is rolled back there and
then: no effect can be committed without its events.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, final
from weakref import WeakKeyDictionary, WeakSet, ref

from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from finresilience._checks import refuse
from finresilience.durable.errors import StoreFullError
from finresilience.sql.links import carry_out, connection_link
from finresilience.sql.within import checked, checked_bind, open_connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Table
    from sqlalchemy.engine import Engine

    from finresilience.durable.messages import OutboxMessage
    from finresilience.sql.statements import Deed

    Write: TypeAlias = "Callable[[str, list[OutboxMessage], list[OutboxMessage]], Deed[None]]"

AT_MOST: Final = 10_000  # messages of one transaction
_WANTED: Final = "a Session, an AsyncSession, a Connection or an AsyncConnection in its transaction"


@final
class Waiting:
    """Messages of one transaction in their order, each with where it stands: inside of which savepoints."""

    __slots__ = ("__weakref__", "commits_by", "rows", "sessions")

    def __init__(self) -> None:
        self.rows: list[tuple[OutboxMessage, Any, bool]] = []
        self.sessions: WeakSet[Session] = WeakSet()  # of a connection: those that commit by it
        self.commits_by: Callable[[], Connection | None] = _none  # of a session

    def put(self, message: OutboxMessage, inside: Any, *, given: bool) -> None:
        """Let it wait."""
        if len(self.rows) >= AT_MOST:
            raise StoreFullError("messages of one transaction", AT_MOST)
        self.rows.append((message, inside, given))

    def keep(self, stays: Callable[[Any], bool]) -> None:
        """Forget those that stand where they cannot stay."""
        self.rows = [row for row in self.rows if stays(row[1])]


def _none() -> None:
    """Return no connection."""


@final
class Pending:
    """What open transactions have added to one outbox, and not written yet."""

    def __init__(self, table: Table, write: Write) -> None:
        self._table = table
        self._write = write
        self._by_session: WeakKeyDictionary[Session, Waiting] = WeakKeyDictionary()
        self._by_connection: WeakKeyDictionary[Connection, Waiting] = WeakKeyDictionary()
        self._engines: WeakSet[Engine] = WeakSet()
        self._lock = Lock()

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
            waiting = self._of_connection(checked(transaction))
            if not transaction.in_transaction():
                transaction.begin()
            waiting.put(message, _savepoint(transaction), given=given)
        else:
            refuse("transaction", transaction, _WANTED)

    # --- sessions --------------------------------------------------------------------------------------------------------

    def _of_session(self, session: Session) -> Waiting:
        checked_bind(session, self._table)
        if not session.in_transaction():
            session.begin()
        known = self._by_session.get(session)
        if known is None:
            known = self._by_session[session] = Waiting()
            _adding.setdefault(session, WeakSet()).add(self)
        root: Any = session.get_transaction()
        known.keep(lambda chain: chain[-1] is root)  # the others' session was closed without a commit
        if root._connections:  # noqa: SLF001 - to ask whether there is one would make one; added in a flush, this may be too late for before_commit
            self._link(session)
        return known

    def _link(self, session: Session) -> None:
        connection = open_connection(session, self._table)
        self._of_connection(connection).sessions.add(session)
        self._by_session[session].commits_by = ref(connection)

    def before_commit(self, session: Session) -> None:
        """Make sure that the connection that commits knows of this session."""
        waiting = self._by_session.get(session)
        if waiting is not None and waiting.rows and not session.in_nested_transaction():
            self._link(session)

    def after_commit(self, session: Session) -> None:
        """Leave it to the connection, where that is in a transaction that another owns and will commit."""
        waiting = self._by_session.get(session)
        if waiting is None or not waiting.rows or session.in_nested_transaction():
            return
        rows, waiting.rows = waiting.rows, []
        connection = waiting.commits_by()
        if connection is not None and connection.in_transaction():
            where = _savepoint(connection)
            self._of_connection(connection).rows += [(message, where, given) for message, _, given in rows]

    def after_soft_rollback(self, session: Session, over: Any) -> None:
        """Forget what stood in the transaction that is over."""
        waiting = self._by_session.get(session)
        if waiting is not None:
            waiting.keep(lambda chain: over not in chain)

    # --- connections -----------------------------------------------------------------------------------------------------

    def _of_connection(self, connection: Connection) -> Waiting:
        known = self._by_connection.get(connection)
        if known is None:
            known = self._by_connection[connection] = Waiting()
            self._listen(connection.engine)
        return known

    def _listen(self, engine: Engine) -> None:
        """Hear of the ends of an engine's transactions: once for each engine, since to register takes longer than to insert."""
        with self._lock:
            if engine in self._engines:
                return
            self._engines.add(engine)
            event.listen(engine, "commit", self._commits)
            event.listen(engine, "prepare_twophase", self._prepares)
            event.listen(engine, "rollback", self._rolls_back)
            event.listen(engine, "rollback_savepoint", self._rolls_back_to)

    def _prepares(self, connection: Connection, _: object) -> None:
        self._commits(connection)

    def _commits(self, connection: Connection) -> None:
        waiting = self._by_connection.get(connection)
        if waiting is None:
            return
        rows, waiting.rows = waiting.rows, []
        for session in list(waiting.sessions):
            rows += self._taken(session)
        if not rows:
            return
        messages, given = [row[0] for row in rows], [row[0] for row in rows if row[2]]
        try:
            carry_out(self._write(connection.dialect.name, messages, given), connection_link(connection))
        except BaseException:
            connection.dialect.do_rollback(connection.connection)  # else a second commit would commit the effect without these
            raise

    def _taken(self, session: Session) -> list[tuple[OutboxMessage, Any, bool]]:
        waiting = self._by_session.get(session)
        if waiting is None:
            return []
        root = session.get_transaction()
        rows, waiting.rows = waiting.rows, []
        return [row for row in rows if row[1][-1] is root]

    def _rolls_back(self, connection: Connection) -> None:
        waiting = self._by_connection.get(connection)
        if waiting is not None:
            waiting.rows.clear()

    def _rolls_back_to(self, connection: Connection, name: str, _: object) -> None:
        waiting = self._by_connection.get(connection)
        if waiting is not None and waiting.rows:
            number = _number(name)
            waiting.keep(lambda savepoint: savepoint < number)


_adding: WeakKeyDictionary[Session, WeakSet[Pending]] = WeakKeyDictionary()


# Once, for all sessions: to register listeners with each session would take longer than what they do.
@event.listens_for(Session, "before_commit")
def _before_commit(session: Session) -> None:
    for pending in _adding.get(session, ()):
        pending.before_commit(session)


@event.listens_for(Session, "after_commit")
def _after_commit(session: Session) -> None:
    for pending in _adding.get(session, ()):
        pending.after_commit(session)


@event.listens_for(Session, "after_soft_rollback")
def _after_soft_rollback(session: Session, over: Any) -> None:
    for pending in _adding.get(session, ()):
        pending.after_soft_rollback(session, over)


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
