"""Profiles for property tests: a short one for every run, a long one for `make deep`. Each failure prints how to replay it.

And the watch over the real clock: a unit test that waits for it fails.
"""

from __future__ import annotations

import gc
import os
from collections import deque
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, settings

from finresilience import clock
from tests.real_time import nobody_waits, watch

if TYPE_CHECKING:
    from collections.abc import Generator

settings.register_profile("short", max_examples=60, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("deep", max_examples=5_000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("deep" if os.environ.get("FINRESILIENCE_DEEP") else "short")

IN_REAL_TIME: Final = {
    "integration": "real servers, sockets and processes, which take the time they take",
    "concurrency/test_bulkhead_mixes.py": "free-running threads, asyncio loops and trio runs meet at one gate, by the machine's clock",
}
"""Where tests may wait for the real clock, below tests/, and why."""

A_CROWD: Final = 60  # policies
A_WHILE: Final = 100  # tests

_TESTS: Final = Path(__file__).parent
_living: Final = deque([0], maxlen=1)
_tests_so_far: Final = count(1)


def may_take_real_time(path: Path) -> bool:
    """Return whether the tests in this file may wait for the real clock."""
    return any(path.is_relative_to(_TESTS / name) for name in IN_REAL_TIME)


def pytest_configure(config: pytest.Config) -> None:
    """Watch from before the first test until after the last. Each worker keeps to a core: its threads hand over in half the time there."""
    config.add_cleanup(watch())
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Let errors that are parameters go of the frames they were raised through: with them, the policies of that test would live on."""
    callspec = getattr(item, "callspec", None)
    for value in callspec.params.values() if callspec else ():
        if isinstance(value, BaseException):
            value.__traceback__ = None


def pytest_collection_finish() -> None:
    """Take what collection made, and will live until the end, out of the collector's sight: each look at all of it is dear."""
    gc.set_threshold(10_000)  # Hypothesis keeps a book of every look, and there would be a million
    bury_the_dead()


@pytest.hookimpl(trylast=True)
def pytest_runtest_logfinish() -> None:
    """Bury dead policies before there are thousands: until then, each is told of every change of the clock, as the living are."""
    if next(_tests_so_far) % A_WHILE == 0 or len(clock._governed) > _living[-1] + A_CROWD:
        bury_the_dead()


def bury_the_dead() -> None:
    """Collect garbage, and let later looks pass over what is left: between two tests that is caches and reports, ever more of them."""
    gc.collect()
    gc.freeze()
    _living.append(len(clock._governed))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a unit test that waited for the real clock."""
    if may_take_real_time(item.path) or not item.path.is_relative_to(_TESTS):
        return (yield)
    with nobody_waits():
        return (yield)
