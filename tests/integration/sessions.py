"""What the tests of the pytest plugin share: a session of pytest in a process and a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Any, Final

import finresilience

OURS: Final = "finresilience.testing.plugin"
ANYIO: Final = "anyio.pytest_plugin"
ASYNCIO: Final = "pytest_asyncio.plugin"
XDIST: Final = "xdist.plugin"
_SOURCE: Final = str(Path(str(finresilience.__file__)).parents[1])


@dataclass(frozen=True)
class Session:
    """A session that is over."""

    code: int
    out: str

    def says(self, text: str) -> bool:
        return text in " ".join(self.out.split())

    def line(self, start: str) -> str:
        """Return what follows `start` in the one line that begins so."""
        (found,) = {line.removeprefix(start) for line in self.out.splitlines() if line.startswith(start)}
        return found

    def counts(self, **expected: int) -> bool:
        """Return whether the last line counts exactly these."""
        words = self.out.strip().splitlines()[-1].replace(",", "").split()
        told = {word.rstrip("s"): int(number) for number, word in pairwise(words) if number.isdigit()}
        return told == {name.rstrip("s"): number for name, number in expected.items()}


def session(folder: Path, *args: str, plugins: tuple[str, ...] = (OURS,), cache: bool = False, **settings: Any) -> Session:
    """Run pytest in `folder`, with these plugins and no others, and return what it said."""
    lines = "\n".join(f"{name} = {value}" for name, value in settings.items())
    (folder / "pytest.ini").write_text(f"[pytest]\n{lines}\nfilterwarnings = error\n", encoding="utf-8")
    given = [argument for plugin in (*plugins, *([] if cache else ["no:cacheprovider"])) for argument in ("-p", plugin)]
    return Session(*_ran(folder, "-m", "pytest", *given, *args, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"))


def found_by_itself(folder: Path, packages: Path) -> Session:
    """Run pytest in `folder` with every plugin that has an entry point, those in `packages` too."""
    return Session(*_ran(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", path=str(packages)))


def _ran(folder: Path, *args: str, path: str = "", **more: str) -> tuple[int, str]:
    """Run Python with nothing of the session around us in its environment."""
    paths = filter(None, [path, _SOURCE, os.environ.get("PYTHONPATH", "")])
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = {**inherited, **more, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, *args], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout + done.stderr


def script(folder: Path, program: str) -> str:
    """Run a program in `folder`, in an environment like that of `session`, and return what it printed."""
    code, out = _ran(folder, "-c", dedent(program), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert code == 0, out
    return out


def written(folder: Path, text: str, name: str = "test_it.py") -> Path:
    """Write a file of tests."""
    (folder / name).write_text(dedent(text), encoding="utf-8")
    return folder
