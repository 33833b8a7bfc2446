"""Services that do nothing but say where they are, and one that cannot be left by asking."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from examples.payment_flow.service.web import wait_for_the_end

if TYPE_CHECKING:
    from collections.abc import Callable

    from examples.payment_flow.service.home import Home


class Sleeper:
    """Waits to be let go.

    Args:
        home: where it says that it is there.
        name: under which it does.
        deaf: whether it stays when it is asked to leave.
    """

    def __init__(self, home: Home, name: str, *, deaf: bool = False) -> None:
        home.announce(name, f"http://{name}:1")
        self._deaf = deaf

    def serve(self) -> None:
        wait_for_the_end()
        while self._deaf:
            time.sleep(1.0)


SERVICES: Final[dict[str, Callable[[Home], Sleeper]]] = {
    "payments": lambda home: Sleeper(home, "payments"),
    "ledger": lambda home: Sleeper(home, "ledger", deaf=True),
    "notifications": lambda home: Sleeper(home, "notifications"),
    "relay": lambda home: Sleeper(home, "relay"),
}
