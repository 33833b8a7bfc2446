"""Canaries: what we use of SQLAlchemy and of drivers that they do not promise. Each is one line of ours, and named here."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import aiosqlite
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool.base import _ConnectionFairy

if TYPE_CHECKING:
    from pathlib import Path


def test_a_clean_connection_can_go_back_to_the_pool_without_a_rollback() -> None:
    assert callable(_ConnectionFairy._close_special)


def test_an_engine_knows_the_isolation_that_it_was_made_with(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'it.db'}", isolation_level="AUTOCOMMIT")
    assert engine.dialect._on_connect_isolation_level == "AUTOCOMMIT"


def test_a_session_knows_the_connections_of_its_transaction_and_a_connection_the_name_of_its_savepoint(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'it.db'}")
    with Session(engine) as session:
        session.begin()
        root = session.get_transaction()
        assert root is not None
        assert not root._connections
        connection = session.connection()
        assert root._connections
        with connection.begin_nested() as nested:
            assert nested._savepoint.rpartition("_")[2].isdecimal()


def test_aiosqlite_runs_a_function_in_its_thread() -> None:
    import anyio

    async def run() -> None:
        async with aiosqlite.connect(":memory:") as connection:
            assert isinstance(connection._conn, sqlite3.Connection)
            assert await connection._execute(lambda raw: raw.execute("SELECT 1").fetchone(), connection._conn) == (1,)

    anyio.run(run)
