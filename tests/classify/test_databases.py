"""What a database's error says of the transaction."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from finresilience.classify import sql_classifier
from finresilience.classify.sql import POOLS, SQLITE_NAMES, SQLSTATES
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Verdict
from tests.classify.raising import saying

NOT_NOW = Verdict(RETRYABLE, counts_against_provider=False)
# ---------------------------------------------------------------- SQL


class DatabaseError(Exception):
    def __init__(self, sqlstate: Any = None, pgcode: Any = None, name: Any = None) -> None:
        self.sqlstate, self.pgcode, self.sqlite_errorname = sqlstate, pgcode, name


@pytest.mark.parametrize(
    ("sqlstate", "told"),
    [
        ("08000", UNKNOWN),
        ("08001", RETRYABLE),
        ("08003", UNKNOWN),
        ("08004", RETRYABLE),
        ("08006", UNKNOWN),
        ("08007", UNKNOWN),
        ("08P01", UNKNOWN),
        ("22003", NON_RETRYABLE),
        ("23505", NON_RETRYABLE),
        ("25006", RETRYABLE),
        ("25P02", NON_RETRYABLE),
        ("25P03", RETRYABLE),
        ("28P01", NON_RETRYABLE),
        ("40001", RETRYABLE),
        ("40002", NON_RETRYABLE),
        ("40003", UNKNOWN),
        ("40P01", RETRYABLE),
        ("42601", NON_RETRYABLE),
        ("42P01", NON_RETRYABLE),
        ("53100", RETRYABLE),
        ("53300", RETRYABLE),
        ("55P03", RETRYABLE),
        ("57014", RETRYABLE),
        ("57P01", UNKNOWN),
        ("57P02", UNKNOWN),
        ("57P03", RETRYABLE),
        ("57P05", RETRYABLE),
        ("58030", UNKNOWN),
        ("P0001", NON_RETRYABLE),
        ("XX000", UNKNOWN),
        ("ZZ999", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_a_sqlstate_tells_whether_it_was_committed(sqlstate: Any, told: Any) -> None:
    assert sql_classifier().error(DatabaseError(sqlstate)).classification is told
    assert sql_classifier().error(DatabaseError(pgcode=sqlstate)).classification is told


def test_every_sqlstate_is_a_code_or_a_class() -> None:
    assert {len(code) for code in SQLSTATES} == {2, 5}
    assert all(code[:2] in SQLSTATES for code in SQLSTATES if not code.startswith("55"))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("SQLITE_BUSY", RETRYABLE),
        ("SQLITE_BUSY_SNAPSHOT", RETRYABLE),
        ("SQLITE_LOCKED_SHAREDCACHE", RETRYABLE),
        ("SQLITE_CONSTRAINT_UNIQUE", NON_RETRYABLE),
        ("SQLITE_IOERR_WRITE", UNKNOWN),
        ("SQLITE_FULL", UNKNOWN),
        ("SQLITE_CORRUPT", UNKNOWN),
    ],
)
def test_sqlite_tells_by_name(name: Any, told: Any) -> None:
    assert sql_classifier().error(DatabaseError(name=name)).classification is told


def test_real_sqlite_errors_are_told() -> None:
    database = sqlite3.connect(":memory:")
    database.execute("create table t (id primary key)")
    database.execute("insert into t values (1)")
    with pytest.raises(sqlite3.IntegrityError) as twice:
        database.execute("insert into t values (1)")
    with pytest.raises(sqlite3.OperationalError) as nonsense:
        database.execute("insert where")
    database.close()
    assert sql_classifier().error(twice.value) == Verdict(NON_RETRYABLE)
    assert sql_classifier().error(nonsense.value) == Verdict(UNKNOWN)  # SQLITE_ERROR says everything and nothing


def test_a_database_error_is_read_through_the_one_that_wraps_it() -> None:
    wrapper = saying(RuntimeError("(OperationalError) ..."), code="e3q8")  # SQLAlchemy: where it is documented
    wrapper.__cause__ = DatabaseError("40001")
    assert sql_classifier().error(wrapper) == Verdict(RETRYABLE)


@pytest.mark.parametrize("name", POOLS)
def test_a_full_pool_of_connections_is_not_the_databases_fault(name: Any) -> None:
    module, _, qualname = name.rpartition(".")
    kind = type(qualname, (Exception,), {"__module__": module})
    assert sql_classifier().error(kind()) == NOT_NOW


def test_an_answer_of_a_database_is_ordinary() -> None:
    assert sql_classifier().value(object()) is None
    assert set(SQLITE_NAMES.values()) == {RETRYABLE, NON_RETRYABLE}
