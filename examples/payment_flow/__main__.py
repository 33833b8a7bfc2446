"""Send the same payments through three contestants and faulty providers, then read the providers' books."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from typing import TYPE_CHECKING

import httpx

from examples.payment_flow.careful import Careful
from examples.payment_flow.contest import AT_ONCE, TIMEOUT, Run, Wire, send_all
from examples.payment_flow.haste import SPEED, HastyClock, HastyLoop
from examples.payment_flow.launch import providers
from examples.payment_flow.naive import Naive
from examples.payment_flow.ours import Ours
from examples.payment_flow.script import PATIENCE, PROVIDERS, script, slow_stretch
from examples.payment_flow.show import Screen
from examples.payment_flow.story import tell
from examples.payment_flow.table import judge, rows, verdict
from examples.payment_flow.traffic import strip

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from examples.payment_flow.contest import Contestant
    from examples.payment_flow.script import Payment

CONTESTANTS: tuple[Callable[[Wire], Contestant], ...] = (Naive, Careful, lambda wire: Ours(wire, HastyClock()))
NAMES = (Naive.name, Careful.name, Ours.name)


async def compete(
    make: Callable[[Wire], Contestant], addresses: dict[str, str], payments: Sequence[Payment], tick: Callable[[], object]
) -> Run:
    """Let one contestant send everything, wait until the providers have finished, and fetch their books."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=AT_ONCE)
    async with httpx.AsyncClient(timeout=TIMEOUT, limits=limits, trust_env=False) as client:
        wire = Wire(client, addresses)
        contestant = make(wire)
        told = await send_all(contestant, payments, tick)
        await asyncio.sleep(PATIENCE)  # late bookings
        pages = {name: await wire.books(name) for name in addresses}
    return Run(contestant.name, told, contestant.circuits, pages)


def play(screen: Screen, seed: int, payments: Sequence[Payment]) -> list[Run]:
    """Let them play one after the other, each against fresh books."""
    runs: list[Run] = []
    for name, make in zip(NAMES, CONTESTANTS, strict=True):
        with (
            providers(seed, len(payments)) as addresses,
            screen.progress(name, len(payments)) as tick,
            asyncio.Runner(loop_factory=HastyLoop) as runner,
        ):
            runs.append(runner.run(compete(make, addresses, payments, tick)))
    return runs


def opening(count: int) -> str:
    """Say what will be seen."""
    ill = slow_stretch(count)
    return (
        f"{count} payments, three contestants, two providers with scripted faults: {PROVIDERS[0]} first, {PROVIDERS[1]} second.\n"
        f"From payment {ill.start} to {ill.stop} {PROVIDERS[0]} is ten times slower, and then well again. "
        f"One second here is {SPEED} of real life.\n"
    )


def report(screen: Screen, runs: Sequence[Run], payments: Sequence[Payment]) -> None:
    """Show the table, one story and the verdict."""
    results = [judge(run, payments) for run in runs]
    screen.say()
    screen.table("By the providers' own books", [run.name for run in runs], rows(results))
    screen.say(f"\nFirst sent to {PROVIDERS[0]}: # all, + most, - few, . none; slow between the bars", style="bold")
    for run in runs:
        screen.say(f"  {run.name:<28}{strip(run, payments)}")
    screen.say("\nOne unknown payment", style="bold")
    for number, line in enumerate(tell(runs, payments), start=1):
        screen.say(f"  {number}. {line}")
    screen.say(f"\n{verdict(results)}", style="bold")


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m examples.payment_flow", description=__doc__)
    parser.add_argument("--seed", type=int, default=3, help="the payments and their faults (default 3)")
    parser.add_argument("--payments", type=int, default=500, help="how many (default 500)")
    parser.add_argument("--quick", action="store_true", help="250 payments")
    told = parser.parse_args()
    count = 250 if told.quick else max(1, min(told.payments, 9999))
    logging.getLogger("finresilience").setLevel(logging.CRITICAL)  # the table tells it all
    screen, payments, began = Screen(), script(told.seed, count), time.monotonic()
    screen.say(opening(count))
    try:
        report(screen, play(screen, told.seed, payments), payments)
    except KeyboardInterrupt:
        screen.say("\nStopped; the providers have been shut down.")
        return 130
    screen.say(f"\nReplay: make demo ARGS='--seed {told.seed} --payments {count}'   ({time.monotonic() - began:.0f} s)   Next: make test")
    return 0


if __name__ == "__main__":
    sys.exit(main())
