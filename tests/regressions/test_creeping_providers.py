"""A provider got slower by and by, and what is usual went along with it: from a tenth of a second to an hour nobody called it slow."""

from __future__ import annotations

import pytest

from tests.cores.providers import candidate, routing

USUAL = 0.1


@pytest.mark.parametrize("growth", [1.05, 1.1, 1.45])
def test_a_provider_that_gets_slower_by_and_by_is_drained_before_it_takes_three_times_as_long(growth: float) -> None:
    acme = candidate("acme")
    routes, now, took = routing(acme), 0.0, USUAL
    for hundred in range(12 + 24):
        took = USUAL * growth ** max(0, hundred - 11)  # 1,200 calls as they are when all is well, then each hundred is slower
        for _ in range(100):
            ticket = routes.begin(acme, now)
            routes.end(ticket, now + took, failed=False)
            now += took + 0.1
        if acme.health.drained:
            break
    assert acme.health.drained
    assert took < 3.0 * USUAL


def test_all_calls_alike_may_take_half_as_long_again_and_what_was_usual_is_not_forgotten_for_it() -> None:
    acme = candidate("acme")
    routes, now = routing(acme), 0.0
    for took in [USUAL] * 1_200 + [1.4 * USUAL] * 400:
        ticket = routes.begin(acme, now)
        routes.end(ticket, now + took, failed=False)
        now += took + 0.1
    assert not acme.health.drained
    assert acme.baseline.limit < 1.51 * USUAL * 1.015**4
