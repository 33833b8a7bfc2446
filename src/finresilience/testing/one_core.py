"""Threads of which one runs at a time hand over in half the time on one core: no core must wake another."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Generator

_STATUS: Final = Path("/proc/thread-self/stat")
_CORE: Final = 36  # the place of `processor` behind the name, which ends in a parenthesis: proc_pid_stat(5)


@contextmanager
def one_core() -> Generator[None]:
    """Keep this thread, and those that it starts meanwhile, on the core where it runs; where the system cannot, do nothing."""
    try:
        before = os.sched_getaffinity(0)
        here = int(_STATUS.read_text(errors="replace").rpartition(")")[2].split()[_CORE])
        os.sched_setaffinity(0, {here})
    except (AttributeError, OSError, IndexError, ValueError):  # no Linux, no /proc, or a sandbox that forbids it
        yield
        return
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
