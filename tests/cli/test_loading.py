"""Where the stores come from: whatever `--app` names becomes an App, and is closed as it was opened; what it cannot be is said."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import MetaData, create_engine

from finresilience import ConfigurationError, Pipeline, Timeout
from finresilience.cli import App as Exported
from finresilience.cli.app import App
from finresilience.durable.relay import Relay
from finresilience.sql import Tables
from tests.cli.commands import outbox_with

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from pathlib import Path

    from tests.cli.commands import Shell

STATUS = ("outbox", "status")


def test_the_app_is_a_name_of_the_room() -> None:
    assert Exported is App


# --- shapes ----------------------------------------------------------------------------------------------------------------------


async def later() -> App:
    return App(outbox=outbox_with())


@contextmanager
def opened_sync() -> Generator[App]:
    yield App(outbox=outbox_with())


@asynccontextmanager
async def opened_async() -> AsyncGenerator[App]:
    yield App(outbox=outbox_with())


SHAPES: dict[str, Any] = {
    "an App": App(outbox=outbox_with()),
    "an object with stores": SimpleNamespace(outbox=outbox_with()),
    "a function": lambda: App(outbox=outbox_with()),
    "a function with defaults": lambda size=3: App(outbox=outbox_with(published=size)),
    "an async function": later,
    "a function that opens": opened_sync,
    "a function that opens asynchronously": opened_async,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_it_names_becomes_an_app(finresilience: Shell, shape: str) -> None:
    finresilience.let(app=SHAPES[shape])
    assert finresilience(*STATUS).code == 0


def test_a_name_may_be_deep(finresilience: Shell) -> None:
    finresilience.let(bank=SimpleNamespace(app=App(outbox=outbox_with())))
    assert finresilience(*STATUS, app="bank:bank.app").code == 0


def test_a_pair_of_tables_and_engine_has_every_store(tmp_path: Path) -> None:
    app = App(tables=Tables(MetaData()), engine=create_engine(f"sqlite:///{tmp_path}/x.db"))
    assert all(app.part(name) is not None for name in ("outbox", "idempotency", "inbox"))


def test_what_was_opened_is_closed_also_if_the_command_fails(finresilience: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    @asynccontextmanager
    async def opened() -> AsyncGenerator[App]:
        try:
            yield App(outbox=store)
        finally:
            heard.append("closed")

    def refuses() -> None:
        raise ConnectionRefusedError("no")

    store = outbox_with()
    monkeypatch.setattr(store, "statistics", refuses)
    finresilience.let(app=opened)
    assert (finresilience(*STATUS).code, heard) == (3, ["closed"])


# --- refusals --------------------------------------------------------------------------------------------------------------------


REFUSED: dict[str, tuple[Any, str]] = {
    "a number": (7, "names a int: give an App"),
    "a function that wants arguments": (str.strip, "a function that wants arguments"),
    "Tables alone": (Tables(MetaData()), r"give a (tables, engine) pair"),
    "an App without an outbox": (App(), "has no outbox: give App(outbox=...)"),
    "a Pipeline": (Pipeline("a", Timeout(1.0)), "has no outbox"),
    "an object whose outbox is none": (SimpleNamespace(outbox=3), "give an OutboxStore"),
    "a function that returns itself": (lambda: REFUSED["a function that returns itself"][0], "give an App"),
}


@pytest.mark.parametrize("shape", REFUSED)
def test_what_it_cannot_be_is_said_in_one_line(finresilience: Shell, shape: str) -> None:
    named, says = REFUSED[shape]
    finresilience.let(app=named)
    said = finresilience(*STATUS)
    assert (said.code, said.out, len(said.err.splitlines())) == (2, "", 1)
    assert says in said.err


@pytest.mark.parametrize(
    ("app", "says"),
    [
        ("bank", "takes module:object"),
        ("bank:", "takes module:object"),
        ("no_such_bank:app", "cannot be imported (try: python -c 'import no_such_bank'): ModuleNotFoundError"),
        ("bank:other", "there is no other in it"),
        (None, "say where the tables are"),
    ],
)
def test_a_name_that_leads_nowhere_is_said(finresilience: Shell, app: str | None, says: str) -> None:
    finresilience.let(app=App())
    said = finresilience(*STATUS, app=app)
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert says in said.err


@pytest.mark.parametrize(("word", "value"), [("--schema", "fin"), ("--prefix", "pay_"), ("--database-url", "sqlite:///x.db")])
def test_two_places_are_one_too_many(finresilience: Shell, word: str, value: str) -> None:
    finresilience.let(app=App(outbox=outbox_with()))
    assert finresilience(*STATUS, word, value).code == 2


def test_a_module_that_fails_is_named_with_the_line_and_not_with_what_it_says(
    finresilience: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sick_bank.py").write_text('raise RuntimeError("postgresql://u:hunter2@db")\n')
    monkeypatch.syspath_prepend(tmp_path)
    said = finresilience(*STATUS, app="sick_bank:app")
    assert said.code == 2
    assert said.err.endswith("RuntimeError at sick_bank.py:1\n")
    assert "hunter2" not in said.err


def test_a_factory_that_fails_is_named_with_the_line_and_not_with_what_it_says(finresilience: Shell) -> None:
    def fails() -> None:
        raise RuntimeError("hunter2")

    finresilience.let(app=fails)
    said = finresilience(*STATUS)
    assert (said.code, "hunter2" in said.err) == (2, False)
    assert "could not make what it names: RuntimeError at test_loading.py:" in said.err


def test_a_module_in_the_working_folder_is_found(finresilience: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "near_bank.py").write_text(
        "from finresilience.cli import App\nfrom tests.cli.commands import outbox_with\napp = App(outbox=outbox_with())\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert finresilience(*STATUS, app="near_bank:app").code == 0


@pytest.mark.parametrize(
    "parts",
    [
        {"outbox": 1},
        {"idempotency": outbox_with()},
        {"inbox": outbox_with()},
        {"relay": outbox_with()},
        {"pipelines": (1,)},
        {"tables": Tables(MetaData())},
        {"tables": 1, "engine": 1},
        {"engine": create_engine("sqlite://")},
    ],
)
def test_an_app_of_the_wrong_parts_is_refused_where_it_is_made(parts: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="give"):
        App(**parts)


def test_an_app_shows_what_it_has_and_not_where(tmp_path: Path) -> None:
    app = App(tables=Tables(MetaData()), engine=create_engine("postgresql+psycopg://u:hunter2@db/x"), relay=Relay(outbox_with(), print))
    assert repr(app) == "<App of outbox, idempotency, inbox, relay, tables, engine>"
