"""Where does a service keep its own, and where does it find the others? No two services share a file, a schema or a transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event, make_url, text
from sqlalchemy.schema import CreateSchema, DropSchema

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine, MetaData

PREFIX = "payment_flow_"  # of schemas
POSTGRES = "postgresql+psycopg"


class NotUpError(Exception):
    """A service has not said yet where it is."""


@dataclass(frozen=True, slots=True)
class Home:
    """A folder with the SQLite files and the addresses of all services; with `db`, the data are in schemas there.

    Args:
        folder: of this run.
        db: the URL of a PostgreSQL, or None.
    """

    folder: Path
    db: str | None = None

    def engine(self, service: str) -> Engine:
        """Return an engine for what this service alone may read and write."""
        if self.db is None:
            made = create_engine(f"sqlite:///{self.folder / service}.db", connect_args={"timeout": 10.0})
            event.listen(made, "connect", _leave_syncing_to_checkpoints)
            return made
        return create_engine(self._url, connect_args={"options": f"-c search_path={PREFIX}{service}"}, pool_size=20)

    def empty(self, service: str, metadata: MetaData) -> Engine:
        """Make the tables anew, with nothing in them, and return an engine."""
        if self.db is not None:
            plain = create_engine(self._url)
            with plain.begin() as connection:
                connection.execute(DropSchema(f"{PREFIX}{service}", cascade=True, if_exists=True))
                connection.execute(CreateSchema(f"{PREFIX}{service}"))
            plain.dispose()
        engine = self.engine(service)
        if self.db is None:
            with engine.connect() as connection:
                connection.execute(text("PRAGMA journal_mode = WAL"))  # stays with the file: readers do not wait for writers
        metadata.create_all(engine)
        return engine

    @property
    def _url(self) -> Any:
        url = make_url(self.db or "")
        return url.set(drivername=POSTGRES) if url.drivername in {"postgresql", "postgres"} else url

    def announce(self, service: str, address: str) -> None:
        """Tell everybody where this service is from now on."""
        new = self.folder / f"{service}.{address.rpartition(':')[2]}"
        new.write_text(address, encoding="ascii")
        new.replace(self.folder / f"{service}.address")  # whole, or not at all

    def address(self, service: str) -> str:
        """Return where a service is, or was last.

        Raises:
            NotUpError: if it was never there.
        """
        try:
            return (self.folder / f"{service}.address").read_text(encoding="ascii")
        except FileNotFoundError as error:
            raise NotUpError(f"{service} has not said yet where it is") from error


def _leave_syncing_to_checkpoints(raw: Any, _: object) -> None:
    cursor = raw.cursor()
    cursor.execute("PRAGMA synchronous = NORMAL")  # what a process has committed outlives it; FULL is for when the power goes
    cursor.close()
