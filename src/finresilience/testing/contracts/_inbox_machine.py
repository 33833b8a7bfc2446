"""A model of an inbox, and a machine that does at random to a store what it does to the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from finresilience.durable.seen import Counted, Duplicate, Fresh, Parked, Stale
from finresilience.testing.contracts._base import ask
from finresilience.testing.contracts._drivers import drive_machine

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.testing.contracts._drivers import Driver
    from finresilience.testing.contracts._inbox_failures import FailureLaws

Name = tuple[str, str, str]  # tenant, group, message

OLD: Final = 50.0
ALL: Final = (("alice", "ledger", "m1"), ("alice", "ledger", "m2"), ("alice", "mailer", "m1"), ("bob", "ledger", "m1"))
NAMES: Final = st.sampled_from(ALL)
POSITIONS: Final = st.none() | st.integers(0, 3)


class Machine(RuleBasedStateMachine):
    """Deliveries, failures, waits and purges, on an inbox and on a model of it."""

    def __init__(self, contract: FailureLaws, driver: Driver) -> None:
        super().__init__()
        self.contract, self.driver = contract, driver
        self.store: Any = driver(contract.fresh)
        self.handled: dict[Name, float] = {}
        self.failures: dict[Name, tuple[int, float]] = {}
        self.parked: set[Name] = set()
        self.marks: dict[tuple[str, str], int] = {}
        self.now = 0.0

    def teardown(self) -> None:
        async def closed() -> None:
            await ask(self.contract.close_store(self.store))

        self.driver(closed)

    def ask(self, asked: Callable[[], Any]) -> Any:
        """Return what the store says."""

        async def told() -> object:
            return await ask(asked())

        return self.driver(told)

    @rule(name=NAMES, position=POSITIONS, commits=st.booleans())
    def deliver(self, name: Name, position: int | None, commits: bool) -> None:  # noqa: FBT001 - Hypothesis passes it by name
        """Deliver a message, whose effect is committed or rolled back."""
        tenant, group, message = name
        about: dict[str, Any] = {} if position is None else {"entity": "account", "position": position}
        told: list[Any] = []

        async def work() -> None:
            opened = self.contract.within if commits else self.contract.taken_back
            async with opened(self.store) as mine:
                told.append(await ask(self.store.once(mine, tenant=tenant, group=group, message_id=message, **about)))

        self.driver(work)
        expected = self._expected(name, position)
        assert isinstance(told[0], expected), f"once() told {type(told[0]).__name__}, and the model {expected.__name__}"
        if isinstance(told[0], Fresh):
            failures = self.failures.get(name, (0, 0.0))[0]
            assert told[0].failures == failures, f"{told[0].failures} failures were told, and the model has {failures}"
            if commits:
                self.handled[name] = self.now
                if position is not None:
                    self.marks[tenant, group] = position

    def _expected(self, name: Name, position: int | None) -> type[Any]:
        if name in self.handled:
            return Duplicate
        if self._is_parked(name):
            return Parked
        stale = position is not None and self.marks.get(name[:2], -1) >= position
        return Stale if stale else Fresh

    def _is_parked(self, name: Name) -> bool:
        return name not in self.handled and name in self.parked

    @rule(name=NAMES, times=st.sampled_from((1, 1, 2, 5)))
    def fail(self, name: Name, times: int) -> None:
        """Count failures."""
        tenant, group, message = name
        for _ in range(times):
            counted = self.ask(lambda: self.store.failed(tenant=tenant, group=group, message_id=message))
            if name not in self.handled and not self._is_parked(name):
                self.failures[name] = (self.failures.get(name, (0, 0.0))[0] + 1, self.now)
                if self.failures[name][0] >= self.store.park_after:
                    self.parked.add(name)
            number = 0 if name in self.handled else self.failures[name][0]
            assert counted.failures == number, f"{counted.failures} failures were counted, and the model has {number}"

    @rule(name=NAMES, times=st.sampled_from((1, 1, 2, 6)))
    def begin(self, name: Name, times: int) -> None:
        """Count runs before they are made."""
        tenant, group, message = name
        for _ in range(times):
            counted = self.ask(lambda: self.store.begun(tenant=tenant, group=group, message_id=message))
            number = self.failures.get(name, (0, 0.0))[0]
            if name not in self.handled and not self._is_parked(name):
                if number < self.store.park_after:
                    self.failures[name] = (number + 1, self.now)
                else:
                    self.failures[name] = (number, self.now)
                    self.parked.add(name)
            number = 0 if name in self.handled else self.failures[name][0]
            assert counted == Counted(number, parked=self._is_parked(name)), f"{counted} was told, and the model has {number}"

    @rule(name=NAMES)
    def forgive(self, name: Name) -> None:
        """Take one failure back."""
        tenant, group, message = name
        counted = self.ask(lambda: self.store.forgiven(tenant=tenant, group=group, message_id=message))
        number, last = self.failures.get(name, (0, 0.0))
        if name not in self.handled and number:
            self.failures[name] = (number - 1, last)
            self.parked.discard(name)
            if number == 1:
                del self.failures[name]
        left = 0 if name in self.handled else self.failures.get(name, (0, 0.0))[0]
        assert counted.failures == left, f"{counted.failures} failures were left, and the model has {left}"

    @rule(name=NAMES)
    def unpark(self, name: Name) -> None:
        """Let a message go, if it is parked."""
        tenant, group, message = name
        told = self.ask(lambda: self.store.unpark(tenant=tenant, group=group, message_id=message))
        assert told is self._is_parked(name), f"unpark() told {told}"
        if told:
            del self.failures[name]
            self.parked.discard(name)

    @rule(seconds=st.sampled_from((7.0, 31.0)))
    def wait(self, seconds: float) -> None:
        """Let time pass."""

        async def passed() -> None:
            await self.contract.passes(self.store, seconds)

        self.driver(passed)
        self.now += seconds

    @rule()
    def purge(self) -> None:
        """Forget what is old."""
        before = self.now - OLD
        tired = [name for name, (_, last) in self.failures.items() if last <= before and not self._is_parked(name)]
        markers = [name for name, at in self.handled.items() if at <= before]
        for name in tired:
            del self.failures[name]
            self.parked.discard(name)
        for name in markers:
            del self.handled[name]
        told = self.ask(lambda: self.store.purge(older_than=OLD))
        assert told == len(tired) + len(markers), f"a purge forgot {told}, and the model {len(tired) + len(markers)}"

    @invariant()
    def every_mark_and_parked_message_is_as_the_model_says(self) -> None:
        """Look at the marks, and at what is parked."""

        async def look() -> Any:
            marks = [await ask(self.store.high_water(tenant=name[0], group=name[1], entity="account")) for name in ALL]
            return marks, await ask(self.store.parked())

        marks, parked = self.driver(look)
        assert marks == [self.marks.get(name[:2]) for name in ALL], f"the marks are {marks}, and the model's {self.marks}"
        told = {(one.tenant, one.group, one.message_id) for one in parked}
        assert told == {name for name in ALL if self._is_parked(name)}, f"{len(told)} messages are parked, and others in the model"


def drive(contract: FailureLaws) -> None:
    """Hold a contract's inbox against the model."""
    drive_machine(contract, Machine)
