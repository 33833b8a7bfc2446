"""`finresilience idempotency`: a key is shown without its answer, and settled by evidence, once."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

import pytest

from finresilience.cli.app import App
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.durable.records import KeyState
from tests.cli.commands import SIGNED, keys

if TYPE_CHECKING:
    from pathlib import Path

    from finresilience.testing import ManualClock
    from tests.cli.commands import Shell

SCOPE = ("--scope", "bank/charge")


@pytest.fixture
def store(finresilience: Shell, clock: ManualClock) -> MemoryIdempotencyStore:
    made = keys()
    clock.advance(120)
    finresilience.let(app=App(idempotency=made))
    return made


@pytest.fixture
def resolving(tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "answer").write_bytes(b'{"ok": true}')
    return ("--as", "completed", "--evidence", "ch_1 in the bank's portal", "--response-file", str(tmp_path / "answer"))


def test_a_key_is_shown_without_its_answer(finresilience: Shell, store: MemoryIdempotencyStore) -> None:
    said = finresilience("idempotency", "show", *SCOPE, "pay_1")
    assert (said.code, "private" in said.out) == (0, False)
    assert said.out == (
        "state     completed\n"
        "claimed   2 min ago\n"
        "changed   2 min ago\n"
        "owner     worker-1\n"
        "fence     1\n"
        "status    201\n"
        "response  18 bytes: see --payload\n"
    )


def test_the_document_of_a_key_has_these_keys(finresilience: Shell, store: MemoryIdempotencyStore) -> None:
    assert finresilience("idempotency", "show", *SCOPE, "pay_2", "--json").document == {
        "command": "idempotency show",
        "found": True,
        "scope": "bank/charge",
        "key": "pay_2",
        "state": "indeterminate",
        "unsettled": True,
        "fence": 2,
        "owner": "worker-1",
        "takeovers": 0,
        "lease_left": -60.0,
        "recovery_point": None,
        "reason": "read timeout",
        "age": 120.0,
        "idle": 120.0,
        "evidence": "",
        "status": "",
        "response_bytes": 0,
        "data_bytes": 0,
    }


def test_its_answer_is_shown_if_asked_for(finresilience: Shell, store: MemoryIdempotencyStore) -> None:
    assert finresilience("idempotency", "show", *SCOPE, "pay_1", "--payload").out.endswith('\n\nresponse:\n{"private": "yes"}\n')
    told = finresilience("idempotency", "show", *SCOPE, "pay_3", "--payload", "--json").document
    assert told["response"] == {"encoding": "base64", "data": "/wA="}


def test_a_key_that_is_absent_ends_with_one(finresilience: Shell, store: MemoryIdempotencyStore) -> None:
    said = finresilience("idempotency", "show", *SCOPE, "pay_9")
    assert (said.code, said.out) == (1, "this key is absent: never claimed, released, or purged\n")


def test_a_claim_that_ran_out_is_told_from_one_that_runs(finresilience: Shell, store: MemoryIdempotencyStore, clock: ManualClock) -> None:
    store.claim("bank/charge", "pay_4", fingerprint="f", lease=60.0)
    assert "in_progress, for 1 min more\n" in finresilience("idempotency", "show", *SCOPE, "pay_4").out
    clock.advance(61)
    assert "its claim ran out" in finresilience("idempotency", "show", *SCOPE, "pay_4").out


def test_unsettled_keys_are_listed_longest_idle_first(finresilience: Shell, store: MemoryIdempotencyStore, clock: ManualClock) -> None:
    store.claim("bank/charge", "pay\x1b[31m", fingerprint="f", lease=1.0)
    clock.advance(60)
    said = finresilience("idempotency", "list")
    assert said.code == 1
    assert said.out == (
        "state          idle   takeovers  owner     scope        key\n"
        "indeterminate  3 min          0  worker-1  bank/charge  pay_2\n"
        "ran out        1 min          0  -         bank/charge  pay\\x1b[31m\n"
    )


def test_no_unsettled_key_ends_with_zero(finresilience: Shell) -> None:
    finresilience.let(app=App(idempotency=MemoryIdempotencyStore()))
    said = finresilience("idempotency", "list", "--json")
    assert (said.code, said.document) == (0, {"command": "idempotency list", "listed": 0, "keys": []})


# --- purge -----------------------------------------------------------------------------------------------------------------------


def test_a_purge_forgets_the_finished_of_one_scope_alone(finresilience: Shell, store: MemoryIdempotencyStore, clock: ManualClock) -> None:
    other: Any = store.claim("other", "k", fingerprint="f", lease=60.0)
    store.complete(other.token, b"")
    clock.advance(3600)
    said = finresilience("idempotency", "purge", "--older-than", "1h", *SCOPE, "--apply")
    assert (said.code, said.out) == (0, "2 keys finished more than 1 h ago forgotten\n")
    assert store.find("other", "k") is not None
    assert store.find("bank/charge", "pay_2") is not None


# --- resolve -----------------------------------------------------------------------------------------------------------------------


def test_evidence_settles_a_key_and_every_replay_gets_the_file(
    finresilience: Shell, store: MemoryIdempotencyStore, resolving: tuple[str, ...]
) -> None:
    said = finresilience("idempotency", "resolve", *SCOPE, "pay_2", *resolving, "--status", "200", *SIGNED, "--json")
    assert (said.code, said.document) == (0, {"command": "idempotency resolve", "applied": True, "state": "completed"})
    record = store.find("bank/charge", "pay_2")
    assert record is not None
    assert (record.state, record.response, record.status) == (KeyState.COMPLETED, b'{"ok": true}', "200")
    assert record.evidence == "ch_1 in the bank's portal"


def test_the_answer_may_come_from_stdin(finresilience: Shell, store: MemoryIdempotencyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"no")))
    finresilience("idempotency", "resolve", *SCOPE, "pay_2", "--as", "failed", "--evidence", "e", "--response-file", "-", *SIGNED)
    record = store.find("bank/charge", "pay_2")
    assert record is not None
    assert (record.state, record.response) == (KeyState.FAILED_FINAL, b"no")


@pytest.mark.parametrize("key", ["pay_1", "pay_3", "pay_9"])
def test_only_an_indeterminate_key_is_resolved(
    finresilience: Shell, store: MemoryIdempotencyStore, resolving: tuple[str, ...], key: str
) -> None:
    before = store.find("bank/charge", key)
    assert finresilience("idempotency", "resolve", *SCOPE, key, *resolving, *SIGNED).code == 1
    assert store.find("bank/charge", key) == before


def test_a_key_that_another_person_settled_meanwhile_is_left_as_it_is(
    finresilience: Shell, store: MemoryIdempotencyStore, resolving: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = store.find

    def and_then(scope: str, key: str) -> Any:
        record = find(scope, key)
        assert record is not None
        store.resolve(record, KeyState.FAILED_FINAL, b"theirs", evidence="their call")
        return record

    monkeypatch.setattr(store, "find", and_then)
    said = finresilience("idempotency", "resolve", *SCOPE, "pay_2", *resolving, *SIGNED)
    assert (said.code, said.out, len([line for line in said.err.splitlines() if "resolve was refused" in line])) == (1, "", 1)
    record = find("bank/charge", "pay_2")
    assert record is not None
    assert record.response == b"theirs"


def test_an_answer_that_the_store_would_not_take_is_refused_before_anything(finresilience: Shell, resolving: tuple[str, ...]) -> None:
    small = MemoryIdempotencyStore(max_response=4)
    finresilience.let(app=App(idempotency=small))
    said = finresilience("idempotency", "resolve", *SCOPE, "pay_2", *resolving)
    assert (said.code, "more than the 4 bytes" in said.err) == (2, True)


def test_a_file_that_is_not_there_is_refused(finresilience: Shell, store: MemoryIdempotencyStore, tmp_path: Path) -> None:
    missing = ("--as", "failed", "--evidence", "e", "--response-file", tmp_path / "none")
    said = finresilience("idempotency", "resolve", *SCOPE, "pay_2", *missing)
    assert (said.code, "cannot be read (No such file or directory); nothing was done" in said.err) == (2, True)
