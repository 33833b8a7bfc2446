"""The awaited relay: cut off at any await, slow, idle, woken, stopped, misused; in virtual time, on asyncio and trio."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import anyio
import pytest

from finresilience.clock import ruling_clock
from finresilience.durable.memory_outbox import MemoryOutbox
from finresilience.durable.memory_outbox_async import AsyncMemoryOutbox
from finresilience.durable.outbox import FencedError, OutboxStatistics, Reason
from finresilience.durable.relay_events import (
    MessageBuried,
    OutboxStoreFailed,
    PartitionTakenOver,
    PublishFailed,
    RelayFenced,
)
from finresilience.errors import ConfigurationError, ExpiredError
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN
from finresilience.testing import run_virtual, turn
from tests.durable.relays import Down, Lost, No, committed, event, firsts, relay_of, told

BOTH = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def outbox(partitions: int = 2) -> AsyncMemoryOutbox:
    return AsyncMemoryOutbox(MemoryOutbox(partitions=partitions))


# --- cut off ---------------------------------------------------------------------------------------------------------


class Counted:
    """Counts checkpoints, and cancels at one of them."""

    def __init__(self, at: int) -> None:
        self.at, self.seen = at, 0
        self.scope: anyio.CancelScope | None = None

    async def pause(self) -> None:
        self.seen += 1
        if self.seen == self.at and self.scope is not None:
            self.scope.cancel()
        await anyio.lowlevel.checkpoint()


async def cut_off(at: int) -> tuple[bool, list[tuple[str, int]], list[tuple[str, int]], OutboxStatistics]:
    """Cancel a relay at one checkpoint; return whether it was, what arrived, what was confirmed, and how things stood then."""
    counted = Counted(at)
    store = AsyncMemoryOutbox(MemoryOutbox(partitions=2), pause=counted.pause)
    committed(store, *[event(f"acc_{k}", n) for n in range(2) for k in range(3)])
    arrived: list[tuple[str, int]] = []
    confirmed: list[tuple[str, int]] = []

    async def publish(row: Any) -> None:
        await counted.pause()
        arrived.append(told(row))
        await counted.pause()
        confirmed.append(told(row))

    with anyio.CancelScope() as counted.scope:
        await relay_of(store, publish, batch=10, settle_every=50).run(until_idle=True)
    stood = store.store.statistics()
    counted.at = 0
    if stood.owned:  # it was cut off before it heard what it had got
        await ruling_clock().sleep(31)
    await relay_of(store, publish).run(until_idle=True)
    return counted.scope.cancelled_caught, arrived, confirmed, stood


@BOTH
def test_cancelled_at_any_await_it_settles_what_was_confirmed_and_loses_nothing(backend: Any) -> None:
    cancelled, at = True, 0
    while cancelled:
        at += 1
        cancelled, arrived, _, stood = run_virtual(cut_off, at, backend=backend)
        assert sorted(set(arrived)) == [(f"acc_{k}", n) for k in range(3) for n in range(2)]
        for key in ("acc_0", "acc_1", "acc_2"):
            assert firsts(arrived, key) == [0, 1]
        assert stood.owned == 0 or at <= 2, f"cancelled at {at}, it kept its partitions"
        assert len(arrived) - len(set(arrived)) <= 3, "only what was on its way may arrive twice"
        assert stood.suspects == 0
    assert at > 30


@BOTH
def test_what_was_confirmed_is_settled_though_the_rest_was_cancelled(backend: Any) -> None:
    async def main() -> None:
        store = outbox()
        committed(store, event("acc_1", 1), event("acc_2", 2))

        async def publish(row: Any) -> None:
            if row.message.key == "acc_2":
                await anyio.sleep_forever()

        with anyio.move_on_after(0.1):
            await relay_of(store, publish, publish_timeout=1.0).run()
        stood = store.store.statistics()
        assert (stood.published, stood.pending, stood.owned) == (1, 1, 0)

    run_virtual(main, backend=backend)


@BOTH
def test_tidying_up_has_a_bound(backend: Any) -> None:
    async def main() -> float:
        store = outbox()
        committed(store, event())
        relay: Any = None

        async def publish(_: Any) -> None:
            store.release = anyio_forever  # type: ignore[method-assign]  # the database hangs from now on  # pyright: ignore[reportAttributeAccessIssue]
            relay.stop()
            await anyio.sleep_forever()

        async def anyio_forever(_lease: Any) -> None:
            await anyio.sleep_forever()

        relay = relay_of(store, publish, publish_timeout=1.0, drain_timeout=3.0)
        with anyio.move_on_after(0.5):
            await relay.run()
        return ruling_clock().monotonic()

    assert run_virtual(main, backend=backend) == 3.5


# --- slow ------------------------------------------------------------------------------------------------------------


@BOTH
def test_a_publish_that_takes_too_long_is_cut_off_and_comes_again(backend: Any) -> None:
    async def main() -> None:
        store = outbox()
        committed(store, event("acc_1", 1), event("acc_2", 2))
        tries: list[float] = []
        heard: list[Any] = []

        async def publish(row: Any) -> None:
            if row.message.key == "acc_1":
                tries.append(ruling_clock().monotonic())
                if len(tries) == 1:
                    await anyio.sleep_forever()

        await relay_of(store, publish, publish_timeout=2.0, listeners=[heard.append]).run(until_idle=True)
        assert store.store.statistics().pending == 1
        await ruling_clock().sleep(1)
        await relay_of(store, publish).run(until_idle=True)
        assert tries == [0.0, 3.0]
        [failed] = [one for one in heard if isinstance(one, PublishFailed)]
        assert (failed.classification, failed.error_type, failed.attempt) == (UNKNOWN, ExpiredError.__name__, 1)

    run_virtual(main, backend=backend)


@BOTH
def test_keys_are_published_together_and_rows_of_a_key_one_by_one(backend: Any) -> None:
    async def main() -> float:
        store = outbox(1)
        committed(store, *[event(f"acc_{k}", n) for n in range(3) for k in range(5)])
        flying: list[str] = []

        async def publish(row: Any) -> None:
            assert row.message.key not in flying, "two rows of a key were on their way at once"
            flying.append(row.message.key)
            await ruling_clock().sleep(1)
            flying.remove(row.message.key)

        await relay_of(store, publish, batch=15, concurrency=5, publish_timeout=2.0).run(until_idle=True)
        return ruling_clock().monotonic()

    assert run_virtual(main, backend=backend) == 3.0


# --- idle ------------------------------------------------------------------------------------------------------------


async def looked_at(poll: tuple[float, float], seconds: float) -> list[float]:
    """Return when an idle relay looked into its only partition."""
    store = outbox(1)
    looks: list[float] = []
    fetch = store.fetch

    async def watched(lease: Any, **more: Any) -> Any:
        looks.append(ruling_clock().monotonic())
        return await fetch(lease, **more)

    store.fetch = watched  # type: ignore[method-assign]  # a spy  # pyright: ignore[reportAttributeAccessIssue]

    async def publish(_: Any) -> None: ...

    with anyio.move_on_after(seconds):
        await relay_of(store, publish, poll=poll, chance=lambda: 0.999999).run()
    return looks


@BOTH
def test_an_idle_relay_looks_less_and_less_often_but_never_less_than_it_was_told(backend: Any) -> None:
    looks = run_virtual(partial(looked_at, (0.1, 5.0), 100.0), backend=backend)
    gaps = [after - before for before, after in pairwise(looks)]
    assert gaps[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8], rel=1e-3)
    assert max(gaps) <= 5.0
    assert len(looks) < 40


@BOTH
def test_a_wake_up_cuts_the_wait_short(backend: Any) -> None:
    async def main() -> None:
        store = outbox()
        seen: list[float] = []

        async def publish(_: Any) -> None:
            seen.append(ruling_clock().monotonic())

        relay = relay_of(store, publish, poll=(5.0, 5.0))
        async with anyio.create_task_group() as group:
            group.start_soon(relay.run)
            await ruling_clock().sleep(11.0)
            committed(store, event())
            relay.wake()
            await ruling_clock().sleep(1.0)
            relay.stop()
        assert seen == [11.0]
        assert store.store.statistics().owned == 0

    run_virtual(main, backend=backend)


@BOTH
def test_what_is_added_while_it_is_idle_is_published_within_the_longest_wait(backend: Any) -> None:
    async def main() -> None:
        store = outbox()
        late: list[float] = []

        async def publish(row: Any) -> None:
            late.append(ruling_clock().monotonic() - row.message.json()["n"])

        with anyio.move_on_after(100):
            async with anyio.create_task_group() as group:
                group.start_soon(relay_of(store, publish, poll=(0.1, 2.0)).run)
                for _ in range(12):
                    await ruling_clock().sleep(7.3)
                    committed(store, event(n=int(ruling_clock().monotonic())))
        assert len(late) == 12
        assert max(late) <= 3.0

    run_virtual(main, backend=backend)


# --- several of them ---------------------------------------------------------------------------------------------------


@BOTH
def test_relays_come_to_share_the_partitions_and_a_leaver_leaves_its_share(backend: Any) -> None:
    async def main() -> None:
        store = outbox(8)

        async def publish(_: Any) -> None: ...

        first, second = relay_of(store, publish), relay_of(store, publish)
        async with anyio.create_task_group() as group:
            group.start_soon(first.run)
            await ruling_clock().sleep(1)
            assert first.statistics()["held"] == 8
            group.start_soon(second.run)
            await ruling_clock().sleep(25)
            assert (first.statistics()["held"], second.statistics()["held"]) == (4, 4)
            first.stop()
            await ruling_clock().sleep(10)
            assert (first.statistics()["held"], second.statistics()["held"]) == (0, 8)
            second.stop()
        assert store.store.statistics().takeovers == 0

    run_virtual(main, backend=backend)


@BOTH
def test_an_overtaken_relay_says_so_and_tidies_up_the_rest(backend: Any) -> None:
    async def main() -> None:
        store = outbox(2)
        committed(store, *[event(f"acc_{k}") for k in range(6)])
        heard: list[Any] = []

        async def publish(row: Any) -> None:
            if store.store.statistics().takeovers == 0:
                part = store.store._parts[row.part]
                part.owner, part.epoch = "thief", part.epoch + 1
                store.store._takeovers = 1

        relay = relay_of(store, publish, concurrency=1, listeners=[heard.append])
        with pytest.raises(FencedError) as caught:
            await relay.run()
        assert [(one.part, one.doing) for one in heard if isinstance(one, RelayFenced)] == [(caught.value.part, "settling")]
        assert relay.statistics()["fenced"] == 1
        assert store.store.statistics().owned == 1  # the thief's

    run_virtual(main, backend=backend)


# --- what it says ------------------------------------------------------------------------------------------------------


@BOTH
def test_listeners_hear_of_failures_burials_takeovers_and_a_store_that_is_away(backend: Any) -> None:
    async def main() -> None:
        store = outbox(1)
        committed(store, event("acc_1", 1), event("acc_2", 2), event("acc_3", 3))
        heard: list[Any] = []
        store.store.claim("ghost", at_most=1, terms=relay_of(store, print).settings.terms())
        await ruling_clock().sleep(31)
        fetch, away = store.fetch, [ConnectionError, ConnectionError]

        async def flaky(lease: Any, **more: Any) -> Any:
            if away:
                raise away.pop()
            return await fetch(lease, **more)

        store.fetch = flaky  # type: ignore[method-assign]  # the network  # pyright: ignore[reportAttributeAccessIssue]

        async def publish(row: Any) -> None:
            n = row.message.json()["n"]
            if n < 3:
                raise (Lost, No)[n - 1]

        relay = relay_of(store, publish, listeners=[heard.append])
        await relay.run(until_idle=True)
        kinds = [type(one) for one in heard]
        assert kinds.count(PartitionTakenOver) == kinds.count(PublishFailed) == kinds.count(MessageBuried) == 1
        assert kinds.count(OutboxStoreFailed) == 2
        [buried] = [one for one in heard if isinstance(one, MessageBuried)]
        assert (buried.reason, buried.fingerprint) == (str(Reason.REFUSED), "tests.durable.relays.No@test_relay_async.py:publish")
        assert all("acc_" not in repr(one) for one in heard)
        assert {name: count for name, count in relay.statistics().items() if count} == {
            "published": 1,
            "settled": 1,
            "failed": 2,
            "buried": 1,
            "takeovers": 1,
            "store_failures": 2,
        }

    run_virtual(main, backend=backend)


class Answer:
    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


@BOTH
def test_an_answer_that_the_rules_judge_is_not_taken_for_a_yes(backend: Any) -> None:
    from finresilience.classify.classifier import ErrorClassifier

    async def main() -> None:
        store = outbox(1)
        committed(store, event("acc_1", 200), event("acc_2", 503), event("acc_3", 422), event("acc_4", 504))
        heard: list[Any] = []

        async def publish(row: Any) -> Answer:
            return Answer(row.message.json()["n"])

        rules = ErrorClassifier(status={503: RETRYABLE, 422: NON_RETRYABLE, 504: UNKNOWN})
        await relay_of(store, publish, classify=rules, listeners=[heard.append]).run(until_idle=True)
        stood = store.store.statistics()
        assert (stood.published, stood.pending, stood.dead) == (1, 2, 1)
        assert sorted(str(one.classification) for one in heard if isinstance(one, PublishFailed)) == ["retryable", "unknown"]

    run_virtual(main, backend=backend)


# --- misused -----------------------------------------------------------------------------------------------------------


async def test_a_sync_publisher_or_store_is_refused_with_the_way_out() -> None:
    store = outbox()
    committed(store, event())
    with pytest.raises(ConfigurationError, match="run_sync"):
        await relay_of(store, lambda row: None).run(until_idle=True)
    assert store.store.statistics().pending == 1

    async def publish(_: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="run_sync"):
        await relay_of(MemoryOutbox(), publish).run(until_idle=True)


async def test_a_relay_runs_once_at_a_time() -> None:
    relay: Any = None
    store = outbox()
    committed(store, event())
    seen: list[str] = []

    async def publish(_: Any) -> None:
        with pytest.raises(ConfigurationError, match="runs already"):
            await relay.run()
        seen.append("refused")

    relay = relay_of(store, publish)
    await relay.run(until_idle=True)
    await relay.run(until_idle=True)
    assert seen == ["refused"]


@BOTH
def test_a_mistake_in_the_store_ends_the_relay_instead_of_being_made_for_ever(backend: Any) -> None:
    async def main() -> None:
        store = outbox()

        async def broken(_lease: Any, *, limit: int) -> Any:
            return limit.unknown  # type: ignore[attr-defined]  # the mistake  # pyright: ignore[reportAttributeAccessIssue]

        store.fetch = broken  # type: ignore[method-assign]  # as said  # pyright: ignore[reportAttributeAccessIssue]

        async def publish(_: Any) -> None: ...

        with pytest.raises(AttributeError):
            await relay_of(store, publish).run()
        assert store.store.statistics().owned == 0

    run_virtual(main, backend=backend)


async def test_leaving_its_block_stops_a_relay_that_runs_beside_it() -> None:
    store = outbox()

    async def publish(_: Any) -> None: ...

    async with anyio.create_task_group() as group:
        async with relay_of(store, publish) as relay:
            group.start_soon(relay.run)
            while not relay.statistics()["held"]:
                await turn()
    assert store.store.statistics().owned == 0


def test_a_failure_that_is_down_costs_an_attempt_and_waits_by_its_backoff() -> None:
    async def main() -> list[float]:
        store = outbox(1)
        committed(store, event())
        tries: list[float] = []

        async def publish(_: Any) -> None:
            tries.append(ruling_clock().monotonic())
            if len(tries) < 4:
                raise Down

        with anyio.move_on_after(60):
            await relay_of(store, publish, poll=(0.01, 0.01), chance=lambda: 0.999999).run()
        return tries

    tries = run_virtual(main)
    gaps = [after - before for before, after in pairwise(tries)]
    assert gaps == pytest.approx([0.5, 1.0, 2.0], abs=0.05)
