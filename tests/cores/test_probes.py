"""Is the provider back? A round of leased probes that cannot be crowded, wedged or fooled."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, strategies as st

from finresilience.cores.probes import Probe, Round

actions = st.lists(st.tuples(st.sampled_from(["claim", "good", "bad", "cancel", "wait"]), st.integers(0, 9)), max_size=80)


def claimed(turn: Round, now: float) -> Probe:
    """Return the permit of a round that has one free."""
    probe = turn.claim(now)
    assert probe is not None
    return probe


@given(st.integers(1, 5), st.data())
def test_permits_out_and_votes_in_never_exceed_the_size(size: int, data: st.DataObject) -> None:
    bound = data.draw(st.integers(1, size))
    turn, now = Round(size=size, bound=bound, lease=3.0), 0.0
    out: list[Probe] = []
    good = bad = lost = 0
    for action, pick in data.draw(actions):
        if action == "claim":
            probe = turn.claim(now)
            assert (probe is None) == (good + bad + len(out) >= size)
            if probe is not None:
                assert probe.expires == now + 3.0
                out.append(probe)
        elif action == "wait":
            now += pick / 2
            gone = [probe for probe in out if probe.expires <= now]
            assert not any(turn.holds(probe, now) for probe in gone)
            assert turn.expire(now) == len(gone)
            lost += len(gone)
            out = [probe for probe in out if probe not in gone]
        elif out:
            probe = out.pop(pick % len(out))
            assert turn.holds(probe, now)
            if action == "cancel":
                assert turn.give_back(probe) is True
                assert turn.give_back(probe) is False
            else:
                good, bad = good + (action == "good"), bad + (action == "bad")
                decided = turn.vote(probe, bad=action == "bad")
                assert decided == (True if bad >= bound else False if size - good < bound else None)
                if decided is not None:
                    break
        assert turn.lost == lost
        assert turn.silent == (lost >= size)
        full = good + bad + len(out) >= size
        assert turn.next_lease() == (min(probe.expires for probe in out) if full else None)


@pytest.mark.parametrize(("size", "bound"), [(size, bound) for size in range(1, 6) for bound in range(1, size + 1)])
def test_every_order_of_votes_decides_as_early_as_it_is_certain_and_never_later_than_the_last(size: int, bound: int) -> None:
    for votes in product([False, True], repeat=size):
        turn = Round(size=size, bound=bound, lease=1.0)
        probes = [claimed(turn, 0.0) for _ in range(size)]
        for cast, (probe, bad) in enumerate(zip(probes, votes, strict=True), start=1):
            decided = turn.vote(probe, bad=bad)
            ends = {sum(votes[:cast]) + sum(rest) >= bound for rest in product([False, True], repeat=size - cast)}
            assert decided == (ends.pop() if len(ends) == 1 else None)
            if decided is not None:
                assert decided == (sum(votes) >= bound)
                break
        else:
            pytest.fail("undecided after the last vote")


def test_a_lost_probe_hands_its_permit_on_and_its_own_vote_is_void() -> None:
    turn = Round(size=1, bound=1, lease=2.0)
    hung = claimed(turn, 0.0)
    assert turn.claim(1.9) is None
    assert turn.expire(2.0) == 1
    heir = claimed(turn, 2.0)
    assert not turn.holds(hung, 2.0)
    assert not turn.give_back(hung)
    assert turn.holds(heir, 2.0)


def test_a_permit_given_back_serves_the_next_caller_and_cannot_be_given_back_twice() -> None:
    turn = Round(size=1, bound=1, lease=2.0)
    probe = claimed(turn, 0.0)
    assert turn.give_back(probe) is True
    assert turn.give_back(probe) is False
    assert not turn.holds(probe, 0.0)
    assert turn.holds(claimed(turn, 0.0), 0.0)
    assert turn.claim(0.0) is None


def test_a_lease_ends_even_if_nobody_looks() -> None:
    turn = Round(size=1, bound=1, lease=2.0)
    probe = claimed(turn, 0.0)
    assert turn.holds(probe, 1.99)
    assert not turn.holds(probe, 2.0)


def test_a_round_that_has_decided_has_no_lease_to_wait_for() -> None:
    turn = Round(size=1, bound=1, lease=2.0)
    turn.vote(claimed(turn, 0.0), bad=True)
    assert turn.next_lease() is None


def test_a_probe_of_another_round_is_worth_nothing() -> None:
    one, two = Round(size=1, bound=1, lease=9.0), Round(size=1, bound=1, lease=9.0)
    stranger = claimed(one, 0.0)
    assert not two.holds(stranger, 0.0)
    assert not two.give_back(stranger)
