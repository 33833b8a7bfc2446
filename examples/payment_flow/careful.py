"""Contestant two: tenacity, pybreaker and an idempotency key, as a careful engineer writes it.

The breaker is as it comes: a decline counts as a failure. With `exclude=[is_decline]` its circuits stay shut and availability is
good (97 % with seed 3), but then more payments reach the provider, and more that were debited are reported as failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pybreaker
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from examples.payment_flow.contest import ATTEMPTS, BACKOFF, BACKOFF_CAP, OPEN_FOR, Circuits, Said, Told
from examples.payment_flow.script import PROVIDERS

if TYPE_CHECKING:
    from examples.payment_flow.contest import Wire
    from examples.payment_flow.script import Payment

FAIL_MAX = 5  # pybreaker's own default


def transient(error: BaseException) -> bool:
    """Say whether it is worth another try: the network, a server error, too many requests, the key still in use."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500 or error.response.status_code in {409, 429}
    return isinstance(error, httpx.TransportError)


def is_decline(error: BaseException) -> bool:
    """Say whether the provider was well and said no."""
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code == 402


class Watch(pybreaker.CircuitBreakerListener):
    """Counts openings; one is the declines' doing if most of the failures that tripped it were declines."""

    def __init__(self, circuits: Circuits) -> None:
        self._circuits = circuits
        self._failures: list[bool] = []

    def failure(self, cb: Any, exc: BaseException) -> None:  # noqa: ARG002 - pybreaker's signature
        """Remember what kind of failure it was."""
        self._failures = [*self._failures, is_decline(exc)][-FAIL_MAX:]

    def success(self, cb: Any) -> None:  # noqa: ARG002 - pybreaker's signature
        """A success starts the count again, as it does in the breaker."""
        self._failures.clear()

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:  # noqa: ARG002 - pybreaker's signature
        """Count an opening."""
        if new_state.name == pybreaker.STATE_OPEN:
            self._circuits.opened += 1
            self._circuits.by_declines += sum(self._failures) * 2 > len(self._failures)


class Careful:
    """A key per payment, retries with jitter for what is transient, a breaker for each provider."""

    name = "tenacity + pybreaker + key"

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.circuits = Circuits()
        self._breakers = {
            name: pybreaker.CircuitBreaker(fail_max=FAIL_MAX, reset_timeout=OPEN_FOR, listeners=[Watch(self.circuits)])
            for name in PROVIDERS
        }

    async def pay(self, payment: Payment) -> Told:
        """Pay with care."""
        retrying = AsyncRetrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=BACKOFF, max=BACKOFF_CAP),
            retry=retry_if_exception(transient),
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt, self._breakers[payment.provider].calling():
                    await self._wire.charge(payment, {"Idempotency-Key": payment.reference})
        except httpx.HTTPStatusError as error:
            return Told(Said.DECLINED if is_decline(error) else Said.FAILED)
        except (httpx.HTTPError, pybreaker.CircuitBreakerError):
            return Told(Said.FAILED)
        return Told(Said.PAID)
