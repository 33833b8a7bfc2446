"""What does a fake provider do with a request? A core: told the time, it answers with a reply, and keeps the true books."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, final

from finresilience._checks import positive_count
from finresilience.testing.errors import BoundReachedError
from finresilience.testing.faults import CALLS, LAGS, WEBHOOKS, Asked, FaultKind
from finresilience.testing.history import Booking
from finresilience.testing.provider_accounts import Account, Fact
from finresilience.testing.provider_words import DECLINED, INQUIRY, PENDING, SUCCEEDED, How, Order, Receipt, Reply
from finresilience.testing.webhooks import Event

if TYPE_CHECKING:
    from finresilience.testing.faults import Fault, FaultPlan
    from finresilience.testing.provider_keys import Kept, Keys
    from finresilience.testing.webhooks import Webhooks

_SILENT: Final = frozenset({FaultKind.TIMEOUT_AFTER, FaultKind.EFFECT_LATER, FaultKind.DECLINE_SILENT})
_EFFECTS: Final = frozenset({FaultKind.DECLINE, FaultKind.DECLINE_SILENT, FaultKind.CONTRADICT, FaultKind.EFFECT_LATER})
_NETWORK: Final = CALLS - _EFFECTS  # an inquiry moves nothing, so nothing of its effect can go wrong


@final
@dataclass(frozen=True, slots=True)
class Visit:
    """One line of the provider's journal: a request came, and this is how it ended for whoever sent it.

    Args:
        operation: what was asked; "inquiry" too.
        reference: of the payment.
        attempt: how often this had been asked of this payment by then, 1 for the first.
        at: when it came, in seconds of the provider's clock.
        fault: what struck it, or None.
        how: "answer", "page", "silence" or "reset".
        status: of an answer.
    """

    operation: str
    reference: str
    attempt: int
    at: float
    fault: FaultKind | None
    how: How
    status: int | None


@final
@dataclass(slots=True)
class _Later:
    """Something that will be carried out when nobody listens any more."""

    order: Order
    asked: Asked
    kept: Kept
    fact: Fact
    lag: float


@final
class ProviderCore:
    """Keep the books of one provider, and answer as the plan says. It is told the time; its user holds the lock.

    Args:
        name: of the provider.
        plan: which call meets which fault.
        keys: what is remembered of idempotency keys.
        webhooks: where events go.
        at_most: how many operations, bookings and inquiries it takes in all.
        shows_pending: whether inquiries see what is yet to be carried out; else they see nothing of it.
    """

    def __init__(self, name: str, plan: FaultPlan, *, keys: Keys, webhooks: Webhooks, at_most: int, shows_pending: bool) -> None:
        self.name: str = name
        self.plan: FaultPlan = plan
        self.keys: Keys = keys
        self.webhooks: Webhooks = webhooks
        self.bookings: list[Booking] = []
        self.visits: list[Visit] = []
        self._at_most = positive_count("at_most", at_most)
        self._shows_pending = shows_pending
        self._accounts: dict[str, Account] = {}
        self._attempts: dict[tuple[str, str], int] = {}
        self._later: list[tuple[float, int, _Later]] = []
        self._count = 0

    # ------------------------------------------------------------------ what callers ask

    def take(self, order: Order, now: float) -> Reply:
        """Take one request: what the plan says of it happens, to the money and to the answer."""
        self.settle(now)
        asked = self._asked(order.operation, order.reference, order.tag, now)
        fault = self.plan.meets(asked, CALLS)
        reply = _at_the_door(order.operation, order.reference, fault)
        if reply is None:
            reply = _sent_back(self._answered(order, asked, fault), fault)
        return self._noted(asked, fault, reply)

    def look(self, reference: str, operation: str, now: float, tag: str = "") -> Reply:
        """Answer an inquiry: what became of this operation on this payment, as far as the inquiry can see."""
        self.settle(now)
        asked = self._asked(INQUIRY, reference, tag, now)
        fault, lag = self.plan.meets(asked, _NETWORK), self.plan.meets(asked, LAGS)
        reply = _at_the_door(INQUIRY, reference, fault)
        if reply is None:
            account = self._accounts.get(reference)
            seen = account and account.seen(operation, now, lag=0.0 if lag is None else lag.seconds)
            reply = _sent_back(seen or Receipt(404, "not_found", INQUIRY, reference), fault)
        return self._noted(asked, fault, reply)

    def settle(self, now: float, *, everything: bool = False) -> int:
        """Carry out what was to be carried out by `now`, or everything at once, and return how much that was."""
        done = 0
        while self._later and (everything or self._later[0][0] <= now):
            due, _, later = heappop(self._later)
            receipt = self._carry_out(later.order, later.asked, min(due, now), fact=later.fact, lag=later.lag)
            later.kept.receipt = receipt
            done += 1
        return done

    @property
    def outstanding(self) -> int:
        """How much is yet to be carried out."""
        return len(self._later)

    # ------------------------------------------------------------------ what it does

    def _asked(self, operation: str, reference: str, tag: str, now: float) -> Asked:
        if len(self.visits) >= self._at_most:
            raise BoundReachedError(
                f"{self.name} has taken {self._at_most} requests, as many as it may; its books are true up to now.\n"
                "  Give FakeProvider(..., at_most=...) a higher bound, or each test a provider of its own."
            )
        number = self._attempts[operation, reference] = self._attempts.get((operation, reference), 0) + 1
        return Asked(operation, reference, number, now, tag, self.name)

    def _noted(self, asked: Asked, fault: Fault | None, reply: Reply) -> Reply:
        status = None if reply.receipt is None else reply.receipt.status
        kind = None if fault is None else fault.kind
        self.visits.append(Visit(asked.operation, asked.subject, asked.attempt, asked.now, kind, reply.how, status))
        return reply

    def _answered(self, order: Order, asked: Asked, fault: Fault | None) -> Receipt:
        now = asked.now
        known = self.keys.answer(order, now)
        if known is not None:
            return known
        kind = FaultKind.OK if fault is None else fault.kind
        if fault is not None and kind is FaultKind.EFFECT_LATER:
            return self._put_off(order, asked, now + fault.seconds)
        receipt = self._carry_out(order, asked, now, fault=fault)
        if receipt.status != 404:  # it may come to be, and the key must then work
            busy = now + fault.seconds if fault is not None and kind is FaultKind.SLOW else now
            self.keys.keep(order, receipt, now, busy_until=busy)
        return receipt

    def _put_off(self, order: Order, asked: Asked, due: float) -> Receipt:
        fact = self._account(order.reference).begin(order)
        lag = self._lag(asked)
        if self._shows_pending:
            fact.say(asked.now, Receipt(200, PENDING, order.operation, order.reference, amount=order.amount), lag=lag)
        self._count += 1
        heappush(self._later, (due, self._count, _Later(order, asked, self.keys.keep(order, None, asked.now), fact, lag)))
        return Receipt(202, PENDING, order.operation, order.reference)

    def _carry_out(
        self, order: Order, asked: Asked, at: float, *, fault: Fault | None = None, fact: Fact | None = None, lag: float | None = None
    ) -> Receipt:
        """Let it happen or not, write down which, tell it by webhook, and return what is said of it."""
        account = self._account(order.reference)
        no = account.objection(order)
        if no == "not_found" and fact is None:
            return Receipt(404, no, order.operation, order.reference)
        lies = fault is not None and fault.kind is FaultKind.CONTRADICT and no is None
        if fault is not None and no is None and _declines(fault):
            no = fault.code if fault.code != SUCCEEDED else "declined_in_truth"
        identity = self._identity(order, len(account.facts))
        if no is None:
            amount = account.apply(order)
            if amount is not None:
                self.bookings.append(Booking(self.name, order.reference, order.operation, amount, at, order.key))
            truth = Receipt(201, SUCCEEDED, order.operation, order.reference, identity, order.amount if amount is None else amount)
        else:
            truth = Receipt(402, DECLINED, order.operation, order.reference, identity, order.amount, no)
        fact = fact or account.begin(order)
        fact.say(at, replace(truth, status=200), lag=self._lag(asked) if lag is None else lag)
        self._tell(truth, asked, at)
        return _other(truth, fault) if lies and fault is not None else truth

    def _account(self, reference: str) -> Account:
        return self._accounts.setdefault(reference, Account())

    def _lag(self, asked: Asked) -> float:
        lag = self.plan.meets(asked, LAGS)
        return 0.0 if lag is None else lag.seconds

    def _identity(self, order: Order, number: int) -> str:
        """Return the provider's name of an operation: the same in every run, whatever happens to other payments."""
        digest = sha256(f"{self.name}|{self.plan.seed}|{order.operation}|{order.reference}|{number}".encode())
        return f"{order.operation[:3]}_{digest.hexdigest()[:20]}"

    def _tell(self, truth: Receipt, asked: Asked, at: float) -> None:
        amount = truth.amount
        money = {} if amount is None else {"amount": amount.minor_units, "currency": amount.currency}
        data = {"id": truth.id, "reference": truth.reference, "status": truth.result, "code": truth.code, **money}
        event = Event(f"evt_{truth.id}", truth.operation, truth.result, truth.reference, at, data)
        self.webhooks.post(event, self.plan.meets(asked, WEBHOOKS), at)


def _declines(fault: Fault) -> bool:
    contradicts_success = fault.kind is FaultKind.CONTRADICT and fault.code == SUCCEEDED
    return contradicts_success or fault.kind in {FaultKind.DECLINE, FaultKind.DECLINE_SILENT}


def _other(truth: Receipt, fault: Fault) -> Receipt:
    """Return the receipt that says the opposite of what is true."""
    if truth.result == SUCCEEDED:
        return replace(truth, status=402, result=DECLINED, code=fault.code)
    return replace(truth, status=201, result=SUCCEEDED, code="")


def _at_the_door(operation: str, reference: str, fault: Fault | None) -> Reply | None:
    """Return how a request ends that never reaches the books, or None."""
    match None if fault is None else fault.kind:
        case FaultKind.HANG:
            return Reply(how=How.SILENCE, endless=True)
        case FaultKind.TIMEOUT_BEFORE:
            return Reply(how=How.SILENCE)
        case FaultKind.RESET:
            return Reply(how=How.RESET)
        case FaultKind.HTML:
            return Reply(how=How.PAGE)
        case FaultKind.TOO_MANY | FaultKind.BUSY as kind if fault is not None:
            status, word = (429, "too_many_requests") if kind is FaultKind.TOO_MANY else (503, "unavailable")
            return Reply(how=How.ANSWER, receipt=Receipt(status, word, operation, reference, retry_after=fault.retry_after))
        case _:
            return None


def _sent_back(receipt: Receipt, fault: Fault | None) -> Reply:
    """Return how the answer of the books gets back to the caller, if it does."""
    if fault is None or receipt.status == 409:  # a key in use is told at once: it is what such a client needs to hear
        return Reply(how=How.ANSWER, receipt=receipt)
    if fault.kind in _SILENT:
        return Reply(how=How.SILENCE)
    if fault.kind is FaultKind.RESET_AFTER:
        return Reply(how=How.RESET)
    if fault.kind is FaultKind.HTML_AFTER:
        return Reply(how=How.PAGE)
    return Reply(how=How.ANSWER, receipt=receipt, wait=fault.seconds if fault.kind is FaultKind.SLOW else 0.0)
