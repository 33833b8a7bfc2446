"""How long to wait before the next attempt? Every schedule in the field, and the cap comes last, always.

`n` counts the waits of one call from 0, `u` is a chance in [0, 1) told by the shell, and `carry` is what the schedule
wants to remember between the waits of one call (0.0 at first).
"""

from __future__ import annotations

from math import exp2, inf, isfinite, sqrt, tanh
from typing import TYPE_CHECKING, Protocol, final

from finresilience._checks import factor_of, refuse, seconds_of, share_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

_MAX_EXPONENT = 1024.0  # 2**1024 is the first power that a float cannot hold


class Backoff(Protocol):
    """A schedule of waits."""

    @property
    def cap(self) -> float:
        """The longest wait it gives, in seconds."""
        ...

    def wait(self, n: int, u: float, carry: float, /) -> tuple[float, float]:
        """Return the wait in seconds and what to carry to the next one."""
        ...


class _Capped:
    """A base and a cap, checked."""

    __slots__ = ("base", "cap")

    def __init__(self, base: float | timedelta, *, cap: float | timedelta = 60.0) -> None:
        self.base: float = seconds_of("base", base, zero=True)
        self.cap: float = seconds_of("cap", cap, zero=True)

    def wait(self, n: int, u: float, carry: float, /) -> tuple[float, float]:
        """Return the wait in seconds and what to carry to the next one."""
        return _bounded(self._raw(n, u), self.cap), carry

    def _raw(self, n: int, u: float) -> float:
        raise NotImplementedError

    def __repr__(self) -> str:
        """Show how it was made."""
        return f"{type(self).__name__}(base={self.base:g}, cap={self.cap:g})"


class _Growing(_Capped):
    """A base that grows by a factor with each wait."""

    __slots__ = ("factor",)

    def __init__(self, base: float | timedelta, *, cap: float | timedelta = 60.0, factor: float = 2.0) -> None:
        super().__init__(base, cap=cap)
        self.factor: float = factor_of("factor", factor)

    def _grown(self, n: int) -> float:
        try:
            return self.base * self.factor**n
        except OverflowError:
            return inf if self.base else 0.0


@final
class Constant(_Capped):
    """`base`, every time."""

    __slots__ = ()

    def _raw(self, n: int, u: float) -> float:  # noqa: ARG002 - neither the number nor the chance matters here
        return self.base


@final
class Linear(_Capped):
    """`base * (n + 1)`."""

    __slots__ = ()

    def _raw(self, n: int, u: float) -> float:  # noqa: ARG002 - there is no chance in it
        return self.base * (n + 1)


@final
class Exponential(_Growing):
    """`base * factor**n`, with no jitter: a herd stays a herd. For tests, or behind a queue."""

    __slots__ = ()

    def _raw(self, n: int, u: float) -> float:  # noqa: ARG002 - there is no chance in it
        return self._grown(n)


@final
class SymmetricJitter(_Growing):
    """The exponential wait, up to `spread` of it shorter or longer (Polly takes 25 %)."""

    __slots__ = ("spread",)

    def __init__(self, base: float | timedelta, *, cap: float | timedelta = 60.0, factor: float = 2.0, spread: float = 0.25) -> None:
        super().__init__(base, cap=cap, factor=factor)
        self.spread: float = share_of("spread", spread, zero=True)

    def _raw(self, n: int, u: float) -> float:
        return min(self._grown(n), self.cap) * (1.0 + self.spread * (2.0 * u - 1.0))


@final
class FullJitter(_Growing):
    """Anything up to the exponential wait: `u * min(cap, base * factor**n)` (AWS Architecture Blog, 2015; botocore)."""

    __slots__ = ()

    def _raw(self, n: int, u: float) -> float:
        return u * min(self._grown(n), self.cap)


@final
class EqualJitter(_Growing):
    """Half of the exponential wait, and anything up to the other half."""

    __slots__ = ()

    def _raw(self, n: int, u: float) -> float:
        half = min(self._grown(n), self.cap) / 2.0
        return half + u * half


@final
class DecorrelatedJitter(_Capped):
    """`min(cap, base + u * (3 * previous - base))`, the previous wait being `base` at first (AWS Architecture Blog, 2015)."""

    __slots__ = ()

    def wait(self, n: int, u: float, carry: float, /) -> tuple[float, float]:
        """Return the wait in seconds, and carry it."""
        previous = self.base if n == 0 else carry
        wait = _bounded(self.base * (1.0 - u) + 3.0 * (u * previous), self.cap)  # so ordered, it may reach inf, never NaN
        return wait, wait


@final
class DecorrelatedJitterV2(_Capped):
    """Smooth jitter round an exponential of median `base` (Polly.Contrib.WaitAndRetry): no bunching at the steps.

    With `t = n + u` and `F(t) = 2**t * tanh(sqrt(4 * t))`, the wait is `base * (F(t) - F(previous t)) / 1.4`.
    """

    __slots__ = ()

    def wait(self, n: int, u: float, carry: float, /) -> tuple[float, float]:
        """Return the wait in seconds, and carry F."""
        t = n + u
        reached = exp2(t) * tanh(sqrt(4.0 * t)) if t < _MAX_EXPONENT else inf
        if not isfinite(reached):
            return _bounded(inf if self.base else 0.0, self.cap), reached
        return _bounded(self.base * (reached - carry) / 1.4, self.cap), reached


@final
class Custom:
    """Whatever `waits(n)` says, in seconds, bounded like the rest.

    Args:
        waits: from the number of the wait (0 for the first) to seconds. What is not a number of at least zero is an error, at
            that retry.
        cap: the longest wait.
    """

    __slots__ = ("_waits", "cap")

    def __init__(self, waits: Callable[[int], float], *, cap: float | timedelta = 60.0) -> None:
        if not callable(waits):
            refuse("waits", waits, "a function from the number of the wait to seconds")
        self._waits = waits
        self.cap: float = seconds_of("cap", cap, zero=True)

    def wait(self, n: int, u: float, carry: float, /) -> tuple[float, float]:  # noqa: ARG002 - the chance is the caller's own
        """Return the wait in seconds."""
        return _bounded(seconds_of("waits(n)", self._waits(n), zero=True, infinite=True), self.cap), carry


def _bounded(seconds: float, cap: float) -> float:
    """The cap comes last, always; never negative."""
    return min(max(seconds, 0.0), cap)
