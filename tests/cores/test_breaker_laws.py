"""What a breaker must never do. Each law is a function of the core, so that a saboteur may be put in its place."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from finresilience.cores.breaker import BreakerCore, CircuitState as S
from tests.cores.circuits import BASE, Make, fresh, half_open
from tests.cores.sabotage import (
    Ageless,
    CancelIsFailure,
    CancelIsNothing,
    CancelIsSuccess,
    Crossed,
    ForgetsLeases,
    ForgivesLateVotes,
    Impatient,
    OneIsolation,
    SlowIsFine,
    Timeless,
    UnlimitedProbes,
)

Law = Callable[[Make], None]


def law_a_result_of_an_older_generation_changes_nothing(make: Make) -> None:
    for failed in (False, True):
        core = half_open(make, size=1)
        core.reset(0.0)
        old = core.admit(0.0)
        core.trip(0.0, BASE)
        probe = core.admit(8.0)
        core.settle(old, 9.0, failed=failed, failure="Old")
        assert (core.state, core.last_failure, core.late) == (S.HALF_OPEN, None, 1)
        core.settle(probe, 9.0, failed=False)
        assert core.state is S.CLOSED


def law_a_probe_of_an_older_round_neither_votes_nor_frees_a_place(make: Make) -> None:
    core = half_open(make, size=2)
    first, second = core.admit(8.0), core.admit(8.0)
    core.settle(first, 8.0, failed=True)
    assert core.admit(23.9) is None
    assert core.admit(24.0) is not None
    assert core.admit(24.0) is not None
    core.release(second)
    core.settle(second, 24.0, failed=True)
    assert core.state is S.HALF_OPEN
    assert core.admit(24.0) is None


def law_probes_never_outnumber_the_round(make: Make) -> None:
    for size in (1, 2, 5):
        core = half_open(make, size=size)
        assert sum(core.admit(8.0) is not None for _ in range(200)) == size


def law_a_hung_probe_cannot_wedge_the_circuit(make: Make) -> None:
    core = half_open(make, size=2)
    assert core.admit(8.0) is not None
    assert core.admit(8.0) is not None
    assert core.admit(11.9) is None
    assert core.retry_after(11.0) == 1.0
    core.admit(12.0)  # both were lost at once: nobody answers
    assert core.state is S.OPEN
    assert core.admit(12.0 + 2 * BASE) is not None


def law_one_lost_probe_hands_its_permit_on(make: Make) -> None:
    core = half_open(make, size=2)
    hung = core.admit(8.0)
    core.settle(core.admit(9.0), 9.0, failed=False)
    heir = core.admit(12.0)
    assert heir is not None
    core.settle(hung, 12.5, failed=True)
    assert (core.state, core.late) == (S.HALF_OPEN, 1)
    core.settle(heir, 12.5, failed=False)
    assert core.state is S.CLOSED


def law_a_vote_after_the_lease_is_late_even_if_nobody_asked_meanwhile(make: Make) -> None:
    core = half_open(make, size=1)
    probe = core.admit(8.0)
    core.settle(probe, 12.0, failed=False)
    assert core.state is S.HALF_OPEN
    assert core.late == 1


def law_a_cancelled_probe_gives_its_permit_back_and_votes_for_nobody(make: Make) -> None:
    core = half_open(make, size=1)
    for _ in range(10):
        probe = core.admit(8.0)
        assert probe is not None
        assert core.admit(8.0) is None
        core.release(probe)
        assert core.state is S.HALF_OPEN
    core.settle(core.admit(8.0), 8.0, failed=True)
    assert core.state is S.OPEN


def law_a_slow_probe_is_a_bad_one(make: Make) -> None:
    core = half_open(make, size=1)
    core.settle(core.admit(8.0), 9.0, failed=False, slow=True)
    assert core.state is S.OPEN


def law_nobody_passes_before_the_interval_is_over(make: Make) -> None:
    core = half_open(make)
    assert core.admit(7.999) is None
    assert core.refused == 1
    assert core.admit(8.0) is not None


def law_each_opening_in_a_row_stays_open_longer_until_it_has_closed(make: Make) -> None:
    core, now, seen = half_open(make, size=1), 8.0, list[float]()
    for _ in range(4):
        core.settle(core.admit(now), now, failed=True)
        seen.append(core.retry_after(now))
        now += seen[-1]
    assert seen == [16.0, 32.0, 32.0, 32.0]
    core.settle(core.admit(now), now, failed=False)
    core.trip(now, None)
    assert core.retry_after(now) == BASE


def law_one_isolation_too_few_keeps_it_shut_and_one_rejoin_too_many_breaks_nothing(make: Make) -> None:
    core = fresh(make)
    core.rejoin(0.0)
    core.isolate()
    core.isolate()
    core.rejoin(0.0)
    assert core.admit(1e9) is None
    core.reset(0.0)
    core.trip(0.0, 1.0)
    core.hold(S.DISABLED, 0.0)
    assert (core.state, core.retry_after(0.0)) == (S.ISOLATED, None)
    core.rejoin(0.0)
    assert core.state is S.CLOSED


LAWS: dict[str, Law] = {name: value for name, value in list(globals().items()) if name.startswith("law_")}
SABOTEURS: list[tuple[Law, Make]] = [
    (law_a_result_of_an_older_generation_changes_nothing, Timeless),
    (law_a_probe_of_an_older_round_neither_votes_nor_frees_a_place, Crossed),
    (law_a_probe_of_an_older_round_neither_votes_nor_frees_a_place, ForgivesLateVotes),
    (law_probes_never_outnumber_the_round, UnlimitedProbes),
    (law_a_hung_probe_cannot_wedge_the_circuit, ForgetsLeases),
    (law_one_lost_probe_hands_its_permit_on, ForgetsLeases),
    (law_a_vote_after_the_lease_is_late_even_if_nobody_asked_meanwhile, ForgivesLateVotes),
    (law_a_cancelled_probe_gives_its_permit_back_and_votes_for_nobody, CancelIsSuccess),
    (law_a_cancelled_probe_gives_its_permit_back_and_votes_for_nobody, CancelIsFailure),
    (law_a_cancelled_probe_gives_its_permit_back_and_votes_for_nobody, CancelIsNothing),
    (law_a_slow_probe_is_a_bad_one, SlowIsFine),
    (law_nobody_passes_before_the_interval_is_over, Impatient),
    (law_each_opening_in_a_row_stays_open_longer_until_it_has_closed, Ageless),
    (law_one_isolation_too_few_keeps_it_shut_and_one_rejoin_too_many_breaks_nothing, OneIsolation),
]


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
def test_the_breaker_keeps(law: Law) -> None:
    law(BreakerCore)


@pytest.mark.parametrize(("law", "saboteur"), SABOTEURS, ids=[f"{law.__name__}-{saboteur.__name__}" for law, saboteur in SABOTEURS])
def test_the_law_catches_the_saboteur(law: Law, saboteur: Make) -> None:
    with pytest.raises(AssertionError):
        law(saboteur)


def test_every_law_of_the_breaker_has_a_saboteur() -> None:
    assert {law for law, _ in SABOTEURS} == set(LAWS.values())
