"""How does a relay see a store of which a law wants to know what it is asked, or which answers late?"""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, final

from finresilience.testing.contracts._runs import by_hand

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.durable.outbox import PartitionLease

STEPS: Final = 500  # more than any relay of these laws takes: then it never ends


@final
class Watched:
    """A store that lets a law see what it is asked: `asked` is told of each call before, and may raise; `told`, async, of it afterwards."""

    def __init__(self, store: Any, *, asked: Callable[[str, Any], object] | None = None, told: Any = None) -> None:
        self._store = store
        self._asked = _heard if asked is None else asked
        self._told = _aheard if told is None else told

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if not callable(method):
            return method
        if iscoroutinefunction(method):

            async def awaited(*args: Any, **more: Any) -> Any:
                call: dict[Any, Any] = {**dict[Any, Any](enumerate(args)), **more}
                self._asked(name, call)
                answer = await method(*args, **more)
                await self._told(name, call, answer)
                return answer

            return awaited

        def called(*args: Any, **more: Any) -> Any:
            call: dict[Any, Any] = {**dict[Any, Any](enumerate(args)), **more}
            self._asked(name, call)
            answer = method(*args, **more)
            by_hand(self._told(name, call, answer))
            return answer

        return called


def _heard(name: str, call: Any) -> None:
    """Do nothing."""


async def _aheard(name: str, call: Any, answer: Any) -> None:
    """Do nothing."""


@final
class Distant:
    """A store whose answer is a while on its way when a lease is renewed: `late`, an async function, passes the time."""

    def __init__(self, store: Any, late: Callable[[], Any]) -> None:
        self._store = store
        self._late = late
        self._renewed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @property
    def renew(self) -> Any:
        """What the store has, and late."""
        asked, late = self._store.renew, self._late
        self._renewed += 1
        assert self._renewed < STEPS, "the relay renews its lease over and over, and never comes to publish"
        if iscoroutinefunction(asked):

            async def awaited(lease: PartitionLease) -> None:
                await asked(lease)
                await late()

            return awaited

        def called(lease: PartitionLease) -> None:
            asked(lease)
            by_hand(late())

        return called
