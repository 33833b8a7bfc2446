"""A small service to simulate: some payments at a provider that fails as the plan says, and a flow that may be naive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from finresilience.money import Money
from finresilience.testing import CounterexampleError, explore
from finresilience.testing.faults import Asked, Fault, FaultKind, FaultPlan
from finresilience.testing.simulation import simulate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finresilience.testing.world import World

TROUBLE = FaultPlan(
    [
        Fault(kind=FaultKind.SLOW, probability=0.2, seconds=3.0),
        Fault(kind=FaultKind.TIMEOUT_AFTER, probability=0.3),
        Fault(kind=FaultKind.TIMEOUT_BEFORE, probability=0.3),
        Fault(kind=FaultKind.RESET, probability=0.1),
    ],
    seed=1,
)
FIVE = Money("5.00", "USD")


class Till:
    """A provider in twenty lines: it charges, or fails as the world's plan says."""

    def __init__(self, world: World, *, keys: bool) -> None:
        self.world = world
        self.keys = keys
        self.booked: list[str] = []
        self.attempts: dict[str, int] = {}

    async def charge(self, reference: str) -> None:
        number = self.attempts[reference] = self.attempts.get(reference, 0) + 1
        fault = self.world.faults.meets(Asked("charge", reference, number, now=self.world.clock.monotonic()))
        await anyio.sleep(0.1 if fault is None or fault.kind is not FaultKind.SLOW else fault.seconds)
        if fault is not None and fault.kind in {FaultKind.TIMEOUT_BEFORE, FaultKind.RESET}:
            raise TimeoutError
        if not (self.keys and reference in self.booked):
            self.booked.append(reference)
        if fault is not None and fault.kind is FaultKind.TIMEOUT_AFTER:
            raise TimeoutError


def paying(*, keys: bool, attempts: int = 4) -> Callable[[World], Awaitable[Any]]:
    """Return a scenario: five customers pay at once, each attempt after a wait of the world's own chance."""

    async def pay(world: World, till: Till, reference: str) -> None:
        with world.history.call("charge", reference, FIVE):
            for _ in range(attempts):
                try:
                    await till.charge(reference)
                    return
                except TimeoutError:
                    await anyio.sleep(world.random.random())
            raise TimeoutError

    async def nobody_pays_twice(world: World) -> tuple[str, ...]:
        till = Till(world, keys=keys)
        async with anyio.create_task_group() as group:
            for reference in [world.id("pay") for _ in range(5)]:
                group.start_soon(pay_quietly, world, till, reference)
        assert len(till.booked) == len(set(till.booked)), sorted(till.booked)
        return tuple(till.booked)

    async def pay_quietly(world: World, till: Till, reference: str) -> None:
        try:
            await pay(world, till, reference)
        except TimeoutError:
            await checkpoint()

    return nobody_pays_twice


def races(skew: int) -> Any:
    """Two tasks check, then act; the second meets the gap only if it is `skew` steps late."""

    async def two_claims() -> None:
        owners: list[str] = []

        async def claim(name: str, late: int) -> None:
            for _ in range(late):
                await checkpoint()
            if not owners:
                await checkpoint()  # the round trip to a database
                owners.append(name)

        async with anyio.create_task_group() as group:
            group.start_soon(claim, "a", skew)
            group.start_soon(claim, "b", 0)
        assert len(owners) == 1, owners

    return two_claims


two_claims = races(2)
naive = paying(keys=False)
careful = paying(keys=True)


def counterexample(scenario: Any, backend: Any, **more: Any) -> CounterexampleError:
    """Return the first of a thousand seeds on which the scenario fails."""
    with pytest.raises(CounterexampleError) as caught:
        explore(scenario, seeds=1_000, backend=backend, **more)
    return caught.value


def again(line: str, **names: Any) -> CounterexampleError:
    """Return what comes of the line that a failure printed."""
    with pytest.raises(CounterexampleError) as caught:
        eval(line, {"simulate": simulate, "FaultPlan": FaultPlan, **names})
    return caught.value
