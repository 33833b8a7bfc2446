"""`finresilience inbox`: which messages wait for a person, and one of them is let go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from finresilience.cli.app import App
from tests.cli.commands import SIGNED, inbox

if TYPE_CHECKING:
    from finresilience.durable.memory_inbox import MemoryInboxStore
    from finresilience.testing import ManualClock
    from tests.cli.commands import Shell


@pytest.fixture
def store(finresilience: Shell, clock: ManualClock) -> MemoryInboxStore:
    made = inbox()
    clock.advance(90)
    finresilience.let(app=App(inbox=made))
    return made


def test_parked_messages_are_listed_and_end_with_one(finresilience: Shell, store: MemoryInboxStore) -> None:
    said = finresilience("inbox", "parked")
    assert said.code == 1
    assert said.out == ("idle   failures  group   tenant  reason      message id\n1 min         2  ledger  -       LedgerDown  m1\n")


def test_the_document_has_these_keys(finresilience: Shell, store: MemoryInboxStore) -> None:
    message = {"group": "ledger", "tenant": "", "message_id": "m1", "delivery_id": "d9", "failures": 2, "reason": "LedgerDown"}
    assert finresilience("inbox", "parked", "--json").document == {
        "command": "inbox parked",
        "listed": 1,
        "messages": [message | {"age": 90.0, "idle": 90.0}],
    }


def test_without_apply_it_says_what_it_knows_of_the_message(finresilience: Shell, store: MemoryInboxStore) -> None:
    said = finresilience("inbox", "unpark", "--group", "ledger", "m1")
    assert said.out.startswith("it failed 2 times (LedgerDown), and would be handled when it is delivered again\n")


def test_an_unparked_message_waits_for_nobody(finresilience: Shell, store: MemoryInboxStore) -> None:
    said = finresilience("inbox", "unpark", "--group", "ledger", "m1", *SIGNED, "--json")
    assert said.document == {"command": "inbox unpark", "applied": True, "done": True}
    assert store.parked() == []
    assert finresilience("inbox", "parked").code == 0


@pytest.mark.parametrize("signed", [(), SIGNED])
@pytest.mark.parametrize("at", [("--group", "other", "m1"), ("--group", "ledger", "m2"), ("--group", "ledger", "m1", "--tenant", "t")])
def test_a_message_that_is_not_parked_ends_with_one(
    finresilience: Shell, store: MemoryInboxStore, at: tuple[str, ...], signed: tuple[str, ...]
) -> None:
    assert finresilience("inbox", "unpark", *at, *signed).code == 1
    assert len(store.parked()) == 1
