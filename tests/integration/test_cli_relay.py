"""`finresilience relay` as a process: it serves, tells how it is, and leaves nothing held when it is told to stop."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import pytest

from finresilience.cli.health import Contact, Health, served
from finresilience.clock import SystemClock
from finresilience.durable.memory_outbox import MemoryOutbox
from finresilience.durable.relay import Relay
from finresilience.errors import ConfigurationError
from tests.cli.banks import Bank

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

SERVICE = """
import sys
from contextlib import asynccontextmanager
from time import sleep

from sqlalchemy import MetaData, create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from finresilience.cli import App
from finresilience.durable import Relay
from finresilience.sql import Tables

tables = Tables(MetaData(), partitions=4)


def publish(row):
    print(row.message.key, flush=True)


async def apublish(row):
    publish(row)


def slowly(row):
    publish(row)
    sleep(60)


engine = create_engine("sqlite:///bank.db")
plain = App(tables=tables, engine=engine, relay=Relay(tables.outbox.store(engine), publish))
slow = App(relay=Relay(tables.outbox.store(engine), slowly))


@asynccontextmanager
async def awaited():
    engine = create_async_engine("sqlite+aiosqlite:///bank.db")
    try:
        yield App(tables=tables, engine=engine, relay=Relay(tables.outbox.store(engine), apublish))
    finally:
        await engine.dispose()
        print("closed", flush=True)
"""


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    (tmp_path / "service.py").write_text(SERVICE)
    made = Bank(f"sqlite:///{tmp_path}/bank.db")
    made.add(["acc_1"])
    return made


@contextmanager
def running(folder: Path, app: str, *more: str) -> Generator[tuple[Any, str]]:
    """Run the relay of the service; yield the process and where its health is told."""
    line = [sys.executable, "-m", "finresilience", "relay", "--app", f"service:{app}", "--health", "127.0.0.1:0", *more]
    process = subprocess.Popen(line, cwd=folder, env=os.environ.copy(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        told = process.stderr.readline()
        found = re.search(r"http://([\d.:]+)/healthz", told)
        assert found, told + process.stderr.read()
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()


def get(at: str, path: str = "/healthz", method: str = "GET") -> tuple[int, str]:
    connection = HTTPConnection(at, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    told = answer.status, answer.read().decode()
    connection.close()
    return told


@pytest.mark.parametrize("app", ["plain", "awaited"])
@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_told_to_stop_it_gives_its_partitions_back_and_ends_well(bank: Bank, tmp_path: Path, app: str, told: signal.Signals) -> None:
    with running(tmp_path, app) as (process, at):
        assert process.stdout.readline() == "acc_1\n"
        assert bank.outbox.statistics().owned == 4
        status, page = get(at)
        document = json.loads(page)
        assert (status, document["state"], document["held_partitions"]) == (200, "running", 4)
        assert get(at, "/metrics")[1].count('finresilience_relay_held_partitions{relay="relay"} 4\n') == 1
        assert get(at, "/metrics", "DELETE")[0] == 405
        process.send_signal(told)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert out == ("closed\n" if app == "awaited" else "") + "relay relay has ended: published 1, settled 1\n"
    assert (bank.outbox.statistics().owned, bank.outbox.statistics().pending) == (0, 0)


def test_told_twice_it_ends_though_its_publisher_hangs_and_says_what_is_true(bank: Bank, tmp_path: Path) -> None:
    with running(tmp_path, "slow") as (process, at):
        assert process.stdout.readline() == "acc_1\n"
        process.send_signal(signal.SIGTERM)
        while json.loads(get(at)[1])["state"] != "draining":
            pass
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "what was published and not settled comes again" in err
    assert bank.outbox.statistics().pending == 1


# --- health over real sockets ------------------------------------------------------------------------------------------------------


def well() -> Health:
    store = MemoryOutbox()
    made = Health(Relay(store, lambda _: None), Contact(store, SystemClock()), stale=60.0)
    made.state = "running"
    return made


async def request(at: str, sent: bytes) -> bytes:
    host, _, port = at.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.write(sent)
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # as the command itself


async def test_half_a_request_holds_up_nobody() -> None:
    async with served(well(), ("127.0.0.1", 0)) as at:
        waits = asyncio.ensure_future(request(at, b"GET /heal"))
        for _ in range(40):
            assert (await request(at, b"GET /healthz HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        assert not waits.done()
    await waits


async def test_a_request_without_end_is_refused() -> None:
    async with served(well(), ("127.0.0.1", 0)) as at:
        answer = await request(at, b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 20_000)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")


async def test_a_crowd_beyond_the_bound_is_turned_away_and_the_next_is_served() -> None:
    async with served(well(), ("127.0.0.1", 0)) as at:
        crowd = [asyncio.ensure_future(request(at, b"GET")) for _ in range(40)]
        while sum(task.done() for task in crowd) < 8:
            await asyncio.sleep(0)
        assert await request(at, b"GET /healthz HTTP/1.1\r\n\r\n") == b""
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        while not (answer := await request(at, b"GET /healthz HTTP/1.1\r\n\r\n")):
            await asyncio.sleep(0)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(ConfigurationError, match="--health cannot listen there"):
            async with served(well(), ("127.0.0.1", taken.getsockname()[1])):
                pass


async def test_without_an_address_nothing_listens() -> None:
    async with served(well(), None) as at:
        assert at == ""
