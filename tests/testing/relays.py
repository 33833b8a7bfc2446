"""What the tests of crash points share: a small relay that passes points, and one that settles too soon."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from finresilience.crash_points import crash_point, declare
from finresilience.testing.crash import Crashed

if TYPE_CHECKING:
    from collections.abc import Callable

CLAIMED = declare("toy_relay.claimed", "the message is ours, and nobody was told")
PUBLISHED = declare("toy_relay.published", "the broker has the message, and the store does not know")
SETTLED = declare("toy_relay.settled", "the store knows that the broker has the message")
ELSEWHERE = declare("toy_relay.elsewhere", "nobody ever comes here")


class Relay:
    """Takes messages from a store to a broker, at least once. What outlives it is in `store` and `broker`."""

    def __init__(self, store: dict[str, str], broker: list[str]) -> None:
        self.store, self.broker = store, broker

    def run(self) -> None:
        for message in [message for message, state in self.store.items() if state != "settled"]:
            self.store[message] = "claimed"
            crash_point(CLAIMED)
            self.publish(message)
            crash_point(SETTLED)

    def publish(self, message: str) -> None:
        self.broker.append(message)
        crash_point(PUBLISHED)
        self.store[message] = "settled"


class Hasty(Relay):
    """Settles before it publishes: the saboteur."""

    def publish(self, message: str) -> None:
        self.store[message] = "settled"
        crash_point(PUBLISHED)
        self.broker.append(message)


def world(*messages: str, relay: type[Relay] = Relay) -> tuple[Relay, Callable[[], None]]:
    store, broker = dict.fromkeys(messages, "new"), list[str]()

    def recover() -> None:
        relay(store, broker).run()
        assert set(broker) == set(messages)

    return relay(store, broker), recover


def one_message() -> tuple[Callable[[], None], Callable[[], None]]:
    relay, recover = world("a")
    return relay.run, recover


def two_messages() -> tuple[Callable[[], None], Callable[[], None]]:
    relay, recover = world("a", "b")
    return relay.run, recover


def hasty() -> tuple[Callable[[], None], Callable[[], None]]:
    relay, recover = world("a", relay=Hasty)
    return relay.run, recover


def suppressed(function: Callable[[], None]) -> Callable[[], None]:
    def quiet() -> None:
        with suppress(Crashed):
            function()

    return quiet
