"""The pytest plugin: fixtures for clocks, providers, histories and simulations, and options that run a failure again.

It imports nothing heavy, collects nothing, and leaves every event loop to its owner: whatever a fixture needs is loaded by the first
test that asks for it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from finresilience.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from pathlib import Path

    from finresilience.testing.clock import ManualClock
    from finresilience.testing.faults import Fault, FaultPlan
    from finresilience.testing.history import History
    from finresilience.testing.provider import FakeProvider
    from finresilience.testing.virtual import Backend

_SEED: Final = "--finresilience-seed"
_REPLAY: Final = "--finresilience-replay"
_FIXTURES: Final = frozenset({"fake_provider", "finresilience_seed", "history", "simulation", "virtual_clock"})
_REPLAYED: Final = "finresilience_replayed"  # a property of the test that did, so that it comes home from a worker of xdist
_replaying = pytest.StashKey[str]()  # the scenario that the file is about


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("finresilience")
    group.addoption(_SEED, type=int, metavar="N", help="the seed of `fake_provider`, and the first one of `simulation` (default: 0)")
    group.addoption(
        _REPLAY, metavar="FILE", help="let `simulation` run the counterexample in FILE again, and nothing else of that scenario"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Look into the file to be replayed, before anything is run in vain."""
    path = config.getoption(_REPLAY)
    if path is None:
        return
    import json
    from pathlib import Path

    try:
        config.stash[_replaying] = json.loads(Path(path).read_text(encoding="utf-8"))["scenario"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{_REPLAY}: {path} holds no counterexample ({type(error).__name__}); a failure of `simulation` says where it wrote one"
        raise pytest.UsageError(message) from error


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say what this run is made from, if somebody chose it."""
    seed, path = config.getoption(_SEED), config.getoption(_REPLAY)
    told = [*([] if seed is None else [f"seed {seed}"]), *([] if path is None else [f"replaying {path}"])]
    return f"finresilience: {', '.join(told)}" if told else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a failure of a test that used our fixtures end in the line that runs it again."""
    report = yield
    if report.failed and call.when == "call" and call.excinfo is not None and any(_uses(item, name) for name in _FIXTURES):
        report.sections.append(("finresilience", f"replay: {_command(item, call.excinfo.value)}"))
    return report


# ---------------------------------------------------------------- fixtures


@pytest.fixture
def finresilience_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run: that of `--finresilience-seed`, or 0. For whatever your test leaves to chance."""
    return request.config.getoption(_SEED) or 0


@pytest.fixture
def virtual_clock(request: pytest.FixtureRequest) -> Generator[ManualClock]:
    """A `ManualClock` that rules while a plain test runs: nothing waits, and `virtual_clock.advance(60)` is a minute later.

    For async code, write a plain test that hands an async function to `run_virtual`, or to the fixture `simulation`.
    """
    if _is_async(request.function):
        message = (
            f"virtual_clock rules in plain tests only, and {request.node.name} runs on a real event loop, whose timers it cannot move. "
            "Make the test a plain `def`, and let it call run_virtual(your_async_function), or simulation(your_async_function)"
        )
        pytest.fail(message, pytrace=False)
    from finresilience.testing.clock import instant

    with instant() as clock:
        yield clock


@pytest.fixture
def history() -> History:
    """An empty `History` that tells the time by the clock that rules."""
    from finresilience.clock import ruling_clock
    from finresilience.testing.history import History

    return History(lambda: ruling_clock().monotonic())


@pytest.fixture
def fake_provider(request: pytest.FixtureRequest) -> Callable[..., FakeProvider]:
    """Make fake providers: `fake_provider("acme", [Fault(kind=FaultKind.RESET_AFTER, probability=0.1)])`.

    Takes what `FakeProvider` takes; faults that are no plan become one of this run's seed, which `--finresilience-seed` replaces in a plan.
    """

    def made(name: str = "provider", plan: FaultPlan | Iterable[Fault] = (), **more: Any) -> FakeProvider:
        from finresilience.testing.faults import FaultPlan
        from finresilience.testing.provider import FakeProvider

        seed: int | None = request.config.getoption(_SEED)
        if not isinstance(plan, FaultPlan):
            plan = FaultPlan(plan, seed=seed or 0)
        elif seed is not None:
            plan = FaultPlan(plan.faults, seed=seed)
        return FakeProvider(name, plan, **more)

    return made


@pytest.fixture
def simulation(request: pytest.FixtureRequest) -> Callable[..., object]:
    """Explore a scenario: `simulation(scenario, seeds=200, faults=plan)`. A failure says by which command it is run again.

    Seeds begin with that of `--finresilience-seed`; under `--finresilience-replay` the scenario of that file runs as the file says.
    """
    config = request.config

    def explored(
        scenario: Callable[..., Any],
        *,
        seeds: int = 100,
        backend: Backend | None = None,
        faults: FaultPlan | None = None,
        patience: float = 30.0,
    ) -> object:
        from finresilience._checks import positive_count
        from finresilience.testing.stories import name_of

        first: int = config.getoption(_SEED) or 0
        if config.stash.get(_replaying, None) == name_of(scenario):
            from finresilience.testing.simulation import replay

            request.node.user_properties.append((_REPLAYED, True))
            return replay(scenario, str(config.getoption(_REPLAY)))
        from finresilience.testing.seeded import explore

        numbers = range(first, first + positive_count("seeds", seeds))
        return explore(scenario, seeds=numbers, backend=backend, faults=faults, patience=patience)

    return explored


def _is_async(function: Any) -> bool:
    import inspect

    inner = getattr(getattr(function, "hypothesis", None), "inner_test", function)  # Hypothesis keeps an async test inside
    return any(inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one) for one in (function, inner))


# ---------------------------------------------------------------- the line that runs it again


def _command(item: pytest.Item, error: BaseException) -> str:
    import shlex

    where = shlex.quote(_name(item))
    saved = _saved(item, error) if _uses(item, "simulation") else None
    if saved is not None:
        return f"pytest {where} {_REPLAY}={shlex.quote(str(saved))}"
    return f"pytest {where} {_SEED}={item.config.getoption(_SEED) or 0}"


def _uses(item: Any, name: str) -> bool:
    """Return whether a test uses our fixture, and not another of its name: `history` may well be somebody's own."""
    if name not in getattr(item, "fixturenames", ()):
        return False
    for known in reversed(item._fixtureinfo.name2fixturedefs.get(name, ())):  # no public way tells whose a fixture is
        if getattr(known.func, "__module__", "") == __name__:
            return True
        if name not in known.argnames:  # it stands for ours, and is not made from it
            return False
    return False


def _name(item: pytest.Item) -> str:
    """Return the test's name, as pytest takes it in the directory where it was started."""
    _, colons, rest = item.nodeid.partition("::")
    return f"{os.path.relpath(item.path, item.config.invocation_params.dir)}{colons}{rest}"


def _saved(item: pytest.Item, error: Any) -> Path | None:
    """Write a counterexample down where it can be found again, and return where; None if there is nothing to write."""
    errors = sys.modules.get("finresilience.testing.errors")
    if errors is None or not isinstance(error, errors.CounterexampleError):
        return None
    import re
    from hashlib import sha256
    from pathlib import Path
    from tempfile import mkdtemp

    told_apart = sha256(item.nodeid.encode(errors="surrogateescape")).hexdigest()[:8]  # [+1] and [-1] look the same without
    name = f"{re.sub(r'[^A-Za-z0-9_]+', '-', item.nodeid).strip('-')[-100:]}-{told_apart}.json"
    cache: Any = getattr(item.config, "cache", None)  # a plugin, which may be switched off
    for folder in (lambda: cache.mkdir("finresilience"), lambda: Path(mkdtemp(prefix="finresilience-"))):
        try:
            path: Path = folder() / name
            error.save(path)
        except (AttributeError, OSError):
            continue
        except ConfigurationError:
            return None
        return path
    return None


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say so if nothing replayed the file: a green run would prove nothing."""
    scenario = config.stash.get(_replaying, None)
    if scenario is None:
        return
    reports = [report for several in terminalreporter.stats.values() for report in several]
    if not any((_REPLAYED, True) in getattr(report, "user_properties", ()) for report in reports):
        message = f"finresilience: nothing replayed {config.getoption(_REPLAY)}: no test that ran gave {scenario} to `simulation`"
        terminalreporter.write_line(message, red=True)
