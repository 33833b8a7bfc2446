"""How a command fails: one line, an exit code, no secret; and a mistake of ours keeps its traceback."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st
from sqlalchemy.exc import OperationalError

from finresilience import ConfigurationError
from finresilience.cli.app import App
from finresilience.cli.failures import line_of, secrets_of
from finresilience.durable.errors import StaleRecordError
from finresilience.sql import SchemaError
from tests.cli.commands import outbox_with

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.commands import Shell

URL = "postgresql+psycopg://ana:hunt%40er%2F2@db/bank?sslpassword=hunter3"


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ConfigurationError("give more"), 2, "give more"),
        (StaleRecordError("completed"), 1, "Nothing was written."),
        (SchemaError(["table fin_outbox is missing"]), 3, "table fin_outbox is missing. Nothing was changed. Run your migration"),
        (SchemaError([f"column {n} is missing" for n in range(9)]), 3, "column 3 is missing; and 5 more"),
        (ConnectionRefusedError(111, "Connection refused"), 3, "ConnectionRefusedError: [Errno 111] Connection refused"),
        (TimeoutError(), 3, "the database did not do it: TimeoutError. Look"),
        (sqlite3.OperationalError("database is locked"), 3, "OperationalError: database is locked"),
        (OperationalError("SELECT secret", {}, sqlite3.OperationalError("no\nKey (iban)=(DE00)")), 3, "OperationalError: no. Look"),
    ],
)
def test_an_error_is_one_line_and_a_code(error: Exception, code: int, says: str) -> None:
    line, ends = line_of(error)
    assert (ends, "\n" in line) == (code, False)
    assert says in line
    assert "DE00" not in line


@pytest.mark.parametrize("mistake", [TypeError("x"), AttributeError("x"), AssertionError("x")])
def test_a_mistake_in_code_keeps_its_traceback(mistake: Exception) -> None:
    with pytest.raises(type(mistake)) as caught:
        line_of(mistake)
    assert caught.value is mistake


def test_whatever_a_driver_says_the_password_is_not_in_it() -> None:
    for spelling in ("hunt%40er%2F2", "hunt@er/2", "hunter3"):
        line, _ = line_of(ConnectionRefusedError(f"no entry for ana with {spelling}"), secrets_of(URL))
        assert spelling not in line


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=4).filter(lambda text: text.strip("*")))
def test_a_password_is_found_however_it_is_spelled(password: str) -> None:
    found = secrets_of(f"postgresql://ana:{password}@db/bank")
    assert password in found


def test_a_url_without_a_password_has_no_secret() -> None:
    assert [secrets_of(url) for url in (None, "", "sqlite:///x.db", "postgresql://db/bank", "postgresql://ana@db/bank")] == [[]] * 5


@pytest.mark.parametrize("url", ["postgresql://u:hunter2@db:port/x", "hunter2", "mysql://u:hunter2@db/x", "://hunter2"])
def test_a_url_that_cannot_be_read_is_not_shown(finresilience: Shell, url: str) -> None:
    said = finresilience("outbox", "status", "--database-url", url, app=None)
    assert (said.code, "hunter2" in said.err) == (2, False)
    assert "give postgresql://HOST/NAME or sqlite:///PATH" in said.err


def test_a_sqlite_file_that_is_not_there_is_not_made(finresilience: Shell, tmp_path: Path) -> None:
    said = finresilience("outbox", "status", "--database-url", f"sqlite:///{tmp_path}/none.db", app=None)
    assert (said.code, "there is no SQLite file" in said.err) == (3, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?uri=true"])
def test_a_database_in_memory_is_nobodys(finresilience: Shell, url: str) -> None:
    assert finresilience("outbox", "status", "--database-url", url, app=None).code == 2


def test_without_a_driver_it_says_what_to_install(finresilience: Shell) -> None:
    said = finresilience("outbox", "status", "--database-url", "postgresql+pg8000://u@db/x", app=None)
    assert (said.code, "the driver pg8000 is not installed" in said.err) == (2, True)


def test_an_interrupt_ends_as_shells_expect(finresilience: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    store = outbox_with()
    monkeypatch.setattr(store, "statistics", interrupted)
    finresilience.let(app=App(outbox=store))
    assert finresilience("outbox", "status").code == 130


def test_whoever_stops_reading_ends_nothing_badly(finresilience: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        encoding = "utf-8"

        def write(self, _: str) -> None:
            raise BrokenPipeError

    finresilience.let(app=App(outbox=outbox_with()))
    monkeypatch.setattr(sys, "stdout", Closed())
    from finresilience.cli.main import main

    assert main(["outbox", "status", "--app", "bank:app"]) == 0


def test_what_a_terminal_cannot_spell_is_escaped(finresilience: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from io import BytesIO, TextIOWrapper

    from finresilience.cli.main import main
    from tests.cli.commands import event, filled

    store, page = outbox_with(), BytesIO()
    filled(store, event("k", tenant="Zürich"))
    finresilience.let(app=App(outbox=store))
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(page, encoding="ascii"))
    assert main(["outbox", "status", "--app", "bank:app"]) == 0
    assert b"Z\\xfcrich" in page.getvalue()


def test_help_loads_no_database_and_no_loop() -> None:
    heavy = (
        "sqlalchemy",
        "asyncio",
        "anyio",
        "json",
        "dataclasses",
        "logging",
        "hashlib",
        "finresilience.durable",
        "finresilience.policies",
    )
    script = f"import sys; from finresilience.cli.main import main; main(['--help']); sys.exit(' '.join({heavy!r} & sys.modules.keys()))"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.stderr.strip() == ""
