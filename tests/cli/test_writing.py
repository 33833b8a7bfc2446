"""Nothing is written without `--apply`; who and why is recorded, before it is done."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from finresilience.cli import outbox
from finresilience.cli.app import App
from finresilience.clock import ruling_clock
from tests.cli.commands import SIGNED, Noting, Waiting, inbox, keys, outbox_with

if TYPE_CHECKING:
    from pathlib import Path

    from finresilience.testing import ManualClock
    from tests.cli.commands import Shell

READS = {"statistics", "dead_letters", "find", "unsettled", "parked", "claim"}
HOUR = 3600.0


@pytest.fixture
def response(tmp_path: Path) -> str:
    (tmp_path / "answer.json").write_bytes(b'{"ok": true}')
    return str(tmp_path / "answer.json")


def deeds(response: str) -> dict[str, tuple[Any, ...]]:
    """Each command that can write, by the deed of a store that it is."""
    until = ruling_clock().utc()
    resolving = ("--as", "completed", "--evidence", "ch_1", "--response-file", response)
    return {
        "revive": ("outbox", "dlq", "revive", "--fingerprint", "tests.cli.commands.LedgerDown@commands.py:broken"),
        "discard": ("outbox", "dlq", "discard", "--fingerprint", "tests.cli.commands.LedgerDown@commands.py:broken"),
        "replay": ("outbox", "replay", "--since", "2025-01-01T00:00:00Z", "--until", until.isoformat()),
        "purge": ("outbox", "purge", "--older-than", "30min"),
        "purge keys": ("idempotency", "purge", "--older-than", "30min"),
        "resolve": ("idempotency", "resolve", "--scope", "bank/charge", "pay_2", *resolving),
        "unpark": ("inbox", "unpark", "--group", "ledger", "m1"),
    }


DEEDS = tuple(deeds(""))


class Service:
    """Every store, each noting what it is asked."""

    def __init__(self, clock: ManualClock) -> None:
        self.stores: list[Any] = [Noting(outbox_with(published=3, dead=2)), Noting(keys()), Noting(inbox())]
        clock.advance(HOUR)

    def written(self) -> list[str]:
        return [name for store in self.stores for name in store.asked if name not in READS]

    def app(self, wrap: Any = None) -> App:
        out, idempotency, box = self.stores if wrap is None else map(wrap, self.stores)
        return App(outbox=out, idempotency=idempotency, inbox=box)


@pytest.fixture
def service(finresilience: Shell, clock: ManualClock) -> Service:
    made = Service(clock)
    finresilience.let(app=made.app())
    return made


@pytest.mark.parametrize("deed", DEEDS)
def test_without_apply_no_store_is_told_to_write(finresilience: Shell, service: Service, response: str, deed: str) -> None:
    said = finresilience(*deeds(response)[deed])
    assert (said.code, service.written(), said.records) == (0, [], [])
    assert "nothing was done: add --apply" in said.out


@pytest.mark.parametrize("deed", DEEDS)
def test_with_apply_that_and_nothing_else_is_written(finresilience: Shell, service: Service, response: str, deed: str) -> None:
    said = finresilience(*deeds(response)[deed], *SIGNED)
    assert (said.code, set(service.written())) == (0, {deed.partition(" ")[0]})


def test_the_saboteur_that_does_it_before_it_asks_is_seen(
    finresilience: Shell, service: Service, response: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def eager(args: Any, app: App) -> Any:
        app.part("outbox").purge(older_than=args.older_than)
        return await purge(args, app)

    purge = outbox.purge
    monkeypatch.setattr(outbox, "purge", eager)
    finresilience(*deeds(response)["purge"])
    assert service.written() == ["purge"]


@pytest.mark.parametrize("deed", DEEDS)
def test_stores_that_are_awaited_are_written_the_same(finresilience: Shell, service: Service, response: str, deed: str) -> None:
    finresilience.let(app=service.app(Waiting))
    assert (finresilience(*deeds(response)[deed]).code, service.written()) == (0, [])
    assert (finresilience(*deeds(response)[deed], *SIGNED).code, set(service.written())) == (0, {deed.partition(" ")[0]})


@pytest.mark.parametrize("deed", [deed for deed in DEEDS if "purge" not in deed])
@pytest.mark.parametrize("missing", ["--by", "--reason"])
def test_a_decision_says_who_and_why_or_is_not_done(finresilience: Shell, service: Service, response: str, deed: str, missing: str) -> None:
    unsigned = [word for word in SIGNED if word != missing and word != SIGNED[SIGNED.index(missing) + 1]]
    said = finresilience(*deeds(response)[deed], *unsigned)
    assert (said.code, said.out, service.written()) == (2, "", [])
    assert "--by WHO and --reason WHY" in said.err


# --- the record ------------------------------------------------------------------------------------------------------------


def records(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(record.getMessage()) for record in caplog.records if record.name == "finresilience.audit"]


def test_a_deed_is_recorded_before_and_after(
    finresilience: Shell, service: Service, response: str, caplog: pytest.LogCaptureFixture
) -> None:
    finresilience(*deeds(response)["purge"], *SIGNED)
    begun, done = records(caplog)
    assert [begun["event"], done["event"]] == ["begun", "done"]
    assert begun["id"] == done["id"]
    assert {key: done[key] for key in ("command", "by", "reason", "target", "result")} == {
        "command": "outbox purge",
        "by": "ana",
        "reason": "ticket 7",
        "target": {"older_than": 1800.0},
        "result": {"done": 3},
    }


def test_the_record_tells_a_key_by_its_digest_alone(
    finresilience: Shell, service: Service, response: str, caplog: pytest.LogCaptureFixture
) -> None:
    finresilience(*deeds(response)["resolve"], *SIGNED)
    told = json.dumps(records(caplog))
    assert "pay_2" not in told
    assert "bank/charge" not in told
    assert "key_sha256" in told


def test_a_deed_that_breaks_off_is_recorded_with_what_was_done(
    finresilience: Shell, service: Service, response: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    revive, turns = service.stores[0].store.revive, iter((True, False))

    def once(message_id: Any) -> bool:
        if not next(turns):
            raise ConnectionResetError("gone")
        return bool(revive(message_id))

    monkeypatch.setattr(service.stores[0].store, "revive", once)
    said = finresilience(*deeds(response)["revive"], *SIGNED)
    _, failed = records(caplog)
    assert (said.code, failed["event"], failed["error"]) == (3, "failed", "ConnectionResetError")
    assert failed["result"] == {"done": 1, "gone": 0}


def test_the_journal_has_the_same_lines_and_grows(
    finresilience: Shell, service: Service, response: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = tmp_path / "journal.jsonl"
    finresilience(*deeds(response)["purge"], *SIGNED, "--journal", journal)
    finresilience(*deeds(response)["unpark"], *SIGNED, "--journal", journal)
    assert [json.loads(line) for line in journal.read_text().splitlines()] == records(caplog)
    assert len(records(caplog)) == 4
    assert journal.stat().st_mode & 0o077 == 0


def test_what_cannot_be_recorded_is_not_done(finresilience: Shell, service: Service, response: str, tmp_path: Path) -> None:
    said = finresilience(*deeds(response)["purge"], *SIGNED, "--journal", tmp_path / "missing" / "journal")
    assert (said.code, service.written()) == (2, [])
    assert "the journal cannot be opened" in said.err


def test_a_full_journal_stops_a_deed_before_it_begins(
    finresilience: Shell, service: Service, response: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    said = finresilience(*deeds(response)["purge"], *SIGNED, "--journal", tmp_path / "journal")
    assert (said.code, service.written()) == (2, [])
    assert "No space left on device" in said.err
    assert "nothing was done" in said.err


def test_the_record_is_heard_where_logging_is_told_to_be_quiet(
    finresilience: Shell, service: Service, response: str, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("finresilience")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        finresilience(*deeds(response)["purge"], *SIGNED)
    finally:
        logger.setLevel(before)
    assert len(records(caplog)) == 2
