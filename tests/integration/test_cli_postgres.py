"""The command line over PostgreSQL: by each driver, in a schema of its own; and its password is told to nobody."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from finresilience.cli.main import main
from finresilience.clock import SystemClock
from tests.cli.banks import Bank
from tests.cli.commands import SIGNED

if TYPE_CHECKING:
    import pytest

    from tests.integration.servers.postgres import Database

DOWN = "tests.cli.commands.LedgerDown@banks.py:_publish"


def test_each_driver_sees_and_does_the_same(
    postgres: Database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*argv: str) -> tuple[int, Any]:
        capsys.readouterr()
        code = main([*argv, "--schema", "fin", "--json"])
        return code, json.loads(capsys.readouterr().out)

    in_schema(postgres)
    bank = Bank(postgres.url("psycopg"), schema="fin").filled()
    seen: list[Any] = []
    window = ("--since", "2020-01-01T00:00:00Z", "--until", SystemClock().utc().isoformat())
    lines = (("outbox", "dlq", "list"), ("outbox", "replay", *window), ("outbox", "purge", "--older-than", "0s"), ("inbox", "parked"))
    for url in (postgres.dsn, postgres.url("psycopg"), postgres.url("asyncpg"), postgres.url("psycopg_async")):
        monkeypatch.setenv("FINRESILIENCE_DATABASE_URL", url)
        told = [run(*line) for line in lines]
        seen.append([(code, document.get("matched"), document.get("total"), document.get("listed")) for code, document in told])
    assert seen[0] == [(1, None, 2, 2), (0, 6, None, None), (0, 6, None, None), (1, None, None, 1)]
    assert seen == [seen[0]] * 4

    assert run("idempotency", "purge", "--older-than", "0s", "--apply")[1]["done"] == 1
    monkeypatch.setenv("FINRESILIENCE_DATABASE_URL", postgres.url("asyncpg"))
    assert run("outbox", "replay", *window, *SIGNED)[1]["done"] == 6
    assert run("outbox", "dlq", "revive", "--fingerprint", DOWN, *SIGNED)[1]["done"] == 2
    assert (bank.outbox.statistics().pending, bank.outbox.statistics().dead) == (9, 0)
    bank.engine.dispose()


def test_a_server_that_lets_nobody_in_ends_with_three_and_without_the_password(
    postgres: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    for driver in ("psycopg", "asyncpg"):
        url = postgres.url(driver).replace("postgres@", "nobody:hunter2@")
        code = main(["outbox", "status", "--database-url", url])
        told = capsys.readouterr()
        assert (code, told.out, len(told.err.splitlines()), "hunter2" in told.err) == (3, "", 1, False)
        assert "nobody" in told.err


def test_the_tables_of_another_schema_are_missing(postgres: Database, capsys: pytest.CaptureFixture[str]) -> None:
    in_schema(postgres)
    Bank(postgres.url("psycopg"), schema="fin").engine.dispose()
    assert main(["outbox", "status", "--database-url", postgres.dsn]) == 3
    assert "table fin_outbox is missing" in capsys.readouterr().err


def in_schema(postgres: Database) -> None:
    import psycopg

    with psycopg.connect(postgres.dsn, autocommit=True) as own:
        own.execute("CREATE SCHEMA fin")
