"""What every store must keep: laws as a class of tests that a stranger's store inherits.

    from finresilience.testing import contracts

    class TestMyStore(contracts.IdempotencyStoreContract):
        def make_store(self):
            return MyStore(clock=self.clock)

Plain pytest collects it. Nothing heavy is imported until a law runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finresilience.testing.contracts._base import Contract, laws, run
    from finresilience.testing.contracts._laws import BrokenLawError, ContractError
    from finresilience.testing.contracts.idempotency import IdempotencyStoreContract
    from finresilience.testing.contracts.inbox import InboxContract
    from finresilience.testing.contracts.outbox import OutboxStoreContract
    from finresilience.testing.contracts.relay import RelayContract

__all__ = [
    "BrokenLawError",
    "Contract",
    "ContractError",
    "IdempotencyStoreContract",
    "InboxContract",
    "OutboxStoreContract",
    "RelayContract",
    "laws",
    "run",
]

_HOMES = {
    "BrokenLawError": "_laws",
    "Contract": "_base",
    "ContractError": "_laws",
    "IdempotencyStoreContract": "idempotency",
    "InboxContract": "inbox",
    "OutboxStoreContract": "outbox",
    "RelayContract": "relay",
    "laws": "_base",
    "run": "_base",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
