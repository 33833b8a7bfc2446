"""How long does a circuit stay open? Longer each time it opens again without having closed, up to a cap."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from finresilience._checks import factor_of, refuse, seconds_of, share_of

if TYPE_CHECKING:
    from datetime import timedelta


@final
class OpenFor:
    """`base * factor**n` seconds for the n-th opening in a row (from 0), at most `cap`, and up to `jitter` of it longer.

    Jitter only lengthens: many processes that opened together should not come back together, and none before `base`. A
    wait that the provider asked for is honoured up to `cap`.

    Args:
        base: the first interval in seconds.
        factor: growth, at least 1; 1 keeps it constant.
        cap: the longest interval; ten minutes, or `base` where that is longer.
        jitter: a share from 0 to 1.
    """

    __slots__ = ("base", "cap", "factor", "jitter")

    def __init__(self, base: float | timedelta, *, factor: float = 2.0, cap: float | timedelta | None = None, jitter: float = 0.1) -> None:
        self.base: float = seconds_of("open_for", base)
        self.factor: float = factor_of("factor", factor)
        self.cap: float = max(600.0, self.base) if cap is None else seconds_of("cap", cap)
        self.jitter: float = share_of("jitter", jitter, zero=True)
        if self.cap < self.base:
            refuse("cap", self.cap, f"at least the base, {self.base:g} s")

    def seconds(self, openings: int, u: float, hint: float | None) -> float:
        """Return how long to stay open, for the number of openings before this one and a chance `u` in [0, 1)."""
        try:
            grown = self.base * self.factor**openings
        except OverflowError:
            grown = self.cap
        interval = min(self.cap, grown * (1.0 + self.jitter * u))
        return interval if hint is None else min(self.cap, max(interval, hint))
