"""Say how many mutants the tests killed, and name each survivor; fail below the floor."""

import argparse
import json
import subprocess
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at-least", type=float, required=True, metavar="PERCENT")
    floor: float = parser.parse_args().at_least

    counts: dict[str, int] = json.loads(Path("mutants/mutmut-cicd-stats.json").read_text(encoding="utf-8"))
    killed = counts["killed"] + counts["timeout"] + counts["segfault"]
    tried = counts["total"] - counts["skipped"]
    score = 100 * killed / tried if tried else 0.0

    mutmut = Path(sys.executable).parent / "mutmut"
    lines = subprocess.run([mutmut, "results"], capture_output=True, text=True, check=True).stdout.splitlines()
    for line in lines:
        print(line)
    print(f"mutation score of cores/: {score:.1f} % ({killed} of {tried} killed; floor {floor:g} %)")
    if score < floor:
        print(f"FAILED: see what a survivor changed with {mutmut} show NAME")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
