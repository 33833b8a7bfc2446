"""Whose transaction is it? The caller's: what is done in it is neither committed nor rolled back here.

Taken are a Session, a Connection, an AsyncSession, an AsyncConnection, and the drivers' own connections of sqlite3, psycopg and asyncpg.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from finresilience._checks import refuse
from finresilience.sql.links import (
    AsyncLink,
    Link,
    acarry_out,
    apsycopg_link,
    asyncpg_link,
    carry_out,
    connection_link,
    is_busy,
    psycopg_link,
    sqlite3_link,
    translated,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Table
    from sqlalchemy.engine import Engine

    from finresilience.sql.statements import Deed

T = TypeVar("T")

_SYNC: Final = "a Session or a Connection in its transaction, or a connection of sqlite3 or psycopg"
_ASYNC: Final = "an AsyncSession or an AsyncConnection in its transaction, or a connection of asyncpg or psycopg"


def carry_out_within(within: object, deed: Deed[T], table: Table) -> T:
    """Do it in this transaction.

    Raises:
        StoreBusyError: if another transaction holds the row for longer than this one may wait. Where the database is PostgreSQL, this
            one is over: roll it back, or to a savepoint.
        ConfigurationError: if `within` is no transaction, or one that is over.
    """
    try:
        return carry_out(deed, _link(within, table))
    except Exception as error:
        if is_busy(error):
            raise translated(error) from error
        raise


async def acarry_out_within(within: object, deed: Deed[T], table: Table) -> T:
    """Do it in this transaction; as `carry_out_within`."""
    within = within() if isinstance(within, async_scoped_session) else within
    try:
        if isinstance(within, AsyncSession):
            return await within.run_sync(lambda session: carry_out(deed, _link(session, table)))
        if isinstance(within, AsyncConnection):
            if within.closed:
                refuse("within", "a connection that is closed", _ASYNC)
            return await within.run_sync(lambda connection: carry_out(deed, _link(connection, table)))
        return await acarry_out(deed, _async_link(within))
    except Exception as error:
        if is_busy(error):
            raise translated(error) from error
        raise


def _link(within: object, table: Table) -> Link:
    within = cast("Any", within)() if isinstance(within, scoped_session) else within
    if isinstance(within, Session):
        return connection_link(open_connection(within, table))
    if isinstance(within, Connection):
        return connection_link(checked(within))
    kind = _driver(within)
    if kind == "sqlite3" and cast("Any", within).in_transaction:
        return sqlite3_link(within)
    if kind == "psycopg" and _is_open_psycopg(within) and not hasattr(type(within), "__aenter__"):
        return psycopg_link(within)
    return refuse("within", within, _SYNC)


def _async_link(within: object) -> AsyncLink:
    kind = _driver(within)
    if kind == "asyncpg" and cast("Any", within).is_in_transaction():
        return asyncpg_link(within)
    if kind == "psycopg" and _is_open_psycopg(within) and hasattr(type(within), "__aenter__"):
        return apsycopg_link(within)
    return refuse("within", within, _ASYNC)


def open_connection(session: Session, table: Table) -> Connection:
    """Return the connection of a session's transaction, which begins here if it has not begun."""
    if not session.is_active:
        refuse("within", "a session whose transaction is over", _SYNC)
    return checked(session.connection(bind_arguments={"clause": table}))


def checked(connection: Connection) -> Connection:
    """Return the connection if what is written by it stays open until its owner commits, and stands where the tables say."""
    if connection.closed:
        refuse("within", "a connection that is closed", _SYNC)
    _check_options(connection.get_execution_options(), connection.engine)
    return connection


def checked_bind(session: Session, table: Table) -> None:
    """Refuse a session, before it is connected, whose transactions would be none."""
    if not session.is_active:
        refuse("transaction", "a session whose transaction is over", _SYNC)
    bind = session.get_bind(clause=table)
    _check_options(bind.get_execution_options(), bind.engine)


def _check_options(options: Mapping[str, Any], engine: Engine) -> None:
    isolation = options.get("isolation_level") or engine.dialect._on_connect_isolation_level  # noqa: SLF001 - what create_engine was told
    if isolation == "AUTOCOMMIT":
        refuse("within", "a connection in AUTOCOMMIT", f"{_SYNC}: each statement would be true by itself")
    check_schemas(options)


def check_schemas(options: Mapping[str, Any]) -> None:
    """Refuse a schema_translate_map, which our statements do not follow: a tenant's rows would land in another's schema."""
    if options.get("schema_translate_map"):
        refuse(
            "schema_translate_map", "one", "Tables(metadata, schema=...) for each schema: statements name the schema that Tables was told"
        )


def _driver(within: object) -> str:
    return type(within).__module__.partition(".")[0].removeprefix("_")


def _is_open_psycopg(within: Any) -> bool:
    """Return whether it begins a transaction by itself, or is in one."""
    return not within.closed and (not within.autocommit or within.info.transaction_status != 0)


def dialect_within(within: object, table: Table) -> str:
    """Return which database a transaction is of."""
    if isinstance(within, scoped_session | async_scoped_session):
        within = cast("Any", within)()
    if isinstance(within, AsyncSession):
        within = within.sync_session
    if isinstance(within, Session):
        return within.get_bind(clause=table).dialect.name
    if isinstance(within, Connection | AsyncConnection):
        return within.dialect.name
    kind = _driver(within)
    if kind not in {"sqlite3", "psycopg", "asyncpg"}:
        refuse("within", within, f"{_SYNC}; or {_ASYNC}")
    return "sqlite" if kind == "sqlite3" else "postgresql"
