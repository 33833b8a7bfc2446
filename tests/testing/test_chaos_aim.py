"""Which call meets which fault, what is remembered of it, and that the same happens again."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience import ConfigurationError, Constant, Failed, Ok, Pipeline, Retry, idempotency_key
from finresilience.testing import instant, run_virtual, strikes
from finresilience.testing.chaos import Chaos, FaultInjected, Strike
from finresilience.testing.faults import Fault, FaultKind, FaultPlan
from finresilience.testing.simulation import simulate
from tests.laws.sabotage import each_kill, kills
from tests.laws.worlds import both_loops
from tests.testing.troubles import PERMIT, Bank, chaos, each_form, ended, piped, plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience import Event
    from finresilience.testing.virtual import Backend
    from finresilience.testing.world import World


# ---------------------------------------------------------------- which call meets which fault


@each_form
def test_a_retry_meets_the_fault_of_its_own_attempt(form: str) -> None:
    if form.endswith("alone"):
        form = form.replace("alone", "called")
    bank = Bank()

    def make() -> Pipeline:
        return piped(chaos(FaultKind.BUSY, nth=(1, 2)), Retry(attempts=3, backoff=Constant(0)))

    outcomes, _ = ended(form, make, bank, "pay_1", "pay_2")
    assert [type(outcome) for outcome in outcomes] == [Ok, Ok]
    assert bank.booked == ["pay_1", "pay_2"]


def test_a_subject_is_counted_over_all_of_its_calls() -> None:
    trouble = chaos(FaultKind.BUSY, nth=(2,))
    with instant():
        ends = [type(piped(trouble).outcome(Bank().charge, "pay_1")) for _ in range(3)]
    assert ends == [Ok, Failed, Ok]


def test_the_operation_is_the_name_of_the_pipeline() -> None:
    trouble = chaos(FaultKind.BUSY, operation="acme.refund")
    with instant():
        charged = Pipeline("acme.charge", trouble, listeners=[]).outcome(Bank().charge, "pay_1")
        refunded = Pipeline("acme.refund", trouble, listeners=[]).outcome(Bank().charge, "pay_1")
    assert (type(charged), type(refunded)) == (Ok, Failed)


def test_a_call_is_told_apart_by_its_reference_or_by_the_subject_of_its_arguments() -> None:
    with instant():
        by_reference = [type(piped(chaos(FaultKind.BUSY, subject="pay_2")).outcome(Bank().charge, f"pay_{n}")) for n in (1, 2)]
    assert by_reference == [Ok, Failed]
    with instant():
        own = piped(Chaos(plan(FaultKind.BUSY, subject="2"), permit=PERMIT, subject=lambda payment: payment[-1], listeners=[]))
        by_subject = [type(own.outcome(Bank().charge, f"pay_{n}")) for n in (1, 2)]
    assert by_subject == [Ok, Failed]


def test_a_tag_is_found_in_the_arguments() -> None:
    trouble = Chaos(plan(FaultKind.BUSY, tag="big"), permit=PERMIT, tag=lambda payment: "big" if payment == "pay_2" else None, listeners=[])
    with instant():
        assert [type(piped(trouble).outcome(Bank().charge, f"pay_{n}")) for n in (1, 2)] == [Ok, Failed]


def test_a_fault_of_one_provider_strikes_the_chaos_of_its_name() -> None:
    shared = plan(FaultKind.BUSY, provider="acme")
    with instant():
        ends = [
            type(piped(Chaos(shared, permit=PERMIT, name=name, listeners=[])).outcome(Bank().charge, "p")) for name in ("acme", "globex")
        ]
    assert ends == [Failed, Ok]


def test_a_key_stands_in_for_a_reference_and_is_never_shown() -> None:
    trouble = chaos(FaultKind.BUSY)
    with instant(), idempotency_key("secret-1"):
        Pipeline("acme.charge", trouble, listeners=[]).outcome(Bank().charge, "pay_1")
    with instant(), idempotency_key("secret-2"):
        Pipeline("acme.charge", trouble, listeners=[]).outcome(Bank().charge, "pay_1")
    first, second = trouble.injected
    assert first.subject.startswith("key-")
    assert (first.attempt, second.attempt) == (1, 1)
    assert first.subject != second.subject
    assert "secret" not in f"{trouble.injected} {trouble.recorded().to_json()}"


def test_calls_that_nobody_named_are_counted_together() -> None:
    trouble = chaos(FaultKind.BUSY, nth=(2,))
    with instant():
        ends = [type(Pipeline("acme.charge", trouble, listeners=[]).outcome(Bank().charge, payment)) for payment in ("a", "b", "c")]
    assert ends == [Ok, Failed, Ok]
    assert trouble.injected[0].subject == "-"


def test_the_order_of_calls_changes_nothing() -> None:
    payments = [f"pay_{n}" for n in range(40)]
    dice = FaultPlan([Fault(kind=kind, probability=0.4) for kind in (FaultKind.BUSY, FaultKind.RESET, FaultKind.DECLINE)], seed=3)

    def ends(order: list[str]) -> dict[str, str]:
        with instant():
            pipeline = piped(chaos(dice))
            return {payment: type(pipeline.outcome(Bank().charge, payment)).__name__ for payment in order}

    plainly = ends(payments)
    assert set(plainly.values()) == {"Declined", "Failed", "Ok", "Unknown"}
    for seed in range(10):
        assert ends(Random(seed).sample(payments, k=40)) == plainly


def test_a_window_of_time_is_told_by_the_clock() -> None:
    trouble = chaos(FaultKind.BUSY, since=10.0, until=20.0)
    with instant() as clock:
        pipeline, ends = piped(trouble), list[type[object]]()
        for _ in range(3):
            ends.append(type(pipeline.outcome(Bank().charge, "pay_1")))
            clock.advance(10)
    assert ends == [Ok, Failed, Ok]


def test_the_faults_of_webhooks_and_inquiries_are_left_to_the_provider() -> None:
    shared = FaultPlan([Fault(kind=FaultKind.WEBHOOK_DROPPED), Fault(kind=FaultKind.INQUIRY_LAG), Fault(kind=FaultKind.BUSY)])
    with instant():
        assert isinstance(piped(chaos(shared)).outcome(Bank().charge, "pay_1"), Failed)


@pytest.mark.parametrize("who", ["chaos", "plan"])
def test_healed_chaos_strikes_no_more(who: str) -> None:
    faults = plan(FaultKind.BUSY)
    trouble = chaos(faults)
    with instant():
        pipeline = piped(trouble)
        before = pipeline.outcome(Bank().charge, "pay_1")
        (trouble if who == "chaos" else faults).heal()
        after = pipeline.outcome(Bank().charge, "pay_1")
    assert (type(before), type(after)) == (Failed, Ok)


# ---------------------------------------------------------------- what became of it


def test_every_strike_is_counted_and_kept() -> None:
    trouble = chaos(FaultPlan([Fault(kind=FaultKind.BUSY, nth=(1,)), Fault(kind=FaultKind.RESET, nth=(3,))]))
    with instant():
        for _ in range(4):
            piped(trouble).outcome(Bank().charge, "pay_1")
    assert trouble.statistics() == {"calls": 4, "injected": 2, "held_back": 0, "busy": 1, "reset": 1, "listener_failures": 0}
    assert [(strike.kind, strike.operation, strike.subject, strike.attempt) for strike in trouble.injected] == [
        (FaultKind.BUSY, "acme.charge", "pay_1", 1),
        (FaultKind.RESET, "acme.charge", "pay_1", 3),
    ]


def test_the_newest_strikes_are_kept() -> None:
    trouble = Chaos(plan(FaultKind.BUSY), permit=PERMIT, keep=2, listeners=[])
    with instant():
        for _ in range(5):
            piped(trouble).outcome(Bank().charge, "pay_1")
    assert [strike.attempt for strike in trouble.injected] == [4, 5]
    assert trouble.statistics()["injected"] == 5


def test_listeners_hear_of_each_strike() -> None:
    heard: list[Event] = []
    trouble = Chaos(plan(FaultKind.BUSY, nth=(1,)), permit=PERMIT, listeners=[heard.append])
    with instant():
        piped(trouble).outcome(Bank().charge, "pay_1")
        piped(trouble).outcome(Bank().charge, "pay_1")
    assert heard == [
        FaultInjected(name="chaos", operation="acme.charge", kind="busy", attempt=1, reference="pay_1", why="laws of chaos"),
    ]


def test_the_log_says_what_was_injected_so_that_nobody_hunts_for_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="finresilience"), instant():
        piped(Chaos(plan(FaultKind.BUSY), permit=PERMIT)).outcome(Bank().charge, "pay_1")
    assert "chaos: busy injected into acme.charge, attempt 1 (laws of chaos)" in caplog.messages


def test_explain_warns_of_it() -> None:
    assert "chaos may strike: laws of chaos (in tests)" in piped(chaos(FaultKind.BUSY)).explain().warnings


# ---------------------------------------------------------------- again


def test_what_was_injected_is_replayed_exactly(tmp_path: Path) -> None:
    dice = FaultPlan([Fault(kind=kind, probability=0.3, until=500.0) for kind in (FaultKind.SLOW, FaultKind.RESET, FaultKind.BUSY)], seed=5)
    payments = [f"pay_{n % 7}" for n in range(40)]

    def run(trouble: Chaos) -> tuple[list[str], list[Strike]]:
        with instant():
            pipeline = piped(trouble, Retry(attempts=2, backoff=Constant(1)))
            return [type(pipeline.outcome(Bank().charge, payment)).__name__ for payment in payments], list(trouble.injected)

    first = chaos(dice)
    told = run(first)
    first.save(tmp_path / "plan.json")
    again = Chaos.from_file(tmp_path / "plan.json", permit=PERMIT, listeners=[])
    ends, seen = run(again)
    assert ends == told[0]
    assert [(strike.subject, strike.attempt, strike.kind) for strike in seen] == [
        (strike.subject, strike.attempt, strike.kind) for strike in told[1]
    ]
    assert again.recorded() == first.recorded()
    assert {strike.kind for strike in seen} == {FaultKind.SLOW, FaultKind.RESET, FaultKind.BUSY}


@pytest.mark.parametrize("text", [None, "", "{}", "\udcff"])
def test_a_file_that_holds_no_plan_is_refused(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    if text is not None:
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ConfigurationError, match="fault plan"):
        Chaos.from_file(path, permit=PERMIT)


def test_a_record_with_holes_replays_nothing() -> None:
    trouble = Chaos(plan(FaultKind.BUSY), permit=PERMIT, keep=1, listeners=[])
    with instant():
        for _ in range(2):
            piped(trouble).outcome(Bank().charge, "pay_1")
    with pytest.raises(ConfigurationError, match="1 of 2 strikes are forgotten"):
        trouble.recorded()


def test_what_was_not_asked_for_the_longest_is_forgotten_first_and_said_so() -> None:
    tally = strikes.Tally(2)
    assert [tally.next(thing) for thing in ("a", "b", "a", "c", "a", "b")] == [1, 1, 2, 1, 3, 1]
    assert tally.forgotten == 2
    with pytest.raises(ConfigurationError, match="and 2 subjects"):
        strikes.replayed(strikes.Log(10), tally, seed=0)


@both_loops
def test_a_run_is_the_same_on_every_loop(backend: Backend) -> None:
    dice = FaultPlan([Fault(kind=kind, probability=0.3) for kind in (FaultKind.BUSY, FaultKind.RESET_AFTER)], seed=11)

    async def charges() -> list[str]:
        pipeline, ends = piped(chaos(dice), Retry(attempts=3, backoff=Constant(1))), dict[str, str]()

        async def charge(payment: str) -> None:
            ends[payment] = type(await pipeline.aoutcome(Bank().acharge, payment)).__name__

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(charge, f"pay_{number}")
        return [ends[f"pay_{number}"] for number in range(20)]

    with instant():
        pipeline = piped(chaos(dice), Retry(attempts=3, backoff=Constant(1)))
        expected = [type(pipeline.outcome(Bank().charge, f"pay_{number}")).__name__ for number in range(20)]
    runs: list[list[str]] = [run_virtual(charges, backend=backend, seed=seed) for seed in (1, 2, 3)]
    assert runs == [expected] * 3
    assert {"Ok", "Unknown"} <= set(expected)


@both_loops
def test_a_simulated_service_comes_right_once_its_world_is_healed(backend: Backend) -> None:
    ends: list[str] = []

    async def service(world: World) -> None:
        pipeline = piped(Chaos(world.faults, permit=PERMIT, listeners=[]), Retry(attempts=2, backoff=Constant(1), listeners=[]))
        for step in range(2):
            ends.append(type(await pipeline.aoutcome(Bank().acharge, f"pay_{step}")).__name__)
            world.heal()

    for seed in range(12):
        simulate(service, seed=seed, backend=backend, faults=plan(FaultKind.BUSY))
    assert ends[1::2] == ["Ok"] * 12
    assert set(ends[::2]) == {"Failed", "Ok"}  # each seed leaves out some of the faults


# ---------------------------------------------------------------- saboteurs


def luck_depends_on_the_order(patch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def drawn(*_: object) -> float:
        calls.append(1)
        return len(calls) * 37 % 100 / 100

    patch.setattr(FaultPlan, "_drawn", drawn)


def attempts_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    def always_one(*_: object) -> int:
        return 1

    patch.setattr(strikes.Tally, "next", always_one)


def the_record_forgets_the_subject(patch: pytest.MonkeyPatch) -> None:
    def loosely(fault: Fault, **more: Any) -> Fault:
        return replace(fault, **{**more, "subject": ""})

    patch.setattr(strikes, "replace", loosely)


def with_folder(law: Callable[[Path], None]) -> Callable[[], None]:
    def run() -> None:
        with TemporaryDirectory() as folder:
            law(Path(folder))

    run.__name__ = law.__name__
    return run


@each_kill(
    (luck_depends_on_the_order, test_the_order_of_calls_changes_nothing),
    (luck_depends_on_the_order, test_a_run_is_the_same_on_every_loop, "trio"),
    (attempts_are_not_counted, test_a_retry_meets_the_fault_of_its_own_attempt, "sync called"),
    (attempts_are_not_counted, test_a_subject_is_counted_over_all_of_its_calls),
    (the_record_forgets_the_subject, with_folder(test_what_was_injected_is_replayed_exactly)),
)
def test_the_laws_are_awake(row: tuple[Any, ...]) -> None:
    kills(*row)
