"""What does a simulated service stand on? Time, luck, names, faults and a history, all from one seed."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, final

from finresilience._checks import seconds_of
from finresilience.testing.faults import FaultPlan
from finresilience.testing.history import History

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.testing.virtual import Backend, VirtualClock


@final
class World:
    """One run of `simulate`, as its scenario sees it. Whatever a scenario leaves to chance, it should ask for here.

        async def a_day_of_payments(world: World) -> None:
            acme = FakeProvider("acme", world.faults)
            ...
            world.heal()
            ...  # and now everything must come right

    Attributes:
        seed: what all of it comes from.
        backend: `"asyncio"` or `"trio"`.
        clock: the virtual clock that rules.
        random: a generator of its own for the scenario.
        faults: the plan for the providers of this run; the empty one if `simulate` was given none.
        history: who asked for what, by this clock.
    """

    __slots__ = ("_ids", "_taken", "backend", "clock", "faults", "history", "random", "seed")

    def __init__(self, seed: int, backend: Backend, clock: VirtualClock, faults: FaultPlan | None = None) -> None:
        self.seed: int = seed
        self.backend: Backend = backend
        self.clock: VirtualClock = clock
        self.random: Random = Random(f"{seed}|world")  # by text, whose seeding is the same in every process
        self.faults: FaultPlan = FaultPlan(seed=seed) if faults is None else FaultPlan(faults.faults, seed=faults.seed)
        self.history: History = History(clock.monotonic)
        self._ids = Random(f"{seed}|ids")  # of its own, so that one more draw elsewhere renames nothing
        self._taken: set[str] = set()

    def id(self, prefix: str = "id") -> str:
        """Return a new name, such as `id_8c3f09ab41d27e65`: the same ones in the same order for the same seed, none of them twice."""
        while True:
            name = f"{prefix}_{self._ids.getrandbits(64):016x}"
            if name not in self._taken:
                self._taken.add(name)
                return name

    def heal(self) -> None:
        """End all faults: the plan strikes no more. What comes next must find its way back."""
        self.faults.heal()

    async def converge(self, settled: Callable[[], bool], *, within: float, every: float = 1.0) -> float:
        """End all faults, and return how many seconds it then took until `settled()` was true.

        Args:
            settled: looks whether all came right.
            within: how many seconds that may take.
            every: how many seconds lie between two looks.

        Raises:
            AssertionError: if it was not true in time: the service does not recover by itself.
        """
        limit, step = seconds_of("within", within, zero=True), seconds_of("every", every)
        self.heal()
        began = self.clock.monotonic()
        while not settled():
            passed = self.clock.monotonic() - began
            if passed >= limit:
                message = f"{limit:g} s after the last fault, {getattr(settled, '__name__', 'the service')} is still not true"
                raise AssertionError(message)
            await self.clock.sleep(min(step, limit - passed))
        return self.clock.monotonic() - began

    def __repr__(self) -> str:
        return f"<World of seed {self.seed} on {self.backend} at {self.clock.monotonic():.9g} s>"
