"""What does a database error tell about the transaction? SQLSTATEs (ISO/IEC 9075, PostgreSQL appendix A) and SQLite's names.

"Applied" here means committed. PostgreSQL reports an ERROR only for a transaction that it has rolled back, or for which
it will accept nothing but a rollback, COMMIT included; so with these codes nothing was applied. A lost connection, and
whatever ends one, may come between the commit and its answer: UNKNOWN.

This speaks for a function that runs one transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from finresilience.classify.classifier import ErrorClassifier, Rule
from finresilience.classify.extract import attribute
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Classification, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

# Five characters are a code; two are its class, asked when the code has no rule of its own.
SQLSTATES: Final[Mapping[str, Classification]] = {
    "08": UNKNOWN,  # connection exception: 08006 (lost) and 08007 (resolution unknown) say it outright
    "08001": RETRYABLE,  # could not connect
    "08004": RETRYABLE,  # the server rejected the connection
    "0A": NON_RETRYABLE,  # feature not supported
    "21": NON_RETRYABLE,
    "22": NON_RETRYABLE,  # data exception
    "23": NON_RETRYABLE,  # integrity constraint violation
    "25": NON_RETRYABLE,  # invalid transaction state
    "25006": RETRYABLE,  # read-only: we talk to a standby, after a switch-over for a while
    "25P03": RETRYABLE,  # idle in transaction for too long: rolled back before we came to commit
    "28": NON_RETRYABLE,  # not authorised
    "3D": NON_RETRYABLE,  # no such database
    "3F": NON_RETRYABLE,
    "40": NON_RETRYABLE,  # rolled back: 40002, a constraint that was checked at commit
    "40001": RETRYABLE,  # serialisation failure
    "40003": UNKNOWN,  # statement completion unknown
    "40P01": RETRYABLE,  # deadlock
    "42": NON_RETRYABLE,  # syntax, privileges, no such table
    "44": NON_RETRYABLE,
    "53": RETRYABLE,  # out of connections, memory, disk
    "54": NON_RETRYABLE,
    "55006": RETRYABLE,  # object in use
    "55P03": RETRYABLE,  # lock not available
    "57": UNKNOWN,  # operator intervention: 57P01 may come after the commit, while a replica is waited for
    "57014": RETRYABLE,  # statement timeout or cancel. A commit that is cancelled while it waits only warns.
    "57P03": RETRYABLE,  # cannot connect now: starting up, shutting down
    "57P05": RETRYABLE,  # the session sat idle for too long and was gone before it was asked
    "58": UNKNOWN,  # input and output errors of the system
    "P0": NON_RETRYABLE,  # raised by a procedure
    "XX": UNKNOWN,
}

# SQLite tells by name. What is busy or locked has not been done, and leaves the transaction open for another try.
SQLITE_NAMES: Final[Mapping[str, Classification]] = {
    "SQLITE_BUSY": RETRYABLE,
    "SQLITE_LOCKED": RETRYABLE,
    "SQLITE_CONSTRAINT": NON_RETRYABLE,
    "SQLITE_MISMATCH": NON_RETRYABLE,
    "SQLITE_RANGE": NON_RETRYABLE,
    "SQLITE_TOOBIG": NON_RETRYABLE,
    "SQLITE_READONLY": NON_RETRYABLE,
    "SQLITE_CANTOPEN": NON_RETRYABLE,
    "SQLITE_NOTADB": NON_RETRYABLE,
}

# Waiting for a connection of our own pool: the database was not asked.
POOLS: Final = ("sqlalchemy.exc.TimeoutError", "psycopg_pool.PoolTimeout", "psycopg_pool.TooManyRequests", "psycopg_pool.PoolClosed")


def sql_classifier() -> ErrorClassifier:
    """Return the rules for asyncpg, psycopg, psycopg2 and sqlite3, bare or inside SQLAlchemy's errors.

    >>> class SerializationFailure(Exception):
    ...     sqlstate = "40001"
    >>> sql_classifier().error(SerializationFailure())
    <Verdict retryable, counts>
    """
    types: dict[type[object] | str, Rule] = dict.fromkeys(POOLS, Verdict(RETRYABLE, counts_against_provider=False))
    return ErrorClassifier(types, codes={**SQLSTATES, **SQLITE_NAMES}, code_of=_listed_code)


def _listed_code(error: object) -> str | None:
    """Return the most exact listed form of what an error says: `SQLITE_BUSY_SNAPSHOT` is a `SQLITE_BUSY`."""
    for name in ("sqlstate", "pgcode"):
        code = attribute(error, name)
        if isinstance(code, str):
            return code if code in SQLSTATES else code[:2]
    code = attribute(error, "sqlite_errorname")
    return "_".join(code.split("_")[:2]) if isinstance(code, str) else None
