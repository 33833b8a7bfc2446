"""What is told of an error? One line that says what to do, and an exit code; never a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from finresilience.cli.answers import UNREACHABLE, USAGE, WAITING, UnreachableError
from finresilience.cli.arguments import hidden
from finresilience.cli.words import plain
from finresilience.errors import ConfigurationError, FinresilienceError

if TYPE_CHECKING:
    from collections.abc import Iterable

_DATABASES: Final = frozenset({"sqlalchemy", "sqlite3", "psycopg", "psycopg_pool", "asyncpg", "aiosqlite"})
_LONGEST: Final = 600
_DIFFERENCES: Final = 4


def line_of(error: Exception, secrets: Iterable[str] = ()) -> tuple[str, int]:
    """Return what to say and how to end; raise the error again if it is a mistake in code, which needs its traceback.

    Args:
        error: what came.
        secrets: what may not be shown, in the spelling of a URL.
    """
    if isinstance(error, UnreachableError):
        told, code = str(error), UNREACHABLE
    elif differences := getattr(error, "differences", ()):  # of a SchemaError
        told, code = _schema(differences), UNREACHABLE
    elif isinstance(error, ConfigurationError):
        told, code = str(error), USAGE
    elif isinstance(error, FinresilienceError):
        told, code = str(error), WAITING
    elif _is_of_a_database(error):
        told, code = _database(error), UNREACHABLE
    else:
        raise error
    for secret in secrets:
        for spelling in {secret, unquote(secret)} - {""}:
            told = told.replace(spelling, "***")
    one = " ".join(part.strip() for part in hidden(told).splitlines())
    return plain(one[:_LONGEST]), code


def _schema(differences: tuple[str, ...]) -> str:
    more = len(differences) - _DIFFERENCES
    named = "; ".join(differences[:_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")
    return f"the tables are not as they are needed: {named}. Nothing was changed. Run your migration, or look at --schema and --prefix"


def _is_of_a_database(error: Exception) -> bool:
    return isinstance(error, OSError) or any(kind.__module__.partition(".")[0] in _DATABASES for kind in type(error).__mro__)


def _database(error: Exception) -> str:
    """Return the first line of what the driver says: what follows may quote rows."""
    inner = getattr(error, "orig", None) or error
    says = str(inner).strip().partition("\n")[0]
    return f"the database did not do it: {type(inner).__name__}{': ' if says else ''}{says}. Look whether it runs and lets us in"


def secrets_of(url: str | None) -> list[str]:
    """Return what is secret in a database URL, as it is spelled there: longest first."""
    if not url:
        return []
    rest = url.partition("://")[2]
    credentials, at, _ = rest.rpartition("@")
    found = [credentials.partition(":")[2]] if at else []
    for pair in rest.partition("?")[2].split("&"):
        name, _, value = pair.partition("=")
        if "pass" in name.lower() or "secret" in name.lower() or "token" in name.lower():
            found.append(value)
    return sorted((one for one in found if one), key=len, reverse=True)
