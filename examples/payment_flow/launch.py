"""Who starts the providers, and makes sure that they leave?"""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from examples.payment_flow.script import PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Generator

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def providers(seed: int, count: int) -> Generator[dict[str, str]]:
    """Start both providers with empty books; give their addresses by name; end them whatever happens."""
    running: list[subprocess.Popen[str]] = []
    try:
        running.extend(_start(name, seed, count) for name in PROVIDERS)
        yield {name: _address(name, process) for name, process in zip(PROVIDERS, running, strict=True)}
    finally:
        for process in running:
            _end(process)


def _start(name: str, seed: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "examples.payment_flow.provider", "--name", name, "--seed", str(seed), "--payments", str(count)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own words


def _address(name: str, process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline().strip() if process.stdout else ""
    if not line:
        raise RuntimeError(f"the provider {name} did not start; its own words stand above")
    return f"http://127.0.0.1:{line}"


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(OSError):
        if process.stdin:
            process.stdin.close()
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()
