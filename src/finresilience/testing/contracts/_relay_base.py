"""What the laws of relays are written with: a broker that remembers, a store that dies when told, and relays over it."""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, final

from finresilience.classify.classifier import ErrorClassifier
from finresilience.durable.outbox import FencedError
from finresilience.durable.relay import Relay
from finresilience.outcome import NON_RETRYABLE, RETRYABLE
from finresilience.testing.contracts._base import ask
from finresilience.testing.contracts._outbox_base import LEASE, OutboxLaws, event
from finresilience.testing.contracts._relay_views import STEPS, Watched
from finresilience.testing.contracts._runs import by_hand
from finresilience.testing.stories import turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.durable.messages import OutboxRow

Send = Any  # a function of the row, sync


class Died(BaseException):
    """The relay's process is gone."""


class Down(Exception):  # noqa: N818 - a provider's own word
    """The broker was not reached."""


class Lost(Exception):  # noqa: N818 - as above
    """The broker may have it."""


class No(Exception):  # noqa: N818 - as above
    """The broker will never take it."""


class Busy(Exception):  # noqa: N818 - as above
    """The broker was reached, and asks to come again in so many seconds."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.headers = {"Retry-After": str(seconds)}


@final
class Answer:
    """What a broker says, where it raises nothing."""

    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


RULES: Final = ErrorClassifier({Down: RETRYABLE, Busy: RETRYABLE, No: NON_RETRYABLE}, status={503: RETRYABLE})


@final
class Broker:
    """What arrived, in order."""

    def __init__(self) -> None:
        self.arrived: list[tuple[str, int]] = []
        self.seqs: list[int] = []

    def send(self, row: OutboxRow) -> None:
        """Take a row."""
        self.arrived.append((row.message.key, row.message.json()["n"]))
        self.seqs.append(row.seq)

    def must_hold(self, committed: list[tuple[str, int]]) -> None:
        """Check that all that was committed arrived, nothing else, and that of each key the first arrivals are in order."""
        assert set(self.arrived) == set(committed), (
            f"lost: {sorted(set(committed) - set(self.arrived))}, never committed: {sorted(set(self.arrived) - set(committed))}"
        )
        for key in {key for key, _ in committed}:
            firsts = list(dict.fromkeys(n for known, n in self.arrived if known == key))
            expected = [n for known, n in committed if known == key]
            assert firsts == expected, f"{key} was told in the order {firsts}, and committed in the order {expected}"

    @property
    def doubled(self) -> int:
        """How many arrivals were repetitions."""
        return len(self.arrived) - len(set(self.arrived))


@final
class Mortal:
    """A store that raises `error` at one step of its caller, before or after it has done what was asked; dead, it raises for ever."""

    def __init__(self, store: Any, at: int, error: type[BaseException] = Died, *, for_ever: bool = True) -> None:
        self._store = store
        self._at = at
        self._error = error
        self._for_ever = for_ever
        self.steps = 0
        self.struck = False

    def step(self) -> None:
        """Come one step nearer."""
        self.steps += 1
        if self.steps == self._at or (self.struck and self._for_ever):
            self.struck = True
            raise self._error

    def die(self) -> None:
        """Be struck now."""
        self._at = self.steps + 1
        self.step()

    def __getattr__(self, name: str) -> Any:
        asked = getattr(self._store, name)
        if not callable(asked):
            return asked
        if iscoroutinefunction(asked):

            async def awaited(*args: Any, **more: Any) -> Any:
                self.step()
                answer = await asked(*args, **more)
                self.step()
                return answer

            return awaited

        def called(*args: Any, **more: Any) -> Any:
            self.step()
            answer = asked(*args, **more)
            self.step()
            return answer

        return called


class RelayBase(OutboxLaws):
    """The base of the laws of relays."""

    def make_relay(self, store: Any, publisher: Callable[[OutboxRow], object], **numbers: Any) -> Any:
        """Return a relay: ours, unless a subclass proves one of its own."""
        plain: dict[str, Any] = {
            "clock": self.clock,
            "chance": lambda: 0.5,
            "classify": RULES,
            "listeners": (),
            "lease": LEASE,
            "batch": 4,
            "concurrency": 3,
            "settle_every": 2,
            "publish_timeout": 1.0,
            "max_attempts": 4,
        }
        return Relay(store, publisher, **plain | numbers)

    async def relayed(self, store: Any, send: Send, *, before: Any = None, for_ever: bool = False, **numbers: Any) -> Any:
        """Let one relay run until nothing is due, and return it; `before`, an async function, is told of each row before it is sent.

        With `for_ever`, it runs until `send`, which is then given the relay too, stops it.
        """
        made: list[Any] = []
        if for_ever:
            send = _with(send, made)
        if not iscoroutinefunction(store.settle):

            def plain(row: OutboxRow) -> object:
                if before is not None:
                    by_hand(before(row))
                return send(row)

            made.append(relay := self.make_relay(store, plain, **numbers))
            relay.run_sync(until_idle=not for_ever)
            return relay

        async def awaited(row: OutboxRow) -> object:
            await turn()
            if before is not None:
                await before(row)
            answer = send(row)
            await turn()
            return answer

        made.append(relay := self.make_relay(store, awaited, **numbers))
        await relay.run(until_idle=not for_ever)
        return relay

    def bounded(self, store: Any, told: Any = None) -> Watched:
        """Return the store as a relay sees it that runs on: it may ask so often, and wait so long, and no more."""
        left = iter(range(10 * STEPS))

        def asked(_: str, __: Any) -> None:
            ends = next(left, None) is not None and self.clock.monotonic() < self.gone + 10 * STEPS
            assert ends, "a relay asks the store again and again, or waits and waits, and never comes to its work"

        return Watched(store, asked=asked, told=told)

    async def closed(self, store: Any) -> None:
        """Give back what a store of the law's own holds."""
        end: Any = self.close_store(store)
        await ask(end)

    async def survived(self, store: Any, send: Send, **numbers: Any) -> bool:
        """Let one relay run until nothing is due, its process dies, or it finds an heir in its place; return whether it ended by itself."""
        try:
            await self.relayed(store, send, **numbers)
        except FencedError:
            return False
        except BaseException as end:
            if not _only(end, Died):
                raise
            return False
        return True

    async def finished(self, store: Any, send: Send, **numbers: Any) -> None:
        """Let relays run, one after the other, until nothing waits: each waits for what was put off."""
        for _ in range(STEPS):
            await self.relayed(store, send, **numbers)
            told = await ask(store.statistics())
            if not told.pending or told.parked_keys:
                return
            await self.passes(store, LEASE + 1)
        raise AssertionError("rows are pending, and no relay ever publishes them")

    async def filled(self, store: Any, keys: int = 3, each: int = 3) -> list[tuple[str, int]]:
        """Commit a few events of a few keys, and return them in order."""
        told = [(f"acc_{k}", n) for n in range(each) for k in range(keys)]
        for key, n in told:
            await self.added(store, event(key, n))
        return told


def _with(send: Send, made: list[Any]) -> Send:
    def sent(row: OutboxRow) -> object:
        return send(row, made[0])

    return sent


def _only(error: BaseException, kind: type[BaseException]) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_only(part, kind) for part in error.exceptions)
    return isinstance(error, kind)
