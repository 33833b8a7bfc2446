"""How does a fake provider speak HTTP? Requests to orders, receipts to answers; pure, and the same over ASGI and over sockets.

POST /charge, /authorize, /capture, /void, /refund    {"reference": "pay_1", "amount": 1250, "currency": "EUR", "tag": ""}
                                                      with `Idempotency-Key`; the amount in minor units
GET  /payments/{reference}?operation=charge&tag=      what became of it: an inquiry
GET  /ledger                                          what really happened: for the test, not for its client
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import parse_qs, unquote

from finresilience._currencies import ISO
from finresilience.errors import ConfigurationError, FinresilienceError
from finresilience.money import Money
from finresilience.testing.provider_words import CHARGE, OPERATIONS, How, Order, Receipt, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from finresilience.testing.history import Booking
    from finresilience.testing.provider import FakeProvider

MAX_BODY: Final = 65_536
_PAGE: Final = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
_JSON: Final = "application/json"


@final
@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, read."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes


@final
@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP answer, to be written after `wait` seconds."""

    status: int
    headers: dict[str, str]
    body: bytes
    wait: float = 0.0


def served(provider: FakeProvider, request: Request) -> Response | How:
    """Return the answer to a request, or `How.SILENCE` or `How.RESET`."""
    parts = request.path.strip("/").split("/")
    if request.method == "GET" and parts == ["ledger"]:
        return _json(200, {"provider": provider.name, "bookings": [_booked(booking) for booking in provider.ledger]})
    if request.method == "GET" and len(parts) == 2 and parts[0] == "payments":
        return _inquired(provider, unquote(parts[1]), parse_qs(request.query))
    if len(parts) != 1 or parts[0] not in OPERATIONS:
        return _problem(404, "no_such_path", f"POST /{', /'.join(sorted(OPERATIONS))}, or GET /payments/(reference)")
    if request.method != "POST":
        return _problem(405, "method_not_allowed", f"POST /{parts[0]}")
    try:
        order = _order(parts[0], request)
    except (FinresilienceError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        return _problem(400, "bad_request", f"{type(error).__name__}: {error}")
    return _rendered(provider, provider.take(order))


def _inquired(provider: FakeProvider, reference: str, query: Mapping[str, list[str]]) -> Response | How:
    try:
        reply = provider.look(reference, query.get("operation", [CHARGE])[0], tag=query.get("tag", [""])[0])
    except ConfigurationError as error:
        return _problem(400, "bad_request", str(error))
    return _rendered(provider, reply)


def _order(operation: str, request: Request) -> Order:
    told: Any = json.loads(request.body)
    amount = None if told.get("amount") is None else Money.minor(told["amount"], told["currency"], exponent=told.get("exponent"))
    return Order(operation, told["reference"], amount, request.headers.get("idempotency-key"), str(told.get("tag", "")))


def _rendered(provider: FakeProvider, reply: Reply) -> Response | How:
    if reply.how is How.PAGE:
        return Response(502, {"Content-Type": "text/html"}, _PAGE, provider.latency)
    if reply.receipt is None:
        return reply.how
    return _receipt(reply.receipt, reply.wait + provider.latency)


def _receipt(receipt: Receipt, wait: float) -> Response:
    told: dict[str, Any] = {"status": receipt.result, "operation": receipt.operation, "reference": receipt.reference}
    if receipt.id:
        told["id"] = receipt.id
    if receipt.code:
        told["code"] = receipt.code
    if receipt.amount is not None:
        told |= _money(receipt.amount)
    headers: dict[str, str] = {}
    if receipt.replayed:
        headers["Idempotent-Replayed"] = "true"
    if receipt.retry_after is not None:
        headers["Retry-After"] = f"{receipt.retry_after:g}"
    return _json(receipt.status, told, headers, wait)


def _booked(booking: Booking) -> dict[str, Any]:
    return {
        "reference": booking.reference,
        "operation": booking.operation,
        "at": booking.at,
        "key": booking.key,
        **_money(booking.amount),
    }


def _money(amount: Money) -> dict[str, Any]:
    told = {"amount": amount.minor_units, "currency": amount.currency}
    return told if amount.currency in ISO else {**told, "exponent": amount.exponent}


def _problem(status: int, title: str, detail: str) -> Response:
    return _json(status, {"status": title, "detail": detail})


def _json(status: int, told: object, headers: Mapping[str, str] | None = None, wait: float = 0.0) -> Response:
    return Response(status, {"Content-Type": _JSON, **(headers or {})}, json.dumps(told, sort_keys=True).encode(), wait)
