"""`finresilience outbox dlq`: seen by cause, decided once, and no payload shown that was not asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from finresilience.cli.app import App
from finresilience.durable.memory_outbox import MemoryOutbox
from finresilience.durable.messages import OutboxMessage
from tests.cli.commands import SIGNED, broken, event, filled, outbox_with, ran

if TYPE_CHECKING:
    from finresilience.testing import ManualClock
    from tests.cli.commands import Shell

DOWN = "tests.cli.commands.LedgerDown@commands.py:broken"
IDS = [UUID(int=n, version=4) for n in range(1, 6)]


def other(_: Any) -> None:
    raise LookupError


@pytest.fixture
def store(finresilience: Shell, clock: ManualClock) -> MemoryOutbox:
    made = MemoryOutbox(partitions=1)
    filled(made, event("a", id=IDS[0], tenant="bank-1", payload={"iban": "DE00"}, headers={"x-trace": "t1"}), event("b", id=IDS[1]))
    ran(made, broken)
    clock.advance(7200)
    filled(made, event("c", id=IDS[2], payload=b"\xff\x1b[2J"))
    ran(made, other)
    clock.advance(30)
    finresilience.let(app=App(outbox=made))
    return made


def test_they_are_seen_by_what_went_wrong_the_most_first(finresilience: Shell, store: MemoryOutbox) -> None:
    said = finresilience("outbox", "dlq", "list")
    assert said.code == 1
    assert said.out == (
        "count  parked keys  oldest  newest  reason     fingerprint\n"
        f"    2            2  2 h     2 h     exhausted  {DOWN}\n"
        "    1            1  30 s    30 s    exhausted  builtins.LookupError@test_dead_letters.py:other\n"
    )


def test_flat_they_are_one_a_line_the_first_buried_first(finresilience: Shell, store: MemoryOutbox) -> None:
    said = finresilience("outbox", "dlq", "list", "--flat", "--limit", 2)
    assert said.out == (
        "id                                    died  reason     tries  parks  type\n"
        f"{IDS[0]}  2 h   exhausted      1  yes    Paid\n"
        f"{IDS[1]}  2 h   exhausted      1  yes    Paid\n"
        "\n"
        "the first 2 of 3: see --limit\n"
    )


def test_a_line_of_the_list_fits_eighty_columns(finresilience: Shell, store: MemoryOutbox) -> None:
    assert max(map(len, finresilience("outbox", "dlq", "list", "--flat").out.splitlines())) <= 80


def test_no_list_shows_a_key_or_a_payload(finresilience: Shell, store: MemoryOutbox) -> None:
    said = finresilience("outbox", "dlq", "list", "--json")
    assert "DE00" not in said.out
    assert set(said.document["letters"][0]) == {
        "id",
        "fingerprint",
        "reason",
        "parks",
        "died_at",
        "died_age",
        "created_at",
        "topic",
        "type",
        "tenant",
        "attempts",
        "takeovers",
        "partition",
        "seq",
    }
    assert {key: said.document[key] for key in ("command", "total", "listed")} == {
        "command": "outbox dlq list",
        "total": 3,
        "listed": 3,
    }


def test_an_empty_list_ends_with_zero(finresilience: Shell) -> None:
    finresilience.let(app=App(outbox=outbox_with()))
    said = finresilience("outbox", "dlq", "list")
    assert (said.code, said.out) == (0, "no dead letters\n")


# --- one -------------------------------------------------------------------------------------------------------------------------


def test_one_is_shown_without_its_payload(finresilience: Shell, store: MemoryOutbox) -> None:
    said = finresilience("outbox", "dlq", "show", IDS[0])
    assert said.code == 0
    assert said.out == (
        f"id           {IDS[0]}\n"
        "type         Paid to payments\n"
        "key          a\n"
        "tenant       bank-1\n"
        "reason       exhausted\n"
        f"fingerprint  {DOWN}\n"
        "tries        1, and 0 relays died with it\n"
        "added        2 h ago\n"
        "died         2 h ago\n"
        "key waits    yes\n"
        "payload      15 bytes of application/json: see --payload\n"
    )
    document = finresilience("outbox", "dlq", "show", IDS[0], "--json").document
    assert {"payload", "headers"}.isdisjoint(document)


def test_its_payload_and_headers_are_shown_if_asked_for(finresilience: Shell, store: MemoryOutbox) -> None:
    assert finresilience("outbox", "dlq", "show", IDS[0], "--payload").out.endswith('\n\nx-trace  t1\n\n{"iban":"DE00"}\n')
    document = finresilience("outbox", "dlq", "show", IDS[0], "--payload", "--json").document
    assert document["payload"] == {"encoding": "utf-8", "data": '{"iban":"DE00"}'}
    assert document["headers"] == {"x-trace": "t1"}


def test_bytes_that_are_no_text_are_shown_in_base64(finresilience: Shell, store: MemoryOutbox) -> None:
    assert finresilience("outbox", "dlq", "show", IDS[2], "--payload").out.endswith("\n\nbase64: /xtbMko=\n")


@pytest.mark.parametrize("verb", ["show", "revive", "discard"])
def test_an_id_of_no_dead_letter_ends_with_one(finresilience: Shell, store: MemoryOutbox, verb: str) -> None:
    said = finresilience("outbox", "dlq", verb, IDS[4])
    assert said.code == 1
    assert "there is no" in said.out


# --- decisions ---------------------------------------------------------------------------------------------------------------------


def test_without_apply_it_says_which_would_be_decided(finresilience: Shell, store: MemoryOutbox) -> None:
    said = finresilience("outbox", "dlq", "revive", "--fingerprint", DOWN)
    assert said.out == (
        "2 dead letters would be published again, in their old places\n"
        f"  {IDS[0]}\n"
        f"  {IDS[1]}\n"
        "nothing was done: add --apply --by WHO --reason WHY\n"
    )


def test_a_cause_is_revived_whole_and_no_other(finresilience: Shell, store: MemoryOutbox) -> None:
    said = finresilience("outbox", "dlq", "revive", "--fingerprint", DOWN, *SIGNED, "--json")
    assert said.document == {
        "command": "outbox dlq revive",
        "applied": True,
        "matched": 2,
        "done": 2,
        "gone": 0,
        "ids": [str(IDS[0]), str(IDS[1])],
    }
    assert [letter.row.id for letter in store.dead_letters()] == [IDS[2]]
    assert store.statistics().pending == 2


def test_some_ids_are_discarded_and_those_unknown_are_told_of(finresilience: Shell, store: MemoryOutbox) -> None:
    said = finresilience("outbox", "dlq", "discard", IDS[0], IDS[2], IDS[4], *SIGNED)
    assert (said.code, said.out) == (1, "2 dead letters discarded\n1 id is of no dead letter\n")
    assert [letter.row.id for letter in store.dead_letters()] == [IDS[1]]


def test_what_dies_again_at_once_is_not_revived_again(finresilience: Shell, store: MemoryOutbox, monkeypatch: pytest.MonkeyPatch) -> None:
    revive = store.revive

    def and_dies(message_id: UUID) -> bool:
        done = revive(message_id)
        ran(store, broken)
        return done

    monkeypatch.setattr(store, "revive", and_dies)
    said = finresilience("outbox", "dlq", "revive", "--fingerprint", DOWN, *SIGNED, "--json")
    assert (said.code, said.document["done"]) == (0, 2)
    assert len(store.dead_letters()) == 3


def test_what_somebody_else_decided_meanwhile_is_counted_apart(
    finresilience: Shell, store: MemoryOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "discard", IDS[0].__ne__)
    said = finresilience("outbox", "dlq", "discard", IDS[0], IDS[1], *SIGNED)
    assert said.out == "1 dead letter discarded\n1 was decided by somebody else meanwhile\n"


@pytest.mark.parametrize("which", [(), (IDS[0], "--fingerprint", DOWN), ("not-an-id",)])
def test_a_decision_is_of_ids_or_of_one_cause(finresilience: Shell, store: MemoryOutbox, which: tuple[Any, ...]) -> None:
    said = finresilience("outbox", "dlq", "discard", *which, *SIGNED)
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert len(store.dead_letters()) == 3


def test_no_event_can_steer_a_terminal(finresilience: Shell, store: MemoryOutbox) -> None:
    filled(store, OutboxMessage(topic="t", key="k", type="Paid", payload="\x1b[2J\nnext \x07", id=IDS[3]))
    ran(store, broken)
    assert "\x1b" not in finresilience("outbox", "dlq", "show", IDS[3], "--payload").out
