"""How many retries may all calls together make? Two budgets that keep retries from becoming the outage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, final

from finresilience._checks import positive_count, refuse, seconds_of, share_of

if TYPE_CHECKING:
    from datetime import timedelta


class Budget(Protocol):
    """A limit on the retries of all calls that share it. A core: told the time, not thread-safe by itself."""

    @property
    def on_success(self) -> bool:
        """Whether `deposit` is for calls that succeeded (True) or for calls that begin (False)."""
        ...

    def deposit(self, now: float, /) -> None:
        """Note a call that began (ratio) or succeeded (tokens)."""
        ...

    def withdraw(self, now: float, /) -> bool:
        """Take one retry, or return False."""
        ...


@final
class TokenBudget:
    """Retry only while more than half of the tokens are left (gRPC proposal A6, retry throttling).

    Each failure that could be retried costs one token, each success brings `ratio` of one back. So a provider that fails for
    everybody gets no retries at all, and one that fails now and then gets all it needs.

    Args:
        tokens: how many at most, and at first.
        ratio: what a success brings back.
    """

    __slots__ = ("_left", "ratio", "tokens")

    on_success = True

    def __init__(self, tokens: int = 10, *, ratio: float = 0.1) -> None:
        self.tokens: int = positive_count("tokens", tokens, most=1000)
        self.ratio: float = share_of("ratio", ratio)
        self._left = float(self.tokens)

    def deposit(self, now: float, /) -> None:  # noqa: ARG002 - tokens do not age
        """Bring back `ratio` of a token."""
        self._left = min(self._left + self.ratio, float(self.tokens))

    def withdraw(self, now: float, /) -> bool:  # noqa: ARG002 - tokens do not age
        """Pay one token, and return whether more than half are left."""
        self._left = max(self._left - 1.0, 0.0)
        return self._left > self.tokens / 2


@final
class RatioBudget:
    """Let retries be at most a share of the calls of the last `window` seconds, and always a few (after Finagle's RetryBudget).

    Args:
        share: retries per call, above 0 to 1.
        at_least: retries a second that are always allowed, so that a quiet service may retry at all.
        window: seconds.
    """

    __slots__ = ("_calls", "_retries", "_slot", "_width", "at_least", "share", "window")

    SLOTS = 10
    on_success = False

    def __init__(self, share: float = 0.2, *, at_least: float = 1.0, window: float | timedelta = 10.0) -> None:
        self.share: float = share_of("share", share)
        self.window: float = seconds_of("window", window)
        if self.window < 1e-6:
            refuse("window", window, "at least a microsecond")
        self.at_least: float = seconds_of("at_least", at_least, zero=True)
        if self.at_least > 10**6:
            refuse("at_least", at_least, "at most 1,000,000 retries a second")
        self._width = self.window / self.SLOTS
        self._calls = [0] * self.SLOTS
        self._retries = [0] * self.SLOTS
        self._slot: int | None = None  # none has begun before the first call

    def deposit(self, now: float, /) -> None:
        """Note one call."""
        self._calls[self._turn(now)] += 1

    def withdraw(self, now: float, /) -> bool:
        """Take one retry, or return False."""
        at = self._turn(now)
        allowed = self.share * sum(self._calls) + self.at_least * self.window
        if sum(self._retries) + 1 > allowed:
            return False
        self._retries[at] += 1
        return True

    def _turn(self, now: float) -> int:
        slot = int(now // self._width)
        last = slot if self._slot is None else self._slot
        for begun in range(max(last, slot - self.SLOTS) + 1, slot + 1):
            self._calls[begun % self.SLOTS] = self._retries[begun % self.SLOTS] = 0
        self._slot = max(last, slot)
        return self._slot % self.SLOTS
