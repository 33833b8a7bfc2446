"""How often is a transaction run? Again, as long as the database takes it back because of others, and not for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from finresilience._checks import positive_count
from finresilience.sql.links import is_to_be_retried

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

Tx = TypeVar("Tx")
T = TypeVar("T")

ATTEMPTS: Final = 10


def run_in_transaction(begin: Callable[[], AbstractContextManager[Tx]], work: Callable[[Tx], T], *, attempts: int = ATTEMPTS) -> T:
    """Return what `work(transaction)` returns, committed; run anew, in a new transaction, after a serialization failure or a deadlock.

    What `work` does outside of the transaction it may do several times: call no provider in it.

    Args:
        begin: opens a transaction that commits at its end, such as `sessionmaker.begin` or `engine.begin`.
        work: what to do in it.
        attempts: how often at most; the last error is raised as it came.
    """
    positive_count("attempts", attempts, most=1000)
    for attempt in range(1, attempts + 1):
        try:
            with begin() as transaction:
                return work(transaction)
        except Exception as error:
            if attempt == attempts or not is_to_be_retried(error):
                raise
    raise AssertionError("unreachable")


async def arun_in_transaction(
    begin: Callable[[], AbstractAsyncContextManager[Tx]], work: Callable[[Tx], Awaitable[T]], *, attempts: int = ATTEMPTS
) -> T:
    """Return what `await work(transaction)` returns, committed: `run_in_transaction`, awaited."""
    positive_count("attempts", attempts, most=1000)
    for attempt in range(1, attempts + 1):
        try:
            async with begin() as transaction:
                return await work(transaction)
        except Exception as error:
            if attempt == attempts or not is_to_be_retried(error):
                raise
    raise AssertionError("unreachable")


def engine_of(sessions: Any, table: Any) -> Any:
    """Return the engine that a sessionmaker's sessions use for a table."""
    with sessions() as session:
        return session.get_bind(clause=table).engine


def async_engine_of(sessions: Any) -> Any:
    """Return the engine of an async_sessionmaker."""
    return sessions.kw.get("bind")
