"""How is a law held against a store that we have never seen? Written once, run for sync and async stores alike.

A law is an `async def test_...(self, store)` under `@law`: it awaits what the store returns by `ask`, so that it does
not care whether the store is sync. A law about several callers at once is one under `@race`: it returns the callers and
a check. Both become plain functions that any test runner can call.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager
from inspect import iscoroutinefunction, signature
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast, final
from weakref import ref

from finresilience.testing.clock import ManualClock
from finresilience.testing.contracts._laws import BrokenLawError, ContractError, ask, law, machine, race
from finresilience.testing.contracts._runs import by_hand, explored, raced, sync_modules

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence

    from finresilience.testing.contracts._laws import Caller, Law, RaceLaw

__all__ = ["BrokenLawError", "Contract", "ContractError", "ask", "law", "laws", "machine", "race", "run"]

_KEPT: Final = 1_000  # stores that a contract remembers, to notice that one comes twice


class Contract:
    """The base of all contracts: a stranger subclasses one of them and writes its factory.

    Attributes:
        clock: what time it is, new for each law. Hand it to the store, or override `advance`.
        backends: on which an async store runs.
        in_process: whether callers can be stopped anywhere, since they wait for nobody. Say False for a store that waits
            for a server, a file or another thread: its races are then run on real threads and tasks, not explored.
        schedules: how many schedules of each race are explored, or which seeds.
        rounds: how often each race is run, if it is not explored.
        examples: how many runs Hypothesis makes up; always the same ones.
        transactions: whether callers may bring their own transaction. With False, the laws of transactions are left out.
        tolerance: by how many seconds a store's clock may differ from what `advance` was told. Zero for a store on `self.clock`.
    """

    clock: ManualClock
    gone: float  # for how many seconds a law has let time pass, by whatever clock
    backends: ClassVar[Sequence[str]] = ("asyncio", "trio")
    in_process: ClassVar[bool] = True
    schedules: ClassVar[int | Sequence[int]] = 15
    rounds: ClassVar[int] = 3
    examples: ClassVar[int] = 60
    transactions: ClassVar[bool] = True
    tolerance: ClassVar[float] = 0.0

    factory: ClassVar[str] = "make_store"  # what a subclass must write
    probe: ClassVar[str]  # a method of the store that is a coroutine function exactly if the store is async
    _made: ClassVar[dict[int, Callable[[], object]]]  # by their ids; what is gone cannot come twice
    _kind: ClassVar[type]  # of the last store
    _async: ClassVar[bool | None]

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls._made, cls._async = {}, None
        for name, needs in _needs(cls):
            if needs and not getattr(cls, needs):
                setattr(cls, name, None)

    # ------------------------------------------------------------ what a subclass may write

    def close_store(self, store: Any) -> Any:
        """Give back what the store holds, once a law is done with it. Nothing by default; may be async, for an async store."""

    def advance(self, store: Any, seconds: float) -> Any:
        """Let `seconds` pass for this store. Moves `self.clock`; a store with a clock of its own overrides it, and may do so async."""
        self.clock.advance(seconds)

    def transaction(self, store: Any) -> Any:
        """Return a new transaction as a caller owns it: a context manager of what `within=` takes, committed if the block ends well."""
        opened = getattr(store, "transaction", None)
        if opened is None:
            raise ContractError(
                f"{type(store).__name__} has no transaction(): override transaction(self, store) in {type(self).__name__}, "
                "to return a context manager that yields what within= takes. If callers cannot own transactions, say transactions = False"
            )
        return opened()

    # ------------------------------------------------------------ what laws are written with

    async def passes(self, store: Any, seconds: float) -> None:
        """Let time pass, for the store and for whoever is told it by `self.clock`, such as a relay over the store."""
        due = self.clock.monotonic() + seconds
        await ask(self.advance(store, seconds))
        self.clock.advance(max(0.0, due - self.clock.monotonic()))
        self.gone += seconds

    @asynccontextmanager
    async def within(self, store: Any) -> AsyncGenerator[Any]:
        """Open a transaction that commits at the end."""
        opened = self.transaction(store)
        if isinstance(opened, AbstractAsyncContextManager):
            async with cast("AbstractAsyncContextManager[Any]", opened) as inside:
                yield inside
        else:
            with opened as inside:
                yield inside

    @asynccontextmanager
    async def taken_back(self, store: Any) -> AsyncGenerator[Any]:
        """Open a transaction that is rolled back at the end, as by a caller whose work failed."""
        try:
            async with self.within(store) as inside:
                yield inside
                raise _TakenBackError
        except _TakenBackError:
            return

    async def interrupted(self, store: Any, work: Callable[[Any], Coroutine[Any, Any, object]]) -> None:
        """Do `work` in a transaction whose caller is cancelled before its end, or, on a thread, interrupted."""
        if self.is_async():
            from anyio import CancelScope
            from anyio.lowlevel import checkpoint

            with CancelScope() as scope:
                async with self.within(store) as mine:
                    await work(mine)
                    scope.cancel()
                    await checkpoint()
            assert scope.cancelled_caught, "a cancelled transaction swallowed its cancellation"
            return
        try:
            async with self.within(store) as mine:
                await work(mine)
                raise _Interrupted
        except _Interrupted:
            return
        raise AssertionError("an interrupted transaction swallowed its interruption")

    # ------------------------------------------------------------ how laws are run

    @classmethod
    def is_async(cls) -> bool:
        """Return whether the store's methods are to be awaited."""
        if cls._async is not None:
            return cls._async
        factory: Any = getattr(cls, cls.factory, None)
        if factory is None:
            raise ContractError(f"{cls.__name__} has no {cls.factory}(self): write one that returns a new, empty store each time")
        cls._async = iscoroutinefunction(factory) or cls()._makes_async()
        return cls._async

    def _makes_async(self) -> bool:
        """Make a store, only to see of which kind it is."""
        self.clock, self.gone = ManualClock(), 0.0
        store = getattr(self, self.factory)()
        self._look_at(store)

        async def closed() -> None:
            await ask(self.close_store(store))

        is_async = iscoroutinefunction(getattr(store, self.probe))
        if is_async:
            import anyio

            anyio.run(closed, backend=self.backends[0])
        else:
            by_hand(closed())
        return is_async

    async def fresh(self) -> Any:
        """Return a new store on a new clock."""
        self.clock, self.gone = ManualClock(), 0.0
        store: Any = await ask(getattr(self, self.factory)())
        self._look_at(store)
        return store

    def _look_at(self, store: Any) -> None:
        name = type(self).__name__
        if store is None:
            raise ContractError(f"{name}.{self.factory}() returned nothing: it must return the store")
        if not callable(getattr(store, self.probe, None)):
            raise ContractError(f"{name}.{self.factory}() returned a {type(store).__name__}, which has no {self.probe}()")
        if self._made.get(id(store), _gone)() is store:
            raise ContractError(
                f"{name}.{self.factory}() returned the same store twice, so that one law would see what another left behind. "
                "Return a new, empty store each time: make it inside the function, and empty its tables there"
            )
        self._made[id(store)] = _remembered(store)
        while len(self._made) > _KEPT:
            del self._made[next(iter(self._made))]
        type(self)._kind = type(store)

    def _modules(self) -> list[Any]:
        return sync_modules(self._kind)

    def run_law(self, body: Law) -> None:
        """Run a law once; for an async store, once on each of its backends."""

        async def whole() -> None:
            store = await self.fresh()
            try:
                await body(self, store)
            finally:
                await ask(self.close_store(store))

        if not self.is_async():
            by_hand(whole())
            return
        import anyio

        for backend in self.backends:
            with _on(backend):
                anyio.run(whole, backend=backend)

    def run_race(self, body: RaceLaw) -> None:
        """Run a law about several callers on many schedules, or a few times on real threads and tasks."""

        async def world() -> tuple[Sequence[Caller], Caller, Caller]:
            store = await self.fresh()

            async def close() -> None:
                await ask(self.close_store(store))

            try:
                return (*await body(self, store), close)
            except BaseException:
                await close()
                raise

        backends = self.backends if self.is_async() else ()
        if self.in_process:
            explored(world, backends, self.schedules, self._modules())
        else:
            raced(world, backends, self.rounds)


class _TakenBackError(Exception):
    """Ends a transaction that a law wants rolled back."""


class _Interrupted(BaseException):
    """Comes from outside, as a KeyboardInterrupt does: no handler of exceptions sees it."""


@final
class _on:  # noqa: N801 - reads as a statement: with _on("trio"):
    """Say on which backend it failed."""

    def __init__(self, backend: str) -> None:
        self._backend = backend

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object, /) -> None:
        if error is not None:
            error.add_note(f"on {self._backend}")


def _remembered(store: Any) -> Callable[[], object]:
    """Return what returns the store for as long as it lives: or for ever, where its class leaves no choice."""
    try:
        return ref(store)
    except TypeError:
        return lambda: store


def _gone() -> None:
    """Return no store."""


def _needs(contract: type[Contract]) -> list[tuple[str, str]]:
    found = ((name, getattr(contract, name, None)) for name in dir(contract) if name.startswith("test_"))
    return [(name, str(getattr(test, "needs", ""))) for name, test in found if hasattr(test, "sentence")]


def laws(contract: type[Contract]) -> dict[str, str]:
    """Return the laws of a contract: the name of each test, and its sentence."""
    return {name: getattr(contract, name).sentence for name, _ in _needs(contract)}


def run(
    contract: type[Contract], factory: Callable[..., object] | None = None, *, laws: Iterable[str] | None = None
) -> dict[str, BaseException | None]:
    """Hold a store against a contract without a test runner; return, for each law, how it was broken, or None.

        assert not any(contracts.run(contracts.IdempotencyStoreContract, MyStore).values())

    Args:
        contract: one of ours, or a subclass that has its factory.
        factory: makes a new, empty store each time; is given the clock, if it takes a parameter. A class will do.
        laws: the names of those to run; all by default.

    Raises:
        ContractError: if the contract or the factory is used in a way that proves nothing, or a law is not known.
    """
    if factory is not None:
        contract = type(contract.__name__, (contract,), {contract.factory: _method(factory)})
    known = _laws(contract)
    names = list(known) if laws is None else list(laws)
    if unknown := [name for name in names if name not in known]:
        raise ContractError(f"{contract.__name__} has no law named {', '.join(unknown)}; it has {', '.join(known)}")
    return {name: _judged(contract, name) for name in names}


_laws: Final = laws  # `run` has an argument of that name


def _judged(contract: type[Contract], name: str) -> BaseException | None:
    try:
        getattr(contract(), name)()
    except ContractError:
        raise
    except Exception as failure:
        return failure
    return None


def _method(factory: Callable[..., object]) -> Callable[[Contract], object]:
    takes = signature(factory).parameters
    by_place = any(one.kind in {one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD} for one in takes.values())

    def make(self: Contract) -> Any:
        if by_place:
            return factory(self.clock)
        return factory(clock=self.clock) if "clock" in takes else factory()

    async def amake(self: Contract) -> object:
        return await make(self)

    return amake if iscoroutinefunction(factory) else make
