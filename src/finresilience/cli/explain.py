"""`finresilience explain`: what can a pipeline do at worst? Told before the first call, and to CI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finresilience.cli.answers import OK, WAITING, Answer
from finresilience.cli.arguments import command, count

if TYPE_CHECKING:
    from argparse import Namespace

    from finresilience.cli.app import App


def add(parsers: Any) -> None:
    """Say what the command takes."""
    mine = command(parsers, "explain", explain, "What the pipelines of a service can do at worst: attempts, latency.", needs="pipelines")
    mine.add_argument("--workers", type=count, default=1, metavar="N", help="how many processes run them")
    mine.add_argument("--strict", action="store_true", help="exit code 1 if there is a warning")


async def explain(args: Namespace, app: App) -> Answer:
    """Answer with the worst case of each pipeline."""
    from math import isfinite

    explained = [one.explain(workers=args.workers) for one in app.part("pipelines")]
    told = [{**one.as_dict(), "seconds": one.seconds if isfinite(one.seconds) else None} for one in explained]
    warned = any(one.warnings for one in explained)
    return Answer({"command": args.command, "pipelines": told}, "\n\n".join(map(str, explained)), WAITING if args.strict and warned else OK)
