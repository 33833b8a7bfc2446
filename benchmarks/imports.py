"""What does the first line of a program cost? `python -X importtime` in fresh interpreters, in turns; all that comes after `site`."""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median
from typing import NamedTuple

from benchmarks.harness import OURS

LIMIT = 20.0  # milliseconds
BASE = "tenacity"
STATEMENTS = {
    OURS: "from finresilience import Pipeline, CircuitBreaker, Retry, Bulkhead, Timeout",
    "tenacity": "import tenacity",
    "stamina": "import stamina",
    "pybreaker": "import pybreaker",
    "circuitbreaker": "import circuitbreaker",
    "purgatory": "import purgatory",
    "nopanic": "import nopanic",
    "resilix": "import resilix",
    "interlock-cb": "import interlock",
}


class Import(NamedTuple):
    """One run: milliseconds and modules after `site`."""

    ms: float
    modules: int


def timed(statement: str) -> Import:
    """Run the statement in a fresh interpreter; ImportError with its last words if it cannot."""
    # A tree that runs from source has no bytecode where writing it is forbidden, and would be charged for compiling itself.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", statement], capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        raise ImportError(done.stderr.strip().splitlines()[-1])
    micros: list[int] = []
    after_site = False
    for line in done.stderr.splitlines():
        own, _, rest = line.removeprefix("import time:").partition("|")
        if after_site and own.strip().isdigit():
            micros.append(int(own))
        after_site = after_site or rest.rpartition("|")[2].strip() == "site"
    return Import(sum(micros) / 1000, len(micros))


def race(rounds: int) -> tuple[dict[str, list[Import]], dict[str, str]]:
    """Import each in turn, `rounds` times; return the runs, and why some could not run."""
    runs: dict[str, list[Import]] = {}
    absent: dict[str, str] = {}
    for count in range(rounds + 1):
        for name, statement in STATEMENTS.items():
            if name in absent:
                continue
            try:
                seen = timed(statement)
            except ImportError as error:
                absent[name] = str(error) if name != OURS else f"not there yet ({error})"
                runs.pop(name, None)
            else:
                if count:  # the first run does not count: it writes the bytecode and warms the disk
                    runs.setdefault(name, []).append(seen)
    return runs, absent


def ms(runs: list[Import]) -> float:
    return median(run.ms for run in runs)


def ratio(runs: list[Import], base: list[Import]) -> float:
    return median(own.ms / other.ms for own, other in zip(runs, base, strict=True))
