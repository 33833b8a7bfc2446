"""How does a statement reach its database? One short function a driver; and what a driver's error means, if it means one of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from finresilience.durable.errors import StoreBusyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.engine import Connection

    from finresilience.sql.statements import Asked, Deed, Rows

T = TypeVar("T")

Link: TypeAlias = "Callable[[Asked], Rows]"
AsyncLink: TypeAlias = "Callable[[Asked], Awaitable[Rows]]"

RETRIED: Final = frozenset({"40001", "40P01"})  # serialization_failure, deadlock_detected: run the whole transaction again
_LOCKED: Final = "55P03"  # lock_not_available: somebody holds it for longer than we wait
_SQLITE_BUSY: Final = frozenset({5, 6})  # SQLITE_BUSY, SQLITE_LOCKED


def carry_out(deed: Deed[T], ask: Link) -> T:
    """Do what the deed says, and return what it returns."""
    try:
        asked = next(deed)
        while True:
            try:
                rows = ask(asked)
            except Exception as error:
                asked = deed.throw(error)
            else:
                asked = deed.send(rows)
    except StopIteration as end:
        told: T = end.value
        return told
    finally:
        deed.close()


async def acarry_out(deed: Deed[T], ask: AsyncLink) -> T:
    """Do what the deed says, and return what it returns."""
    try:
        asked = next(deed)
        while True:
            try:
                rows = await ask(asked)
            except Exception as error:
                asked = deed.throw(error)
            else:
                asked = deed.send(rows)
    except StopIteration as end:
        told: T = end.value
        return told
    finally:
        deed.close()


# ---------------------------------------------------------------- one a driver


def sqlite3_link(raw: Any) -> Link:
    """Ask by the standard library's sqlite3."""

    def ask(asked: Asked) -> Rows:
        rows: Rows = raw.execute(asked[0].text, asked[1]).fetchall()
        return rows

    return ask


def psycopg_link(raw: Any) -> Link:
    """Ask by psycopg."""

    def ask(asked: Asked) -> Rows:
        cursor = raw.execute(asked[0].percents, asked[1])
        rows: Rows = cursor.fetchall() if cursor.description else ()
        return rows

    return ask


def apsycopg_link(raw: Any) -> AsyncLink:
    """Ask by psycopg, awaited."""

    async def ask(asked: Asked) -> Rows:
        cursor = await raw.execute(asked[0].percents, asked[1])
        rows: Rows = await cursor.fetchall() if cursor.description else ()
        return rows

    return ask


def asyncpg_link(raw: Any) -> AsyncLink:
    """Ask by asyncpg."""
    fetch = raw.fetch

    async def ask(asked: Asked) -> Rows:
        sql, told = asked
        rows: Rows = await fetch(sql.dollars, *[told[name] for name in sql.names])
        return rows

    return ask


def connection_link(connection: Connection) -> Link:
    """Ask by a connection of SQLAlchemy, in whatever transaction it is."""
    driver = connection.dialect.driver
    execute = connection.exec_driver_sql
    if driver == "asyncpg":

        def ask(asked: Asked) -> Rows:
            sql, told = asked
            result = execute(sql.dollars, tuple([told[name] for name in sql.names]))
            return result.fetchall() if result.returns_rows else ()

    elif driver in {"psycopg", "psycopg_async", "psycopg2"}:

        def ask(asked: Asked) -> Rows:
            result = execute(asked[0].percents, asked[1])
            return result.fetchall() if result.returns_rows else ()

    elif connection.dialect.name == "sqlite":

        def ask(asked: Asked) -> Rows:
            result = execute(asked[0].text, asked[1])
            return result.fetchall() if result.returns_rows else ()

    else:
        from sqlalchemy import text

        def ask(asked: Asked) -> Rows:
            result = connection.execute(text(asked[0].text), asked[1])
            return result.fetchall() if result.returns_rows else ()

    return ask


# ---------------------------------------------------------------- errors


def sqlstate_of(error: BaseException) -> str | None:
    """Return PostgreSQL's five letters, whichever driver raised the error, and however often it was wrapped."""
    seen: BaseException | None = error
    for _ in range(5):
        if seen is None:
            return None
        state = getattr(seen, "sqlstate", None) or getattr(seen, "pgcode", None)
        if isinstance(state, str):
            return state
        seen = getattr(seen, "orig", None) or seen.__cause__
    return None


def is_to_be_retried(error: BaseException) -> bool:
    """Return whether the database took the whole transaction back because of another one: run again, it may well end."""
    return sqlstate_of(error) in RETRIED


def is_busy(error: BaseException) -> bool:
    """Return whether another transaction held what was wanted for longer than this one may wait."""
    if sqlstate_of(error) == _LOCKED:
        return True
    original = getattr(error, "orig", error)
    code = getattr(original, "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF in _SQLITE_BUSY


def translated(error: Exception) -> Exception:
    """Return the error of ours that this one of a driver's means, or itself."""
    return StoreBusyError() if is_busy(error) else error
