"""Two acts: the same payments through three contestants and faulty providers; then services that are killed while they take payments."""

from __future__ import annotations

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from examples.payment_flow.careful import Careful
from examples.payment_flow.contest import AT_ONCE, TIMEOUT, Run, Wire, send_all
from examples.payment_flow.crash import report as told_by
from examples.payment_flow.crash.act import crash_run
from examples.payment_flow.haste import SPEED, HastyClock, HastyLoop
from examples.payment_flow.launch import providers
from examples.payment_flow.naive import Naive
from examples.payment_flow.ours import Ours
from examples.payment_flow.script import PATIENCE, PROVIDERS, script, slow_stretch
from examples.payment_flow.service.home import Home
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


def report(screen: Screen, runs: Sequence[Run], payments: Sequence[Payment]) -> bool:
    """Show the table, one story and the verdict, and return whether ours has done nothing wrong."""
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
    return results[-1].wrong.is_zero and not results[-1].strayed.references


def contest(screen: Screen, seed: int, count: int) -> bool:
    """Play the first act, and return whether ours has done nothing wrong."""
    payments = script(seed, count)
    screen.say(opening(count))
    return report(screen, play(screen, seed, payments), payments)


def crash(screen: Screen, seed: int, count: int, db: str | None) -> bool:
    """Play the second act, and return whether the books balance. If they do not, the databases stay."""
    where = "a schema each" if db else "an SQLite file each"
    screen.say(
        f"{count} customers pay. Payments, ledger and notifications are processes with {where}; two relays carry the events.\n"
        "Processes are killed in the middle of their work. Who gets no answer asks again, under the same key, or walks away.\n"
    )
    folder = Path(tempfile.mkdtemp(prefix="payment_flow_"))
    balanced = False
    try:
        with screen.progress("customers", count) as tick:
            ended = crash_run(Home(folder, db), seed=seed, count=count, tick=tick)
        screen.say()
        screen.table("By the databases of each, and acme's own ledger", told_by.COLUMNS, told_by.rows(ended.books))
        screen.say()
        for what, said in told_by.meanwhile(ended):
            screen.say(f"  {what:<18}{said}")
        sentence, *more = told_by.verdict(ended)
        screen.say(f"\n{sentence}", style="bold")
        for line in more:
            screen.say(f"  {line}")
        balanced = not more
    finally:
        if balanced:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            screen.say(f"\nWhat the services wrote is in {folder}")
    return balanced


def main() -> int:
    """Run it; 0 if all is well."""
    parser = argparse.ArgumentParser(prog="python -m examples.payment_flow", description=__doc__)
    parser.add_argument("--act", choices=("1", "2"), help="one of the two only")
    parser.add_argument("--seed", type=int, default=3, help="the payments, their faults and the kills (default 3)")
    parser.add_argument("--payments", type=int, default=500, help="how many in the first act (default 500)")
    parser.add_argument("--orders", type=int, default=100, help="how many in the second (default 100)")
    parser.add_argument("--quick", action="store_true", help="250 payments, 60 orders")
    parser.add_argument("--db", help="postgresql://...: schemas payment_flow_* there, made anew, in place of SQLite files (needs psycopg)")
    told = parser.parse_args()
    count = 250 if told.quick else max(1, min(told.payments, 9999))
    orders = 60 if told.quick else max(1, min(told.orders, 9999))
    logging.getLogger("finresilience").setLevel(logging.CRITICAL)  # the tables tell it all
    screen, began, well = Screen(), time.monotonic(), True
    try:
        if told.act != "2":
            screen.say("Act one: providers fail\n", style="bold")
            well &= contest(screen, told.seed, count)
        if told.act != "1":
            screen.say(f"{'' if told.act else chr(10)}Act two: our own processes die\n", style="bold")
            well &= crash(screen, told.seed, orders, told.db)
    except KeyboardInterrupt:
        screen.say("\nStopped; all processes have been shut down.")
        return 130
    again = f"--seed {told.seed} --payments {count} --orders {orders}"
    screen.say(f"\nReplay: make demo ARGS='{again}'   ({time.monotonic() - began:.0f} s)   Next: make test")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
