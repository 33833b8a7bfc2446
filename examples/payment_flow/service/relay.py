"""How do committed events leave the payments service? By relays that read its outbox: run as many as you like, and kill any."""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING

import httpx

from examples.payment_flow.service.consumers import CONSUMERS
from examples.payment_flow.service.payments import NAME, tables
from examples.payment_flow.service.web import wait_for_the_end
from finresilience.durable import FencedError, Relay
from finresilience.integrations.publish_http import http_publish_classifier, http_publisher

if TYPE_CHECKING:
    from collections.abc import Callable

    from examples.payment_flow.service.home import Home
    from finresilience.durable import OutboxRow

LEASE = 1.5  # seconds. In your service a minute: so soon after a relay's death does another take over what it had


def publisher(home: Home) -> Callable[[OutboxRow], None]:
    """Return what tells every consumer of an event; if one of them does not confirm, all are told again, and drop what they have."""
    client = httpx.Client(trust_env=False)

    def to(name: str) -> Callable[[OutboxRow], None]:
        return http_publisher(client, lambda _: f"{home.address(name)}/events", source="/payments", timeout=0.5)

    posts = [to(consumer.name) for consumer in CONSUMERS]

    def publish(row: OutboxRow) -> None:
        for post in posts:
            post(row)

    return publish


class Relaying:
    """A process that relays until it is told to stop."""

    def __init__(self, home: Home) -> None:
        self._store = tables.outbox.store(home.engine(NAME))
        self._publish = publisher(home)
        self._relay = self._new()
        self._over = False

    def _new(self) -> Relay:
        return Relay(
            self._store,
            self._publish,
            classify=http_publish_classifier(),
            lease=LEASE,
            batch=3,
            publish_timeout=LEASE / 3,
            poll=(0.02, 0.1),
            max_attempts=5_000,
            max_takeovers=20,  # they are killed by us, and not by what they carry
        )

    def serve(self) -> None:
        """Relay, anew whenever another relay was quicker, until standard input is closed."""
        thread = Thread(target=self._run, daemon=True)
        thread.start()
        wait_for_the_end()
        self._over = True
        self._relay.stop()
        thread.join(LEASE)  # it settles what was confirmed, and gives its partitions back

    def _run(self) -> None:
        while not self._over:
            try:
                self._relay.run_sync()
            except FencedError:
                self._relay = self._new()
