"""The demo's second act, for real: processes are killed, and the books balance; without outbox, inbox or inquiry they do not."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from examples.payment_flow.crash.act import crash_run
from examples.payment_flow.crash.audit import unknown, wrongs
from examples.payment_flow.crash.kills import SCENES, Kill, When
from examples.payment_flow.crash.stage import CAST, ROOT, DidNotStartError, Stage
from examples.payment_flow.service.home import Home

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from examples.payment_flow.crash.books import Books
    from tests.integration.servers.postgres import Database

DEEP = bool(os.environ.get("FINRESILIENCE_DEEP"))
SEEDS = range(1, 21) if DEEP else (3,)
COUNT = 120 if DEEP else 40
SABOTEURS = "tests.integration.demo_saboteurs"


def run(folder: Path, seed: int = 3, *, db: str | None = None) -> Books:
    ended = crash_run(Home(folder, db), seed=seed, count=COUNT, quiet_within=60.0)
    assert len(ended.kills) == len(SCENES)
    return ended.books


def sabotaged(folder: Path, how: str, victims: Sequence[str], when: When, *, quiet_within: float = 60.0) -> list[str]:
    """What is wrong once some have been killed, all at one kind of moment, while one of the services was a saboteur."""
    kills = [Kill(victim, when, 6 + 8 * number) for number, victim in enumerate(victims)]
    ended = crash_run(Home(folder), seed=3, count=40, services=f"{SABOTEURS}:{how}", kills=kills, quiet_within=quiet_within)
    assert len(ended.kills) == len(kills)
    return wrongs(ended.books)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("seed", SEEDS)
def test_every_accepted_payment_exists_once_and_every_event_is_applied_once_whoever_is_killed(tmp_path: Path, seed: int) -> None:
    books = run(tmp_path, seed)
    assert (wrongs(books), unknown(books)) == ([], [])
    assert books.heirs > 0
    assert sum(told.sent for told in books.told.values()) > COUNT


def test_the_same_holds_with_a_schema_a_service_in_one_postgres(tmp_path: Path, postgres: Database) -> None:
    books = run(tmp_path, db=postgres.dsn)
    assert (wrongs(books), unknown(books)) == ([], [])
    assert not list(tmp_path.glob("*.db"))


def test_whoever_publishes_after_the_commit_loses_events(tmp_path: Path) -> None:
    found = sabotaged(tmp_path, "WITHOUT_OUTBOX", ["payments"] * 3, When.CLOSED, quiet_within=2.0)
    assert any(": 0 in the ledger, and should be 1" in wrong for wrong in found), found


def test_whoever_has_no_inbox_applies_events_twice(tmp_path: Path) -> None:
    found = sabotaged(tmp_path, "WITHOUT_INBOX", ["relay 1", "relay 2", "relay 1", "relay 2"], When.POSTED)
    assert any("in the ledger, and should be 1" in wrong for wrong in found), found


def test_whoever_does_not_ask_charges_again(tmp_path: Path) -> None:
    found = sabotaged(tmp_path, "WITHOUT_ASKING", ["payments"] * 3, When.TAKEN)
    assert any(": 2 at acme, and should be 1" in wrong for wrong in found), found


def test_nobody_outlives_the_stage(tmp_path: Path) -> None:
    home, processes = Home(tmp_path), list[int]()
    with pytest.raises(KeyboardInterrupt), Stage(home, "tests.integration.demo_sleepers:SERVICES") as stage:
        stage.wait()
        processes += [stage._nursery.pid, *stage._running.values()]
        assert len(processes) == 1 + len(CAST)
        assert all(is_alive(process) for process in processes)
        raise KeyboardInterrupt
    assert not any(is_alive(process) for process in processes)


def test_a_stage_that_cannot_be_set_says_so(tmp_path: Path) -> None:
    with pytest.raises(DidNotStartError), Stage(Home(tmp_path), "tests.integration.demo_sleepers:NOBODY") as stage:
        stage.wait()


def test_the_command_shows_it_and_ends_well(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.payment_flow", "--act", "2", "--orders", "40"]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    told = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=120, env=env)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "7 kills, and the books balance: every accepted payment exists once" in told.stdout
    assert told.stderr == ""
    assert not list(tmp_path.iterdir())
