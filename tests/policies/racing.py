"""A small world for hedges: a provider whose arms take their time, and who knows what became of each of them."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from finresilience import Effect, Pipeline, current_key
from finresilience.policies.hedge import Hedge
from tests.laws.worlds import RULES, on

if TYPE_CHECKING:
    from finresilience import Event


IDEMPOTENT: dict[str, Any] = {"effect": Effect.IDEMPOTENT, "key": lambda *_: "pay_1"}
BY_NATURE: dict[str, Any] = {"effect": Effect.IDEMPOTENT_BY_NATURE}


class Arms:
    """Plays one line of its script per arm: (seconds, end), where an end is raised or returned. Says when each began and how it ended."""

    def __init__(self, *script: tuple[float, Any], cleanup: float = 0.0) -> None:
        self.script = list(script)
        self.cleanup = cleanup
        self.began: list[float] = []
        self.keys: list[str | None] = []
        self.ends: dict[int, str] = {}
        self.running = 0

    async def read(self, *_: Any) -> Any:
        seconds, end = self.script.pop(0)
        self.began.append(anyio.current_time())
        self.keys.append(current_key())
        number = len(self.began)
        self.ends[number] = "cancelled"
        self.running += 1
        try:
            await anyio.sleep(seconds)
            self.ends[number] = "ended"
            if isinstance(end, BaseException):
                raise end
            return end
        finally:
            if self.ends[number] == "cancelled" and self.cleanup:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(self.cleanup)
            self.running -= 1


def hedged(
    hedge: Hedge | None = None, *policies: Any, effect: Effect = Effect.READ, heard: list[Event] | None = None, **more: Any
) -> Pipeline:
    """A pipeline that hedges after 3 s, on the clock that rules."""
    settings: dict[str, Any] = {"classify": RULES, "listeners": [] if heard is None else [heard.append]} | more
    name = settings.pop("name", "acme")
    return Pipeline(name, Hedge(3.0) if hedge is None else hedge, *policies, effect=effect, **settings)


def ended(backend: str, pipeline: Any, arms: Arms) -> tuple[Any, float]:
    """Return how one call ended, and when."""

    async def world() -> Any:
        outcome = await pipeline.aoutcome(arms.read, "pay_1")
        assert arms.running == 0  # no arm outlives the call
        return outcome, anyio.current_time()

    return on(backend, world)  # type: ignore[no-any-return]  # of whatever function
