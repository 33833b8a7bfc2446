"""Where do the services' processes come from? From one that has imported everything once and forks: a death costs no second of imports.

Internal to the stage. Each line on standard input names a service and its log; its process id is the answer. Nobody outlives the stage: the
children leave when their standard input, the life line, is closed, which it is too when whoever holds it dies.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from examples.payment_flow.service.home import Home

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from examples.payment_flow.service.__main__ import Service

GRACE = 2.0  # seconds to leave in


def main() -> None:
    """Fork until standard input is closed, then wait until all have left."""
    spec, life_line, folder, *db = sys.argv[1:]
    module, _, name = spec.partition(":")
    services: Mapping[str, Callable[[Home], Service]] = getattr(import_module(module), name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the stage's to handle
    home, children = Home(Path(folder), db[0] if db else None), dict[str, int]()
    print("ready", flush=True)
    for line in sys.stdin:
        service, log = line.split()
        if log in children:
            os.waitpid(children[log], 0)  # it was killed: not before it is gone does another take its place
        child = os.fork()
        if not child:
            _be(services[service], home, int(life_line), home.folder / log)
        children[log] = child
        print(child, flush=True)
    _bury(set(children.values()))


def _be(service: Callable[[Home], Service], home: Home, life_line: int, log: Path) -> NoReturn:
    end = 1
    try:
        words = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(life_line, 0)
        os.dup2(words, 1)
        os.dup2(words, 2)
        logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s")
        service(home).serve()
        end = 0
    except BaseException:
        logging.exception("the service ends")  # noqa: LOG015 - nobody else will say so
    finally:
        os._exit(end)  # of all that the nursery has set up for its own end, a child wants nothing


def _bury(children: set[int]) -> None:
    until = time.monotonic() + GRACE
    while children:
        late = time.monotonic() > until
        for child in tuple(children):
            if late:
                os.kill(child, signal.SIGKILL)
            if os.waitpid(child, 0 if late else os.WNOHANG)[0]:
                children.discard(child)
        time.sleep(0.01)


if __name__ == "__main__":
    main()
