"""Contestant two: tenacity, pybreaker and an idempotency key, as a careful engineer writes it.

The failover is what people write: if the circuit is open, or the last try failed, the same payment under the same key goes to the other
provider. That is right whenever the first provider surely did nothing. But after a timeout nobody knows, and the other provider has
never seen the key: if the first one did book it, the customer pays twice. Neither library knows the difference.

Declines are kept from the breaker by `exclude`. As it comes, it counts them: with seed 3 both circuits are then open for so long that
a third of the customers and more are told that it failed; and since less is sent, less is charged twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pybreaker
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from examples.payment_flow.contest import ATTEMPTS, BACKOFF, BACKOFF_CAP, OPEN_FOR, Circuits, Said, Told
from examples.payment_flow.haste import SPEED
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
    """Counts openings."""

    def __init__(self, circuits: Circuits) -> None:
        self._circuits = circuits

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:  # noqa: ARG002 - pybreaker's signature
        """Count one."""
        self._circuits.opened += new_state.name == pybreaker.STATE_OPEN


class Careful:
    """A key per payment, retries with jitter for what is transient, a breaker for each provider, then the other provider."""

    name = "tenacity + pybreaker + key"

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.circuits = Circuits()
        # pybreaker looks at the machine's clock, which nobody can hurry
        self._breakers = {name: self._breaker(OPEN_FOR / SPEED) for name in PROVIDERS}

    def _breaker(self, open_for: float) -> pybreaker.CircuitBreaker:
        return pybreaker.CircuitBreaker(fail_max=FAIL_MAX, reset_timeout=open_for, exclude=[is_decline], listeners=[Watch(self.circuits)])

    async def pay(self, payment: Payment) -> Told:
        """Pay with care."""
        for provider in PROVIDERS:
            try:
                await self._charge(provider, payment)
                return Told(Said.PAID)
            except (httpx.HTTPError, pybreaker.CircuitBreakerError) as error:
                if is_decline(error):
                    return Told(Said.DECLINED)
        return Told(Said.FAILED)

    async def _charge(self, provider: str, payment: Payment) -> None:
        retrying = AsyncRetrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=BACKOFF, max=BACKOFF_CAP),
            retry=retry_if_exception(transient),
            reraise=True,
        )
        async for attempt in retrying:
            with attempt, self._breakers[provider].calling():
                await self._wire.charge(provider, payment, {"Idempotency-Key": payment.reference})
