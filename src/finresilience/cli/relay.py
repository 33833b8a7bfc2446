"""`finresilience relay`: run the relay of a service until it is told to stop, and let others see how it is."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from finresilience.cli.answers import Answer, note
from finresilience.cli.arguments import address, command, seconds
from finresilience.errors import FinresilienceError

if TYPE_CHECKING:
    from argparse import Namespace
    from asyncio import Future

    from finresilience.cli.app import App
    from finresilience.cli.health import Health
    from finresilience.durable.relay import Relay

_SIGNALS: Final = ("SIGTERM", "SIGINT")


def add(parsers: Any) -> None:
    """Say what the command takes."""
    about = "Run a Relay until SIGTERM or SIGINT; then finish what is in hand and give its partitions back."
    mine = command(parsers, "relay", run, about, needs="relay")
    mine.add_argument("--health", type=address, metavar="HOST:PORT", help="answer GET /healthz and GET /metrics there; port 0 takes any")
    mine.add_argument(
        "--stale", type=seconds, metavar="SECONDS", help="not healthy once its store was silent for longer; its lease by default"
    )
    mine.add_argument("--until-idle", action="store_true", help="end once nothing is due")


async def run(args: Namespace, app: App) -> Answer:
    """Run the relay, and answer with what it has done."""
    from finresilience.cli.health import Contact, Health, served
    from finresilience.clock import ruling_clock
    from finresilience.errors import ConfigurationError

    relay: Relay = app.part("relay")
    stale = relay.settings.lease if args.stale is None else args.stale
    if stale <= relay.settings.poll_most:
        idle = f"an idle relay asks its store every {relay.settings.poll_most:g} s only"
        raise ConfigurationError(f"--stale {stale:g} would call a relay sick that is well: {idle}. Give more")
    contact = Contact(relay._store, ruling_clock())  # noqa: SLF001 - what a relay does not tell: when its store last answered
    health = Health(relay, contact, stale=stale)
    _log()
    async with served(health, args.health) as where:
        note(f"relay {relay.name} runs" + (f"; {where}/healthz" if where else ""))
        relay._store = contact  # noqa: SLF001 - as said
        try:
            await _run(relay, health, contact, until_idle=args.until_idle)
        finally:
            relay._store = contact._store  # noqa: SLF001 - as said
            health.state = "ended"
    counts = relay.statistics()
    told = ", ".join(f"{name} {count}" for name, count in counts.items() if count and name != "held") or "nothing was due"
    return Answer({"command": args.command, "relay": relay.name, "statistics": counts}, f"relay {relay.name} has ended: {told}")


async def _run(relay: Relay, health: Health, contact: Any, *, until_idle: bool) -> None:
    """Run it until it ends. The first signal lets it tidy up; the second cuts that short."""
    import asyncio

    loop = asyncio.get_running_loop()
    health.state, twice = "running", False

    def on_signal() -> None:  # called by the loop, once we wait
        nonlocal twice
        twice = health.state == "draining"
        health.state = "draining"
        if twice:
            ends.cancel()
        else:
            relay.stop()

    heard = _listen(loop, on_signal)
    ends: Future[None] = (
        asyncio.ensure_future(relay.run(until_idle=until_idle)) if contact.is_async else _in_a_thread(relay, until_idle=until_idle)
    )
    try:
        await ends
    except asyncio.CancelledError:
        if twice:
            raise FinresilienceError(_CUT_SHORT) from None
        raise
    finally:
        for signal in heard:
            loop.remove_signal_handler(signal)


_CUT_SHORT: Final = "told twice to stop, so it did not finish: what was published and not settled comes again, from whoever runs next"


def _listen(loop: Any, on_signal: Any) -> list[Any]:
    """Return the signals that are heard from now on: none where there are no handlers, or in a thread, which is not ours to stop."""
    import signal

    heard: list[Any] = []
    for name in _SIGNALS:
        number = getattr(signal, name)
        try:
            loop.add_signal_handler(number, on_signal)
        except (NotImplementedError, RuntimeError, ValueError):
            return heard
        heard.append(number)
    return heard


def _in_a_thread(relay: Relay, *, until_idle: bool) -> Future[None]:
    """Run a sync relay beside the loop; in a daemon, which does not keep a process alive that is told twice to stop."""
    import asyncio
    from threading import Thread

    loop = asyncio.get_running_loop()
    ends: Future[None] = loop.create_future()

    def tell(error: BaseException | None) -> None:
        if not ends.done():
            ends.set_result(None) if error is None else ends.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            relay.run_sync(until_idle=until_idle)
        except BaseException as raised:  # told to whoever waits
            error = raised
        loop.call_soon_threadsafe(tell, error)

    Thread(target=run, name=f"relay {relay.name}", daemon=True).start()
    return ends


def _log() -> None:
    """Show on stderr what the relay warns of, where nobody has set up logging."""
    import logging

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
