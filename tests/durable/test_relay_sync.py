"""The relay that is not awaited: in threads, interrupted, idle and misused; and the numbers that a relay refuses."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from finresilience import CircuitBreaker, CountWindow
from finresilience.cores.backoff import Constant, Exponential
from finresilience.durable.memory_outbox import MemoryOutbox
from finresilience.durable.memory_outbox_async import AsyncMemoryOutbox
from finresilience.durable.outbox import Exhausted, FencedError
from finresilience.durable.relay import Relay
from finresilience.durable.relay_events import MessageBuried, PartitionTakenOver, PublishFailed, RelayFenced, log_relay_event
from finresilience.errors import CircuitOpenError, ConfigurationError
from finresilience.outcome import UNKNOWN
from finresilience.testing import ManualClock, explore_threads, instant
from tests.durable.relays import RULES, Down, Lost, committed, event, firsts, relay_of, told


def test_it_publishes_what_is_committed_and_ends_when_nothing_is_due() -> None:
    store, arrived = MemoryOutbox(), list[tuple[str, int]]()
    committed(store, *[event(f"acc_{k}", n) for n in range(3) for k in range(20)])
    with relay_of(store, lambda row: arrived.append(told(row))) as relay:
        relay.run_sync(until_idle=True)
    assert sorted(arrived) == sorted((f"acc_{k}", n) for n in range(3) for k in range(20))
    assert all(firsts(arrived, f"acc_{k}") == [0, 1, 2] for k in range(20))
    assert (relay.statistics()["published"], relay.statistics()["settled"]) == (60, 60)


def test_an_interrupted_relay_settles_what_was_confirmed_and_lets_the_interruption_pass() -> None:
    store, arrived = MemoryOutbox(partitions=1), list[tuple[str, int]]()
    committed(store, *[event(f"acc_{n}", n) for n in range(5)])

    def publish(row: Any) -> None:
        if row.message.json()["n"] == 3:
            raise KeyboardInterrupt
        arrived.append(told(row))

    with pytest.raises(KeyboardInterrupt):
        relay_of(store, publish).run_sync()
    assert (store.statistics().published, store.statistics().pending, store.statistics().owned) == (3, 2, 0)
    relay_of(store, lambda row: arrived.append(told(row))).run_sync(until_idle=True)
    assert arrived == [(f"acc_{n}", n) for n in range(5)]


def test_relays_in_threads_publish_each_row_once_and_in_order() -> None:
    def scenario() -> tuple[list[Any], Any]:
        clock = ManualClock()
        store = MemoryOutbox(partitions=2, clock=clock)
        committed(store, *[event(f"acc_{k}", n) for n in range(2) for k in range(3)])
        arrived: list[tuple[str, int]] = []

        def run() -> None:
            relay_of(store, lambda row: arrived.append(told(row)), clock=clock).run_sync(until_idle=True)

        def each_once_and_in_order() -> None:
            run()
            assert sorted(arrived) == sorted((f"acc_{k}", n) for n in range(2) for k in range(3))
            assert all(firsts(arrived, f"acc_{k}") == [0, 1] for k in range(3))

        return [run, run], each_once_and_in_order

    explore_threads(scenario, seeds=40)


def test_an_idle_relay_waits_on_the_clock_that_rules_and_stops_when_told() -> None:
    store = MemoryOutbox()
    with instant() as clock:
        relay: Any = None
        committed(store, event())

        def publish(_: Any) -> None:
            relay.stop()

        relay = relay_of(store, publish)
        relay.run_sync()
    assert clock.monotonic() < 1.0
    assert store.statistics().owned == 0


def test_a_rejected_publisher_is_left_alone_for_as_long_as_its_circuit_says() -> None:
    with instant() as clock:
        store = MemoryOutbox(partitions=1)
        committed(store, *[event(f"acc_{n}") for n in range(50)])
        tries: list[float] = []

        def publish(_: Any) -> None:
            if clock.monotonic() < 10.0:
                tries.append(clock.monotonic())
                raise CircuitOpenError("broker", "open", 10.0 - clock.monotonic(), 1, None)

        relay = relay_of(store, publish)
        relay.run_sync(until_idle=True)
        clock.advance(20)
        relay.run_sync(until_idle=True)
    assert len(tries) < 15, f"a circuit that is open was asked {len(tries)} times in ten seconds"
    assert (store.statistics().published, store.statistics().dead) == (50, 0)


def test_a_backlog_outlives_an_outage_of_the_broker_when_a_circuit_stands_before_it() -> None:
    with instant() as clock:
        store = MemoryOutbox(partitions=1)
        committed(store, *[event(f"acc_{n}") for n in range(5)])

        def publish(_: Any) -> None:
            if clock.monotonic() < 86_400.0:
                raise CircuitOpenError("broker", "open", 30.0, 1, None)

        relay = relay_of(store, publish, max_attempts=2)
        for _ in range(200):
            relay.run_sync(until_idle=True)
            clock.advance(600)
    assert (store.statistics().published, store.statistics().dead) == (5, 0)


def test_an_outage_that_the_broker_never_heard_of_buries_nothing_and_is_asked_less_and_less() -> None:
    tries: list[float] = []
    with instant() as clock:
        store = MemoryOutbox(partitions=1)
        committed(store, event("acc_1"), event("acc_2"))

        def publish(row: Any) -> None:
            if row.message.key == "acc_1":
                tries.append(clock.monotonic())
            if clock.monotonic() < 86_400.0:
                raise Down

        relay = relay_of(store, publish, max_attempts=2, backoff=Exponential(base=1.0, cap=600.0))
        while store.statistics().pending:
            relay.run_sync(until_idle=True)
            clock.advance(1.0)
    assert (store.statistics().published, store.statistics().dead) == (2, 0)
    gaps = [round(later - earlier) for earlier, later in pairwise(tries)]
    assert gaps == sorted(gaps), f"the waits of one row came as {gaps}"
    assert gaps[-1] == 600


def test_a_circuit_that_tries_a_broker_again_and_again_buries_nothing() -> None:
    with instant() as clock:
        store = MemoryOutbox(partitions=1)
        committed(store, *[event(f"acc_{n}") for n in range(20)])
        breaker = CircuitBreaker(
            "bus",
            window=CountWindow(10),
            failure_rate=0.5,
            minimum_calls=2,
            open_for=30.0,
            half_open_calls=2,
            probe_lease=5.0,
            classify=RULES,
        )

        @breaker
        def publish(_: Any) -> None:
            if clock.monotonic() < 7 * 3600.0:
                raise Down

        relay = relay_of(store, publish, max_attempts=3)
        while store.statistics().pending:
            relay.run_sync(until_idle=True)
            clock.advance(5.0)
    assert (store.statistics().published, store.statistics().dead) == (20, 0)


def test_a_publisher_that_keeps_failing_is_told_of_at_once_and_then_less_and_less(caplog: pytest.LogCaptureFixture) -> None:
    fails = [True] * 11 + [False, True, False]

    def publish(_: Any) -> None:
        if fails.pop(0):
            raise Down

    with instant() as clock:
        store = MemoryOutbox(partitions=1)
        committed(store, event("acc_1"), event("acc_1", 2))
        relay = Relay(store, publish, classify=RULES, backoff=Constant(1.0), clock=clock)
        while store.statistics().pending:
            relay.run_sync(until_idle=True)
            clock.advance(1.0)
    told = [record.getMessage().partition(";")[0] for record in caplog.records]
    once, often = "relay: publishing has failed once (Down, retryable)", "relay: publishing has failed 10 times in a row (Down, retryable)"
    assert told == [once, often, once]


# --- what it refuses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch": 0},
        {"batch": True},
        {"batch": 100, "publish_timeout": 1.0, "lease": 60.0},
        {"batch": 1, "publish_timeout": 31.0, "lease": 60.0},
        {"lease": 0},
        {"lease": float("nan")},
        {"publish_timeout": -1},
        {"concurrency": 0},
        {"settle_every": 0},
        {"settle_within": float("inf")},
        {"max_attempts": 0},
        {"max_takeovers": 0},
        {"backoff": 3},
        {"exhausted": "park"},
        {"poll": 5.0},
        {"poll": (5.0, 1.0)},
        {"poll": (0.0, 1.0)},
        {"partitions_at_most": 0},
        {"drain_timeout": 0},
        {"owner": ""},
        {"name": " "},
        {"classify": {}},
        {"listeners": log_relay_event},
        {"chance": 0.5},
        {"clock": 0},
    ],
    ids=lambda wrong: " and ".join(f"{name}={value}" for name, value in wrong.items() if name != "listeners") or "listeners",
)
def test_numbers_that_cannot_work_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Relay(MemoryOutbox(), print, **wrong)


def test_the_error_for_an_overlong_batch_says_what_would_work() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Relay(MemoryOutbox(), print, batch=100, publish_timeout=1.0, lease=60.0)
    assert "batch <= 60, publish_timeout <= 0.6 or lease >= 100" in str(caught.value)
    Relay(MemoryOutbox(), print, batch=60, publish_timeout=1.0, lease=60.0)
    Relay(MemoryOutbox(), print, batch=100, publish_timeout=0.6, lease=60.0)
    Relay(MemoryOutbox(), print, batch=100, publish_timeout=1.0, lease=timedelta(seconds=100))


def test_a_store_or_publisher_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="store"):
        Relay(object(), print)  # type: ignore[arg-type]  # the very mistake  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigurationError, match="publisher"):
        Relay(MemoryOutbox(), None)  # type: ignore[arg-type]  # as above  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError):
        Relay(MemoryOutbox(), print, bath=7)  # type: ignore[call-arg]  # as above  # pyright: ignore[reportCallIssue]


def test_an_async_publisher_or_store_is_refused_with_the_way_out() -> None:
    store = MemoryOutbox()
    committed(store, event())

    async def publish(_: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="await run"):
        relay_of(store, publish).run_sync(until_idle=True)
    with pytest.raises(ConfigurationError, match="await run"):
        relay_of(AsyncMemoryOutbox(), print).run_sync(until_idle=True)
    assert (store.statistics().pending, store.statistics().owned) == (1, 0)


# --- what it logs ------------------------------------------------------------------------------------------------------


def test_with_no_set_up_people_are_warned_of_what_they_should_know(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryOutbox(partitions=1)
    committed(store, event())

    def publish(_: Any) -> None:
        raise Lost

    Relay(store, publish, max_attempts=1, exhausted=Exhausted.SKIP_TO_DLQ, backoff=Constant(0)).run_sync(until_idle=True)
    [warned] = caplog.records
    assert warned.getMessage().startswith("relay: row 1 of partition 0 is a dead letter: exhausted, tests.durable.relays.Lost@")


def test_each_warning_is_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    log_relay_event(PartitionTakenOver(name="relay", part=3, epoch=7))
    log_relay_event(RelayFenced(name="relay", part=3, epoch=6, doing="settling"))
    log_relay_event(PublishFailed(name="relay", part=3, seq=1, classification=UNKNOWN, error_type="Down", attempt=1, delay=0.5))
    log_relay_event(MessageBuried(name="relay", part=3, seq=1, reason="refused", fingerprint="acme.No"))
    assert [record.getMessage() for record in caplog.records] == [
        "relay: took over partition 3 (epoch 7): its relay died",
        "relay: settling of partition 3 was refused: epoch 6 is over; the relay stops",
        "relay: row 1 of partition 3 is a dead letter: refused, acme.No",
    ]


def test_the_error_of_a_fenced_relay_says_what_is_true_and_what_to_do() -> None:
    told_by = FencedError(3, 6, current=7, doing="settling")
    assert str(told_by).splitlines()[0] == "settling of partition 3 was refused: it came with epoch 6, and epoch 7 holds it now."
    assert "start" in str(told_by)
    from pickle import dumps, loads

    again = loads(dumps(told_by))
    assert (again.part, again.epoch, again.current, again.doing) == (3, 6, 7, "settling")
