"""Who starts the services, kills them without a word, and starts them again?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Self

from examples.payment_flow.service.home import NotUpError

if TYPE_CHECKING:
    from examples.payment_flow.service.home import Home

ROOT = Path(__file__).resolve().parents[3]
SERVICES = "examples.payment_flow.service.__main__:SERVICES"
CAST = {"ledger": "ledger", "notifications": "notifications", "payments": "payments", "relay 1": "relay", "relay 2": "relay"}
AT_THE_DOOR = ("ledger", "notifications", "payments")
PATIENCE = 30.0  # seconds for a service to come up, on a machine that is far too busy
DOWN = 0.3  # seconds until somebody has noticed, and starts it again


class DidNotStartError(Exception):
    """A service is not there."""


class Stage:
    """The processes of one run: `with Stage(home) as stage:`; none of them outlives the block, nor this process.

    Args:
        home: where they keep their own.
        services: what they are, by name: "module:name".
    """

    def __init__(self, home: Home, services: str = SERVICES) -> None:
        self._home = home
        self._services = services
        self._running: dict[str, int] = {}
        self._lock = Lock()  # of the nursery's ear

    def __enter__(self) -> Self:
        end, self._life_line = os.pipe()
        words = [sys.executable, "-m", "examples.payment_flow.crash.nursery", self._services, str(end), str(self._home.folder)]
        words += [] if self._home.db is None else [self._home.db]
        pipe = subprocess.PIPE
        self._nursery = subprocess.Popen(words, cwd=ROOT, stdin=pipe, stdout=pipe, pass_fds=(end,), text=True)  # noqa: S603 - our own words
        os.close(end)
        return self

    def wait(self) -> None:
        """Start everybody, and return once those who speak HTTP have said where."""
        self._hear()
        for name in CAST:
            self._start(name)
        until = time.monotonic() + PATIENCE
        for name in AT_THE_DOOR:
            while not self._is_up(name):
                if time.monotonic() > until:
                    raise DidNotStartError(f"{name} did not start; its own words:\n{self.log(name)}")
                time.sleep(0.005)

    def _is_up(self, name: str) -> bool:
        with suppress(NotUpError):
            return bool(self._home.address(name))
        return False

    def kill(self, name: str) -> None:
        """Kill it as the kernel does when memory is short (SIGKILL: it can do nothing about it), and start it again a little later."""
        os.kill(self._running[name], signal.SIGKILL)
        time.sleep(DOWN)
        self._start(name)

    def log(self, name: str) -> str:
        """Return what it has said so far."""
        path = self._home.folder / _log(name)
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def _start(self, name: str) -> None:
        assert self._nursery.stdin is not None
        with self._lock:
            with suppress(BrokenPipeError):
                print(CAST[name], _log(name), file=self._nursery.stdin, flush=True)
            self._running[name] = int(self._hear())

    def _hear(self) -> str:
        assert self._nursery.stdout is not None
        line = self._nursery.stdout.readline()
        if not line:
            raise DidNotStartError("the services could not be started; why stands above")
        return line

    def __exit__(self, *_: object) -> None:
        os.close(self._life_line)
        self._nursery.communicate()  # it returns when all of them have left


def _log(name: str) -> str:
    return f"{name.replace(' ', '_')}.log"
