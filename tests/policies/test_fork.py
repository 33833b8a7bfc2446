"""A fork finds every decision whole: locks are held across it, renewed in the child, and given back in the parent."""

from __future__ import annotations

import os
from importlib.util import module_from_spec
from typing import TYPE_CHECKING

import pytest

from finresilience import CircuitBreaker, Ok, Retry, Timeout, TokenBudget
from finresilience.policies import base
from tests.laws.worlds import still

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(base, "_FORK_WAIT", 0.0)  # a lock that is taken stays taken here
    yield
    base._after_in_parent()


def breaker() -> CircuitBreaker:
    return CircuitBreaker("acme", clock=still(), listeners=[])


def works(policy: CircuitBreaker) -> bool:
    policy.trip()  # needs the lock
    policy.reset()
    return isinstance(policy.outcome(lambda: "ok"), Ok)


def test_no_decision_is_under_way_while_the_process_forks() -> None:
    policy = breaker()
    base._before_fork()
    assert policy._lock.locked()
    base._after_in_parent()
    assert not policy._lock.locked()
    assert works(policy)


def test_the_child_has_locks_of_its_own() -> None:
    policy = breaker()
    base._before_fork()
    held = policy._lock
    base._after_in_child()
    assert policy._lock is not held
    assert works(policy)


def test_a_thread_that_does_not_let_go_delays_no_fork_and_harms_no_child() -> None:
    stuck, other = breaker(), breaker()
    lock = stuck._lock
    with lock:
        base._before_fork()
        assert other._lock.locked()
        base._after_in_parent()
        assert lock.locked()  # it is the thread's, not ours to release
        base._before_fork()
        base._after_in_child()
        assert works(stuck)
        assert works(other)


def test_two_forks_at_once_are_two_forks() -> None:
    policy = breaker()
    base._before_fork()
    base._before_fork()  # another thread's: it waited, and goes on
    base._after_in_parent()
    base._after_in_parent()
    assert works(policy)


def test_the_child_has_a_chance_of_its_own() -> None:
    before = base.chance()
    assert 0.0 <= before < 1.0
    generator = base.chance._random
    base._after_in_child()
    assert base.chance._random is not generator
    assert 0.0 <= base.chance() < 1.0
    assert base.chance._random is not generator


def test_policies_with_more_than_a_lock_begin_anew_too() -> None:
    timeout = Timeout(2.0, thread_limit=1, clock=still(), listeners=[])
    retry = Retry(attempts=2, budget=TokenBudget(), clock=still(), listeners=[])
    assert timeout.threads is not None
    timeout.threads._busy = 1
    base._before_fork()
    base._after_in_child()
    assert isinstance(timeout.outcome(lambda: "ok"), Ok)
    assert isinstance(retry.outcome(lambda: "ok"), Ok)


def test_a_machine_that_cannot_fork_needs_no_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "register_at_fork")
    assert base.__spec__ is not None
    assert base.__spec__.loader is not None
    again = module_from_spec(base.__spec__)
    base.__spec__.loader.exec_module(again)
    assert again.Policy("acme", clock=still()).name == "acme"
