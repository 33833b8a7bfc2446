"""The command line over a SQLite file: by its URL alone, in this process and in one of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from finresilience.cli.main import main
from tests.cli.banks import Bank, contents
from tests.cli.commands import SIGNED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DOWN = "tests.cli.commands.LedgerDown@banks.py:_publish"
DAY = 86_400


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bank.db"


@pytest.fixture
def bank(path: Path) -> Bank:
    return Bank(f"sqlite:///{path}").filled()


@pytest.fixture(params=["sqlite", "sqlite+aiosqlite"])
def run(request: pytest.FixtureRequest, bank: Bank, path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def ran(*argv: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main([*argv, "--database-url", f"{request.param}:///{path}"])
        return code, capsys.readouterr().out

    return ran


def window(*, until: str = "2100-01-01T00:00:00Z") -> tuple[str, ...]:
    return ("--since", "2020-01-01T00:00:00Z", "--until", until)


def now() -> str:
    from finresilience.clock import SystemClock

    return SystemClock().utc().isoformat()


def test_status_tells_of_the_tables(run: Any) -> None:
    code, out = run("outbox", "status")
    assert code == 1
    assert re.sub(r"for \d+ \w+", "for # s", out) == (
        "pending    1, the oldest for # s\n"
        "published  6 kept\n"
        "dead       2\n"
        "parked     2 keys\n"
        "relays     no partition has an owner: does a relay run?\n"
        "\n"
        "partition  pending\n"
        "        3        1\n"
        "\n"
        "2 dead letters wait for a person: finresilience outbox dlq list\n"
        "2 keys are parked: their later events wait for their dead letters\n"
    )


def test_dead_letters_are_seen_by_their_cause(run: Any) -> None:
    code, out = run("outbox", "dlq", "list")
    assert code == 1
    assert re.sub(r"\d+ s  ", "# s  ", out) == (
        f"count  parked keys  oldest  newest  reason     fingerprint\n    2            2  # s     # s     exhausted  {DOWN}\n"
    )


LINES: list[tuple[str, ...]] = [
    ("outbox", "status"),
    ("outbox", "dlq", "list"),
    ("outbox", "dlq", "list", "--flat"),
    ("outbox", "dlq", "revive", "--fingerprint", DOWN),
    ("outbox", "dlq", "discard", "--fingerprint", DOWN),
    ("outbox", "purge", "--older-than", "1d"),
    ("outbox", "replay", *window(until="2021-01-01T00:00:00Z")),
    ("idempotency", "list"),
    ("idempotency", "show", "--scope", "bank/charge", "pay_1", "--payload"),
    ("idempotency", "purge", "--older-than", "1d"),
    ("inbox", "parked"),
    ("inbox", "unpark", "--group", "ledger", "m1"),
]


def test_without_apply_the_file_holds_afterwards_what_it_held(run: Any, bank: Bank, path: Path) -> None:
    bank.older(30 * DAY)
    before = contents(path)
    for line in LINES:
        code, out = run(*line)
        assert (code in {0, 1}, bool(out), contents(path) == before) == (True, True, True), line


def test_the_saboteur_that_writes_is_seen_in_the_file(run: Any, bank: Bank, path: Path) -> None:
    bank.older(30 * DAY)
    before = contents(path)
    run("outbox", "purge", "--older-than", "1d", "--apply")
    assert contents(path) != before


def test_revived_letters_are_published_by_the_next_relay(run: Any, bank: Bank) -> None:
    assert run("outbox", "dlq", "revive", "--fingerprint", DOWN, *SIGNED) == (0, "2 dead letters revived\n")
    assert (bank.outbox.statistics().dead, bank.outbox.statistics().pending) == (0, 3)


def test_a_discarded_letter_lets_its_key_go_on(run: Any, bank: Bank) -> None:
    letter = next(one for one in bank.outbox.dead_letters() if one.row.message.key == "acc_7")
    assert run("outbox", "dlq", "discard", str(letter.row.id), *SIGNED) == (0, "1 dead letter discarded\n")
    assert bank.outbox.statistics().parked_keys == 1


@pytest.mark.parametrize("age", ["7d", "31d"])
def test_a_purge_does_what_it_said_it_would(run: Any, bank: Bank, age: str) -> None:
    bank.older(30 * DAY)
    would = json.loads(run("outbox", "purge", "--older-than", age, "--json")[1])
    did = json.loads(run("outbox", "purge", "--older-than", age, "--apply", "--json")[1])
    assert (would["matched"], would["done"]) == (6 if age == "7d" else 0, 0)
    assert did["done"] == would["matched"]
    assert bank.outbox.statistics().published == 6 - did["done"]


def test_a_replay_does_what_it_said_it_would(run: Any, bank: Bank) -> None:
    bank.older(DAY)
    would = json.loads(run("outbox", "replay", *window(until=now()), "--json")[1])
    did = json.loads(run("outbox", "replay", *window(until=now()), *SIGNED, "--json")[1])
    assert (would["matched"], would["done"], did["done"]) == (6, 0, 6)
    assert bank.outbox.statistics().pending == 7


# --- where there is nothing as it should be ----------------------------------------------------------------------------------------


def test_tables_that_are_missing_are_named(run: Any, bank: Bank, capsys: pytest.CaptureFixture[str]) -> None:
    with bank.engine.begin() as own:
        own.exec_driver_sql("DROP TABLE fin_outbox_dead")
    assert run("inbox", "parked")[0] == 1
    capsys.readouterr()
    code = main(["outbox", "status", "--database-url", bank.url])
    told = capsys.readouterr()
    assert (code, told.out, len(told.err.splitlines())) == (3, "", 1)
    assert "table fin_outbox_dead is missing. Nothing was changed. Run your migration" in told.err


def test_another_prefix_means_other_tables(run: Any) -> None:
    assert run("outbox", "status", "--prefix", "fin_")[0] == 1
    assert run("outbox", "status", "--prefix", "pay_")[0] == 3


def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.db").write_text("no database at all, but a text that is long enough")
    assert main(["outbox", "status", "--database-url", f"sqlite:///{tmp_path}/x.db"]) == 3
    assert "file is not a database" in capsys.readouterr().err


def test_a_database_that_somebody_locks_ends_with_a_line(run: Any, bank: Bank, capsys: pytest.CaptureFixture[str]) -> None:
    with bank.engine.connect() as own:
        own.exec_driver_sql("BEGIN IMMEDIATE")
        code = main(["outbox", "purge", "--older-than", "0s", "--apply", "--database-url", f"{bank.url}?timeout=0.05"])
        own.rollback()
    told = capsys.readouterr()
    assert (code, told.out) == (1, "")
    assert "another transaction holds this row" in told.err


# --- a process of its own ------------------------------------------------------------------------------------------------------------


def finresilience(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "finresilience", *argv], env=os.environ | env, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_url_may_be_in_the_environment_and_the_record_is_on_stderr(bank: Bank) -> None:
    ended = finresilience("outbox", "dlq", "revive", "--fingerprint", DOWN, *SIGNED, "--json", FINRESILIENCE_DATABASE_URL=bank.url)
    assert (ended.returncode, json.loads(ended.stdout)["done"]) == (0, 2)
    begun, done = map(json.loads, ended.stderr.splitlines())
    assert (begun["event"], done["event"], done["by"], done["reason"]) == ("begun", "done", "ana", "ticket 7")


def test_a_reader_that_has_seen_enough_is_no_error(bank: Bank) -> None:
    line = f"{sys.executable} -m finresilience outbox status --json | head -c 1"
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        env=os.environ | {"FINRESILIENCE_DATABASE_URL": bank.url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "{", "")
