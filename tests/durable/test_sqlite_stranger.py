"""The contract holds a store that it was not written for: a file, its own clock, real threads, the caller's own transaction."""

from __future__ import annotations

from itertools import count
from threading import Barrier
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from finresilience.testing import contracts
from tests.durable.sqlite_inbox import SqliteInbox
from tests.durable.sqlite_store import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path


class OnAFile:
    """What both contracts are told of a store on a file."""

    in_process = False
    tolerance = 0.5  # seconds that really pass while a law runs
    examples = 5
    folder: ClassVar[Path]
    numbers: ClassVar = count()

    @pytest.fixture(autouse=True)
    def _files(self, tmp_path: Path) -> None:
        type(self).folder = tmp_path

    def path(self) -> Path:
        return self.folder / f"{next(self.numbers)}.db"

    def advance(self, store: Any, seconds: float) -> None:
        store.skip(seconds)


class TestSqlite(OnAFile, contracts.IdempotencyStoreContract):
    def make_store(self) -> SqliteStore:
        return SqliteStore(self.path())


class TestSqliteInbox(OnAFile, contracts.InboxContract):
    def make_store(self) -> SqliteInbox:
        return SqliteInbox(self.path())


class Careless(SqliteStore):
    """Looks in one transaction and writes in another, as a service does that asks first whether a key is known."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.all_have_looked = Barrier(3, timeout=30)

    def claim(self, scope: str, key: str, **more: Any) -> Any:
        known = self.find(scope, key)
        self.all_have_looked.wait()
        with self.transaction() as db:
            if known is None:
                db.execute("DELETE FROM keys WHERE scope = ? AND key = ?", (scope, key))
            more.update(within=db)
            return super().claim(scope, key, **more)


def test_a_store_that_looks_and_then_writes_is_caught_on_real_threads(tmp_path: Path) -> None:
    class Mine(TestSqlite):
        def make_store(self) -> SqliteStore:
            return Careless(tmp_path / f"careless {next(self.numbers)}.db")

    name = "test_of_any_number_of_claimants_one_wins"
    assert "3 claimants were let in" in str(contracts.run(Mine, laws=[name])[name])
