"""When is a second arm of the same call worth sending, and how did the call end that had several?"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from math import ceil, inf
from typing import TYPE_CHECKING, Any, final

from finresilience._checks import positive_count, share_of
from finresilience.outcome import Declined, Effect, Failed, Ok, Refused, Unknown

if TYPE_CHECKING:
    from finresilience.outcome import Outcome


@final
class Quantile:
    """Hedge a call that has taken longer than this share of the last calls: 0.95 sends a second arm for about one call in twenty.

    Args:
        share: of the calls, above 0 to 1.
        minimum_calls: before so many are known, no call is hedged.
        window: how many of the last calls are looked at.

    Raises:
        ConfigurationError: if an argument cannot work.
    """

    __slots__ = ("minimum_calls", "share", "window")

    def __init__(self, share: float, *, minimum_calls: int = 20, window: int = 200) -> None:
        self.share: float = share_of("share", share)
        self.minimum_calls: int = positive_count("minimum_calls", minimum_calls, most=10_000)
        self.window: int = positive_count("window", window, least=self.minimum_calls, most=10_000)

    def __repr__(self) -> str:
        """Show how it was made."""
        return f"Quantile({self.share:g}, minimum_calls={self.minimum_calls}, window={self.window})"


@final
class Latencies:
    """How long the last first arms took, and so how long the next one is waited for.

    An arm that was beaten is noted with the time it had taken until then. To leave it out would make the provider look faster
    the more calls are hedged, and so hedge more and more of them. A core; not thread-safe.
    """

    __slots__ = ("_order", "_quantile", "_sorted")

    def __init__(self, quantile: Quantile) -> None:
        self._quantile = quantile
        self._order: deque[float] = deque()
        self._sorted: list[float] = []

    def note(self, seconds: float) -> None:
        """Note how long a first arm took, at least."""
        if len(self._order) >= self._quantile.window:
            del self._sorted[bisect_left(self._sorted, self._order.popleft())]
        self._order.append(seconds)
        insort(self._sorted, seconds)

    @property
    def delay(self) -> float | None:
        """The time within which that share of the last calls had answered, or None while too few are known."""
        known = len(self._sorted)
        if known < self._quantile.minimum_calls:
            return None
        return self._sorted[ceil(self._quantile.share * known) - 1]


@final
class Race:
    """The arms of one call: when the next may start, when it is over, and how the call ended.

    The first arm that is answered wins. A no wins only where it speaks for every arm: in a READ, or if it was said of the call itself
    under the key that all arms share. Else the other arms are heard first, for one of them may have been applied. An arm that fails
    lets the next one start at once; one that we refused ourselves does not (law 5). The end is the join over the arms (law 1).

    A core: told the time. One per call, not thread-safe.

    Args:
        began: when the call began.
        after: how long an arm is waited for before the next one starts; None where nobody knows yet: then there is one arm only.
        extra: how many arms may follow the first.
        effect: of the call.
        keyed: whether all arms carry one key by which the provider knows them for the same.
    """

    __slots__ = ("_after", "_effect", "_ended", "_keyed", "_left", "_running", "due", "starts", "winner")

    def __init__(self, *, began: float, after: float | None, extra: int, effect: Effect, keyed: bool) -> None:
        self._after = inf if after is None else after
        self._left = 1 + (0 if after is None else extra)
        self.due: float = began  # when the next arm may start, if one is left
        self._effect = effect
        self._keyed = keyed
        self._running: set[int] = set()
        self._ended: list[tuple[int, Outcome[Any]]] = []
        self.starts: list[float] = []
        self.winner: int | None = None  # the arm whose answer ended the race

    @property
    def over(self) -> bool:
        """Whether nothing that an arm could still do would change the end."""
        return self.winner is not None or (not self._running and self._left <= 0)

    def wait(self, now: float) -> float | None:
        """Return the seconds until the next arm may start, infinite if none may, or None once the race is over."""
        if self.over:
            return None
        return max(0.0, self.due - now) if self._left > 0 else inf

    def start(self, now: float) -> int:
        """Start an arm and return its number, 1 for the first."""
        self._left -= 1
        self.starts.append(now)
        self.due = now + self._after
        number = len(self.starts)
        self._running.add(number)
        return number

    def no_more(self) -> None:
        """Start no further arm: the deadline is past, or nobody pays for it."""
        self._left = 0

    def ended(self, number: int, outcome: Outcome[Any], now: float, *, again: bool = True, final: bool = True) -> None:
        """Note how an arm ended.

        Args:
            number: of the arm.
            outcome: how it ended.
            now: the time.
            again: False where another arm cannot help, since the fault is not the provider's.
            final: False where a no was our own or a gate's, not about the call.
        """
        self._running.discard(number)
        self._ended.append((number, outcome))
        if isinstance(outcome, Ok):
            self.winner = number if self.winner is None else self.winner
        elif isinstance(outcome, Declined):
            self.no_more()
            if self._effect is Effect.READ or (self._keyed and final):
                self.winner = number if self.winner is None else self.winner
        elif isinstance(outcome, Refused):
            if not self._running:
                self.no_more()
        elif again:
            self.due = now
        else:
            self.no_more()

    def running(self, number: int) -> bool:
        """Return whether this arm has not ended."""
        return number in self._running

    @property
    def in_doubt(self) -> bool:
        """Whether an arm that has ended may have moved money, in the eyes of somebody who is told nothing more."""
        return self._effect is not Effect.READ and any(isinstance(outcome, Ok | Unknown) for _, outcome in self._ended)

    def end(self) -> tuple[int, Outcome[Any]]:
        """Return how the call ended, and by which arm. Answers that came together with the winner's are heard too: Ok if any was."""
        unknown = any(isinstance(outcome, Unknown) for _, outcome in self._ended)
        for number, outcome in self._ended:
            if isinstance(outcome, Ok):
                return number, outcome
        for number, outcome in self._ended:
            if isinstance(outcome, Declined) and (number == self.winner or (self.winner is None and not unknown)):
                return number, outcome
        for kind in (Unknown, Failed, Refused):
            for number, outcome in reversed(self._ended):
                if isinstance(outcome, kind):
                    return number, outcome
        raise AssertionError  # nobody asks before an arm has ended

    def forget(self) -> None:
        """Let go of the answers: an error holds its traceback, and that may hold whoever holds the race."""
        self._ended.clear()
