"""A process that forks at the worst moment: its child gets policies that work, at once, and luck of its own."""

from __future__ import annotations

import json
import os
import signal
import warnings
from contextlib import contextmanager
from threading import Event as Signal, Thread
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from finresilience import (
    CircuitBreaker,
    Constant,
    Effect,
    FullJitter,
    Pipeline,
    RatioBudget,
    Registry,
    Retry,
    Timeout,
    TokenBudget,
)
from finresilience.cores.breaker import BreakerCore
from finresilience.policies import base, retry as retries
from tests.laws.sabotage import each_kill, kills, nothing
from tests.laws.worlds import RULES, Down, Provider

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
BOUND = 10.0  # real seconds that a thread waits at most; it waits for milliseconds
CHILD = 10.0  # real seconds that a child may take


def in_child(work: Callable[[], Any]) -> Any:
    """Fork, do `work` in the child, and return what it returned; a child that hangs is ended by its own alarm."""
    readable, writable = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python says that forking with threads is dangerous; that is the test
        child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, CHILD)
        code = 1
        try:
            os.write(writable, json.dumps(work()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "the child hung or failed"
    return json.loads(told)


@contextmanager
def held(lock: Any) -> Generator[None]:
    """Let another thread hold `lock` as long as the block lasts."""
    taken, over = Signal(), Signal()

    def hold() -> None:
        with lock:
            taken.set()
            over.wait(BOUND)

    thread = Thread(target=hold)
    thread.start()
    taken.wait(BOUND)
    try:
        yield
    finally:
        over.set()
        thread.join(BOUND)


def breaker(**more: Any) -> CircuitBreaker:
    return CircuitBreaker("acme", consecutive_failures=2, classify=RULES, listeners=[], **more)


def opens(policy: CircuitBreaker) -> str:
    """Use every part of a circuit: calls, counts, a decision, a person."""
    for _ in range(2):
        policy.outcome(Provider(Down()).charge)
    state = policy.state.value
    policy.statistics()
    policy.reset()
    return f"{state}, {policy.call(Provider('ok').charge)}"


def test_a_child_forked_while_a_thread_holds_the_lock_has_a_circuit_that_works() -> None:
    policy = breaker()
    with held(policy._lock):
        assert in_child(lambda: opens(policy)) == "open, ok"
    assert opens(policy) == "open, ok"  # and so has the parent


def test_many_circuits_whose_locks_are_held_do_not_make_a_fork_slow() -> None:
    many = [breaker() for _ in range(100)]
    taken, over = Signal(), Signal()

    def hold() -> None:
        for policy in many:
            policy._lock.acquire()
        taken.set()
        over.wait(BOUND)
        for policy in many:
            policy._lock.release()

    thread = Thread(target=hold)
    thread.start()
    taken.wait(BOUND)
    try:
        assert in_child(lambda: [opens(policy) for policy in many]) == ["open, ok"] * 100
    finally:
        over.set()
        thread.join(BOUND)
    assert opens(many[0]) == "open, ok"


def test_a_child_forked_while_a_decision_is_under_way_sees_it_taken_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, deciding, go_on = breaker(), Signal(), Signal()
    settle = BreakerCore.settle

    def slow(self: BreakerCore, *args: Any, **told: Any) -> None:
        deciding.set()
        go_on.wait(0.05)  # so long a decision is under way when the fork begins; it waits for it
        settle(self, *args, **told)

    monkeypatch.setattr(BreakerCore, "settle", slow)
    thread = Thread(target=policy.outcome, args=(Provider(Down()).charge,))
    thread.start()
    deciding.wait(BOUND)
    in_the_child = in_child(lambda: policy.statistics()["failed"])
    go_on.set()
    thread.join(BOUND)
    assert in_the_child in {0, 1}
    assert policy.statistics()["failed"] == 1


@pytest.mark.parametrize("kind", [TokenBudget, RatioBudget])
def test_a_child_forked_while_a_budget_is_asked_may_retry(kind: Callable[[], Any]) -> None:
    policy = Retry(attempts=2, backoff=Constant(0), budget=kind(), effect=Effect.READ, classify=RULES, listeners=[])
    with held(retries._budgets):
        assert in_child(lambda: policy.call(Provider(Down(), "ok").charge)) == "ok"


def test_a_child_forked_while_the_only_thread_is_busy_has_it_free() -> None:
    begun, over = Signal(), Signal()
    policy = Timeout(BOUND, thread_limit=1, listeners=[])

    def busy() -> None:
        begun.set()
        over.wait(BOUND)

    thread = Thread(target=policy.call, args=(busy,))
    thread.start()
    begun.wait(BOUND)
    try:
        assert in_child(lambda: policy.call(lambda: "ok")) == "ok"
    finally:
        over.set()
        thread.join(BOUND)


def test_a_child_has_luck_of_its_own() -> None:
    base.chance()  # the parent's generator is made, so that a child could inherit it
    children = [in_child(lambda: [base.chance() for _ in range(4)]) for _ in range(3)]
    drawn = [tuple(each) for each in (*children, [base.chance() for _ in range(4)])]
    assert len(set(drawn)) == 4


def test_retries_of_two_children_do_not_wait_in_step() -> None:
    heard: list[Any] = []
    backoff = FullJitter(0.001, cap=0.001)
    policy = Retry(attempts=4, backoff=backoff, effect=Effect.READ, classify=RULES, listeners=[heard.append])
    policy.call(Provider(Down(), "ok").charge)

    def waits() -> list[float]:
        policy.call(Provider(Down(), Down(), "ok").charge)
        return [event.delay for event in heard]

    assert in_child(waits) != in_child(waits)


def named(provider: str) -> str:
    return provider


def test_a_registry_and_a_family_work_in_a_child() -> None:
    registry = Registry(listeners=[], consecutive_failures=2)
    family = breaker().per(named, at_most=2)
    with held(registry._lock), held(family._lock):
        told = in_child(lambda: [registry["acme"].name, family.call(named, "globex")])
    assert told == ["acme", "globex"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_child_may_run_a_loop_of_its_own(backend: str) -> None:
    policy = Pipeline("acme", breaker(), Timeout(1.0), classify=RULES, effect=Effect.READ, listeners=[])

    async def charge() -> str:
        await anyio.lowlevel.checkpoint()
        return "ok"

    guarded = policy(charge)
    assert anyio.run(guarded, backend=backend) == "ok"
    assert in_child(lambda: anyio.run(guarded, backend=backend)) == "ok"


def test_a_child_of_a_child_works() -> None:
    policy = breaker()
    with held(policy._lock):
        assert in_child(lambda: in_child(lambda: opens(policy))) == "open, ok"


def test_a_parent_can_fork_again_and_again() -> None:
    policy = breaker()
    for _ in range(5):
        assert in_child(lambda: opens(policy)) == "open, ok"
    assert opens(policy) == "open, ok"


# --- what the library does in a forked child, left out, one thing at a time --------------------------------------------


def hurried(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(globals(), "CHILD", 0.5)  # these children hang: do not wait long for them


def locks_stay_as_they_were(patch: pytest.MonkeyPatch) -> None:
    hurried(patch)
    patch.setattr(base, "_living", list)


def budgets_stay_as_they_were(patch: pytest.MonkeyPatch) -> None:
    hurried(patch)
    patch.setattr(Retry, "forked", nothing)


def threads_stay_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Timeout, "forked", nothing)


def luck_is_inherited(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(type(base.chance), "renew", nothing)


@each_kill(
    (locks_stay_as_they_were, test_a_child_forked_while_a_thread_holds_the_lock_has_a_circuit_that_works),
    (locks_stay_as_they_were, test_a_registry_and_a_family_work_in_a_child),
    (budgets_stay_as_they_were, test_a_child_forked_while_a_budget_is_asked_may_retry, TokenBudget),
    (threads_stay_counted, test_a_child_forked_while_the_only_thread_is_busy_has_it_free),
    (luck_is_inherited, test_a_child_has_luck_of_its_own),
    (luck_is_inherited, test_retries_of_two_children_do_not_wait_in_step),
)
def test_its_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
