"""The plugin beside pytest-asyncio and anyio's own: their tests, loops and reports are what they are without it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.sessions import ANYIO, ASYNCIO, OURS, Session, session, written

if TYPE_CHECKING:
    from pathlib import Path

SCOPE = {"asyncio_default_fixture_loop_scope": "function"}  # unset, some versions warn
# Each world: its plugins, its settings, and the marker that its async tests need.
WORLDS: dict[str, tuple[tuple[str, ...], dict[str, Any], str]] = {
    "pytest-asyncio, strict": ((ASYNCIO,), SCOPE | {"asyncio_mode": "strict"}, "@pytest.mark.asyncio"),
    "pytest-asyncio, auto": ((ASYNCIO,), SCOPE | {"asyncio_mode": "auto"}, ""),
    "anyio": ((ANYIO,), {}, "@pytest.mark.anyio"),
    "anyio, auto": ((ANYIO,), {"anyio_mode": "auto"}, ""),
    "anyio beside pytest-asyncio, strict": ((ANYIO, ASYNCIO), SCOPE | {"asyncio_mode": "strict", "anyio_mode": "auto"}, ""),
}
each_world = pytest.mark.parametrize("world", WORLDS)

THEIRS = """
    import asyncio, sys
    import pytest

    def loop_here():
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            import trio
            return type(trio.lowlevel.current_clock()).__qualname__
        return type(loop).__qualname__ + " " + str(loop.time.__func__.__qualname__)

    {marker}
    async def test_theirs():
        print("loop:", loop_here())

    def test_plain():
        pass
"""
OURS_TOO = """
    import pytest
    from finresilience import Constant, Effect, Money, Pipeline, Retry
    from finresilience.testing import run_virtual
    from finresilience.testing.faults import Fault, FaultKind

    acme = Pipeline("acme", Retry(attempts=3, backoff=Constant(60)), effect=Effect.IDEMPOTENT_BY_NATURE, listeners=[])

    {marker}
    async def test_fixtures_in_async_tests(history, fake_provider):
        provider = fake_provider("acme")
        with history.call("charge", "pay_1"):
            await provider.acharge("pay_1", Money("1.00", "EUR"))
        assert len(history) == 1

    def test_virtual_time_in_plain_tests(virtual_clock, simulation, fake_provider):
        provider = fake_provider("acme", [Fault(kind=FaultKind.BUSY, nth=(1, 2), retry_after=60)])
        guarded = Pipeline("acme", Retry(attempts=3), effect=Effect.IDEMPOTENT_BY_NATURE, classify=provider.classifier(), listeners=[])
        guarded.call(provider.charge, "pay_1", Money("1.00", "EUR"))
        assert virtual_clock.monotonic() >= 120

        async def scenario():
            import anyio
            await anyio.sleep(3600)
        simulation(scenario, seeds=2)

    {marker}
    async def test_clock_in_async_tests(virtual_clock):
        pass
"""


def run(folder: Path, world: str, text: str, *, ours: bool, sabotage: str = "") -> Session:
    plugins, settings, marker = WORLDS[world]
    written(folder, sabotage, "conftest.py")
    written(folder, text.format(marker=marker))
    return session(folder, "-q", "-s", plugins=(OURS, *plugins) if ours else plugins, **settings)


def told(done: Session) -> list[str]:
    """Return what a session said, without the time that it took."""
    return re.sub(r"in \d+\.\d+s", "", done.out).splitlines()


def law_of_their_loops(folder: Path, world: str, sabotage: str = "") -> None:
    without = run(folder, world, THEIRS, ours=False)
    assert without.code == 0, without.out
    assert without.says("loop: ")
    assert told(run(folder, world, THEIRS, ours=True, sabotage=sabotage)) == told(without)


@each_world
def test_their_tests_run_on_their_loops_and_report_as_ever(world: str, tmp_path: Path) -> None:
    law_of_their_loops(tmp_path, world)


@each_world
def test_our_fixtures_work_beside_them(world: str, tmp_path: Path) -> None:
    done = run(tmp_path, world, OURS_TOO, ours=True)
    loops = 2 if "anyio" in world else 1  # anyio's tests run on asyncio and on trio
    assert done.counts(passed=1 + loops, errors=loops), done.out
    assert done.says("virtual_clock rules in plain tests only")


A_LOOP_OF_OUR_OWN = """
    import asyncio, pytest

    class Virtual(asyncio.SelectorEventLoop):
        def time(self):
            return 0.0

    @pytest.fixture
    def anyio_backend():
        return "asyncio", {"loop_factory": Virtual}
"""


def test_a_plugin_that_brings_its_own_loop_is_caught(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        law_of_their_loops(tmp_path, "anyio, auto", A_LOOP_OF_OUR_OWN)
