"""The decisions by themselves: every claim, every end, and every moment of a lease."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from finresilience import (
    AttemptOverError,
    ConfigurationError,
    Declined,
    Failed,
    Found,
    MissingKeyError,
    NotFound,
    Ok,
    Refused,
    StillUnknown,
    Unknown,
    UnknownOutcomeError,
)
from finresilience.durable.idempotent_core import Act, Begin, IdempotentCore, Lease, check_sync, terms_of
from finresilience.durable.records import Claimed, ClaimToken

if TYPE_CHECKING:
    from finresilience import Outcome

UNKNOWN = UnknownOutcomeError("pay", attempts=1, happened="", held_back="")


def core(**more: Any) -> IdempotentCore:
    told: dict[str, Any] = {"lease": 60.0, "keep": 600.0, "deadline": None, "wait": 0.0, "rerun_within": None, "asks": False, **more}
    return IdempotentCore(terms_of(**told))


def claimed(takeovers: int = 0, point: str | None = None) -> Claimed:
    return Claimed(token=ClaimToken("pay", "k", 1), lease=60.0, takeovers=takeovers, recovery_point=point)


@pytest.mark.parametrize(("takeovers", "point", "asks", "within"), [*product([0, 1, 7], [None, "sent"], [False, True], [None, 600.0])])
def test_only_a_first_claimant_runs_unasked(takeovers: int, point: str | None, asks: bool, within: float | None) -> None:
    told = core(asks=asks, rerun_within=within).begin(claimed(takeovers, point))
    assert (told is Begin.RUN) == (takeovers == 0 and point is None)
    if told is not Begin.RUN:
        assert told is (Begin.ASK if asks else Begin.LOOK if within else Begin.DOUBT)


@pytest.mark.parametrize(
    ("answer", "then"),
    [
        (Found(1), Begin.FOUND),
        (NotFound(), Begin.RUN),
        (StillUnknown(), Begin.DOUBT),
        (None, Begin.LET_GO),
        (OSError(), Begin.LET_GO),
        (NotFound, Begin.LET_GO),
        (False, Begin.LET_GO),
    ],
    ids=repr,
)
def test_only_a_clear_no_lets_an_heir_run(answer: object, then: Begin) -> None:
    assert core().asked(answer) is then


@pytest.mark.parametrize(("age", "then"), [(None, Begin.DOUBT), (100.0, Begin.RUN), (600.0, Begin.RUN), (600.1, Begin.DOUBT)])
def test_a_rerun_has_its_time(age: float | None, then: Begin) -> None:
    assert core(rerun_within=600.0).looked(age) is then
    assert core().looked(age) is Begin.DOUBT


ENDS: list[tuple[Outcome[Any], Act]] = [
    (Ok(1), Act.COMPLETE),
    (Ok(None), Act.COMPLETE),
    (Ok(Unknown(UNKNOWN)), Act.DOUBT),
    (Ok(Refused(AttemptOverError)), Act.RELEASE),
    (Ok(Failed(OSError())), Act.RELEASE),
    (Declined(OSError()), Act.FAIL),
    (Declined(None, value=402), Act.FAIL),
    (Declined(MissingKeyError()), Act.RELEASE),
    (Failed(OSError()), Act.RELEASE),
    (Refused(AttemptOverError), Act.RELEASE),
    (Unknown(UNKNOWN), Act.DOUBT),
]


@pytest.mark.parametrize(("outcome", "act"), ENDS, ids=repr)
def test_each_end_ends_the_key_in_one_way(outcome: Outcome[Any], act: Act) -> None:
    assert core().ended(outcome, provisional=False) is act


@pytest.mark.parametrize("outcome", [outcome for outcome, _ in ENDS], ids=repr)
def test_what_stands_in_is_never_kept(outcome: Outcome[Any]) -> None:
    assert core().ended(outcome, provisional=True) is not Act.COMPLETE


@given(
    lease=st.floats(0.1, 1e6),
    steps=st.lists(st.tuples(st.floats(0, 1e6), st.booleans()), max_size=20),
)
def test_a_renewal_is_asked_for_before_the_lease_runs_out_or_never(lease: float, steps: list[tuple[float, bool]]) -> None:
    now, until, subject = 0.0, lease, Lease(lease, 0.0)
    for late, heard in steps:
        wait = subject.next(now)
        assert (wait is None) == (now >= until)
        if wait is None:
            return
        assert 0 < wait <= min(lease / 3, until - now) + 1e-9
        asked = now + wait
        now = asked + late
        if heard:
            subject.renewed(asked)
            until = asked + lease
        else:
            subject.failed()


@given(waited=st.floats(0, 100), looks=st.integers(0, 10**6), retry_after=st.floats(0, 100), left=st.none() | st.floats(0, 100))
def test_nobody_waits_longer_than_he_was_told_to(waited: float, looks: int, retry_after: float, left: float | None) -> None:
    wait = core(wait=30.0).wait(retry_after, waited=waited, looks=looks, left=left)
    most = min(30.0 - waited, left if left is not None else 30.0)
    assert (wait is None) == (most <= 0)
    assert wait is None or 0 < wait <= most


def test_a_plain_function_is_told_what_it_lacks() -> None:
    with pytest.raises(ConfigurationError, match="not none"):
        check_sync("pay", core().terms)
    with pytest.raises(ConfigurationError, match="not deadline=60"):
        check_sync("pay", core(deadline=60.0).terms)
