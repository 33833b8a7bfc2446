"""Which call meets which fault? A pure function of the plan and the call, and nothing of the order of calls."""

from __future__ import annotations

from datetime import timedelta
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given, strategies as st

from finresilience.errors import ConfigurationError
from finresilience.testing.faults import AMBIGUOUS, CALLS, EVERY, LAGS, MOVES, WEBHOOKS, Asked, Fault, FaultKind, FaultPlan

HANG = Fault(kind=FaultKind.HANG)
HALF = FaultPlan([Fault(kind=FaultKind.HANG, probability=0.5)], seed=3)

calls = st.builds(
    Asked,
    st.sampled_from(["charge", "inquiry"]),
    st.text(max_size=5),
    st.integers(1, 5),
    st.floats(0, 100),
    st.sampled_from(["", "vip"]),
    st.sampled_from(["", "acme"]),
)
faults = st.builds(
    Fault,
    kind=st.sampled_from(FaultKind),
    probability=st.floats(0, 1),
    nth=st.lists(st.integers(1, 5), max_size=2).map(tuple),
    since=st.floats(0, 50),
    until=st.none() | st.floats(51, 100),
    tag=st.sampled_from(["", "vip"]),
    operation=st.sampled_from(["", "charge"]),
    provider=st.sampled_from(["", "acme"]),
    subject=st.sampled_from(["", "a"]),
    code=st.text(max_size=5),
    seconds=st.floats(0, 1e6),
    retry_after=st.floats(0, 1e6),
)
plans = st.builds(FaultPlan, st.lists(faults, max_size=4), seed=st.integers())


def met(plan: FaultPlan, *, tag: str = "", attempt: int = 1, now: float = 0.0, operation: str = "charge") -> FaultKind | None:
    fault = plan.meets(Asked(operation, "pay_1", attempt, now, tag))
    return fault and fault.kind


@given(plans, st.lists(calls, max_size=10), st.randoms(use_true_random=False))
def test_a_call_meets_the_same_fault_whenever_it_comes(plan: FaultPlan, asked: list[Asked], chance: Any) -> None:
    before = {call: plan.meets(call) for call in asked}
    chance.shuffle(asked)
    assert {call: plan.meets(call) for call in asked} == before


@given(plans, calls)
def test_a_plan_read_from_json_is_the_same_plan(plan: FaultPlan, call: Asked) -> None:
    again = FaultPlan.from_json(plan.to_json())
    assert (again, hash(again), again.meets(call)) == (plan, hash(plan), plan.meets(call))


@given(plans, calls)
def test_asking_for_each_group_apart_finds_what_asking_for_all_finds(plan: FaultPlan, call: Asked) -> None:
    every = [fault for group in (CALLS, LAGS, WEBHOOKS) if (fault := plan.meets(call, group))]
    first = plan.meets(call)
    assert (first is None) == (not every)
    assert first is None or first in every


def test_each_kind_is_of_the_call_or_of_the_inquiry_or_of_the_webhook() -> None:
    assert len(CALLS) + len(LAGS) + len(WEBHOOKS) == len(EVERY) == len(FaultKind)
    assert CALLS >= AMBIGUOUS
    assert CALLS | LAGS >= MOVES


def test_the_first_fault_that_strikes_counts() -> None:
    plan = FaultPlan([Fault(kind=FaultKind.RESET, nth=(2,)), HANG])
    assert [met(plan, attempt=attempt) for attempt in (1, 2, 3)] == [FaultKind.HANG, FaultKind.RESET, FaultKind.HANG]


def test_every_condition_must_hold() -> None:
    plan = FaultPlan([Fault(kind=FaultKind.HANG, tag="vip", operation="charge", since=5.0, until=6.0)])
    assert met(plan, tag="vip", now=5.0) is FaultKind.HANG
    assert {met(plan, tag="", now=5.0), met(plan, tag="vip", now=5.0, operation="refund")} == {None}
    assert {met(plan, tag="vip", now=now) for now in (4.9, 6.0)} == {None}


def test_a_share_of_the_calls_is_struck() -> None:
    struck = sum(HALF.meets(Asked("charge", f"pay_{number}", 1)) is not None for number in range(10_000))
    assert 4_800 < struck < 5_200


@pytest.mark.parametrize(("share", "struck"), [(0.0, 0), (1.0, 1000)])
def test_never_and_always_mean_it(share: float, struck: int) -> None:
    plan = FaultPlan([Fault(kind=FaultKind.HANG, probability=share)], seed=3)
    assert sum(plan.meets(Asked("charge", f"pay_{number}", 1)) is not None for number in range(1000)) == struck


def test_another_seed_is_another_luck() -> None:
    other = FaultPlan(HALF.faults, seed=4)
    asked = [Asked("charge", f"pay_{number}", 1) for number in range(100)]
    assert [HALF.meets(call) for call in asked] != [other.meets(call) for call in asked]


def test_the_luck_of_a_fault_does_not_hang_on_the_others() -> None:
    asked = [Asked("charge", f"pay_{number}", 1) for number in range(100)]
    crowd = FaultPlan([Fault(kind=FaultKind.WEBHOOK_LATE, probability=0.5), *HALF.faults], seed=3)
    assert [crowd.meets(call, CALLS) for call in asked] == [HALF.meets(call) for call in asked]


def test_two_providers_have_each_their_own_luck_with_the_same_payment() -> None:
    here, there = ([HALF.meets(Asked("charge", f"pay_{n}", 1, provider=name)) is None for n in range(1000)] for name in ("acme", "globex"))
    assert 400 < sum(one != other for one, other in zip(here, there, strict=True)) < 600


def test_a_fault_may_be_of_one_provider_alone() -> None:
    plan = FaultPlan([Fault(kind=FaultKind.HANG, provider="acme")])
    assert [plan.meets(Asked("charge", "pay_1", 1, provider=name)) for name in ("globex", "")] == [None, None]
    assert plan.meets(Asked("charge", "pay_1", 1, provider="acme")) == plan.faults[0]


def test_a_fault_without_an_operation_strikes_whoever_asks_and_one_with_it_lets_inquiries_pass() -> None:
    struck = {operation: met(FaultPlan([HANG]), operation=operation) for operation in ("charge", "refund", "inquiry")}
    assert struck == {"charge": FaultKind.HANG, "refund": FaultKind.HANG, "inquiry": FaultKind.HANG}
    plan = FaultPlan([Fault(kind=FaultKind.HANG, operation="charge")])
    assert [met(plan, operation=operation) for operation in ("charge", "inquiry")] == [FaultKind.HANG, None]


def test_a_fault_may_be_of_one_payment_alone() -> None:
    plan = FaultPlan([Fault(kind=FaultKind.HANG, subject="pay_2")])
    assert [plan.meets(Asked("charge", subject, 1)) for subject in ("pay_1", "pay_2")] == [None, plan.faults[0]]


def test_two_faults_that_are_the_same_have_two_lots() -> None:
    twice = FaultPlan([*HALF.faults, *HALF.faults], seed=3)
    struck = sum(twice.meets(Asked("charge", f"pay_{number}", 1)) is not None for number in range(1000))
    assert 700 < struck < 800


def test_a_plan_that_is_healed_strikes_no_more() -> None:
    plan = FaultPlan([HANG])
    assert met(plan) is FaultKind.HANG
    plan.heal()
    assert met(plan) is None


def test_a_swarm_leaves_faults_out_and_a_healed_plan_all_of_them() -> None:
    plan = FaultPlan([Fault(kind=kind) for kind in FaultKind], seed=1)
    sizes = {len(plan.swarm(seed).faults) for seed in range(50)}
    assert min(sizes) < len(FaultKind) / 2 < max(sizes)
    assert plan.swarm(7) == plan.swarm(7)
    assert plan.healed() == FaultPlan(seed=1)


def test_spans_of_time_are_taken_as_seconds() -> None:
    told: dict[str, Any] = {"seconds": timedelta(minutes=1), "until": timedelta(hours=1)}
    fault = Fault(kind=FaultKind.SLOW, **told)
    assert (fault.seconds, fault.until) == (60.0, 3600.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("probability", value) for value in (-0.1, 1.1, nan, True, "half")],
        *[("nth", value) for value in ((0,), (True,), [1], 1, (1.5,))],
        *[("since", value) for value in (-1.0, nan, inf, True)],
        *[("until", value) for value in (0.0, nan, inf, -1.0)],
        *[("seconds", value) for value in (-1.0, nan, inf)],
        *[("retry_after", value) for value in (-1.0, nan, inf)],
        *[(name, None) for name in ("kind", "tag", "operation", "provider", "subject", "code")],
    ],
)
def test_what_cannot_work_is_refused_by_name(name: str, value: object) -> None:
    told: dict[str, Any] = {"kind": FaultKind.HANG, name: value}
    with pytest.raises(ConfigurationError, match=f"^{name}="):
        Fault(**told)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"finresilience_fault_plan": 2}', '{"finresilience_fault_plan": 1, "seed": 0}'])
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        FaultPlan.from_json(text)


def test_a_plan_of_something_else_is_refused() -> None:
    told: list[Any] = [FaultKind.HANG]
    with pytest.raises(ConfigurationError, match="faults="):
        FaultPlan(told)
    with pytest.raises(ConfigurationError, match="seed="):
        FaultPlan(seed=True)


def test_a_plan_shows_what_it_holds_and_no_defaults() -> None:
    plan = FaultPlan([Fault(kind=FaultKind.HANG, nth=(1,))], seed=7)
    assert repr(plan) == "FaultPlan([Fault(kind=FaultKind.HANG, nth=(1,))], seed=7)"
    assert eval(repr(plan)) == plan
