"""What went wrong at a rate limit: calls that passed were counted as lost."""

from __future__ import annotations

import pytest

from finresilience import RateLimiter, SlidingWindow, TokenBucket
from finresilience.testing import ManualClock


@pytest.mark.parametrize("rule", [SlidingWindow(3, per=1), TokenBucket(1, per=10, burst=3)], ids=repr)
def test_a_call_that_passes_at_once_is_not_counted_among_those_that_lost_their_place(rule: SlidingWindow | TokenBucket) -> None:
    """A place that had been open for longer than its lease was taken back in the moment in which it was given."""
    policy = RateLimiter(rule, clock=ManualClock(), listeners=[])
    assert [policy.enter() for _ in range(3)] == [True] * 3
    statistics = policy.statistics()
    assert (statistics["passed"], statistics["lapsed"]) == (3, 0)
