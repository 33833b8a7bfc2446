"""How many retries may all calls together make?"""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, strategies as st

from finresilience.cores.budget import Budget, RatioBudget, TokenBudget

flow = st.lists(st.booleans(), max_size=200)
timed = st.lists(st.tuples(st.integers(0, 24), st.booleans()), max_size=120)


@given(st.integers(1, 30), st.integers(1, 8), flow)
def test_tokens_are_counted_as_grpc_counts_them(tokens: int, eighths: int, steps: list[bool]) -> None:
    budget, left = TokenBudget(tokens, ratio=eighths / 8), Fraction(tokens)
    for success in steps:
        if success:
            budget.deposit(0.0)
            left = min(left + Fraction(eighths, 8), Fraction(tokens))
        else:
            left = max(left - 1, Fraction(0))
            assert budget.withdraw(0.0) == (left > Fraction(tokens, 2))


def test_a_provider_that_fails_for_everybody_soon_gets_no_retries() -> None:
    budget = TokenBudget(10)
    assert [budget.withdraw(0.0) for _ in range(8)] == [True] * 4 + [False] * 4


def test_a_provider_that_fails_now_and_then_gets_every_retry() -> None:
    budget = TokenBudget(10, ratio=0.125)
    for _ in range(100):
        for _ in range(8):
            budget.deposit(0.0)
        assert budget.withdraw(0.0)


@given(timed, st.integers(1, 8), st.integers(0, 4), st.sampled_from([100.0, 0.0, -4.0, -1e6]))
def test_retries_never_exceed_the_share_of_the_window_and_the_floor(
    steps: list[tuple[int, bool]], eighths: int, floor: int, start: float
) -> None:
    share, window = eighths / 8, 5.0
    budget, now = RatioBudget(share, at_least=floor / 4, window=window), start
    calls: list[float] = []
    retries: list[float] = []
    for ticks, is_call in steps:
        now += ticks / 8
        slots = [[at for at in kept if now // 0.5 - at // 0.5 < 10] for kept in (calls, retries)]
        if is_call:
            budget.deposit(now)
            calls.append(now)
        else:
            allowed = len(slots[1]) + 1 <= Fraction(share) * len(slots[0]) + Fraction(floor, 4) * 5
            assert budget.withdraw(now) == allowed
            if allowed:
                retries.append(now)


def test_a_quiet_service_may_retry_a_little_and_gets_that_back_after_the_window() -> None:
    budget = RatioBudget(0.5, at_least=0.2, window=10)
    assert [budget.withdraw(50.0) for _ in range(3)] == [True, True, False]
    assert not budget.withdraw(58.9)
    assert [budget.withdraw(60.0) for _ in range(3)] == [True, True, False]


def test_a_refused_retry_costs_nothing() -> None:
    budget = RatioBudget(0.5, at_least=0)
    for _ in range(9):
        assert not budget.withdraw(0.0)
    for _ in range(2):
        budget.deposit(0.0)
    assert budget.withdraw(0.0)
    assert not budget.withdraw(0.0)


def test_a_time_told_out_of_order_brings_no_budget_back() -> None:
    budget = RatioBudget(1.0, at_least=0, window=10)
    budget.deposit(100.0)
    assert budget.withdraw(100.0)
    assert not budget.withdraw(50.0)
    assert not budget.withdraw(100.0)


@pytest.mark.parametrize("zero", [0.0, 60.0, -1e9])
def test_the_clock_may_count_from_anywhere(zero: float) -> None:
    budget = RatioBudget(1.0, at_least=0, window=10)
    budget.deposit(zero - 0.5)
    assert not budget.withdraw(zero + 9.0)


@pytest.mark.parametrize("silence", [10.0, 11.0, 19.0, 1e3, 1e9])
def test_after_a_silence_as_long_as_the_window_nothing_of_the_past_counts(silence: float) -> None:
    budget = RatioBudget(1.0, at_least=0, window=10)
    for second in range(10):
        budget.deposit(float(second))
    assert not budget.withdraw(9.0 + silence)


def test_by_default_a_provider_that_is_down_gets_four_retries() -> None:
    budget = TokenBudget()
    assert [budget.withdraw(0.0) for _ in range(20)] == [True] * 4 + [False] * 16


@pytest.mark.parametrize(("successes", "pays"), [(59, False), (62, True)])
def test_by_default_a_success_brings_a_tenth_of_a_token_back(successes: int, pays: bool) -> None:
    budget = TokenBudget()
    for _ in range(20):
        budget.withdraw(0.0)
    for _ in range(successes):
        budget.deposit(0.0)
    assert budget.withdraw(0.0) == pays  # more than half of the ten, and the one it costs


def test_by_default_a_quiet_service_gets_a_retry_a_second_over_ten_seconds() -> None:
    budget = RatioBudget()
    assert [budget.withdraw(0.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert not budget.withdraw(9.9)
    assert budget.withdraw(10.0)


def test_by_default_a_fifth_of_the_calls_may_be_retried() -> None:
    budget = RatioBudget(at_least=0)
    for _ in range(50):
        budget.deposit(0.0)
    assert sum(budget.withdraw(0.0) for _ in range(50)) == 10


def spent(budget: Budget) -> int:
    for _ in range(100):
        budget.deposit(0.0)
    return sum(budget.withdraw(0.0) for _ in range(100))


class Generous:
    """Saboteur: a budget that never says no."""

    on_success = False

    def deposit(self, now: float, /) -> None: ...

    def withdraw(self, now: float, /) -> bool:
        return True


@pytest.mark.parametrize("budget", [TokenBudget(), RatioBudget(0.1, at_least=0)], ids=lambda kind: type(kind).__name__)
def test_an_outage_gets_a_tenth_of_the_calls_at_most(budget: Budget) -> None:
    assert spent(budget) <= 10 < spent(Generous())
