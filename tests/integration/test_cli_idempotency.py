"""Keys and messages on a SQLite file: found, settled by evidence, forgotten, let go."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from finresilience.cli.main import main
from finresilience.durable.records import KeyState, Replay
from tests.cli.banks import Bank
from tests.cli.commands import SIGNED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

AT = ("--scope", "bank/charge")


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return Bank(f"sqlite:///{tmp_path}/bank.db").filled()


@pytest.fixture
def run(bank: Bank, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    def ran(*argv: str) -> tuple[int, Any]:
        capsys.readouterr()
        code = main([*argv, "--json", "--database-url", bank.url])
        return code, json.loads(capsys.readouterr().out)

    return ran


def test_a_key_is_settled_by_evidence_and_replays_it(run: Any, bank: Bank, tmp_path: Path) -> None:
    (tmp_path / "answer").write_bytes(b'{"ok": 1}')
    assert [key["key"] for key in run("idempotency", "list")[1]["keys"]] == ["pay_2"]
    evidence = ("--as", "completed", "--evidence", "ch_1", "--response-file", str(tmp_path / "answer"))
    assert run("idempotency", "resolve", *AT, "pay_2", *evidence, *SIGNED)[0] == 0
    answer = bank.keys.claim("bank/charge", "pay_2", fingerprint="f", lease=60.0)
    assert isinstance(answer, Replay)
    assert (answer.record.state, answer.record.response, answer.record.evidence) == (KeyState.COMPLETED, b'{"ok": 1}', "ch_1")
    assert run("idempotency", "list")[0] == 0


@pytest.mark.parametrize(("age", "scope", "gone"), [("1d", (), 1), ("1d", AT, 1), ("1d", ("--scope", "x"), 0), ("31d", (), 0)])
def test_a_purge_of_keys_does_what_it_said_it_would(run: Any, bank: Bank, age: str, scope: tuple[str, ...], gone: int) -> None:
    bank.older(30 * 86_400)
    would = run("idempotency", "purge", "--older-than", age, *scope)[1]
    did = run("idempotency", "purge", "--older-than", age, *scope, "--apply")[1]
    assert (would["matched"], would["done"], did["done"]) == (gone, 0, gone)
    assert (bank.keys.find("bank/charge", "pay_1") is None) is (gone == 1)
    assert bank.keys.find("bank/charge", "pay_2") is not None


def test_a_parked_message_is_let_go(run: Any, bank: Bank) -> None:
    assert run("inbox", "unpark", "--group", "ledger", "m1", *SIGNED) == (0, {"command": "inbox unpark", "applied": True, "done": True})
    assert bank.inbox.parked() == []
