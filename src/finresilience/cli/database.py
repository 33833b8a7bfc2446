"""What stands behind a database URL? Our tables under their names; nothing is made where nothing is."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from finresilience.cli.answers import UnreachableError
from finresilience.cli.app import App
from finresilience.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

_ASYNC: Final = frozenset({"aiosqlite", "asyncpg", "psycopg_async"})
_PATIENCE: Final = {"psycopg": "connect_timeout", "psycopg_async": "connect_timeout", "asyncpg": "timeout"}
_SECONDS: Final = 10  # that connecting may take


def app_of(text: str, *, schema: str | None, prefix: str | None) -> App:
    """Return the App over this database.

    Raises:
        ConfigurationError: if the URL cannot be read, or its driver is not installed. What it holds is not shown.
        UnreachableError: if it names a SQLite file that is not there: a command that reads makes none.
    """
    if find_spec("sqlalchemy") is None:
        raise ConfigurationError("a database needs SQLAlchemy: pip install 'finresilience[sqlalchemy]'")
    from sqlalchemy import MetaData

    from finresilience.sql import Tables

    url = _with_a_driver(_read(text))
    if url.get_backend_name() == "sqlite":
        _must_be_there(url.database)
    tables = Tables(MetaData(), schema=schema, prefix="fin_" if prefix is None else prefix)
    return App(tables=tables, engine=_engine(url))


def _read(text: str) -> URL:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url("postgresql" + text[len("postgres") :] if text.startswith("postgres:") else text)
    except (ArgumentError, ValueError):
        raise ConfigurationError("the database URL cannot be read: give postgresql://HOST/NAME or sqlite:///PATH") from None
    if url.get_backend_name() not in {"postgresql", "sqlite"}:
        raise ConfigurationError("the database URL is of neither PostgreSQL nor SQLite: give postgresql://HOST/NAME or sqlite:///PATH")
    return url


def _with_a_driver(url: URL) -> URL:
    """Let a URL that names no driver have one that is installed."""
    if url.drivername != "postgresql":
        return url
    for driver in ("psycopg", "asyncpg"):
        if find_spec(driver) is not None:
            return url.set(drivername=f"postgresql+{driver}")
    raise ConfigurationError("PostgreSQL needs a driver: pip install 'finresilience[psycopg]'")


def _must_be_there(database: str | None) -> None:
    if not database or database == ":memory:" or database.startswith("file:"):
        raise ConfigurationError("this SQLite URL names no file: give sqlite:///path/to/file, or --app for one in memory")
    if not Path(database).is_file():
        raise UnreachableError(f"there is no SQLite file {database}: give the path of one that your service has made")


def _engine(url: URL) -> Any:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import NoSuchModuleError
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    driver = url.drivername.partition("+")[2]
    patience = _PATIENCE.get(driver)
    more: dict[str, Any] = {"poolclass": NullPool, "hide_parameters": True}
    if patience is not None and patience not in url.query:
        more["connect_args"] = {patience: _SECONDS}
    try:
        return create_async_engine(url, **more) if driver in _ASYNC else create_engine(url, **more)
    except (ImportError, NoSuchModuleError):
        raise ConfigurationError(f"the driver {driver or url.drivername} is not installed: pip install it, or name another") from None
