"""Who may cancel whom? Limits of ours and of others, nested as one seed says, each watched from both sides."""

from __future__ import annotations

import asyncio
from math import inf
from random import Random
from typing import TYPE_CHECKING, Any, final

import anyio
import trio

from finresilience import (
    CircuitBreaker,
    Constant,
    Effect,
    ExpiredError,
    OpenFor,
    Pipeline,
    RefusedError,
    Retry,
    Timeout,
    UnknownOutcomeError,
    deadline,
)
from finresilience.context import current
from tests.laws.worlds import RULES, Down, Lost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finresilience.policies.plan import Ends

    Work = Callable[[], Awaitable[object]]

GRID = (0.1, 0.2, 0.3, 0.4, 0.5)  # few instants, so that many things happen in the same one
OPEN = OpenFor(0.1, jitter=0.0)
HAIR = 1e-9  # of float arithmetic
OURS = ("called", "decorated", "block", "pipeline", "pipeline", "decorated pipeline")
THEIRS = ("fail_after", "move_on_after", "group", "deadline")
ASYNCIO, TRIO = ("asyncio.timeout", "TaskGroup"), ("trio.fail_after", "trio.move_on_after")


@final
class Ending:
    """How a piece of work ended: with a value, with an error, or cancelled."""

    def __init__(self, *, value: object = None, error: BaseException | None = None) -> None:
        self.at, self.value, self.error = anyio.current_time(), value, error
        self.cancelled = isinstance(error, asyncio.CancelledError | trio.Cancelled)


def leaves(error: BaseException | None) -> set[BaseException]:
    """Return what an error was made of: trio makes a new group of the same errors where a scope looks into one."""
    if isinstance(error, BaseExceptionGroup):
        return set[BaseException]().union(*(leaves(member) for member in error.exceptions))
    return set() if error is None else {error} | leaves(error.__cause__ or error.__context__)


def leads_to(error: BaseException | None, kind: type[BaseException]) -> bool:
    return any(isinstance(leaf, kind) for leaf in leaves(error))


@final
class Visit:
    """One passage through one layer: what went in, what came out, and until when its limit held."""

    def __init__(self, layer: Layer, outer: Visit | None) -> None:
        self.layer, self.outer = layer, outer
        self.began, self.limit = anyio.current_time(), inf
        self.limits: list[float] = []  # of each attempt
        self.inside: list[Ending] = []
        self.out: Ending | None = None
        self.told_to_stop = False  # by somebody outside of it

    @property
    def enclosing(self) -> list[Visit]:
        return [] if self.outer is None else [self.outer, *self.outer.enclosing]

    @property
    def decisive(self) -> int:
        """The attempt from which on one decides how the call ends: the last, or the one before where the last was refused further in."""
        last = len(self.inside) - 1
        return last - 1 if last and leads_to(self.inside[last].error, RefusedError) else last

    def own_report(self) -> bool:
        """Whether what came out says that this very layer's time was up."""
        assert self.out is not None
        error, name = self.out.error, self.layer.name
        if self.layer.ours:
            if isinstance(error, UnknownOutcomeError) and error.name == name:
                error = error.__cause__
            return isinstance(error, ExpiredError) and error.name == name
        passed_on = bool(self.inside) and error is self.inside[-1].error
        return self.out.value is self.layer.moved or (type(error) in {TimeoutError, trio.TooSlowError} and not passed_on)


class Layer:
    """One limit, of ours or of somebody else, or something else that cancels."""

    def __init__(self, story: Story, kind: str, number: int) -> None:
        self.story, self.kind, self.name = story, kind, f"{kind} {number}"
        self.ours, self.moved = kind in OURS, object()  # what a scope that moved on is taken to answer
        self.seconds = story.random.choice((*GRID, 0.05))
        self.guard, self.breaker, self.ends = self._made(story.random)
        self.visits: list[Visit] = []

    def _made(self, random: Random) -> tuple[Any, CircuitBreaker | None, Ends | None]:
        timeout = Timeout(self.seconds, exact=random.random() < 0.3, effect=None, name=self.name, listeners=[])
        if "pipeline" not in self.kind:
            return timeout, None, timeout._plan.ends if self.kind in {"called", "decorated"} else None
        breaker = CircuitBreaker(self.name, consecutive_failures=2, half_open_calls=1, open_for=OPEN, probe_lease=1e6, listeners=[])
        if random.random() < 0.5:
            breaker.trip(seconds=1e-9)  # the first call is the probe
        retry = Retry(attempts=random.randint(1, 3), backoff=Constant(random.choice((0.0, 0.1))), listeners=[])
        effect = random.choice((Effect.READ, Effect.UNSAFE, Effect.IDEMPOTENT_BY_NATURE))
        pipeline = Pipeline(
            self.name,
            *(breaker, retry, timeout),
            classify=RULES,
            effect=effect,
            deadline=random.choice((None, 0.35)),
            listeners=[],
        )
        return pipeline, breaker, pipeline.ends

    async def run(self, work: Work, outer: Visit | None) -> object:
        """Run `work` in this layer, and write down what went in and what came out."""
        visit = Visit(self, outer)
        self.visits.append(visit)
        within = current.get()
        outermost = inf if within is None or within.deadline is None else within.deadline

        async def inside() -> object:
            if self.ours:
                self._note_limit(visit, outermost)
            visit.limits.append(visit.limit)
            return await self._noted(work, visit.inside.append)

        def came_out(ending: Ending) -> None:
            visit.out = ending
            visit.told_to_stop = self.story.interrupted or any(outer.limit <= ending.at + HAIR for outer in visit.enclosing)

        if not self.ours and self.kind != "deadline" and "roup" not in self.kind:
            visit.limit = visit.began + self.seconds
        return await self._noted(lambda: self._through(inside), came_out)

    def _note_limit(self, visit: Visit, outermost: float) -> None:
        """An attempt has its own seconds, and no more than every deadline round it leaves; that is what the code inside is told."""
        context = current.get()
        assert context is not None
        whole = visit.began + self.guard._plan.deadline if "pipeline" in self.kind else inf
        visit.limit = min(anyio.current_time() + self.seconds, whole, outermost)
        assert context.deadline is not None
        assert abs(context.deadline - visit.limit) < HAIR

    @staticmethod
    async def _noted(work: Work, note: Callable[[Ending], object]) -> object:
        try:
            value = await work()
        except BaseException as error:
            note(Ending(error=error))
            raise
        note(Ending(value=value))
        return value

    async def _through(self, inside: Work) -> object:
        answer = self.moved
        if self.kind == "called":
            answer = await self.guard.acall(inside)
        elif self.kind == "pipeline":
            answer = (await self.guard.aoutcome(inside)).unwrap()
        elif self.kind.startswith("decorated"):
            answer = await self.guard(inside)()
        elif self.kind == "group" or self.kind == "TaskGroup":
            answer = await self._in_a_group(inside)
        elif self.kind == "block" or self.kind == "asyncio.timeout":
            async with self.guard.guard() if self.ours else asyncio.timeout(self.seconds):
                answer = await inside()
        else:
            scopes: dict[str, Any] = {
                "fail_after": anyio.fail_after,
                "move_on_after": anyio.move_on_after,
                "trio.fail_after": trio.fail_after,
                "trio.move_on_after": trio.move_on_after,
                "deadline": deadline,
            }
            with scopes[self.kind](self.seconds):
                answer = await inside()
        return answer

    async def _in_a_group(self, inside: Work) -> object:
        answers: list[object] = []

        async def child() -> None:
            answers.append(await inside())

        if self.kind == "TaskGroup":
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(child())
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(child)
        return answers[0]


class Story:
    """One call through its layers, and somebody outside who may cancel it at any moment."""

    def __init__(self, seed: int, backend: str) -> None:
        self.random, self.backend = Random(seed), backend
        kinds = (*OURS, *THEIRS, *(ASYNCIO if backend == "asyncio" else TRIO))
        chosen = self.random.choices(kinds, k=self.random.randint(0, 3))
        chosen.insert(self.random.randint(0, len(chosen)), self.random.choice(OURS))  # one of ours at least
        self.layers = [Layer(self, kind, number) for number, kind in enumerate(chosen)]  # the innermost first
        self.outside = self.random.choice((None, None, *GRID, 0.0, 0.15))
        # A scope of anyio cancels a task again in each turn of the loop while that waits for a TaskGroup: virtual time stands still
        # until all in the group have ended, so nobody in one may take any time for it.
        self.manners = ("obeys", "fails") if "TaskGroup" in chosen else ("obeys", "obeys", "answers", "fails", "lingers")
        self.willing = True  # whether the work stopped at once whenever it was told to
        self.last_word = -inf  # when the work last ended as it liked, told to stop or not
        self.interrupted = False  # whether somebody outside found the call still running
        self.end: Ending | None = None
        self.left: object = None  # the context that is still in force afterwards

    def __str__(self) -> str:
        layers = ", ".join(f"{layer.kind} {layer.seconds}" for layer in self.layers)
        return f"{self.backend}: work in {layers}; cancelled from outside at {self.outside}"

    @property
    def mixed(self) -> bool:
        """Whether a limit of ours stands round a group of anyio, inside a scope of anyio.

        The group keeps the last native cancellation that it met while it waited, in place of the scope's own, even if both have come;
        then the scope does not know its cancellation any more. `asyncio.timeout` fares no better there.
        """
        if self.backend == "trio":
            return False
        kinds = [layer.kind for layer in self.layers]
        ours = [number for number, layer in enumerate(self.layers) if layer.ours and "group" in kinds[:number]]
        inside_a_scope = any("_after" in kind or kind == "group" for number in ours for kind in kinds[number:])
        return inside_a_scope and not self.willing

    async def work(self) -> object:
        """What is guarded: it takes its time, may fail, and may not want to stop."""
        random, receipt = self.random, object()
        seconds, manner = random.choice((*GRID, 0.0, 0.15, 10.0)), random.choice(self.manners)
        try:
            await anyio.sleep(seconds)
        except BaseException:
            self.willing = self.willing and manner == "obeys"
            if manner == "lingers":
                with anyio.CancelScope(shield=random.random() < 0.5):
                    await anyio.sleep(random.choice((0.05, 0.1, 0.25)))
            if manner == "fails":
                self.last_word = anyio.current_time()
                raise Lost from None
            if manner != "answers":
                raise
        self.last_word = anyio.current_time()
        error = random.choice((None, None, Down, Lost))
        if error is not None:
            raise error
        return receipt

    async def call(self) -> object:
        """The whole call, from the outermost layer to the work."""

        async def through(left: list[Layer], outer: Visit | None) -> object:
            if not left:
                return await self.work()
            layer, *rest = left
            return await layer.run(lambda: through(rest, layer.visits[-1]), outer)

        return await through(self.layers[::-1], None)

    async def lived(self) -> None:
        """Make the call, and write down how it ended; whoever makes it does not hear of a cancellation."""
        try:
            self.end = Ending(value=await self.call())
        except BaseException as error:
            self.end = Ending(error=error)
            if isinstance(error, trio.Cancelled):
                raise
        finally:
            self.left = current.get()

    @property
    def had_the_last_word(self) -> bool:
        """Whether the work did as it liked when it was cancelled from outside. On trio, who never waits again is not cancelled at all."""
        asked = self.outside or 0.0
        return self.last_word >= asked or (self.backend == "trio" and self.end is not None and self.end.at == asked)
