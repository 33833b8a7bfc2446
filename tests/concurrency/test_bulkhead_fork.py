"""A process that forks while its bulkhead is full: the child's is empty, and the parent's as it was."""

from __future__ import annotations

import os
from threading import Event as Signal, Thread
from typing import TYPE_CHECKING

import pytest

from finresilience.policies.bulkhead import Bulkhead
from tests.integration.test_fork import BOUND, in_child

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")


@pytest.fixture
def full() -> Iterator[Bulkhead]:
    """A bulkhead of two places: one is a thread's, one is ours, and another thread waits."""
    policy, inside, over = Bulkhead(2, queue=1, max_wait=BOUND, listeners=[]), Signal(), Signal()

    def works() -> None:
        with policy.guard():
            inside.set()
            over.wait(BOUND)

    threads = [Thread(target=works) for _ in range(2)]
    with policy.guard():
        threads[0].start()
        inside.wait(BOUND)
        threads[1].start()
        while not policy.statistics()["waiting"]:
            pass
        yield policy
        over.set()
    for thread in threads:
        thread.join(BOUND)
    assert policy.core.idle


def test_in_the_child_every_place_is_free_and_the_parents_are_not(full: Bulkhead) -> None:
    def in_the_child() -> list[object]:
        holds = [full.take(), full.take()]
        told = full.statistics()
        return [hold is not None for hold in holds] + [full.take() is None, told["at_work"], told["waiting"]]

    assert in_child(in_the_child) == [True, True, True, 2, 0]
    told = full.statistics()
    assert (told["at_work"], told["waiting"]) == (2, 1)


def test_a_place_from_before_the_fork_given_back_in_the_child_changes_nothing(full: Bulkhead) -> None:
    before = list(full.core.inside)

    def in_the_child() -> list[object]:
        for hold in (full.take(), full.take()):
            assert hold is not None
        for hold in before:
            full.leave(hold)
        return [full.take() is None]

    assert in_child(in_the_child) == [True]
