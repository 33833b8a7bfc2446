"""Measure, print the tables, write `build/bench.json`. It reports; it never fails a build, for time is no test.

- `python -m benchmarks`: everything, in about half a minute;
- `python -m benchmarks --only breaker`: what has this in its name; also `memory` and `import`;
- `python -m benchmarks --quick`: a glance, from few and short samples;
- `python -m benchmarks --seconds 40`: steadier, up to 15 rounds;
- `python -m benchmarks durable`: the rooms that need a database, in some minutes; see there.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
import time
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path

from benchmarks import imports, memory, peers
from benchmarks.harness import FLOOR, OURS, Pace, Race, Scenario, race
from benchmarks.loops import CLOCK
from benchmarks.scenarios import scenarios

RESULTS = Path(__file__).resolve().parent.parent / "build" / "bench.json"


@dataclass(slots=True)
class Row:
    """One promise, or one fact: a line of a table and an entry of the file."""

    name: str
    ratio: float | None
    goal: float | None
    holds: bool | None = field(init=False)
    floor: float | None = None  # nanoseconds; bytes for memory
    peers: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.holds = None if self.ratio is None or self.goal is None else self.ratio <= self.goal


# ---------------------------------------------------------------- text


class Table:
    """A title, a head, and rows that are printed as they come."""

    def __init__(self, title: str, columns: list[str], names: list[str]) -> None:
        self._first = max(map(len, [title, *names])) + 1
        heads = [column.replace("+", "\n+").split("\n") for column in columns]  # "tenacity+pybreaker" takes two lines
        self._widths = [max(8, *map(len, head)) + 2 for head in heads]
        rule = "-" * (self._first + sum(self._widths))
        print()
        for line in reversed(range(max(map(len, heads)))):
            cells = [head[-1 - line] if len(head) > line else "" for head in heads]
            self.row(title.upper() if line == 0 else "", cells)
        print(rule)

    def row(self, name: str, cells: list[str]) -> None:
        print((name.ljust(self._first) + "".join(c.rjust(w) for c, w in zip(cells, self._widths, strict=True))).rstrip(), flush=True)


def figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def promise(row: Row) -> str:
    if row.goal is None:
        return ""
    return f"<= {row.goal:.2f} {'-' if row.holds is None else 'yes' if row.holds else 'NO':>3}"


def notes(lines: list[str]) -> None:
    for line in dict.fromkeys(lines):
        print(f"  {line}", flush=True)


def absences(absent: dict[str, str]) -> list[str]:
    return [f"{name}: {reason}" for name, reason in absent.items()]


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


# ---------------------------------------------------------------- the kinds of table


def races(chosen: list[Scenario], pace: Pace) -> list[Row]:
    rows: list[Row] = []
    for group, members in groupby(chosen, key=lambda scenario: scenario.group):
        competing = list(members)
        names = list(dict.fromkeys(name for scenario in competing for name in scenario.peers))
        table = Table(group, ["floor ns", OURS, "goal      ", *names], [scenario.name for scenario in competing])
        absent: list[str] = []
        for scenario in competing:
            progress(f"{group}: {scenario.name} ...")
            result = race(scenario, pace)
            progress("")
            absent += absences(result.absent)
            for row in judged(scenario, result):
                seen = [figure(row.peers.get(name)) if name in scenario.peers else "" for name in names]
                floor = "-" if row.floor is None else f"{row.floor:.0f}"
                table.row(row.name.removeprefix(f"{group}: "), [floor, figure(row.ratio), promise(row), *seen])
                rows.append(row)
        notes(absent)
    return rows


def judged(scenario: Scenario, result: Race) -> list[Row]:
    """Return what a race says about its promise; a second row where the fastest peer is a floor too."""
    name = f"{scenario.group}: {scenario.name}"
    if FLOOR not in result.samples:
        return [Row(name, None, scenario.goal)]
    here = OURS in result.samples
    ratios = result.peers()
    rows = [Row(name, result.ratio(OURS) if here else None, scenario.goal, result.ns(FLOOR), ratios)]
    if scenario.goal_to_fastest_peer is not None and ratios:
        fastest = next(iter(ratios))
        again = name.rpartition(", ")[0] + ", to the fastest peer"
        ratio = result.ratio(OURS, fastest) if here else None
        rows.append(Row(again, ratio, scenario.goal_to_fastest_peer, result.ns(fastest), result.peers(fastest)))
    return rows


def memories() -> list[Row]:
    progress("memory ...")
    weighed, absent = memory.weigh()
    progress("")
    table = Table("memory of a breaker", ["B new", "B warm", "B hot", "hot/warm"], list(weighed))
    for name, kept in weighed.items():
        table.row(name, [f"{kept.new:.0f}", f"{kept.warm:.0f}", f"{kept.hot:.0f}", figure(kept.hot / kept.warm)])
    notes([f"default configuration; warm: after {memory.WARM} calls over {memory.WARM * memory.STEP:.0f} s; hot: after {memory.HOT}"])
    notes([f"goals: hot <= {memory.LIMIT} B; hot/warm <= 1", *absences(absent)])
    own = weighed.pop(OURS, None)
    limits = {name: kept.hot / memory.LIMIT for name, kept in weighed.items()}
    growth = {name: kept.hot / kept.warm for name, kept in weighed.items()}
    return [
        Row("memory: default breaker, to 1024 bytes", own.hot / memory.LIMIT if own else None, 1.0, memory.LIMIT, limits),
        Row("memory: growth under traffic, hot to warm", own.hot / own.warm if own else None, 1.0, own.warm if own else None, growth),
    ]


def import_costs(rounds: int) -> list[Row]:
    progress("imports ...")
    runs, absent = imports.race(rounds)
    progress("")
    base = runs.get(imports.BASE)
    table = Table("import, after site", ["ms", "modules", f"x {imports.BASE}"], list(runs))
    for name in sorted(runs, key=lambda name: (name != OURS, imports.ms(runs[name]))):
        ratio = imports.ratio(runs[name], base) if base else None
        table.row(name, [f"{imports.ms(runs[name]):.1f}", str(runs[name][-1].modules), figure(ratio)])
    notes([f"ours: {imports.STATEMENTS[OURS]}", f"goals: <= {imports.LIMIT:.0f} ms; <= {imports.BASE}'s", *absences(absent)])
    own = runs.pop(OURS, None)
    to_limit = {name: imports.ms(seen) / imports.LIMIT for name, seen in runs.items()}
    rows = [Row("import: to 20 ms", imports.ms(own) / imports.LIMIT if own else None, 1.0, imports.LIMIT * 1e6, to_limit)]
    if base:
        to_base = {name: imports.ratio(seen, base) for name, seen in runs.items() if name != imports.BASE}
        rows.append(Row("import: to tenacity's", imports.ratio(own, base) if own else None, 1.0, imports.ms(base) * 1e6, to_base))
    return rows


# ---------------------------------------------------------------- the whole


def main() -> None:
    if sys.argv[1:2] == ["durable"]:
        from benchmarks.durable.__main__ import main as durable

        durable(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ratios to handwritten floors, beside the peers'.")
    parser.add_argument("--only", default="", metavar="TEXT", help="only what has TEXT in its name")
    parser.add_argument("--quick", action="store_true", help="a glance: few and short samples")
    parser.add_argument("--seconds", type=float, default=20.0, help="about how long to race (default %(default)s)")
    asked = parser.parse_args()
    wanted = asked.only.lower()
    logging.getLogger("finresilience").setLevel(logging.CRITICAL)  # a circuit that opens would break into the table

    started = time.perf_counter()
    chosen = [scenario for scenario in scenarios() if wanted in f"{scenario.group}: {scenario.name}".lower()]
    pace = Pace(sample=0.003, rounds=3) if asked.quick else Pace.within(asked.seconds, chosen)
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.system()}. Peers: ", end="")
    print(", ".join(f"{name} {found}" for name, found in peers.versions().items()))
    print(f"{pace.rounds} interleaved rounds of {pace.sample * 1000:.1f} ms by {CLOCK}; a figure is a ratio to the floor: less is better.")

    rows = races(chosen, pace)
    if wanted in "memory of a breaker":
        rows += memories()
    if wanted in "import, after site":
        rows += import_costs(3 if asked.quick else 7)

    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    promised = [row for row in rows if row.goal is not None]
    print(f"\n{sum(bool(row.holds) for row in promised)} of {len(promised)} goals hold.", end=" ")
    print(f"{time.perf_counter() - started:.0f} s; written to build/{RESULTS.name}")
    notes([f"missed: {row.name}: {figure(row.ratio)}, goal {figure(row.goal)}" for row in promised if row.holds is False])


if __name__ == "__main__":
    main()
