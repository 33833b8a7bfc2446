"""How does a Hypothesis machine, which is sync, drive a store that may be async? By one event loop for each example."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from finresilience.testing.contracts._runs import by_hand

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from hypothesis.stateful import RuleBasedStateMachine

    from finresilience.testing.contracts._base import Contract

T = TypeVar("T")


class Driver(Protocol):
    """Runs an async function to its end, and returns what it returns."""

    def __call__(self, body: Callable[[], Coroutine[Any, Any, T]], /) -> T: ...


def drive_machine(contract: Contract, machine: Callable[[Any, Driver], RuleBasedStateMachine], *, steps: int = 20) -> None:
    """Run `machine(contract, driver)` as often as the contract wants examples, on each backend of an async store."""
    # Derandomised: a contract says the same today and tomorrow. Without a database: it leaves nothing behind.
    rules = settings(
        max_examples=contract.examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=True,
        report_multiple_bugs=False,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),  # explaining costs seconds, and the model says what was wrong
        suppress_health_check=(HealthCheck.data_too_large, HealthCheck.filter_too_much, HealthCheck.too_slow),
    )
    run: Any = run_state_machine_as_test  # typed as if it took a class only; it takes what makes a machine
    if not contract.is_async():
        run(lambda: machine(contract, _by_hand), settings=rules)
        return
    from anyio.from_thread import start_blocking_portal

    for backend in contract.backends:
        with start_blocking_portal(backend) as portal:
            run(partial(machine, contract, portal.call), settings=rules)


def _by_hand(body: Callable[[], Coroutine[Any, Any, T]], /) -> T:
    return by_hand(body())
