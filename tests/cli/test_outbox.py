"""`finresilience outbox status | replay | purge`: what a person reads, what a script reads, and that a replay ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from finresilience.cli.app import App
from finresilience.durable.memory_outbox import MemoryOutbox
from finresilience.durable.outbox import LeaseTerms
from tests.cli.commands import SIGNED, Noting, event, filled, outbox_with

if TYPE_CHECKING:
    from finresilience.testing import ManualClock
    from tests.cli.commands import Shell

WINDOW = ("--since", "2025-12-31T00:00:00Z", "--until", "2026-01-01T00:30:00Z")


def test_a_healthy_outbox_ends_with_zero(finresilience: Shell) -> None:
    finresilience.let(app=App(outbox=outbox_with(published=2)))
    said = finresilience("outbox", "status")
    assert (said.code, said.err) == (0, "")
    assert said.out == (
        "pending    0\n"
        "published  2 kept\n"
        "dead       0\n"
        "parked     0 keys\n"
        "relays     no partition has an owner\n"
        "\n"
        "nothing waits for a person\n"
    )


def test_what_waits_for_a_person_ends_with_one_and_says_where_to_look(finresilience: Shell, clock: ManualClock) -> None:
    store = outbox_with(dead=1, pending=2, partitions=1)
    filled(store, event("bad_0"))
    clock.advance(250)
    finresilience.let(app=App(outbox=store))
    said = finresilience("outbox", "status")
    assert said.code == 1
    assert said.out == (
        "pending    3, the oldest for 4 min\n"
        "published  0 kept\n"
        "dead       1\n"
        "parked     1 key\n"
        "relays     no partition has an owner: does a relay run?\n"
        "\n"
        "partition  pending\n"
        "        0        3\n"
        "\n"
        "1 dead letter waits for a person: finresilience outbox dlq list\n"
        "1 key is parked: its later events wait for its dead letter\n"
    )


def test_the_document_has_these_keys(finresilience: Shell, clock: ManualClock) -> None:
    store = outbox_with(published=1, dead=1, partitions=1)
    filled(store, event("a"), event("b", tenant="bank-1"), event("c", tenant="bank-1"))
    store.claim("relay-1", at_most=1, terms=LeaseTerms(lease=30.0))
    clock.advance(2.5)
    finresilience.let(app=App(outbox=store))
    assert finresilience("outbox", "status", "--json").document == {
        "command": "outbox status",
        "healthy": False,
        "problems": ["dead_letters", "parked_keys"],
        "pending": 3,
        "oldest_age": 2.5,
        "by_partition": [{"partition": 0, "pending": 3}],
        "by_tenant": [{"tenant": "bank-1", "pending": 2}, {"tenant": None, "pending": 1}],
        "failed_attempts": 0,
        "suspects": 0,
        "published": 1,
        "dead": 1,
        "parked_keys": 1,
        "owned_partitions": 1,
    }


@pytest.mark.parametrize(("allowed", "code"), [("61", 0), ("60", 0), ("59", 1), ("1min", 0), ("0.5min", 1)])
def test_an_event_that_waits_for_longer_than_allowed_ends_with_one(
    finresilience: Shell, clock: ManualClock, allowed: str, code: int
) -> None:
    finresilience.let(app=App(outbox=outbox_with(pending=1)))
    clock.advance(60)
    said = finresilience("outbox", "status", "--max-age", allowed)
    assert said.code == code
    assert ("the oldest event has waited for 1 min" in said.out) is (code == 1)


def test_a_thousand_partitions_fit_on_a_page(finresilience: Shell) -> None:
    finresilience.let(app=App(outbox=outbox_with(pending=300, partitions=100)))
    said = finresilience("outbox", "status")
    assert len(said.out.splitlines()) == 15
    assert "others" in said.out


# --- replay --------------------------------------------------------------------------------------------------------------------


class AtOnce(MemoryOutbox):
    """An outbox with a relay so fast that what is replayed is published before we look again."""

    def replay(self, **more: Any) -> int:
        limit: int = more["limit"]
        return min(limit, 2)


def test_a_replay_ends_though_a_relay_publishes_as_fast_as_it_replays(finresilience: Shell, clock: ManualClock) -> None:
    store = outbox_with(published=7)
    fast = AtOnce()
    fast.statistics = store.statistics  # type: ignore[method-assign] # of the one that was filled
    finresilience.let(app=App(outbox=fast))
    clock.advance(3600)
    said = finresilience("outbox", "replay", *WINDOW, *SIGNED, "--json")
    assert (said.code, said.document["done"]) == (0, 7)


@pytest.mark.parametrize(
    ("since", "until"),
    [("2026-01-01T00:00:00Z", "2026-01-01T02:00:00Z"), ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z")],
)
def test_a_window_that_is_empty_or_not_past_is_refused(finresilience: Shell, clock: ManualClock, since: str, until: str) -> None:
    store: Any = Noting(outbox_with(published=1))
    clock.advance(3600)
    finresilience.let(app=App(outbox=store))
    said = finresilience("outbox", "replay", "--since", since, "--until", until, *SIGNED)
    assert (said.code, store.asked) == (2, [])
    assert "--until past" in said.err


def test_what_is_replayed_is_pending_again(finresilience: Shell, clock: ManualClock) -> None:
    store = outbox_with(published=1500)
    clock.advance(3600)
    finresilience.let(app=App(outbox=store))
    said = finresilience("outbox", "replay", *WINDOW, *SIGNED)
    assert said.code == 0
    assert said.out.startswith("1,500 events published from 2025-12-31T00:00:00+00:00 to before 2026-01-01T00:30:00+00:00 are ")
    assert (store.statistics().pending, store.statistics().published) == (1500, 0)


def test_without_tables_nobody_knows_how_many_it_would_be(finresilience: Shell, clock: ManualClock) -> None:
    clock.advance(3600)
    finresilience.let(app=App(outbox=outbox_with(published=1)))
    said = finresilience("outbox", "replay", *WINDOW, "--json")
    assert said.document == {
        "command": "outbox replay",
        "applied": False,
        "since": "2025-12-31T00:00:00+00:00",
        "until": "2026-01-01T00:30:00+00:00",
        "matched": None,
        "done": 0,
    }


# --- purge -----------------------------------------------------------------------------------------------------------------------


def test_a_purge_asks_until_nothing_is_left_and_spares_what_is_younger(finresilience: Shell, clock: ManualClock) -> None:
    store = outbox_with(published=2500)
    clock.advance(3600)
    filled(store, event("young"))
    noting: Any = Noting(store)
    finresilience.let(app=App(outbox=noting))
    said = finresilience("outbox", "purge", "--older-than", "30min", "--apply")
    assert (said.out, noting.asked.count("purge")) == ("2,500 events published more than 30 min ago are forgotten\n", 4)
    assert store.statistics().pending == 1


def test_a_purge_needs_no_signature_but_takes_one(finresilience: Shell) -> None:
    finresilience.let(app=App(outbox=outbox_with()))
    assert finresilience("outbox", "purge", "--older-than", "7d", "--apply", "--json").document == {
        "command": "outbox purge",
        "applied": True,
        "older_than": 604800.0,
        "matched": None,
        "done": 0,
    }
