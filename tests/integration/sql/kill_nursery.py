"""A process that has imported everything and forks at a word: a relay or a producer lives within milliseconds of the one that was killed.

It reads one JSON object a line and answers with the pid of the child. At the end of its input it kills its children and ends; a child
whose nursery dies is killed by the kernel, so that no test leaves anything running.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self, final

from tests.integration.servers.runs import ROOT
from tests.integration.sql.kill_producer import produce
from tests.integration.sql.kill_relay import relay
from tests.integration.sql.kill_victim import victim

if TYPE_CHECKING:
    from collections.abc import Callable

WORK: Final[dict[str, Callable[[dict[str, Any]], None]]] = {"relay": relay, "produce": produce, "victim": victim}
PR_SET_PDEATHSIG: Final = 1


@final
class Nursery:
    """The test's end of it."""

    def __init__(self) -> None:
        paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.sql.kill_nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": paths},
        )

    def start(self, work: str, **told: Any) -> int:
        """Return the pid of a child that does this work."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"work": work, **told}) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=30)


def main() -> None:
    """Fork at each word."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children: the kernel buries them
    gc.freeze()
    children: list[int] = []
    told_by: Any = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 - a child must not inherit half a line
    while line := told_by.readline():
        told = json.loads(line)
        child = os.fork()
        if child == 0:
            _live(told)
        children.append(child)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def _live(told: dict[str, Any]) -> None:
    code = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(0)
        WORK[told.pop("work")](told)
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
