"""Say how many mutants the tests killed; fail below the floor, or if one survived that the page of equivalent mutants does not explain."""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path("docs/explanation/mutants.md")
ROW = re.compile(r"^\| `(?P<where>[\w.]+)` \| `(?P<line>.+?)` \|", re.MULTILINE)
MUTMUT = Path(sys.executable).parent / "mutmut"


def said(*arguments: str) -> list[str]:
    return subprocess.run([MUTMUT, *arguments], capture_output=True, text=True, check=True).stdout.splitlines()


def survivors() -> list[str]:
    return [name for name, _, end in (line.strip().partition(": ") for line in said("results")) if end == "survived"]


def change(name: str) -> tuple[str, str]:
    """Return where the mutant lives, and the line that it says instead."""
    where = re.sub(r"__mutmut_\d+$", "", name).removeprefix("finresilience.cores.")
    where = re.sub(r"\bx(?:ǁ|_)", "", where).replace("ǁ", ".")
    added = [line[1:].strip() for line in said("show", name) if line.startswith("+") and not line.startswith("+++")]
    return where, " ".join(added)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at-least", type=float, required=True, metavar="PERCENT")
    floor: float = parser.parse_args().at_least

    counts: dict[str, int] = json.loads(Path("mutants/mutmut-cicd-stats.json").read_text(encoding="utf-8"))
    killed = counts["killed"] + counts["timeout"] + counts["segfault"]
    tried = counts["total"] - counts["skipped"]
    score = 100 * killed / tried if tried else 0.0

    explained = {(row["where"], row["line"].replace("\\|", "|")) for row in ROW.finditer(PAGE.read_text(encoding="utf-8"))}
    alive = {name: change(name) for name in survivors()}
    strangers = [name for name, what in alive.items() if what not in explained]
    for name in strangers:
        print(f"{name}: {alive[name][1]}")
    for where, line in sorted(explained - set(alive.values())):
        print(f"{PAGE} explains one that did not survive: {where}: {line}")
    known = len(alive) - len(strangers)
    print(f"mutation score of cores/: {score:.1f} % ({killed} of {tried} killed, {known} explained; floor {floor:g} %)")
    if strangers or score < floor:
        print(f"FAILED: see what a survivor changed with {MUTMUT} show NAME; then write a test, or its reason on {PAGE}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
