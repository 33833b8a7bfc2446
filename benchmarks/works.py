"""What is guarded: a call that answers, and a call whose connection is reset. Both cost next to nothing."""

from __future__ import annotations

REQUEST = "pay_1"
RECEIPT = "settled"


def charge(_: str) -> str:
    """Answer."""
    return RECEIPT


async def acharge(_: str) -> str:
    """Answer."""
    return RECEIPT


def reset(_: str) -> str:
    """Fail as a provider fails: the outcome is not known, and it counts against them."""
    raise ConnectionResetError("connection reset by peer")


async def areset(_: str) -> str:
    """Fail as a provider fails: the outcome is not known, and it counts against them."""
    raise ConnectionResetError("connection reset by peer")
