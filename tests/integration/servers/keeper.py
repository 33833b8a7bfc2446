"""A server's keeper: a small process that starts it, and stops it when nobody holds it any more, however the holders ended.

A holder is a connection to the keeper. The kernel closes it also for a process that was killed, so a killed run leaves nothing behind.
Whoever starts the keeper holds it by the socket that is the keeper's standard input; others come by the socket `door`. Each is told the
server's pid when it runs; then nothing is said until the end. At the end it says that it is over; and, if the
server had ended by itself, the end of its log.

Run as a script, with its instructions as JSON. It uses the standard library only, and none of our own: it must start in no time.
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, final

OVER: Final = b"\0"
PATIENCE: Final = 10.0  # seconds, for each way of asking a server to stop
TOLD_OF_THE_LOG: Final = 8_000  # bytes
_PR_SET_PDEATHSIG: Final = 1
_LAST_WISHES: Final = frozenset({signal.SIGTERM, signal.SIGHUP, signal.SIGINT})


@final
class Keeper:
    """Keeps one server for those who hold it."""

    def __init__(self, instructions: dict[str, Any]) -> None:
        self._ask = instructions
        self._log = Path(instructions["log"])
        self._holders: set[socket.socket] = set()
        self._ears = selectors.DefaultSelector()
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._libc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None

    def keep(self) -> None:
        """Return when the server has stopped, and what was made for it is removed."""
        signals = _told_of_signals()
        self._door.bind(self._ask["door"])
        self._door.listen(128)
        self._ears.register(self._door, selectors.EVENT_READ)
        self._ears.register(signals, selectors.EVENT_READ)
        starter = socket.socket(fileno=0)
        self._holders.add(starter)
        epitaph = b""
        try:
            for preparation in self._ask["prepare"]:
                subprocess.CompletedProcess(preparation, self._child(preparation).wait()).check_returncode()
            server = self._child(self._ask["serve"])
            self._welcome(starter, server)
            self._attend(server, signals)
            epitaph = self._end(server)
        except Exception as error:
            epitaph = b"\n%s\n%s" % (repr(error).encode(), self._written())
        finally:
            with suppress(OSError):
                Path(self._ask["door"]).unlink()
            self._door.close()
            for folder in self._ask["remove"]:
                shutil.rmtree(folder, ignore_errors=True)
            for holder in self._holders:  # last: who hears this end may look for leftovers
                with suppress(OSError):
                    holder.sendall(OVER + epitaph)
                holder.close()

    def _attend(self, server: subprocess.Popen[bytes], signals: socket.socket) -> None:
        """Return when the server has ended, or nobody holds it, or we are asked to end."""
        while True:
            for key, _ in self._ears.select():
                heard: Any = key.fileobj
                if heard is self._door:
                    self._welcome(self._door.accept()[0], server)
                elif heard is signals:
                    if _LAST_WISHES & set(signals.recv(64)) or server.poll() is not None:
                        return
                elif not _still_there(heard):
                    self._ears.unregister(heard)
                    self._holders.discard(heard)
                    if not self._holders:  # it waits for the end: see `Held.leave`
                        self._holders.add(heard)
                        return
                    heard.close()

    def _welcome(self, holder: socket.socket, server: subprocess.Popen[bytes]) -> None:
        with suppress(OSError):  # gone again
            holder.sendall(b"%d\n" % server.pid)
        self._holders.add(holder)
        self._ears.register(holder, selectors.EVENT_READ)

    def _child(self, command: list[str]) -> subprocess.Popen[bytes]:
        user, group = self._ask["user"] or (None, None)
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._ask["folder"],
                preexec_fn=self._die_with_me,  # noqa: PLW1509 - we have one thread
                user=user,
                group=group,
                extra_groups=None if user is None else [],
            )

    def _die_with_me(self) -> None:
        """In the child: end when the keeper is killed. After the change of user, which would undo it."""
        if self._libc is not None:
            self._libc.prctl(_PR_SET_PDEATHSIG, self._ask["orphaned"], 0, 0, 0)

    def _end(self, server: subprocess.Popen[bytes]) -> bytes:
        """Stop the server, ever less politely; return the end of its log if it had ended by itself."""
        if server.poll() is not None:
            return b"\nended by itself, exit status %d\n%s" % (server.returncode, self._written())
        for sign in (*self._ask["stop"], signal.SIGKILL):
            server.send_signal(sign)
            server.send_signal(signal.SIGCONT)  # a test may have left it stopped
            with suppress(subprocess.TimeoutExpired):
                server.wait(PATIENCE)
                break
        return b""

    def _written(self) -> bytes:
        return self._log.read_bytes()[-TOLD_OF_THE_LOG:]


def _still_there(holder: socket.socket) -> bool:
    """Whether it said something rather than left."""
    try:
        return bool(holder.recv(64))
    except OSError:
        return False


def _told_of_signals() -> socket.socket:
    """Return a socket on which each signal to us, and the end of each child, is a byte."""
    hears, tells = socket.socketpair()
    tells.setblocking(False)
    signal.set_wakeup_fd(tells.detach())
    for sign in (*_LAST_WISHES, signal.SIGCHLD):
        signal.signal(sign, _heard)
    return hears


def _heard(*_: object) -> None:
    """Nothing here: the byte on the socket says it."""


if __name__ == "__main__":
    os.setsid()  # what is typed at the terminal of the tests is none of our business
    asked: dict[str, Any] = json.loads(sys.argv[1])
    if asked["cores"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, asked["cores"])  # a worker keeps to one core; its server need not
    Keeper(asked).keep()
