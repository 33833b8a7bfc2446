"""How is acme asked for money, and how is it asked afterwards? A pipeline of its own; an unknown outcome is cleared up by an inquiry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from finresilience import Effect, Found, FullJitter, NotFound, Pipeline, Retry, StillUnknown, Timeout, current_key, remaining

if TYPE_CHECKING:
    from finresilience import Outcome

CURRENCY = "USD"
SUCCEEDED, DECLINED = "succeeded", "declined"
FINAL = frozenset({SUCCEEDED, DECLINED})


@dataclass(frozen=True, slots=True)
class Order:
    """What a customer asks for; the reference is their idempotency key."""

    reference: str
    customer: str
    minor: int


def reference_of(order: Order) -> str:
    """Return the customer's key, which is our name for the payment too."""
    return order.reference


class Acme:
    """A client of the provider.

    Args:
        url: where it is.
    """

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, trust_env=False, limits=httpx.Limits(max_connections=None))
        self._pipeline = Pipeline(
            "acme.charge",
            Retry(attempts=3, backoff=FullJitter(base=0.02, cap=0.1)),
            Timeout(0.25),
            effect=Effect.IDEMPOTENT,  # under the key that is in force, which @idempotent has set
            deadline=0.6,
            reference=reference_of,
            listeners=(),
        )
        self._pipeline.inquiry(schedule=(0.05, 0.1))(self.find)

    def charge(self, order: Order) -> Outcome[str]:
        """Take the money, and return how that ended."""
        return self._pipeline.outcome(self._charge, order)

    def _charge(self, order: Order) -> str:
        asked = {"reference": order.reference, "amount": order.minor, "currency": CURRENCY}
        headers = {"Idempotency-Key": current_key() or ""}
        self._client.post("/charge", json=asked, headers=headers, timeout=remaining()).raise_for_status()
        return SUCCEEDED

    def find(self, order: Order) -> Found[str] | NotFound | StillUnknown:
        """Ask what became of it, by our own reference."""
        answer = self._client.get(f"/payments/{order.reference}", timeout=0.25)
        if answer.status_code == 404:
            return NotFound()
        status = str(answer.raise_for_status().json()["status"])
        return Found(status) if status in FINAL else StillUnknown()
