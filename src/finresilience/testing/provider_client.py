"""How does a caller in the same process hear from a fake provider? As from a real client: a receipt, or an error that knows its phase."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from finresilience.context import mark_sent, remaining
from finresilience.outcome import Found, NotFound, StillUnknown
from finresilience.testing.provider_words import (
    AUTHORIZE,
    CAPTURE,
    CHARGE,
    INQUIRY,
    PENDING,
    REFUND,
    VOID,
    How,
    Order,
    ProviderTimeoutError,
    Receipt,
    Reply,
    raised,
)
from finresilience.testing.stories import turn

if TYPE_CHECKING:
    from finresilience.clock import Clock
    from finresilience.money import Money

A_DAY: Final = 86_400.0  # how long a HANG lasts for a caller whom nobody stops
_AFTER: Final = 0.001  # a deadline of the call around us fires first: its own error tells more than ours


class Client:
    """The operations of a provider, sync and async: the two differ by how they wait. Internal: `FakeProvider` is one.

    Args:
        name: of the provider.
        latency: seconds that a request travels, and an answer back.
        patience: seconds after which it gives up.
    """

    def __init__(self, name: str, *, latency: float, patience: float) -> None:
        self.name: str = name
        self.latency: float = latency
        self._patience = patience

    @property
    def clock(self) -> Clock:
        """The clock that tells it the time now."""
        raise NotImplementedError

    def take(self, order: Order) -> Reply:
        """Take one request now, and return what its sender is to see."""
        raise NotImplementedError

    def look(self, reference: str, operation: str = CHARGE, *, tag: str = "") -> Reply:
        """Take one inquiry now, and return what its sender is to see."""
        raise NotImplementedError

    def charge(self, reference: str, amount: Money, *, key: str | None = None, tag: str = "") -> Receipt:
        """Take money.

        Raises:
            ProviderError: one of its kinds, for every end that is no success.
        """
        return self._send(Order(CHARGE, reference, amount, key, tag))

    async def acharge(self, reference: str, amount: Money, *, key: str | None = None, tag: str = "") -> Receipt:
        """Take money."""
        return await self._asend(Order(CHARGE, reference, amount, key, tag))

    def authorize(self, reference: str, amount: Money, *, key: str | None = None, tag: str = "") -> Receipt:
        """Hold money, to be captured or let go: nothing moves yet."""
        return self._send(Order(AUTHORIZE, reference, amount, key, tag))

    async def aauthorize(self, reference: str, amount: Money, *, key: str | None = None, tag: str = "") -> Receipt:
        """Hold money, to be captured or let go: nothing moves yet."""
        return await self._asend(Order(AUTHORIZE, reference, amount, key, tag))

    def capture(self, reference: str, amount: Money | None = None, *, key: str | None = None, tag: str = "") -> Receipt:
        """Take what is held, or a part of it; the rest is let go."""
        return self._send(Order(CAPTURE, reference, amount, key, tag))

    async def acapture(self, reference: str, amount: Money | None = None, *, key: str | None = None, tag: str = "") -> Receipt:
        """Take what is held, or a part of it; the rest is let go."""
        return await self._asend(Order(CAPTURE, reference, amount, key, tag))

    def void(self, reference: str, *, key: str | None = None, tag: str = "") -> Receipt:
        """Let go of what is held."""
        return self._send(Order(VOID, reference, None, key, tag))

    async def avoid(self, reference: str, *, key: str | None = None, tag: str = "") -> Receipt:
        """Let go of what is held."""
        return await self._asend(Order(VOID, reference, None, key, tag))

    def refund(self, reference: str, amount: Money | None = None, *, key: str | None = None, tag: str = "") -> Receipt:
        """Give money back: never more than was taken."""
        return self._send(Order(REFUND, reference, amount, key, tag))

    async def arefund(self, reference: str, amount: Money | None = None, *, key: str | None = None, tag: str = "") -> Receipt:
        """Give money back: never more than was taken."""
        return await self._asend(Order(REFUND, reference, amount, key, tag))

    def inquiry(self, reference: str, operation: str = CHARGE, *, tag: str = "") -> Found[Receipt] | NotFound | StillUnknown:
        """Ask what became of an operation, by your own reference: what `Pipeline.inquiry` wants to hear.

        A decline is a `Found` whose receipt says so; what is yet to be carried out is `StillUnknown`.

        Raises:
            ProviderError: if the inquiry itself fails.
        """
        self._time_left()
        if self.latency:
            self.clock.sleep_sync(self.latency)
        reply = self.look(reference, operation, tag=tag)
        wait, heard = self._wait(reply, grace=0.0)
        if wait:
            self.clock.sleep_sync(wait)
        return _known(self._heard(reply, INQUIRY, heard=heard), self.name)

    async def ainquiry(self, reference: str, operation: str = CHARGE, *, tag: str = "") -> Found[Receipt] | NotFound | StillUnknown:
        """Ask what became of an operation, by your own reference: what `Pipeline.inquiry` wants to hear."""
        self._time_left()
        await self._pass(self.latency)
        reply = self.look(reference, operation, tag=tag)
        wait, heard = self._wait(reply, grace=_AFTER)
        await self._pass(wait)
        return _known(self._heard(reply, INQUIRY, heard=heard), self.name)

    # ------------------------------------------------------------------ how it waits

    def _send(self, order: Order) -> Receipt:
        self._time_left()
        mark_sent()  # from here on the provider may have seen it
        if self.latency:
            self.clock.sleep_sync(self.latency)
        reply = self.take(order)
        wait, heard = self._wait(reply, grace=0.0)
        if wait:
            self.clock.sleep_sync(wait)
        return _succeeded(self._heard(reply, order.operation, heard=heard), self.name, order.operation)

    async def _asend(self, order: Order) -> Receipt:
        self._time_left()
        mark_sent()
        await self._pass(self.latency)
        reply = self.take(order)
        wait, heard = self._wait(reply, grace=_AFTER)
        await self._pass(wait)
        return _succeeded(self._heard(reply, order.operation, heard=heard), self.name, order.operation)

    async def _pass(self, seconds: float) -> None:
        """Let so much time pass; none of it still lets others run, as every real call does."""
        if seconds:
            await self.clock.sleep(seconds)
        else:
            await turn()

    def _time_left(self) -> None:
        left = remaining()
        if left is not None and left <= 0.0:
            raise ProviderTimeoutError(f"{self.name}: there was no time left to send it; nothing was sent", sent=False)

    def _wait(self, reply: Reply, *, grace: float) -> tuple[float, bool]:
        """Return how long its sender still waits, and whether the reply comes in that time."""
        left, deadline = A_DAY if reply.endless else max(0.0, self._patience - self.latency), remaining()
        if deadline is not None:
            left = min(left, deadline + grace)
        comes = inf if reply.how is How.SILENCE else reply.wait + self.latency
        return min(comes, left), comes <= left

    def _heard(self, reply: Reply, operation: str, *, heard: bool) -> Receipt:
        if not heard:
            raised(Reply(how=How.SILENCE), self.name, operation)
        if reply.receipt is None:
            raised(reply, self.name, operation)
        return reply.receipt


def _succeeded(receipt: Receipt, name: str, operation: str) -> Receipt:
    if receipt.status != 201:
        raised(Reply(how=How.ANSWER, receipt=receipt), name, operation)
    return receipt


def _known(receipt: Receipt, name: str) -> Found[Receipt] | NotFound | StillUnknown:
    if receipt.status == 404:
        return NotFound()
    if receipt.result == PENDING:
        return StillUnknown()
    if receipt.status != 200:
        raised(Reply(how=How.ANSWER, receipt=receipt), name, INQUIRY)
    return Found(receipt)
