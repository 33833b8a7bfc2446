"""`finresilience relay`: runs a sync or an async relay to its end, and says what it has done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from finresilience.cli.app import App
from finresilience.durable.memory_outbox_async import AsyncMemoryOutbox
from finresilience.durable.relay import Relay
from tests.cli.commands import broken, outbox_with

if TYPE_CHECKING:
    from finresilience.durable.memory_outbox import MemoryOutbox
    from finresilience.durable.messages import OutboxRow
    from tests.cli.commands import Shell


def sync_relay(store: MemoryOutbox, published: list[str]) -> Relay:
    return Relay(store, lambda row: published.append(row.message.key), listeners=())


def async_relay(store: MemoryOutbox, published: list[str]) -> Relay:
    async def publish(row: OutboxRow) -> None:
        published.append(row.message.key)

    return Relay(AsyncMemoryOutbox(store), publish, listeners=())


def itself(relay: Relay) -> object:
    return relay


def in_an_app(relay: Relay) -> object:
    return App(relay=relay)


@pytest.mark.parametrize("made", [sync_relay, async_relay])
@pytest.mark.parametrize("wrapped", [itself, in_an_app], ids=["a Relay", "an App"])
def test_it_runs_until_nothing_is_due(finresilience: Shell, made: Any, wrapped: Any) -> None:
    store, published = outbox_with(pending=3), []  # type: ignore[var-annotated] # of keys
    relay = made(store, published)
    finresilience.let(app=wrapped(relay))
    said = finresilience("relay", "--until-idle")
    assert (said.code, said.out, said.err) == (0, "relay relay has ended: published 3, settled 3\n", "relay relay runs\n")
    assert sorted(published) == ["new_0", "new_1", "new_2"]
    assert store.statistics().owned == 0


@pytest.mark.parametrize("made", [sync_relay, async_relay])
def test_the_relay_has_its_own_store_again_afterwards(finresilience: Shell, made: Any) -> None:
    relay = made(outbox_with(), [])
    before = relay._store
    finresilience.let(app=relay)
    finresilience("relay", "--until-idle")
    assert relay._store is before


def test_the_document_tells_what_it_has_done(finresilience: Shell) -> None:
    finresilience.let(app=Relay(outbox_with(pending=2), broken, max_attempts=1, listeners=()))
    document = finresilience("relay", "--until-idle", "--json").document
    assert (document["command"], document["relay"], document["statistics"]["buried"]) == ("relay", "relay", 2)


def test_a_limit_that_calls_a_well_relay_sick_is_refused(finresilience: Shell) -> None:
    finresilience.let(app=sync_relay(outbox_with(), []))
    said = finresilience("relay", "--stale", "5", "--until-idle")
    assert (said.code, "an idle relay asks its store every 5 s only. Give more" in said.err) == (2, True)


@pytest.mark.parametrize("mixed", ["sync store", "async store"])
def test_a_publisher_of_the_other_kind_is_refused(finresilience: Shell, mixed: str) -> None:
    async def publish(_: OutboxRow) -> None: ...

    store = outbox_with(pending=1)
    relay = Relay(store, publish, listeners=()) if mixed == "sync store" else Relay(AsyncMemoryOutbox(store), lambda _: None, listeners=())
    finresilience.let(app=relay)
    said = finresilience("relay", "--until-idle")
    assert (said.code, "the publisher is" in said.err) == (2, True)


def test_a_service_without_a_relay_is_told_so(finresilience: Shell) -> None:
    finresilience.let(app=App(outbox=outbox_with()))
    said = finresilience("relay")
    assert (said.code, "has no relay: give App(relay=...)" in said.err) == (2, True)
