"""What does a forked child see of a store, when another thread held its lock at the fork?"""

from __future__ import annotations

import subprocess
import sys


def a_forked_child_may(use: str, store: str) -> None:
    """Fork while the lock of a new store is held; the child's `use` of it must be true, and must come to an end."""
    script = (
        f"import os; from finresilience.durable import {store} as Store; store = Store();"
        "store._lock.__enter__(); child = os.fork();"  # as if another thread were in the middle of something
        f"child or os._exit(0 if {use} else 1);"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
