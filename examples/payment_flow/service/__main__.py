"""Run one service of the payment flow: `python -m examples.payment_flow.service ledger --folder run`."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from examples.payment_flow.service.consumers import Ledger, Notifications
from examples.payment_flow.service.home import Home
from examples.payment_flow.service.payments import Payments
from examples.payment_flow.service.relay import Relaying

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Service(Protocol):
    """A process of its own."""

    def serve(self) -> None:
        """Work until standard input is closed."""
        ...


SERVICES: Mapping[str, Callable[[Home], Service]] = {
    "payments": Payments,
    "ledger": Ledger,
    "notifications": Notifications,
    "relay": Relaying,
}


def main(services: Mapping[str, Callable[[Home], Service]] = SERVICES) -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m examples.payment_flow.service", description=__doc__)
    parser.add_argument("service", choices=[*services])
    parser.add_argument("--folder", type=Path, required=True, help="of this run: addresses, and the SQLite files")
    parser.add_argument("--db", help="postgresql://...: one schema a service, in place of the files")
    told = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s")
    services[told.service](Home(told.folder, told.db)).serve()


if __name__ == "__main__":
    main()
