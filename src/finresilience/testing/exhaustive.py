"""Does it hold on every schedule? Small worlds are few enough to try them all: a proof, not a sample."""

from __future__ import annotations

from inspect import iscoroutine, isgenerator
from typing import TYPE_CHECKING, Any, Final, NoReturn, final, overload

from finresilience._checks import positive_count
from finresilience.errors import ConfigurationError
from finresilience.testing.errors import BoundReachedError, CounterexampleError
from finresilience.testing.stories import Tally, Wait, close, judge, mode, name_of, told_by

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from finresilience.testing.stories import Explored, Story

_LONGEST: Final = 10_000


@overload
def exhaust(scenario: Callable[[], Story], *, limit: int = 500_000, replay: str | None = None) -> Explored: ...


@overload
def exhaust(scenario: Callable[[int], Story], *, clients: int, limit: int = 500_000, replay: str | None = None) -> Explored: ...


def exhaust(scenario: Callable[..., Story], *, clients: int | None = None, limit: int = 500_000, replay: str | None = None) -> Explored:
    """Run every interleaving of a scenario's clients, and return how many there were.

    The scenario is called afresh for each schedule. It returns its clients and a check, to be called at the end:

        def two_claims():
            store = Store()
            winners = []

            async def claim(name):
                if await store.claim("pay_1", name):
                    winners.append(name)

            def only_one_wins():
                assert len(winners) == 1

            return [claim("a"), claim("b")], only_one_wins

        assert exhaust(two_claims).schedules == 20

    A client is a coroutine, stepped by hand from one `await turn()` or `until(...)` (or sleep of a `ManualClock`) to the
    next; a generator, stepped from `yield` to `yield`; or a list of functions, each one step. What comes after the last
    `yield` is a step too. There is no event loop, so clients must not await one.

    Args:
        scenario: makes fresh state; called with `clients`, if that is given.
        clients: how many clients the scenario shall make.
        limit: how many schedules to run at most. Three clients of 3 steps have 1,680; four have 369,600.
        replay: run only this schedule, as printed by a failure.

    Raises:
        CounterexampleError: some schedule fails. Its last line replays it.
        BoundReachedError: there are more schedules than `limit`, so nothing is proven.
        ConfigurationError: the scenario cannot be explored; the message says how to write it.
    """
    positive_count("limit", limit)
    many = () if clients is None else (positive_count("clients", clients),)
    tally = Tally(distinct_by_construction=True)
    told = None if replay is None else _parsed(replay)
    choices: list[int] = []
    while True:
        world = _World(scenario, many)
        world.run(choices, told)
        tally.add(world.schedule())
        choices = world.choices
        while choices and choices[-1] + 1 == world.widths[len(choices) - 1]:
            choices.pop()  # this was the last branch here: go back to the nearest one that has more
        if not choices or told is not None:
            return tally.told()
        if tally.schedules >= limit:
            raise BoundReachedError(
                f"exhaust({name_of(scenario)}) ran {limit:,} schedules and more remain: nothing is proven. "
                "Use fewer clients or steps, or raise limit="
            )
        choices[-1] += 1


@final
class _World:
    """One schedule of one scenario, from fresh state to its check."""

    __slots__ = ("_check", "_live", "_many", "_scenario", "_waiting", "choices", "steps", "widths")

    def __init__(self, scenario: Callable[..., Story], many: tuple[int, ...]) -> None:
        self._scenario = scenario
        self._many = many
        clients, self._check = told_by(scenario, scenario(*many))
        try:
            self._live: dict[int, Any] = {number: _stepper(client) for number, client in enumerate(clients)}
        except ConfigurationError:
            close(clients)
            raise
        self._waiting: dict[int, Callable[[], bool]] = {}
        self.choices: list[int] = []  # at each step, which of the clients that could go went
        self.widths: list[int] = []  # and how many could
        self.steps: list[int] = []

    def schedule(self) -> str:
        return " ".join(map(str, self.steps))

    def run(self, choices: Sequence[int], replay: Sequence[int] | None) -> None:
        mode.by_hand = True
        try:
            while self._live:
                self._step(self._choose(choices, replay))
            mode.by_hand = False
            judge(self._check)
        except (ConfigurationError, BoundReachedError):
            raise
        except Exception as failure:
            raise self._counterexample(failure) from failure
        finally:
            mode.by_hand = False
            close(list(self._live.values()))

    def _choose(self, choices: Sequence[int], replay: Sequence[int] | None) -> int:
        ready = list(self._live)
        if self._waiting:
            ready = [number for number in ready if number not in self._waiting or self._waiting[number]()]
        depth = len(self.steps)
        choice = choices[depth] if depth < len(choices) else 0
        if replay is not None and depth < len(replay):
            choice = ready.index(replay[depth]) if replay[depth] in ready else len(ready)
        if choice >= len(ready) or depth >= _LONGEST:
            self._cannot_go_on(ready, depth)
        self.choices.append(choice)
        self.widths.append(len(ready))
        return ready[choice]

    def _cannot_go_on(self, ready: list[int], depth: int) -> NoReturn:
        if not ready:
            raise AssertionError(f"deadlock: client {' and client '.join(map(str, self._live))} can never go on")
        if depth >= _LONGEST:
            raise BoundReachedError(
                f"a schedule of {name_of(self._scenario)} took {_LONGEST:,} steps: does a client poll? Use `until(...)`"
            )
        raise ConfigurationError(
            f"{name_of(self._scenario)} did not repeat itself: at step {depth}, another set of clients could go on than before. "
            "Build all state afresh in it, and use no clock, chance or set order of your own"
        )

    def _step(self, number: int) -> None:
        self.steps.append(number)
        if self._waiting:
            self._waiting.pop(number, None)
        try:
            token: Any = self._live[number].send(None)
        except StopIteration:
            del self._live[number]
            return
        if token is None:
            return
        if isinstance(token, Wait):
            self._waiting[number] = token.ready
            return
        raise ConfigurationError(
            f"client {number} of {name_of(self._scenario)} awaits a {type(token).__name__}, which needs an event loop; exhaust runs none. "
            "Await `turn()`, `until(...)` or a ManualClock's sleep; to explore with an event loop, use explore(...)"
        )

    def _counterexample(self, failure: Exception) -> CounterexampleError:
        many = "".join(f", clients={number}" for number in self._many)
        replay = f"exhaust({name_of(self._scenario)}{many}, replay={self.schedule()!r})"
        record = {
            "kind": "exhaust",
            "scenario": name_of(self._scenario),
            "clients": self._many[0] if self._many else None,
            "schedule": self.schedule(),
        }
        return CounterexampleError(failure, replay, schedule=self.schedule(), record=record)


def _stepper(client: Any) -> Any:
    if isinstance(client, list | tuple) and client and all(map(callable, client)):
        return _one_by_one(client)
    if iscoroutine(client) or isgenerator(client):
        return client
    raise ConfigurationError(
        f"a client must be a coroutine, a generator or a non-empty list of functions, not a {type(client).__name__}"
        + (": call it, so that it becomes one" if callable(client) else "")
    )


def _one_by_one(operations: Sequence[Callable[[], object]]) -> Generator[None]:
    operations[0]()
    for operation in operations[1:]:
        yield
        operation()


def _parsed(replay: str) -> list[int]:
    try:
        return [int(number) for number in replay.split()]
    except ValueError:
        raise ConfigurationError("replay= takes a schedule as a failure prints it, such as replay='0 1 1 0'") from None
