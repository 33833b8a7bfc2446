"""The pytest plugin: what its fixtures give, how a failure is run again, and all that it leaves alone."""

from __future__ import annotations

import shlex
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from finresilience.testing import plugin
from tests.integration.sessions import ANYIO, OURS, XDIST, Session, found_by_itself, script, session, written

if TYPE_CHECKING:
    from pathlib import Path

RACE = """
    import anyio
    from finresilience.testing import turn

    async def charged_once():
        booked = []

        async def charge(late):
            for _ in range(late):
                await turn()
            if not booked:
                await turn()  # the gap
                booked.append("pay_1")

        async with anyio.create_task_group() as group:
            group.start_soon(charge, 0)
            group.start_soon(charge, 3)
        assert booked == ["pay_1"]

    def test_race(simulation):
        simulation(charged_once, seeds=300)
"""


# ---------------------------------------------------------------- what it gives


def test_the_fixtures_are_there_for_plain_tests(tmp_path: Path) -> None:
    written(
        tmp_path,
        """
        import pytest
        from finresilience import Constant, Effect, Money, Pipeline, Retry
        from finresilience.testing import run_virtual
        from finresilience.testing.faults import Fault, FaultKind, FaultPlan

        ONE = Money("1.00", "EUR")
        acme = Pipeline("acme", Retry(attempts=3, backoff=Constant(60)), effect=Effect.IDEMPOTENT_BY_NATURE, listeners=[])

        def test_a_minute_takes_no_time(virtual_clock, history):
            def down():
                raise ConnectionRefusedError
            with pytest.raises(ConnectionRefusedError), history.call("charge", "pay_1"):
                acme.call(down)
            assert virtual_clock.waits == [60, 60]
            (entry,) = history
            assert (entry.began, entry.ended) == (0, 120)

        def test_a_clock_rules_its_own_test_only():
            assert "Manual" not in type(acme._clock).__name__

        def test_a_loop_has_a_clock_of_its_own(virtual_clock):
            async def nap():
                import anyio
                await anyio.sleep(3600)
            run_virtual(nap)
            assert virtual_clock.monotonic() == 0

        def test_a_provider_is_made_from_faults_and_from_a_plan(fake_provider, finresilience_seed):
            faults = [Fault(kind=FaultKind.SLOW)]
            assert finresilience_seed == 0
            assert fake_provider("acme", faults).plan == FaultPlan(faults, seed=0)
            assert fake_provider("acme", FaultPlan(faults, seed=9)).plan.seed == 9
            assert fake_provider().plan == FaultPlan()

        def test_a_simulation_covers_seeds(simulation):
            seen = []
            async def scenario(world):
                seen.append(world.seed)
            simulation(scenario, seeds=3, backend="trio")
            assert seen == [0, 1, 2]
        """,
    )
    done = session(tmp_path, "-q")
    assert done.counts(passed=5), done.out
    assert "finresilience:" not in done.out


def test_the_seed_is_shown_and_used_where_it_is_given(tmp_path: Path) -> None:
    written(
        tmp_path,
        """
        from finresilience.testing.faults import FaultPlan

        def test_all_follow_it(fake_provider, finresilience_seed, simulation):
            seen = []
            async def scenario(world):
                seen.append(world.seed)
            simulation(scenario, seeds=2, backend="asyncio")
            assert seen == [40, 41]
            assert finresilience_seed == 40
            assert fake_provider("acme").plan.seed == fake_provider("acme", FaultPlan(seed=9)).plan.seed == 40
        """,
    )
    done = session(tmp_path, "--finresilience-seed=40")
    assert done.code == 0, done.out
    assert done.says("finresilience: seed 40")


def law_of_async_tests(tmp_path: Path, sabotage: str = "") -> None:
    written(tmp_path, sabotage, "conftest.py")
    written(
        tmp_path,
        """
        async def test_on_a_real_loop(virtual_clock):
            pass

        async def test_what_needs_no_clock(history, fake_provider):
            with history.call("charge", "pay_1"):
                pass
            assert len(history) == 1
        """,
    )
    done = session(tmp_path, "-q", plugins=(OURS, ANYIO), anyio_mode="auto")
    assert done.says("virtual_clock rules in plain tests only, and test_on_a_real_loop[asyncio] runs on a real event loop"), done.out
    assert done.says("Make the test a plain `def`")
    assert done.counts(passed=2, errors=2)


def test_a_clock_that_cannot_move_the_loops_timers_says_so(tmp_path: Path) -> None:
    law_of_async_tests(tmp_path)


# ---------------------------------------------------------------- again


def law_of_replay(folder: Path, sabotage: str = "") -> None:
    written(folder, sabotage, "conftest.py")
    written(folder, RACE)
    first = session(folder, "-q")
    command = shlex.split(first.line("replay: pytest "))
    assert command[0] == "test_it.py::test_race"
    assert command[1].startswith("--finresilience-replay=")
    again = session(folder, *command)
    assert again.counts(failed=1), again.out
    assert again.says("finresilience: replaying ")
    assert _failure(again) == _failure(first)
    assert not again.says("nothing replayed")
    mended = RACE.replace("await turn()  # the gap", "pass")
    written(folder, mended)
    assert session(folder, *command).code == 0


def _failure(done: Session) -> str:
    """Return the line of the report that tells the schedule, which was shrunk and needs more than the plain order."""
    *_, told = (line.partition("replay: ")[2] for line in done.out.splitlines() if "replay: simulate(" in line)
    assert "trace=" in told
    assert "trace=''" not in told
    return told


def test_a_counterexample_is_run_again_by_the_command_that_its_failure_prints(tmp_path: Path) -> None:
    law_of_replay(tmp_path)


def test_a_counterexample_is_kept_in_pytests_cache_if_there_is_one(tmp_path: Path) -> None:
    written(tmp_path, RACE)
    done = session(tmp_path, "-q", cache=True)
    (kept,) = (tmp_path / ".pytest_cache").rglob("*finresilience*/*.json")
    assert done.line("replay: pytest ") == f"test_it.py::test_race --finresilience-replay={kept}"


def test_tests_whose_names_differ_in_a_sign_alone_keep_a_counterexample_each(tmp_path: Path) -> None:
    each = RACE.replace("def test_race(", "import pytest\n\n    @pytest.mark.parametrize('n', ['+1', '-1'])\n    def test_race(n, ")
    written(tmp_path, each)
    session(tmp_path, "-q", cache=True)
    assert len([*(tmp_path / ".pytest_cache").rglob("*finresilience*/*.json")]) == 2


def test_a_failure_of_a_test_that_used_us_prints_what_runs_it_again_where_pytest_was_started(tmp_path: Path) -> None:
    (tmp_path / "deep down").mkdir()
    written(tmp_path, "def test_ours(history):\n    assert False\n\ndef test_theirs():\n    assert False\n", "deep down/test_it.py")
    done = session(tmp_path, "-q", "--finresilience-seed=7")
    assert done.counts(failed=2)
    assert done.line("replay: ") == "pytest 'deep down/test_it.py::test_ours' --finresilience-seed=7"  # the one such line


def test_a_failure_of_a_test_with_a_fixture_of_its_own_under_one_of_our_names_ends_as_ever(tmp_path: Path) -> None:
    theirs = "import pytest\n\n@pytest.fixture\ndef history():\n    return []\n\ndef test_theirs(history):\n    assert history\n"
    written(tmp_path, theirs)
    done = session(tmp_path, "-q")
    assert done.counts(failed=1)
    assert "finresilience" not in done.out


def test_another_scenario_than_the_files_runs_as_ever(tmp_path: Path) -> None:
    written(tmp_path, '{"scenario": "of_somebody_else"}', "file.json")
    written(tmp_path, "async def mine():\n    pass\n\ndef test_mine(simulation):\n    assert simulation(mine, seeds=2).schedules == 4\n")
    done = session(tmp_path, "--finresilience-replay=file.json")
    assert done.code == 0
    assert done.says("finresilience: nothing replayed file.json: no test that ran gave of_somebody_else to `simulation`")


def test_a_file_that_is_not_there_ends_the_run_before_it_begins(tmp_path: Path) -> None:
    written(tmp_path, "def test_it():\n    pass\n")
    done = session(tmp_path, "--finresilience-replay=file.json")
    assert done.code == pytest.ExitCode.USAGE_ERROR
    assert done.says("file.json holds no counterexample (FileNotFoundError)")


@pytest.mark.parametrize("text", ["", "{}", "[]", "7"])
def test_a_file_that_holds_no_counterexample_is_refused(text: str, tmp_path: Path) -> None:
    written(tmp_path, text, "file.json")
    config: Any = SimpleNamespace(getoption=lambda _: tmp_path / "file.json", stash=pytest.Stash())  # pyright: ignore[reportUnknownLambdaType] - a lambda has no place for types
    with pytest.raises(pytest.UsageError, match=r"file\.json holds no counterexample"):
        plugin.pytest_configure(config)


def test_workers_of_xdist_replay_too(tmp_path: Path) -> None:
    written(tmp_path, RACE)
    first = session(tmp_path, "-q", "-n", "1", plugins=(OURS, XDIST))
    again = session(tmp_path, "-n", "1", *shlex.split(first.line("replay: pytest ")), plugins=(OURS, XDIST))
    assert _failure(again) == _failure(first)
    assert not again.says("nothing replayed")


# ---------------------------------------------------------------- what it leaves alone


def test_it_hooks_into_nothing_that_collects_or_makes_loops() -> None:
    assert {name for name in vars(plugin) if name.startswith("pytest_")} == {
        "pytest_addoption",
        "pytest_configure",
        "pytest_report_header",
        "pytest_runtest_makereport",
        "pytest_terminal_summary",
    }


def modules(folder: Path, *args: str) -> set[str]:
    written(folder, "def test_it():\n    pass\n")
    program = f"""
        import sys, pytest
        assert pytest.main(["-q", "-p", "no:cacheprovider", *{args!r}, "test_it.py"]) == 0
        print("loaded", *sys.modules)
    """
    return set(script(folder, program).partition("loaded ")[2].split())


def test_it_loads_four_small_modules_into_a_session_that_does_not_use_it(tmp_path: Path) -> None:
    ours = modules(tmp_path, "-p", OURS) - modules(tmp_path)
    assert ours == {"finresilience", "finresilience.errors", "finresilience.testing", "finresilience.testing.plugin"}


def test_it_is_found_by_its_entry_point(tmp_path: Path) -> None:
    home = tmp_path / "lib" / "plugged-0.dist-info"
    home.mkdir(parents=True)
    written(home, "Metadata-Version: 2.1\nName: plugged\nVersion: 0\n", "METADATA")
    written(home, f"[pytest11]\nfinresilience = {OURS}\n", "entry_points.txt")
    written(tmp_path, "def test_it(virtual_clock):\n    assert virtual_clock.monotonic() == 0\n")
    done = found_by_itself(tmp_path, home.parent)
    assert done.code == 0, done.out


# ---------------------------------------------------------------- saboteurs

THINKS_EVERYTHING_PLAIN = """
    from finresilience.testing import plugin
    plugin._is_async = lambda function: False
"""
WRITES_NOTHING_DOWN = """
    from finresilience.testing import plugin
    plugin._saved = lambda item, error: None
"""
REPLAYS_NOTHING = """
    import pytest
    from finresilience.testing import plugin

    @pytest.fixture
    def simulation(simulation):  # made from ours, so that its failures end as ours do
        from finresilience.testing import explore
        return explore
"""


def test_a_clock_that_rules_on_a_real_loop_is_caught(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        law_of_async_tests(tmp_path, THINKS_EVERYTHING_PLAIN)


def test_a_failure_that_is_not_written_down_is_caught(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        law_of_replay(tmp_path, WRITES_NOTHING_DOWN)


def test_a_replay_that_explores_anew_is_caught(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        law_of_replay(tmp_path, REPLAYS_NOTHING)
