"""What went wrong in other idempotency stores and inboxes, one test each: ours are free of it."""

from __future__ import annotations

from typing import Any

import pytest

from finresilience import ConfigurationError
from finresilience.durable.consuming import consume
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.durable.memory_inbox import MemoryInboxStore
from finresilience.durable.records import Claimed, InProgress, Mismatch, Replay
from finresilience.durable.seen import Parked
from finresilience.testing import ManualClock

KEY: dict[str, Any] = {"fingerprint": "50 USD", "lease": 60.0}


def claimed(store: MemoryIdempotencyStore, scope: str = "alice", **more: Any) -> Claimed:
    told = store.claim(scope, "pay_1", **{**KEY, **more})
    assert isinstance(told, Claimed)
    return told


def test_a_handler_that_raised_once_does_not_block_its_key_for_ever() -> None:
    clock = ManualClock()
    store = MemoryIdempotencyStore(clock=clock)
    claimed(store)  # its handler raises, and its process dies before anything is written
    assert store.claim("alice", "pay_1", **KEY) == InProgress(60.0)
    clock.advance(60)
    assert claimed(store).takeover


def test_a_key_whose_answer_was_forgotten_is_new_and_not_in_conflict_for_ever() -> None:
    clock = ManualClock()
    store = MemoryIdempotencyStore(clock=clock)
    store.complete(claimed(store).token, b"paid")
    clock.advance(86_400)
    assert store.purge(older_than=86_400) == 1
    assert not claimed(store).takeover


def test_another_tenant_with_the_same_key_gets_no_answer_of_the_first() -> None:
    store = MemoryIdempotencyStore(clock=ManualClock())
    store.complete(claimed(store).token, b"alice's account")
    told = claimed(store, scope="bob", fingerprint="999 USD")
    assert b"alice" not in told.data


def test_an_expired_claim_is_not_taken_over_by_another_request() -> None:
    clock = ManualClock()
    store = MemoryIdempotencyStore(clock=clock)
    claimed(store)
    clock.advance(61)
    assert isinstance(store.claim("alice", "pay_1", fingerprint="999 USD", lease=60.0), Mismatch)


def test_a_slow_handler_that_renews_is_not_run_twice() -> None:
    clock = ManualClock()
    store = MemoryIdempotencyStore(clock=clock)
    mine = claimed(store, lease=30.0)
    for _ in range(10):
        clock.advance(20)
        assert isinstance(store.claim("alice", "pay_1", **KEY), InProgress)
        store.renew(mine.token, lease=30.0)
    store.complete(mine.token, b"paid")
    assert isinstance(store.claim("alice", "pay_1", **KEY), Replay)


@pytest.mark.parametrize("remaining", [0, 0.0, -5.0])
def test_no_time_left_is_not_read_as_for_ever(remaining: float) -> None:
    store = MemoryIdempotencyStore(clock=ManualClock())
    with pytest.raises(ConfigurationError, match="lease"):
        store.claim("alice", "pay_1", fingerprint="50 USD", lease=remaining)
    assert store.find("alice", "pay_1") is None


def test_a_message_that_kills_its_worker_is_not_handed_out_for_ever() -> None:
    inbox = MemoryInboxStore(clock=ManualClock(), park_after=3)
    runs: list[str] = []

    class Killed(BaseException):
        """As good as a SIGKILL."""

    def dies(_: object) -> None:
        runs.append("run")
        raise Killed

    told: object = None
    for delivery in range(20):
        try:
            told = consume(inbox, inbox.transaction, dies, group="ledger", message_id="msg_1", redelivered=delivery > 0)
        except Killed:
            continue
    assert told == Parked(3)
    assert len(runs) == 4  # the first delivery is not counted before it is made
