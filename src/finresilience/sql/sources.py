"""Where do a store's own transactions come from? From the caller's engine and its pool; past SQLAlchemy where its driver is known.

A statement that is whole by itself goes to the server alone, in one trip, with no BEGIN and no COMMIT round it. A SQLite file is worked
on in the driver's own thread: one hop a transaction, not one a statement.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, final

from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from finresilience._checks import refuse
from finresilience.errors import ConfigurationError
from finresilience.sql.dialects import DIALECTS
from finresilience.sql.links import (
    AsyncLink,
    Link,
    acarry_out,
    apsycopg_link,
    asyncpg_link,
    carry_out,
    connection_link,
    is_to_be_retried,
    psycopg_link,
    sqlite3_link,
    translated,
)
from finresilience.sql.within import check_schemas

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from finresilience.sql.statements import Deed

T = TypeVar("T")
Begin: TypeAlias = "Callable[[], Deed[T]]"

_PARTING: Final = 5.0  # seconds to give a connection back in
TURNS: Final = 10  # how often a transaction is run that the database takes back because of others


def dialect_of(engine: object) -> str:
    """Return the name of the engine's dialect, if we speak it."""
    if not isinstance(engine, Engine | AsyncEngine):
        refuse("engine", engine, "an Engine or an AsyncEngine of SQLAlchemy")
    if engine.dialect.name not in DIALECTS:
        refuse("engine", engine.dialect.name, f"one of {', '.join(DIALECTS)}")
    check_schemas(engine.get_execution_options())
    return engine.dialect.name


@final
class Source:
    """Transactions of a store's own, for sync callers."""

    __slots__ = ("_engine", "_opened")

    def __init__(self, engine: Engine) -> None:
        dialect_of(engine)
        self._engine = engine
        self._opened = {"pysqlite": self._sqlite3, "psycopg": self._psycopg}.get(engine.dialect.driver, self._any)

    def alone(self, begin: Begin[T]) -> T:
        """Do it, each statement by itself."""
        return self._done(begin, whole=False)

    def together(self, begin: Begin[T]) -> T:
        """Do it in one transaction, again where the database took it back because of others."""
        return self._done(begin, whole=True)

    def _done(self, begin: Begin[T], *, whole: bool) -> T:
        for turn in range(1, TURNS + 1):
            try:
                with self._opened(whole=whole) as link:
                    return carry_out(begin(), link)
            except Exception as error:
                if turn == TURNS or not is_to_be_retried(error):
                    told = translated(error)
                    raise told from (error if told is not error else error.__cause__)
        raise AssertionError("unreachable")

    @contextmanager
    def _sqlite3(self, *, whole: bool) -> Generator[Link]:
        with _checked_out(self._engine) as raw, _manual(raw):
            if not whole:
                yield sqlite3_link(raw)
                return
            raw.execute("BEGIN IMMEDIATE")
            try:
                yield sqlite3_link(raw)
                raw.execute("COMMIT")
            except BaseException:
                _rolled_back(raw)
                raise

    @contextmanager
    def _psycopg(self, *, whole: bool) -> Generator[Link]:
        with _checked_out(self._engine) as raw:
            if whole:
                with raw.transaction():
                    yield psycopg_link(raw)
                return
            before, raw.autocommit = raw.autocommit, True
            try:
                yield psycopg_link(raw)
            finally:
                if not raw.closed:
                    raw.autocommit = before

    @contextmanager
    def _any(self, *, whole: bool) -> Generator[Link]:
        with self._engine.connect() as connection:
            if whole:
                with connection.begin():
                    yield connection_link(connection)
            else:
                yield connection_link(connection.execution_options(isolation_level="AUTOCOMMIT"))


@contextmanager
def _checked_out(engine: Engine) -> Generator[Any]:
    """Yield the driver's connection; one that broke does not go back into the pool."""
    held = engine.raw_connection()
    raw: Any = held.driver_connection
    try:
        if hasattr(raw, "info") and raw.info.transaction_status != 0:
            raw.commit()  # what a listener of the pool did, such as a SET: the pool would roll our work back with it
        yield raw
    except Exception:
        raise
    except BaseException:  # interrupted in the middle of who knows what
        held.invalidate()
        raise
    finally:
        if getattr(raw, "closed", False):
            held.invalidate()
        held.close()


@contextmanager
def _manual(raw: Any) -> Generator[None]:
    """Let sqlite3 begin nothing by itself."""
    if raw.in_transaction:
        raise ConfigurationError(
            "the pool gave a connection to SQLite that is in somebody's transaction, so nothing was done. A store needs connections of its "
            "own: use a file, not a database in memory that all share by one connection (StaticPool, SingletonThreadPool)"
        )
    before, raw.isolation_level = raw.isolation_level, None
    try:
        yield
    finally:
        raw.isolation_level = before


def _rolled_back(raw: Any) -> None:
    if raw.in_transaction:
        raw.execute("ROLLBACK")


@final
class AsyncSource:
    """Transactions of a store's own, for async callers."""

    __slots__ = ("_engine", "_on_a_file", "_opened")

    def __init__(self, engine: AsyncEngine) -> None:
        dialect_of(engine)
        self._engine = engine
        driver = engine.dialect.driver
        self._on_a_file = driver == "aiosqlite"
        self._opened = {"asyncpg": self._asyncpg, "psycopg": self._psycopg, "psycopg_async": self._psycopg}.get(driver, self._any)

    async def alone(self, begin: Begin[T]) -> T:
        """Do it, each statement by itself."""
        return await self._done(begin, whole=False)

    async def together(self, begin: Begin[T]) -> T:
        """Do it in one transaction, again where the database took it back because of others."""
        return await self._done(begin, whole=True)

    async def _done(self, begin: Begin[T], *, whole: bool) -> T:
        for turn in range(1, TURNS + 1):
            try:
                if self._on_a_file:
                    return await self._in_its_thread(begin, whole=whole)
                async with self._opened(whole=whole) as link:
                    return await acarry_out(begin(), link)
            except Exception as error:
                if turn == TURNS or not is_to_be_retried(error):
                    told = translated(error)
                    raise told from (error if told is not error else error.__cause__)
        raise AssertionError("unreachable")

    async def _in_its_thread(self, begin: Begin[T], *, whole: bool) -> T:
        def work(raw: Any) -> T:
            with _manual(raw):
                if not whole:
                    return carry_out(begin(), sqlite3_link(raw))
                raw.execute("BEGIN IMMEDIATE")
                try:
                    told = carry_out(begin(), sqlite3_link(raw))
                    raw.execute("COMMIT")
                except BaseException:
                    _rolled_back(raw)
                    raise
                return told

        async with _achecked_out(self._engine) as connection:
            told: T = await connection._execute(work, connection._conn)  # noqa: SLF001 - aiosqlite has no public way to run a function in its thread
            return told

    @asynccontextmanager
    async def _asyncpg(self, *, whole: bool) -> AsyncGenerator[AsyncLink]:
        async with _achecked_out(self._engine) as raw:
            if whole:
                async with raw.transaction():
                    yield asyncpg_link(raw)
            else:
                yield asyncpg_link(raw)

    @asynccontextmanager
    async def _psycopg(self, *, whole: bool) -> AsyncGenerator[AsyncLink]:
        async with _achecked_out(self._engine) as raw:
            if whole:
                async with raw.transaction():
                    yield apsycopg_link(raw)
                return
            before = raw.autocommit
            await raw.set_autocommit(True)
            try:
                yield apsycopg_link(raw)
            finally:
                if not raw.closed:
                    await raw.set_autocommit(before)

    @asynccontextmanager
    async def _any(self, *, whole: bool) -> AsyncGenerator[AsyncLink]:
        async with self._engine.connect() as opened:
            connection = opened if whole else await opened.execution_options(isolation_level="AUTOCOMMIT")
            async with connection.begin():

                async def ask(asked: Any) -> Any:
                    return await connection.run_sync(lambda inner: connection_link(inner)(asked))

                yield ask


@asynccontextmanager
async def _achecked_out(engine: AsyncEngine) -> AsyncGenerator[Any]:
    """Yield the driver's connection. One that broke, or whose user was cancelled, does not go back into the pool."""
    from sqlalchemy.util import greenlet_spawn

    held: Any = await engine.raw_connection()
    raw: Any = held.driver_connection
    try:
        if _is_begun(raw):
            await greenlet_spawn(held.dbapi_connection.commit)  # what a listener of the pool did: it would be rolled back with our work
        yield raw
    except BaseException as error:
        await _parted(held, raw, cut_off=not isinstance(error, Exception))
        raise
    await greenlet_spawn(_given_back, held, raw, clean=True)


async def _parted(held: Any, raw: Any, *, cut_off: bool = False) -> None:
    """Give it back although we are cancelled: a reset that is cut off is an error in the pool's log, and the connection is lost."""
    from anyio import move_on_after
    from sqlalchemy.util import greenlet_spawn

    with move_on_after(_PARTING, shield=True):
        await greenlet_spawn(_given_back, held, raw, cut_off=cut_off)


def _is_begun(raw: Any) -> bool:
    if hasattr(raw, "is_in_transaction"):  # asyncpg
        return bool(raw.is_in_transaction())
    return hasattr(raw, "pgconn") and raw.info.transaction_status != 0  # psycopg


def _given_back(held: Any, raw: Any, *, cut_off: bool = False, clean: bool = False) -> None:
    """Give it back to the pool. Where a cancellation cut a statement off, nobody knows what the server still makes of it: it is dropped.

    What is `clean` is in no transaction: the pool need not roll back, which would be one more hop to a driver's thread.
    """
    if cut_off and hasattr(raw, "terminate"):
        raw.terminate()
    if _is_unfit(raw) or (cut_off and hasattr(raw, "pgconn")):
        held.invalidate()
        clean = False
    if clean and hasattr(held, "_close_special"):
        held._close_special(transaction_reset=True)  # noqa: SLF001 - what SQLAlchemy's own connections do after a commit; pinned by a test
    else:
        held.close()


def _is_unfit(raw: Any) -> bool:
    """Return whether it is closed, or still in a transaction that a cancellation did not let us end: nobody else may get it."""
    if hasattr(raw, "is_in_transaction"):  # asyncpg
        return bool(raw.is_closed() or raw.is_in_transaction())
    if hasattr(raw, "pgconn"):  # psycopg
        return bool(raw.closed or raw.info.transaction_status != 0)
    return False
