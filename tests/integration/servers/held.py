"""A server that is held: started by its keeper, and stopped when the last holder lets go or dies. For any server."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

S = TypeVar("S")

KEEPER: Final = Path(__file__).with_name("keeper.py")
OVER: Final = b"\0"  # the keeper's last word; an epitaph may follow
READY_WITHIN: Final = 60.0  # seconds; a loaded machine starts PostgreSQL in ten
LOOK_AGAIN: Final = 0.005  # seconds
TRIES: Final = 5  # for a port
LONGEST_FOLDER: Final = 60  # bytes; a socket's whole path has 103 on some systems


class ServerDiedError(Exception):
    """The server ended before it was ready. Its log follows."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """What a keeper is told: how a server is made ready, run and stopped, and what is removed at the end."""

    serve: list[str]
    folder: Path
    """Where it runs."""
    log: Path
    door: Path
    prepare: list[list[str]] = field(default_factory=list)
    stop: tuple[int, ...] = (signal.SIGTERM,)
    orphaned: int = signal.SIGKILL
    """What the server gets when its keeper is killed."""
    remove: tuple[Path, ...] = ()
    user: tuple[int, int] | None = None

    def told(self) -> str:
        """Return the instructions, as a keeper reads them."""
        told = {name: value for name, value in vars(self).items() if not isinstance(value, Path)}
        paths = {name: str(value) for name, value in vars(self).items() if isinstance(value, Path)}
        return json.dumps({**told, **paths, "remove": [str(path) for path in self.remove], "cores": sorted(_all_cores())})


@final
class Held:
    """One hold of a server. As long as there is one, the server runs."""

    def __init__(self, connection: socket.socket, door: Path, keeper: int | None = None) -> None:
        self.door = door
        """Where others may `join`."""
        self._connection = connection
        self.keeper = keeper or 0
        """Its pid, if we started it."""
        self._mine = os.getpid()
        self.pid = 0
        """The server's."""
        os.register_at_fork(after_in_child=connection.close)  # a child of ours does not keep the server alive

    @classmethod
    def start(cls, program: Program, ready: Callable[[int], bool]) -> Self:
        """Start a keeper, and return when its server is ready; raise `ServerDiedError` if it will not be."""
        ours, keepers = socket.socketpair()
        with keepers, program.log.open("ab") as log:
            to = [(os.POSIX_SPAWN_DUP2, keepers.fileno(), 0), *((os.POSIX_SPAWN_DUP2, log.fileno(), out) for out in (1, 2))]
            # -I -S: nothing of ours, which is slow to load; not by Popen, which warns of a child that outlives us
            keeper = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", str(KEEPER), program.told()],
                _plain_environment(),
                file_actions=to,
            )
        held = cls(ours, program.door, keeper)
        try:
            held._await(ready)
        except BaseException:
            held.leave()
            raise
        return held

    @classmethod
    def join(cls, door: Path) -> Self | None:
        """Hold a server that others hold; None if there is none any more."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(door))
            pid = connection.recv(64)
        except OSError:
            pid = b""
        if not pid:
            connection.close()
            return None
        held = cls(connection, door)
        held.pid = int(pid)
        return held

    def _await(self, ready: Callable[[int], bool]) -> None:
        deadline = time.monotonic() + READY_WITHIN
        heard = b""
        while not (self.pid and ready(self.pid)):
            if select.select([self._connection], [], [], LOOK_AGAIN)[0]:
                more = self._connection.recv(65_536)
                heard += more
                pid, over, epitaph = heard.partition(OVER)
                if over or not more:
                    raise ServerDiedError(epitaph.decode(errors="replace") or "its keeper could not start")
                self.pid = int(pid)
            if time.monotonic() > deadline:
                message = f"the server was not ready within {READY_WITHIN:g} s"
                raise TimeoutError(message)

    def gone(self, *, within: float) -> bool:
        """Whether the server ends in this time."""
        return bool(select.select([self._connection], [], [], within)[0])

    def leave(self) -> str:
        """Let go; if we were the last, return when the server has stopped and nothing is left of it.

        Return what is to be said if it had ended by itself, or nothing.
        """
        heard = b""
        if os.getpid() != self._mine or self._connection.fileno() < 0:
            return ""
        with self._connection:
            with suppress(OSError):  # it is over already
                self._connection.shutdown(socket.SHUT_WR)
            while more := self._connection.recv(65_536):
                heard += more
        _, over, epitaph = heard.partition(OVER)
        if self.keeper:
            with suppress(ChildProcessError):
                os.waitpid(self.keeper, 0 if over else os.WNOHANG)  # where others hold it, it lives on
        return epitaph.decode(errors="replace")


@dataclass(frozen=True)
class Server:
    """A server that runs as long as somebody holds it."""

    port: int
    log: Path
    held: Held

    @property
    def pid(self) -> int:
        """Of the process to which signals go. One that a test stopped (SIGSTOP) is woken at the end."""
        return self.held.pid

    def crash(self) -> None:
        """End it at once, as it ends when its machine does, but for the disk; it can start again on its folder and port."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, self._crashes_by)
        self.held.leave()

    _crashes_by = signal.SIGKILL

    def stop(self) -> None:
        """Let go. The last one to do so stops it. Raise `ServerDiedError` if it had ended by itself."""
        if epitaph := self.held.leave():
            raise ServerDiedError(epitaph)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextmanager
def one_at_a_time(file: Path) -> Generator[None]:
    """Let one process at a time through; the kernel lets go for one that dies."""
    with file.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def short_folder(user: tuple[int, int] | None = None) -> Generator[Path]:
    """Yield a new folder in which sockets have short paths, and through which this user may pass; remove it if the block raises."""
    usual = tempfile.gettempdir()
    for place in (usual, "/tmp") if len(os.fsencode(usual)) <= LONGEST_FOLDER else ("/tmp",):
        folder = Path(tempfile.mkdtemp(prefix="fr-", dir=place))
        try:
            if user is not None:
                folder.chmod(0o711)
            if may(user, "-x", folder):
                yield folder
                return
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        folder.rmdir()
    message = "found no folder for temporary files that any user may enter: set TMPDIR to one"
    raise PermissionError(message)


def may(user: tuple[int, int] | None, do: str, path: Path | str) -> bool:
    """Whether this user may do that, in the words of test(1). Asked of the system: modes are not the whole truth."""
    if user is None:
        return True
    asked = subprocess.run(["test", do, path], user=user[0], group=user[1], extra_groups=[], cwd="/", check=False)
    return asked.returncode == 0


def on_a_port(port: int | None, start: Callable[[int], S]) -> S:
    """Start a server on this port, or on a free one: another if somebody was quicker to take that."""
    for tries_left in range(TRIES - 1, -1, -1):
        try:
            return start(port or free_port())
        except ServerDiedError as died:
            if port or not tries_left or "already in use" not in str(died).lower():
                raise
    raise AssertionError


def free_port() -> int:
    """Return a port that nobody listens on, for the moment."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def somebody_else() -> tuple[int, int] | None:
    """Return the user and group of `nobody` if we are root, for servers that refuse to run as root."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _plain_environment() -> dict[str, str]:
    """Return our environment without what would change a server's mind."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith(("PG", "PYTHON", "LC_", "LANG"))}, "LC_ALL": "C"}


def _all_cores() -> set[int]:
    """Return the cores of the whole run: a worker of xdist keeps to one of them."""
    if not hasattr(os, "sched_getaffinity"):
        return set()
    whole: Any = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else 0
    with suppress(OSError):
        return set(os.sched_getaffinity(whole))
    return set()
