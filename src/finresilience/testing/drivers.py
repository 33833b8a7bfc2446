"""Which pieces of work do drivers of databases send out of the loop, without telling it? Asked where they make a future.

A driver such as aiosqlite keeps a thread of its own, and for each piece of work hands it a future of the loop; one such as asyncpg makes a
future for each answer of its server. So the loop is asked where futures are made and descriptors are watched, and nothing of the
driver is replaced: connections made before the run are seen too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import FrameType

THREADS: Final = frozenset({"aiosqlite.core", "sqlalchemy.dialects.sqlite.aiosqlite"})
"""Modules that make a future for nothing but to hand it to a connection's thread, pinned by a test."""

SERVERS: Final = frozenset(
    {"asyncpg.connect_utils", "asyncpg.connection", "asyncpg.cursor", "asyncpg.prepared_stmt", "asyncpg.transaction", "psycopg.waiting"}
)
"""Modules that make a future, or watch a descriptor, for nothing but the answer of a server. The pool of asyncpg is none of them."""


def answered_by_a_thread(frame: FrameType) -> bool:
    """Return whether whoever makes a future in `frame` hands it to a thread, which is alive and will answer."""
    if frame.f_globals.get("__name__") not in THREADS:
        return False
    owner: Any = frame.f_locals.get("self")
    connection: Any = getattr(owner, "_connection", None) if frame.f_globals["__name__"] != "aiosqlite.core" else owner
    thread: Any = getattr(connection, "_thread", connection)  # until 0.21, the connection was the thread
    return bool(thread.is_alive()) if hasattr(thread, "is_alive") else True


def answered_by_a_server(frame: FrameType) -> bool:
    """Return whether whoever makes a future, or watches a descriptor, in `frame` waits for a server's answer."""
    return frame.f_globals.get("__name__") in SERVERS
